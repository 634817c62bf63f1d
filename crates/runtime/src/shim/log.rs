//! Container logs in the CRI format: `TIME stream P|F text`, rotated by size.
//!
//! Invariant: every line of the file is whole and carries at most 16 KiB of the container's text;
//! a disk that is full or gone never stops the container.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// Text of one line of the file in bytes; a longer line is written in parts marked `P`.
pub(crate) const MAX_LINE: usize = 16 * 1024;

/// The log of one container.
#[derive(Debug)]
pub(crate) struct Log {
    path: PathBuf,
    file: Option<File>,
    size: u64,
    max_bytes: u64,
    max_files: usize,
    /// Lines not yet written.
    batch: Vec<u8>,
}

impl Log {
    /// Opens (and makes, mode 0640) the file.
    pub(crate) fn open(path: &Path, max_bytes: u64, max_files: u32) -> io::Result<Log> {
        let mut log = Log {
            path: path.into(),
            file: None,
            size: 0,
            max_bytes: if max_bytes == 0 { 10 << 20 } else { max_bytes },
            max_files: if max_files == 0 {
                5
            } else {
                max_files as usize
            },
            batch: Vec::new(),
        };
        log.reopen()?;
        Ok(log)
    }

    /// Opens the path again, after somebody has moved the file away.
    pub(crate) fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o640)
            .open(&self.path)?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Adds one line, or part of one, without its newline.
    pub(crate) fn line(&mut self, stream: &str, whole: bool, head: &[u8], tail: &[u8]) {
        const PREFIX: usize = 41; // time, stream, tag
        let length = (PREFIX + head.len() + tail.len() + 1) as u64;
        if self.size + self.batch.len() as u64 + length > self.max_bytes {
            self.flush();
            if self.size > 0 {
                // Where rotation fails (disk trouble) the old file goes on.
                let _ = self.rotate();
            }
        }
        let tag = if whole { 'F' } else { 'P' };
        // Writing to a Vec cannot fail.
        let _ = write!(self.batch, "{:.9} {stream} {tag} ", Timestamp::now());
        self.batch.extend_from_slice(head);
        self.batch.extend_from_slice(tail);
        self.batch.push(b'\n');
    }

    /// Writes the lines out.
    pub(crate) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if let Some(file) = &mut self.file
            && file.write_all(&self.batch).is_ok()
        {
            self.size += self.batch.len() as u64;
        }
        self.batch.clear();
        self.batch.shrink_to(2 * MAX_LINE);
    }

    fn rotate(&mut self) -> io::Result<()> {
        let now = Timestamp::now();
        let named = |format: &str| {
            let mut name = self.path.clone().into_os_string();
            name.push(now.strftime(format).to_string());
            PathBuf::from(name)
        };
        let mut rotated = named(".%Y%m%d-%H%M%S");
        if rotated.exists() {
            rotated = named(".%Y%m%d-%H%M%S%.9f"); // twice in a second
        }
        fs::rename(&self.path, &rotated)?;
        self.reopen()?;
        self.remove_oldest()
    }

    fn remove_oldest(&self) -> io::Result<()> {
        let (Some(dir), Some(name)) = (self.path.parent(), self.path.file_name()) else {
            return Ok(());
        };
        let prefix = format!("{}.", name.to_string_lossy());
        let mut rotated: Vec<PathBuf> = fs::read_dir(dir)?
            .flatten()
            .filter(|e| e.file_name().to_string_lossy().starts_with(&prefix))
            .map(|e| e.path())
            .collect();
        rotated.sort(); // the stamp sorts by time
        let keep = self.max_files.saturating_sub(1);
        let excess = rotated.len().saturating_sub(keep);
        rotated
            .iter()
            .take(excess)
            .for_each(|old| drop(fs::remove_file(old)));
        Ok(())
    }
}

/// Splits one stream into lines for a log.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: &'static str,
    begun: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: &'static str) -> Lines {
        Lines {
            stream,
            begun: Vec::new(),
        }
    }

    /// Takes what the container wrote; whole lines go to the log.
    pub(crate) fn feed(&mut self, mut text: &[u8], log: &mut Log) {
        while !text.is_empty() {
            let newline = text.iter().position(|b| *b == b'\n');
            let (mut segment, rest) = match newline {
                Some(at) => (&text[..at], &text[at + 1..]),
                None => (text, &[][..]),
            };
            while self.begun.len() + segment.len() > MAX_LINE {
                let (part, left) = segment.split_at(MAX_LINE - self.begun.len());
                log.line(self.stream, false, &self.begun, part);
                self.begun.clear();
                segment = left;
            }
            if newline.is_some() {
                log.line(self.stream, true, &self.begun, segment);
                self.begun.clear();
                self.begun.shrink_to(256);
            } else {
                self.begun.extend_from_slice(segment);
            }
            text = rest;
        }
        log.flush();
    }

    /// The stream is at its end: what was begun is written as a part, as containerd does, so that a
    /// reader adds no newline that the container never wrote.
    pub(crate) fn end(&mut self, log: &mut Log) {
        if !self.begun.is_empty() {
            log.line(self.stream, false, &self.begun, &[]);
            self.begun = Vec::new();
            log.flush();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn lines_of(path: &Path) -> Vec<(String, String)> {
        let text = fs::read_to_string(path).unwrap();
        let split = |line: &str| {
            let (time, rest) = line.split_once(' ').unwrap();
            assert_eq!(time.len(), "2026-11-21T07:07:50.123456789Z".len(), "{time}");
            time.parse::<Timestamp>().unwrap();
            let (tag, text) = rest.split_at(8);
            (tag.to_owned(), text.trim_start().to_owned())
        };
        text.lines().map(split).collect()
    }

    #[test]
    fn splits_lines_as_the_cri_wants() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        let mut log = Log::open(&path, 0, 0).unwrap();
        let mut lines = Lines::new("stdout");
        let exact = vec![b'a'; MAX_LINE];
        lines.feed(b"one\ntw", &mut log);
        lines.feed(b"o\n\n", &mut log);
        lines.feed(&exact, &mut log);
        lines.feed(b"\n", &mut log);
        lines.feed(&exact, &mut log);
        lines.feed(b"b\nend", &mut log);
        lines.end(&mut log);
        lines.end(&mut log);
        let exact = String::from_utf8(exact).unwrap();
        let want = [
            ("stdout F", "one"),
            ("stdout F", "two"),
            ("stdout F", ""),
            ("stdout F", exact.as_str()),
            ("stdout P", exact.as_str()),
            ("stdout F", "b"),
            ("stdout P", "end"),
        ];
        let want: Vec<(String, String)> = want
            .iter()
            .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
            .collect();
        assert_eq!(lines_of(&path), want);
    }

    #[test]
    fn rotates_and_keeps_the_newest() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        for old in ["20200101-000000", "20210101-000000", "20220101-000000"] {
            fs::write(dir.path().join(format!("0.log.{old}")), "old").unwrap();
        }
        let mut log = Log::open(&path, 100, 3).unwrap();
        let mut lines = Lines::new("stderr");
        lines.feed(&[b'x'; 80], &mut log);
        lines.feed(b"\n", &mut log);
        lines.feed(b"next\n", &mut log);
        assert_eq!(
            lines_of(&path),
            [("stderr F".to_owned(), "next".to_owned())]
        );
        let mut names: Vec<String> = fs::read_dir(dir.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names.len(), 3, "{names:?}");
        assert_eq!(names[..2], ["0.log", "0.log.20220101-000000"]);
    }
}
