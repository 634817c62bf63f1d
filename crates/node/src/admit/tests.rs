//! Tests of `admit`.

#![allow(clippy::unwrap_used, reason = "tests")]
use serde_json::{Value, json};

use super::*;

fn pod(mut spec: Value) -> Pod {
    if spec.get("containers").is_none() {
        spec["containers"] = json!([{"name": "c"}]);
    }
    serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
}

fn asks(cpu: &str, memory: &str) -> Value {
    json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": memory}}}]})
}

#[test]
fn what_does_not_fit_is_refused() {
    let node: Node = serde_json::from_value(json!({
        "metadata": {"name": "n", "labels": {"zone": "a", "size": "5"}},
        "spec": {"taints": [{"key": "k", "value": "v", "effect": "NoExecute"}]}}))
    .unwrap();
    let ok = json!([{"key": "k", "operator": "Exists"}]);
    let with = |mut spec: Value| {
        spec["tolerations"] = ok.clone();
        spec
    };
    let affinity = |op: &str, values: Value| {
        with(
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchExpressions": [{"key": "size", "operator": op, "values": values}]}]}}}}),
        )
    };
    let port = |n: u16| {
        with(
            json!({"containers": [{"name": "c", "ports": [{"containerPort": 80, "hostPort": n}]}]}),
        )
    };
    let others = [pod(asks("1", "1Gi")), pod(port(8080))];
    let capacity = Capacity {
        cpu_milli: 2000,
        memory_bytes: 2 << 30,
        storage_bytes: 0,
    };
    let table = [
        (with(asks("1", "1Gi")), ""),
        (asks("1", "1Gi"), "TaintToleration"),
        (with(asks("1100m", "1Gi")), "OutOfcpu"),
        (with(asks("1", "1025Mi")), "OutOfmemory"),
        (with(json!({"nodeSelector": {"zone": "b"}})), "NodeAffinity"),
        (with(json!({"nodeSelector": {"zone": "a"}})), ""),
        (affinity("Gt", json!(["4"])), ""),
        (affinity("Gt", json!(["5"])), "NodeAffinity"),
        (port(8080), "NodePorts"),
        (port(8081), ""),
    ];
    for (spec, want) in table {
        let got = check(&pod(spec.clone()), others.iter(), Some(&node), capacity, 3);
        assert_eq!(got.map(|(r, _)| r).unwrap_or_default(), want, "{spec}");
    }
    let got = check(&pod(with(json!({}))), others.iter(), None, capacity, 2).unwrap();
    assert_eq!(got.0, "OutOfpods");
    assert!(
        got.1.ends_with(
            "Node didn't have enough resource: pods, requested: 1, used: 2, capacity: 2"
        )
    );
}
