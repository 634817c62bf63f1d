//! The process that is killed. It says on its output what it was told: `ack` for each acknowledged
//! transaction, `ev` for each event that a subscriber saw, `wal` how long the log is.
//! A line shorter than a pipe's buffer is written whole or not at all.

use std::collections::HashMap;
use std::fmt;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::{
    Event, EventKind, Expect, ListOptions, Op, Options, Retention, Revision, Store, StoreError,
    Write,
};

/// How many tasks write.
pub(super) const WRITERS: u64 = 6;
/// How many keys each has for itself,
const OWN_KEYS: u64 = 4;
/// and how many all write.
const SHARED_KEYS: u64 = 3;
/// How many keys make the file grow and shrink.
const BULK_KEYS: usize = 400;
const BULK_BYTES: usize = 6000;

/// What one process does.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) round: u64,
    pub(super) seed: u64,
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.round, self.seed)
    }
}

impl Plan {
    pub(super) fn parse(text: &str) -> Plan {
        let (round, seed) = text.split_once(' ').unwrap();
        Plan {
            round: round.parse().unwrap(),
            seed: seed.parse().unwrap(),
        }
    }

    /// Whether all history stays until the next round: then each acknowledged change can be found.
    fn keeps_history(self) -> bool {
        self.round % 4 < 2
    }

    /// Whether the file grows and shrinks.
    pub(super) fn is_bulky(self) -> bool {
        self.round % 4 >= 2
    }

    fn options(self) -> Options {
        let retention = (!self.keeps_history()).then_some(Retention {
            revisions: 50,
            age: Duration::ZERO,
        });
        // Sometimes most entries must be read again.
        let live_limit_bytes = if self.seed.is_multiple_of(3) {
            20_000
        } else {
            32 << 20
        };
        Options {
            retention,
            live_limit_bytes,
            ..Options::default()
        }
    }
}

fn say(line: &str) {
    assert!(line.len() < 4000, "a longer line may be torn");
    std::io::stdout()
        .write_all(format!("{line} end\n").as_bytes())
        .unwrap();
}

/// The first word of a value says which transaction it is of.
pub(super) fn tag(value: &[u8]) -> String {
    let word = value.split(|byte| *byte == b' ').next().unwrap_or_default();
    String::from_utf8(word.to_vec()).unwrap()
}

pub(super) fn letter(kind: EventKind) -> char {
    match kind {
        EventKind::Created => 'c',
        EventKind::Updated => 'u',
        EventKind::Deleted => 'd',
    }
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
pub(super) async fn write_until_killed(path: &Path, plan: Plan) {
    let store = Store::open(path, plan.options()).await.unwrap();
    let watching = store.subscribe("", store.current()).unwrap();
    say(&format!("open {} {}", store.current(), store.compacted()));
    let mut tasks = tokio::task::JoinSet::new();
    tasks.spawn(tell_events(watching));
    tasks.spawn(resume_again_and_again(store.clone(), plan));
    for writer in 0..WRITERS {
        tasks.spawn(Writer::new(&store, plan, writer).run());
    }
    if plan.is_bulky() {
        tasks.spawn(grow_and_shrink(store.clone(), plan));
    }
    // None of them ends.
    if let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
}

async fn tell_events(mut watching: store::Subscription) {
    loop {
        for event in watching.next().await.unwrap().events {
            let Event {
                kind,
                key,
                revision,
                value,
                ..
            } = event;
            say(&format!(
                "ev {revision} {} {key} {}",
                letter(kind),
                tag(&value)
            ));
        }
    }
}

/// A subscriber that leaves and comes back, each time from what it has seen.
async fn resume_again_and_again(store: Store, plan: Plan) {
    let mut random = StdRng::seed_from_u64(plan.seed ^ 0xface);
    let mut seen = store.current();
    loop {
        let mut subscription = match store.subscribe("", seen) {
            Ok(subscription) => subscription,
            Err(StoreError::Compacted { oldest }) => {
                assert!(oldest > seen && oldest <= store.current());
                seen = oldest;
                continue;
            }
            Err(error) => panic!("{error}"),
        };
        for _ in 0..random.random_range(1..6) {
            let batch = match subscription.next().await {
                Ok(batch) => batch,
                Err(StoreError::Compacted { .. }) => break,
                Err(error) => panic!("{error}"),
            };
            for event in batch.events {
                assert_eq!(
                    event.revision.0,
                    seen.0 + 1,
                    "an event is missing or doubled"
                );
                seen = event.revision;
            }
            assert_eq!(batch.through, seen, "every revision has an event");
        }
        tokio::time::sleep(Duration::from_millis(random.random_range(0..5))).await;
    }
}

async fn grow_and_shrink(store: Store, plan: Plan) {
    for turn in 0.. {
        let mut live = Vec::new();
        for (part, keys) in (0..BULK_KEYS).collect::<Vec<_>>().chunks(50).enumerate() {
            let id = format!("{}.bulk.{turn}-{part}", plan.round);
            let writes: Vec<_> = keys
                .iter()
                .map(|key| {
                    let key = format!("/bulk/{}.{turn}/{key}", plan.round);
                    Write::put(key, Expect::Absent, value(&id, BULK_BYTES))
                })
                .collect();
            live.extend(transact(&store, &id, writes).await.unwrap());
        }
        for (part, keys) in live.chunks(100).enumerate() {
            let id = format!("{}.bulk.{turn}-d{part}", plan.round);
            let writes = keys
                .iter()
                .map(|(key, at)| Write::delete(key, Expect::At(at.unwrap())))
                .collect();
            transact(&store, &id, writes).await.unwrap();
        }
        store.compact(store.current()).await.unwrap();
        say(&format!("wal {}", store.metrics().wal_bytes));
    }
}

fn value(id: &str, length: usize) -> String {
    format!("{id} {:x>length$}", "")
}

/// What is live after a transaction: of a deleted key none.
type Live = Vec<(String, Option<Revision>)>;

/// Does it, and says so when it is acknowledged. `None` when a precondition did not hold.
async fn transact(store: &Store, id: &str, writes: Vec<Write>) -> Option<Live> {
    let what: Vec<_> = writes
        .iter()
        .map(|write| (write.key.clone(), matches!(write.op, Op::Delete)))
        .collect();
    let revisions = match store.transact(writes).await {
        Ok(revisions) => revisions,
        Err(StoreError::Conflict { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    assert!(store.current() >= *revisions.iter().max().unwrap());
    let first = revisions[0].0;
    for (at, revision) in revisions.iter().enumerate() {
        assert_eq!(revision.0, first + at as u64, "revisions are consecutive");
    }
    let changes: Vec<String> = what
        .iter()
        .map(|(key, deletes)| format!("{}:{key}", if *deletes { 'd' } else { 'p' }))
        .collect();
    say(&format!("ack {id} {first} {}", changes.join(" ")));
    let live = what
        .into_iter()
        .zip(revisions)
        .map(|((key, deletes), revision)| (key, (!deletes).then_some(revision)));
    Some(live.collect())
}

struct Writer {
    store: Store,
    id: String,
    prefix: String,
    random: StdRng,
    own: HashMap<String, Revision>,
}

impl Writer {
    fn new(store: &Store, plan: Plan, writer: u64) -> Writer {
        Writer {
            store: store.clone(),
            id: format!("{}.{writer}", plan.round),
            prefix: format!("/own/{writer}/"),
            random: StdRng::seed_from_u64(plan.seed.wrapping_add(writer)),
            own: HashMap::new(),
        }
    }

    async fn run(mut self) {
        let options = ListOptions {
            prefix: &self.prefix,
            ..ListOptions::default()
        };
        let page = self.store.list(options).await.unwrap();
        let own = page.entries.iter();
        self.own = own
            .map(|entry| (entry.key.to_string(), entry.modified))
            .collect();
        for number in 0.. {
            let id = format!("{}.{number}", self.id);
            let writes = self.next(&id).await;
            let Some(live) = transact(&self.store, &id, writes).await else {
                continue;
            };
            for (key, revision) in live {
                match revision {
                    Some(revision) => self.own.insert(key, revision),
                    None => self.own.remove(&key),
                };
            }
        }
    }

    /// One write of an own key, a shared one or one with a time to live; or several, or a deletion.
    async fn next(&mut self, id: &str) -> Vec<Write> {
        match self.random.random_range(0..10) {
            0..3 => vec![self.put_own(id)],
            3..5 => vec![self.put_shared(id).await],
            5 => {
                let ttl = Duration::from_millis(self.random.random_range(20..150));
                let put = Write::put(format!("/ttl/{id}"), Expect::Absent, value(id, 10));
                vec![put.with_ttl(ttl)]
            }
            6..8 => match self.own.iter().next() {
                Some((key, at)) => vec![Write::delete(key, Expect::At(*at))],
                None => vec![self.put_own(id)],
            },
            _ => {
                let mut writes = vec![self.put_shared(id).await];
                for _ in 1..self.random.random_range(2..5) {
                    let write = self.put_own(id);
                    let taken = writes.iter().any(|other: &Write| other.key == write.key);
                    match self.own.get(&write.key) {
                        _ if taken => {}
                        Some(at) if self.random.random_bool(0.3) => {
                            writes.push(Write::delete(write.key, Expect::At(*at)));
                        }
                        _ => writes.push(write),
                    }
                }
                writes
            }
        }
    }

    fn put_own(&mut self, id: &str) -> Write {
        let key = format!("{}{}", self.prefix, self.random.random_range(0..OWN_KEYS));
        let expect = self
            .own
            .get(&key)
            .map_or(Expect::Absent, |at| Expect::At(*at));
        Write::put(key, expect, self.value(id))
    }

    /// What is there is read first, so another writer may be quicker.
    async fn put_shared(&mut self, id: &str) -> Write {
        let key = format!("/shared/{}", self.random.random_range(0..SHARED_KEYS));
        let entry = self.store.get(&key).await.unwrap();
        let expect = entry.map_or(Expect::Absent, |entry| Expect::At(entry.modified));
        Write::put(key, expect, self.value(id))
    }

    /// Some fit into a page, others spread over several.
    fn value(&mut self, id: &str) -> String {
        let length = self.random.random_range(10..9000);
        value(id, length)
    }
}
