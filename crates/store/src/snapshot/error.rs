//! What can go wrong with snapshots.

use std::io;
use std::path::{Path, PathBuf};

use crate::StoreError;

/// An error of a snapshot.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotError {
    /// The file is something else.
    #[error("{} is not a snapshot of Knarr", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
    },
    /// The end of the file is missing.
    #[error("the snapshot {} is cut short at {size_bytes} bytes; use another one, or copy it again", path.display())]
    CutShort {
        /// The file.
        path: PathBuf,
        /// How long it is.
        size_bytes: u64,
    },
    /// The file is complete, and not what was written.
    #[error("the snapshot {} is damaged ({detail}); use another one, or copy it again", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// The file was written by a newer version.
    #[error(
        "the snapshot {} has format {found}, and this version knows up to {known}; use the version that wrote it, or a newer one",
        path.display()
    )]
    TooNew {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that is understood.
        known: u32,
    },
    /// There is a file of that name already.
    #[error("{} exists already; choose another name, or remove it", path.display())]
    FileExists {
        /// The file.
        path: PathBuf,
    },
    /// Compaction was faster than the snapshot, again and again.
    #[error(
        "the history was compacted {attempts} times while the snapshot was being written; write it to a faster disk, or when less is going on"
    )]
    Overtaken {
        /// How often it was begun.
        attempts: u32,
    },
    /// What is to be restored to is not empty.
    #[error("there is a store in {place} already; move it away, or say that it is to be replaced")]
    NotEmpty {
        /// The database file, or the prefix.
        place: String,
    },
    /// Values in it are sealed with a key that is not at hand.
    #[error("the snapshot {} has values that are encrypted with the key {key:08x}, which is not at hand", path.display())]
    MissingKey {
        /// The file.
        path: PathBuf,
        /// The key's id.
        key: u32,
    },
    /// A file could not be read or made.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(crate) fn io_error(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> SnapshotError {
    let path = path.to_owned();
    move |source| SnapshotError::Io {
        action,
        path,
        source,
    }
}
