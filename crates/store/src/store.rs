//! The handle that callers hold, the same for every engine.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::backend::Backend;
use crate::hub::Hub;
use crate::{
    Entry, EtcdConfig, ListOptions, Metrics, Op, Options, Page, Revision, Seal, StoreError,
    Subscription, Write,
};

/// The longest key, in bytes.
const KEY_LIMIT_BYTES: usize = 2048;
/// The most writes of one transaction: what etcd takes unless told otherwise (`--max-txn-ops`).
const TRANSACTION_LIMIT: usize = 128;

/// A revisioned key-value store. Clones share it.
///
/// When the last clone is dropped the engine finishes what it was given and ends; [`Store::close`]
/// waits for that.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    kind: &'static str,
    backend: Arc<dyn Backend>,
    hub: Arc<Hub>,
    options: Options,
}

impl Store {
    /// Opens the SQLite database at `path`, or makes one, and takes it for this process alone.
    ///
    /// # Errors
    /// The file is locked by another process, damaged, of another program, of a newer version, or
    /// cannot be read or written; each error names the file.
    pub async fn open(path: &Path, options: Options) -> Result<Store, StoreError> {
        let (hub, backend) = crate::sqlite::open(path, &options).await?;
        Ok(Store::new("sqlite", hub, Arc::new(backend), options))
    }

    /// Connects to an etcd, which other servers may use at the same time.
    ///
    /// # Errors
    /// etcd cannot be reached or does not trust us, or what is under the prefix is of a newer version
    /// or half restored.
    pub async fn connect(config: &EtcdConfig, options: Options) -> Result<Store, StoreError> {
        let (hub, backend) = crate::etcd::connect(config, &options).await?;
        Ok(Store::new("etcd", hub, Arc::new(backend), options))
    }

    pub(crate) fn new(
        kind: &'static str,
        hub: Arc<Hub>,
        backend: Arc<dyn Backend>,
        options: Options,
    ) -> Store {
        let inner = Inner {
            kind,
            backend,
            hub,
            options,
        };
        Store {
            inner: Arc::new(inner),
        }
    }

    /// The visible revision: every event up to it has been put into every subscriber's queue.
    #[must_use]
    pub fn current(&self) -> Revision {
        self.inner.hub.current()
    }

    /// The oldest revision that can be listed at, or subscribed after, as far as is known here.
    #[must_use]
    pub fn compacted(&self) -> Revision {
        self.inner.hub.compacted()
    }

    /// Whether other processes may write to this store.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.inner.kind == "etcd"
    }

    /// Waits until everything is visible that had been acknowledged to anybody, on any server that
    /// shares this store, when this was called. Returns the visible revision.
    ///
    /// # Errors
    /// The engine cannot be asked, or the store is closed.
    pub async fn sync(&self) -> Result<Revision, StoreError> {
        let newest = self.inner.backend.newest().await?;
        self.inner.hub.published(newest).await?;
        Ok(self.current())
    }

    /// The live entry of a key.
    ///
    /// # Errors
    /// The database cannot be read, or the store is closed.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let Some(mut entry) = self.inner.backend.get(key).await? else {
            return Ok(None);
        };
        self.inner.hub.published(entry.modified).await?;
        self.open_entry(&mut entry)?;
        Ok(Some(entry))
    }

    /// The entries of a prefix at one revision, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`] when that revision cannot be read; or the
    /// database cannot be read, or the store is closed.
    pub async fn list(&self, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let mut page = self.list_sealed(options).await?;
        for entry in &mut page.entries {
            self.open_entry(entry)?;
        }
        Ok(page)
    }

    /// As [`Store::list`], with values as they are stored: sealed ones stay sealed.
    ///
    /// # Errors
    /// As of [`Store::list`].
    pub async fn list_sealed(&self, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let page = self.inner.backend.list(options).await?;
        self.inner.hub.published(page.revision).await?;
        Ok(page)
    }

    /// Writes one key if its precondition holds; see [`Store::transact`].
    ///
    /// # Errors
    /// As of [`Store::transact`].
    pub async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        let revisions = self.transact(vec![write]).await?;
        // One write has one revision.
        revisions.first().copied().ok_or(StoreError::Closed)
    }

    /// Writes some keys if all of their preconditions hold, or none. Returns the revision of each
    /// change: for a put of the same bytes the revision that the key has, for a deletion of what is
    /// expected absent the current one. The changes are durable and published when this returns.
    ///
    /// A cancelled call may or may not have happened.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when a precondition does not hold, [`StoreError::Full`] when there is
    /// no space; or the writes are not acceptable, the engine failed, or the store is closed.
    pub async fn transact(&self, mut writes: Vec<Write>) -> Result<Vec<Revision>, StoreError> {
        self.check(&writes)?;
        if writes.is_empty() {
            return Ok(Vec::new());
        }
        let mut _writing = None;
        if let Some(seal) = self.seal() {
            _writing = Some(seal.writing().await);
            for write in &mut writes {
                if let Op::Put { value, .. } = &mut write.op {
                    *value = seal.seal(&write.key, std::mem::take(value))?;
                }
            }
        }
        let revisions = match self.inner.backend.transact(writes).await {
            Ok(revisions) => revisions,
            Err(StoreError::Conflict { key, mut current }) => {
                if let Some(entry) = &mut current {
                    self.inner.hub.published(entry.modified).await?;
                    self.open_entry(entry)?;
                }
                return Err(StoreError::Conflict { key, current });
            }
            Err(error) => {
                crate::metrics::count(&self.inner.hub.counters().failed);
                return Err(error);
            }
        };
        if let Some(last) = revisions.iter().max() {
            self.inner.hub.published(*last).await?;
        }
        Ok(revisions)
    }

    /// The events of a prefix after a revision: history first, then live, without gap and in order.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when `after` is too old, [`StoreError::Closed`].
    pub fn subscribe(&self, prefix: &str, after: Revision) -> Result<Subscription, StoreError> {
        self.seat(prefix, after, false)
    }

    /// As [`Store::subscribe`], and tells of progress too: a batch without events says how far the
    /// store is when nothing under the prefix has changed.
    ///
    /// # Errors
    /// As of [`Store::subscribe`].
    pub fn subscribe_with_progress(
        &self,
        prefix: &str,
        after: Revision,
    ) -> Result<Subscription, StoreError> {
        self.seat(prefix, after, true)
    }

    fn seat(
        &self,
        prefix: &str,
        after: Revision,
        progress: bool,
    ) -> Result<Subscription, StoreError> {
        let Inner { hub, backend, .. } = &*self.inner;
        let limit_bytes = self.inner.options.subscription_limit_bytes;
        let seat = hub.seat(prefix, after, limit_bytes, progress)?;
        Ok(Subscription::new(seat, after, hub.clone(), backend.clone()))
    }

    /// Forgets the history before `up_to`; what was live at `up_to` stays. Returns when it is gone.
    ///
    /// # Errors
    /// [`StoreError::Future`] when `up_to` has not happened yet; or the database failed, or the store
    /// is closed.
    pub async fn compact(&self, up_to: Revision) -> Result<(), StoreError> {
        let current = self.current();
        if up_to > current {
            return Err(StoreError::Future {
                requested: up_to,
                current,
            });
        }
        self.inner.backend.compact(up_to).await
    }

    /// What seals values, if anything does.
    pub(crate) fn seal(&self) -> Option<&Arc<Seal>> {
        self.inner.options.seal.as_ref()
    }

    /// The engine's name.
    pub(crate) fn kind(&self) -> &'static str {
        self.inner.kind
    }

    /// A page for a snapshot: as [`Store::list_sealed`], without a count of what remains.
    pub(crate) async fn scan(&self, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let page = self.inner.backend.scan(options).await?;
        self.inner.hub.published(page.revision).await?;
        Ok(page)
    }

    /// Makes sure that nothing of what was deleted or replaced before can be read from the disk: the
    /// history goes, and the engine writes its file anew where it keeps one. Takes a while, and writes
    /// wait meanwhile.
    ///
    /// # Errors
    /// There is no space for a second copy, the engine failed, or the store is closed.
    pub async fn scrub(&self) -> Result<(), StoreError> {
        self.compact(self.current()).await?;
        self.inner.backend.scrub().await
    }

    /// The store's figures.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let (hub, counters) = (&self.inner.hub, self.inner.hub.counters());
        let load = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
        let sizes = self.inner.backend.sizes();
        Metrics {
            backend: self.inner.kind,
            queue_seconds: counters.queue_seconds.snapshot(),
            commit_seconds: counters.commit_seconds.snapshot(),
            batch: counters.batch.snapshot(),
            failed: load(&counters.failed),
            database_bytes: sizes.database,
            wal_bytes: sizes.wal,
            current: hub.current().0,
            history: hub.current().0.saturating_sub(hub.compacted().0),
            subscriptions: hub.subscriptions() as u64,
            lagged: load(&counters.lagged),
            expired: load(&counters.expired),
            reconnects: load(&counters.reconnects),
        }
    }

    /// Finishes the writes that were accepted, ends every subscription, and closes the engine. Other
    /// clones fail with [`StoreError::Closed`] afterwards.
    pub async fn close(self) {
        self.inner.backend.close().await;
    }

    fn open_entry(&self, entry: &mut Entry) -> Result<(), StoreError> {
        if let Some(seal) = &self.inner.options.seal {
            entry.value = seal.open(&entry.key, std::mem::take(&mut entry.value))?;
        }
        Ok(())
    }

    fn check(&self, writes: &[Write]) -> Result<(), StoreError> {
        let invalid = |detail| Err(StoreError::InvalidTransaction { detail });
        if writes.len() > TRANSACTION_LIMIT {
            return invalid(format!(
                "it has {} writes; the limit is {TRANSACTION_LIMIT}",
                writes.len()
            ));
        }
        let limit_bytes = self.inner.options.value_limit_bytes;
        let mut keys = HashSet::new();
        for write in writes {
            check_key(&write.key)?;
            if writes.len() > 1 && !keys.insert(write.key.as_str()) {
                return invalid(format!("it writes {} twice", write.key));
            }
            if let Op::Put { value, .. } = &write.op
                && value.len() > limit_bytes
            {
                return Err(StoreError::TooLarge {
                    key: write.key.clone(),
                    size_bytes: value.len(),
                    limit_bytes,
                });
            }
        }
        Ok(())
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_LIMIT_BYTES {
        let key = key.chars().take(80).collect();
        return Err(StoreError::InvalidKey {
            key,
            limit: KEY_LIMIT_BYTES,
        });
    }
    Ok(())
}
