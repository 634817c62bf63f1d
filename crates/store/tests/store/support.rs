//! What the tests share.

use std::path::PathBuf;

use bytes::Bytes;
use store::{Expect, Options, Revision, Store, StoreError, Write};

/// A folder for one test, and the database in it.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
}

impl Place {
    pub(crate) fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(&self.path(), manual()).await.unwrap()
    }
}

/// Without background compaction.
pub(crate) fn manual() -> Options {
    Options {
        retention: None,
        ..Options::default()
    }
}

pub(crate) fn put(key: &str, expect: Expect, value: impl Into<Bytes>) -> Write {
    Write::put(key, expect, value)
}

pub(crate) fn delete(key: &str, at: Revision) -> Write {
    Write::delete(key, Expect::At(at))
}

pub(crate) async fn create(
    store: &Store,
    key: &str,
    value: &'static str,
) -> Result<Revision, StoreError> {
    store.write(put(key, Expect::Absent, value)).await
}
