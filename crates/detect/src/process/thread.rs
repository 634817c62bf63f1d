//! A thread, with what it shares with the other threads of its process.

use std::sync::Arc;

use super::cgroup::Container;
use super::{Text, no_text};
use crate::event::EventType;
use crate::event::value::texts;

/// Capabilities, as bits by the kernel's numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// What an exec may keep.
    pub inheritable: u64,
    /// What may be made effective.
    pub permitted: u64,
    /// What counts.
    pub effective: u64,
}

/// The file that a process runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// Its path, resolved by the kernel: `proc.exepath`.
    pub path: Text,
    /// Whether the user that runs it may write to it.
    pub writable: bool,
    /// Whether it is in the upper layer of an overlay: not of the image.
    pub upper_layer: bool,
    /// Whether it is in a lower layer.
    pub lower_layer: bool,
    /// Whether it is in memory only.
    pub from_memfd: bool,
    /// Its inode.
    pub ino: u64,
    /// When its inode was last changed, in nanoseconds since 1970.
    pub ctime_ns: u64,
    /// When its content was last changed, in nanoseconds since 1970.
    pub mtime_ns: u64,
}

impl Default for Executable {
    fn default() -> Self {
        Self {
            path: no_text(),
            writable: false,
            upper_layer: false,
            lower_layer: false,
            from_memfd: false,
            ino: 0,
            ctime_ns: 0,
            mtime_ns: 0,
        }
    }
}

/// A thread. Ids are those of the first process namespace, but for those that begin with `v`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thread {
    /// The thread.
    pub tid: i64,
    /// Its process: the thread that is its leader.
    pub pid: i64,
    /// The thread that made the process, or who took it over.
    pub ptid: i64,
    /// The session; -1 when it is not known.
    pub sid: i64,
    /// The process group; -1 when it is not known.
    pub pgid: i64,
    /// The process group in its own namespace.
    pub vpgid: i64,
    /// The thread in its own namespace.
    pub vtid: i64,
    /// The process in its own namespace.
    pub vpid: i64,
    /// The name that the kernel has: at most 15 bytes.
    pub comm: Text,
    /// The first argument: `proc.exe`.
    pub exe: Text,
    /// The other arguments, each with its zero byte.
    pub args: Text,
    /// The environment, each entry with its zero byte.
    pub env: Text,
    /// The working directory, without a slash at its end.
    pub cwd: Text,
    /// The root directory as the host's first process sees it.
    pub root: Text,
    /// Control groups: `subsystem=path`, each with its zero byte.
    pub cgroups: Text,
    /// The file that it runs.
    pub executable: Arc<Executable>,
    /// Effective user.
    pub uid: u32,
    /// Effective group.
    pub gid: u32,
    /// The user that logged in, or `u32::MAX`.
    pub loginuid: u32,
    /// The terminal's device number, 0 for none.
    pub tty: u32,
    /// How many descriptors it may have.
    pub fd_limit: u64,
    /// Flags of its clone, in upstream's numbers.
    pub flags: u32,
    /// Virtual memory in KiB.
    pub vm_size_kib: u32,
    /// Resident memory in KiB.
    pub vm_rss_kib: u32,
    /// Swapped memory in KiB.
    pub vm_swap_kib: u32,
    /// Page faults that needed a disk.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
    /// Capabilities.
    pub capabilities: Capabilities,
    /// When the first process of its process namespace began, in nanoseconds since boot.
    pub pidns_start_ns: u64,
    /// When it was made, in nanoseconds since 1970; 0 when it was there before us.
    pub clone_ns: u64,
    /// When it last ran a program, in nanoseconds since 1970; 0 when that was before us.
    pub exec_ns: u64,
    /// The container, when it is in one.
    pub container: Option<Arc<Container>>,
    /// Whether its end was seen; it is gone with the next event.
    pub exited: bool,
    /// The table of descriptors, which threads share.
    pub(super) files: u64,
    /// The descriptor that the last enter event told: exits of old captures do not repeat it.
    pub(super) entered: Option<(EventType, i64)>,
}

impl Thread {
    /// A thread of which only its number is known.
    #[must_use]
    pub fn unknown(tid: i64) -> Self {
        Self {
            tid,
            pid: tid,
            ptid: -1,
            sid: -1,
            pgid: -1,
            vpgid: -1,
            vtid: tid,
            vpid: tid,
            comm: no_text(),
            exe: no_text(),
            args: no_text(),
            env: no_text(),
            cwd: no_text(),
            root: no_text(),
            cgroups: no_text(),
            executable: Arc::default(),
            uid: u32::MAX,
            gid: u32::MAX,
            loginuid: u32::MAX,
            tty: 0,
            fd_limit: 0,
            flags: 0,
            vm_size_kib: 0,
            vm_rss_kib: 0,
            vm_swap_kib: 0,
            major_faults: 0,
            minor_faults: 0,
            capabilities: Capabilities::default(),
            pidns_start_ns: 0,
            clone_ns: 0,
            exec_ns: 0,
            container: None,
            exited: false,
            files: 0,
            entered: None,
        }
    }

    /// Whether it is the leader of its process.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.tid == self.pid
    }

    /// The arguments but the first.
    pub fn arguments(&self) -> impl Iterator<Item = &[u8]> {
        texts(&self.args)
    }

    /// The value of a variable of the environment.
    #[must_use]
    pub fn env_var(&self, name: &[u8]) -> Option<&[u8]> {
        texts(&self.env).find_map(|entry| entry.strip_prefix(name)?.strip_prefix(b"="))
    }

    /// Control groups: subsystem and path.
    pub fn control_groups(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        super::cgroup::control_groups(&self.cgroups)
    }

    /// `path` as this thread means it, from its working directory.
    #[must_use]
    pub fn absolute(&self, path: &[u8]) -> Text {
        super::table::join(&self.cwd, path)
    }
}
