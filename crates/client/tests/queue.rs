//! The work queue and its runner on a paused clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use client::Queue;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

#[tokio::test(start_paused = true)]
async fn a_key_is_queued_once_and_comes_again_when_added_during_its_work() {
    let queue = Queue::new();
    queue.add("a");
    queue.add("a");
    queue.add("b");
    let a = queue.next().await.unwrap();
    queue.add("a");
    let b = queue.next().await.unwrap();
    assert_eq!((*a, *b), ("a", "b"));
    assert!(
        timeout(Duration::from_secs(1), queue.next()).await.is_err(),
        "a is being worked on"
    );
    drop(a);
    assert_eq!(*queue.next().await.unwrap(), "a");
    drop(b);
    queue.close();
    assert!(queue.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn delays_end_in_order_and_the_earliest_counts() {
    let queue = Queue::new();
    let start = Instant::now();
    queue.add_after("late", Duration::from_secs(60));
    queue.add_after("twice", Duration::from_secs(50));
    queue.add_after("twice", Duration::from_secs(5));
    queue.add_after("twice", Duration::from_secs(70));
    let mut seen = Vec::new();
    for _ in 0..2 {
        let work = queue.next().await.unwrap();
        seen.push((*work, start.elapsed().as_secs()));
    }
    assert_eq!(seen, [("twice", 5), ("late", 60)]);
    assert!(
        timeout(Duration::from_secs(600), queue.next())
            .await
            .is_err()
    );
    let mut last = Duration::ZERO;
    for _ in 0..30 {
        queue.retry("x");
        let before = Instant::now();
        queue.next().await.unwrap();
        last = before.elapsed();
    }
    assert!((1000..=1201).contains(&last.as_secs()), "{last:?}");
}

#[derive(Debug, thiserror::Error)]
#[error("not this time")]
struct Failed;

#[tokio::test(start_paused = true)]
async fn the_runner_retries_and_never_works_a_key_twice_at_once() {
    let queue: Queue<u32> = Queue::new();
    let drain = CancellationToken::new();
    let running: Arc<Mutex<HashMap<u32, u32>>> = Arc::default();
    let calls: Arc<Mutex<HashMap<u32, u32>>> = Arc::default();
    let task = {
        let (running, calls) = (running.clone(), calls.clone());
        tokio::spawn(client::run(
            "test",
            queue.clone(),
            8,
            drain.clone(),
            move |key: u32| {
                let (running, calls) = (running.clone(), calls.clone());
                async move {
                    assert_eq!(
                        running.lock().unwrap().insert(key, 1),
                        None,
                        "twice at once"
                    );
                    sleep(Duration::from_millis(10)).await;
                    running.lock().unwrap().remove(&key);
                    let call = {
                        let mut calls = calls.lock().unwrap();
                        let call = calls.entry(key).or_insert(0);
                        *call += 1;
                        *call
                    };
                    if key == 3 && call < 4 {
                        Err(Failed)
                    } else {
                        Ok(())
                    }
                }
            },
        ))
    };
    for round in 0..20 {
        for key in 0..10 {
            queue.add(key);
        }
        sleep(Duration::from_millis(round)).await;
    }
    sleep(Duration::from_secs(5)).await;
    assert!(running.lock().unwrap().is_empty());
    assert!(calls.lock().unwrap()[&3] >= 4);
    assert_eq!(queue.failures(&3), 0);
    drain.cancel();
    task.await.unwrap();
}
