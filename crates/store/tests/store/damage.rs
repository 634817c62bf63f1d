//! Files that are not as they should be, and disks that are full.

mod bits;
mod full;

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use store::{Expect, ListOptions, Store, StoreError};

use crate::support::{Place, create, manual, put};

async fn filled(place: &Place) {
    let store = place.open().await;
    for key in 0..100 {
        store
            .write(put(&format!("/{key}"), Expect::Absent, vec![b'v'; 3000]))
            .await
            .unwrap();
    }
    store.close().await;
}

async fn refusal(path: &Path) -> StoreError {
    let error = Store::open(path, manual()).await.unwrap_err();
    assert!(
        error.to_string().contains(path.to_str().unwrap()),
        "names the file: {error}"
    );
    error
}

#[tokio::test]
async fn damaged_and_foreign_files_are_named_and_left_alone() {
    let place = Place::new();
    filled(&place).await;
    let path = place.path();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let good = std::fs::read(&path).unwrap();

    let half = good[..good.len() / 2].to_vec();
    let mut scrambled = good.clone();
    scrambled[..4096].fill(0x5a);
    let mut later = good.clone();
    later[60..64].copy_from_slice(&9_i32.to_be_bytes());
    let mut foreign = good.clone();
    foreign[68..72].copy_from_slice(&1_i32.to_be_bytes());
    type Check = fn(&StoreError) -> bool;
    let corrupt: Check = |error| matches!(error, StoreError::Corrupt { .. });
    let table: [(&str, Vec<u8>, Check); 7] = [
        ("half", half, corrupt),
        ("scrambled", scrambled, corrupt),
        (
            "text",
            b"not a database, but long enough to look at: ".repeat(9),
            corrupt,
        ),
        ("short", b"SQLite".to_vec(), corrupt),
        ("empty", Vec::new(), corrupt),
        ("newer", later, |error| {
            matches!(error, StoreError::TooNew { found: 9, .. })
        }),
        ("foreign", foreign, |error| {
            matches!(error, StoreError::Foreign { found: 1, .. })
        }),
    ];
    for (name, content, check) in table {
        std::fs::write(&path, &content).unwrap();
        let error = refusal(&path).await;
        assert!(check(&error), "{name}: {error}");
        assert_eq!(std::fs::read(&path).unwrap(), content, "{name} was changed");
    }
    std::fs::write(&path, &good).unwrap();
    let store = place.open().await;
    assert_eq!(
        store
            .list(ListOptions::default())
            .await
            .unwrap()
            .entries
            .len(),
        100
    );
}

#[tokio::test]
async fn damage_in_the_middle_is_an_error_not_a_panic() {
    let place = Place::new();
    filled(&place).await;
    let mut content = std::fs::read(place.path()).unwrap();
    let end = content.len() - 4096;
    content[8192..end].fill(0xff);
    std::fs::write(place.path(), content).unwrap();
    let error = match Store::open(&place.path(), manual()).await {
        Err(error) => error,
        Ok(store) => store.list(ListOptions::default()).await.unwrap_err(),
    };
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
}

#[tokio::test]
async fn one_process_at_a_time() {
    let place = Place::new();
    let store = place.open().await;
    let error = refusal(&place.path()).await;
    assert!(matches!(error, StoreError::Locked { .. }), "{error}");
    store.close().await;
    place.open().await.close().await;
}

#[tokio::test]
async fn a_closed_store_says_so() {
    let place = Place::new();
    let store = place.open().await;
    let other = store.clone();
    store.close().await;
    assert!(matches!(
        create(&other, "/a", "1").await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(other.get("/a").await, Err(StoreError::Closed)));
    assert!(matches!(
        other.subscribe("", other.current()),
        Err(StoreError::Closed)
    ));
    assert!(matches!(
        other.compact(other.current()).await,
        Err(StoreError::Closed)
    ));
    other.close().await;
}
