//! Values that end by themselves, values that are sealed, and a store that is closed.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use store::{EventKind, Expect, ListOptions, Options, Seal, SealKey, StoreError};

use crate::support::{Place, create, manual, put, read};

contract!(
    a_value_with_a_time_to_live_ends,
    a_later_put_ends_or_renews_a_time_to_live,
    sync_returns_what_was_acknowledged,
    sealed_values_are_not_in_the_open,
    a_closed_store_says_so,
);

/// The end of a value with a short time to live: not before it, and soon after. etcd's shortest lease is
/// two seconds, shared ones live two more, and it looks twice a second for those that are over.
const SOON: Duration = Duration::from_secs(10);

async fn a_value_with_a_time_to_live_ends(place: Place) {
    let store = place.open().await;
    let mut events = store.subscribe("", store.current()).unwrap();
    let ttl = Duration::from_secs(2);
    let began = SystemTime::now();
    for key in ["/e/1", "/e/2"] {
        let write = put(key, Expect::Absent, "x").with_ttl(ttl);
        store.write(write).await.unwrap();
    }
    create(&store, "/stays", "x").await.unwrap();
    let entry = store.get("/e/1").await.unwrap().unwrap();
    let expires = entry.expires.unwrap();
    assert!(
        expires >= began + ttl && expires < began + ttl + SOON,
        "{expires:?}"
    );
    assert_eq!(store.get("/stays").await.unwrap().unwrap().expires, None);

    // It does not matter that the store is closed meanwhile.
    read(&mut events, 3).await;
    let at = store.current();
    store.close().await;
    let store = place.open().await;
    let listed = store.list(ListOptions::default()).await.unwrap();
    let ends: Vec<bool> = listed
        .entries
        .iter()
        .map(|entry| entry.expires.is_some())
        .collect();
    assert_eq!(ends, [true, true, false]);
    let mut events = store.subscribe("", at).unwrap();
    let deleted = tokio::time::timeout(SOON, read(&mut events, 2))
        .await
        .unwrap();
    assert!(SystemTime::now() >= began + ttl, "too early");
    for event in &deleted {
        assert_eq!((event.kind, &*event.value), (EventKind::Deleted, &b"x"[..]));
    }
    let left = store.list(ListOptions::default()).await.unwrap().entries;
    assert_eq!(
        left.iter().map(|entry| &*entry.key).collect::<Vec<_>>(),
        ["/stays"]
    );
}

async fn a_later_put_ends_or_renews_a_time_to_live(place: Place) {
    let store = place.open().await;
    let mut events = store.subscribe("", store.current()).unwrap();
    let ttl = Duration::from_secs(1);
    let mut at = Vec::new();
    for key in ["/kept", "/renewed", "/same", "/short"] {
        let write = put(key, Expect::Absent, "1").with_ttl(ttl);
        at.push(store.write(write).await.unwrap());
    }
    store
        .write(put("/kept", Expect::At(at[0]), "2"))
        .await
        .unwrap();
    let hour = Duration::from_secs(3600);
    let renewed = put("/renewed", Expect::At(at[1]), "2").with_ttl(hour);
    store.write(renewed).await.unwrap();
    // The same bytes change nothing, not the time either.
    let same = put("/same", Expect::At(at[2]), "1").with_ttl(hour);
    assert_eq!(store.write(same).await.unwrap(), at[2]);

    let started = Instant::now();
    let mut gone = Vec::new();
    while gone.len() < 2 {
        let left = SOON.saturating_sub(started.elapsed());
        let batch = tokio::time::timeout(left, events.next())
            .await
            .unwrap()
            .unwrap();
        let deleted = batch
            .events
            .iter()
            .filter(|event| event.kind == EventKind::Deleted);
        gone.extend(deleted.map(|event| event.key.to_string()));
    }
    gone.sort_unstable();
    assert_eq!(gone, ["/same", "/short"]);
    assert_eq!(store.get("/kept").await.unwrap().unwrap().expires, None);
    let expires = store
        .get("/renewed")
        .await
        .unwrap()
        .unwrap()
        .expires
        .unwrap();
    let left = expires.duration_since(SystemTime::now()).unwrap();
    assert!(
        left > hour - SOON && left <= hour + Duration::from_secs(61),
        "{left:?}"
    );
}

async fn sync_returns_what_was_acknowledged(place: Place) {
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let store = store.clone();
        tasks.spawn(async move {
            for round in 0..20 {
                let key = format!("/{writer}/{round}");
                let revision = store.write(put(&key, Expect::Absent, "x")).await.unwrap();
                assert!(store.sync().await.unwrap() >= revision);
            }
        });
    }
    tasks.join_all().await;
}

fn sealed(keys: &[SealKey]) -> Options {
    let seal = Seal::new(vec!["/secrets/".to_owned()], keys);
    Options {
        seal: Some(Arc::new(seal)),
        ..manual()
    }
}

async fn sealed_values_are_not_in_the_open(place: Place) {
    let key = |id: u32, byte| SealKey {
        id,
        secret: [byte; 32],
    };
    let (old, new) = (key(1, 7), key(2, 8));
    let (secret, plain) = (b"hunter2-hunter2", b"visible-visible");
    let store = place.open_with(sealed(std::slice::from_ref(&old))).await;
    let start = store.current();
    let at = store
        .write(put("/secrets/a", Expect::Absent, &secret[..]))
        .await
        .unwrap();
    store
        .write(put("/plain/a", Expect::Absent, &plain[..]))
        .await
        .unwrap();
    // Sealing again gives the same bytes: no revision.
    let same = store
        .write(put("/secrets/a", Expect::At(at), &secret[..]))
        .await
        .unwrap();
    assert_eq!(same, at);
    let entry = store.get("/secrets/a").await.unwrap().unwrap();
    assert_eq!(&*entry.value, secret);
    let mut events = store.subscribe("/secrets/", start).unwrap();
    assert_eq!(&*read(&mut events, 1).await[0].value, secret);
    let conflict = create(&store, "/secrets/a", "x").await.unwrap_err();
    let StoreError::Conflict {
        current: Some(current),
        ..
    } = conflict
    else {
        panic!("{conflict}")
    };
    assert_eq!(&*current.value, secret);
    let raw = ListOptions {
        prefix: "/secrets/",
        ..ListOptions::default()
    };
    let stored = store.list_sealed(raw).await.unwrap().entries[0]
        .value
        .clone();
    assert_eq!(store::sealed_with(&stored), Some(1));
    store.close().await;
    assert!(place.holds(plain) && !place.holds(secret));

    // Another key cannot open it; the old one with a newer one can, and seals it anew.
    let store = place.open_with(sealed(std::slice::from_ref(&new))).await;
    let error = store.get("/secrets/a").await.unwrap_err();
    assert!(matches!(error, StoreError::Sealed { .. }), "{error}");
    assert_eq!(&*store.get("/plain/a").await.unwrap().unwrap().value, plain);
    store.close().await;
    let store = place.open_with(sealed(&[new.clone(), old])).await;
    assert_eq!(store.reseal().await.unwrap(), 1);
    assert_eq!(store.reseal().await.unwrap(), 0);
    store.close().await;
    let store = place.open_with(sealed(&[new])).await;
    assert_eq!(
        &*store.get("/secrets/a").await.unwrap().unwrap().value,
        secret
    );
    store.close().await;
}

async fn a_closed_store_says_so(place: Place) {
    let store = place.open().await;
    let other = store.clone();
    let mut events = store.subscribe("", store.current()).unwrap();
    store.close().await;
    assert!(matches!(events.next().await, Err(StoreError::Closed)));
    assert!(matches!(
        create(&other, "/a", "1").await,
        Err(StoreError::Closed)
    ));
    assert!(matches!(other.get("/a").await, Err(StoreError::Closed)));
    let list = other.list(ListOptions::default()).await;
    assert!(matches!(list, Err(StoreError::Closed)));
    let subscribed = other.subscribe("", other.current());
    assert!(matches!(subscribed, Err(StoreError::Closed)));
    let compacted = other.compact(other.current()).await;
    assert!(matches!(compacted, Err(StoreError::Closed)));
    other.close().await;
}
