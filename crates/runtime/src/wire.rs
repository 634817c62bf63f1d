//! The protocol on `DIR/shim.sock`: length-prefixed JSON, descriptors beside it by `SCM_RIGHTS`.
//!
//! Invariant: both directions are bounded. A frame is at most 8 MiB, a peer that does not read is
//! cut off, and no descriptor is received without its close-on-exec flag.

use std::collections::VecDeque;
use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, recvmsg, sendmsg};
use serde::{Deserialize, Serialize};

use crate::error::Refusal;
use crate::spec::{ContainerSpec, Exec};
use crate::state::{ContainerState, Started, Usage};

/// Longest frame in bytes.
const MAX_FRAME: usize = 8 << 20;
/// Bytes that may wait for a peer.
const MAX_WAITING: usize = 16 << 20;
/// Descriptors with one frame.
const MAX_FDS: usize = 4;

/// What the node asks.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Request {
    Hello,
    Start(Box<ContainerSpec>),
    States,
    Signal {
        id: String,
        signal: i32,
    },
    Remove {
        id: String,
    },
    /// Of one container, or of the whole pod.
    Stats {
        id: Option<String>,
    },
    Exec {
        id: String,
        exec: Box<Exec>,
    },
    SignalExec {
        exec: u32,
        signal: i32,
    },
    Attach {
        id: String,
        stdin: bool,
        stdout: bool,
        stderr: bool,
    },
    ReopenLog {
        id: String,
    },
    Shutdown,
}

/// A numbered request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Call {
    pub(crate) number: u64,
    pub(crate) request: Request,
}

/// A refusal on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Refused {
    pub(crate) kind: Refusal,
    pub(crate) message: String,
}

impl Refused {
    pub(crate) fn new(kind: Refusal, message: impl Into<String>) -> Refused {
        Refused {
            kind,
            message: message.into(),
        }
    }
}

/// What the shim answers.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Done,
    Hello { pid: u32 },
    Started(Started),
    States(Vec<ContainerState>),
    Usage(Usage),
    Streams(Streams),
}

/// Which descriptors come with a reply, in this order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Streams {
    /// Pid of the exec'ed process; 0 when attached.
    pub(crate) exec: u32,
    pub(crate) stdin: bool,
    pub(crate) stdout: bool,
    pub(crate) stderr: bool,
    /// The terminal's master.
    pub(crate) terminal: bool,
}

impl Streams {
    pub(crate) fn count(&self) -> usize {
        [self.stdin, self.stdout, self.stderr, self.terminal]
            .into_iter()
            .filter(|on| *on)
            .count()
    }
}

/// What the shim sends.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Message {
    Reply {
        number: u64,
        result: Result<Reply, Refused>,
    },
    Changed(ContainerState),
    ExecEnded {
        exec: u32,
        code: i32,
    },
}

/// What has arrived and is not yet taken.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Inbox {
    /// Receives once. `Ok(false)` at the end of the stream; `WouldBlock` when there is nothing.
    pub(crate) fn fill(&mut self, socket: BorrowedFd<'_>) -> io::Result<bool> {
        let mut chunk = [0u8; 8192];
        let mut space = nix::cmsg_space!([i32; MAX_FDS]);
        let (count, fds) = {
            let mut parts = [IoSliceMut::new(&mut chunk)];
            let flags = MsgFlags::MSG_CMSG_CLOEXEC | MsgFlags::MSG_DONTWAIT;
            let got = loop {
                match recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), flags) {
                    Err(Errno::EINTR) => {}
                    other => break other?,
                }
            };
            let mut fds = Vec::new();
            for message in got.cmsgs()? {
                if let ControlMessageOwned::ScmRights(raw) = message {
                    // SAFETY: the kernel has just installed these descriptors for us alone.
                    fds.extend(
                        raw.into_iter()
                            .map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }),
                    );
                }
            }
            (got.bytes, fds)
        };
        self.bytes.extend_from_slice(&chunk[..count]);
        self.fds.extend(fds);
        Ok(count > 0)
    }

    /// Takes the next whole frame.
    pub(crate) fn next<T: for<'de> Deserialize<'de>>(&mut self) -> io::Result<Option<T>> {
        let Some(head) = self.bytes.first_chunk::<4>() else {
            return Ok(None);
        };
        let length = u32::from_le_bytes(*head) as usize;
        if length > MAX_FRAME {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        let Some(frame) = self.bytes.get(4..4 + length) else {
            return Ok(None);
        };
        let value = serde_json::from_slice(frame).map_err(io::Error::from);
        self.bytes.drain(..4 + length);
        if self.bytes.is_empty() && self.bytes.capacity() > 1 << 16 {
            self.bytes = Vec::new(); // a large spec must not stay in a small process
        }
        value.map(Some)
    }

    /// Takes descriptors that came with the frame just taken.
    pub(crate) fn take_fds(&mut self, count: usize) -> io::Result<VecDeque<OwnedFd>> {
        if self.fds.len() < count {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        }
        Ok(self.fds.drain(..count).collect())
    }
}

/// What waits to be sent.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    waiting: VecDeque<Frame>,
    bytes: usize,
}

#[derive(Debug)]
struct Frame {
    bytes: Vec<u8>,
    sent: usize,
    fds: Vec<OwnedFd>,
}

impl Outbox {
    /// Queues a frame. Fails when the peer has not read for too long.
    pub(crate) fn push(&mut self, value: &impl Serialize, fds: Vec<OwnedFd>) -> io::Result<()> {
        let mut bytes = vec![0; 4];
        serde_json::to_writer(&mut bytes, value)?;
        let length = u32::try_from(bytes.len() - 4).map_err(io::Error::other)?;
        bytes[..4].copy_from_slice(&length.to_le_bytes());
        if self.bytes + bytes.len() > MAX_WAITING || bytes.len() > MAX_FRAME {
            return Err(io::Error::from(io::ErrorKind::QuotaExceeded));
        }
        self.bytes += bytes.len();
        self.waiting.push_back(Frame {
            bytes,
            sent: 0,
            fds,
        });
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Sends what the socket takes. `WouldBlock` when it takes no more now.
    pub(crate) fn flush(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while let Some(frame) = self.waiting.front_mut() {
            let raw: Vec<i32> = frame.fds.iter().map(AsRawFd::as_raw_fd).collect();
            let rights = [ControlMessage::ScmRights(&raw)];
            let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
            let parts = [IoSlice::new(&frame.bytes[frame.sent..])];
            let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
            match sendmsg::<()>(socket.as_raw_fd(), &parts, control, flags, None) {
                Ok(count) => {
                    frame.sent += count;
                    frame.fds.clear(); // they travel with the first byte
                    if frame.sent == frame.bytes.len() {
                        self.bytes -= frame.bytes.len();
                        self.waiting.pop_front();
                    }
                }
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::fd::AsFd as _;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn frames_and_descriptors_cross() {
        let (a, b) = UnixStream::pair().unwrap();
        let (mut reader, writer) = std::io::pipe().unwrap();
        let mut out = Outbox::default();
        let big = "x".repeat(300_000);
        out.push(&Request::Remove { id: big.clone() }, vec![])
            .unwrap();
        out.push(&Request::Hello, vec![writer.into()]).unwrap();
        let mut inbox = Inbox::default();
        let mut got: Vec<Request> = Vec::new();
        while got.len() < 2 {
            let _ = out.flush(a.as_fd());
            let _ = inbox.fill(b.as_fd());
            while let Some(one) = inbox.next().unwrap() {
                got.push(one);
            }
        }
        assert!(matches!(&got[0], Request::Remove { id } if *id == big));
        let mut writer = std::fs::File::from(inbox.take_fds(1).unwrap().pop_front().unwrap());
        writer.write_all(b"through").unwrap();
        drop(writer);
        let mut said = String::new();
        reader.read_to_string(&mut said).unwrap();
        assert_eq!(said, "through");
        assert!(inbox.take_fds(1).is_err());
    }

    #[test]
    fn hostile_lengths_are_refused() {
        let mut inbox = Inbox {
            bytes: u32::MAX.to_le_bytes().to_vec(),
            fds: VecDeque::new(),
        };
        assert!(inbox.next::<Request>().is_err());
        let mut inbox = Inbox {
            bytes: [&2u32.to_le_bytes()[..], b"{]"].concat(),
            fds: VecDeque::new(),
        };
        assert!(inbox.next::<Request>().is_err());
    }
}
