//! What the upkeep costs: it runs on every write.

use std::time::Instant;

use serde_json::json;

use super::*;

/// A pod as a node reports it, with three managers.
fn reported() -> Value {
    let pods = find("pods");
    let container = |i: usize| {
        json!({"name": format!("c{i}"), "image": "registry.example/app:1", "args": ["--a", "--b"],
            "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v"}],
            "readinessProbe": {"httpGet": {"path": "/", "port": 80}}})
    };
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "p", "namespace": "n", "labels": {"app": "a", "hash": "h"},
            "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "u",
                "controller": true, "blockOwnerDeletion": true}]},
        "spec": {"containers": [container(0), container(1)], "volumes": [{"name": "v", "emptyDir": {}}]}});
    crate::schema::apply_defaults(pods, &mut pod);
    update(
        &Target::of(pods, ""),
        None,
        &mut pod,
        "kube-controller-manager",
        T1,
    );
    status(&mut pod, "False", "Pending");
    pod
}

fn status(pod: &mut Value, ready: &str, phase: &str) {
    let before = pod.clone();
    let conditions: Vec<Value> = ["PodScheduled", "Initialized", "ContainersReady", "Ready"]
        .into_iter()
        .map(|kind| json!({"type": kind, "status": ready, "lastProbeTime": null, "lastTransitionTime": T1}))
        .collect();
    let states: Vec<Value> = (0..2)
        .map(|i| json!({"name": format!("c{i}"), "ready": ready == "True", "restartCount": 0, "image": "i",
            "imageID": "sha256:1", "state": {"running": {"startedAt": T1}}}))
        .collect();
    pod["status"] = json!({"phase": phase, "conditions": conditions, "containerStatuses": states,
        "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}], "hostIP": "10.0.0.2", "startTime": T1});
    update(
        &Target::of(find("pods"), "status"),
        Some(&before),
        pod,
        "kubelet",
        T2,
    );
}

/// Prints how long it takes; a figure is worth something in an optimised build on a quiet machine.
#[test]
#[ignore = "a measurement: cargo nextest run -p api --release --run-ignored all cost --no-capture"]
fn of_a_status_update() {
    let pod = reported();
    let rounds = 5_000;
    let (mut best, mut sum) = (f64::MAX, 0.0);
    for i in 0..rounds {
        let mut new = pod.clone();
        let ready = if i % 2 == 0 { "True" } else { "False" };
        new["status"]["phase"] = "Running".into();
        for condition in new["status"]["conditions"].as_array_mut().unwrap() {
            condition["status"] = ready.into();
        }
        let target = Target::of(find("pods"), "status");
        let started = Instant::now();
        update(&target, Some(&pod), &mut new, "kubelet", T2);
        let took = started.elapsed().as_secs_f64() * 1e6;
        best = best.min(took);
        sum += took;
    }
    let size = pod["metadata"]["managedFields"].to_string().len();
    println!(
        "a pod's status update: best {best:.1} µs, mean {:.1} µs; {size} of {} bytes are managedFields",
        sum / f64::from(rounds),
        pod.to_string().len()
    );
    let mut made = pod.clone();
    crate::meta::remove(&mut made, "managedFields");
    let started = Instant::now();
    for _ in 0..rounds {
        let mut new = made.clone();
        update(&Target::of(find("pods"), ""), None, &mut new, "kubectl", T1);
        crate::meta::remove(&mut new, "managedFields");
    }
    println!(
        "a pod's create, with a copy: mean {:.1} µs",
        started.elapsed().as_secs_f64() * 1e6 / f64::from(rounds)
    );
}
