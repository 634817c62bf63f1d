//! Admission of single kinds: runtime classes, storage classes, growing claims.

use serde_json::{Value, json};

use crate::harness::{Cluster, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";
const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

#[tokio::test(flavor = "multi_thread")]
async fn pods_get_what_their_runtime_class_says() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let with = |name: &str, spec: Value| {
        let mut pod = pod(name);
        let own = spec.as_object().unwrap().clone();
        pod["spec"].as_object_mut().unwrap().extend(own);
        pod
    };
    let class = json!({"metadata": {"name": "vm"}, "handler": "vm",
        "overhead": {"podFixed": {"cpu": "250m", "memory": "64Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
    let classes = "/apis/node.k8s.io/v1/runtimeclasses";
    c.post(classes, &class).await.ok();
    let made = c
        .post(PODS, &with("p", json!({"runtimeClassName": "vm"})))
        .await
        .ok();
    let spec = &made["spec"];
    assert_eq!(spec["overhead"], json!({"cpu": "250m", "memory": "64Mi"}));
    assert_eq!(spec["nodeSelector"], json!({"vm": "yes"}));
    let keys: Vec<&Value> = spec["tolerations"]
        .as_array()
        .unwrap()
        .iter()
        .map(|t| &t["key"])
        .collect();
    assert_eq!(
        keys,
        [
            "node.kubernetes.io/not-ready",
            "node.kubernetes.io/unreachable",
            "vm"
        ]
    );
    for (spec, why) in [
        (
            json!({"runtimeClassName": "vm", "overhead": {"cpu": "1"}}),
            "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead",
        ),
        (
            json!({"overhead": {"cpu": "1"}}),
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        ),
        (
            json!({"runtimeClassName": "vm", "nodeSelector": {"vm": "no"}}),
            "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
        ),
        (
            json!({"runtimeClassName": "none"}),
            "pod rejected: RuntimeClass \"none\" not found",
        ),
    ] {
        assert_eq!(
            c.post(PODS, &with("q", spec)).await.refused(403),
            format!("pods \"q\" is forbidden: {why}")
        );
    }
    c.delete(&format!("{classes}/vm")).await.ok();
    let late = with("q", json!({"runtimeClassName": "vm"}));
    c.post(PODS, &late).await.refused(403);
}

fn claim(name: &str, class: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"accessModes": ["ReadWriteOnce"],
        "storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_get_a_class_and_protection() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let class = |name: &str, default: Option<&str>| {
        let annotations: Value = default
            .into_iter()
            .map(|key| (key.to_owned(), "true"))
            .collect();
        json!({"metadata": {"name": name, "annotations": annotations}, "provisioner": "x/y"})
    };
    c.post(CLASSES, &class("plain", None)).await.ok();
    let named = |made: &Value| made["spec"].get("storageClassName").cloned();
    let made = c.post(CLAIMS, &claim("none", Value::Null)).await.ok();
    assert_eq!(named(&made), None);
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pvc-protection"])
    );
    let beta = "storageclass.beta.kubernetes.io/is-default-class";
    c.post(CLASSES, &class("b", Some(beta))).await.ok();
    let made = c.post(CLAIMS, &claim("first", Value::Null)).await.ok();
    assert_eq!(named(&made), Some(json!("b")));
    let mut annotated = claim("annotated", Value::Null);
    annotated["metadata"]["annotations"] =
        json!({"volume.beta.kubernetes.io/storage-class": "plain"});
    assert_eq!(named(&c.post(CLAIMS, &annotated).await.ok()), None);
    assert_eq!(
        named(&c.post(CLAIMS, &claim("empty", json!(""))).await.ok()),
        Some(json!(""))
    );
    // A deleted claim waits for its protection.
    let path = format!("{CLAIMS}/first");
    c.delete(&path).await.ok();
    let dying = c.get(&path).await.ok();
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    let freed = json!({"metadata": {"finalizers": null}});
    c.patch(&path, "merge", &freed).await.ok();
    c.get(&path).await.refused(404);

    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    let made = c.post("/api/v1/persistentvolumes", &volume).await.ok();
    assert_eq!(
        made["metadata"]["finalizers"],
        json!(["kubernetes.io/pv-protection"])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_grow_where_their_class_allows_it() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    for (name, grows) in [("stiff", false), ("stretch", true)] {
        let class = json!({"metadata": {"name": name}, "provisioner": "x/y", "allowVolumeExpansion": grows});
        c.post(CLASSES, &class).await.ok();
        c.post(CLAIMS, &claim(name, json!(name))).await.ok();
    }
    let grow = json!({"spec": {"resources": {"requests": {"storage": "2Gi"}}}});
    let path = |name: &str| format!("{CLAIMS}/{name}");
    // Validation has the first word about a claim that is not bound.
    c.patch(&path("stretch"), "merge", &grow).await.refused(422);
    for name in ["stiff", "stretch"] {
        let bound = json!({"status": {"phase": "Bound"}});
        c.patch(&format!("{}/status", path(name)), "merge", &bound)
            .await
            .ok();
    }
    assert_eq!(
        c.patch(&path("stiff"), "merge", &grow).await.refused(403),
        "persistentvolumeclaims \"stiff\" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"
    );
    let grown = c.patch(&path("stretch"), "merge", &grow).await.ok();
    assert_eq!(grown["spec"]["resources"]["requests"]["storage"], "2Gi");
}
