//! Alerts to a program's standard input: one process for all, or one for each.

use std::io::Write as _;
use std::process::{Child, Command, Stdio};

use super::{Message, Output, OutputError};

/// A program that a shell runs.
#[derive(Debug)]
pub struct ProgramOutput {
    command: String,
    keep_alive: bool,
    child: Option<Child>,
}

impl ProgramOutput {
    /// A shell's command line. With `keep_alive` it reads all alerts, one a line.
    #[must_use]
    pub fn new(command: &str, keep_alive: bool) -> Self {
        Self {
            command: command.to_owned(),
            keep_alive,
            child: None,
        }
    }

    fn fail(&self, source: std::io::Error) -> OutputError {
        OutputError::Program {
            program: self.command.clone(),
            source,
        }
    }

    fn write(&mut self, message: &Message) -> std::io::Result<()> {
        if self.child.is_none() {
            let child = Command::new("/bin/sh")
                .arg("-c")
                .arg(&self.command)
                .stdin(Stdio::piped())
                .spawn()?;
            self.child = Some(child);
        }
        let Some(input) = self.child.as_mut().and_then(|child| child.stdin.as_mut()) else {
            return Err(std::io::ErrorKind::BrokenPipe.into());
        };
        input.write_all(message.line.as_bytes())?;
        input.write_all(b"\n")?;
        input.flush()
    }

    /// Closes the program's input and waits for its end.
    fn end(&mut self) {
        if let Some(mut child) = self.child.take() {
            drop(child.stdin.take());
            match child.wait() {
                Ok(status) if !status.success() => {
                    tracing::warn!(program = self.command, %status, "the program failed");
                }
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(program = self.command, %error, "the program's end is unknown");
                }
            }
        }
    }
}

impl Output for ProgramOutput {
    fn name(&self) -> &'static str {
        "program"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        let mut written = self.write(message);
        if written.is_err() && self.keep_alive {
            // It ended by itself: another one takes its place.
            self.end();
            written = self.write(message);
        }
        if written.is_err() || !self.keep_alive {
            self.end();
        }
        written.map_err(|source| self.fail(source))
    }

    fn reopen(&mut self) -> Result<(), OutputError> {
        self.end();
        Ok(())
    }
}

impl Drop for ProgramOutput {
    fn drop(&mut self) {
        self.end();
    }
}
