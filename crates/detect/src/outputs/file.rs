//! Alerts in a file, one a line, with rotation by size.

use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write as _};
use std::path::{Path, PathBuf};

use super::{Message, Output, OutputError};

/// A file.
#[derive(Debug)]
pub struct FileOutput {
    path: PathBuf,
    keep_open: bool,
    buffered: bool,
    /// The size at which the file is moved away, in bytes; 0 for never.
    rotate_bytes: u64,
    /// How many files that were moved away are kept.
    keep: u32,
    open: Option<BufWriter<File>>,
    bytes: u64,
}

impl FileOutput {
    /// A file that is opened for each alert, or kept open.
    #[must_use]
    pub fn new(path: &Path, keep_open: bool, buffered: bool) -> Self {
        Self {
            path: path.to_owned(),
            keep_open,
            buffered,
            rotate_bytes: 0,
            keep: 0,
            open: None,
            bytes: 0,
        }
    }

    /// The same, moved to `.1` (and that to `.2`, up to `keep`) before it is larger than so many
    /// bytes.
    #[must_use]
    pub fn rotated(mut self, bytes: u64, keep: u32) -> Self {
        self.rotate_bytes = bytes;
        self.keep = keep.max(1);
        self
    }

    fn fail(&self, source: std::io::Error) -> OutputError {
        OutputError::File {
            path: self.path.clone(),
            source,
        }
    }

    fn open(&mut self) -> Result<(), OutputError> {
        if self.open.is_none() {
            let file = OpenOptions::new()
                .append(true)
                .create(true)
                .open(&self.path)
                .map_err(|source| self.fail(source))?;
            self.bytes = file.metadata().map_or(0, |about| about.len());
            self.open = Some(BufWriter::new(file));
        }
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{number}"));
        name.into()
    }

    fn rotate(&mut self) -> Result<(), OutputError> {
        self.flush()?;
        self.open = None;
        for number in (1..self.keep).rev() {
            // There are fewer at first.
            let _may_be_missing = std::fs::rename(self.numbered(number), self.numbered(number + 1));
        }
        std::fs::rename(&self.path, self.numbered(1)).map_err(|source| self.fail(source))?;
        self.open()
    }
}

impl Output for FileOutput {
    fn name(&self) -> &'static str {
        "file"
    }

    fn deliver(&mut self, message: &Message) -> Result<(), OutputError> {
        self.open()?;
        let length = message.line.len() as u64 + 1;
        if self.rotate_bytes > 0 && self.bytes > 0 && self.bytes + length > self.rotate_bytes {
            self.rotate()?;
        }
        let Some(file) = &mut self.open else {
            return Ok(());
        };
        let written = file
            .write_all(message.line.as_bytes())
            .and_then(|()| file.write_all(b"\n"));
        written.map_err(|source| self.fail(source))?;
        self.bytes += length;
        if !self.buffered || !self.keep_open {
            self.flush()?;
        }
        if !self.keep_open {
            self.open = None;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), OutputError> {
        match self.open.as_mut().map(|file| file.flush()) {
            Some(Err(source)) => Err(self.fail(source)),
            _ => Ok(()),
        }
    }

    fn reopen(&mut self) -> Result<(), OutputError> {
        let flushed = self.flush();
        self.open = None;
        flushed.and_then(|()| self.open())
    }
}
