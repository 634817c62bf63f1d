//! Hands events to subscribers. Invariant: an event is in every queue that wants it before
//! `current` says its revision, and a queue never holds more than its bound.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::reader::Readers;
use crate::schema::Position;
use crate::{Event, Revision, StoreError};

/// The meeting point of the writer and the subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    current: watch::Sender<Revision>,
    compacted: AtomicU64,
}

#[derive(Debug)]
struct State {
    published: Revision,
    next_id: u64,
    queues: HashMap<u64, Arc<Queue>>,
    closed: bool,
}

#[derive(Debug)]
struct Queue {
    prefix: String,
    after: Revision,
    limit_bytes: usize,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Event>,
    bytes: usize,
    lagged: bool,
    closed: bool,
}

impl Hub {
    pub(crate) fn new(position: Position) -> Hub {
        let state = State {
            published: position.current,
            next_id: 0,
            queues: HashMap::new(),
            closed: false,
        };
        Hub {
            state: Mutex::new(state),
            current: watch::Sender::new(position.current),
            compacted: AtomicU64::new(position.compacted.0),
        }
    }

    pub(crate) fn current(&self) -> Revision {
        *self.current.borrow()
    }

    pub(crate) fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    pub(crate) fn set_compacted(&self, revision: Revision) {
        self.compacted.store(revision.0, Ordering::Release);
    }

    /// Returns when everything up to `revision` is published: what a reader saw in the database may
    /// be ahead of the subscribers for a moment.
    pub(crate) async fn published(&self, revision: Revision) {
        if self.current() < revision {
            // The sender lives in self, so this cannot fail.
            let _ = self
                .current
                .subscribe()
                .wait_for(|current| *current >= revision)
                .await;
        }
    }

    /// Puts events, in the order of their revisions, into the queues that want them.
    pub(crate) fn publish(&self, events: &[Event]) {
        let Some(last) = events.last() else { return };
        let mut state = lock(&self.state);
        for queue in state.queues.values() {
            queue.push(events);
        }
        state.published = last.revision;
        self.current.send_replace(last.revision);
    }

    /// Ends every subscription; what waits in the queues can still be read.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        for queue in state.queues.values() {
            lock(&queue.waiting).closed = true;
            queue.changed.notify_one();
        }
    }

    pub(crate) fn subscribe(
        self: &Arc<Self>,
        readers: Arc<Readers>,
        prefix: &str,
        after: Revision,
        limit_bytes: usize,
    ) -> Result<Subscription, StoreError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(StoreError::Closed);
        }
        let oldest = self.compacted();
        if after < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        let queue = Arc::new(Queue {
            prefix: prefix.to_owned(),
            after: after.max(state.published),
            limit_bytes,
            waiting: Mutex::default(),
            changed: Notify::new(),
        });
        let id = state.next_id;
        state.next_id += 1;
        state.queues.insert(id, queue.clone());
        Ok(Subscription {
            id,
            queue,
            hub: self.clone(),
            readers,
            history: after..state.published,
        })
    }
}

impl Queue {
    fn push(&self, events: &[Event]) {
        let mut waiting = lock(&self.waiting);
        if waiting.lagged {
            return;
        }
        let before = waiting.events.len();
        for event in events {
            if event.revision > self.after && event.key.starts_with(&self.prefix) {
                waiting.bytes += event.weight_bytes();
                waiting.events.push(event.clone());
            }
        }
        if waiting.bytes > self.limit_bytes {
            *waiting = Waiting {
                lagged: true,
                ..Waiting::default()
            };
        } else if waiting.events.len() == before {
            return;
        }
        drop(waiting);
        self.changed.notify_one();
    }
}

/// The events of a prefix: first the history after a revision, then live, in order and without gap.
#[derive(Debug)]
pub struct Subscription {
    id: u64,
    queue: Arc<Queue>,
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    /// What is still to be read from the database: after `start`, up to and with `end`.
    history: std::ops::Range<Revision>,
}

impl Subscription {
    /// The next events, at least one, in the order of their revisions.
    ///
    /// Cancelling the future loses nothing. After an error the subscription is of no more use.
    ///
    /// # Errors
    /// [`StoreError::Lagged`] when this subscriber was too slow for its queue,
    /// [`StoreError::Compacted`] when the history it was still to read was compacted,
    /// [`StoreError::Closed`] when the store closed and everything was read.
    pub async fn next(&mut self) -> Result<Vec<Event>, StoreError> {
        while self.history.start < self.history.end {
            if lock(&self.queue.waiting).lagged {
                return Err(StoreError::Lagged);
            }
            let (events, reached) = self
                .readers
                .history(&self.queue.prefix, self.history.start, self.history.end)
                .await?;
            self.history.start = reached;
            if !events.is_empty() {
                return Ok(events);
            }
        }
        loop {
            let changed = self.queue.changed.notified();
            {
                let mut waiting = lock(&self.queue.waiting);
                if waiting.lagged {
                    return Err(StoreError::Lagged);
                }
                if !waiting.events.is_empty() {
                    waiting.bytes = 0;
                    return Ok(std::mem::take(&mut waiting.events));
                }
                if waiting.closed {
                    return Err(StoreError::Closed);
                }
            }
            changed.await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        lock(&self.hub.state).queues.remove(&self.id);
    }
}

/// Nothing panics while one of these locks is held, so a poisoned one is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
