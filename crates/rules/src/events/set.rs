//! Sets of types of events.

use super::{EventType, Sort, all, count};

/// A set of types of events.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct EventSet(Vec<u64>);

impl EventSet {
    /// None.
    pub fn empty() -> Self {
        Self(vec![0; count().div_ceil(64)])
    }

    /// All.
    pub fn full() -> Self {
        all().collect()
    }

    /// Adds a type.
    pub fn insert(&mut self, event: EventType) {
        self.0[event.index() / 64] |= 1 << (event.index() % 64);
    }

    /// Whether the type is in the set.
    pub fn contains(&self, event: EventType) -> bool {
        self.0[event.index() / 64] >> (event.index() % 64) & 1 == 1
    }

    /// Keeps what the other has too.
    pub fn intersect(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine &= theirs;
        }
    }

    /// Takes what the other has.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(&other.0) {
            *mine |= theirs;
        }
    }

    /// All others.
    #[must_use]
    pub fn complement(&self) -> Self {
        all().filter(|event| !self.contains(*event)).collect()
    }

    /// The types in the set.
    pub fn iter(&self) -> impl Iterator<Item = EventType> + '_ {
        all().filter(|event| self.contains(*event))
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.iter().all(|word| *word == 0)
    }

    /// How many codes the libraries have for them; all generic system calls share two.
    pub(crate) fn codes(&self) -> usize {
        let generic = self.iter().any(|event| event.info().sort == Sort::Generic);
        let known: usize = self.iter().map(|event| event.info().codes).sum();
        known + if generic { 2 } else { 0 }
    }
}

impl FromIterator<EventType> for EventSet {
    fn from_iter<I: IntoIterator<Item = EventType>>(events: I) -> Self {
        let mut set = Self::empty();
        for event in events {
            set.insert(event);
        }
        set
    }
}
