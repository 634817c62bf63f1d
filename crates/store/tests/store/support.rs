//! What the tests share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use bytes::Bytes;
use store::{Event, Expect, Options, Revision, Store, StoreError, Subscription, Write};

use crate::etcd_server::EtcdServer;

/// A place for one test's store: a file in a folder, or a prefix in an etcd.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    etcd: Option<(Arc<EtcdServer>, String)>,
}

impl Place {
    /// A place for a SQLite file.
    pub(crate) fn new() -> Place {
        Place {
            folder: tempfile::tempdir().unwrap(),
            etcd: None,
        }
    }

    /// A prefix in an etcd that this starts. `None`, and a word about it, when there is no etcd here.
    pub(crate) fn etcd() -> Option<Place> {
        EtcdServer::start(&[]).map(|server| Place::on(Arc::new(server)))
    }

    /// A fresh prefix.
    pub(crate) fn on(server: Arc<EtcdServer>) -> Place {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let prefix = format!("/test{}", NEXT.fetch_add(1, Ordering::Relaxed));
        Place {
            folder: tempfile::tempdir().unwrap(),
            etcd: Some((server, prefix)),
        }
    }

    /// Another place of the same engine.
    pub(crate) fn another(&self) -> Place {
        match &self.etcd {
            Some((server, _)) => Place::on(server.clone()),
            None => Place::new(),
        }
    }

    /// Whether nobody else writes here, so that revisions follow one another without a gap.
    pub(crate) fn is_alone(&self) -> bool {
        self.etcd.is_none()
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("state.db")
    }

    /// What another process opens it by: a path, or what `--datastore` takes.
    pub(crate) fn address(&self) -> String {
        match &self.etcd {
            Some((server, prefix)) => format!("{}{prefix}", server.endpoints()),
            None => self.path().to_str().unwrap().to_owned(),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        self.open_with(manual()).await
    }

    pub(crate) async fn open_with(&self, options: Options) -> Store {
        match &self.etcd {
            Some((server, prefix)) => server.connect(prefix, options).await.unwrap(),
            None => Store::open(&self.path(), options).await.unwrap(),
        }
    }

    /// Whether some bytes are anywhere on the disk.
    pub(crate) fn holds(&self, needle: &[u8]) -> bool {
        let root = match &self.etcd {
            Some((server, _)) => server.folder(),
            None => self.folder.path().to_owned(),
        };
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else if std::fs::read(&path)
                    .unwrap()
                    .windows(needle.len())
                    .any(|window| window == needle)
                {
                    return true;
                }
            }
        }
        false
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

/// Reads at least so many events.
pub(crate) async fn read(subscription: &mut Subscription, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(subscription.next().await.unwrap().events);
    }
    events
}

/// The revisions of events.
pub(crate) fn revisions(events: &[Event]) -> Vec<Revision> {
    events.iter().map(|event| event.revision).collect()
}
