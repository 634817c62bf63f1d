//! Random histories against a model in memory, compaction and restarts included.

use std::collections::BTreeMap;

use proptest::prelude::*;
use store::{Event, EventKind, Expect, ListOptions, Op, Revision, Store, StoreError, Write};

use crate::support::Place;

const KEYS: [&str; 8] = ["/a", "/a/1", "/a/2", "/a/é", "/b/1", "/b/1/2", "/b/2", "/c"];
const PREFIXES: [&str; 6] = ["", "/a", "/a/", "/b/", "/c", "/none"];

#[derive(Debug, Clone)]
enum Step {
    /// Put a value or delete, where the expectation is right or off by something.
    Write {
        key: usize,
        value: Option<u8>,
        right: bool,
    },
    Compact {
        share: u8,
    },
    Reopen,
    List {
        prefix: usize,
        share: Option<u8>,
        limit: usize,
    },
    Subscribe {
        prefix: usize,
        share: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (0..KEYS.len(), prop::option::weighted(0.7, 0..4_u8), prop::bool::weighted(0.9))
            .prop_map(|(key, value, right)| Step::Write { key, value, right }),
        1 => any::<u8>().prop_map(|share| Step::Compact { share }),
        1 => Just(Step::Reopen),
        3 => (0..PREFIXES.len(), prop::option::of(any::<u8>()), 0..4_usize)
            .prop_map(|(prefix, share, limit)| Step::List { prefix, share, limit }),
        2 => (0..PREFIXES.len(), any::<u8>()).prop_map(|(prefix, share)| Step::Subscribe { prefix, share }),
    ]
}

/// What the store should be: every event since the beginning, at the revisions that the store gave.
struct Model {
    events: Vec<Event>,
    start: u64,
    compacted: u64,
}

/// Value, created, modified.
type Live = BTreeMap<String, (Vec<u8>, u64, u64)>;

impl Model {
    fn current(&self) -> u64 {
        self.events
            .last()
            .map_or(self.start, |event| event.revision.0)
    }

    fn at(&self, revision: u64) -> Live {
        let mut live = Live::new();
        for event in self
            .events
            .iter()
            .take_while(|event| event.revision.0 <= revision)
        {
            let key = event.key.to_string();
            let created = live
                .get(&key)
                .map_or(event.revision.0, |(_, created, _)| *created);
            match event.kind {
                EventKind::Deleted => live.remove(&key),
                _ => live.insert(key, (event.value.to_vec(), created, event.revision.0)),
            };
        }
        live
    }

    fn revision(&self, share: u8) -> u64 {
        self.start + (self.current() - self.start) * u64::from(share) / 255
    }

    /// What a write should come to, where the next revision is `next`; records it.
    fn write(&mut self, write: &Write, next: u64) -> Option<u64> {
        let live = self.at(self.current());
        let current = live.get(&write.key);
        let holds = match write.expect {
            Expect::Absent => current.is_none(),
            Expect::At(revision) => current.is_some_and(|(_, _, modified)| *modified == revision.0),
        };
        if !holds {
            return None;
        }
        let revision = next;
        let previous = current.map(|(value, _, _)| value.clone().into());
        let (kind, value) = match (&write.op, current) {
            (Op::Delete, None) => return Some(self.current()),
            (Op::Put { value, .. }, Some((old, _, modified))) if value[..] == old[..] => {
                return Some(*modified);
            }
            (Op::Put { value, .. }, None) => (EventKind::Created, value.clone()),
            (Op::Put { value, .. }, Some(_)) => (EventKind::Updated, value.clone()),
            (Op::Delete, Some((old, _, _))) => (EventKind::Deleted, old.clone().into()),
        };
        let (key, revision) = (write.key.as_str().into(), Revision(revision));
        self.events.push(Event {
            kind,
            key,
            revision,
            value,
            previous,
        });
        Some(revision.0)
    }
}

async fn check_list(store: &Store, model: &Model, prefix: &str, at: Option<u64>, limit: usize) {
    let options = ListOptions {
        prefix,
        after: None,
        limit,
        at: at.map(Revision),
    };
    let result = store.list(options).await;
    if at.is_some_and(|at| at < model.compacted) {
        assert!(
            matches!(result, Err(StoreError::Compacted { oldest }) if oldest.0 == model.compacted)
        );
        return;
    }
    let mut page = result.unwrap();
    // Notes of the engine's own may be newer than the newest event.
    let revision = at.unwrap_or(page.revision.0.max(model.current()));
    let expected: Vec<_> = model
        .at(revision)
        .into_iter()
        .filter(|(key, _)| key.starts_with(prefix))
        .collect();
    let mut entries = Vec::new();
    loop {
        assert_eq!(page.revision.0, revision);
        entries.append(&mut page.entries);
        assert_eq!(page.remaining, (expected.len() - entries.len()) as u64);
        assert_eq!(page.more, page.remaining > 0);
        if !page.more {
            break;
        }
        let after = entries.last().map(|entry| entry.key.clone());
        let next = ListOptions {
            prefix,
            after: after.as_deref(),
            limit,
            at: Some(page.revision),
        };
        page = store.list(next).await.unwrap();
    }
    let found: Vec<_> = entries
        .iter()
        .map(|entry| {
            (
                entry.key.to_string(),
                (entry.value.to_vec(), entry.created.0, entry.modified.0),
            )
        })
        .collect();
    assert_eq!(found, expected);
}

async fn check_events(store: &Store, model: &Model, prefix: &str, after: u64) {
    let mut subscription = match store.subscribe(prefix, Revision(after)) {
        Ok(subscription) => subscription,
        Err(StoreError::Compacted { oldest }) => {
            assert!(after < model.compacted && oldest.0 == model.compacted);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    assert!(after >= model.compacted);
    let expected: Vec<_> = model
        .events
        .iter()
        .filter(|event| event.revision.0 > after && event.key.starts_with(prefix))
        .cloned()
        .collect();
    let mut found = Vec::new();
    while found.len() < expected.len() {
        found.extend(subscription.next().await.unwrap().events);
    }
    assert_eq!(found, expected);
}

async fn run(place: Place, steps: Vec<Step>) {
    // With all of it in memory, some of it and none.
    let mut limits = [32 << 20, 600, 0].into_iter().cycle();
    let mut options = || store::Options {
        live_limit_bytes: limits.next().unwrap(),
        ..crate::support::manual()
    };
    let mut store = place.open_with(options()).await;
    let mut model = Model {
        events: Vec::new(),
        start: store.current().0,
        compacted: store.compacted().0,
    };
    for step in steps {
        match step {
            Step::Write { key, value, right } => {
                let key = KEYS[key].to_owned();
                let modified = model
                    .at(model.current())
                    .get(&key)
                    .map(|(_, _, modified)| *modified);
                let expect = match (modified, right) {
                    (Some(modified), true) => Expect::At(Revision(modified)),
                    (Some(modified), false) => Expect::At(Revision(modified - 1)),
                    (None, true) => Expect::Absent,
                    (None, false) => Expect::At(Revision(model.current())),
                };
                let write = match value {
                    Some(value) => Write::put(key, expect, vec![value; usize::from(value)]),
                    None => Write::delete(key, expect),
                };
                let before = store.current().0;
                let result = store.write(write.clone()).await;
                let next = match &result {
                    Ok(revision) if revision.0 > before => revision.0,
                    _ => before + 1,
                };
                assert!(next == before + 1 || !place.is_alone());
                let expected = model.write(&write, next);
                match result {
                    Ok(revision)
                        if matches!(&write.op, Op::Delete) && write.expect == Expect::Absent =>
                    {
                        assert!(expected.is_some() && revision.0 >= model.current());
                    }
                    Ok(revision) => assert_eq!(Some(revision.0), expected),
                    Err(StoreError::Conflict { current, .. }) => {
                        assert_eq!(expected, None);
                        assert_eq!(current.map(|entry| entry.modified.0), modified);
                    }
                    Err(error) => panic!("{error}"),
                }
                check_current(&place, &store, &model);
            }
            Step::Compact { share } => {
                let up_to = model.revision(share);
                store.compact(Revision(up_to)).await.unwrap();
                model.compacted = model.compacted.max(up_to);
            }
            Step::Reopen => {
                store.close().await;
                store = place.open_with(options()).await;
                check_current(&place, &store, &model);
                assert_eq!(store.compacted().0, model.compacted);
            }
            Step::List {
                prefix,
                share,
                limit,
            } => {
                let at = share.map(|share| model.revision(share));
                check_list(&store, &model, PREFIXES[prefix], at, limit).await;
            }
            Step::Subscribe { prefix, share } => {
                check_events(&store, &model, PREFIXES[prefix], model.revision(share)).await;
            }
        }
    }
    store.close().await;
}

fn check_current(place: &Place, store: &Store, model: &Model) {
    if place.is_alone() {
        assert_eq!(store.current().0, model.current());
    } else {
        assert!(store.current().0 >= model.current());
    }
}

/// Runs random histories, each in a fresh place of the engine.
fn check(engine: &Place, cases: u32) {
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    proptest!(config, |(steps in prop::collection::vec(step(), 1..120))| {
        runtime.block_on(run(engine.another(), steps));
    });
}

mod sqlite {
    #[test]
    fn the_store_is_its_model() {
        super::check(&crate::support::Place::new(), 40);
    }
}

mod etcd {
    #[test]
    fn the_store_is_its_model() {
        let Some(place) = crate::support::Place::etcd() else {
            return;
        };
        super::check(&place, 12);
    }
}
