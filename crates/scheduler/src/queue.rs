//! The pods that wait for a node: ready ones by priority, the others until something changes.
//!
//! Invariant: a pod is in exactly one of `ready`, `backing_off` and `parked`, or in none.

use client::Key;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(Reverse<i32>, u64);

#[derive(Clone, Copy)]
enum Place {
    Ready(Rank),
    BackingOff(Instant, u64),
    Parked,
    /// Decided, its binding is being written.
    Taken,
}

struct Waiting {
    place: Place,
    priority: i32,
    attempts: u32,
    /// When it may be tried again.
    not_before: Option<Instant>,
}

/// The pods that wait.
#[derive(Default)]
pub(crate) struct Queue {
    pods: HashMap<Key, Waiting>,
    ready: BTreeMap<Rank, Key>,
    backing_off: BTreeMap<(Instant, u64), Key>,
    sequence: u64,
}

impl Queue {
    /// A pod is new or has changed itself: it may fit now.
    pub(crate) fn add(&mut self, key: Key, priority: i32, now: Instant) {
        let waiting = self.pods.entry(key.clone()).or_insert(Waiting {
            place: Place::Parked,
            priority,
            attempts: 0,
            not_before: None,
        });
        waiting.priority = priority;
        if matches!(waiting.place, Place::Parked) {
            self.move_on(&key, now);
        }
    }

    /// The pod needs no node any more.
    pub(crate) fn remove(&mut self, key: &Key) {
        match self.pods.remove(key).map(|w| w.place) {
            Some(Place::Ready(rank)) => {
                self.ready.remove(&rank);
            }
            Some(Place::BackingOff(at, n)) => {
                self.backing_off.remove(&(at, n));
            }
            _ => {}
        }
    }

    /// The most important ready pod, and else when the next backoff ends.
    pub(crate) fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        while let Some((&(at, n), _)) = self.backing_off.first_key_value() {
            if at > now {
                break;
            }
            if let Some(key) = self.backing_off.remove(&(at, n)) {
                self.make_ready(&key);
            }
        }
        match self.ready.pop_first() {
            Some((_, key)) => {
                if let Some(waiting) = self.pods.get_mut(&key) {
                    waiting.place = Place::Taken;
                }
                Ok(key)
            }
            None => Err(self.backing_off.keys().next().map(|(at, _)| *at)),
        }
    }

    /// No node fits: the pod waits for a change.
    pub(crate) fn park(&mut self, key: &Key, now: Instant) {
        if let Some(waiting) = self
            .pods
            .get_mut(key)
            .filter(|w| matches!(w.place, Place::Taken))
        {
            waiting.attempts = waiting.attempts.saturating_add(1);
            let backoff = FIRST_BACKOFF.saturating_mul(1 << (waiting.attempts - 1).min(8));
            waiting.not_before = Some(now + backoff.min(LAST_BACKOFF));
            waiting.place = Place::Parked;
        }
    }

    /// Something went wrong with a decided pod: it is tried again after its backoff.
    pub(crate) fn retry(&mut self, key: &Key, now: Instant) {
        self.park(key, now);
        if self
            .pods
            .get(key)
            .is_some_and(|w| matches!(w.place, Place::Parked))
        {
            self.move_on(key, now);
        }
    }

    /// The cluster changed: every parked pod may fit now.
    pub(crate) fn wake(&mut self, now: Instant) {
        let parked: Vec<Key> = self
            .pods
            .iter()
            .filter(|(_, w)| matches!(w.place, Place::Parked))
            .map(|(k, _)| k.clone())
            .collect();
        for key in parked {
            self.move_on(&key, now);
        }
    }

    fn move_on(&mut self, key: &Key, now: Instant) {
        let Some(waiting) = self.pods.get_mut(key) else {
            return;
        };
        match waiting.not_before.filter(|at| *at > now) {
            Some(at) => {
                self.sequence += 1;
                waiting.place = Place::BackingOff(at, self.sequence);
                self.backing_off.insert((at, self.sequence), key.clone());
            }
            None => self.make_ready(key),
        }
    }

    fn make_ready(&mut self, key: &Key) {
        let Some(waiting) = self.pods.get_mut(key) else {
            return;
        };
        self.sequence += 1;
        let rank = Rank(Reverse(waiting.priority), self.sequence);
        waiting.place = Place::Ready(rank);
        self.ready.insert(rank, key.clone());
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn important_pods_come_first_and_refused_ones_wait_for_a_change_and_their_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let key = |name: &str| Key::new("a", name);
        queue.add(key("low"), 0, now);
        queue.add(key("high"), 10, now);
        queue.add(key("low"), 0, now);
        assert_eq!(queue.take(now), Ok(key("high")));
        assert_eq!(queue.take(now), Ok(key("low")));
        assert_eq!(queue.take(now), Err(None));
        queue.park(&key("low"), now);
        assert_eq!(queue.take(now + Duration::from_secs(3600)), Err(None));
        queue.wake(now);
        let due = now + Duration::from_secs(1);
        assert_eq!(queue.take(now), Err(Some(due)));
        assert_eq!(queue.take(due), Ok(key("low")));
        queue.retry(&key("low"), due);
        queue.remove(&key("low"));
        queue.retry(&key("high"), due);
        assert_eq!(queue.take(due + Duration::from_secs(10)), Ok(key("high")));
        assert_eq!(queue.take(due + Duration::from_secs(10)), Err(None));
    }
}
