//! Members that die, hang, or are all away: nothing that was acknowledged is lost, no event is lost or
//! doubled, and everything goes on by itself.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use store::{Event, Expect, Revision, Store, StoreError, Subscription};
use tokio::task::JoinSet;

use crate::etcd_server::EtcdServer;
use crate::support::{create, manual, put, read};

/// What one writer was told: the revision of each value.
type Acknowledged = Vec<(u64, Revision)>;

/// Counts up in a key until it is told to stop. Who is not told what became of a write reads.
async fn write(store: Store, key: String, stop: Arc<AtomicBool>) -> (String, Acknowledged) {
    let (mut value, mut expect, mut acknowledged) = (0, Expect::Absent, Vec::new());
    while !stop.load(Ordering::Relaxed) {
        match store.write(put(&key, expect, format!("{value}"))).await {
            Ok(revision) => {
                acknowledged.push((value, revision));
                expect = Expect::At(revision);
                value += 1;
            }
            Err(StoreError::Unreachable { .. }) => match store.get(&key).await {
                Ok(Some(entry)) => {
                    let there: u64 = std::str::from_utf8(&entry.value).unwrap().parse().unwrap();
                    let last = acknowledged.last().map(|(value, _)| *value);
                    assert!(
                        there == value || Some(there) == last,
                        "{key}: {there}, at {value}"
                    );
                    expect = Expect::At(entry.modified);
                    value = there + 1;
                }
                Ok(None) => assert_eq!(acknowledged, [], "{key} is lost"),
                Err(StoreError::Unreachable { .. }) => {}
                Err(error) => panic!("{error}"),
            },
            Err(error) => panic!("{key}: {error}"),
        }
    }
    (key, acknowledged)
}

/// Reads until an event of the key `/end`.
async fn read_to_end(mut subscription: Subscription) -> Vec<Event> {
    let mut events = Vec::new();
    loop {
        events.extend(subscription.next().await.unwrap().events);
        if events.last().is_some_and(|event| &*event.key == "/end") {
            return events;
        }
    }
}

fn check(events: &[Event], acknowledged: &HashMap<String, Acknowledged>) {
    assert!(events.is_sorted_by(|a, b| a.revision < b.revision));
    let mut seen: HashMap<&str, HashMap<Revision, u64>> = HashMap::new();
    let mut before: HashMap<&str, u64> = HashMap::new();
    for event in events.iter().filter(|event| &*event.key != "/end") {
        let value: u64 = std::str::from_utf8(&event.value).unwrap().parse().unwrap();
        let expected = before
            .insert(&event.key, value)
            .map_or(0, |before| before + 1);
        assert_eq!(
            value, expected,
            "{}: an event is missing or doubled",
            event.key
        );
        seen.entry(&event.key)
            .or_default()
            .insert(event.revision, value);
    }
    for (key, writes) in acknowledged {
        for (value, revision) in writes {
            let found = seen.get(key.as_str()).and_then(|seen| seen.get(revision));
            assert_eq!(found, Some(value), "{key} at {revision}");
        }
    }
}

/// Writes and watches while `harm` is done to the cluster, and then for a while.
async fn under(server: &EtcdServer, harm: impl AsyncFnOnce(&EtcdServer)) {
    let stores = [
        server.connect("/knarr", manual()).await.unwrap(),
        server.connect("/knarr", manual()).await.unwrap(),
    ];
    let start = stores[0].sync().await.unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let (mut writers, mut readers) = (JoinSet::new(), JoinSet::new());
    for (at, store) in stores.iter().enumerate() {
        for writer in 0..3 {
            writers.spawn(write(
                store.clone(),
                format!("/w/{at}/{writer}"),
                stop.clone(),
            ));
        }
        readers.spawn(read_to_end(
            store.subscribe("", start.max(store.current())).unwrap(),
        ));
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    harm(server).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    stop.store(true, Ordering::Relaxed);
    let acknowledged: HashMap<String, Acknowledged> =
        writers.join_all().await.into_iter().collect();
    let writes: usize = acknowledged.values().map(Vec::len).sum();
    println!("{writes} writes were acknowledged");
    assert!(
        acknowledged.values().all(|writes| writes.len() > 10),
        "{acknowledged:?}"
    );

    let last = create(&stores[0], "/end", "").await.unwrap();
    assert!(stores[1].sync().await.unwrap() >= last);
    let live = readers.join_all().await;
    for events in &live {
        check(events, &acknowledged);
    }
    assert_eq!(live[0], live[1]);
    // The past reads as it was lived, also for one who was not there.
    let late = server.connect("/knarr", manual()).await.unwrap();
    let events = read_to_end(late.subscribe("", start).unwrap()).await;
    assert_eq!(events, live[0]);
    let reconnects: u64 = stores.iter().map(|store| store.metrics().reconnects).sum();
    assert!(reconnects >= 1, "nobody noticed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_leader_is_killed_under_writers_and_watchers() {
    let Some(server) = EtcdServer::cluster(3, "http", &[]) else {
        return;
    };
    under(&server, async |server| {
        // The leader, and then the one that is in use, if that is another: the first of the endpoints.
        for victim in [server.leader(), 0] {
            server.kill_member(victim);
            tokio::time::sleep(Duration::from_secs(4)).await;
            server.start_member(victim);
            tokio::time::sleep(Duration::from_secs(2)).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_hangs_is_left() {
    let Some(server) = EtcdServer::cluster(3, "http", &[]) else {
        return;
    };
    under(&server, async |server| {
        // The first of the endpoints is in use. A stopped process keeps its connections open.
        server.signal_member(0, "STOP");
        tokio::time::sleep(Duration::from_secs(14)).await;
        server.signal_member(0, "CONT");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_etcd_that_is_away_is_named_and_found_again() {
    let Some(server) = EtcdServer::start(&[]) else {
        return;
    };
    let store = server.connect("/knarr", manual()).await.unwrap();
    let mut events = store.subscribe("", store.current()).unwrap();
    let a = create(&store, "/a", "1").await.unwrap();
    server.kill_member(0);

    let started = Instant::now();
    let (got, written, synced) = tokio::join!(
        store.get("/a"),
        store.write(put("/a", Expect::At(a), "2")),
        store.sync()
    );
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "{:?}",
        started.elapsed()
    );
    for error in [got.unwrap_err(), written.unwrap_err(), synced.unwrap_err()] {
        let StoreError::Unreachable { .. } = &error else {
            panic!("{error}")
        };
        let text = error.to_string();
        assert!(text.contains(&server.endpoints()), "{text}");
    }
    let started = Instant::now();
    let error = server.connect("/knarr", manual()).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(
        started.elapsed() < Duration::from_secs(12),
        "{:?}",
        started.elapsed()
    );

    server.start_member(0);
    // The write was never sent, so nobody has changed it since.
    let b = store.write(put("/a", Expect::At(a), "3")).await.unwrap();
    let got = read(&mut events, 2).await;
    assert_eq!((got.len(), got[1].revision), (2, b));
    assert!(store.metrics().reconnects >= 1);
}
