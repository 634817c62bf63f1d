//! Compare-and-swap, transactions, paging; and of SQLite what one write costs.

use std::time::{Duration, Instant};

use store::{Expect, ListOptions, Options, Retention, Revision, Store, StoreError, Write};

use crate::support::{Place, create, delete, manual, put, read, revisions};

contract!(
    a_write_happens_only_as_expected,
    a_transaction_happens_whole_or_not_at_all,
    pages_show_one_revision_until_it_is_compacted,
    a_long_list_is_one_revision,
    one_key_has_one_winner,
);

async fn a_write_happens_only_as_expected(place: Place) {
    let store = place.open().await;
    let start = store.current();
    if place.is_alone() {
        assert_eq!(start, Revision(1));
    }
    let a = create(&store, "/a", "1").await.unwrap();
    assert_eq!(a, Revision(start.0 + 1));

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
    assert_eq!((gone, store.current()), (Revision(start.0 + 3), gone));
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

async fn a_transaction_happens_whole_or_not_at_all(place: Place) {
    let store = place.open().await;
    let mut events = store.subscribe("", store.current()).unwrap();
    assert_eq!(store.transact(Vec::new()).await.unwrap(), []);
    let a = create(&store, "/a", "1").await.unwrap();
    let b = create(&store, "/b", "1").await.unwrap();

    let wrong = vec![
        put("/a", Expect::At(a), "2"),
        put("/b", Expect::At(a), "2"),
        put("/c", Expect::Absent, "2"),
    ];
    let error = store.transact(wrong).await.unwrap_err();
    let StoreError::Conflict {
        key,
        current: Some(current),
    } = error
    else {
        panic!("{error}")
    };
    assert_eq!((&*key, current.modified), ("/b", b));
    assert_eq!(store.current(), b);
    assert_eq!(store.get("/c").await.unwrap(), None);

    let all = vec![
        put("/a", Expect::At(a), "2"),
        put("/same", Expect::Absent, "new"),
        delete("/b", b),
        Write::delete("/none", Expect::Absent),
    ];
    let done = store.transact(all).await.unwrap();
    let last = *done.iter().max().unwrap();
    assert!(done[..3].iter().all(|revision| *revision > b), "{done:?}");
    assert!(done.is_sorted(), "{done:?}");
    assert_eq!(store.current(), last);
    let got = read(&mut events, 5).await;
    let keys: Vec<&str> = got.iter().map(|event| &*event.key).collect();
    assert_eq!(keys[..2], ["/a", "/b"]);
    let mut changed = keys[2..].to_vec();
    changed.sort_unstable();
    assert_eq!(changed, ["/a", "/b", "/same"]);
    assert!(revisions(&got).is_sorted());

    // What is there already makes no revision; with something else it keeps its own.
    let same = || {
        vec![
            put("/a", Expect::At(done[0]), "2"),
            put("/same", Expect::At(done[1]), "new"),
        ]
    };
    assert_eq!(store.transact(same()).await.unwrap(), done[..2]);
    assert_eq!(store.current(), last);
    let mut more = same();
    more.push(put("/d", Expect::Absent, ""));
    let mixed = store.transact(more).await.unwrap();
    assert_eq!(mixed[..2], done[..2]);
    assert_eq!((store.current(), mixed[2] > last), (mixed[2], true));
    let got = read(&mut events, 1).await;
    assert_eq!((got.len(), &*got[0].key), (1, "/d"));

    let twice = vec![
        put("/x", Expect::Absent, "1"),
        put("/x", Expect::Absent, "2"),
    ];
    let error = store.transact(twice).await.unwrap_err();
    assert!(
        matches!(error, StoreError::InvalidTransaction { .. }),
        "{error}"
    );
    // As many as there may be, over values.
    let many = |expect: &dyn Fn(usize) -> Expect, value: &'static str| {
        (0..128)
            .map(|at| put(&format!("/many/{at}"), expect(at), value))
            .collect::<Vec<_>>()
    };
    let first = store
        .transact(many(&|_| Expect::Absent, "1"))
        .await
        .unwrap();
    store
        .transact(many(&|at| Expect::At(first[at]), "2"))
        .await
        .unwrap();
    let mut over = many(&|_| Expect::Absent, "3");
    over.push(put("/over", Expect::Absent, ""));
    let error = store.transact(over).await.unwrap_err();
    assert!(
        matches!(error, StoreError::InvalidTransaction { .. }),
        "{error}"
    );
}

async fn pages_show_one_revision_until_it_is_compacted(place: Place) {
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
        .list(list(None, Some(Revision(1_000_000))))
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

async fn a_long_list_is_one_revision(place: Place) {
    let store = place.open().await;
    for part in 0..12 {
        let writes = (0..100).map(|at| {
            put(
                &format!("/k/{part:02}/{at:02}"),
                Expect::Absent,
                vec![b'x'; 3000],
            )
        });
        store.transact(writes.collect()).await.unwrap();
    }
    let writer = tokio::spawn({
        let store = store.clone();
        async move {
            for at in 0..200 {
                create(&store, &format!("/k/{:02}/~{at}", at % 12), "late")
                    .await
                    .unwrap();
            }
        }
    });
    while !writer.is_finished() {
        let options = ListOptions {
            prefix: "/k/",
            ..ListOptions::default()
        };
        let page = store.list(options).await.unwrap();
        assert!(!page.more && page.remaining == 0);
        assert!(
            page.entries
                .iter()
                .all(|entry| entry.modified <= page.revision)
        );
        assert!(page.entries.is_sorted_by(|a, b| a.key < b.key));
        let again = store
            .list(ListOptions {
                at: Some(page.revision),
                ..options
            })
            .await
            .unwrap();
        assert_eq!(again, page);
        let limited = store
            .list(ListOptions {
                at: Some(page.revision),
                limit: 1100,
                ..options
            })
            .await
            .unwrap();
        assert_eq!(limited.entries, page.entries[..1100]);
        assert_eq!(
            (limited.more, usize::try_from(limited.remaining).unwrap()),
            (true, page.entries.len() - 1100)
        );
    }
    writer.await.unwrap();
    assert_eq!(
        store
            .list(ListOptions::default())
            .await
            .unwrap()
            .entries
            .len(),
        1400
    );
}

async fn one_key_has_one_winner(place: Place) {
    let store = place.open().await;
    let start = store.current();
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
    assert!(store.current().0 >= start.0 + 65);
    if place.is_alone() {
        assert_eq!(store.current(), Revision(66));
    }
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
