//! The outputs of one container: from its pipe (or terminal) to its log and to attached clients.
//!
//! Invariant: a client that does not read holds the container back (as a terminal would), never
//! fills memory; a client that is gone is forgotten; nobody can delay the report of an exit.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::unistd::{read, write};

use super::log::{Lines, Log};

/// What one read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// Bytes came.
    Some,
    /// Nothing there now.
    Empty,
    /// The stream has ended.
    End,
}

/// An attached client's pipe, and what it has not taken yet.
#[derive(Debug)]
pub(crate) struct Client {
    pipe: OwnedFd,
    waiting: Vec<u8>,
}

/// One output stream.
#[derive(Debug)]
pub(crate) struct Output {
    source: Option<OwnedFd>,
    lines: Lines,
    clients: Vec<Client>,
    /// The container has ended: clients are let go as soon as they have everything.
    closing: bool,
}

impl Output {
    /// `source` must be non-blocking.
    pub(crate) fn new(stream: &'static str, source: OwnedFd) -> Output {
        Output {
            source: Some(source),
            lines: Lines::new(stream),
            clients: Vec::new(),
            closing: false,
        }
    }

    /// The descriptor to wait on for input; `None` at the end, or while a client is behind.
    pub(crate) fn readable(&self) -> Option<BorrowedFd<'_>> {
        if !self.closing && self.clients.iter().any(|c| !c.waiting.is_empty()) {
            return None;
        }
        self.source.as_ref().map(AsFd::as_fd)
    }

    /// Pipes of clients that are behind.
    pub(crate) fn behind(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.clients
            .iter()
            .filter(|c| !c.waiting.is_empty())
            .map(|c| c.pipe.as_fd())
    }

    /// Adds a client; its pipe must be non-blocking.
    pub(crate) fn attach(&mut self, pipe: OwnedFd) {
        if self.source.is_some() && !self.closing {
            self.clients.push(Client {
                pipe,
                waiting: Vec::new(),
            });
        }
    }

    /// Reads once.
    pub(crate) fn pump(&mut self, scratch: &mut [u8], log: Option<&mut Log>) -> Progress {
        let Some(source) = &self.source else {
            return Progress::End;
        };
        match read(source, scratch) {
            Ok(0) | Err(Errno::EIO) => {
                self.end(log);
                Progress::End
            }
            Ok(count) => {
                let text = &scratch[..count];
                if let Some(log) = log {
                    self.lines.feed(text, log);
                }
                if !self.closing {
                    self.clients.retain_mut(|client| client.offer(text));
                }
                Progress::Some
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Progress::Empty,
            Err(_) => {
                self.end(log);
                Progress::End
            }
        }
    }

    /// Gives clients that were behind what they missed.
    pub(crate) fn catch_up(&mut self) {
        let over = self.closing || self.source.is_none();
        self.clients
            .retain_mut(|c| c.catch_up() && !(over && c.waiting.is_empty()));
    }

    /// The container has ended: reads what is there, at most `limit` bytes, without waiting for
    /// anybody. A process that it left behind may go on writing to the log.
    pub(crate) fn close(&mut self, scratch: &mut [u8], mut log: Option<&mut Log>, limit: usize) {
        let mut total = 0;
        while total < limit && self.pump(scratch, log.as_deref_mut()) == Progress::Some {
            total += scratch.len();
        }
        self.closing = true;
        self.catch_up();
    }

    fn end(&mut self, log: Option<&mut Log>) {
        self.source = None;
        self.catch_up();
        if let Some(log) = log {
            self.lines.end(log);
        }
    }
}

impl Client {
    /// False when the client is gone.
    fn offer(&mut self, text: &[u8]) -> bool {
        self.waiting.extend_from_slice(text);
        self.catch_up()
    }

    fn catch_up(&mut self) -> bool {
        let mut sent = 0;
        while sent < self.waiting.len() {
            match write(&self.pipe, &self.waiting[sent..]) {
                Ok(count) => sent += count,
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => break,
                Err(_) => return false,
            }
        }
        self.waiting.drain(..sent);
        if self.waiting.is_empty() {
            self.waiting = Vec::new();
        }
        true
    }
}

/// A pipe, both ends closed on exec: (read end, write end).
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?)
}

/// Makes a descriptor non-blocking.
pub(crate) fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}
