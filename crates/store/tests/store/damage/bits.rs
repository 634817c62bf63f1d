//! Files that are cut, or have a bit turned over. Nothing that was acknowledged may be missing, and
//! nothing may be there that was not written, without an error that says so.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use store::{Event, ListOptions, Page, Revision, Store, StoreError};

use crate::support::{Place, manual, put, read};
use store::Expect;

const KEYS: u64 = 60;
const TRIES: usize = 60;
const TRIES_LONG: usize = 5000;

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn random() -> StdRng {
    let seed = std::env::var("STORE_SEED").map(|text| text.parse().unwrap());
    let seed = seed.unwrap_or_else(|_| rand::random());
    println!("STORE_SEED={seed}");
    StdRng::seed_from_u64(seed)
}

/// Everything that a store says.
#[derive(Debug, PartialEq)]
struct Said {
    page: Page,
    past: Vec<Event>,
}

async fn ask(path: &Path) -> Result<Said, StoreError> {
    let store = Store::open(path, manual()).await?;
    let page = store.list(ListOptions::default()).await?;
    for entry in &page.entries {
        assert_eq!(store.get(&entry.key).await?.as_ref(), Some(entry));
    }
    let mut subscription = store.subscribe("", Revision(1))?;
    let mut past = Vec::new();
    while past.len() as u64 + 1 < page.revision.0 {
        past.extend(subscription.next().await?.events);
    }
    store.close().await;
    Ok(Said { page, past })
}

/// Writes, and each key once more. Values fill part of a page, or several.
async fn fill(store: &Store) {
    for key in 0..KEYS {
        let name = format!("/bits/{key:03}");
        let value = |turn| vec![b'a' + turn; 300 + 97 * usize::try_from(key).unwrap()];
        let at = store
            .write(put(&name, Expect::Absent, value(0)))
            .await
            .unwrap();
        store
            .write(put(&name, Expect::At(at), value(1)))
            .await
            .unwrap();
    }
}

/// A copy of what a killed process would have left behind.
fn leave(from: &Path, to: &Path) {
    for suffix in ["", "-wal", "-lock"] {
        std::fs::copy(with(from, suffix), with(to, suffix)).unwrap();
    }
    let _ = std::fs::remove_file(with(to, "-shm"));
}

#[tokio::test]
async fn a_log_that_is_cut_or_flipped_is_noticed() {
    log(TRIES).await;
}

#[tokio::test]
#[ignore = "long: thousands of cuts and flips"]
async fn a_log_that_is_cut_or_flipped_is_noticed_long() {
    log(TRIES_LONG).await;
}

async fn log(tries: usize) {
    let (place, victim) = (Place::new(), Place::new());
    let mut random = random();
    let store = place.open().await;
    fill(&store).await;
    let path = victim.path();
    leave(&place.path(), &path);
    let good = std::fs::read(with(&path, "-wal")).unwrap();
    let whole = ask(&path).await.unwrap();
    assert_eq!(whole.past.len() as u64, 2 * KEYS);
    let (mut refused, mut short) = (0, 0);
    for attempt in 0..tries {
        leave(&place.path(), &path);
        let mut log = good.clone();
        let at = random.random_range(0..log.len());
        match attempt % 3 {
            0 => log.truncate(at),
            1 => log[at..].fill(0),
            _ => log[at] ^= 1 << random.random_range(0..8),
        }
        let with_log = |log: &[u8]| std::fs::write(with(&path, "-wal"), log).unwrap();
        with_log(&log);
        match ask(&path).await {
            Ok(said) => assert_eq!(said, whole, "at {at} of {}", good.len()),
            Err(StoreError::LostTail {
                found, committed, ..
            }) => {
                assert_eq!(committed, whole.page.revision);
                assert!(found < committed);
                refused += 1;
            }
            Err(StoreError::Corrupt { .. }) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        // Without the note, as after a power failure: a beginning of what was.
        leave(&place.path(), &path);
        with_log(&log);
        std::fs::write(with(&path, "-lock"), "made\n").unwrap();
        match ask(&path).await {
            Ok(said) => {
                assert_eq!(said.past, whole.past[..said.past.len()]);
                short += usize::from(said != whole);
            }
            Err(error) => assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}"),
        }
    }
    println!("{tries} logs damaged: {refused} refused, {short} unnoticed without the note");
    assert!(refused > tries / 2 && short > 0);
    store.close().await;
}

#[tokio::test]
async fn a_log_that_is_gone_is_noticed_and_can_be_done_without() {
    let (place, victim) = (Place::new(), Place::new());
    let store = place.open().await;
    fill(&store).await;
    let (before, path) = (store.current(), victim.path());
    leave(&place.path(), &path);
    std::fs::remove_file(with(&path, "-wal")).unwrap();
    // Nothing was written back yet, so nothing at all is left.
    let error = ask(&path).await.unwrap_err();
    assert!(
        matches!(
            &error,
            StoreError::Corrupt { .. } | StoreError::LostTail { .. }
        ),
        "{error}"
    );
    assert!(
        error.to_string().contains("knarr snapshot restore"),
        "{error}"
    );
    // An older copy in place of the database.
    store.close().await;
    std::fs::copy(place.path(), &path).unwrap();
    let reopened = place.open().await;
    let last = reopened
        .write(put("/later", Expect::Absent, "x"))
        .await
        .unwrap();
    reopened.close().await;
    std::fs::copy(with(&place.path(), "-lock"), with(&path, "-lock")).unwrap();
    let error = ask(&path).await.unwrap_err();
    let StoreError::LostTail {
        found,
        committed,
        lock,
        ..
    } = &error
    else {
        panic!("{error}");
    };
    assert_eq!((*found, *committed), (before, last));
    // As the message says.
    std::fs::remove_file(lock).unwrap();
    assert_eq!(ask(&path).await.unwrap().page.revision, before);
}

#[tokio::test]
async fn a_bit_of_the_database_is_noticed_when_it_is_read() {
    bits(TRIES).await;
}

#[tokio::test]
#[ignore = "long: thousands of flips"]
async fn a_bit_of_the_database_is_noticed_when_it_is_read_long() {
    bits(TRIES_LONG).await;
}

async fn bits(tries: usize) {
    let (place, victim) = (Place::new(), Place::new());
    let mut random = random();
    let store = place.open().await;
    fill(&store).await;
    store.close().await;
    let path = victim.path();
    std::fs::copy(place.path(), &path).unwrap();
    let good = std::fs::read(&path).unwrap();
    let whole = ask(&path).await.unwrap();
    let (mut refused, mut harmless) = (0, 0);
    for _ in 0..tries {
        let mut bytes = good.clone();
        let at = random.random_range(0..bytes.len());
        bytes[at] ^= 1 << random.random_range(0..8);
        std::fs::write(&path, &bytes).unwrap();
        for suffix in ["-wal", "-shm", "-lock"] {
            let _ = std::fs::remove_file(with(&path, suffix));
        }
        std::fs::copy(with(&place.path(), "-lock"), with(&path, "-lock")).unwrap();
        match tokio::time::timeout(std::time::Duration::from_secs(20), ask(&path)).await {
            Err(_elapsed) => panic!("byte {at}: an event is missing"),
            // What is not used, or says nothing about content.
            Ok(Ok(said)) if said == whole => harmless += 1,
            Ok(Ok(said)) => panic!(
                "byte {at} was not noticed: {} keys",
                said.page.entries.len()
            ),
            Ok(Err(error)) => {
                assert!(
                    error.to_string().contains("state.db"),
                    "names the file: {error}"
                );
                refused += 1;
            }
        }
    }
    println!("{tries} bits turned over: {refused} refused, {harmless} without consequence");
    assert!(refused > tries / 3);
}

#[tokio::test]
async fn a_value_that_was_changed_is_not_handed_out() {
    let place = Place::new();
    let store = place.open().await;
    fill(&store).await;
    store.close().await;
    let mut bytes = std::fs::read(place.path()).unwrap();
    // In the middle of a large value SQLite has nothing to check.
    let run = vec![b'b'; 2000];
    let at = bytes.windows(run.len()).position(|bytes| bytes == run);
    bytes[at.unwrap() + 1000] = b'c';
    std::fs::write(place.path(), bytes).unwrap();
    let store = place.open().await;
    let error = store.list(ListOptions::default()).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    let mut subscription = store.subscribe("", Revision(1)).unwrap();
    let error = loop {
        match subscription.next().await {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    // Others are not affected.
    let mut fresh = store.subscribe("", store.current()).unwrap();
    store
        .write(put("/fresh", Expect::Absent, "x"))
        .await
        .unwrap();
    assert_eq!(read(&mut fresh, 1).await.len(), 1);
}
