//! Subscriptions: history, then live, over restarts, and for slow readers.

use std::time::Duration;

use store::{Event, EventKind, Expect, Options, Revision, Store, StoreError, Subscription};

use crate::support::{Place, create, delete, manual, put};

async fn read(subscription: &mut Subscription, count: usize) -> Vec<Event> {
    let mut events = Vec::new();
    while events.len() < count {
        events.extend(subscription.next().await.unwrap().events);
    }
    events
}

fn short(events: &[Event]) -> Vec<(EventKind, String, u64, String, Option<String>)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let line = |event: &Event| {
        let previous = event.previous.as_deref().map(text);
        (
            event.kind,
            event.key.to_string(),
            event.revision.0,
            text(&event.value),
            previous,
        )
    };
    events.iter().map(line).collect()
}

#[tokio::test]
async fn events_carry_old_and_new_and_survive_a_restart() {
    let place = Place::new();
    let store = place.open().await;
    let mut live = store.subscribe("/pods/", Revision(0)).unwrap();
    let a = create(&store, "/pods/a", "1").await.unwrap();
    create(&store, "/other", "x").await.unwrap();
    let a2 = store
        .write(put("/pods/a", Expect::At(a), "2"))
        .await
        .unwrap();
    store
        .write(put("/pods/a", Expect::At(a2), "2"))
        .await
        .unwrap();
    store.write(delete("/pods/a", a2)).await.unwrap();
    let expected = [
        (
            EventKind::Created,
            "/pods/a".to_owned(),
            2,
            "1".to_owned(),
            None,
        ),
        (
            EventKind::Updated,
            "/pods/a".to_owned(),
            4,
            "2".to_owned(),
            Some("1".to_owned()),
        ),
        (
            EventKind::Deleted,
            "/pods/a".to_owned(),
            5,
            "2".to_owned(),
            Some("2".to_owned()),
        ),
    ];
    assert_eq!(short(&read(&mut live, 3).await), expected);
    store.close().await;
    assert!(matches!(live.next().await, Err(StoreError::Closed)));

    let store = place.open().await;
    assert_eq!(store.current(), Revision(5));
    let mut again = store.subscribe("/pods/", Revision(2)).unwrap();
    create(&store, "/pods/b", "3").await.unwrap();
    let events = short(&read(&mut again, 3).await);
    assert_eq!(events[..2], expected[1..]);
    assert_eq!(
        events[2],
        (
            EventKind::Created,
            "/pods/b".to_owned(),
            6,
            "3".to_owned(),
            None
        )
    );

    store.compact(Revision(5)).await.unwrap();
    let old = store.subscribe("/pods/", Revision(4)).unwrap_err();
    assert!(
        matches!(
            old,
            StoreError::Compacted {
                oldest: Revision(5)
            }
        ),
        "{old}"
    );
    // One that wants only the future gets only that.
    let mut future = store.subscribe("", Revision(7)).unwrap();
    create(&store, "/7", "").await.unwrap();
    create(&store, "/8", "").await.unwrap();
    assert_eq!(read(&mut future, 1).await[0].revision, Revision(8));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscriber_in_the_middle_of_writes_sees_each_event_once() {
    let place = Place::new();
    let store = place.open().await;
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            for key in 0..400 {
                create(&store, &format!("/k/{key:04}"), "v").await.unwrap();
            }
        })
    };
    let mut readers = tokio::task::JoinSet::new();
    for start in 0..20 {
        let store = store.clone();
        readers.spawn(async move {
            // From wherever the writer is by now.
            let at = store
                .list(store::ListOptions {
                    prefix: "/k/",
                    ..Default::default()
                })
                .await
                .unwrap();
            assert!(store.current() >= at.revision);
            let after = if start % 2 == 0 {
                Revision(1)
            } else {
                at.revision
            };
            let mut subscription = store.subscribe("/k/", after).unwrap();
            let count = usize::try_from(401 - after.0).unwrap();
            let events = read(&mut subscription, count).await;
            let revisions: Vec<u64> = events.iter().map(|event| event.revision.0).collect();
            assert_eq!(revisions, (after.0 + 1..=401).collect::<Vec<_>>());
        });
        tokio::task::yield_now().await;
    }
    readers.join_all().await;
    writing.await.unwrap();
}

#[tokio::test]
async fn what_is_acknowledged_is_already_in_the_queue() {
    use futures::FutureExt as _;
    let place = Place::new();
    let store = place.open().await;
    let mut subscription = store.subscribe("", store.current()).unwrap();
    for key in 0..50 {
        let revision = create(&store, &format!("/{key}"), "v").await.unwrap();
        assert_eq!(store.current(), revision);
        let events = subscription
            .next()
            .now_or_never()
            .expect("the event is there")
            .unwrap();
        assert_eq!(events.through, revision);
        assert_eq!(events.events.last().unwrap().revision, revision);
    }
}

#[tokio::test]
async fn one_that_asks_for_progress_hears_when_the_past_is_over() {
    let place = Place::new();
    let store = place.open().await;
    create(&store, "/a/1", "1").await.unwrap();
    let last = create(&store, "/b/1", "2").await.unwrap();
    let mut subscription = store.subscribe_with_progress("/a/", Revision(1)).unwrap();
    let mut through = Revision(1);
    // Nothing more is written, so nothing else would wake it.
    while through < last {
        let next = tokio::time::timeout(Duration::from_secs(10), subscription.next());
        through = next.await.expect("progress").unwrap().through;
    }
    let mut nothing = store.subscribe_with_progress("/c/", Revision(1)).unwrap();
    let next = tokio::time::timeout(Duration::from_secs(10), nothing.next());
    let batch = next.await.expect("progress").unwrap();
    assert_eq!((batch.events.len(), batch.through), (0, last));
}

#[tokio::test]
async fn a_slow_subscriber_is_told_and_holds_up_nobody() {
    let place = Place::new();
    let options = Options {
        subscription_limit_bytes: 100_000,
        ..manual()
    };
    let store = Store::open(&place.path(), options).await.unwrap();
    let mut slow = store.subscribe("/a/", Revision(1)).unwrap();
    let mut other = store.subscribe("/b/", Revision(1)).unwrap();
    for key in 0..20 {
        store
            .write(put(&format!("/a/{key}"), Expect::Absent, vec![0; 10_000]))
            .await
            .unwrap();
    }
    create(&store, "/b/1", "seen").await.unwrap();
    assert!(matches!(slow.next().await, Err(StoreError::Lagged)));
    assert_eq!(read(&mut other, 1).await.len(), 1);
    // History is read piece by piece, so it may be larger than the queue.
    let mut from_start = store.subscribe("", Revision(1)).unwrap();
    assert_eq!(read(&mut from_start, 21).await.len(), 21);
}
