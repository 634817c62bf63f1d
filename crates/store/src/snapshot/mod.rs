//! Snapshots: everything in a store at one revision, in one file that any engine can be filled from.
//!
//! Invariants:
//! - a file under its final name is whole: it was written beside, synced, and renamed;
//! - nothing is restored from a file before all of it was read and its checksum found right;
//! - a restored store is ahead of every revision that a client can have seen (see [`REVISION_BUMP`]),
//!   and has no history, so that whoever watched before must list again;
//! - memory is bounded by the largest value, whatever the size of the store;
//! - sealed values stay sealed: whoever restores them needs the key file too.

mod error;
mod format;
mod restore;
mod save;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::Revision;

pub use error::SnapshotError;
pub(crate) use format::Reader;
pub(crate) use restore::Returning;
pub use restore::{RestoreOptions, Restored};

/// How far the revisions of a restored store are above those of its snapshot. The store may have gone
/// on after the snapshot, and its clients must not see a revision twice. This is what etcd's
/// documentation on disaster recovery gives `etcdutl snapshot restore --bump-revision` (with
/// `--mark-compacted`), reckoning with more writes in between than any cluster makes in a week.
pub const REVISION_BUMP: u64 = 1_000_000_000;

/// What a snapshot says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The file.
    pub path: PathBuf,
    /// The size of the file, in bytes.
    pub size_bytes: u64,
    /// When it was begun.
    pub created: SystemTime,
    /// The revision that it shows.
    pub revision: Revision,
    /// The engine that it was taken from: `sqlite` or `etcd`.
    pub engine: String,
    /// What its maker called it.
    pub label: String,
    /// How many entries are in it.
    pub entries: u64,
    /// The bytes of all keys and values.
    pub content_bytes: u64,
    /// The ids of the keys that its sealed values need.
    pub seal_keys: Vec<u32>,
}

impl Snapshot {
    /// Reads what a file says about itself, without reading all of it.
    ///
    /// # Errors
    /// It is cut short or not a snapshot; damage in the middle is not noticed.
    pub fn inspect(path: &Path) -> Result<Snapshot, SnapshotError> {
        format::inspect(path)
    }

    /// Reads all of a file, and says whether it is whole. Blocks.
    ///
    /// # Errors
    /// It is damaged, cut short, or not a snapshot.
    pub fn verify(path: &Path, progress: Progress<'_>) -> Result<Snapshot, SnapshotError> {
        let mut reader = Reader::open(path, progress)?;
        while reader.next()?.is_some() {}
        Ok(reader.into_snapshot())
    }
}

/// How far work has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// So many bytes of the file were checked.
    Checked(u64),
    /// So many entries were written.
    Entries(u64),
}

/// Hears how far work has come.
pub type Progress<'a> = &'a (dyn Fn(Step) + Send + Sync);
