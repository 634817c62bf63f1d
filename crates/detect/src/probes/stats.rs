//! What the probes counted: events, and what was lost and why.

use crate::event::EventType;

/// Counts of one event type, as the probes keep them.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counter {
    /// Events that happened, lost ones among them.
    pub events: u64,
    /// Lost because the ring was full, or the CPU has none.
    pub dropped_full: u64,
    /// Lost because the event was longer than an event may be (32 KiB).
    pub dropped_large: u64,
    /// Lost because it came in the midst of another event of the same CPU.
    pub dropped_busy: u64,
}

impl Counter {
    /// Every loss.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped_full + self.dropped_large + self.dropped_busy
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.events += other.events;
        self.dropped_full += other.dropped_full;
        self.dropped_large += other.dropped_large;
        self.dropped_busy += other.dropped_busy;
    }
}

// SAFETY: four numbers without padding, for which every bit pattern is a value.
unsafe impl aya::Pod for Counter {}

/// Counts since the programs were loaded.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    /// All event types together.
    pub total: Counter,
    /// By CPU, in the order of their numbers.
    pub by_cpu: Vec<Counter>,
    /// By event type, those only of which there were any.
    pub by_type: Vec<(EventType, Counter)>,
    /// Records that were no event. There should be none.
    pub malformed: u64,
}
