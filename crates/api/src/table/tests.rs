//! Tests of `table`.

#![allow(clippy::unwrap_used, reason = "tests")]

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::resource::{all, find};

fn line(group: &str, version: &str, plural: &str, object: &Value) -> String {
    let now = "2024-01-01T01:00:00Z".parse().unwrap();
    let shown = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    cells(find(group, version, plural).unwrap(), object, now)
        .iter()
        .map(shown)
        .collect::<Vec<_>>()
        .join(" | ")
}

#[test]
fn every_row_fits_its_columns() {
    let now = "2024-01-01T01:00:00Z".parse().unwrap();
    for res in all() {
        let object = json!({"metadata": {"name": "a"}});
        let own = (printer(res).cells)(&Row {
            object: &object,
            now,
        });
        assert_eq!(own.len(), columns(res).len(), "{}", res.qualified());
    }
}

#[test]
fn pod_words() {
    let meta = json!({"name": "p", "creationTimestamp": "2024-01-01T00:00:00Z"});
    let two = json!([{"name": "a"}, {"name": "b"}]);
    let running = json!({"name": "a", "ready": true, "restartCount": 2, "state": {"running": {}},
        "lastState": {"terminated": {"finishedAt": "2024-01-01T00:55:00Z"}}});
    let completed = json!({"state": {"terminated": {"exitCode": 0, "reason": "Completed"}}});
    let mut out = String::new();
    for (spec, status) in [
        (json!({"containers": two}), json!({"phase": "Pending"})),
        (
            json!({"containers": two, "nodeName": "n"}),
            json!({"phase": "Running", "podIP": "10.0.0.1", "containerStatuses": [running,
            {"name": "b", "restartCount": 1, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
        ),
        (
            json!({"containers": two, "initContainers": [{"name": "i"}, {"name": "j"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 0}}}, {"name": "j", "state": {"running": {}}}]}),
        ),
        (
            json!({"containers": two, "initContainers": [{"name": "i"}]}),
            json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "restartCount": 3, "state": {"terminated": {"exitCode": 2}}}]}),
        ),
        (
            json!({"containers": [{"name": "a"}], "initContainers": [{"name": "s", "restartPolicy": "Always"}]}),
            json!({"phase": "Running", "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "state": {"running": {}}}], "containerStatuses": [running]}),
        ),
        (
            json!({"containers": two}),
            json!({"phase": "Succeeded", "containerStatuses": [completed, completed]}),
        ),
        (
            json!({"containers": two}),
            json!({"phase": "Running", "containerStatuses": [completed, running]}),
        ),
        (
            json!({"containers": two}),
            json!({"phase": "Failed", "reason": "Evicted"}),
        ),
        (
            json!({"containers": two, "readinessGates": [{"conditionType": "g"}]}),
            json!({"phase": "Pending",
            "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
        ),
    ] {
        out += &line(
            "",
            "v1",
            "pods",
            &json!({"metadata": meta, "spec": spec, "status": status}),
        );
        out.push('\n');
    }
    let mut going =
        json!({"metadata": meta, "spec": {"containers": two}, "status": {"phase": "Running"}});
    going["metadata"]["deletionTimestamp"] = "2024-01-01T00:59:00Z".into();
    out += &line("", "v1", "pods", &going);
    expect![[r#"
        p | 0/2 | Pending | 0 | 60m | <none> | <none> | <none> | <none>
        p | 1/2 | CrashLoopBackOff | 3 (5m ago) | 60m | 10.0.0.1 | n | <none> | <none>
        p | 0/2 | Init:1/2 | 0 | 60m | <none> | <none> | <none> | <none>
        p | 0/2 | Init:ExitCode:2 | 3 | 60m | <none> | <none> | <none> | <none>
        p | 2/2 | Running | 2 (5m ago) | 60m | <none> | <none> | <none> | <none>
        p | 0/2 | Completed | 0 | 60m | <none> | <none> | <none> | <none>
        p | 1/2 | NotReady | 2 (5m ago) | 60m | <none> | <none> | <none> | <none>
        p | 0/2 | Evicted | 0 | 60m | <none> | <none> | <none> | <none>
        p | 0/2 | SchedulingGated | 0 | 60m | <none> | <none> | <none> | 0/1
        p | 0/2 | Terminating | 0 | 60m | <none> | <none> | <none> | <none>"#]]
    .assert_eq(&out);
}

#[test]
fn other_kinds() {
    let mut out = String::new();
    for (group, version, plural, object) in [
        (
            "apps",
            "v1",
            "deployments",
            json!({"spec": {"replicas": 3, "selector": {"matchLabels": {"a": "b"}},
            "template": {"spec": {"containers": [{"name": "c", "image": "i"}]}}}, "status": {"readyReplicas": 1, "updatedReplicas": 2}}),
        ),
        (
            "",
            "v1",
            "services",
            json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "selector": {"a": "b"},
            "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
        ),
        (
            "",
            "v1",
            "services",
            json!({"spec": {"type": "LoadBalancer", "clusterIP": "None"}}),
        ),
        (
            "",
            "v1",
            "nodes",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": ""}},
            "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}],
            "addresses": [{"type": "InternalIP", "address": "1.2.3.4"}], "nodeInfo": {"kubeletVersion": "v1"}}}),
        ),
        (
            "",
            "v1",
            "events",
            json!({"type": "Normal", "reason": "Started", "message": "m\n", "involvedObject": {"kind": "Pod", "name": "p"},
            "lastTimestamp": "2024-01-01T00:59:00Z", "firstTimestamp": "2024-01-01T00:00:00Z", "count": 4, "source": {"component": "kubelet", "host": "h"}}),
        ),
        (
            "batch",
            "v1",
            "jobs",
            json!({"spec": {"completions": 2, "parallelism": 1},
            "status": {"succeeded": 1, "startTime": "2024-01-01T00:58:00Z", "conditions": [{"type": "Failed", "status": "True"}]}}),
        ),
        (
            "discovery.k8s.io",
            "v1",
            "endpointslices",
            json!({"addressType": "IPv4", "ports": [{"port": 80}],
            "endpoints": [{"addresses": ["a"]}, {"addresses": ["b"]}, {"addresses": ["c"]}, {"addresses": ["d"]}]}),
        ),
        (
            "autoscaling",
            "v2",
            "horizontalpodautoscalers",
            json!({"spec": {"minReplicas": 1, "maxReplicas": 3, "scaleTargetRef": {"kind": "Deployment", "name": "d"},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
        ),
        (
            "",
            "v1",
            "configmaps",
            json!({"data": {"a": "b"}, "binaryData": {"c": ""}}),
        ),
    ] {
        out += &line(group, version, plural, &object);
        out.push('\n');
    }
    expect![[r#"
         | 1/3 | 2 | 0 | <unknown> | c | i | a=b
         | NodePort | 10.0.0.1 | <none> | 80:30080/TCP,53/UDP | <unknown> | a=b
         | LoadBalancer | None | <pending> | <none> | <unknown> | <none>
         | Ready,SchedulingDisabled | control-plane | <unknown> | v1 | 1.2.3.4 | <none> | <unknown> | <unknown> | <unknown>
        60s | Normal | Started | pod/p |  | kubelet, h | m | 60m | 4 | 
         | Failed | 1/2 | 2m | <unknown> |  |  | <none>
         | IPv4 | 80 | a,b,c + 1 more... | <unknown>
         | Deployment/d | cpu: <unknown>/80% | 1 | 3 | 0 | <unknown>
         | 2 | <unknown>
    "#]]
    .assert_eq(&out);
}
