//! Which lines of a log are asked for, and where in the file they begin.
//!
//! Invariant: the tail is found from the end of the file, a block at a time.

use std::{
    fs::File,
    io::{self, Read as _, Seek as _, SeekFrom},
};

use jiff::Timestamp;

use super::format;

/// Size of the blocks that are read.
const BLOCK: u64 = 64 * 1024;

/// What a client asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Options {
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what was written at this time or later.
    pub since: Option<Timestamp>,
    /// Put the time before each line.
    pub timestamps: bool,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only `Stdout` or `Stderr`; both if absent.
    pub stream: Option<String>,
    /// Go on when the end is reached.
    pub follow: bool,
}

/// Turns log lines into what a client gets.
#[derive(Debug)]
pub(crate) struct Filter {
    since: Option<Timestamp>,
    timestamps: bool,
    stream: Option<String>,
    left: Option<u64>,
    line_begins: bool,
}

impl Filter {
    /// For a client's options.
    pub(crate) fn new(options: &Options) -> Self {
        let stream = options
            .stream
            .as_ref()
            .map(|s| s.to_lowercase())
            .filter(|s| s != "all");
        Self {
            since: options.since,
            timestamps: options.timestamps,
            stream,
            left: options.limit_bytes,
            line_begins: true,
        }
    }

    /// Appends what a line gives to `out`; false once the limit is reached.
    pub(crate) fn push(&mut self, line: &[u8], out: &mut Vec<u8>) -> bool {
        let Some(parsed) = format::parse(line) else {
            return true;
        };
        if self.stream.as_deref().is_some_and(|s| s != parsed.stream) {
            return true;
        }
        if let Some(since) = self.since {
            match parsed.time.parse::<Timestamp>() {
                Ok(at) if at < since => return true,
                // Lines are in order: no need to look at the time again.
                Ok(_) => self.since = None,
                Err(_) => return true,
            }
        }
        let from = out.len();
        if self.timestamps && self.line_begins {
            out.extend_from_slice(parsed.time.as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(parsed.text);
        if parsed.complete {
            out.push(b'\n');
        }
        self.line_begins = parsed.complete;
        let Some(left) = &mut self.left else {
            return true;
        };
        let grown = (out.len() - from) as u64;
        if grown >= *left {
            out.truncate(from + usize::try_from(*left).unwrap_or(usize::MAX));
            *left = 0;
            return false;
        }
        *left -= grown;
        true
    }
}

/// The offset at which the last `lines` complete lines of the program begin.
///
/// # Errors
/// When the file cannot be read.
pub(crate) fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let len = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(len);
    }
    let mut seen = 0;
    let mut end = len;
    let mut block = Vec::new();
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        file.seek(SeekFrom::Start(start))?;
        block.clear();
        file.by_ref().take(end - start).read_to_end(&mut block)?;
        for (i, byte) in block.iter().enumerate().rev() {
            let at = start + i as u64;
            // The line feed at the very end belongs to the last line.
            if *byte == b'\n' && at + 1 != len {
                seen += 1;
                if seen == lines {
                    return Ok(at + 1);
                }
            }
        }
        end = start;
    }
    Ok(0)
}
