//! The pods that wait for a node: ready ones by priority, the others until something changes.
//!
//! A pod that no node fitted comes after all that are ready until its backoff ends, but does
//! not keep an idle scheduler waiting (upstream's `SchedulerPopFromBackoffQ`). One whose binding
//! failed sits out its backoff.
//!
//! Invariant: a pod is in exactly one of `ready`, `backing_off`, `failed` and parked, or in none.

use client::Key;
use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;
use tokio::time::Instant;

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank(Reverse<i32>, u64);

/// When a backoff ends, and the order among those that end together.
type Turn = (Instant, u64);

#[derive(Clone, Copy)]
enum Place {
    Ready(Rank),
    BackingOff(Turn),
    Failed(Turn),
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
    backing_off: BTreeMap<Turn, Key>,
    failed: BTreeMap<Turn, Key>,
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
            Some(Place::BackingOff(turn)) => {
                self.backing_off.remove(&turn);
            }
            Some(Place::Failed(turn)) => {
                self.failed.remove(&turn);
            }
            _ => {}
        }
    }

    /// The most important ready pod, or else the first that backs off; `Err` says when the next
    /// failed one may be tried again.
    pub(crate) fn take(&mut self, now: Instant) -> Result<Key, Option<Instant>> {
        let due = [
            take_due(&mut self.backing_off, now),
            take_due(&mut self.failed, now),
        ];
        for key in due.iter().flat_map(BTreeMap::values) {
            self.make_ready(key);
        }
        let first = self.ready.pop_first().map(|(_, key)| key);
        let first = first.or_else(|| self.backing_off.pop_first().map(|(_, key)| key));
        let Some(key) = first else {
            return Err(self.failed.keys().next().map(|(at, _)| *at));
        };
        if let Some(waiting) = self.pods.get_mut(&key) {
            waiting.place = Place::Taken;
        }
        Ok(key)
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
        if let Some(waiting) = self
            .pods
            .get_mut(key)
            .filter(|w| matches!(w.place, Place::Parked))
        {
            self.sequence += 1;
            let turn = (waiting.not_before.unwrap_or(now), self.sequence);
            waiting.place = Place::Failed(turn);
            self.failed.insert(turn, key.clone());
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
                let turn = (at, self.sequence);
                waiting.place = Place::BackingOff(turn);
                self.backing_off.insert(turn, key.clone());
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

/// Those whose backoff has ended.
fn take_due(waiting: &mut BTreeMap<Turn, Key>, now: Instant) -> BTreeMap<Turn, Key> {
    let later = waiting.split_off(&(now, u64::MAX));
    std::mem::replace(waiting, later)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn important_pods_come_first_and_refused_ones_wait_for_a_change() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let key = |name: &str| Key::new("a", name);
        queue.add(key("low"), 0, now);
        queue.add(key("high"), 10, now);
        queue.add(key("low"), 0, now);
        assert_eq!(queue.take(now), Ok(key("high")));
        assert_eq!(queue.take(now), Ok(key("low")));
        assert_eq!(queue.take(now), Err(None));
        queue.park(&key("high"), now);
        assert_eq!(queue.take(now + Duration::from_secs(3600)), Err(None));
        // After a change it comes behind those that were not refused, however unimportant.
        queue.wake(now);
        queue.add(key("new"), 0, now);
        assert_eq!(queue.take(now), Ok(key("new")));
        assert_eq!(queue.take(now), Ok(key("high")));
        queue.park(&key("high"), now);
        queue.wake(now);
        queue.add(key("newer"), 0, now);
        let due = now + Duration::from_secs(2);
        assert_eq!(queue.take(due), Ok(key("high")), "its backoff has ended");
        queue.park(&key("high"), due);
        queue.wake(due);
        queue.remove(&key("high"));
        assert_eq!(queue.take(due), Ok(key("newer")));
        assert_eq!(queue.take(due), Err(None));
    }

    #[test]
    fn failed_bindings_sit_out_their_backoff() {
        let (mut queue, now) = (Queue::default(), Instant::now());
        let key = |name: &str| Key::new("a", name);
        queue.add(key("one"), 0, now);
        queue.add(key("two"), 0, now);
        assert_eq!(queue.take(now), Ok(key("one")));
        assert_eq!(queue.take(now), Ok(key("two")));
        queue.retry(&key("one"), now);
        queue.retry(&key("two"), now);
        queue.wake(now);
        queue.remove(&key("two"));
        let due = now + Duration::from_secs(1);
        assert_eq!(queue.take(now), Err(Some(due)));
        assert_eq!(queue.take(due), Ok(key("one")));
        queue.retry(&key("two"), due);
        assert_eq!(queue.take(due + Duration::from_secs(10)), Err(None));
    }
}
