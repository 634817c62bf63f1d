//! The streams of an exec'ed process or of an attached container.
//!
//! Invariant: data never passes through the agent's connection to the shim: these are the ends of
//! the process's own pipes, or its terminal.

use std::io;
use std::os::fd::{AsFd as _, AsRawFd as _, OwnedFd};
use std::sync::Arc;

use nix::errno::Errno;
use tokio::sync::oneshot;

use super::connection::{Answer, Connection};
use super::unexpected;
use crate::error::ShimError;
use crate::wire::{Reply, Request};

/// Streams of an exec'ed process or an attached container. Set the descriptors non-blocking before
/// use in an event loop. With a terminal, input and output are the same descriptor, reading fails
/// with `EIO` at the end of the stream, and input has no end of its own (send the EOT character).
#[derive(Debug)]
pub struct Session {
    /// Its standard input. Closing every copy of it is its end.
    pub stdin: Option<OwnedFd>,
    /// Its standard output.
    pub stdout: Option<OwnedFd>,
    /// Its standard error.
    pub stderr: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    connection: Arc<Connection>,
    exec: u32,
    ended: Option<oneshot::Receiver<i32>>,
    code: Option<i32>,
    kill_on_drop: bool,
}

impl Session {
    pub(super) fn new(
        connection: Arc<Connection>,
        mut answer: Answer,
        kill_on_drop: bool,
    ) -> Result<Session, ShimError> {
        let Reply::Streams(streams) = answer.reply else {
            return Err(unexpected());
        };
        let mut next = |on: bool| if on { answer.fds.pop_front() } else { None };
        let (mut stdin, mut stdout) = (next(streams.stdin), next(streams.stdout));
        let (stderr, terminal) = (next(streams.stderr), next(streams.terminal));
        if let Some(terminal) = terminal.as_ref().filter(|_| streams.exec != 0) {
            let copy = || {
                terminal
                    .as_fd()
                    .try_clone_to_owned()
                    .map_err(ShimError::Connection)
            };
            (stdin, stdout) = (Some(copy()?), Some(copy()?));
        }
        let (exec, ended) = (streams.exec, answer.ended);
        Ok(Session {
            stdin,
            stdout,
            stderr,
            terminal,
            connection,
            exec,
            ended,
            code: None,
            kill_on_drop,
        })
    }

    /// Whether there is a terminal.
    pub fn has_terminal(&self) -> bool {
        self.terminal.is_some()
    }

    /// Sets the terminal's size in characters. Without a terminal nothing happens.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        let Some(terminal) = &self.terminal else {
            return Ok(());
        };
        let size = libc::winsize {
            ws_row: rows,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads the struct that lives over the call.
        Errno::result(unsafe {
            libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size)
        })?;
        Ok(())
    }

    /// Waits for the end of the exec'ed process: its exit code, 128 + signal when a signal ended it.
    /// An attached container's end comes by [`super::Shim::events`]; here it is an error.
    pub async fn wait(&mut self) -> Result<i32, ShimError> {
        if let Some(code) = self.code {
            return Ok(code);
        }
        let gone = || ShimError::Connection(io::Error::from(io::ErrorKind::ConnectionReset));
        let ended = self.ended.as_mut().ok_or_else(unexpected)?;
        let code = ended.await.map_err(|_| gone())?;
        self.code = Some(code);
        Ok(code)
    }

    /// Sends a signal to the exec'ed process. One that has ended takes no notice.
    pub async fn kill(&self, signal: i32) -> Result<(), ShimError> {
        if self.exec == 0 {
            return Ok(());
        }
        self.connection
            .call(Request::SignalExec {
                exec: self.exec,
                signal,
            })
            .await
            .map(drop)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.kill_on_drop && self.exec != 0 && self.code.is_none() {
            self.connection.tell(Request::SignalExec {
                exec: self.exec,
                signal: libc::SIGKILL,
            });
        }
    }
}
