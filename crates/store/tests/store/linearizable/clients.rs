//! The clients: each has one call under way, and acts on what it has last seen of a key, so that many
//! swaps fail.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::{Entry, Expect, ListOptions, Revision, Store, StoreError, Write};

use super::checker::KEYS;

const PREFIX: &str = "/lin/";

/// Runs clients under these numbers until each has made so many calls.
pub(super) async fn run<S>(store: &Store, names: Range<u64>, calls: u64, seed: u64, say: Arc<S>)
where
    S: Fn(&str) + Send + Sync + 'static,
{
    let next_name = Arc::new(AtomicU64::new(names.end));
    let mut tasks = tokio::task::JoinSet::new();
    for name in names {
        let mut client = Client {
            store: store.clone(),
            name,
            next_name: next_name.clone(),
            random: StdRng::seed_from_u64(seed.wrapping_add(name)),
            seen: HashMap::new(),
            written: 0,
            say: say.clone(),
        };
        tasks.spawn(async move {
            for _ in 0..calls {
                client.call().await;
            }
        });
    }
    tasks.join_all().await;
}

struct Client<S> {
    store: Store,
    name: u64,
    next_name: Arc<AtomicU64>,
    random: StdRng,
    /// The value and revision of each key when last seen.
    seen: HashMap<&'static str, (u64, Revision)>,
    written: u64,
    say: Arc<S>,
}

fn path(key: &str) -> String {
    format!("{PREFIX}{key}")
}

fn id(entry: &Entry) -> u64 {
    std::str::from_utf8(&entry.value).unwrap().parse().unwrap()
}

fn word(id: Option<u64>) -> String {
    id.map_or("-".to_owned(), |id| id.to_string())
}

impl<S: Fn(&str)> Client<S> {
    async fn call(&mut self) {
        match self.random.random_range(0..20) {
            0..6 => self.get().await,
            6..8 => self.list().await,
            8..17 => self.transact(1).await,
            _ => self.transact(2).await,
        }
    }

    fn invoke(&self, op: &str) {
        (self.say)(&format!("inv {} {op}", self.name));
    }

    fn told(&self, answer: &str) {
        (self.say)(&format!("ret {} {answer}", self.name));
    }

    /// Nobody knows what became of the call: it stays open for ever.
    fn lost(&mut self, error: &StoreError) {
        assert!(
            matches!(error, StoreError::Unreachable { .. }),
            "{error:?} {error}"
        );
        self.name = self.next_name.fetch_add(1, Ordering::Relaxed);
    }

    fn saw(&mut self, key: &'static str, entry: Option<&Entry>) -> Option<u64> {
        match entry {
            Some(entry) => self.seen.insert(key, (id(entry), entry.modified)),
            None => self.seen.remove(key),
        };
        entry.map(id)
    }

    fn any_key(&mut self) -> &'static str {
        KEYS[self.random.random_range(0..KEYS.len())]
    }

    async fn get(&mut self) {
        let key = self.any_key();
        self.invoke(&format!("g {key}"));
        match self.store.get(&path(key)).await {
            Ok(entry) => {
                let id = self.saw(key, entry.as_ref());
                self.told(&format!("got {}", word(id)));
            }
            Err(error) => self.lost(&error),
        }
    }

    async fn list(&mut self) {
        self.invoke("l");
        let options = ListOptions {
            prefix: PREFIX,
            ..ListOptions::default()
        };
        match self.store.list(options).await {
            Ok(page) => {
                let ids = KEYS.map(|key| {
                    let path = path(key);
                    let entry = page.entries.iter().find(|entry| *entry.key == *path);
                    word(self.saw(key, entry))
                });
                self.told(&format!("list {}", ids.join(",")));
            }
            Err(error) => self.lost(&error),
        }
    }

    async fn transact(&mut self, count: usize) {
        let mut keys = vec![self.any_key()];
        while keys.len() < count {
            let key = self.any_key();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        let (mut writes, mut words, mut new) = (Vec::new(), Vec::new(), Vec::new());
        for key in &keys {
            self.written += 1;
            // Unique over all clients.
            let value = self.name * 1_000_000 + self.written;
            let seen = self.seen.get(key);
            let expect = seen.map_or(Expect::Absent, |(_, at)| Expect::At(*at));
            let deletes = seen.is_some() && self.random.random_bool(0.25);
            let write = match deletes {
                true => Write::delete(path(key), expect),
                false => Write::put(path(key), expect, value.to_string()),
            };
            let after = (!deletes).then_some(value);
            words.push(format!(
                "{key}:{}:{}",
                word(seen.map(|(id, _)| *id)),
                word(after)
            ));
            writes.push(write);
            new.push(after);
        }
        self.invoke(&format!("t {}", words.join(",")));
        match self.store.transact(writes).await {
            Ok(revisions) => {
                self.told("ok");
                for ((key, id), revision) in keys.into_iter().zip(new).zip(revisions) {
                    match id {
                        Some(id) => self.seen.insert(key, (id, revision)),
                        None => self.seen.remove(key),
                    };
                }
            }
            Err(StoreError::Conflict { key, current }) => {
                let key = key.strip_prefix(PREFIX).unwrap();
                let key = KEYS.into_iter().find(|other| *other == key).unwrap();
                let id = self.saw(key, current.as_ref());
                self.told(&format!("conflict {key} {}", word(id)));
            }
            Err(error) => self.lost(&error),
        }
    }
}
