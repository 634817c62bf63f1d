//! Processes: pidfds, start times, subreaper.
//!
//! Invariant: a [`PidFd`] names one process for ever; a recycled pid is never signalled through it.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::Signal;

/// A handle on one process, readable when it has ended.
#[derive(Debug)]
pub struct PidFd(OwnedFd);

impl PidFd {
    /// Opens the process with this pid.
    pub fn open(pid: u32) -> io::Result<PidFd> {
        let pid =
            libc::pid_t::try_from(pid).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        // SAFETY: pidfd_open takes no pointers.
        let fd = Errno::result(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
        let fd = i32::try_from(fd).map_err(io::Error::other)?;
        // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
        Ok(PidFd(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Sends a signal. `Ok(false)` when the process has ended already.
    pub fn signal(&self, signal: Signal) -> io::Result<bool> {
        self.signal_raw(signal as i32)
    }

    /// As [`PidFd::signal`], by number (real-time signals have no name).
    pub fn signal_raw(&self, signal: i32) -> io::Result<bool> {
        // SAFETY: a null siginfo is allowed and means the defaults of kill(2).
        let sent = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        match Errno::result(sent) {
            Ok(_) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Whether the process has ended (a zombie counts as ended).
    pub fn has_ended(&self) -> io::Result<bool> {
        self.wait(PollTimeout::ZERO)
    }

    /// Blocks until the process has ended; `Ok(false)` on timeout.
    pub fn wait(&self, timeout: PollTimeout) -> io::Result<bool> {
        let mut polled = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        loop {
            match poll(&mut polled, timeout) {
                Ok(count) => return Ok(count > 0),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Gives the descriptor up, for example to put it into an event loop.
    pub fn into_fd(self) -> OwnedFd {
        self.0
    }
}

impl AsFd for PidFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for PidFd {
    fn as_raw_fd(&self) -> i32 {
        self.0.as_raw_fd()
    }
}

/// Start time of a process in clock ticks since boot (field 22 of `/proc/PID/stat`).
/// Together with the pid it names one process; `None` when there is none.
pub fn start_time_ticks(pid: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, so count from the last parenthesis.
    stat.rsplit_once(')')?
        .1
        .split_ascii_whitespace()
        .nth(19)?
        .parse()
        .ok()
}

/// Makes this process the one that orphans below it are handed to.
pub fn become_subreaper() -> io::Result<()> {
    nix::sys::prctl::set_child_subreaper(true).map_err(io::Error::from)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn follows_a_process_to_its_end() {
        let mut child = std::process::Command::new("sleep")
            .arg("60")
            .spawn()
            .unwrap();
        let handle = PidFd::open(child.id()).unwrap();
        assert!(!handle.has_ended().unwrap());
        assert!(
            start_time_ticks(child.id()).unwrap() >= start_time_ticks(std::process::id()).unwrap()
        );
        assert!(handle.signal(Signal::SIGKILL).unwrap());
        assert!(handle.wait(PollTimeout::NONE).unwrap());
        child.wait().unwrap();
        assert!(
            !handle.signal(Signal::SIGKILL).unwrap(),
            "gone, and no stranger is hit"
        );
        assert_eq!(start_time_ticks(child.id()), None);
    }
}
