//! A set of event types, as a rule or a consumer wants them.

use super::schema::EventType;

const WORDS: usize = EventType::COUNT.div_ceil(64);

/// A set of event types; 64 bytes that are copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct EventSet {
    words: [u64; WORDS],
}

impl EventSet {
    /// No type.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Every type.
    #[must_use]
    pub fn all() -> Self {
        EventType::all().collect()
    }

    /// Adds `kind`; a type that the table does not have is left out.
    pub fn insert(&mut self, kind: EventType) {
        let bit = usize::from(kind.0);
        if bit < EventType::COUNT
            && let Some(word) = self.words.get_mut(bit / 64)
        {
            *word |= 1 << (bit % 64);
        }
    }

    /// Takes `kind` out.
    pub fn remove(&mut self, kind: EventType) {
        let bit = usize::from(kind.0);
        if let Some(word) = self.words.get_mut(bit / 64) {
            *word &= !(1 << (bit % 64));
        }
    }

    /// Adds every type that goes by `name`, and says whether there was one.
    pub fn insert_named(&mut self, name: &str) -> bool {
        let mut found = false;
        for kind in EventType::named(name) {
            self.insert(kind);
            found = true;
        }
        found
    }

    /// Whether `kind` is in the set.
    #[must_use]
    pub fn contains(&self, kind: EventType) -> bool {
        let bit = usize::from(kind.0);
        self.words
            .get(bit / 64)
            .is_some_and(|word| word & (1 << (bit % 64)) != 0)
    }

    /// What is in either set.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        for (word, more) in self.words.iter_mut().zip(other.words) {
            *word |= more;
        }
        self
    }

    /// The types in the order of their numbers.
    pub fn iter(&self) -> impl Iterator<Item = EventType> {
        EventType::all().filter(|kind| self.contains(*kind))
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

impl FromIterator<EventType> for EventSet {
    fn from_iter<I: IntoIterator<Item = EventType>>(kinds: I) -> Self {
        let mut set = Self::new();
        for kind in kinds {
            set.insert(kind);
        }
        set
    }
}
