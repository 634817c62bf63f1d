//! The work queue of a controller: deduplicating, with delays and per-key backoff.
//!
//! Invariants: a key is in the queue at most once; it is never worked on twice at once; one
//! that is added while it is worked on comes again afterwards; nothing added is lost.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::Hash;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

const FIRST_RETRY: Duration = Duration::from_millis(5);
const LAST_RETRY: Duration = Duration::from_secs(1000);

/// A deduplicating work queue with delays and per-key backoff. Cloning shares it.
pub struct Queue<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Clone for Queue<T> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

struct Shared<T> {
    state: Mutex<State<T>>,
    changed: Notify,
}

struct State<T> {
    ready: VecDeque<T>,
    /// Keys in `ready`, and keys to queue again when their work ends.
    dirty: HashSet<T>,
    working: HashSet<T>,
    /// By time and a sequence number that tells equal times apart.
    delayed: BTreeMap<(Instant, u64), T>,
    due: HashMap<T, (Instant, u64)>,
    sequence: u64,
    failures: HashMap<T, u32>,
    closed: bool,
}

impl<T: Clone + Eq + Hash> State<T> {
    fn push(&mut self, key: T) -> bool {
        if self.closed || !self.dirty.insert(key.clone()) || self.working.contains(&key) {
            return false;
        }
        self.ready.push_back(key);
        true
    }

    /// Moves what is due to the queue; answers when the next delay ends.
    fn ripen(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.push(key);
        }
        None
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Queue<T> {
    /// An empty queue.
    pub fn new() -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            working: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
            closed: false,
        };
        Self {
            shared: Arc::new(Shared {
                state: Mutex::new(state),
                changed: Notify::new(),
            }),
        }
    }

    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues `key` unless it is queued already; a key that is worked on now comes again after.
    pub fn add(&self, key: T) {
        if self.state().push(key) {
            self.shared.changed.notify_one();
        }
    }

    /// Queues `key` once `delay` has passed; the earliest of several delays counts.
    pub fn add_after(&self, key: T, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        let mut state = self.state();
        if state.closed {
            return;
        }
        let at = Instant::now() + delay;
        if let Some(&known) = state.due.get(&key) {
            if known.0 <= at {
                return;
            }
            state.delayed.remove(&known);
        }
        state.sequence += 1;
        let due = (at, state.sequence);
        state.due.insert(key.clone(), due);
        state.delayed.insert(due, key);
        let first = state.delayed.keys().next() == Some(&due);
        drop(state);
        if first {
            self.shared.changed.notify_one();
        }
    }

    /// Queues `key` after its own backoff: 5 ms doubling to 1000 s, jittered.
    pub fn retry(&self, key: T) {
        let failures = {
            let mut state = self.state();
            let failures = state.failures.entry(key.clone()).or_default();
            *failures = failures.saturating_add(1);
            *failures
        };
        let delay = FIRST_RETRY
            .saturating_mul(1u32 << (failures - 1).min(30))
            .min(LAST_RETRY);
        self.add_after(key, delay.mul_f64(rand::random_range(1.0..1.2)));
    }

    /// Resets the backoff of `key`.
    pub fn forget(&self, key: &T) {
        self.state().failures.remove(key);
    }

    /// How often in a row `key` was retried.
    pub fn failures(&self, key: &T) -> u32 {
        self.state().failures.get(key).copied().unwrap_or(0)
    }

    /// The next key; `None` once the queue is closed. Cancel-safe.
    pub async fn next(&self) -> Option<Work<T>> {
        loop {
            let changed = self.shared.changed.notified();
            let next_due = {
                let mut state = self.state();
                if state.closed {
                    return None;
                }
                let next_due = state.ripen(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.working.insert(key.clone());
                    let more = !state.ready.is_empty() || next_due.is_some();
                    drop(state);
                    if more {
                        self.shared.changed.notify_one();
                    }
                    return Some(Work {
                        key,
                        queue: self.clone(),
                    });
                }
                next_due
            };
            match next_due {
                Some(at) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(at) => {}
                    }
                }
                None => changed.await,
            }
        }
    }

    /// Ends the queue: nothing comes out any more.
    pub fn close(&self) {
        self.state().closed = true;
        self.shared.changed.notify_waiters();
        self.shared.changed.notify_one();
    }

    fn done(&self, key: &T) {
        let mut state = self.state();
        state.working.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
            drop(state);
            self.shared.changed.notify_one();
        }
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Default for Queue<T> {
    fn default() -> Self {
        Self::new()
    }
}

/// A key that is being worked on; dropping it says that the work is done.
pub struct Work<T: Clone + Eq + Hash + Send + 'static> {
    key: T,
    queue: Queue<T>,
}

impl<T: Clone + Eq + Hash + Send + 'static> Deref for Work<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.key
    }
}

impl<T: Clone + Eq + Hash + Send + 'static> Drop for Work<T> {
    fn drop(&mut self) {
        self.queue.done(&self.key);
    }
}
