//! Subscriptions: history, then live, over restarts, and for slow readers.

use std::time::Duration;

use store::{Event, EventKind, Expect, Options, Revision, StoreError};

use crate::support::{Place, create, delete, manual, put, read, revisions};

contract!(
    events_carry_old_and_new_and_survive_a_restart,
    a_subscriber_in_the_middle_of_writes_sees_each_event_once,
    what_is_acknowledged_is_already_in_the_queue,
    a_slow_subscriber_is_told_and_holds_up_nobody,
    progress_is_told_to_those_who_asked,
    one_that_asks_for_progress_hears_when_the_past_is_over,
);

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

async fn events_carry_old_and_new_and_survive_a_restart(place: Place) {
    let store = place.open().await;
    let start = store.current().0 - 1;
    let mut live = store.subscribe("/pods/", Revision(start)).unwrap();
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
            start + 2,
            "1".to_owned(),
            None,
        ),
        (
            EventKind::Updated,
            "/pods/a".to_owned(),
            start + 4,
            "2".to_owned(),
            Some("1".to_owned()),
        ),
        (
            EventKind::Deleted,
            "/pods/a".to_owned(),
            start + 5,
            "2".to_owned(),
            Some("2".to_owned()),
        ),
    ];
    assert_eq!(short(&read(&mut live, 3).await), expected);
    store.close().await;
    assert!(matches!(live.next().await, Err(StoreError::Closed)));

    let store = place.open().await;
    assert_eq!(store.current(), Revision(start + 5));
    let mut again = store.subscribe("/pods/", Revision(start + 2)).unwrap();
    let b = create(&store, "/pods/b", "3").await.unwrap();
    let events = short(&read(&mut again, 3).await);
    assert_eq!(events[..2], expected[1..]);
    assert_eq!(
        events[2],
        (
            EventKind::Created,
            "/pods/b".to_owned(),
            b.0,
            "3".to_owned(),
            None
        )
    );

    store.compact(Revision(start + 5)).await.unwrap();
    let old = store.subscribe("/pods/", Revision(start + 4)).unwrap_err();
    assert!(
        matches!(
            old,
            StoreError::Compacted { oldest } if oldest.0 == start + 5
        ),
        "{old}"
    );
    // One that wants only the future gets only that.
    let mut future = store.subscribe("", Revision(b.0 + 1)).unwrap();
    create(&store, "/7", "").await.unwrap();
    let second = create(&store, "/8", "").await.unwrap();
    assert_eq!(revisions(&read(&mut future, 1).await), [second]);
}

async fn a_subscriber_in_the_middle_of_writes_sees_each_event_once(place: Place) {
    let store = place.open().await;
    let start = store.current();
    let writing = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut revisions = Vec::new();
            for key in 0..400 {
                revisions.push(create(&store, &format!("/k/{key:04}"), "v").await.unwrap());
            }
            revisions
        })
    };
    let mut readers = tokio::task::JoinSet::new();
    for number in 0..20 {
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
            let (after, seen) = if number % 2 == 0 {
                (start, 0)
            } else {
                (at.revision, at.entries.len())
            };
            let mut subscription = store.subscribe("/k/", after).unwrap();
            let events = read(&mut subscription, 400 - seen).await;
            (seen, revisions(&events))
        });
        tokio::task::yield_now().await;
    }
    let read = readers.join_all().await;
    let written = writing.await.unwrap();
    for (seen, revisions) in read {
        assert_eq!(revisions, written[seen..]);
    }
}

async fn what_is_acknowledged_is_already_in_the_queue(place: Place) {
    use futures::FutureExt as _;
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

async fn one_that_asks_for_progress_hears_when_the_past_is_over(place: Place) {
    let store = place.open().await;
    let start = store.current();
    create(&store, "/a/1", "1").await.unwrap();
    let last = create(&store, "/b/1", "2").await.unwrap();
    let limit = Duration::from_secs(10);
    // Nothing more is written, so nothing else would wake them.
    for (prefix, events) in [("/a/", 1), ("/c/", 0)] {
        let mut subscription = store.subscribe_with_progress(prefix, start).unwrap();
        let (mut through, mut seen) = (start, 0);
        while through < last {
            let next = tokio::time::timeout(limit, subscription.next()).await;
            let batch = next.expect("progress").unwrap();
            (through, seen) = (batch.through, seen + batch.events.len());
        }
        assert_eq!(seen, events);
    }
}

async fn a_slow_subscriber_is_told_and_holds_up_nobody(place: Place) {
    let options = Options {
        subscription_limit_bytes: 100_000,
        ..manual()
    };
    let store = place.open_with(options).await;
    let start = store.current();
    let mut slow = store.subscribe("/a/", start).unwrap();
    let mut other = store.subscribe("/b/", start).unwrap();
    for key in 0..20 {
        store
            .write(put(&format!("/a/{key}"), Expect::Absent, vec![0; 10_000]))
            .await
            .unwrap();
    }
    create(&store, "/b/1", "seen").await.unwrap();
    assert!(matches!(slow.next().await, Err(StoreError::Lagged)));
    assert_eq!(store.metrics().lagged, 1);
    assert_eq!(read(&mut other, 1).await.len(), 1);
    // History is read piece by piece, so it may be larger than the queue.
    let mut from_start = store.subscribe("", start).unwrap();
    assert_eq!(read(&mut from_start, 21).await.len(), 21);
}

async fn progress_is_told_to_those_who_asked(place: Place) {
    let store = place.open().await;
    let start = store.current();
    let mut quiet = store.subscribe("/quiet/", start).unwrap();
    let mut told = store.subscribe_with_progress("/quiet/", start).unwrap();
    let other = create(&store, "/loud/1", "x").await.unwrap();
    let batch = told.next().await.unwrap();
    assert_eq!((batch.events.len(), batch.through), (0, other));
    let own = create(&store, "/quiet/1", "x").await.unwrap();
    let batch = told.next().await.unwrap();
    assert_eq!((batch.events.len(), batch.through), (1, own));
    // Who did not ask hears of it only with an event.
    let batch = quiet.next().await.unwrap();
    assert_eq!((batch.events.len(), batch.through), (1, own));
}
