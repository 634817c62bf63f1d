//! Shared caches of objects, kept current by one watch each.
//!
//! Invariants: one writer (the reflector's task) and many readers; a handler sees every change
//! once and in order; when a handler runs, the cache already holds what it is told about.

use crate::reflector::{Change, Reflector};
use crate::{Client, Key, Object};
use std::any::{Any, TypeId};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Which objects of a kind a cache holds.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Selector {
    /// Label selector in query syntax.
    pub labels: Option<String>,
    /// Field selector in query syntax.
    pub fields: Option<String>,
}

impl Selector {
    /// All objects.
    pub fn all() -> Self {
        Self::default()
    }
    /// Objects whose fields match, for example `spec.nodeName=a`.
    pub fn fields(selector: impl Into<String>) -> Self {
        Self {
            labels: None,
            fields: Some(selector.into()),
        }
    }
    /// Objects whose labels match.
    pub fn labels(selector: impl Into<String>) -> Self {
        Self {
            labels: Some(selector.into()),
            fields: None,
        }
    }
}

type CacheId = (TypeId, String, Selector);

/// The shared caches of this process: at most one for each kind and selector.
#[derive(Clone)]
pub struct Informers {
    client: Client,
    drain: CancellationToken,
    tasks: TaskTracker,
    caches: Arc<Mutex<HashMap<CacheId, Arc<dyn Any + Send + Sync>>>>,
}

impl Informers {
    /// Caches filled through `client` until `drain` is cancelled.
    pub fn new(client: Client, drain: CancellationToken) -> Self {
        Self {
            client,
            drain,
            tasks: TaskTracker::new(),
            caches: Arc::default(),
        }
    }

    /// The client behind the caches.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The cache of all objects of kind `K`.
    pub fn get<K: Object + kube::Resource<DynamicType = ()>>(&self) -> Informer<K> {
        self.get_with(Selector::all())
    }

    /// The cache of the objects of kind `K` that match `selector`.
    pub fn get_with<K: Object + kube::Resource<DynamicType = ()>>(
        &self,
        selector: Selector,
    ) -> Informer<K> {
        self.at(&K::url_path(&(), None), selector)
    }

    /// The cache of the collection at a URL path such as `/apis/apps/v1/deployments`.
    ///
    /// Must be called on a tokio runtime: the first call for a collection starts its watch.
    pub fn at<K: Object>(&self, path: &str, selector: Selector) -> Informer<K> {
        let id = (TypeId::of::<K>(), path.to_owned(), selector.clone());
        let mut caches = lock(&self.caches);
        if let Some(cache) = caches.get(&id).cloned()
            && let Ok(shared) = cache.downcast::<Shared<K>>()
        {
            return Informer { shared };
        }
        let shared = Arc::new(Shared::<K>::default());
        caches.insert(id, shared.clone());
        let reflector = Reflector::new(self.client.clone(), path.to_owned(), selector);
        let (drain, writer) = (self.drain.clone(), shared.clone());
        self.tasks.spawn(async move {
            drain
                .run_until_cancelled(reflector.run(|change| writer.apply(change)))
                .await;
            writer.close();
        });
        Informer { shared }
    }

    /// Waits until every watch has ended (after the drain).
    pub async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}

/// Answers whether it wants to hear more.
type Handler<K> = Box<dyn FnMut(Option<&Arc<K>>, Option<&Arc<K>>) -> bool + Send>;
type Names<K> = BTreeMap<Box<str>, Arc<K>>;

struct Shared<K> {
    objects: RwLock<BTreeMap<Box<str>, Names<K>>>,
    /// Locked around every change, so that a handler's first replay has no gap and no double.
    /// `None` once closed.
    handlers: Mutex<Option<Vec<Handler<K>>>>,
    synced: watch::Sender<bool>,
}

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Self {
            objects: RwLock::default(),
            handlers: Mutex::new(Some(Vec::new())),
            synced: watch::Sender::new(false),
        }
    }
}

impl<K: Object> Shared<K> {
    fn read<R>(&self, f: impl FnOnce(&BTreeMap<Box<str>, Names<K>>) -> R) -> R {
        f(&self.objects.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn list(&self) -> Vec<Arc<K>> {
        self.read(|o| o.values().flat_map(BTreeMap::values).cloned().collect())
    }

    fn apply(&self, change: Change<K>) {
        let mut handlers = lock(&self.handlers);
        match change {
            Change::Replaced(objects) => {
                let mut gone: HashSet<Key> = self.list().iter().map(|o| o.key()).collect();
                for object in objects {
                    gone.remove(&object.key());
                    self.put(handlers.as_mut(), object);
                }
                for key in gone {
                    self.remove(handlers.as_mut(), &key, None);
                }
                self.synced.send_replace(true);
            }
            Change::Applied(object) => self.put(handlers.as_mut(), object),
            Change::Deleted(object) => {
                let key = object.key();
                self.remove(handlers.as_mut(), &key, Some(Arc::new(object)));
            }
        }
    }

    fn put(&self, handlers: Option<&mut Vec<Handler<K>>>, mut object: K) {
        object.compact();
        let key = object.key();
        let new = Arc::new(object);
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let names = match objects.get_mut(key.namespace.as_str()) {
                Some(names) => names,
                None => objects.entry(key.namespace.as_str().into()).or_default(),
            };
            if let Some(old) = names.get(key.name.as_str())
                && old.uid() == new.uid()
                && old.resource_version() == new.resource_version()
                && !new.resource_version().is_empty()
            {
                return;
            }
            names.insert(key.name.into_boxed_str(), new.clone())
        };
        let Some(handlers) = handlers else { return };
        match old {
            Some(old) if old.uid() != new.uid() => {
                handlers.retain_mut(|h| h(Some(&old), None) && h(None, Some(&new)));
            }
            old => handlers.retain_mut(|h| h(old.as_ref(), Some(&new))),
        }
    }

    fn remove(&self, handlers: Option<&mut Vec<Handler<K>>>, key: &Key, last: Option<Arc<K>>) {
        let old = {
            let mut objects = self.objects.write().unwrap_or_else(PoisonError::into_inner);
            let Some(names) = objects.get_mut(key.namespace.as_str()) else {
                return;
            };
            let old = names.remove(key.name.as_str());
            if names.is_empty() {
                objects.remove(key.namespace.as_str());
            }
            old
        };
        let Some(old) = old else { return };
        // The body of the DELETED event is the newest state, but only of the same object.
        let last = last.filter(|l| l.uid() == old.uid()).unwrap_or(old);
        if let Some(handlers) = handlers {
            handlers.retain_mut(|h| h(Some(&last), None));
        }
    }

    fn register(&self, mut handler: Handler<K>) {
        let mut handlers = lock(&self.handlers);
        let Some(handlers) = handlers.as_mut() else {
            return;
        };
        for object in self.list() {
            if !handler(None, Some(&object)) {
                return;
            }
        }
        handlers.push(handler);
    }

    /// No change comes any more: whoever waits for one is released.
    fn close(&self) {
        drop(lock(&self.handlers).take());
        self.synced.send_modify(|_| ());
    }
}

/// A read-only, always current cache of one kind. Cloning shares it.
pub struct Informer<K> {
    shared: Arc<Shared<K>>,
}

impl<K> Clone for Informer<K> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<K: Object> Informer<K> {
    /// Waits until the first complete list is in the cache (or the process drains).
    pub async fn synced(&self) {
        let mut synced = self.shared.synced.subscribe();
        while !*synced.borrow_and_update() {
            if lock(&self.shared.handlers).is_none() || synced.changed().await.is_err() {
                return;
            }
        }
    }

    /// Whether the first complete list is in the cache.
    pub fn is_synced(&self) -> bool {
        *self.shared.synced.borrow()
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.shared.read(|o| o.get(namespace)?.get(name).cloned())
    }

    /// One object by its key.
    pub fn get_key(&self, key: &Key) -> Option<Arc<K>> {
        self.get(&key.namespace, &key.name)
    }

    /// Every object, ordered by key.
    pub fn list(&self) -> Vec<Arc<K>> {
        self.shared.list()
    }

    /// Every object of a namespace, ordered by name.
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<K>> {
        self.shared.read(|o| {
            o.get(namespace)
                .map(|n| n.values().cloned().collect())
                .unwrap_or_default()
        })
    }

    /// The keys that change from now on, beginning with all that are there.
    pub fn subscribe(&self) -> Subscription {
        let dirty = Arc::new(Dirty::default());
        let end = Closer(dirty.clone());
        self.shared.register(Box::new(move |old, new| {
            new.or(old).is_none_or(|object| end.0.add(object.key()))
        }));
        Subscription { dirty }
    }

    /// Calls `handler(old, new)` in order for every change, beginning with all that is there
    /// as `(None, Some)`; a deletion is `(Some, None)`. It runs on the watch's own task: it must
    /// be quick (put keys in a queue) and must not register a handler on the same informer.
    pub fn on_change<F>(&self, mut handler: F)
    where
        F: FnMut(Option<&Arc<K>>, Option<&Arc<K>>) + Send + 'static,
    {
        self.shared.register(Box::new(move |old, new| {
            handler(old, new);
            true
        }));
    }

    /// A secondary index: `keys` names the entries under which an object is found. A handler
    /// that is registered after the index sees the index current.
    pub fn index<F>(&self, keys: F) -> Index<K>
    where
        F: Fn(&K) -> Vec<String> + Send + 'static,
    {
        let index = Index {
            entries: Arc::default(),
        };
        let writer = index.clone();
        self.on_change(move |old, new| {
            let mut entries = writer
                .entries
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            if let Some(old) = old {
                for key in keys(old) {
                    if let Some(found) = entries.get_mut(&key) {
                        found.remove(&old.key());
                        if found.is_empty() {
                            entries.remove(&key);
                        }
                    }
                }
            }
            if let Some(new) = new {
                for key in keys(new) {
                    entries
                        .entry(key)
                        .or_default()
                        .insert(new.key(), new.clone());
                }
            }
        });
        index
    }
}

type Entries<K> = HashMap<String, BTreeMap<Key, Arc<K>>>;

/// Objects found by something other than their name.
pub struct Index<K> {
    entries: Arc<RwLock<Entries<K>>>,
}

impl<K> Clone for Index<K> {
    fn clone(&self) -> Self {
        Self {
            entries: self.entries.clone(),
        }
    }
}

impl<K: Object> Index<K> {
    /// The objects under `key`, ordered by key.
    pub fn get(&self, key: &str) -> Vec<Arc<K>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries
            .get(key)
            .map(|found| found.values().cloned().collect())
            .unwrap_or_default()
    }

    /// The object called `name` under `key`.
    pub fn find(&self, key: &str, name: &Key) -> Option<Arc<K>> {
        let entries = self.entries.read().unwrap_or_else(PoisonError::into_inner);
        entries.get(key)?.get(name).cloned()
    }
}

#[derive(Default)]
struct Dirty {
    keys: Mutex<DirtyKeys>,
    changed: Notify,
}

#[derive(Default)]
struct DirtyKeys {
    order: VecDeque<Key>,
    members: HashSet<Key>,
    /// The watch has ended.
    closed: bool,
    /// Nobody reads any more.
    dropped: bool,
}

impl Dirty {
    fn add(&self, key: Key) -> bool {
        let mut keys = lock(&self.keys);
        if keys.members.insert(key.clone()) {
            keys.order.push_back(key);
            self.changed.notify_one();
        }
        !keys.dropped
    }
}

/// Tells the subscriber that the informer has ended, when the handler that owns it is dropped.
struct Closer(Arc<Dirty>);

impl Drop for Closer {
    fn drop(&mut self) {
        lock(&self.0.keys).closed = true;
        self.0.changed.notify_one();
    }
}

/// The keys of changed objects; a key that changes twice before it is read comes once.
pub struct Subscription {
    dirty: Arc<Dirty>,
}

impl Subscription {
    /// The next changed key: look it up in the cache, it may be gone. `None` after the drain.
    /// Cancel-safe.
    pub async fn next(&mut self) -> Option<Key> {
        loop {
            {
                let mut keys = lock(&self.dirty.keys);
                if let Some(key) = keys.order.pop_front() {
                    keys.members.remove(&key);
                    return Some(key);
                }
                if keys.closed {
                    return None;
                }
            }
            self.dirty.changed.notified().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.dirty.keys).dropped = true;
    }
}

/// A poisoned lock only says that a reader panicked: the data is whole after every change.
fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
