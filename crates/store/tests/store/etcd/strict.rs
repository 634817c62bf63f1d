//! What must not be passed over in silence: lost history, a replaced etcd, one that is full, and data
//! that is not for this version.

use std::time::{Duration, Instant};

use store::{EtcdConfig, Expect, ListOptions, Revision, Store, StoreError, Write};

use super::proxy::Proxy;
use crate::etcd_server::EtcdServer;
use crate::support::{create, delete, manual, put, read};

async fn through(proxy: &Proxy) -> Store {
    let config = EtcdConfig::parse(&proxy.endpoint(), None).unwrap();
    Store::connect(&config, manual()).await.unwrap()
}

fn proxy(server: &EtcdServer) -> Proxy {
    Proxy::start(server.endpoints().strip_prefix("http://").unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_connection_is_taken_up_without_a_gap() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let proxy = proxy(&server);
    let (direct, store) = (
        server.connect("/knarr", manual()).await.unwrap(),
        through(&proxy).await,
    );
    let start = store.current();
    let mut events = store.subscribe("", start).unwrap();
    let mut written = Vec::new();
    for round in 0..5 {
        // Values that make etcd split what it has to catch up with into fragments.
        for key in 0..4 {
            let write = put(
                &format!("/{round}/{key}"),
                Expect::Absent,
                vec![b'x'; 700_000],
            );
            written.push(direct.write(write).await.unwrap());
        }
        let writes = (0..2).map(|key| {
            put(
                &format!("/{round}/t{key}"),
                Expect::Absent,
                vec![b'y'; 700_000],
            )
        });
        written.extend(direct.transact(writes.collect()).await.unwrap());
        if round % 2 == 0 {
            proxy.cut();
        } else {
            proxy.mend();
        }
    }
    proxy.mend();
    // Also in little time: what is to be caught up with must not block the questions about it.
    let reading = read(&mut events, written.len());
    let got = tokio::time::timeout(Duration::from_secs(8), reading)
        .await
        .unwrap();
    let revisions: Vec<Revision> = got.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, written);
    assert!(store.metrics().reconnects >= 1);

    // The past, which is more than is read in one go, is the same for one who was not there.
    let late = server.connect("/knarr", manual()).await.unwrap();
    let mut past = late.subscribe("", start).unwrap();
    assert_eq!(read(&mut past, written.len()).await, got);
    let mut half = late.subscribe("/3/", start).unwrap();
    assert_eq!(read(&mut half, 6).await, got[18..24]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_compacted_while_away_is_said_to_be_lost() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let proxy = proxy(&server);
    let (direct, store) = (
        server.connect("/knarr", manual()).await.unwrap(),
        through(&proxy).await,
    );
    let start = store.current();
    let mut events = store.subscribe("", start).unwrap();
    let a = create(&direct, "/a", "1").await.unwrap();
    read(&mut events, 1).await;
    proxy.cut();
    create(&direct, "/b", "1").await.unwrap();
    let last = create(&direct, "/c", "1").await.unwrap();
    server.compact(last.0);
    proxy.mend();
    assert!(matches!(events.next().await, Err(StoreError::Lagged)));
    // Subscribers are told before the store is anywhere else.
    assert_eq!(store.sync().await.unwrap(), last);
    assert_eq!(store.compacted(), last);
    let error = store.subscribe("", a).unwrap_err();
    assert!(
        matches!(error, StoreError::Compacted { oldest } if oldest == last),
        "{error}"
    );
    // And it goes on from there.
    let mut events = store.subscribe("", last).unwrap();
    let d = create(&direct, "/d", "1").await.unwrap();
    assert_eq!(read(&mut events, 1).await[0].revision, d);
}

/// etcd lets a watch begin exactly at the compacted revision, though a deletion there is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deletion_at_the_compacted_revision_is_not_missed() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let proxy = proxy(&server);
    let (direct, store) = (
        server.connect("/knarr", manual()).await.unwrap(),
        through(&proxy).await,
    );
    let mut events = store.subscribe("", store.current()).unwrap();
    let a = create(&direct, "/a", "1").await.unwrap();
    read(&mut events, 1).await;
    proxy.cut();
    let gone = direct.write(delete("/a", a)).await.unwrap();
    server.compact(gone.0);
    create(&direct, "/b", "1").await.unwrap();
    proxy.mend();
    assert!(matches!(events.next().await, Err(StoreError::Lagged)));

    // The same for one who reads the past, and does not know of the compaction.
    let (c, fresh) = (
        create(&direct, "/c", "1").await.unwrap(),
        through(&proxy).await,
    );
    assert!(fresh.current() >= c);
    let d = create(&direct, "/d", "1").await.unwrap();
    let dead = direct.write(delete("/d", d)).await.unwrap();
    create(&direct, "/e", "1").await.unwrap();
    let late = through(&proxy).await;
    let mut past = late.subscribe("", d).unwrap();
    server.compact(dead.0);
    let error = past.next().await.unwrap_err();
    assert!(
        matches!(error, StoreError::Compacted { oldest } if oldest == dead),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compaction_by_an_operator_is_survived() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    let start = store.current();
    let mut events = store.subscribe("", start).unwrap();
    let a = create(&store, "/a", "1").await.unwrap();
    let b = store.write(put("/a", Expect::At(a), "2")).await.unwrap();
    server.compact(b.0);
    // Who follows is not disturbed; who asks for the past is told.
    assert_eq!(read(&mut events, 2).await.len(), 2);
    let list = ListOptions {
        at: Some(a),
        ..ListOptions::default()
    };
    let error = store.list(list).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Compacted { oldest } if oldest == b),
        "{error}"
    );
    assert_eq!(store.compacted(), b);
    // Compacting to where it is already, and on.
    store.compact(a).await.unwrap();
    let c = create(&store, "/c", "1").await.unwrap();
    server.compact(c.0);
    store.compact(c).await.unwrap();
    assert_eq!(store.compacted(), c);
    let again = server.connect("/knarr", manual()).await.unwrap();
    assert_eq!(again.compacted(), c);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_went_back_is_not_followed() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    for key in 0..20 {
        create(&store, &format!("/{key}"), "1").await.unwrap();
    }
    let mut events = store.subscribe("", store.current()).unwrap();
    server.kill_member(0);
    server.wipe_member(0);
    server.start_member(0);
    let ended = tokio::time::timeout(Duration::from_secs(20), events.next())
        .await
        .unwrap();
    assert!(matches!(ended, Err(StoreError::Closed)), "{ended:?}");
    assert!(matches!(store.get("/1").await, Err(StoreError::Closed)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_of_a_later_version_or_half_restored_is_refused() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    server.put_foreign("/later/meta/format");
    let error = server.connect("/later", manual()).await.unwrap_err();
    assert!(matches!(error, StoreError::TooNew { .. }), "{error}");
    server.put_foreign("/half/meta/restoring");
    let error = server.connect("/half", manual()).await.unwrap_err();
    assert!(
        matches!(&error, StoreError::Restoring { place } if place.contains("/half")),
        "{error}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_etcd_says_what_to_do_and_works_again_after_it() {
    let Some(server) = EtcdServer::start(&["--quota-backend-bytes=4000000"]) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    let value = |round: u8| vec![round; 400_000];
    let mut at = store
        .write(put("/a", Expect::Absent, value(0)))
        .await
        .unwrap();
    let error = loop {
        // The write that goes over the quota may be refused and happen.
        let current = store.get("/a").await.unwrap().unwrap();
        let round = current.value[0] + 1;
        assert!(round < 50, "never full");
        match store
            .write(put("/a", Expect::At(current.modified), value(round)))
            .await
        {
            Ok(revision) => at = revision,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, StoreError::QuotaExceeded { .. }), "{error}");
    assert!(error.to_string().contains("alarm disarm"));
    assert!(store.get("/a").await.unwrap().unwrap().modified >= at);
    store.compact(store.current()).await.unwrap();
    // What an operator does, and again while etcd has not freed enough yet: it compacts in the background.
    let started = Instant::now();
    loop {
        server.defragment_and_disarm();
        match create(&store, "/b", "small").await {
            // The one before may have been refused and have happened.
            Ok(_) | Err(StoreError::Conflict { .. }) => break,
            Err(error) => assert!(matches!(error, StoreError::QuotaExceeded { .. }), "{error}"),
        }
        assert!(started.elapsed() < Duration::from_secs(20), "still full");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_for_etcd_is_refused_with_words() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    // Over the limit of a request, and over that of a message.
    for size in [1_600_000, 4_000_000] {
        let write = put("/big", Expect::Absent, vec![b'x'; size]);
        let error = store.write(write).await.unwrap_err();
        assert!(
            matches!(error, StoreError::RequestTooLarge { .. }),
            "{error}"
        );
    }
    // Also what is sent with the value to compare with, and what is compared before.
    let small = create(&store, "/small", "1").await.unwrap();
    for size in [1_000, 64 << 10, 65 << 10] {
        let at = store.get("/small").await.unwrap().unwrap().modified;
        let write = put("/small", Expect::At(at), vec![b'x'; size]);
        let written = store.write(write.clone()).await.unwrap();
        assert!(written > small);
        let again = Write {
            expect: Expect::At(written),
            ..write
        };
        assert_eq!(store.write(again.clone()).await.unwrap(), written);
        let stale = Write {
            expect: Expect::At(at),
            ..again
        };
        let error = store.write(stale).await.unwrap_err();
        assert!(
            matches!(
                error,
                StoreError::Conflict {
                    current: Some(_),
                    ..
                }
            ),
            "{error}"
        );
        assert_eq!(store.current(), written);
    }
    // What fits comes through the watch with the value before it.
    let at = store
        .write(put("/big", Expect::Absent, vec![b'x'; 1_500_000]))
        .await
        .unwrap();
    store
        .write(put("/big", Expect::At(at), vec![b'y'; 1_500_000]))
        .await
        .unwrap();
}
