//! The lock file's content: that a database was made beside it, and which revision its last commit had.
//!
//! SQLite takes a write-ahead log that ends too early, or in nonsense, for one that was being written
//! when the power failed, and goes on from there without a word: acknowledged commits would be gone.
//! The note tells. It is written after a commit has become durable and is not synced, so it costs next
//! to nothing. Invariant: what it says was durable, so it is never ahead of a whole database; after a
//! power failure it may be behind, and then tells less.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;

use crate::Revision;

/// What the lock file says once the database beside it has been made.
const MADE: &[u8] = b"made\n";
/// Enough digits for every revision.
const DIGITS: usize = 20;

/// What the lock file said when the database was opened.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) is_made: bool,
    pub(super) committed: Option<Revision>,
}

/// Reads it. What cannot be understood says nothing.
pub(super) fn read(lock: &File) -> io::Result<Note> {
    let mut content = Vec::new();
    lock.take(64).read_to_end(&mut content)?;
    let rest = content.strip_prefix(MADE);
    let digits = rest.and_then(|rest| rest.get(..DIGITS));
    let number = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    Ok(Note {
        is_made: rest.is_some(),
        committed: number.map(Revision),
    })
}

/// Says that a database has been made, and nothing about its commits.
pub(super) fn mark_made(lock: &File) -> io::Result<()> {
    lock.set_len(0)?;
    lock.write_all_at(MADE, 0)?;
    lock.sync_all()
}

/// Says which revision was committed.
pub(super) fn committed(lock: &File, revision: Revision) -> io::Result<()> {
    let line = format!("{:0DIGITS$}\n", revision.0);
    lock.write_all_at(line.as_bytes(), MADE.len() as u64)
}
