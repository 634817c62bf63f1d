//! Hands events to subscribers. Invariant: an event is in every queue that wants it before
//! `current` says its revision, and a queue never holds more than its bound.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::metrics::{Counters, count};
use crate::{Event, Revision, Seal, StoreError};

/// Where a store is in its history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Position {
    pub(crate) current: Revision,
    pub(crate) compacted: Revision,
}

/// The meeting point of the engine and the subscribers.
#[derive(Debug)]
pub(crate) struct Hub {
    state: Mutex<State>,
    current: watch::Sender<Revision>,
    compacted: AtomicU64,
    seal: Option<Arc<Seal>>,
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct State {
    next_id: u64,
    queues: HashMap<u64, Arc<Queue>>,
    closed: bool,
}

impl State {
    /// Wakes those who want to know of progress. They look at `current`, so that is set first.
    fn tell_progress(&self) {
        for queue in self.queues.values().filter(|queue| queue.progress) {
            queue.changed.notify_one();
        }
    }
}

/// The events that wait for one subscriber.
#[derive(Debug)]
pub(crate) struct Queue {
    prefix: String,
    after: Revision,
    limit_bytes: usize,
    progress: bool,
    waiting: Mutex<Waiting>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    events: Vec<Event>,
    bytes: usize,
    /// Why nothing comes after these events.
    end: Option<StoreError>,
}

/// What a subscriber begins with.
pub(crate) struct Seat {
    pub(crate) id: u64,
    pub(crate) queue: Arc<Queue>,
    /// The revision from which on events come through the queue.
    pub(crate) live_after: Revision,
}

impl Hub {
    pub(crate) fn new(position: Position, seal: Option<Arc<Seal>>, counters: Arc<Counters>) -> Hub {
        let state = State {
            next_id: 0,
            queues: HashMap::new(),
            closed: false,
        };
        Hub {
            state: Mutex::new(state),
            current: watch::Sender::new(position.current),
            compacted: AtomicU64::new(position.compacted.0),
            seal,
            counters,
        }
    }

    pub(crate) fn current(&self) -> Revision {
        *self.current.borrow()
    }

    pub(crate) fn compacted(&self) -> Revision {
        Revision(self.compacted.load(Ordering::Acquire))
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn subscriptions(&self) -> usize {
        lock(&self.state).queues.len()
    }

    /// Says that the history before a revision is gone.
    pub(crate) fn set_compacted(&self, revision: Revision) {
        self.compacted.fetch_max(revision.0, Ordering::AcqRel);
    }

    /// Returns when everything up to `revision` is published, or the hub is closed: what a reader saw
    /// in the database may be ahead of the subscribers for a moment.
    pub(crate) async fn published(&self, revision: Revision) -> Result<(), StoreError> {
        if self.current() >= revision {
            return Ok(());
        }
        let mut current = self.current.subscribe();
        loop {
            if *current.borrow_and_update() >= revision {
                return Ok(());
            }
            if lock(&self.state).closed {
                return Err(StoreError::Closed);
            }
            // The sender lives in self, so this cannot fail.
            let _ = current.changed().await;
        }
    }

    /// Puts events, in the order of their revisions, into the queues that want them. Sealed values are
    /// opened here, once for all subscribers.
    pub(crate) fn publish(&self, mut events: Vec<Event>) {
        let Some(last) = events.last() else { return };
        let last = last.revision;
        let mut broken = None;
        if let Some(seal) = &self.seal {
            for at in 0..events.len() {
                if let Err(error) = open_event(seal, &mut events[at]) {
                    tracing::error!(error = stdx::chain(&error), "an event cannot be read");
                    broken = Some((events.split_off(at), error));
                    break;
                }
            }
        }
        let state = lock(&self.state);
        for queue in state.queues.values() {
            queue.push(&events, &self.counters);
            if let Some((rest, error)) = &broken
                && rest.iter().any(|event| queue.wants(event))
            {
                queue.end(error.clone());
            }
        }
        self.current.send_replace(last);
        state.tell_progress();
    }

    /// Moves on to a revision up to which there was nothing else to publish.
    pub(crate) fn advance(&self, revision: Revision) {
        let state = lock(&self.state);
        if self.current() >= revision {
            return;
        }
        self.current.send_replace(revision);
        state.tell_progress();
    }

    /// Goes on at another place after events were lost: every subscriber is told to list again.
    pub(crate) fn lose(&self, position: Position) {
        let state = lock(&self.state);
        for queue in state.queues.values() {
            count(&self.counters.lagged);
            queue.end(StoreError::Lagged);
        }
        self.set_compacted(position.compacted);
        self.current
            .send_modify(|current| *current = position.current.max(*current));
        state.tell_progress();
    }

    /// Ends every subscription; what waits in the queues can still be read.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        state.closed = true;
        for queue in state.queues.values() {
            queue.end(StoreError::Closed);
        }
        // Wakes those who wait for a revision that will not come.
        self.current.send_modify(|_| {});
    }

    pub(crate) fn seat(
        &self,
        prefix: &str,
        after: Revision,
        limit_bytes: usize,
        progress: bool,
    ) -> Result<Seat, StoreError> {
        let mut state = lock(&self.state);
        if state.closed {
            return Err(StoreError::Closed);
        }
        let oldest = self.compacted();
        if after < oldest {
            return Err(StoreError::Compacted { oldest });
        }
        let live_after = self.current();
        let queue = Arc::new(Queue {
            prefix: prefix.to_owned(),
            after: after.max(live_after),
            limit_bytes,
            progress,
            waiting: Mutex::default(),
            changed: Notify::new(),
        });
        let id = state.next_id;
        state.next_id += 1;
        state.queues.insert(id, queue.clone());
        Ok(Seat {
            id,
            queue,
            live_after,
        })
    }

    pub(crate) fn leave(&self, id: u64) {
        lock(&self.state).queues.remove(&id);
    }

    /// Opens what is sealed in events that come from the past.
    pub(crate) fn open_events(&self, events: &mut [Event]) -> Result<(), StoreError> {
        match &self.seal {
            Some(seal) => events
                .iter_mut()
                .try_for_each(|event| open_event(seal, event)),
            None => Ok(()),
        }
    }
}

fn open_event(seal: &Seal, event: &mut Event) -> Result<(), StoreError> {
    event.value = seal.open(&event.key, event.value.clone())?;
    if let Some(previous) = &mut event.previous {
        *previous = seal.open(&event.key, previous.clone())?;
    }
    Ok(())
}

impl Queue {
    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    /// Whether its subscriber asked for progress.
    pub(crate) fn tells_progress(&self) -> bool {
        self.progress
    }

    fn wants(&self, event: &Event) -> bool {
        event.revision > self.after && event.key.starts_with(&self.prefix)
    }

    fn push(&self, events: &[Event], counters: &Counters) {
        let mut waiting = lock(&self.waiting);
        if waiting.end.is_some() {
            return;
        }
        let before = waiting.events.len();
        for event in events.iter().filter(|event| self.wants(event)) {
            waiting.bytes += event.weight_bytes();
            waiting.events.push(event.clone());
        }
        if waiting.bytes > self.limit_bytes {
            *waiting = Waiting {
                end: Some(StoreError::Lagged),
                ..Waiting::default()
            };
            count(&counters.lagged);
        } else if waiting.events.len() == before {
            return;
        }
        drop(waiting);
        self.changed.notify_one();
    }

    fn end(&self, error: StoreError) {
        let mut waiting = lock(&self.waiting);
        if matches!(error, StoreError::Lagged) {
            waiting.events.clear();
        }
        waiting.end.get_or_insert(error);
        drop(waiting);
        self.changed.notify_one();
    }

    /// Whether the reader was too slow.
    pub(crate) fn lagged(&self) -> bool {
        matches!(lock(&self.waiting).end, Some(StoreError::Lagged))
    }

    /// What waits; empty only for one that asked for progress, when there is some.
    pub(crate) async fn take(
        &self,
        hub: &Hub,
        handed_out: Revision,
    ) -> Result<(Vec<Event>, Revision), StoreError> {
        loop {
            let changed = self.changed.notified();
            // Looked at first: what is published by now is in the queue below.
            let current = hub.current();
            {
                let mut waiting = lock(&self.waiting);
                if !waiting.events.is_empty() {
                    waiting.bytes = 0;
                    let events = std::mem::take(&mut waiting.events);
                    let last = events.last().map_or(current, |event| event.revision);
                    return Ok((events, current.max(last)));
                }
                if let Some(end) = &waiting.end {
                    return Err(end.clone());
                }
            }
            if self.progress && current > handed_out {
                return Ok((Vec::new(), current));
            }
            changed.await;
        }
    }
}

/// Nothing panics while one of these locks is held, so a poisoned one is as good as any.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
