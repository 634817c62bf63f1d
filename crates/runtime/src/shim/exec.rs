//! Running one more process in a running container, in a helper process.
//!
//! Invariant: it enters the container's cgroup first and all its namespaces at once, and ends with
//! the same last steps (privileges, filter) as the container's first process. Nothing of the host's
//! file system is read after the namespaces are entered.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use nix::poll::PollTimeout;
use nix::sched::{CloneFlags, setns};
use nix::unistd::{ForkResult, Pid, dup2_stderr, dup2_stdin, dup2_stdout, fork, setsid};
use sys::cgroup::Cgroup;
use sys::process::PidFd;

use super::create::{confinement, host};
use super::helper::Complaint;
use super::process::{self, Process};
use crate::error::Refusal;
use crate::spec::{ContainerSpec, Exec};
use crate::wire::Refused;

/// File with the container's own spec in its folder.
pub(crate) const SPEC_FILE: &str = "spec.json";

/// What a helper that runs a process in a container is given.
pub(crate) struct Job<'a> {
    pub(crate) exec: &'a Exec,
    /// `DIR/<container>`.
    pub(crate) dir: &'a Path,
    /// The container's first process.
    pub(crate) init: u32,
    pub(crate) cgroup: &'a Cgroup,
    pub(crate) hostname: String,
    /// None with a terminal.
    pub(crate) stdio: Option<[OwnedFd; 3]>,
}

/// Runs in the helper.
pub(crate) fn exec(job: Job<'_>) -> Result<(Pid, Option<OwnedFd>), Refused> {
    let bytes = fs::read(job.dir.join(SPEC_FILE)).map_err(host)?;
    let spec: ContainerSpec = serde_json::from_slice(&bytes).map_err(host)?;
    let (privileges, filters) = confinement(&spec)?;
    let mut process = Process {
        argv: job.exec.argv.clone(),
        env: process::environment(&spec.env, &job.exec.env, &job.hostname, job.exec.tty),
        cwd: job.exec.cwd.clone().unwrap_or(spec.cwd).into(),
        user: job.exec.user.clone().unwrap_or(spec.user),
        privileges,
        filters,
        rlimits: spec.rlimits,
    };
    let init = PidFd::open(job.init).map_err(host)?;
    if let Some(score) = spec.resources.oom_score_adj {
        process::set_oom_score_adj(score);
    }
    // A container that is about to end can still be entered, and nothing be started in it.
    let dying = || init.wait(PollTimeout::from(500u16)).unwrap_or(false);
    let refuse = |refused: Refused| {
        if dying() {
            Refused::new(Refusal::State, "the container has ended")
        } else {
            refused
        }
    };
    job.cgroup
        .add(std::process::id())
        .map_err(|e| refuse(host(e)))?;
    let all = CloneFlags::CLONE_NEWNS
        | CloneFlags::CLONE_NEWPID
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET;
    setns(&init, all).map_err(|e| refuse(host(e)))?;

    let terminal = job.exec.tty.then(open_terminal).transpose().map_err(host)?;
    let complaint = Complaint::new().map_err(host)?;
    // SAFETY: the helper is single-threaded, so the child may do anything.
    match unsafe { fork() }.map_err(|e| refuse(host(e)))? {
        ForkResult::Child => {
            let slave = terminal.as_ref().map(|t| &t.1);
            let text = match attach(slave, job.stdio.as_ref()) {
                Ok(()) => match last_steps(&mut process) {
                    Err(error) => error.to_string(),
                    Ok(never) => match never {},
                },
                Err(error) => error.to_string(),
            };
            let _ = (&complaint.writer).write_all(text.as_bytes());
            // SAFETY: ends the child at once.
            unsafe { libc::_exit(126) }
        }
        ForkResult::Parent { child } => {
            drop(job.stdio);
            match complaint.wait() {
                None => Ok((child, terminal.map(|t| t.0))),
                Some(text) => {
                    let _ = nix::sys::wait::waitpid(child, None);
                    Err(Refused::new(Refusal::Program, text))
                }
            }
        }
    }
}

fn last_steps(process: &mut Process) -> Result<std::convert::Infallible, process::ProcessError> {
    process.prepare()?;
    process.become_user()?;
    let program = process.find_program()?;
    Err(process.become_program(&program))
}

/// A session of its own; standard streams from the terminal or the pipes.
fn attach(slave: Option<&File>, stdio: Option<&[OwnedFd; 3]>) -> io::Result<()> {
    setsid()?;
    if let Some(slave) = slave {
        // SAFETY: TIOCSCTTY takes an integer.
        nix::errno::Errno::result(unsafe {
            libc::ioctl(slave.as_raw_fd(), libc::TIOCSCTTY as _, 0)
        })?;
        dup2_stdin(slave)?;
        dup2_stdout(slave)?;
        dup2_stderr(slave)?;
    }
    if let Some([stdin, stdout, stderr]) = stdio {
        dup2_stdin(stdin.as_fd())?;
        dup2_stdout(stdout.as_fd())?;
        dup2_stderr(stderr.as_fd())?;
    }
    Ok(())
}

/// A pair from the container's own devpts: (master, slave).
fn open_terminal() -> io::Result<(OwnedFd, File)> {
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY)
        .open("/dev/pts/ptmx")?;
    let kind = nix::sys::statfs::fstatfs(&master)?.filesystem_type();
    // The constant is signed in one libc and unsigned in the other.
    if i128::from(kind.0) != i128::from(libc::DEVPTS_SUPER_MAGIC) {
        return Err(io::Error::other(
            "/dev/pts/ptmx of the container is not a terminal",
        ));
    }
    let unlock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads the integer that lives over the call.
    nix::errno::Errno::result(unsafe {
        libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK as _, &raw const unlock)
    })?;
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and gives a new descriptor.
    let slave = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER as _, flags) };
    let slave = nix::errno::Errno::result(slave)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let slave = unsafe { <File as std::os::fd::FromRawFd>::from_raw_fd(slave) };
    Ok((master.into(), slave))
}
