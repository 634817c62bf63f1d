//! The machine on which events happen: its name, its users, its addresses.
//!
//! Invariant: what a container says of its users is read from its own root, without following a link
//! out of it, and bounded.

use std::collections::HashMap;
use std::io::Read as _;
use std::net::IpAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};

use crate::capture::{Accounts, Group, Interface, Machine, User};
use crate::process::Thread;

/// The most bytes of a container's file of users that are read.
const MOST_ACCOUNT_BYTES: u64 = 1 << 20;
/// The most containers whose users are remembered.
const MOST_CONTAINERS: usize = 1024;

/// Users and groups by their numbers.
#[derive(Debug, Default)]
pub(super) struct Directory {
    users: HashMap<u32, User>,
    groups: HashMap<u32, Group>,
}

impl Directory {
    fn new(accounts: Accounts) -> Self {
        let mut directory = Self::default();
        for user in accounts.users {
            directory.users.entry(user.uid).or_insert(user);
        }
        for group in accounts.groups {
            directory.groups.entry(group.gid).or_insert(group);
        }
        directory
    }

    pub(super) fn user(&self, uid: u32) -> Option<&User> {
        self.users.get(&uid)
    }

    pub(super) fn group(&self, gid: u32) -> Option<&Group> {
        self.groups.get(&gid)
    }
}

/// The machine on which events happen.
#[derive(Debug, Default)]
pub struct Host {
    hostname: String,
    pub(super) accounts: Directory,
    addresses: Vec<IpAddr>,
    /// Users of containers, by the container's id.
    containers: Mutex<HashMap<String, Arc<Directory>>>,
    /// Whether `/proc` is that of the machine where the events happen.
    live: bool,
}

impl Host {
    /// This machine, with its users and addresses as they are now.
    #[must_use]
    pub fn of_this_machine() -> Self {
        let mut host = Self {
            live: true,
            ..Self::default()
        };
        host.tell_machine(&Machine::of_host());
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        host.tell_accounts(Accounts::of_files(
            &read("/etc/passwd"),
            &read("/etc/group"),
        ));
        host.tell_interfaces(&Interface::of_host());
        host
    }

    /// Another machine, of which a capture will tell.
    #[must_use]
    pub fn of_capture() -> Self {
        Self::default()
    }

    /// Gives the machine another name, such as that of the node.
    pub fn rename(&mut self, hostname: &str) {
        hostname.clone_into(&mut self.hostname);
    }

    /// The machine's name.
    #[must_use]
    pub fn hostname(&self) -> &str {
        &self.hostname
    }

    /// What a capture says of its machine.
    pub fn tell_machine(&mut self, machine: &Machine) {
        self.hostname.clone_from(&machine.hostname);
    }

    /// The users and groups that there are.
    pub fn tell_accounts(&mut self, accounts: Accounts) {
        self.accounts = Directory::new(accounts);
    }

    /// The addresses that there are.
    pub fn tell_interfaces(&mut self, interfaces: &[Interface]) {
        self.addresses = interfaces
            .iter()
            .map(|interface| interface.address.to_canonical())
            .collect();
    }

    /// Whether the address is one of this machine's.
    pub(super) fn has_address(&self, address: IpAddr) -> bool {
        address.is_loopback() || self.addresses.contains(&address)
    }

    /// The users that a thread in a container knows; nothing outside of containers, and where they
    /// cannot be read.
    pub(super) fn container_accounts(&self, thread: &Thread) -> Option<Arc<Directory>> {
        let container = thread.container.as_ref().filter(|_| self.live)?;
        // Whoever panicked with the lock held left the map whole.
        let mut known = self
            .containers
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(&container.id) {
            return Some(Arc::clone(found));
        }
        let read = |path| read_inside(thread.tid, path).unwrap_or_default();
        let accounts = Accounts::of_files(&read("etc/passwd"), &read("etc/group"));
        let directory = Arc::new(Directory::new(accounts));
        if known.len() >= MOST_CONTAINERS {
            known.clear();
        }
        known.insert(container.id.clone(), Arc::clone(&directory));
        Some(directory)
    }
}

/// Reads a file below the root of a process as that process would find it.
fn read_inside(tid: i64, path: &str) -> Option<String> {
    let folder = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let root = nix::fcntl::open(
        format!("/proc/{tid}/root").as_str(),
        folder,
        nix::sys::stat::Mode::empty(),
    )
    .ok()?;
    // A pipe in its place must not hold us, nor a device do what opening it does.
    let how = OpenHow::new()
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file: OwnedFd = openat2(root.as_fd(), path, how).ok()?;
    let file = std::fs::File::from(file);
    if !file.metadata().ok()?.is_file() {
        return None;
    }
    let mut bytes = Vec::new();
    file.take(MOST_ACCOUNT_BYTES).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}
