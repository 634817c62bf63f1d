//! The pod's sandbox: its cgroup, namespaces, `/dev/shm`, and process 1 of a shared namespace.
//!
//! Invariant: the shim itself lives in the pod's network, IPC and UTS namespaces, so that every
//! child is in them without a step of its own; it stays in the host's mount namespace.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{ForkResult, fork, sethostname};
use sys::cgroup::{Cgroup, CgroupError, Cgroups};

use super::create::limits;
use crate::spec::SandboxSpec;

/// File with the sandbox's spec in its folder.
pub(crate) const SPEC_FILE: &str = "sandbox.json";
/// Folder of the pod's shared memory.
pub(crate) const SHM: &str = "shm";
const SHM_BYTES: u64 = 64 << 20;
/// The cgroup beside the pods where shims live, so that a pod's limits do not hit its shim.
const SHIMS: &str = "shims";

/// Why a sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    #[error("{what}")]
    Io {
        what: String,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Cgroup(#[from] CgroupError),
    #[error(transparent)]
    Mount(#[from] sys::mount::MountError),
}

fn io_error<E: Into<io::Error>>(what: impl Into<String>) -> impl FnOnce(E) -> SandboxError {
    move |error| SandboxError::Io {
        what: what.into(),
        source: error.into(),
    }
}

/// What the sandbox is made of.
#[derive(Debug)]
pub(crate) struct Sandbox {
    pub(crate) spec: SandboxSpec,
    pub(crate) dir: PathBuf,
    pub(crate) cgroup: Cgroup,
    /// Process 1 of the shared process namespace.
    pub(crate) pause: Option<u32>,
}

impl Sandbox {
    /// Sets the sandbox up around the calling process.
    pub(crate) fn enter(dir: &Path, spec: SandboxSpec) -> Result<Sandbox, SandboxError> {
        let cgroups = Cgroups::detect()?;
        let cgroup = cgroups.group(&spec.cgroup)?;
        cgroup.create()?;
        cgroup.apply(&limits(&spec.resources))?;
        move_shim(&cgroup)?;
        let mut flags = CloneFlags::empty();
        if !spec.host_network {
            flags |= CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS;
        }
        if !spec.host_ipc {
            flags |= CloneFlags::CLONE_NEWIPC;
        }
        unshare(flags).map_err(io_error("cannot make the pod's namespaces"))?;
        if !spec.host_network {
            sethostname(&spec.hostname).map_err(io_error("cannot set the host name"))?;
            sys::netns::loopback_up().map_err(io_error("cannot bring lo up"))?;
        }
        for (name, value) in &spec.sysctls {
            set_sysctl(&spec, name, value)?;
        }
        if !spec.host_ipc {
            let shm = dir.join(SHM);
            fs::create_dir_all(&shm)
                .map_err(io_error("cannot make the folder for shared memory"))?;
            sys::mount::tmpfs(&shm, Some(spec.shm_size_bytes.unwrap_or(SHM_BYTES)), 0o1777)?;
        }
        let mut sandbox = Sandbox {
            spec,
            dir: dir.into(),
            cgroup,
            pause: None,
        };
        if sandbox.spec.share_process_namespace && !sandbox.spec.host_pid {
            let group = sandbox.cgroup.child("pause")?;
            group.create()?;
            sandbox.pause = Some(
                start_pause(&group).map_err(io_error("cannot make the pod's process namespace"))?,
            );
        }
        Ok(sandbox)
    }

    /// What containers see at `/dev/shm`.
    pub(crate) fn shm(&self) -> PathBuf {
        if self.spec.host_ipc {
            "/dev/shm".into()
        } else {
            self.dir.join(SHM)
        }
    }

    /// The host name inside the pod.
    pub(crate) fn hostname(&self) -> String {
        nix::unistd::gethostname()
            .map(|n| n.to_string_lossy().into_owned())
            .unwrap_or_default()
    }

    /// Removes the cgroup (killing what is left in it) and the mounts.
    pub(crate) fn leave(&self, patience: Duration) -> Result<(), SandboxError> {
        clean(&self.cgroup, &self.dir, patience)
    }
}

/// Kills what lives in a pod's cgroup, removes it, and unmounts all below the sandbox's folder.
pub(crate) fn clean(cgroup: &Cgroup, dir: &Path, patience: Duration) -> Result<(), SandboxError> {
    cgroup.kill_all()?;
    cgroup.remove(patience)?;
    sys::mount::unmount_below(dir)?;
    Ok(())
}

/// Moves this process out of its starter's cgroup, so that it is not killed with it. Done by a
/// child, since the kernel makes the mover wait (10 ms on version 1) and nobody else.
fn move_shim(pod: &Cgroup) -> Result<(), SandboxError> {
    let top = pod.path().split('/').next().unwrap_or(pod.path());
    let group = pod.cgroups().group(&format!("{top}/{SHIMS}"))?;
    group.create()?;
    let shim = std::process::id();
    // SAFETY: the shim is single-threaded, so the child may do anything.
    if let ForkResult::Child = unsafe { fork() }.map_err(io_error("cannot fork"))? {
        if let Err(error) = group.add(shim) {
            eprintln!(
                "the shim stays in its starter's cgroup: {}",
                super::create::chain(&error)
            );
        }
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(0) }
    }
    Ok(())
}

/// Kernel parameters of the pod's own namespaces only: another one would be the host's.
fn set_sysctl(spec: &SandboxSpec, name: &str, value: &str) -> Result<(), SandboxError> {
    const IPC: &[&str] = &["kernel.shm", "kernel.msg", "kernel.sem", "fs.mqueue."];
    let name = name.replace('/', ".");
    let net = !spec.host_network && name.starts_with("net.");
    let ipc = !spec.host_ipc && IPC.iter().any(|prefix| name.starts_with(prefix));
    if !(net || ipc) || name.contains("..") {
        let source = io::Error::from(io::ErrorKind::InvalidInput);
        let what = format!("sysctl {name:?} is not of a namespace of this pod");
        return Err(SandboxError::Io { what, source });
    }
    let path = Path::new("/proc/sys").join(name.replace('.', "/"));
    fs::write(&path, value).map_err(io_error(format!("cannot set sysctl {name}")))
}

/// Forks the process that holds the shared process namespace: process 1 in it, a child of the shim.
fn start_pause(group: &Cgroup) -> io::Result<u32> {
    let (mut reader, writer) = io::pipe()?;
    // SAFETY: the shim is single-threaded, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => {
            drop(writer);
            let mut bytes = [0u8; 4];
            let told = io::Read::read_exact(&mut reader, &mut bytes);
            waitpid(child, None)?;
            told?;
            Ok(u32::from_le_bytes(bytes))
        }
        ForkResult::Child => {
            let made = group
                .add(std::process::id())
                .map_err(io::Error::other)
                .and_then(|()| Ok(unshare(CloneFlags::CLONE_NEWPID)?));
            // SAFETY: this child is single-threaded too.
            match made.and_then(|()| Ok(unsafe { fork() }?)) {
                Ok(ForkResult::Parent { child }) => {
                    let pid = child.as_raw().cast_unsigned().to_le_bytes();
                    let told = io::Write::write_all(&mut &writer, &pid);
                    // SAFETY: ends the child at once; its own child goes to the shim, the subreaper.
                    unsafe { libc::_exit(i32::from(told.is_err())) }
                }
                // SAFETY: ends the child at once.
                Err(_) => unsafe { libc::_exit(1) },
                Ok(ForkResult::Child) => pause(),
            }
        }
    }
}

/// Process 1 of a shared namespace: takes in orphans, does nothing else.
fn pause() -> ! {
    let _ = nix::sys::prctl::set_name(c"pause");
    let _ = nix::sys::prctl::set_dumpable(false);
    // SAFETY: nothing in this child uses the descriptors that go, the standard ones included.
    unsafe { libc::syscall(libc::SYS_close_range, 0, i32::MAX, 0) };
    let mut wanted = SigSet::empty();
    wanted.add(Signal::SIGCHLD);
    let _ = wanted.thread_block();
    loop {
        while matches!(waitpid(None, Some(WaitPidFlag::WNOHANG)), Ok(status) if status != WaitStatus::StillAlive)
        {
        }
        let _ = wanted.wait();
    }
}
