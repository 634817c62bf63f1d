//! The objects of one resource, and the ring of its recent events.
//!
//! Invariants: every event of the kind with a revision above the ring's floor is in the ring; the
//! map is the state after the ring's last event.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock, RwLockReadGuard};

use store::{Event, EventKind, Revision};
use tokio::sync::watch;

use super::fields::{Selectable, selectable};
use super::object::{EventType, Object};

/// The most events that a ring keeps; older ones are read from the store.
const RING_EVENTS: usize = 1024;
/// The most bytes that a ring's events may hold.
const RING_BYTES: usize = 4 << 20;

/// One change, as watchers see it.
#[derive(Debug, Clone)]
pub struct Change {
    /// Its revision.
    pub revision: Revision,
    /// The object before, absent for a created one.
    pub before: Option<Arc<Object>>,
    /// The object after; of a deletion its last state, with the deletion's revision.
    pub object: Arc<Object>,
    /// Whether the object was deleted.
    pub deleted: bool,
}

impl Change {
    fn weight_bytes(&self) -> usize {
        self.object.weight_bytes() + self.before.as_ref().map_or(0, |b| b.weight_bytes())
    }
}

#[derive(Default)]
struct Inner {
    objects: BTreeMap<Arc<str>, Arc<Object>>,
    ring: VecDeque<Change>,
    ring_bytes: usize,
    floor: Revision,
    last: Revision,
}

/// Told of each change of an object, before anybody else can see it: what it was, and what it is.
pub(crate) type Observer = Box<dyn Fn(Option<&Object>, Option<&Object>) + Send + Sync>;

/// The cache of one resource.
pub struct KindCache {
    /// API group, empty for core.
    pub group: String,
    /// Plural name.
    pub plural: String,
    pub(super) schema: &'static [Selectable],
    inner: RwLock<Inner>,
    changed: watch::Sender<Revision>,
    generation: AtomicU64,
    observer: OnceLock<Observer>,
}

/// A consistent read: the objects, and the revision of which they are the state.
pub struct Snapshot {
    /// The objects in the order of their keys.
    pub objects: Vec<Arc<Object>>,
    /// The revision.
    pub revision: Revision,
}

impl KindCache {
    pub(super) fn new(group: &str, plural: &str, floor: Revision) -> Self {
        Self {
            group: group.to_owned(),
            plural: plural.to_owned(),
            schema: selectable(group, plural),
            inner: RwLock::new(Inner {
                floor,
                last: floor,
                ..Inner::default()
            }),
            changed: watch::Sender::new(floor),
            generation: AtomicU64::new(0),
            observer: OnceLock::new(),
        }
    }

    /// Sets who is told of changes; once, before the cache follows the store.
    pub(crate) fn observe(&self, observer: Observer) {
        // A second one would be a mistake of the caller's that no test could miss.
        let set = self.observer.set(observer);
        debug_assert!(set.is_ok(), "one observer a kind");
    }

    fn tell(&self, before: Option<&Object>, after: Option<&Object>) {
        if let Some(observer) = self.observer.get() {
            observer(before, after);
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts the changes so far: lets readers that derive something know when to do it again.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// One object.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<Object>> {
        if namespace.is_empty() {
            self.read().objects.get(name).cloned()
        } else {
            self.get_key(&crate::storage::local(namespace, name))
        }
    }

    /// One object by `namespace/name` or `name`.
    pub fn get_key(&self, key: &str) -> Option<Arc<Object>> {
        self.read().objects.get(key).cloned()
    }

    /// All objects, or those of one namespace.
    pub fn list(&self, namespace: Option<&str>) -> Vec<Arc<Object>> {
        self.range(namespace, None, |_| true, usize::MAX, Revision(0))
            .0
            .objects
    }

    /// How many objects there are.
    pub fn len(&self) -> usize {
        self.read().objects.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a namespace has any object of this kind.
    pub fn any_in(&self, namespace: &str) -> bool {
        !self
            .range(Some(namespace), None, |_| true, 1, Revision(0))
            .0
            .objects
            .is_empty()
    }

    /// The objects that `keep` lets through, from after a key, at most `limit`; `applied` is how
    /// far the whole cache is. The second value: how many objects are left after the last one
    /// (counted without `keep`).
    pub(crate) fn range(
        &self,
        namespace: Option<&str>,
        after: Option<&str>,
        keep: impl Fn(&Object) -> bool,
        limit: usize,
        applied: Revision,
    ) -> (Snapshot, usize) {
        let prefix = namespace.map(|n| format!("{n}/"));
        let inner = self.read();
        let start = match (after, prefix.as_deref()) {
            (Some(after), _) => Bound::Excluded(after),
            (None, Some(prefix)) => Bound::Included(prefix),
            (None, None) => Bound::Unbounded,
        };
        let mut rest = inner
            .objects
            .range::<str, _>((start, Bound::Unbounded))
            .map(|(_, object)| object)
            .take_while(|o| prefix.as_deref().is_none_or(|p| o.key.starts_with(p)));
        let mut objects = Vec::new();
        while objects.len() < limit {
            let Some(object) = rest.next() else { break };
            if keep(object) {
                objects.push(object.clone());
            }
        }
        let remaining = if limit == usize::MAX { 0 } else { rest.count() };
        let revision = inner.last.max(applied);
        (Snapshot { objects, revision }, remaining)
    }

    /// The revision of the kind's last event.
    pub(crate) fn last(&self) -> Revision {
        self.read().last
    }

    /// A receiver that is told of each new event.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.changed.subscribe()
    }

    /// Wakes all who are told of events, though there is none.
    pub(super) fn wake(&self) {
        self.changed.send_modify(|_| ());
    }

    /// The changes after a revision, at most `limit`; `None` when the ring no longer reaches back
    /// so far.
    pub(crate) fn since(&self, after: Revision, limit: usize) -> Option<Vec<Change>> {
        let inner = self.read();
        if after < inner.floor {
            return None;
        }
        let from = inner
            .ring
            .partition_point(|change| change.revision <= after);
        Some(inner.ring.iter().skip(from).take(limit).cloned().collect())
    }

    /// Whether the ring holds everything after this revision.
    pub(crate) fn reaches(&self, after: Revision) -> bool {
        after >= self.read().floor
    }

    /// Puts the state at a revision in the place of what is there. Who wants to know what happened in
    /// between must ask the store.
    pub(super) fn replace(&self, objects: BTreeMap<Arc<str>, Arc<Object>>, revision: Revision) {
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        for (key, before) in &guard.objects {
            self.tell(Some(before), objects.get(key).map(|object| &**object));
        }
        for (key, after) in &objects {
            if !guard.objects.contains_key(key) {
                self.tell(None, Some(after));
            }
        }
        *guard = Inner {
            objects,
            floor: revision,
            last: revision,
            ..Inner::default()
        };
        drop(guard);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed.send_replace(revision);
    }

    /// Applies one event of the store; events come in the order of their revisions.
    pub(super) fn apply(&self, local: &str, event: &Event) {
        let deleted = event.kind == EventKind::Deleted;
        let kind = match event.kind {
            EventKind::Created => EventType::Added,
            EventKind::Updated => EventType::Modified,
            EventKind::Deleted => EventType::Deleted,
        };
        let key: Arc<str> = Arc::from(local);
        let object = match Object::from_stored(key, &event.value, event.revision, kind, self.schema)
        {
            Ok(object) => Arc::new(object),
            Err(broken) => {
                tracing::error!(key = %event.key, "{}", stdx::chain::chain(&broken));
                return;
            }
        };
        let mut guard = self.inner.write().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *guard;
        if event.revision <= inner.last {
            return;
        }
        let before = if deleted {
            inner.objects.remove(local)
        } else {
            inner.objects.insert(object.key.clone(), object.clone())
        };
        self.tell(before.as_deref(), (!deleted).then_some(&*object));
        let change = Change {
            revision: event.revision,
            before,
            object,
            deleted,
        };
        inner.last = event.revision;
        inner.ring_bytes += change.weight_bytes();
        inner.ring.push_back(change);
        while inner.ring.len() > RING_EVENTS || inner.ring_bytes > RING_BYTES {
            let Some(oldest) = inner.ring.pop_front() else {
                break;
            };
            inner.ring_bytes = inner.ring_bytes.saturating_sub(oldest.weight_bytes());
            inner.floor = oldest.revision;
        }
        drop(guard);
        self.generation.fetch_add(1, Ordering::AcqRel);
        self.changed.send_replace(event.revision);
    }
}
