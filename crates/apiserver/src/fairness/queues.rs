//! Fair queues: flows are dealt a hand of queues, and queues take turns by the work that was done for
//! them. Pure: no clock, no waiting.
//!
//! Invariants: no queue is longer than its limit; a flow that waits alone in its queue is served
//! before the second request of a flow that has been served as much.

use std::collections::VecDeque;

/// What a request is thought to take before it has shown what it takes, in seconds.
const ESTIMATE_SECS: f64 = 0.003;

/// How a level queues.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Queuing {
    pub(super) queues: usize,
    pub(super) hand_size: usize,
    pub(super) queue_length_limit: usize,
}

#[derive(Debug)]
struct Waiting<T> {
    seats: u32,
    item: T,
}

#[derive(Debug)]
struct Queue<T> {
    waiting: VecDeque<Waiting<T>>,
    /// How much was done for this queue, in seats times seconds, on the scale of the set's clock.
    served: f64,
    executing: usize,
}

/// The queues of a priority level.
#[derive(Debug)]
pub(super) struct Queues<T> {
    config: Queuing,
    queues: Vec<Queue<T>>,
    /// What was done for the queue whose turn was last: those that come later begin here.
    clock: f64,
}

/// A request that is to be served now.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Next<T> {
    pub(super) queue: usize,
    pub(super) seats: u32,
    pub(super) item: T,
}

/// The queues that a flow may use: distinct ones, by its hash alone.
pub(super) fn hand(mut hash: u64, queues: usize, size: usize) -> Vec<usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(size);
    for left in (1..=queues).rev().take(size) {
        let deck = u64::try_from(left).unwrap_or(u64::MAX);
        let mut card = usize::try_from(hash % deck).unwrap_or(0);
        hash /= deck;
        // The card counts among those that are left.
        let mut lower = dealt.clone();
        lower.sort_unstable();
        for taken in lower {
            if taken <= card {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

impl<T> Queues<T> {
    pub(super) fn new(config: Queuing) -> Self {
        let queue = |_| Queue {
            waiting: VecDeque::new(),
            served: 0.0,
            executing: 0,
        };
        Self {
            config,
            queues: (0..config.queues.max(1)).map(queue).collect(),
            clock: 0.0,
        }
    }

    pub(super) fn config(&self) -> Queuing {
        self.config
    }

    /// How many wait.
    pub(super) fn len(&self) -> usize {
        self.queues.iter().map(|queue| queue.waiting.len()).sum()
    }

    /// The queue of its hand in which a flow would wait least; those who gave up are let go first.
    fn choose(&mut self, hash: u64, waits: impl Fn(&T) -> bool) -> usize {
        let hand = hand(hash, self.queues.len(), self.config.hand_size);
        for index in &hand {
            self.queues[*index]
                .waiting
                .retain(|waiting| waits(&waiting.item));
        }
        let load = |index: &usize| {
            let queue = &self.queues[*index];
            let seats: u64 = queue.waiting.iter().map(|w| u64::from(w.seats)).sum();
            (seats, queue.executing)
        };
        hand.into_iter().min_by_key(load).unwrap_or(0)
    }

    /// Puts a request into a queue of its flow; gives it back when that is full.
    pub(super) fn push(
        &mut self,
        hash: u64,
        seats: u32,
        item: T,
        waits: impl Fn(&T) -> bool,
    ) -> Result<(), T> {
        let index = self.choose(hash, waits);
        let clock = self.clock;
        let queue = &mut self.queues[index];
        if queue.waiting.len() >= self.config.queue_length_limit {
            return Err(item);
        }
        if queue.waiting.is_empty() && queue.executing == 0 {
            // Who was away has saved nothing up.
            queue.served = queue.served.max(clock);
        }
        queue.waiting.push_back(Waiting { seats, item });
        Ok(())
    }

    /// Takes the request whose turn it is, if `fits` lets its seats in. Those who gave up are
    /// dropped.
    pub(super) fn pop(
        &mut self,
        waits: impl Fn(&T) -> bool,
        fits: impl FnOnce(u32) -> bool,
    ) -> Option<Next<T>> {
        for queue in &mut self.queues {
            while queue
                .waiting
                .front()
                .is_some_and(|first| !waits(&first.item))
            {
                queue.waiting.pop_front();
            }
        }
        let (index, queue) = self
            .queues
            .iter_mut()
            .enumerate()
            .filter(|(_, queue)| !queue.waiting.is_empty())
            .min_by(|(_, a), (_, b)| a.served.total_cmp(&b.served))?;
        if !fits(queue.waiting.front()?.seats) {
            return None;
        }
        let Waiting { seats, item } = queue.waiting.pop_front()?;
        self.clock = self.clock.max(queue.served);
        queue.served += f64::from(seats) * ESTIMATE_SECS;
        queue.executing += 1;
        Some(Next {
            queue: index,
            seats,
            item,
        })
    }

    /// A request of a queue has ended after so many seconds.
    pub(super) fn finished(&mut self, queue: usize, seats: u32, took_secs: f64) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.executing = queue.executing.saturating_sub(1);
            queue.served += f64::from(seats) * (took_secs - ESTIMATE_SECS);
        }
    }

    /// Takes everybody out.
    pub(super) fn drain(&mut self) -> Vec<T> {
        let queues = self.queues.iter_mut();
        queues
            .flat_map(|queue| queue.waiting.drain(..))
            .map(|waiting| waiting.item)
            .collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;

    use super::{Queues, Queuing, hand};

    const CONFIG: Queuing = Queuing {
        queues: 64,
        hand_size: 6,
        queue_length_limit: 5,
    };

    #[test]
    fn hands_are_distinct_and_differ() {
        let mut seen = BTreeSet::new();
        for flow in 0..1000_u64 {
            let hash = flow.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let cards = hand(hash, 64, 6);
            let set: BTreeSet<usize> = cards.iter().copied().collect();
            assert!(
                set.len() == 6 && set.iter().all(|card| *card < 64),
                "{cards:?}"
            );
            assert_eq!(cards, hand(hash, 64, 6));
            seen.insert(set);
        }
        assert!(seen.len() > 990);
        // Every queue is dealt: all hands of one card out of three.
        let all: BTreeSet<usize> = (0..3).flat_map(|hash| hand(hash, 3, 1)).collect();
        assert_eq!(all.len(), 3);
        assert_eq!(hand(7, 2, 5).len(), 2);
        // A whole deck is a permutation.
        let deck: BTreeSet<usize> = hand(u64::MAX, 6, 6).into_iter().collect();
        assert_eq!(deck.len(), 6);
    }

    /// Serves one at a time; `took` seconds each.
    fn serve(queues: &mut Queues<&'static str>, count: usize, took: f64) -> Vec<&'static str> {
        let mut served = Vec::new();
        for _ in 0..count {
            let Some(next) = queues.pop(|_| true, |_| true) else {
                break;
            };
            served.push(next.item);
            queues.finished(next.queue, next.seats, took);
        }
        served
    }

    #[test]
    fn a_flood_does_not_starve_others() {
        let mut queues = Queues::new(CONFIG);
        let (flood, quiet) = (1, u64::MAX / 3);
        let mut kept = 0;
        while queues.push(flood, 1, "flood", |_| true).is_ok() {
            kept += 1;
        }
        // Only its own hand is full.
        assert_eq!(kept, CONFIG.hand_size * CONFIG.queue_length_limit);
        queues.push(quiet, 1, "quiet", |_| true).unwrap();
        let served = serve(&mut queues, CONFIG.hand_size + 1, 0.1);
        assert!(served.contains(&"quiet"), "{served:?}");
    }

    #[test]
    fn work_counts_not_requests() {
        let mut queues = Queues::new(Queuing {
            queues: 2,
            hand_size: 1,
            queue_length_limit: 100,
        });
        for _ in 0..20 {
            queues.push(0, 10, "wide", |_| true).unwrap();
            queues.push(1, 1, "narrow", |_| true).unwrap();
        }
        let served = serve(&mut queues, 22, 0.1);
        let wide = served.iter().filter(|item| **item == "wide").count();
        assert!((2..=3).contains(&wide), "{served:?}");
    }

    #[test]
    fn who_was_away_has_saved_nothing_up() {
        let mut queues = Queues::new(Queuing {
            queues: 2,
            hand_size: 1,
            queue_length_limit: 1000,
        });
        for _ in 0..100 {
            queues.push(0, 1, "busy", |_| true).unwrap();
        }
        serve(&mut queues, 50, 0.1);
        for _ in 0..50 {
            queues.push(1, 1, "late", |_| true).unwrap();
        }
        let served = serve(&mut queues, 20, 0.1);
        let late = served.iter().filter(|item| **item == "late").count();
        assert!((9..=11).contains(&late), "{served:?}");
    }

    #[test]
    fn who_gave_up_is_let_go() {
        let mut queues = Queues::new(Queuing {
            queues: 1,
            hand_size: 1,
            queue_length_limit: 2,
        });
        queues.push(0, 1, "gone", |_| true).unwrap();
        queues.push(0, 1, "gone", |_| true).unwrap();
        assert_eq!(queues.push(0, 1, "here", |_| true), Err("here"));
        let waits = |item: &&str| *item != "gone";
        queues.push(0, 1, "here", waits).unwrap();
        assert_eq!(queues.len(), 1);
        assert_eq!(queues.pop(waits, |_| false), None);
        assert_eq!(queues.pop(waits, |_| true).unwrap().item, "here");
        assert!(queues.drain().is_empty());
    }
}
