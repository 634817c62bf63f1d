//! What is known about a store from everything that it ever said, to hold against what it says now.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::ops::RangeInclusive;
use std::time::{Duration, SystemTime};

use rand::RngExt as _;
use rand::rngs::StdRng;
use store::{Entry, Event, ListOptions, Revision, Store, Subscription};

use super::child::{WRITERS, letter, tag};

/// How many revisions of the past are looked at in each round.
const SAMPLES: usize = 4;

/// The WAL starts over at 32 MiB; a batch and a waiting reader may come on top of that.
const WAL_LIMIT_BYTES: u64 = 48 << 20;

/// One change. The tag is the first word of the value; of a deletion, that of the value deleted.
#[derive(Debug, Clone, PartialEq)]
struct Change {
    kind: char,
    key: String,
    tag: String,
}

/// A change that a writer was told of: `p` for put or `d` for deleted.
#[derive(Debug)]
struct Ack {
    revision: u64,
    op: char,
    key: String,
    tag: String,
}

/// Each live key with the revision and tag of its value.
type Live = BTreeMap<String, (u64, String)>;

#[derive(Default)]
pub(super) struct Known {
    pub(super) context: String,
    /// Each change that was ever seen, by revision.
    changes: BTreeMap<u64, Change>,
    /// Where each put of a transaction was seen.
    written: HashMap<(String, String), u64>,
    /// What writers were told since the last check.
    acks: Vec<Ack>,
    /// The state at the last check.
    live: Live,
    checked: u64,
    compacted: u64,
    /// The largest revision that anybody was told of.
    seen: u64,
    size: u64,
    // What the rounds were worth.
    rounds: u64,
    acknowledged: u64,
    found: u64,
    whole: u64,
    unacknowledged: u64,
    compacted_in: u64,
    shrunk: u64,
    largest_wal: u64,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} rounds: {} changes acknowledged, {} of them found in the history; {} events that nobody \
             was told of; {} rounds with compaction, {} with the whole history known; the file shrank {} \
             times; the longest WAL had {} KiB;",
            self.rounds,
            self.acknowledged,
            self.found,
            self.unacknowledged,
            self.compacted_in,
            self.whole,
            self.shrunk,
            self.largest_wal >> 10,
        )
    }
}

impl Known {
    /// Nothing is known of a new database; what the rounds were worth is kept.
    pub(super) fn of_a_new_database(self) -> Known {
        Known {
            rounds: self.rounds,
            acknowledged: self.acknowledged,
            found: self.found,
            whole: self.whole,
            unacknowledged: self.unacknowledged,
            compacted_in: self.compacted_in,
            shrunk: self.shrunk,
            largest_wal: self.largest_wal,
            ..Known::default()
        }
    }

    /// Takes note of a line of the process.
    pub(super) fn told(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |word: &str| word.parse::<u64>().unwrap();
        match words[..] {
            ["open", current, compacted] => {
                let (current, compacted) = (number(current), number(compacted));
                assert!(current >= self.checked, "it went back: {}", self.context);
                assert!(compacted <= current, "{}", self.context);
                self.see(current);
            }
            ["ev", revision, kind, key, tag] => {
                let change = Change {
                    kind: kind.chars().next().unwrap(),
                    key: key.into(),
                    tag: tag.into(),
                };
                self.see(number(revision));
                self.changed(number(revision), change);
            }
            ["ack", id, first, ref changes @ ..] => {
                for (at, change) in changes.iter().enumerate() {
                    let (op, key) = change.split_once(':').unwrap();
                    self.acknowledge(id, number(first) + at as u64, op, key);
                }
            }
            ["wal", bytes] => self.largest_wal = self.largest_wal.max(number(bytes)),
            // The test harness.
            _ => {}
        }
    }

    fn acknowledge(&mut self, id: &str, revision: u64, op: &str, key: &str) {
        assert!(
            revision > self.checked,
            "revision {revision} was given out again: {}",
            self.context
        );
        self.see(revision);
        self.acknowledged += 1;
        self.acks.push(Ack {
            revision,
            op: op.chars().next().unwrap(),
            key: key.into(),
            tag: id.into(),
        });
    }

    /// Takes note of how large the database is between two processes.
    pub(super) fn file_has(&mut self, bytes: u64) {
        if self.size > bytes {
            self.shrunk += 1;
        }
        self.size = bytes;
    }

    fn see(&mut self, revision: u64) {
        self.seen = self.seen.max(revision);
    }

    fn changed(&mut self, revision: u64, change: Change) {
        if change.kind != 'd' {
            let put = (change.tag.clone(), change.key.clone());
            let first = *self.written.entry(put).or_insert(revision);
            assert_eq!(
                first, revision,
                "{change:?} happened twice: {}",
                self.context
            );
        }
        let known = self.changes.entry(revision).or_insert(change.clone());
        assert_eq!(*known, change, "at {revision}: {}", self.context);
    }

    /// Checks a store that was opened after the kill.
    pub(super) async fn hold_against(&mut self, store: &Store, random: &mut StdRng) {
        // Revision 1 is the empty store.
        let (current, compacted) = (store.current().0, store.compacted().0.max(1));
        let context = self.context.clone();
        assert!(
            current >= self.seen,
            "revision {} is lost, the store is at {current}: {context}",
            self.seen
        );
        assert!(
            compacted >= self.compacted && compacted <= current,
            "{context}"
        );
        if compacted > self.compacted {
            self.compacted_in += 1;
        }
        let events = history(store, "", compacted, current).await;
        let revisions: Vec<u64> = events.iter().map(|event| event.revision.0).collect();
        assert!(
            revisions.iter().copied().eq(compacted + 1..=current),
            "each revision has its event, once and in order: {revisions:?}: {context}"
        );
        for event in &events {
            self.changed(event.revision.0, change(event));
        }
        let now = state(store, current).await;
        self.check_acks(&now);
        self.check_unacknowledged();
        self.check_state(&now, current);
        self.check_past(store, compacted..=current, &events, random)
            .await;
        (self.live, self.checked, self.compacted) = (now, current, compacted);
        self.see(current);
        self.acks.clear();
        self.rounds += 1;
        // Of what is older the tags are remembered.
        self.changes = self.changes.split_off(&compacted);
    }

    /// Each acknowledged change is in the history, as far as there is any, and in the state.
    fn check_acks(&mut self, now: &Live) {
        let context = &self.context;
        for ack in &self.acks {
            let found = self.changes.get(&ack.revision);
            if let Some(change) = found {
                let same = change.key == ack.key
                    && match ack.op {
                        'd' => change.kind == 'd',
                        _ => change.kind != 'd' && change.tag == ack.tag,
                    };
                assert!(same, "{ack:?} became {change:?}: {context}");
                self.found += 1;
            }
            match (ack.op, now.get(&ack.key)) {
                (_, Some((revision, tag))) if *revision == ack.revision => {
                    assert_eq!(*tag, ack.tag, "{context}");
                }
                (_, Some((revision, _))) => {
                    // Superseded; or it is a deletion, and the key came back.
                    assert!(*revision > ack.revision, "{ack:?} is lost: {context}");
                }
                ('d', None) => {}
                (_, None) => {
                    // A later change must have deleted it; when that is known at all, it is here.
                    let deleted = self
                        .changes
                        .range(ack.revision + 1..)
                        .any(|(_, change)| change.kind == 'd' && change.key == ack.key);
                    let is_known = found.is_some() && self.is_contiguous(ack.revision);
                    assert!(deleted || !is_known, "{ack:?} is lost: {context}");
                }
            }
        }
    }

    fn is_contiguous(&self, from: u64) -> bool {
        let count = self.changes.range(from..).count() as u64;
        self.changes
            .last_key_value()
            .is_some_and(|(last, _)| last + 1 - from == count)
    }

    /// Of a process's writers each may have had one transaction under way that it was not told of.
    fn check_unacknowledged(&mut self) {
        let told: HashSet<&str> = self.acks.iter().map(|ack| ack.tag.as_str()).collect();
        let mut transactions = BTreeMap::<&str, &str>::new();
        for (_, change) in self.changes.range(self.checked + 1..) {
            if change.kind == 'd' || told.contains(change.tag.as_str()) {
                continue;
            }
            // Tags are ROUND.WRITER.NUMBER.
            let id = change.tag.as_str();
            let (writer, _) = id.rsplit_once('.').unwrap();
            let first = transactions.entry(writer).or_insert(id);
            assert_eq!(*first, id, "two at once by one writer: {}", self.context);
        }
        assert!(transactions.len() as u64 <= WRITERS + 1, "{}", self.context);
        self.unacknowledged += transactions.len() as u64;
    }

    /// The state is what the state before became by the changes since.
    fn check_state(&mut self, now: &Live, current: u64) {
        let since: Vec<_> = self.changes.range(self.checked + 1..).collect();
        if since.len() as u64 + self.checked.max(1) != current {
            // Some of it was compacted before it could be told.
            return;
        }
        let mut expected = self.live.clone();
        for (revision, change) in since {
            apply(&mut expected, *revision, change);
        }
        assert_eq!(*now, expected, "{}", self.context);
        self.whole += 1;
    }

    /// Lists at, and subscriptions after, revisions of the past agree with the whole history.
    async fn check_past(
        &self,
        store: &Store,
        whole: RangeInclusive<u64>,
        events: &[Event],
        random: &mut StdRng,
    ) {
        let (compacted, current) = whole.into_inner();
        let beginning = state(store, compacted).await;
        for sample in 0..SAMPLES {
            let after = match sample {
                0 => compacted,
                1 => current,
                _ => random.random_range(compacted..=current),
            };
            let mut expected = beginning.clone();
            for event in events.iter().filter(|event| event.revision.0 <= after) {
                apply(&mut expected, event.revision.0, &change(event));
            }
            assert_eq!(
                state(store, after).await,
                expected,
                "the list at {after}: {}",
                self.context
            );
            let prefixes = ["", "/own/", "/own/1/", "/shared/", "/ttl/", "/bulk/"];
            let prefix = prefixes[random.random_range(0..prefixes.len())];
            let expected: Vec<_> = events
                .iter()
                .filter(|event| event.revision.0 > after && event.key.starts_with(prefix))
                .cloned()
                .collect();
            assert!(
                history(store, prefix, after, current).await == expected,
                "{prefix:?} after {after}: {}",
                self.context
            );
        }
    }

    /// Waits until the keys with a time to live are gone. Each goes with one event, not too early.
    pub(super) async fn until_expired(&mut self, store: &Store) {
        let options = ListOptions {
            prefix: "/ttl/",
            ..ListOptions::default()
        };
        let page = store.list(options).await.unwrap();
        let mut left: HashMap<String, SystemTime> = page
            .entries
            .iter()
            .map(|entry| (entry.key.to_string(), entry.expires.unwrap()))
            .collect();
        let mut subscription = store.subscribe("/ttl/", page.revision).unwrap();
        while !left.is_empty() {
            for event in within_limit(&mut subscription, &self.context).await {
                let expires = left.remove(&*event.key);
                assert_eq!(letter(event.kind), 'd', "{event:?}: {}", self.context);
                assert!(
                    expires.is_some_and(|time| time <= SystemTime::now()),
                    "{event:?} is early, or doubled: {}",
                    self.context
                );
            }
        }
        let current = store.current().0;
        for event in history(store, "", self.checked, current).await {
            self.changed(event.revision.0, change(&event));
        }
        self.checked = current;
        self.live = state(store, self.checked).await;
        self.see(self.checked);
    }

    /// Fails when the rounds did not do what they are for.
    pub(super) fn assert_worth(&self, rounds: u64) {
        assert_eq!(self.rounds, rounds);
        assert!(self.acknowledged > rounds * 2, "{self}");
        assert!(self.found > rounds, "{self}");
        assert!(self.whole > rounds / 4, "{self}");
        assert!(self.largest_wal < WAL_LIMIT_BYTES, "{self}");
        if rounds >= 1000 {
            assert!(self.shrunk > 0, "{self}");
        }
        if rounds >= 30 {
            assert!(self.unacknowledged > 0 && self.compacted_in > 0, "{self}");
        }
    }
}

fn change(event: &Event) -> Change {
    Change {
        kind: letter(event.kind),
        key: event.key.to_string(),
        tag: tag(&event.value),
    }
}

fn apply(live: &mut Live, revision: u64, change: &Change) {
    match change.kind {
        'd' => live.remove(&change.key),
        _ => live.insert(change.key.clone(), (revision, change.tag.clone())),
    };
}

async fn state(store: &Store, revision: u64) -> Live {
    let at = Some(Revision(revision));
    let page = store
        .list(ListOptions {
            at,
            ..ListOptions::default()
        })
        .await
        .unwrap();
    let live = |entry: &Entry| {
        let value = (entry.modified.0, tag(&entry.value));
        (entry.key.to_string(), value)
    };
    page.entries.iter().map(live).collect()
}

/// What a subscription tells up to a revision. In the meantime keys may end.
async fn history(store: &Store, prefix: &str, after: u64, up_to: u64) -> Vec<Event> {
    let mut subscription = store
        .subscribe_with_progress(prefix, Revision(after))
        .unwrap();
    let (mut events, mut through) = (Vec::new(), Revision(after));
    while through.0 < up_to {
        let batch = subscription.next().await.unwrap();
        assert!(batch.through >= through);
        through = batch.through;
        events.extend(batch.events);
    }
    events.retain(|event| event.revision.0 <= up_to);
    events
}

async fn within_limit(subscription: &mut Subscription, context: &str) -> Vec<Event> {
    match tokio::time::timeout(Duration::from_secs(10), subscription.next()).await {
        Ok(batch) => batch.unwrap().events,
        Err(_elapsed) => panic!("keys outlive their time: {context}"),
    }
}
