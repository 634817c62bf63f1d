//! Compare-and-swap, paging, and what one write costs.

use std::time::{Duration, Instant};

use store::{Expect, ListOptions, Options, Retention, Revision, Store, StoreError};

use crate::support::{Place, create, delete, manual, put};

#[tokio::test]
async fn a_write_happens_only_as_expected() {
    let place = Place::new();
    let store = place.open().await;
    assert_eq!(store.current(), Revision(1));
    let a = create(&store, "/a", "1").await.unwrap();
    assert_eq!(a, Revision(2));

    let conflict = create(&store, "/a", "2").await.unwrap_err();
    let StoreError::Conflict {
        current: Some(entry),
        ..
    } = conflict
    else {
        panic!("{conflict}")
    };
    assert_eq!(
        (&*entry.key, &*entry.value, entry.created, entry.modified),
        ("/a", &b"1"[..], a, a)
    );
    let missing = store
        .write(put("/b", Expect::At(a), "2"))
        .await
        .unwrap_err();
    assert!(
        matches!(missing, StoreError::Conflict { current: None, .. }),
        "{missing}"
    );
    assert_eq!(store.current(), a);

    // The same bytes again: no revision.
    assert_eq!(store.write(put("/a", Expect::At(a), "1")).await.unwrap(), a);
    let second = store.write(put("/a", Expect::At(a), "2")).await.unwrap();
    let stale = store.write(delete("/a", a)).await.unwrap_err();
    assert!(
        matches!(
            stale,
            StoreError::Conflict {
                current: Some(_),
                ..
            }
        ),
        "{stale}"
    );
    let entry = store.get("/a").await.unwrap().unwrap();
    assert_eq!((entry.created, entry.modified), (a, second));
    let gone = store.write(delete("/a", second)).await.unwrap();
    assert_eq!((gone, store.current()), (Revision(4), Revision(4)));
    assert_eq!(store.get("/a").await.unwrap(), None);
    // A key that comes again is a new one, and its value may be empty.
    let again = create(&store, "/a", "").await.unwrap();
    let entry = store.get("/a").await.unwrap().unwrap();
    assert_eq!((entry.created, entry.value.len()), (again, 0));

    let long = store
        .write(put(&"k".repeat(5000), Expect::Absent, ""))
        .await
        .unwrap_err();
    assert!(matches!(long, StoreError::InvalidKey { .. }), "{long}");
    let large = store
        .write(put("/big", Expect::Absent, vec![0; 9 << 20]))
        .await
        .unwrap_err();
    assert!(matches!(large, StoreError::TooLarge { .. }), "{large}");
}

#[tokio::test]
async fn pages_show_one_revision_until_it_is_compacted() {
    let place = Place::new();
    let store = place.open().await;
    let mut last = Revision(0);
    for key in ["/p/a", "/p/b", "/p/c", "/p/d", "/q/a", "/p"] {
        last = create(&store, key, "old").await.unwrap();
    }
    let list = |after: Option<&'static str>, at| ListOptions {
        prefix: "/p/",
        after,
        limit: 2,
        at,
    };
    let keys = |page: &store::Page| {
        page.entries
            .iter()
            .map(|entry| entry.key.to_string())
            .collect::<Vec<_>>()
    };

    let first = store.list(list(None, None)).await.unwrap();
    assert_eq!(
        (keys(&first), first.more, first.remaining),
        (vec!["/p/a".into(), "/p/b".into()], true, 2)
    );
    assert_eq!(first.revision, last);
    // Later changes do not show on the next page.
    let c = store.get("/p/c").await.unwrap().unwrap();
    store.write(delete("/p/c", c.modified)).await.unwrap();
    create(&store, "/p/bb", "new").await.unwrap();
    let second = store
        .list(list(Some("/p/b"), Some(first.revision)))
        .await
        .unwrap();
    assert_eq!(
        (keys(&second), second.more, second.remaining),
        (vec!["/p/c".into(), "/p/d".into()], false, 0)
    );
    assert_eq!(second.revision, first.revision);

    store.compact(store.current()).await.unwrap();
    let gone = store
        .list(list(Some("/p/b"), Some(first.revision)))
        .await
        .unwrap_err();
    assert!(
        matches!(gone, StoreError::Compacted { oldest } if oldest == store.current()),
        "{gone}"
    );
    let future = store
        .list(list(None, Some(Revision(1000))))
        .await
        .unwrap_err();
    assert!(matches!(future, StoreError::Future { .. }), "{future}");
    let all = ListOptions {
        prefix: "/p/",
        ..ListOptions::default()
    };
    assert_eq!(
        keys(&store.list(all).await.unwrap()),
        ["/p/a", "/p/b", "/p/bb", "/p/d"]
    );
}

#[tokio::test]
async fn many_writers_share_a_commit_and_one_key_has_one_winner() {
    let place = Place::new();
    let store = place.open().await;
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..64 {
        let store = store.clone();
        tasks.spawn(async move {
            let own = store
                .write(put(&format!("/own/{writer}"), Expect::Absent, "x"))
                .await
                .unwrap();
            let shared = store
                .write(put("/shared", Expect::Absent, format!("{writer}")))
                .await;
            (own, shared.is_ok())
        });
    }
    let results = tasks.join_all().await;
    assert_eq!(results.iter().filter(|(_, won)| *won).count(), 1);
    let mut revisions: Vec<Revision> = results.iter().map(|(own, _)| *own).collect();
    revisions.sort_unstable();
    revisions.dedup();
    assert_eq!(revisions.len(), 64);
    assert_eq!(store.current(), Revision(66));
}

#[tokio::test]
async fn history_that_nobody_needs_goes_away_by_itself() {
    let place = Place::new();
    let retention = Some(Retention {
        revisions: 100,
        age: Duration::ZERO,
    });
    let store = Store::open(
        &place.path(),
        Options {
            retention,
            ..Options::default()
        },
    )
    .await
    .unwrap();
    let value = vec![7_u8; 20_000];
    let mut at = store
        .write(put("/hot", Expect::Absent, value.clone()))
        .await
        .unwrap();
    create(&store, "/cold", "kept").await.unwrap();
    for round in 0..1500_u32 {
        let mut value = value.clone();
        value[..4].copy_from_slice(&round.to_be_bytes());
        at = store
            .write(put("/hot", Expect::At(at), value))
            .await
            .unwrap();
    }
    assert!(
        store.compacted().0 > 1000,
        "compacted only up to {}",
        store.compacted()
    );
    assert!(store.compacted().0 <= at.0 - 100);
    assert_eq!(&*store.get("/cold").await.unwrap().unwrap().value, b"kept");
    let wal = std::fs::metadata(place.folder.path().join("state.db-wal"))
        .unwrap()
        .len();
    assert!(wal < 40 << 20, "the WAL has {wal} bytes");
    // 30 MB were written; what is left of it is little more than the revisions kept.
    store.compact(at).await.unwrap();
    store.close().await;
    let store = Store::open(&place.path(), manual()).await.unwrap();
    assert_eq!((store.current(), store.compacted()), (at, at));
    store.close().await;
    let size = std::fs::metadata(place.path()).unwrap().len();
    assert!(size < 12 << 20, "the file has {size} bytes");
}

/// Not a bound, a look: how a write compares with the fsync that it cannot do without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_costs_little_more_than_its_fsync() {
    use std::io::Write as _;
    let place = Place::new();
    let store = place.open().await;
    let mut file = std::fs::File::create(place.folder.path().join("probe")).unwrap();
    let (mut syncs, mut writes) = (Vec::new(), Vec::new());
    for round in 0..200 {
        let started = Instant::now();
        file.write_all(&[0; 16 << 10]).unwrap();
        file.sync_data().unwrap();
        syncs.push(started.elapsed());
        let started = Instant::now();
        store
            .write(put(&format!("/{round}"), Expect::Absent, vec![1; 2000]))
            .await
            .unwrap();
        writes.push(started.elapsed());
    }
    syncs.sort_unstable();
    writes.sort_unstable();
    let started = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for writer in 0..2000 {
        let store = store.clone();
        tasks.spawn(async move {
            store
                .write(put(&format!("/m/{writer}"), Expect::Absent, vec![1; 2000]))
                .await
        });
    }
    tasks.join_all().await;
    println!(
        "fsync {:?}, write {:?} (medians); 2000 concurrent writes {:?}",
        syncs[100],
        writes[100],
        started.elapsed()
    );
}
