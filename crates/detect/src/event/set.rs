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

/// How many numbers of system calls there are room for.
const CALLS: usize = 512;

/// A set of system calls by their numbers: for calls that have no event type of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CallSet {
    words: [u64; CALLS / 64],
}

impl Default for CallSet {
    fn default() -> Self {
        Self {
            words: [0; CALLS / 64],
        }
    }
}

impl CallSet {
    /// Adds the call of a number below 512.
    pub fn insert(&mut self, number: u16) {
        if let Some(word) = self.words.get_mut(usize::from(number) / 64) {
            *word |= 1 << (number % 64);
        }
    }

    /// Whether the call is in the set.
    #[must_use]
    pub fn contains(&self, number: u16) -> bool {
        self.words
            .get(usize::from(number) / 64)
            .is_some_and(|word| word & (1 << (number % 64)) != 0)
    }
}

/// What is to be captured: event types, and calls that only the generic event reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// Event types. With the generic exit event in it, every call without an event of its own.
    pub events: EventSet,
    /// Single calls, whatever event reports them.
    pub calls: CallSet,
}

impl Selection {
    /// What the process table needs to stay true: every current event that changes processes or
    /// descriptors, reads and writes of data left out.
    #[must_use]
    pub fn of_state() -> Self {
        let events = EventType::all()
            .filter(|kind| {
                kind.schema().is_some_and(|schema| {
                    use super::schema::EventSchema as S;
                    let data = S::READS_FROM_FD | S::WRITES_TO_FD;
                    schema.has(S::MODIFIES_STATE) && !schema.has(S::UNUSED | data)
                })
            })
            .collect();
        Self {
            events,
            calls: CallSet::default(),
        }
    }

    /// Adds what `name` (`evt.type`) stands for, an event or a call, and says whether there is one.
    pub fn insert_named(&mut self, name: &str) -> bool {
        let call = super::syscall::by_name(name);
        if let Some(call) = call {
            self.calls.insert(call.number);
        }
        self.events.insert_named(name) || call.is_some()
    }

    /// What is in either.
    #[must_use]
    pub fn union(mut self, other: &Self) -> Self {
        self.events = self.events.union(&other.events);
        for (word, more) in self.calls.words.iter_mut().zip(other.calls.words) {
            *word |= more;
        }
        self
    }
}

impl From<EventSet> for Selection {
    fn from(events: EventSet) -> Self {
        Self {
            events,
            calls: CallSet::default(),
        }
    }
}
