//! Alerts on standard output, one a line.

use std::io::Write as _;

use super::{Message, Output, OutputError};

/// Standard output.
#[derive(Debug)]
pub struct StdoutOutput {
    buffered: bool,
    waiting: Vec<u8>,
}

/// How many bytes are held back at most when it is buffered.
const MOST_WAITING: usize = 64 << 10;

impl StdoutOutput {
    /// Writes each alert at once, or when many have come together or a little time has passed.
    #[must_use]
    pub fn new(buffered: bool) -> Self {
        Self {
            buffered,
            waiting: Vec::new(),
        }
    }
}

impl Output for StdoutOutput {
    fn name(&self) -> &'static str {
        "stdout"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        self.waiting.extend_from_slice(message.line.as_bytes());
        self.waiting.push(b'\n');
        if !self.buffered || self.waiting.len() >= MOST_WAITING {
            return self.flush();
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        let written = stdout
            .write_all(&self.waiting)
            .and_then(|()| stdout.flush());
        self.waiting.clear();
        written.map_err(OutputError::Stdout)
    }
}
