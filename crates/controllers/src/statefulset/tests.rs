//! Tests of `statefulset`.

use super::super::identity;
use super::*;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

fn set(replicas: i32, spec: Value) -> StatefulSet {
    let mut all = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "x"}},
        "serviceName": "svc", "template": {"metadata": {"labels": {"app": "x"}},
            "spec": {"containers": [{"name": "c"}]}},
        "volumeClaimTemplates": [{"metadata": {"name": "data"}, "spec": {}}]});
    for (name, value) in spec.as_object().unwrap() {
        all[name] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "s", "namespace": "a", "uid": "s"},
        "spec": all, "status": {"replicas": 0, "currentRevision": "r1"}}),
    )
    .unwrap()
}

/// `ordinal revision state`, where state is `ready`, `new`, `failed` or `going`.
fn pod(words: &str) -> Arc<Pod> {
    let [n, revision, state]: [&str; 3] = words.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let phase = if state == "failed" {
        "Failed"
    } else {
        "Running"
    };
    let ready = if state == "ready" { "True" } else { "False" };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": format!("s-{n}"), "uid": n, "labels": {HASH: revision}},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready,
            "lastTransitionTime": "2020-01-01T00:00:00Z"}]}}))
    .unwrap();
    if state == "going" {
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }
    Arc::new(pod)
}

fn told(set: &StatefulSet, pods: &[&str]) -> String {
    let pods: Vec<Arc<Pod>> = pods.iter().map(|w| pod(w)).collect();
    let plan = plan(
        set,
        &pods,
        &Names {
            current: "r1",
            update: "r2",
        },
        Timestamp::now(),
    );
    let created = plan
        .create
        .iter()
        .map(|(n, new)| format!("+{n}{}", if *new { "new" } else { "" }));
    let deleted = plan
        .delete
        .iter()
        .map(|p| format!("-{}", p.metadata.uid.as_deref().unwrap()));
    created.chain(deleted).collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_come_and_go_in_order() {
    let plain = set(3, json!({}));
    let parallel = set(3, json!({"podManagementPolicy": "Parallel"}));
    let one = set(1, json!({}));
    let one_parallel = set(1, json!({"podManagementPolicy": "Parallel"}));
    let shifted = set(1, json!({"ordinals": {"start": 5}}));
    let table: [(&StatefulSet, &[&str], &str); 12] = [
        (&plain, &[], "+0new"),
        (&plain, &["0 r2 new"], ""),
        (&plain, &["0 r2 ready"], "+1new"),
        (&plain, &["0 r2 failed"], "-0"),
        (&plain, &["0 r2 ready", "2 r2 ready"], "+1new"),
        (&parallel, &["1 r2 new"], "+0new +2new"),
        (&one, &["0 r2 ready", "1 r2 ready", "2 r2 ready"], "-2"),
        (&one, &["0 r2 ready", "1 r2 ready", "2 r2 going"], ""),
        (&one, &["0 r2 new", "1 r2 ready"], ""),
        (&one, &["0 r2 ready", "1 r2 ready", "2 r2 new"], "-2"),
        (
            &one_parallel,
            &["0 r2 new", "1 r2 new", "2 r2 ready"],
            "-2 -1",
        ),
        (&shifted, &["5 r2 ready", "0 r2 ready"], "-0"),
    ];
    for (set, pods, expected) in table {
        assert_eq!(told(set, pods), expected, "{pods:?}");
    }
}

#[test]
fn an_update_goes_from_the_last_to_the_first() {
    let plain = set(3, json!({}));
    let half = set(
        3,
        json!({"updateStrategy": {"type": "RollingUpdate",
        "rollingUpdate": {"partition": 2}}}),
    );
    let manual = set(3, json!({"updateStrategy": {"type": "OnDelete"}}));
    let old = ["0 r1 ready", "1 r1 ready", "2 r1 ready"];
    let table: [(&StatefulSet, &[&str], &str); 8] = [
        (&plain, &old, "-2"),
        (&plain, &["0 r1 ready", "1 r1 ready", "2 r2 ready"], "-1"),
        (&plain, &["0 r1 ready", "1 r1 ready", "2 r2 new"], ""),
        (&half, &old, "-2"),
        (&half, &["0 r1 ready", "1 r1 ready", "2 r2 ready"], ""),
        (&half, &["0 r1 ready", "2 r2 ready"], "+1"),
        (&half, &["0 r1 ready", "1 r1 ready"], "+2new"),
        (&manual, &old, ""),
    ];
    for (set, pods, expected) in table {
        assert_eq!(told(set, pods), expected, "{pods:?}");
    }
    let done: Vec<Arc<Pod>> = ["0 r2 ready", "1 r2 ready", "2 r2 ready"].map(pod).to_vec();
    let plan = plan(
        &plain,
        &done,
        &Names {
            current: "r1",
            update: "r2",
        },
        Timestamp::now(),
    );
    assert_eq!(plan.status.current_revision.as_deref(), Some("r2"));
    assert_eq!(plan.status.current_replicas, Some(3));
}

#[test]
fn a_pod_has_its_name_host_and_volumes() {
    let set = set(1, json!({}));
    let template: PodTemplateSpec = set.spec.as_ref().unwrap().template.clone();
    let pod = identity::pod(&set, &template, "r2", 3);
    assert_eq!(identity::ordinal(&set, &pod), Some(3));
    let spec = pod.spec.unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("s-3"), Some("svc"))
    );
    let volumes = serde_json::to_value(&spec.volumes).unwrap();
    let claimed = json!({"claimName": "data-s-3", "readOnly": false});
    assert_eq!(
        volumes,
        json!([{"name": "data", "persistentVolumeClaim": claimed}])
    );
    let claims = identity::claims(&set, 3);
    assert_eq!(claims[0].metadata.name.as_deref(), Some("data-s-3"));
}
