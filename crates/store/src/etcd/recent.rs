//! The newest events, kept in memory: most subscribers begin at a revision that was current a moment
//! ago, and etcd takes up to 100 ms to begin with what is past (`syncWatchersLoop`).
//!
//! Invariant: every event after `start` that was published is here, and never more than the bound.

use std::collections::VecDeque;

use crate::{Event, Revision};

/// How much is kept, in bytes.
const LIMIT_BYTES: usize = 8 << 20;

/// The events after some revision.
#[derive(Debug)]
pub(super) struct Recent {
    start: Revision,
    /// The newest event of all, also of notes: what a watch over all our keys certainly comes to.
    last: Revision,
    bytes: usize,
    events: VecDeque<Event>,
}

impl Recent {
    pub(super) fn new(start: Revision) -> Recent {
        Recent {
            start,
            last: Revision(0),
            bytes: 0,
            events: VecDeque::new(),
        }
    }

    /// The revision of the newest event.
    pub(super) fn last(&self) -> Revision {
        self.last
    }

    /// Adds whole revisions, the last of which is `last`. To be called before they are published.
    pub(super) fn push(&mut self, events: &[Event], last: Revision) {
        self.last = last;
        for event in events {
            self.bytes += event.weight_bytes();
            self.events.push_back(event.clone());
        }
        // A revision goes as a whole.
        while let Some(front) = self.events.front()
            && (self.bytes > LIMIT_BYTES || front.revision <= self.start)
        {
            self.start = self.start.max(front.revision);
            self.bytes -= front.weight_bytes();
            self.events.pop_front();
        }
    }

    /// Events of a prefix after one revision up to another, until they have `limit_bytes`, and how far
    /// they reach. `None` when they are not all here.
    pub(super) fn range(
        &self,
        prefix: &str,
        after: Revision,
        up_to: Revision,
        limit_bytes: usize,
    ) -> Option<(Vec<Event>, Revision)> {
        if after < self.start {
            return None;
        }
        let from = self.events.partition_point(|event| event.revision <= after);
        let (mut events, mut bytes) = (Vec::<Event>::new(), 0);
        for event in self.events.range(from..) {
            if event.revision > up_to {
                break;
            }
            if bytes >= limit_bytes
                && let Some(last) = events.last().map(|last| last.revision)
                && last < event.revision
            {
                return Some((events, last));
            }
            if event.key.starts_with(prefix) {
                bytes += event.weight_bytes();
                events.push(event.clone());
            }
        }
        Some((events, up_to))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::EventKind;

    fn event(key: &str, revision: u64, size_bytes: usize) -> Event {
        Event {
            kind: EventKind::Created,
            key: key.into(),
            revision: Revision(revision),
            value: vec![0; size_bytes].into(),
            previous: None,
        }
    }

    #[test]
    fn what_is_here_is_whole_and_what_is_not_is_not_offered() {
        let mut recent = Recent::new(Revision(10));
        recent.push(&[event("/a", 11, 0), event("/b", 11, 0)], Revision(11));
        recent.push(&[event("/a", 13, 0)], Revision(13));
        let revisions = |(events, reached): (Vec<Event>, Revision)| {
            let list: Vec<u64> = events.iter().map(|event| event.revision.0).collect();
            (list, reached.0)
        };
        let range = |recent: &Recent, prefix, after, up_to, limit| {
            recent
                .range(prefix, Revision(after), Revision(up_to), limit)
                .map(revisions)
        };
        assert_eq!(range(&recent, "", 9, 13, 9), None);
        assert_eq!(
            range(&recent, "", 10, 14, 9999),
            Some((vec![11, 11, 13], 14))
        );
        assert_eq!(range(&recent, "/a", 10, 12, 9999), Some((vec![11], 12)));
        assert_eq!(range(&recent, "", 11, 13, 9999), Some((vec![13], 13)));
        // The limit is looked at between revisions only.
        assert_eq!(range(&recent, "", 10, 13, 1), Some((vec![11, 11], 11)));

        // Two large events of one revision push out all before them, and then each other.
        let big = LIMIT_BYTES / 2 + 1;
        recent.push(&[event("/c", 14, big), event("/d", 14, big)], Revision(14));
        assert_eq!(range(&recent, "", 13, 14, 9), None);
        assert_eq!(range(&recent, "", 14, 14, 9), Some((vec![], 14)));
        assert_eq!(recent.last(), Revision(14));
    }
}
