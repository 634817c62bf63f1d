//! Tests of `daemonset`.

use super::*;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde_json::{Value, json};

fn set(spec: Value, strategy: Value) -> DaemonSet {
    let mut pod = json!({"containers": [{"name": "c"}]});
    for (name, value) in spec.as_object().unwrap() {
        pod[name] = value.clone();
    }
    serde_json::from_value(
        json!({"metadata": {"name": "d", "uid": "d", "generation": 1},
        "spec": {"selector": {"matchLabels": {"app": "x"}}, "updateStrategy": strategy,
            "template": {"metadata": {"labels": {"app": "x"}}, "spec": pod}}}),
    )
    .unwrap()
}

fn node(name: &str, spec: Value) -> Arc<Node> {
    let labels = json!({"name": name});
    Arc::new(
        serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}, "spec": spec}))
            .unwrap(),
    )
}

/// `name node hash state`, where state is `ready`, `new`, `failed` or `going`.
fn pod(words: &str) -> Arc<Pod> {
    let [name, node, hash, state]: [&str; 4] =
        words.split(' ').collect::<Vec<_>>().try_into().unwrap();
    let phase = if state == "failed" {
        "Failed"
    } else {
        "Running"
    };
    let ready = if state == "ready" { "True" } else { "False" };
    let mut pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": name, "uid": name, "labels": {HASH: hash},
            "creationTimestamp": "2020-01-01T00:00:00Z"},
        "spec": {"containers": [], "nodeName": node},
        "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready,
            "lastTransitionTime": "2020-01-01T00:00:00Z"}]}}))
    .unwrap();
    if state == "going" {
        pod.metadata.deletion_timestamp = Some(Time(Timestamp::UNIX_EPOCH));
    }
    Arc::new(pod)
}

fn told(set: &DaemonSet, nodes: &[Arc<Node>], pods: &[&str]) -> String {
    let pods: Vec<Arc<Pod>> = pods.iter().map(|w| pod(w)).collect();
    let plan = plan(set, nodes, &pods, "h2", Timestamp::now());
    let mut words: Vec<String> = plan.create.iter().map(|n| format!("+{n}")).collect();
    words.extend(
        plan.delete
            .iter()
            .map(|p| format!("-{}", p.metadata.name.as_deref().unwrap())),
    );
    words.sort();
    let s = plan.status;
    format!(
        "{} {}/{}",
        words.join(" "),
        s.number_ready,
        s.desired_number_scheduled
    )
}

#[test]
fn every_node_that_takes_one_gets_one() {
    let tainted = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    let evicting = json!({"taints": [{"key": "k", "effect": "NoExecute"}]});
    let cordoned = json!({"unschedulable": true, "taints":
        [{"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}]});
    let nodes = [
        node("a", json!({})),
        node("b", tainted),
        node("c", evicting),
        node("d", cordoned),
    ];
    let plain = set(json!({}), json!({}));
    let chosen = set(json!({"nodeSelector": {"name": "a"}}), json!({}));
    let tolerant = set(json!({"tolerations": [{"operator": "Exists"}]}), json!({}));
    let table: [(&DaemonSet, &[&str], &str); 6] = [
        (&plain, &[], "+a +d 0/2"),
        (&chosen, &[], "+a 0/1"),
        (&tolerant, &[], "+a +b +c +d 0/4"),
        (
            &plain,
            &[
                "p a h2 ready",
                "q b h2 ready",
                "r c h2 ready",
                "s d h2 ready",
            ],
            "-r 2/2",
        ),
        (&chosen, &["p a h2 ready", "q b h2 ready"], "-q 1/1"),
        (&chosen, &["p a h2 failed"], "-p 0/1"),
    ];
    for (set, pods, expected) in table {
        assert_eq!(told(set, &nodes, pods), expected, "{pods:?}");
    }
    assert_eq!(
        told(&chosen, &nodes, &["p a h2 going"]),
        " 0/1",
        "one at a time"
    );
    assert_eq!(
        told(&chosen, &nodes, &["p a h2 ready", "q a h2 ready"]),
        "-q 1/1"
    );
}

#[test]
fn an_update_keeps_its_limits() {
    let nodes: Vec<Arc<Node>> = ["a", "b", "c"].map(|n| node(n, json!({}))).to_vec();
    let one = set(
        json!({}),
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}}),
    );
    let manual = set(json!({}), json!({"type": "OnDelete"}));
    let surge = set(
        json!({}),
        json!({"type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}),
    );
    let old = ["p a h1 ready", "q b h1 ready", "r c h1 ready"];
    let table: [(&DaemonSet, &[&str], &str); 7] = [
        (&one, &old, "-p 3/3"),
        (
            &one,
            &["p a h1 going", "q b h1 ready", "r c h1 ready"],
            " 2/3",
        ),
        (
            &one,
            &["p a h2 new", "q b h1 ready", "r c h1 ready"],
            " 2/3",
        ),
        (
            &one,
            &["p a h2 ready", "q b h1 ready", "r c h1 new"],
            "-r 2/3",
        ),
        (&manual, &old, " 3/3"),
        (&surge, &old, "+a 3/3"),
        (
            &surge,
            &[
                "p a h1 ready",
                "s a h2 ready",
                "q b h1 ready",
                "r c h1 ready",
            ],
            "-p 3/3",
        ),
    ];
    for (set, pods, expected) in table {
        assert_eq!(told(set, &nodes, pods), expected, "{pods:?}");
    }
}

#[test]
fn a_pod_is_meant_for_its_node() {
    let spec = spec_for(&PodSpec::default(), "a");
    let meant = Pod {
        spec: Some(spec.clone()),
        ..Pod::default()
    };
    assert_eq!(target(&meant), Some("a"));
    let keys: Vec<String> = spec
        .tolerations
        .unwrap()
        .into_iter()
        .filter_map(|t| t.key)
        .collect();
    assert_eq!(keys.len(), 6);
}
