//! Levels under a clock that the test moves.
#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::bootstrap;
use super::level::{Level, Levels, Limits, Permit, Rejection};
use super::queues::Queuing;
use super::{Fairness, limits, shares};

fn level(name: &str, nominal: u32, lendable: u32, borrowable: u32, queued: bool) -> Arc<Level> {
    let level = Arc::new(Level::new(name));
    level.configure(Limits {
        exempt: false,
        nominal,
        lendable,
        borrowable,
        queuing: queued.then_some(Queuing {
            queues: 16,
            hand_size: 2,
            queue_length_limit: 10,
        }),
    });
    level
}

async fn enter(levels: &Levels, index: usize, flow: u64) -> Result<Permit, Rejection> {
    levels[index].enter(levels, flow, 1).await
}

#[tokio::test(start_paused = true)]
async fn a_level_without_queues_rejects_what_does_not_fit() {
    let levels: Levels = [level("a", 2, 0, 0, false)].into();
    let one = enter(&levels, 0, 1).await.unwrap();
    let _two = enter(&levels, 0, 1).await.unwrap();
    assert_eq!(
        enter(&levels, 0, 1).await.unwrap_err(),
        Rejection::ConcurrencyLimit
    );
    drop(one);
    assert!(enter(&levels, 0, 1).await.is_ok());
    assert_eq!(levels[0].in_use(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_waits_too_long_is_told_so_and_gives_nothing_away() {
    let levels: Levels = [level("a", 1, 0, 0, true)].into();
    let held = enter(&levels, 0, 1).await.unwrap();
    let before = tokio::time::Instant::now();
    assert_eq!(enter(&levels, 0, 2).await.unwrap_err(), Rejection::TimeOut);
    assert_eq!(before.elapsed(), Duration::from_secs(15));
    drop(held);
    assert!(enter(&levels, 0, 3).await.is_ok());
    assert_eq!((levels[0].in_use(), levels[0].waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_one_flow_leaves_others_their_turn() {
    let levels: Levels = [level("a", 2, 0, 0, true)].into();
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let levels = levels.clone();
        flood.spawn(async move {
            let Ok(_permit) = enter(&levels, 0, 1).await else {
                return false;
            };
            tokio::time::sleep(Duration::from_millis(100)).await;
            true
        });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
    let before = tokio::time::Instant::now();
    for _ in 0..5 {
        let permit = enter(&levels, 0, u64::MAX / 3).await.unwrap();
        tokio::time::sleep(Duration::from_millis(1)).await;
        drop(permit);
    }
    assert!(
        before.elapsed() <= Duration::from_millis(600),
        "{:?}",
        before.elapsed()
    );
    let served = flood
        .join_all()
        .await
        .into_iter()
        .filter(|served| *served)
        .count();
    // Two at once and the two queues of its hand; the rest was told to come again.
    assert_eq!(served, 22);
    assert_eq!((levels[0].in_use(), levels[0].waiting()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn free_seats_are_lent_and_own_ones_always_there() {
    let levels: Levels = [level("a", 2, 0, 3, true), level("b", 4, 3, 0, true)].into();
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(enter(&levels, 0, 1).await.unwrap());
    }
    // No more than may be borrowed and lent.
    let waits = tokio::time::timeout(Duration::from_secs(1), enter(&levels, 0, 2)).await;
    assert!(waits.is_err());
    // The lender has its own all the same.
    for _ in 0..4 {
        held.push(enter(&levels, 1, 1).await.unwrap());
    }
    let waits = tokio::time::timeout(Duration::from_secs(1), enter(&levels, 1, 1)).await;
    assert!(waits.is_err());
    drop(held);
    assert_eq!((levels[0].in_use(), levels[1].in_use()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn limits_may_change_while_requests_wait() {
    let levels: Levels = [level("a", 1, 0, 0, true)].into();
    let _held = enter(&levels, 0, 1).await.unwrap();
    let waiting = {
        let levels = levels.clone();
        tokio::spawn(async move { enter(&levels, 0, 2).await.map(|_permit| ()) })
    };
    tokio::time::sleep(Duration::from_millis(1)).await;
    assert_eq!(levels[0].waiting(), 1);
    levels[0].configure(Limits {
        nominal: 2,
        queuing: Some(Queuing {
            queues: 4,
            hand_size: 1,
            queue_length_limit: 5,
        }),
        ..Limits::default()
    });
    assert!(enter(&levels, 0, 3).await.is_ok());
    assert_eq!(waiting.await.unwrap(), Ok(()));
}

#[test]
fn shares_become_seats() {
    let levels: Vec<Value> = bootstrap::objects()
        .into_iter()
        .map(|wanted| wanted.object)
        .filter(|object| object["kind"] == "PriorityLevelConfiguration")
        .collect();
    let all: u64 = levels.iter().map(shares).sum();
    let found: Vec<(&str, u32, u32)> = levels
        .iter()
        .map(|object| {
            let limits = limits(object, 600, all);
            let name = object["metadata"]["name"].as_str().unwrap();
            (name, limits.nominal, limits.lendable)
        })
        .collect();
    assert_eq!(
        found,
        [
            ("exempt", 0, 0),
            ("catch-all", 13, 0),
            ("system", 74, 24),
            ("node-high", 98, 25),
            ("leader-election", 25, 0),
            ("workload-high", 98, 49),
            ("workload-low", 245, 221),
            ("global-default", 49, 25),
        ]
    );
}

#[test]
fn lists_take_seats_by_what_they_hold() {
    for (verb, limit, objects, seats) in [
        ("get", None, 5000, 1),
        ("list", None, 0, 1),
        ("list", None, 100, 1),
        ("list", None, 101, 2),
        ("list", None, 5000, 10),
        ("list", Some(500), 5000, 5),
        ("list", Some(0), 5000, 10),
    ] {
        assert_eq!(
            Fairness::seats(verb, limit, || objects),
            seats,
            "{verb} {limit:?} {objects}"
        );
    }
}

#[test]
fn suggestions_may_be_changed_and_mandates_not() {
    let wanted = |mandatory| bootstrap::Wanted {
        object: json!({"spec": {"x": 1}}),
        mandatory,
    };
    let object = |auto: Option<&str>, generation: u64| {
        let mut object =
            json!({"metadata": {"generation": generation, "annotations": {}}, "spec": {"x": 2}});
        if let Some(auto) = auto {
            object["metadata"]["annotations"]["apf.kubernetes.io/autoupdate-spec"] = json!(auto);
        }
        object
    };
    for (auto, generation, mandatory, changes) in [
        (Some("true"), 5, false, true),
        (Some("false"), 1, false, false),
        (Some("maybe"), 1, false, false),
        (None, 1, false, true),
        (None, 2, false, false),
        (Some("false"), 7, true, true),
    ] {
        let new = bootstrap::reconcile(&object(auto, generation), &wanted(mandatory));
        assert_eq!(new.is_some(), changes, "{auto:?} {generation} {mandatory}");
        if let Some(new) = new {
            assert_eq!(bootstrap::reconcile(&new, &wanted(mandatory)), None);
        }
    }
}
