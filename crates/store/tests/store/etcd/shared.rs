//! An etcd that others use too: other servers of this cluster, and strangers.

use std::time::{Duration, Instant};

use store::{ListOptions, Options, Retention, Revision, Store, StoreError};

use crate::etcd_server::EtcdServer;
use crate::support::{create, delete, manual, put, read};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_are_one_store() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let one = server.connect("/knarr", manual()).await.unwrap();
    let two = server.connect("/knarr", manual()).await.unwrap();
    let start = two.sync().await.unwrap();
    let mut events = two.subscribe("/k/", start).unwrap();
    for round in 0..50 {
        let key = format!("/k/{round}");
        let written = create(&one, &key, "x").await.unwrap();
        assert!(two.sync().await.unwrap() >= written);
        assert!(two.current() >= written);
        let entry = two.get(&key).await.unwrap().unwrap();
        assert_eq!(entry.modified, written);
        let taken = create(&two, &key, "y").await.unwrap_err();
        assert!(
            matches!(
                taken,
                StoreError::Conflict {
                    current: Some(_),
                    ..
                }
            ),
            "{taken}"
        );
        assert_eq!(read(&mut events, 1).await[0].revision, written);
    }
    // A list is as new as anything that was acknowledged, wherever.
    let written = two
        .write(delete(
            "/k/0",
            one.get("/k/0").await.unwrap().unwrap().modified,
        ))
        .await;
    let page = one
        .list(ListOptions {
            prefix: "/k/",
            ..ListOptions::default()
        })
        .await
        .unwrap();
    assert_eq!((page.entries.len(), page.revision), (49, written.unwrap()));
    // Clusters under other prefixes are not seen, not even where one is the beginning of the other.
    let other = server.connect("/knar", manual()).await.unwrap();
    create(&other, "/k/1", "z").await.unwrap();
    let all = ListOptions::default();
    assert_eq!(other.list(all).await.unwrap().entries.len(), 1);
    assert_eq!(one.list(all).await.unwrap().entries.len(), 49);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_keys_hold_nobody_up() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    let mut events = store.subscribe("", store.current()).unwrap();
    let own = create(&store, "/a", "1").await.unwrap();
    let started = Instant::now();
    for round in 0..10 {
        server.put_foreign(&format!("/foreign/{round}"));
        server.put_foreign(&format!("/knarr0/{round}"));
        let before = store.current();
        let page = store.list(ListOptions::default()).await.unwrap();
        assert_eq!(page.entries.len(), 1);
        assert!(
            page.revision.0 >= before.0 + 2,
            "the list shows the newest revision"
        );
        assert!(store.current() >= page.revision);
        server.put_foreign("/foreign/again");
        assert!(store.sync().await.unwrap() > page.revision);
    }
    assert!(
        started.elapsed() < Duration::from_secs(5),
        "{:?}",
        started.elapsed()
    );
    // What changes nothing does not wait for strangers either.
    server.put_foreign("/foreign/last");
    assert_eq!(
        store
            .write(put("/a", store::Expect::At(own), "1"))
            .await
            .unwrap(),
        own
    );
    let none = store::Write::delete("/none", store::Expect::Absent);
    assert!(store.write(none).await.unwrap() <= store.current());
    let last = create(&store, "/b", "1").await.unwrap();
    let got = read(&mut events, 2).await;
    assert_eq!((got[0].revision, got[1].revision), (own, last));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcds_word_of_progress_is_passed_on() {
    let more = ["--experimental-watch-progress-notify-interval=200ms"];
    let Some(server) = EtcdServer::start(&more) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    let mut told = store
        .subscribe_with_progress("/quiet/", store.current())
        .unwrap();
    let before = store.current();
    server.put_foreign("/foreign");
    let batch = tokio::time::timeout(Duration::from_secs(5), told.next())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        (batch.events.len(), batch.through),
        (0, Revision(before.0 + 1))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_several_servers_one_compacts() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let age = Duration::from_millis(300);
    let options = || Options {
        retention: Some(Retention { revisions: 50, age }),
        ..Options::default()
    };
    let one = server.connect("/knarr", options()).await.unwrap();
    let two = server.connect("/knarr", options()).await.unwrap();
    let start = one.current();
    let (started, mut at, mut round) =
        (Instant::now(), create(&one, "/hot", "0").await.unwrap(), 0);
    let compacted = |store: &Store| store.compacted() > start;
    while !compacted(&one) && !compacted(&two) {
        assert!(
            started.elapsed() < Duration::from_secs(20),
            "nobody compacts"
        );
        round += 1;
        let write = put("/hot", store::Expect::At(at), format!("{round}"));
        at = one.write(write).await.unwrap();
    }
    for store in [&one, &two] {
        // What is kept can be read, what is gone is said to be gone, by either.
        let kept = Revision(at.0 - 50);
        let list = |at| ListOptions {
            at: Some(at),
            ..ListOptions::default()
        };
        assert_eq!(store.list(list(kept)).await.unwrap().entries.len(), 1);
        let error = store.list(list(start)).await.unwrap_err();
        let StoreError::Compacted { oldest } = error else {
            panic!("{error}")
        };
        assert!(oldest > start && oldest <= kept, "{oldest}");
        assert!(matches!(
            store.subscribe("", start),
            Err(StoreError::Compacted { .. })
        ));
    }
    // Where nothing happens there is nothing to compact, and no note is written.
    tokio::time::sleep(3 * age).await;
    let quiet = one.sync().await.unwrap();
    tokio::time::sleep(5 * age).await;
    assert_eq!(one.sync().await.unwrap(), quiet);
    assert!(one.metrics().database_bytes > 0);
}
