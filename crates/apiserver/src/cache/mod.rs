//! The watch cache: the state of every kind, fed by one subscription of the store.
//!
//! Invariants: one task applies events, in the order of their revisions; `applied` is N only when
//! every event up to N is in the maps and the rings, and in what observers made of them. When events
//! were lost on the way the cache is loaded anew, and is not alive until that is done.

pub(crate) mod fields;
pub(crate) mod filter;
mod kind;
mod object;
pub(crate) mod watcher;

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use stdx::Backoff;
use store::{ListOptions, Page, Revision, Store, StoreError, Subscription};
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
    /// The revision at which everything was loaded last.
    loaded_at: AtomicU64,
    alive: AtomicBool,
}

impl Cache {
    /// Loads the cache; the subscription is for [`Cache::follow`].
    pub(crate) async fn load(store: &Store) -> Result<(Arc<Self>, Subscription), StartError> {
        let (state, subscription) = read(store).await.map_err(StartError::Load)?;
        let cache = Arc::new(Self {
            kinds: RwLock::default(),
            applied: watch::Sender::new(state.revision),
            loaded_at: AtomicU64::new(state.revision.0),
            alive: AtomicBool::new(true),
        });
        cache.replace(state);
        Ok((cache, subscription))
    }

    /// Puts a state of the store in the place of all that there is.
    fn replace(&self, state: Page) {
        let revision = state.revision;
        self.loaded_at.store(revision.0, Ordering::Release);
        let mut objects: HashMap<(String, String), BTreeMap<Arc<str>, Arc<Object>>> =
            HashMap::new();
        for entry in &state.entries {
            let Some((group, plural, local)) = storage::split(&entry.key) else {
                continue;
            };
            let (key, schema) = (Arc::from(local), self.kind(group, plural).schema);
            let event = EventType::Added;
            match Object::from_stored(key, &entry.value, entry.modified, event, schema) {
                Ok(object) => {
                    let kind = objects
                        .entry((group.to_owned(), plural.to_owned()))
                        .or_default();
                    kind.insert(object.key.clone(), Arc::new(object));
                }
                Err(broken) => {
                    tracing::error!(key = %entry.key, "{}", stdx::chain::chain(&broken));
                }
            }
        }
        for kind in self.kinds() {
            let name = (kind.group.clone(), kind.plural.clone());
            let objects = objects.get_mut(&name).map(std::mem::take);
            kind.replace(objects.unwrap_or_default(), revision);
        }
        self.applied.send_replace(revision);
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
            .or_insert_with(|| {
                let floor = Revision(self.loaded_at.load(Ordering::Acquire));
                Arc::new(KindCache::new(group, plural, floor))
            })
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
                Err(StoreError::Closed) => break,
                Err(error) => {
                    tracing::warn!(
                        "the cache lost the store and loads anew: {}",
                        stdx::chain::chain(&error)
                    );
                    self.alive.store(false, Ordering::Release);
                    let reloaded = tokio::select! {
                        () = drain.cancelled() => break,
                        reloaded = self.reload(&store) => reloaded,
                    };
                    match reloaded {
                        Some(fresh) => subscription = fresh,
                        None => break,
                    }
                    self.alive.store(true, Ordering::Release);
                }
            }
        }
        self.alive.store(false, Ordering::Release);
        // Watchers see that the server ends.
        for kind in self.kinds() {
            kind.wake();
        }
    }

    /// Loads everything again, until that succeeds or the store is closed.
    async fn reload(&self, store: &Store) -> Option<Subscription> {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
        loop {
            match read(store).await {
                Ok((state, subscription)) => {
                    self.replace(state);
                    return Some(subscription);
                }
                Err(StoreError::Closed) => return None,
                Err(error) => {
                    tracing::warn!("the cache cannot load: {}", stdx::chain::chain(&error));
                    tokio::time::sleep(backoff.next()).await;
                }
            }
        }
    }
}

/// The state of everything, and what happens after it.
async fn read(store: &Store) -> Result<(Page, Subscription), StoreError> {
    let options = ListOptions {
        prefix: storage::ROOT,
        ..ListOptions::default()
    };
    let state = store.list(options).await?;
    let subscription = store.subscribe_with_progress(storage::ROOT, state.revision)?;
    Ok((state, subscription))
}
