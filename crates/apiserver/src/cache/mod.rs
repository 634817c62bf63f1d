//! The watch cache: the state of every kind, fed by one subscription of the store.
//!
//! Invariants: one task applies events, in the order of their revisions; `applied` is N only when
//! every event up to N is in the maps and the rings.

pub(crate) mod fields;
pub(crate) mod filter;
mod kind;
mod object;
pub(crate) mod watcher;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use store::{ListOptions, Revision, Store, StoreError, Subscription};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use fields::Selectable;
pub use kind::{Change, KindCache, Snapshot};
pub(crate) use object::frame;
pub use object::{EventType, Object};

use crate::error::StartError;
use crate::storage;

type Kinds = HashMap<(String, String), Arc<KindCache>>;

/// The cache of everything in the store.
pub struct Cache {
    kinds: RwLock<Kinds>,
    applied: watch::Sender<Revision>,
    loaded_at: Revision,
    alive: AtomicBool,
}

impl Cache {
    /// Loads the cache; the subscription is for [`Cache::follow`].
    pub(crate) async fn load(store: &Store) -> Result<(Arc<Self>, Subscription), StartError> {
        let options = ListOptions {
            prefix: storage::ROOT,
            ..ListOptions::default()
        };
        let page = store.list(options).await.map_err(StartError::Load)?;
        let subscription = store
            .subscribe_with_progress(storage::ROOT, page.revision)
            .map_err(StartError::Load)?;
        let cache = Arc::new(Self {
            kinds: RwLock::default(),
            applied: watch::Sender::new(page.revision),
            loaded_at: page.revision,
            alive: AtomicBool::new(true),
        });
        for entry in page.entries {
            let Some((group, plural, local)) = storage::split(&entry.key) else {
                continue;
            };
            let kind = cache.kind(group, plural);
            let key = Arc::from(local);
            match Object::from_stored(
                key,
                &entry.value,
                entry.modified,
                EventType::Added,
                kind.schema,
            ) {
                Ok(object) => kind.load(object),
                Err(broken) => {
                    tracing::error!(key = %entry.key, "{}", stdx::chain::chain(&broken));
                }
            }
        }
        Ok((cache, subscription))
    }

    /// The cache of a kind, by its storage group and plural.
    pub fn kind(&self, group: &str, plural: &str) -> Arc<KindCache> {
        let key = (group.to_owned(), plural.to_owned());
        if let Some(kind) = self
            .kinds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(&key)
        {
            return kind.clone();
        }
        let mut kinds = self.kinds.write().unwrap_or_else(PoisonError::into_inner);
        kinds
            .entry(key)
            .or_insert_with(|| Arc::new(KindCache::new(group, plural, self.loaded_at)))
            .clone()
    }

    /// All kinds that have a cache.
    pub fn kinds(&self) -> Vec<Arc<KindCache>> {
        self.kinds
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// How far the cache is.
    pub fn applied(&self) -> Revision {
        *self.applied.borrow()
    }

    /// Whether the cache still follows the store.
    pub fn alive(&self) -> bool {
        self.alive.load(Ordering::Acquire)
    }

    /// Waits until the cache has applied a revision; false when that does not happen in time.
    pub async fn wait(&self, revision: Revision, limit: Duration) -> bool {
        if self.applied() >= revision {
            return true;
        }
        let mut applied = self.applied.subscribe();
        let reached = applied.wait_for(|at| *at >= revision);
        matches!(tokio::time::timeout(limit, reached).await, Ok(Ok(_)))
    }

    /// Applies the store's events until the drain; the one writer of the cache.
    pub(crate) async fn follow(
        self: Arc<Self>,
        store: Store,
        mut subscription: Subscription,
        drain: CancellationToken,
    ) {
        loop {
            let batch = tokio::select! {
                () = drain.cancelled() => break,
                batch = subscription.next() => batch,
            };
            match batch {
                Ok(batch) => {
                    for event in &batch.events {
                        let Some((group, plural, local)) = storage::split(&event.key) else {
                            continue;
                        };
                        self.kind(group, plural).apply(local, event);
                    }
                    self.applied.send_replace(batch.through);
                }
                Err(StoreError::Lagged) => match store.subscribe(storage::ROOT, self.applied()) {
                    Ok(fresh) => subscription = fresh,
                    Err(error) => {
                        tracing::error!("the cache lost the store: {}", stdx::chain::chain(&error));
                        break;
                    }
                },
                Err(StoreError::Closed) => break,
                Err(error) => {
                    tracing::error!("the cache lost the store: {}", stdx::chain::chain(&error));
                    break;
                }
            }
        }
        self.alive.store(false, Ordering::Release);
    }
}
