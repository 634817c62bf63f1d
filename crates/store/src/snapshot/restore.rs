//! Restoring: which entries of a snapshot come back, and at which revisions.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Progress, REVISION_BUMP, Reader, Snapshot, SnapshotError, Step};
use crate::{Entry, EtcdConfig, Revision, Store};

/// How a snapshot is restored.
#[derive(Debug, Clone, Default)]
pub struct RestoreOptions {
    /// Whether a database that is there already makes way; it is kept under another name. What is in
    /// an etcd never makes way.
    pub replace: bool,
    /// The ids of the keys that sealed values can be opened with; `None` when nobody asks.
    pub keys: Option<Vec<u32>>,
    /// Whether values that need other keys are left out, rather than an error.
    pub drop_unreadable: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// The snapshot.
    pub snapshot: Snapshot,
    /// How many entries came back.
    pub entries: u64,
    /// How many were left out because their time was over.
    pub expired: u64,
    /// How many were left out because the key that they are sealed with is not at hand.
    pub unreadable: u64,
    /// The revision of the restored store.
    pub revision: Revision,
    /// Where the store is kept that was there before.
    pub kept: Option<PathBuf>,
    /// Whether a store made way whose revision could not be read. Clients that have seen it must be
    /// started again if it had gone on by more than [`REVISION_BUMP`] since the snapshot.
    pub lineage_unknown: bool,
}

impl Store {
    /// Makes the SQLite database at `path` out of a snapshot. Blocks.
    ///
    /// The database comes into its place only when it is whole. Killed at any point, what was there is
    /// untouched, or [`Store::open`] says that the restore has to be run again, which can be done.
    ///
    /// # Errors
    /// A process has the database open, it is there and not to be replaced, the snapshot is not whole
    /// or needs other keys, or the disk failed.
    pub fn restore_sqlite(
        snapshot: &Path,
        path: &Path,
        options: &RestoreOptions,
        progress: Progress<'_>,
    ) -> Result<Restored, SnapshotError> {
        crate::sqlite::restore(snapshot, path, options, progress)
    }

    /// Fills a prefix of an etcd out of a snapshot. Blocks, and runs a runtime of its own: it is not to
    /// be called on a worker of one. No server may use the prefix meanwhile.
    ///
    /// Killed at any point, [`Store::connect`] says that the restore has to be run again, which can be
    /// done.
    ///
    /// # Errors
    /// There are entries under the prefix, the snapshot is not whole or needs other keys, or etcd cannot
    /// be reached or refuses.
    pub fn restore_etcd(
        snapshot: &Path,
        config: &EtcdConfig,
        options: &RestoreOptions,
        progress: Progress<'_>,
    ) -> Result<Restored, SnapshotError> {
        crate::etcd::restore(snapshot, config, options, progress)
    }
}

/// The entries of a snapshot that come back, with their new revisions.
pub(crate) struct Returning<'a> {
    reader: Reader,
    options: &'a RestoreOptions,
    progress: Progress<'a>,
    now: SystemTime,
    floor: Revision,
    newest: Revision,
    entries: u64,
    expired: u64,
    unreadable: u64,
}

impl<'a> Returning<'a> {
    /// Begins after a revision that is above those of the snapshot and of the store that it replaces.
    pub(crate) fn new(
        reader: Reader,
        options: &'a RestoreOptions,
        replaced: Option<Revision>,
        progress: Progress<'a>,
    ) -> Result<Returning<'a>, SnapshotError> {
        let snapshot = reader.snapshot();
        if let Some(keys) = options.keys.as_ref().filter(|_| !options.drop_unreadable)
            && let Some(key) = snapshot.seal_keys.iter().find(|key| !keys.contains(key))
        {
            return Err(SnapshotError::MissingKey {
                path: snapshot.path.clone(),
                key: *key,
            });
        }
        let seen = snapshot.revision.max(replaced.unwrap_or_default());
        let floor = Revision(seen.0.saturating_add(REVISION_BUMP));
        Ok(Returning {
            floor,
            newest: floor,
            reader,
            options,
            progress,
            now: SystemTime::now(),
            entries: 0,
            expired: 0,
            unreadable: 0,
        })
    }

    /// The next entry that comes back.
    pub(crate) fn next(&mut self) -> Result<Option<Entry>, SnapshotError> {
        while let Some(mut entry) = self.reader.next()? {
            if entry.expires.is_some_and(|expires| expires <= self.now) {
                self.expired += 1;
                continue;
            }
            let keys = self
                .options
                .keys
                .as_ref()
                .filter(|_| self.options.drop_unreadable);
            if let (Some(keys), Some(id)) = (keys, crate::sealed_with(&entry.value))
                && !keys.contains(&id)
            {
                self.unreadable += 1;
                continue;
            }
            self.newest.0 += 1;
            self.entries += 1;
            entry.created = self.newest;
            entry.modified = self.newest;
            (self.progress)(Step::Entries(self.entries));
            return Ok(Some(entry));
        }
        Ok(None)
    }

    /// What came back, when all did.
    pub(crate) fn finish(
        self,
        revision: Revision,
        kept: Option<PathBuf>,
        lineage_unknown: bool,
    ) -> Restored {
        Restored {
            entries: self.entries,
            expired: self.expired,
            unreadable: self.unreadable,
            revision,
            snapshot: self.reader.into_snapshot(),
            kept,
            lineage_unknown,
        }
    }

    /// The revision that every new one is above.
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    /// One after the last entry's revision: where the history of the restored store begins.
    pub(crate) fn end(&self) -> Revision {
        Revision(self.newest.0 + 1)
    }
}
