//! Live entries in memory, as far as they fit: what was written or read lately need not be read again.
//! The writer looks here for what a write is held against, and lists for their values.
//!
//! Invariants:
//! - An entry here is the live one of its key as of [`State::at`], the last commit that was applied, or
//!   as of a commit that is about to be. So the writer, which applies each of its commits before it
//!   begins the next, meets nothing but live entries.
//! - A commit is applied before it is acknowledged: a read of what is here is never behind what anybody
//!   was told.
//! - Values are as they are stored, sealed ones sealed, and their buffers are shared with whoever else
//!   holds them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use crate::hub::lock;
use crate::{Entry, Revision};

/// What an entry is counted as besides its key and its value, in bytes.
const ENTRY_BYTES: usize = 200;

/// The entries, shared by the writer and the readers.
#[derive(Debug)]
pub(super) struct Live {
    limit_bytes: usize,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// The last commit that was applied.
    at: Revision,
    entries: HashMap<Arc<str>, Entry>,
    /// The keys by the revision of their entry.
    by_revision: BTreeMap<Revision, Arc<str>>,
    bytes: usize,
}

/// What became of a key: its new entry, or none when it was deleted.
pub(super) type Change = (Arc<str>, Option<Entry>);

impl Live {
    pub(super) fn new(at: Revision, limit_bytes: usize) -> Live {
        let state = State {
            at,
            entries: HashMap::new(),
            by_revision: BTreeMap::new(),
            bytes: 0,
        };
        Live {
            limit_bytes,
            state: Mutex::new(state),
        }
    }

    /// The live entry of a key, if it is here.
    pub(super) fn get(&self, key: &str) -> Option<Entry> {
        lock(&self.state).entries.get(key).cloned()
    }

    /// The entry that a key has since a revision, if it is here.
    pub(super) fn get_at(&self, key: &str, modified: Revision) -> Option<Entry> {
        let state = lock(&self.state);
        let entry = state.entries.get(key);
        entry.filter(|entry| entry.modified == modified).cloned()
    }

    /// Takes what a commit changed. What was written longest ago makes way.
    pub(super) fn apply(&self, at: Revision, changes: impl Iterator<Item = Change>) {
        let mut state = lock(&self.state);
        state.at = at;
        for (key, entry) in changes {
            state.remove(&key);
            if let Some(entry) = entry
                && weight_bytes(&entry) <= self.limit_bytes
            {
                state.insert(entry);
            }
        }
        while state.bytes > self.limit_bytes {
            let Some((_, key)) = state.by_revision.pop_first() else {
                return;
            };
            if let Some(entry) = state.entries.remove(&key) {
                state.bytes -= weight_bytes(&entry);
            }
        }
    }

    /// Takes an entry that was read, if there is room and nothing was committed since `seen`, the
    /// revision of the read transaction: it might be a former one.
    pub(super) fn offer(&self, entry: &Entry, seen: Revision) {
        let mut state = lock(&self.state);
        let fits = state.bytes + weight_bytes(entry) <= self.limit_bytes;
        if seen >= state.at && fits && !state.entries.contains_key(&entry.key) {
            state.insert(entry.clone());
        }
    }
}

impl State {
    fn insert(&mut self, entry: Entry) {
        self.bytes += weight_bytes(&entry);
        self.by_revision.insert(entry.modified, entry.key.clone());
        self.entries.insert(entry.key.clone(), entry);
    }

    fn remove(&mut self, key: &str) {
        if let Some(entry) = self.entries.remove(key) {
            self.bytes -= weight_bytes(&entry);
            self.by_revision.remove(&entry.modified);
        }
    }
}

fn weight_bytes(entry: &Entry) -> usize {
    ENTRY_BYTES + entry.key.len() + entry.value.len()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may panic")]
mod tests {
    use super::*;

    fn entry(key: &str, modified: u64, length: usize) -> Entry {
        Entry {
            key: key.into(),
            value: vec![b'x'; length].into(),
            created: Revision(2),
            modified: Revision(modified),
            expires: None,
        }
    }

    fn put(live: &Live, key: &str, modified: u64, length: usize) {
        let change = (key.into(), Some(entry(key, modified, length)));
        live.apply(Revision(modified), std::iter::once(change));
    }

    #[test]
    fn what_was_read_before_a_commit_is_not_taken_after_it() {
        let live = Live::new(Revision(5), 10_000);
        // The key was deleted, or changed, by commit 6, which the reader has not seen.
        live.apply(Revision(6), std::iter::once(("a".into(), None)));
        live.offer(&entry("a", 4, 10), Revision(5));
        assert_eq!(live.get("a"), None);
        // It has seen a commit that is not applied yet.
        live.offer(&entry("b", 7, 10), Revision(7));
        assert_eq!(live.get("b").unwrap().modified, Revision(7));
        live.offer(&entry("b", 3, 10), Revision(7));
        assert_eq!(live.get_at("b", Revision(3)), None);
        assert!(live.get_at("b", Revision(7)).is_some());
    }

    #[test]
    fn memory_is_bounded_and_what_is_old_makes_way() {
        let live = Live::new(Revision(1), 4000);
        for revision in 2..100 {
            put(&live, &format!("key{revision}"), revision, 700);
            let state = lock(&live.state);
            assert!(state.bytes <= 4000);
            assert_eq!(state.entries.len(), state.by_revision.len());
        }
        assert!(live.get("key99").is_some() && live.get("key96").is_some());
        assert_eq!(live.get("key95"), None);
        // A reader puts nothing out, and what is too large is not taken.
        live.offer(&entry("read", 50, 700), Revision(99));
        assert_eq!(live.get("read"), None);
        put(&live, "key99", 100, 5000);
        assert_eq!(live.get("key99"), None);
        assert!(live.get("key98").is_some());
        live.offer(&entry("read", 50, 100), Revision(100));
        assert!(live.get("read").is_some());
        // The same key again takes the place of its former entry.
        for revision in 101..200 {
            put(&live, "key98", revision, 600);
        }
        assert!(live.get("key97").is_some() && live.get("read").is_some());
    }
}
