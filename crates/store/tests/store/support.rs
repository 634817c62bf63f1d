//! What the tests share.

use std::path::PathBuf;

use bytes::Bytes;
use store::{Expect, Op, Options, Revision, Store, StoreError, Write};

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
    Write {
        key: key.to_owned(),
        expect,
        op: Op::Put(value.into()),
    }
}

pub(crate) fn delete(key: &str, at: Revision) -> Write {
    Write {
        key: key.to_owned(),
        expect: Expect::At(at),
        op: Op::Delete,
    }
}

pub(crate) async fn create(
    store: &Store,
    key: &str,
    value: &'static str,
) -> Result<Revision, StoreError> {
    store.write(put(key, Expect::Absent, value)).await
}
