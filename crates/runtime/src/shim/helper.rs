//! Children of the shim that set processes up: what they are told, what they report.
//!
//! Invariant: the shim forks a helper for each start and exec and waits for its one report in its
//! event loop, so that it never blocks, and the heap that the set-up needs dies with the helper.

use std::io::{self, IoSlice, IoSliceMut, Read as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType, recvmsg,
    sendmsg, socketpair,
};
use nix::unistd::{ForkResult, Pid, fork};
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::wire::Refused;

/// Longest report in bytes.
const MAX_REPORT: usize = 16 * 1024;

/// How it ended: the pid of the process that now runs the program.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) result: Result<u32, Refused>,
}

/// A helper at work.
#[derive(Debug)]
pub(crate) struct Helper {
    pub(crate) socket: OwnedFd,
}

/// Forks a helper that keeps, of the descriptors above 2, only `keep`.
/// `work` returns the pid of the process that it made, and the master of its terminal.
pub(crate) fn spawn(
    mut keep: Vec<i32>,
    work: impl FnOnce() -> Result<(Pid, Option<OwnedFd>), Refused>,
) -> io::Result<Helper> {
    let (ours, theirs) = socketpair(
        AddressFamily::Unix,
        SockType::SeqPacket,
        None,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
    )?;
    // SAFETY: the shim is single-threaded, so the child may do anything.
    match unsafe { fork() }? {
        ForkResult::Parent { .. } => Ok(Helper { socket: ours }),
        ForkResult::Child => {
            keep.push(theirs.as_raw_fd());
            close_all_but(&mut keep);
            // Nobody in a container may look into, or trace, a process that is still ours.
            let _ = prctl::set_dumpable(false);
            let (result, terminal) = match work() {
                Ok((pid, terminal)) => (Ok(pid.as_raw().cast_unsigned()), terminal),
                Err(refused) => (Err(refused), None),
            };
            send(&theirs, &Report { result }, terminal.as_ref());
            // SAFETY: ends the child at once, without the parent's exit handlers.
            unsafe { libc::_exit(0) }
        }
    }
}

/// Closes every descriptor above 2 that is not listed.
fn close_all_but(keep: &mut [i32]) {
    keep.sort_unstable();
    let mut from = 3;
    for fd in keep.iter().copied().chain([i32::MAX]) {
        if fd > from {
            // SAFETY: nothing in this child uses the descriptors that go.
            unsafe { libc::syscall(libc::SYS_close_range, from, fd - 1, 0) };
        }
        from = from.max(fd.saturating_add(1));
    }
}

fn send(socket: &OwnedFd, report: &Report, terminal: Option<&OwnedFd>) {
    let mut bytes = serde_json::to_vec(report).unwrap_or_default();
    if bytes.len() > MAX_REPORT {
        let message = "the reason is too long to tell";
        let short = Report {
            result: Err(Refused::new(Refusal::Host, message)),
        };
        bytes = serde_json::to_vec(&short).unwrap_or_default();
    }
    let raw: Vec<i32> = terminal.map(AsRawFd::as_raw_fd).into_iter().collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    let parts = [IoSlice::new(&bytes)];
    let _ = sendmsg::<()>(
        socket.as_raw_fd(),
        &parts,
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    );
}

impl Helper {
    /// The report, `None` while there is none. A helper that died reports so.
    pub(crate) fn report(&self) -> Option<(Report, Option<OwnedFd>)> {
        let mut buffer = vec![0u8; MAX_REPORT];
        let mut space = nix::cmsg_space!([i32; 1]);
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
        let (count, terminal) =
            match recvmsg::<()>(self.socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                Err(Errno::EAGAIN | Errno::EINTR) => return None,
                Err(_) => (0, None),
                Ok(got) => {
                    let mut terminal = None;
                    for message in got.cmsgs().into_iter().flatten() {
                        if let ControlMessageOwned::ScmRights(fds) = message {
                            // SAFETY: the kernel has just installed this descriptor for us alone.
                            terminal = fds.first().map(|fd| unsafe { OwnedFd::from_raw_fd(*fd) });
                        }
                    }
                    (got.bytes, terminal)
                }
            };
        let report = serde_json::from_slice(&buffer[..count]).unwrap_or_else(|_| Report {
            result: Err(Refused::new(
                Refusal::Host,
                "the process that sets the container up was killed",
            )),
        });
        Some((report, terminal))
    }
}

/// Tells a starter why the program could not be run: a pipe that `execve` closes.
#[derive(Debug)]
pub(crate) struct Complaint {
    pub(crate) reader: std::io::PipeReader,
    pub(crate) writer: std::io::PipeWriter,
}

impl Complaint {
    pub(crate) fn new() -> io::Result<Complaint> {
        let (reader, writer) = std::io::pipe()?;
        Ok(Complaint { reader, writer })
    }

    /// Waits for the program to run (`None`) or for the reason that it does not.
    pub(crate) fn wait(self) -> Option<String> {
        let Complaint { mut reader, writer } = self;
        drop(writer);
        let mut text = Vec::new();
        let _ = reader.by_ref().take(8192).read_to_end(&mut text);
        (!text.is_empty()).then(|| String::from_utf8_lossy(&text).into_owned())
    }
}
