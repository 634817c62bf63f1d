//! Decisions as tables: nodes and a pod in, a node or upstream's message out.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use k8s_openapi::api::core::v1::{Node, Pod};
use scheduler::{Cluster, plan, pod_requests};
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str, cpu: &str, memory: &str, spec: Value) -> Arc<Node> {
    let node = json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name, "size": cpu}},
        "spec": spec,
        "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "3", "x.io/card": "2"}},
    });
    Arc::new(serde_json::from_value(node).unwrap())
}

fn pod(uid: &str, spec: Value) -> Arc<Pod> {
    let pod = json!({"metadata": {"name": uid, "namespace": "a", "uid": uid}, "spec": spec});
    Arc::new(serde_json::from_value(pod).unwrap())
}

fn asks(cpu: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]})
}

fn with(mut spec: Value, field: &str, value: Value) -> Value {
    spec[field] = value;
    spec
}

fn decide(cluster: &Cluster, spec: Value) -> String {
    match plan(&pod("new", spec), cluster.nodes(), 0) {
        Ok(node) => node,
        Err(failed) => failed.to_string(),
    }
}

fn affinity(required: Value) -> Value {
    json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": required}}})
}

#[test]
fn one_node_takes_or_says_why_not() {
    let port =
        json!({"containers": [{"name": "c", "ports": [{"containerPort": 1, "hostPort": 80}]}]});
    let mut cluster = Cluster::default();
    assert_eq!(
        decide(&cluster, asks("1")),
        "no nodes available to schedule pods"
    );
    cluster.set_node(node("n", "2", "4Gi", json!({})));
    cluster.place(pod("web", port.clone()), "n");
    let init = json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}],
        "initContainers": [{"name": "i", "resources": {"requests": {"cpu": "2500m"}}}]});
    let cards = json!({"containers": [{"name": "c", "resources": {"requests":
        {"cpu": "3", "memory": "5Gi", "x.io/card": "3"}}}]});
    let in_size = |v: &str| {
        affinity(json!([{"matchExpressions":
        [{"key": "size", "operator": "In", "values": [v]}]}]))
    };
    let gt = |v: &str| {
        affinity(json!([{"matchExpressions":
        [{"key": "size", "operator": "Gt", "values": [v]}]}]))
    };
    let by_name = affinity(json!([{"matchFields":
        [{"key": "metadata.name", "operator": "In", "values": ["n"]}]}]));
    let mismatch = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
    let table = [
        (asks("2"), "n"),
        (
            asks("2001m"),
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (init, "0/1 nodes are available: 1 Insufficient cpu."),
        (
            cards,
            "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory, 1 Insufficient x.io/card.",
        ),
        (with(asks("1"), "overhead", json!({"cpu": "1"})), "n"),
        (
            with(asks("1"), "overhead", json!({"cpu": "1100m"})),
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        (
            port,
            "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.",
        ),
        (with(asks("1"), "nodeSelector", json!({"size": "2"})), "n"),
        (
            with(asks("1"), "nodeSelector", json!({"size": "3"})),
            mismatch,
        ),
        (with(asks("1"), "affinity", in_size("2")), "n"),
        (with(asks("1"), "affinity", in_size("7")), mismatch),
        (with(asks("1"), "affinity", gt("1")), "n"),
        (with(asks("1"), "affinity", gt("x")), mismatch),
        (with(asks("1"), "affinity", by_name), "n"),
        (with(asks("1"), "affinity", affinity(json!([{}]))), mismatch),
    ];
    for (spec, expected) in table {
        assert_eq!(decide(&cluster, spec.clone()), expected, "{spec}");
    }
}

#[test]
fn taints_keep_pods_away_unless_tolerated() {
    let mut cluster = Cluster::default();
    let taint = |effect: &str| json!({"taints": [{"key": "k", "value": "v", "effect": effect}]});
    let tolerates = |t: Value| with(asks("1"), "tolerations", json!([t]));
    cluster.set_node(node("n", "2", "4Gi", taint("NoExecute")));
    let refused = "0/1 nodes are available: 1 node(s) had untolerated taint(s).";
    let table = [
        (asks("1"), refused),
        (
            tolerates(json!({"key": "k", "operator": "Equal", "value": "v"})),
            "n",
        ),
        (tolerates(json!({"key": "k", "value": "w"})), refused),
        (
            tolerates(json!({"key": "k", "operator": "Exists", "effect": "NoExecute"})),
            "n",
        ),
        (
            tolerates(json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"})),
            refused,
        ),
        (tolerates(json!({"operator": "Exists"})), "n"),
    ];
    for (spec, expected) in table {
        assert_eq!(decide(&cluster, spec.clone()), expected, "{spec}");
    }
    cluster.set_node(node("n", "2", "4Gi", json!({"unschedulable": true})));
    assert_eq!(
        decide(&cluster, asks("1")),
        "0/1 nodes are available: 1 node(s) were unschedulable."
    );
    // Only disliked: the other node is better, but this one does when it is alone.
    cluster.set_node(node("n", "2", "4Gi", taint("PreferNoSchedule")));
    assert_eq!(decide(&cluster, asks("1")), "n");
    cluster.set_node(node("other", "2", "4Gi", json!({})));
    assert_eq!(decide(&cluster, asks("1")), "other");
}

#[test]
fn a_burst_spreads_and_never_overcommits() {
    let mut cluster = Cluster::default();
    for name in ["a", "b", "c"] {
        cluster.set_node(node(name, "2", "4Gi", json!({})));
    }
    for i in 0..6 {
        let pod = pod(&format!("p{i}"), asks("1"));
        let node = plan(&pod, cluster.nodes(), i).unwrap();
        cluster.place(pod, &node);
    }
    for (name, view) in cluster.nodes() {
        assert_eq!(
            (view.pods.len(), view.requested.milli_cpu),
            (2, 2000),
            "{name}"
        );
    }
    assert_eq!(
        decide(&cluster, asks("1m")),
        "0/3 nodes are available: 3 Insufficient cpu."
    );
    assert!(cluster.remove_pod("p0") && !cluster.remove_pod("p0"));
    assert!(["a", "b", "c"].contains(&decide(&cluster, asks("1")).as_str()));
}

#[test]
fn a_pod_asks_for_the_largest_moment_of_its_life() {
    let request = |cpu: &str| json!({"requests": {"cpu": cpu}});
    let spec = json!({
        "containers": [{"name": "a", "resources": request("1")}],
        "initContainers": [
            {"name": "sidecar", "restartPolicy": "Always", "resources": request("500m")},
            {"name": "once", "resources": request("1200m")},
        ],
    });
    assert_eq!(pod_requests(&pod("x", spec.clone())).milli_cpu, 1700);
    assert_eq!(
        pod_requests(&pod("x", with(spec, "resources", request("4")))).milli_cpu,
        4000
    );
}
