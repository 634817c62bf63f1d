//! The nouns of the store: revisions, entries, writes and events.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;

/// A point in the store's history. Each write that changes something makes the next one.
///
/// An empty store is at revision 1, so that 0 is free to mean "any".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key with its value at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key, such as `/registry/core/pods/default/web`.
    pub key: Arc<str>,
    /// The value as it was written.
    pub value: Bytes,
    /// The revision at which the key came into being.
    pub created: Revision,
    /// The revision of the value.
    pub modified: Revision,
    /// When the key ends, if its value was put with a time to live.
    pub expires: Option<SystemTime>,
}

/// What to list.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListOptions<'a> {
    /// Only keys that start with this.
    pub prefix: &'a str,
    /// Only keys after this one: the last key of the page before.
    pub after: Option<&'a str>,
    /// The most entries to return; 0 for all.
    pub limit: usize,
    /// The revision to read at; the newest when absent.
    pub at: Option<Revision>,
}

/// The answer to a list, in the order of the keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The revision of the store that this page shows.
    pub revision: Revision,
    /// The entries.
    pub entries: Vec<Entry>,
    /// Whether there are entries after the last one here.
    pub more: bool,
    /// How many there are.
    pub remaining: u64,
}

/// What must hold for a write to happen. There is no blind write.
///
/// An object's uid needs no precondition of its own: who has read the entry has seen its uid, and
/// [`Expect::At`] holds exactly as long as that entry is the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expect {
    /// The key does not exist.
    Absent,
    /// The key exists and was last modified at this revision.
    At(Revision),
}

/// A compare-and-swap of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The key to write.
    pub key: String,
    /// The precondition.
    pub expect: Expect,
    /// What to do to it.
    pub op: Op,
}

/// What a write does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Store a value. The same bytes again change nothing: no revision, no event, no new time to live.
    Put {
        /// The bytes.
        value: Bytes,
        /// How long the key lives if this is its last value: not shorter, and at most about a minute
        /// longer.
        ttl: Option<Duration>,
    },
    /// Remove the key.
    Delete,
}

impl Write {
    /// Stores a value for good.
    pub fn put(key: impl Into<String>, expect: Expect, value: impl Into<Bytes>) -> Write {
        let op = Op::Put {
            value: value.into(),
            ttl: None,
        };
        Write {
            key: key.into(),
            expect,
            op,
        }
    }

    /// Removes a key.
    pub fn delete(key: impl Into<String>, expect: Expect) -> Write {
        Write {
            key: key.into(),
            expect,
            op: Op::Delete,
        }
    }

    /// The same with a time to live.
    #[must_use]
    pub fn with_ttl(mut self, time: Duration) -> Write {
        if let Op::Put { ttl, .. } = &mut self.op {
            *ttl = Some(time);
        }
        self
    }

    /// What this counts for in a batch, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        let value = match &self.op {
            Op::Put { value, .. } => value.len(),
            Op::Delete => 0,
        };
        self.key.len() + value
    }
}

/// What happened to a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum EventKind {
    /// It came into being.
    Created,
    /// Its value changed.
    Updated,
    /// It was removed.
    Deleted,
}

/// One change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// To which key.
    pub key: Arc<str>,
    /// When.
    pub revision: Revision,
    /// The new value; of a deleted key the last one.
    pub value: Bytes,
    /// The value before this event; absent for a created key.
    pub previous: Option<Bytes>,
}

impl Event {
    /// What this event is counted as in a queue, in bytes.
    pub(crate) fn weight_bytes(&self) -> usize {
        let previous = match self.kind {
            EventKind::Deleted => 0,
            EventKind::Created | EventKind::Updated => self.previous.as_ref().map_or(0, Bytes::len),
        };
        std::mem::size_of::<Event>() + self.key.len() + self.value.len() + previous
    }
}

/// What a subscription hands out at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batch {
    /// Events in the order of their revisions; of one that asked for progress there may be none.
    pub events: Vec<Event>,
    /// Every event up to this revision has been handed out.
    pub through: Revision,
}
