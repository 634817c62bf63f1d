//! Tests of `defaults`.

#![allow(clippy::unwrap_used, reason = "tests")]

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;
use crate::resource::find;

fn check(group: &str, plural: &str, mut object: Value, wanted: Expect) {
    let res = find(group, "v1", plural).unwrap();
    apply_defaults(res, &mut object);
    wanted.assert_eq(&serde_json::to_string(&object).unwrap());
    let once = object.clone();
    apply_defaults(res, &mut object);
    assert_eq!(object, once, "not idempotent");
}

#[test]
fn pods() {
    check(
        "",
        "pods",
        json!({"spec": {"serviceAccountName": "sa", "hostNetwork": true, "volumes": [
            {"name": "a"}, {"name": "b", "configMap": {"name": "x"}}, {"name": "c", "hostPath": {"path": "/"}},
            {"name": "d", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
            "containers": [
            {"name": "a", "image": "nginx", "ports": [{"containerPort": 80}],
             "resources": {"limits": {"cpu": "0.0001", "memory": "1Gi"}, "requests": {"memory": "1Mi"}},
             "readinessProbe": {"httpGet": {"port": 80}}, "livenessProbe": {"grpc": {"port": 1}},
             "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]},
            {"name": "b", "image": "reg:5000/x@sha256:1"}, {"name": "c", "image": "reg:5000/x:latest"},
            {"name": "d", "image": "x:1", "imagePullPolicy": "Never"}]}}),
        expect![[
            r#"{"spec":{"containers":[{"env":[{"name":"N","valueFrom":{"fieldRef":{"apiVersion":"v1","fieldPath":"metadata.name"}}}],"image":"nginx","imagePullPolicy":"Always","livenessProbe":{"failureThreshold":3,"grpc":{"port":1,"service":""},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"name":"a","ports":[{"containerPort":80,"hostPort":80,"protocol":"TCP"}],"readinessProbe":{"failureThreshold":3,"httpGet":{"path":"/","port":80,"scheme":"HTTP"},"periodSeconds":10,"successThreshold":1,"timeoutSeconds":1},"resources":{"limits":{"cpu":"1m","memory":"1Gi"},"requests":{"cpu":"1m","memory":"1Mi"}},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"},{"image":"reg:5000/x@sha256:1","imagePullPolicy":"IfNotPresent","name":"b","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"},{"image":"reg:5000/x:latest","imagePullPolicy":"Always","name":"c","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"},{"image":"x:1","imagePullPolicy":"Never","name":"d","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","enableServiceLinks":true,"hostNetwork":true,"restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"serviceAccount":"sa","serviceAccountName":"sa","terminationGracePeriodSeconds":30,"volumes":[{"emptyDir":{},"name":"a"},{"configMap":{"defaultMode":420,"name":"x"},"name":"b"},{"hostPath":{"path":"/","type":""},"name":"c"},{"name":"d","projected":{"defaultMode":420,"sources":[{"serviceAccountToken":{"expirationSeconds":3600,"path":"t"}}]}}]}}"#
        ]],
    );
}

#[test]
fn workloads() {
    check(
        "apps",
        "deployments",
        json!({"spec": {"template": {"spec": {"containers": [{"image": "a:1"}]}}}}),
        expect![[
            r#"{"spec":{"progressDeadlineSeconds":600,"replicas":1,"revisionHistoryLimit":10,"strategy":{"rollingUpdate":{"maxSurge":"25%","maxUnavailable":"25%"},"type":"RollingUpdate"},"template":{"spec":{"containers":[{"image":"a:1","imagePullPolicy":"IfNotPresent","resources":{},"terminationMessagePath":"/dev/termination-log","terminationMessagePolicy":"File"}],"dnsPolicy":"ClusterFirst","restartPolicy":"Always","schedulerName":"default-scheduler","securityContext":{},"terminationGracePeriodSeconds":30}}}}"#
        ]],
    );
    check(
        "apps",
        "statefulsets",
        json!({"spec": {"volumeClaimTemplates": [{"spec": {}}]}}),
        expect![[
            r#"{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Retain","whenScaled":"Retain"},"podManagementPolicy":"OrderedReady","replicas":1,"revisionHistoryLimit":10,"updateStrategy":{"rollingUpdate":{"partition":0},"type":"RollingUpdate"},"volumeClaimTemplates":[{"spec":{"volumeMode":"Filesystem"},"status":{"phase":"Pending"}}]}}"#
        ]],
    );
    check(
        "batch",
        "jobs",
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}}}),
        expect![[
            r#"{"metadata":{"labels":{"a":"b"}},"spec":{"backoffLimit":6,"completionMode":"NonIndexed","completions":1,"manualSelector":false,"parallelism":1,"podReplacementPolicy":"TerminatingOrFailed","suspend":false,"template":{"metadata":{"labels":{"a":"b"}}}}}"#
        ]],
    );
}

#[test]
fn others() {
    check(
        "",
        "services",
        json!({"spec": {"type": "LoadBalancer", "sessionAffinity": "ClientIP", "ports": [{"port": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}]}}),
        expect![[
            r#"{"spec":{"allocateLoadBalancerNodePorts":true,"externalTrafficPolicy":"Cluster","internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","targetPort":80},{"port":81,"protocol":"UDP","targetPort":"web"}],"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":10800}},"type":"LoadBalancer"}}"#
        ]],
    );
    check(
        "",
        "secrets",
        json!({"stringData": {"a": "b"}, "data": {"a": "eA==", "c": "eA=="}}),
        expect![[r#"{"data":{"a":"Yg==","c":"eA=="},"type":"Opaque"}"#]],
    );
    check(
        "",
        "namespaces",
        json!({"metadata": {"name": "x"}}),
        expect![[
            r#"{"metadata":{"labels":{"kubernetes.io/metadata.name":"x"},"name":"x"},"status":{"phase":"Active"}}"#
        ]],
    );
    check(
        "rbac.authorization.k8s.io",
        "clusterrolebindings",
        json!({"roleRef": {"kind": "ClusterRole", "name": "a"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
        expect![[
            r#"{"roleRef":{"apiGroup":"rbac.authorization.k8s.io","kind":"ClusterRole","name":"a"},"subjects":[{"apiGroup":"rbac.authorization.k8s.io","kind":"User","name":"u"},{"kind":"ServiceAccount","name":"s"}]}"#
        ]],
    );
    check(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
        expect![[
            r#"{"spec":{"egress":[{"ports":[{"port":1,"protocol":"TCP"}]}],"policyTypes":["Ingress","Egress"]}}"#
        ]],
    );
    check(
        "discovery.k8s.io",
        "endpointslices",
        json!({"ports": [{"port": 1}]}),
        expect![[r#"{"ports":[{"name":"","port":1,"protocol":"TCP"}]}"#]],
    );
}
