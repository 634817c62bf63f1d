//! Sealed values: what is on the disk, who can read it, and what a change of keys leaves.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use store::{Expect, ListOptions, Options, Seal, SealKey, SealUsage, Store, StoreError};

use crate::support::{Place, delete, put};

const SECRET: &str = "/registry/core/secrets/default/";
const PREFIX: &str = "/registry/core/secrets/";
const PLAIN: &str = "correct horse battery staple";
const OPEN: &str = "anybody may read this";

fn seal(keys: &[SealKey]) -> Arc<Seal> {
    Arc::new(Seal::new(vec![PREFIX.to_owned()], keys))
}

async fn open(place: &Place, seal: &Arc<Seal>) -> Store {
    let options = Options {
        retention: None,
        seal: Some(seal.clone()),
        ..Options::default()
    };
    Store::open(&place.path(), options).await.unwrap()
}

/// Which files of a folder have some bytes in them.
fn files_with(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        if content
            .windows(needle.len())
            .any(|part| part == needle.as_bytes())
        {
            found.push(path.file_name().unwrap().to_string_lossy().into_owned());
        }
    }
    found.sort();
    found
}

fn usage(plain: u64, sealed: &[(&SealKey, u64)]) -> SealUsage {
    SealUsage {
        plain,
        sealed: sealed.iter().map(|(key, count)| (key.id, *count)).collect(),
    }
}

#[tokio::test]
async fn what_is_sealed_is_not_on_the_disk() {
    let place = Place::new();
    let keys = [SealKey::generate().unwrap()];
    let store = open(&place, &seal(&keys)).await;
    let key = format!("{SECRET}a");
    let first = store.write(put(&key, Expect::Absent, PLAIN)).await.unwrap();
    let again = store
        .write(put(&key, Expect::At(first), PLAIN))
        .await
        .unwrap();
    assert_eq!(first, again, "the same bytes change nothing");
    let second = store
        .write(put(&key, Expect::At(first), format!("{PLAIN} 2")))
        .await
        .unwrap();
    let map = "/registry/core/configmaps/default/a";
    store.write(put(map, Expect::Absent, OPEN)).await.unwrap();
    assert_eq!(files_with(place.folder.path(), PLAIN), [""; 0]);
    assert_eq!(files_with(place.folder.path(), OPEN), ["state.db-wal"]);

    // Conflicts and the history are readable to us.
    let conflict = store.write(delete(&key, first)).await.unwrap_err();
    let StoreError::Conflict { current, .. } = conflict else {
        panic!("{conflict}")
    };
    assert_eq!(current.unwrap().value, format!("{PLAIN} 2"));
    let mut subscription = store
        .subscribe(PREFIX, store::Revision(first.0 - 1))
        .unwrap();
    let events = subscription.next().await.unwrap().events;
    assert_eq!(events[0].value, PLAIN);
    assert_eq!(events[1].previous.as_deref(), Some(PLAIN.as_bytes()));

    store.write(delete(&key, second)).await.unwrap();
    store.close().await;
    assert_eq!(files_with(place.folder.path(), PLAIN), [""; 0]);
    assert_eq!(files_with(place.folder.path(), OPEN), ["state.db"]);
}

#[tokio::test]
async fn another_key_does_not_open_and_names_the_missing_one() {
    let place = Place::new();
    let (ours, other) = (SealKey::generate().unwrap(), SealKey::generate().unwrap());
    let key = format!("{SECRET}a");
    let store = open(&place, &seal(std::slice::from_ref(&ours))).await;
    let revision = store.write(put(&key, Expect::Absent, PLAIN)).await.unwrap();
    store.close().await;

    let store = open(&place, &seal(&[other])).await;
    assert_eq!(store.seal_usage().await.unwrap(), usage(0, &[(&ours, 1)]));
    let named = format!("{:08x}", ours.id);
    let before = store::Revision(revision.0 - 1);
    let errors = [
        store.get(&key).await.unwrap_err(),
        store.list(ListOptions::default()).await.unwrap_err(),
        store.reseal().await.unwrap_err(),
        store
            .subscribe("", before)
            .unwrap()
            .next()
            .await
            .unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(matches!(error, StoreError::Sealed { .. }), "{text}");
        assert!(text.contains(&named) && text.contains(&key), "{text}");
    }
    // It is still there for whoever has the key.
    store.close().await;
    let store = open(&place, &seal(&[ours])).await;
    assert_eq!(store.get(&key).await.unwrap().unwrap().value, PLAIN);
}

#[tokio::test]
async fn flipped_bits_and_moved_values_do_not_open() {
    let place = Place::new();
    let seal = seal(&[SealKey::generate().unwrap()]);
    let (a, b) = (format!("{SECRET}a"), format!("{SECRET}b"));
    let store = open(&place, &seal).await;
    store.write(put(&a, Expect::Absent, PLAIN)).await.unwrap();
    store.write(put(&b, Expect::Absent, "other")).await.unwrap();
    store.close().await;

    let stored = |key: &str| -> Vec<u8> {
        let database = rusqlite::Connection::open(place.path()).unwrap();
        let select = "SELECT value FROM log WHERE key = ?1";
        let value = database.query_row(select, [key.as_bytes()], |row| row.get(0));
        value.unwrap()
    };
    let good = stored(&a);
    let mut table: Vec<(String, Vec<u8>)> = [4, 8, 31, 32, good.len() - 1]
        .into_iter()
        .map(|at| {
            let mut flipped = good.clone();
            flipped[at] ^= 1;
            (format!("byte {at}"), flipped)
        })
        .collect();
    table.push(("moved".to_owned(), stored(&b)));
    table.push(("cut".to_owned(), good[..20].to_vec()));
    for (name, value) in table {
        let database = rusqlite::Connection::open(place.path()).unwrap();
        let update = "UPDATE log SET value = ?1 WHERE key = ?2";
        database
            .execute(update, rusqlite::params![value, a.as_bytes()])
            .unwrap();
        drop(database);
        let store = open(&place, &seal).await;
        let error = store.get(&a).await.unwrap_err();
        assert!(
            matches!(error, StoreError::Sealed { .. }),
            "{name}: {error}"
        );
        store.close().await;
    }
}

#[tokio::test]
async fn a_plain_database_is_sealed_and_scrubbed() {
    let place = Place::new();
    let store = place.open().await;
    for number in 0..240 {
        // Some large, some deleted, some replaced: free pages, gaps in pages, history.
        let value = format!("{PLAIN} {}", "x".repeat(number * 37 % 6000));
        let key = format!("{SECRET}{number}");
        let at = store.write(put(&key, Expect::Absent, value)).await.unwrap();
        match number % 3 {
            0 => drop(store.write(delete(&key, at)).await.unwrap()),
            1 => drop(store.write(put(&key, Expect::At(at), PLAIN)).await.unwrap()),
            _ => {}
        }
    }
    store
        .compact(store::Revision(store.current().0 - 100))
        .await
        .unwrap();
    store.close().await;
    assert_eq!(files_with(place.folder.path(), PLAIN), ["state.db"]);

    let key = SealKey::generate().unwrap();
    let store = open(&place, &seal(std::slice::from_ref(&key))).await;
    assert_eq!(store.seal_usage().await.unwrap(), usage(160, &[]));
    let first = store.get(&format!("{SECRET}1")).await.unwrap().unwrap();
    assert_eq!(first.value, PLAIN);
    assert_eq!(store.reseal().await.unwrap(), 160);
    assert_eq!(
        store.reseal().await.unwrap(),
        0,
        "there is nothing left to do"
    );
    assert_eq!(store.seal_usage().await.unwrap(), usage(0, &[(&key, 160)]));
    store.scrub().await.unwrap();
    assert_eq!(files_with(place.folder.path(), PLAIN), [""; 0]);
    let page = store.list(ListOptions::default()).await.unwrap();
    assert_eq!(page.entries.len(), 160);
    assert!(
        page.entries
            .iter()
            .all(|entry| entry.value.starts_with(PLAIN.as_bytes()))
    );
    store
        .write(put("/after", Expect::Absent, ""))
        .await
        .unwrap();
    store.close().await;
    assert_eq!(files_with(place.folder.path(), PLAIN), [""; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_under_writers() {
    const WRITERS: u64 = 4;
    let place = Place::new();
    let mut keys = vec![SealKey::generate().unwrap()];
    let seal = seal(&keys);
    let store = open(&place, &seal).await;
    let still: Vec<_> = (0..600)
        .map(|number| put(&format!("{SECRET}still-{number}"), Expect::Absent, PLAIN))
        .collect();
    for some in still.chunks(100) {
        store.transact(some.to_vec()).await.unwrap();
    }
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..WRITERS {
        let (store, stopped) = (store.clone(), stopped.clone());
        writers.spawn(async move {
            let key = format!("{SECRET}busy-{writer}");
            let (mut expect, mut count) = (Expect::Absent, 0_u64);
            while !*stopped.borrow() {
                let value = Bytes::from(format!("{PLAIN} {count}"));
                match store.write(put(&key, expect, value)).await {
                    Ok(revision) => {
                        (expect, count) = (Expect::At(revision), count + 1);
                    }
                    // Sealed anew in between: the value must be the one that we wrote.
                    Err(StoreError::Conflict {
                        current: Some(entry),
                        ..
                    }) => {
                        assert_eq!(entry.value, format!("{PLAIN} {}", count - 1));
                        expect = Expect::At(entry.modified);
                    }
                    Err(error) => panic!("{error}"),
                }
            }
            count
        });
    }
    for _ in 0..5 {
        keys.insert(0, SealKey::generate().unwrap());
        seal.replace(&keys);
        assert!(store.reseal().await.unwrap() >= 600);
        let usage = store.seal_usage().await.unwrap();
        assert_eq!(usage.sealed.keys().collect::<Vec<_>>(), [&keys[0].id]);
        // What was sealed before the change is through: the older keys can go.
        keys.truncate(1);
        store.compact(store.current()).await.unwrap();
        seal.replace(&keys);
    }
    stop.send(true).unwrap();
    let written: u64 = writers.join_all().await.into_iter().sum();
    assert!(written > 100, "only {written} writes took part");
    let entries = store.list(ListOptions::default()).await.unwrap().entries;
    assert_eq!(entries.len(), 600 + usize::try_from(WRITERS).unwrap());
}

#[tokio::test]
async fn a_key_is_named_by_its_secret() {
    let key = SealKey::generate().unwrap();
    assert_eq!(SealKey::new(key.secret).id, key.id);
    let mut other = key.secret;
    other[31] ^= 1;
    assert_ne!(SealKey::new(other).id, key.id);
    assert!(!format!("{key:?}").contains(&format!("{:?}", key.secret)));
}
