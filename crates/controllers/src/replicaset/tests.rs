//! Tests of `replicaset`.

use super::*;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use serde_json::{Value, json};

fn set(replicas: i32, min_ready: i32) -> ReplicaSet {
    serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "a", "uid": "s", "generation": 3},
        "spec": {"replicas": replicas, "minReadySeconds": min_ready,
            "selector": {"matchLabels": {"app": "x"}},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}},
    }))
    .unwrap()
}

/// A pod from a few words: `node=n`, `phase=Running`, `ready=<seconds ago>`, `age=<seconds>`,
/// `cost=1`, `restarts=2`.
fn pod(name: &str, words: &str, now: Timestamp) -> Arc<Pod> {
    let ago = |secs: &str| Time(now - SignedDuration::from_secs(secs.parse().unwrap()));
    let mut pod = json!({"metadata": {"name": name, "uid": name, "labels": {"app": "x"},
        "annotations": {}}, "spec": {"containers": []}, "status": {"phase": "Running"}});
    for word in words.split_whitespace() {
        let (field, value) = word.split_once('=').unwrap();
        match field {
            "node" => pod["spec"]["nodeName"] = json!(value),
            "phase" => pod["status"]["phase"] = json!(value),
            "ready" => {
                pod["status"]["conditions"] = json!([{"type": "Ready", "status": "True",
                    "lastTransitionTime": ago(value)}]);
            }
            "age" => pod["metadata"]["creationTimestamp"] = json!(ago(value)),
            "cost" => pod["metadata"]["annotations"][DELETION_COST] = json!(value),
            "restarts" => {
                pod["status"]["containerStatuses"] = json!([{"name": "c", "image": "", "imageID": "",
                    "ready": true, "restartCount": value.parse::<i32>().unwrap()}]);
            }
            _ => panic!("{field}"),
        }
    }
    Arc::new(serde_json::from_value::<Pod>(pod).unwrap())
}

use jiff::SignedDuration;

#[test]
fn the_pod_that_is_missed_least_goes_first() {
    let now = Timestamp::now();
    let table = [
        (
            "unplaced before placed",
            "phase=Pending",
            "node=n phase=Pending",
        ),
        ("pending before running", "node=n phase=Pending", "node=n"),
        ("unready before ready", "node=n", "node=n ready=9"),
        (
            "cheap before dear",
            "node=n ready=9 cost=-1",
            "node=n ready=9",
        ),
        (
            "crowded node first",
            "node=crowded ready=900",
            "node=n ready=9",
        ),
        ("shorter ready first", "node=n ready=9", "node=n ready=900"),
        (
            "more restarts first",
            "node=n ready=9 restarts=3",
            "node=n ready=9",
        ),
        (
            "younger first",
            "node=n ready=9 age=9",
            "node=n ready=9 age=900",
        ),
    ];
    let related = HashMap::from([("crowded".to_owned(), 3), ("n".to_owned(), 1)]);
    for (what, first, second) in table {
        let pods = vec![pod("b", second, now), pod("a", first, now)];
        let Scale::Delete(chosen) = plan(&set(1, 0), pods, &related, now) else {
            panic!("{what}: nothing to delete")
        };
        assert_eq!(chosen.len(), 1, "{what}");
        assert_eq!(chosen[0].metadata.name.as_deref(), Some("a"), "{what}");
    }
    assert!(matches!(
        plan(&set(3, 0), vec![pod("a", "", now)], &related, now),
        Scale::Create(2)
    ));
    assert!(matches!(
        plan(&set(900, 0), vec![], &related, now),
        Scale::Create(BURST)
    ));
    assert!(matches!(
        plan(&set(1, 0), vec![pod("a", "", now)], &related, now),
        Scale::Enough
    ));
}

#[test]
fn the_status_counts_what_is_ready_for_long_enough() {
    let now = Timestamp::now();
    let pods = [
        pod("a", "ready=5", now),
        pod("b", "ready=50", now),
        pod("c", "", now),
    ];
    let shown: Value = serde_json::to_value(status(&set(3, 10), &pods, 1, None, now)).unwrap();
    let expected = json!({"replicas": 3, "readyReplicas": 2, "availableReplicas": 1,
        "fullyLabeledReplicas": 3, "terminatingReplicas": 1, "observedGeneration": 3});
    assert_eq!(shown, expected);
    let left = pods::available_in(&pods[0], 10, now).unwrap();
    assert!((4..=5).contains(&left.as_secs()), "{left:?}");
    let mut failed = set(3, 0);
    failed.status = Some(status(
        &failed,
        &[],
        0,
        Some(("FailedCreate", "quota".into())),
        now,
    ));
    assert_eq!(
        failed.status.as_ref().unwrap().conditions.as_ref().unwrap()[0].status,
        "True"
    );
    assert_eq!(status(&failed, &[], 0, None, now).conditions, None);
}

#[test]
fn the_older_kind_has_the_same_status_in_its_own_words() {
    let now = Timestamp::now();
    let mut old: ReplicationController = serde_json::from_value(json!({
        "metadata": {"name": "s", "namespace": "a", "uid": "s", "generation": 3},
        "spec": {"replicas": 2, "selector": {"app": "x"},
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": []}}},
    }))
    .unwrap();
    assert!(matches!(
        plan(&old, vec![pod("a", "", now)], &HashMap::new(), now),
        Scale::Create(1)
    ));
    let selector = old.selector().unwrap();
    assert!(claim::matches(&selector, &*pod("a", "", now)));
    let failure = Some(("FailedCreate", "quota".to_owned()));
    let shown = status(&old, &[pod("a", "ready=5", now)], 0, failure, now);
    old.set_status(shown);
    let status = serde_json::to_value(old.status.as_ref().unwrap()).unwrap();
    assert_eq!(status["readyReplicas"], 1);
    assert_eq!(status["conditions"][0]["type"], "ReplicaFailure");
    assert_eq!(status["conditions"][0]["message"], "quota");
    assert_eq!(status["observedGeneration"], 3);
}
