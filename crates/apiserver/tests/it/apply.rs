//! Server-side apply, and who owns what after every other write.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, config_map, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const A: &str = "/api/v1/namespaces/default/configmaps/a";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const WEB: &str = "/apis/apps/v1/namespaces/default/deployments/web";

async fn apply(c: &Cluster, path: &str, query: &str, body: &str) -> Answer {
    let path = format!("{path}?{query}");
    let body = body.to_owned().into();
    c.send(Method::PATCH, &path, "application/apply-patch+yaml", body)
        .await
}

async fn write(c: &Cluster, method: Method, path: &str, agent: &str, body: &Value) -> Answer {
    let kind = if method == Method::PATCH {
        "application/merge-patch+json"
    } else {
        "application/json"
    };
    let headers = [("content-type", kind), ("user-agent", agent)];
    c.send_with(method, path, &headers, body.to_string().into())
        .await
}

/// `manager Operation/subresource` and the fields, an entry a line.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array();
    let text = |entry: &Value, name: &str| entry[name].as_str().unwrap_or_default().to_owned();
    entries
        .into_iter()
        .flatten()
        .map(|entry| {
            assert!(!text(entry, "time").is_empty(), "{entry}");
            assert_eq!(entry["fieldsType"], "FieldsV1");
            let part = match text(entry, "subresource").as_str() {
                "" => String::new(),
                part => format!("/{part}"),
            };
            format!(
                "{} {}{part} {} {}",
                text(entry, "manager"),
                text(entry, "operation"),
                text(entry, "apiVersion"),
                entry["fieldsV1"]
            )
        })
        .collect()
}

fn web(spec: &str) -> String {
    format!(
        "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web}}, spec: {{{spec}selector: {{matchLabels: {{a: b}}}},
          template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn an_apply_makes_changes_and_gives_up() {
    let c = Cluster::start().await;
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, labels: {x: 'z'}}\ndata: {k: v, l: w}\n";
    let made = apply(&c, A, "fieldManager=one", config).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    assert_eq!(
        owners(&made),
        [r#"one Apply v1 {"f:data":{"f:k":{},"f:l":{}},"f:metadata":{"f:labels":{"f:x":{}}}}"#]
    );
    // The same again is the same revision, times and all, a second later too.
    tokio::time::sleep(std::time::Duration::from_millis(1100)).await;
    let again = apply(&c, A, "fieldManager=one", config).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.ok(), made);

    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {k: v2}}";
    let tried = apply(&c, A, "fieldManager=one&dryRun=All", config)
        .await
        .ok();
    assert_eq!(tried["data"], json!({"k": "v2"}));
    assert_eq!(c.get(A).await.ok(), made);
    let changed = apply(&c, A, "fieldManager=one", config).await.ok();
    assert_eq!(changed["data"], json!({"k": "v2"}));
    assert!(changed["metadata"].get("labels").is_none());
    assert_ne!(
        changed["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    // It names a revision: only that one.
    let stale = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, resourceVersion: '1'}}";
    apply(&c, A, "fieldManager=one", stale).await.refused(409);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_in_upstreams_words() {
    let c = Cluster::start().await;
    let good = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}}";
    let cases = [
        (
            A,
            "",
            good,
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Required value: is required for apply patch",
        ),
        (
            A,
            "fieldManager=m%0a",
            good,
            422,
            "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"m\\n\": invalid character U+000A (at position 1)",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: Pod, metadata: {name: a}}",
            400,
            "invalid object type: /v1, Kind=Pod",
        ),
        (
            A,
            "fieldManager=m",
            "",
            400,
            "invalid object type: /, Kind=",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: b}}",
            400,
            "the name of the object (b) does not match the name on the URL (a)",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: ConfigMap}",
            400,
            "the name of the object (a based on URL) was undeterminable: name must be provided",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: b}}",
            400,
            "the namespace of the provided object does not match the namespace sent on the request",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, managedFields: []}}",
            400,
            "metadata.managedFields must be nil",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, uid: u}}",
            409,
            "Operation cannot be fulfilled on configmaps \"a\": uid mismatch: the provided object specified uid u, and no existing object was found",
        ),
        (
            A,
            "fieldManager=m",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, foo: 1}",
            500,
            "failed to create typed patch object (/a; /v1, Kind=ConfigMap): .foo: field not declared in schema",
        ),
        (
            A,
            "fieldManager=m&fieldValidation=Strict",
            "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {a: '1', a: '2'}}",
            400,
            "error strict decoding YAML: error converting YAML to JSON: yaml: unmarshal errors:\n  line 1: key \"a\" already set in map",
        ),
        (
            "/api/v1/namespaces/default/pods/p/status",
            "fieldManager=m",
            "{apiVersion: v1, kind: Pod, metadata: {name: p}}",
            404,
            "pods \"p\" not found",
        ),
        (
            "/api/v1/namespaces/nowhere/configmaps/a",
            "fieldManager=m",
            good,
            404,
            "namespaces \"nowhere\" not found",
        ),
    ];
    for (path, query, body, code, message) in cases {
        assert_eq!(apply(&c, path, query, body).await.refused(code), message);
    }
    let cbor = "application/apply-patch+cbor";
    c.send(Method::PATCH, A, cbor, good.into())
        .await
        .refused(415);
    let forced = format!("{A}?force=true");
    assert_eq!(
        c.patch(&forced, "merge", &json!({})).await.refused(422),
        "PatchOptions.meta.k8s.io \"\" is invalid: force: Forbidden: may not be specified for non-apply patch"
    );
    let long = format!("{MAPS}?fieldManager={}", "m".repeat(129));
    assert_eq!(
        c.post(&long, &config_map("a", json!({})))
            .await
            .refused(422),
        "CreateOptions.meta.k8s.io \"\" is invalid: fieldManager: Too long: may not be more than 128 bytes"
    );
    c.get(A).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn conflicts_force_and_shares() {
    let c = Cluster::start().await;
    apply(
        &c,
        WEB,
        "fieldManager=one",
        &web("replicas: 3, paused: true, "),
    )
    .await
    .ok();
    apply(&c, WEB, "fieldManager=two", &web("replicas: 3, "))
        .await
        .ok();
    let refused = apply(
        &c,
        WEB,
        "fieldManager=two",
        &web("replicas: 4, paused: false, "),
    )
    .await;
    assert_eq!(refused.status, 409);
    assert_eq!(
        refused.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
            "message": "Apply failed with 2 conflicts: conflicts with \"one\":\n- .spec.paused\n- .spec.replicas",
            "reason": "Conflict", "code": 409,
            "details": {"causes": [
                {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.paused"},
                {"reason": "FieldManagerConflict", "message": "conflict with \"one\"", "field": ".spec.replicas"}]}})
    );
    let forced = apply(
        &c,
        WEB,
        "fieldManager=two&force=true",
        &web("replicas: 4, "),
    )
    .await
    .ok();
    assert_eq!(forced["spec"]["replicas"], 4);
    assert!(!owners(&forced)[0].contains("f:replicas"), "{forced}");
    // The first gives all up but what it shares.
    let left = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}";
    let left = apply(&c, WEB, "fieldManager=one", left).await.ok();
    assert!(left["spec"].get("paused").is_none());
    assert_eq!(owners(&left).len(), 1);
    assert_eq!(
        left["spec"]["template"]["spec"]["containers"][0]["image"],
        "i"
    );

    // Through scale and status.
    let scale = format!("{WEB}/scale");
    let wanted =
        "{apiVersion: autoscaling/v1, kind: Scale, metadata: {name: web}, spec: {replicas: 6}}";
    assert_eq!(
        apply(&c, &scale, "fieldManager=hpa", wanted)
            .await
            .refused(409),
        "Apply failed with 1 conflict: conflict with \"two\": .spec.replicas"
    );
    let scaled = apply(&c, &scale, "fieldManager=hpa&force=true", wanted)
        .await
        .ok();
    assert_eq!(scaled["spec"]["replicas"], 6);
    let got = c.get(WEB).await.ok();
    assert!(
        owners(&got)
            .contains(&r#"hpa Apply/scale apps/v1 {"f:spec":{"f:replicas":{}}}"#.to_owned()),
        "{got}"
    );
    let status = format!("{WEB}/status");
    let said = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: web}, spec: {replicas: 1}, status: {replicas: 6}}";
    let said = apply(&c, &status, "fieldManager=ctl", said).await.ok();
    assert_eq!(
        (&said["spec"]["replicas"], &said["status"]["replicas"]),
        (&json!(6), &json!(6))
    );
    assert!(
        owners(&said)
            .contains(&r#"ctl Apply/status apps/v1 {"f:status":{"f:replicas":{}}}"#.to_owned()),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_write_has_a_manager() {
    let c = Cluster::start().await;
    let made = write(
        &c,
        Method::POST,
        MAPS,
        "kubectl/v1.36 (linux)",
        &config_map("a", json!({"x": "z"})),
    )
    .await
    .ok();
    let first = r#"kubectl Update v1 {"f:data":{".":{},"f:key":{}},"f:metadata":{"f:labels":{".":{},"f:x":{}}}}"#;
    assert_eq!(owners(&made), [first]);
    // No agent at all.
    let unnamed = c
        .post(
            MAPS,
            &json!({"metadata": {"name": "b"}, "data": {"k": "v"}}),
        )
        .await
        .ok();
    assert!(owners(&unnamed)[0].starts_with("unknown Update v1"));
    // A PUT by a client that knows nothing of managed fields, which changes nothing.
    let mut same = made.clone();
    same["metadata"]
        .as_object_mut()
        .unwrap()
        .remove("managedFields");
    assert_eq!(write(&c, Method::PUT, A, "other", &same).await.ok(), made);
    same["data"]["key"] = json!("new");
    let put = write(
        &c,
        Method::PUT,
        &format!("{A}?fieldManager=me"),
        "other",
        &same,
    )
    .await
    .ok();
    assert_eq!(owners(&put)[1], r#"me Update v1 {"f:data":{"f:key":{}}}"#);
    let patched = write(
        &c,
        Method::PATCH,
        A,
        "patcher/1",
        &json!({"data": {"key": null, "more": "m"}}),
    )
    .await
    .ok();
    assert_eq!(
        owners(&patched),
        [
            r#"kubectl Update v1 {"f:data":{},"f:metadata":{"f:labels":{".":{},"f:x":{}}}}"#,
            r#"patcher Update v1 {"f:data":{"f:more":{}}}"#
        ]
    );
    // Somebody asks for all to be forgotten; from the next apply on it is kept again.
    let reset = write(
        &c,
        Method::PATCH,
        A,
        "p",
        &json!({"metadata": {"managedFields": [{}]}}),
    )
    .await
    .ok();
    assert!(reset["metadata"].get("managedFields").is_none());
    let config = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a}, data: {more: m}}";
    let applied = apply(&c, A, "fieldManager=one", config).await.ok();
    assert_eq!(
        owners(&applied),
        [
            r#"one Apply v1 {"f:data":{"f:more":{}}}"#,
            r#"before-first-apply Update v1 {"f:data":{".":{},"f:more":{}},"f:metadata":{"f:labels":{".":{},"f:x":{}}}}"#
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_have_managers_of_their_own() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let pods = "/api/v1/namespaces/default/pods";
    let made = write(&c, Method::POST, pods, "kubectl/1", &pod("p"))
        .await
        .ok();
    // What admission and defaults of the server add after it is nobody's: the account, its token.
    assert_eq!(owners(&made).len(), 1);
    assert!(!owners(&made)[0].contains("serviceAccount"), "{made}");
    assert!(owners(&made)[0].contains("f:restartPolicy"));
    let p = format!("{pods}/p");
    let binding = json!({"metadata": {"name": "p"}, "target": {"name": "node"}});
    write(
        &c,
        Method::POST,
        &format!("{p}/binding"),
        "scheduler",
        &binding,
    )
    .await
    .ok();
    let bound = c.get(&p).await.ok();
    assert_eq!(owners(&bound), owners(&made));
    let status = json!({"spec": {"hostname": "h"}, "status": {"phase": "Running",
        "conditions": [{"type": "Ready", "status": "True"}]}});
    let told = write(
        &c,
        Method::PATCH,
        &format!("{p}/status"),
        "kubelet/v1",
        &status,
    )
    .await
    .ok();
    assert_eq!(
        owners(&told)[1],
        r#"kubelet Update/status v1 {"f:status":{"f:conditions":{"k:{\"type\":\"Ready\"}":{".":{},"f:status":{},"f:type":{}}},"f:phase":{}}}"#
    );
    // A conflict names the part.
    let config = "{apiVersion: v1, kind: Pod, metadata: {name: p}, status: {phase: Failed}}";
    assert_eq!(
        apply(&c, &format!("{p}/status"), "fieldManager=m", config)
            .await
            .refused(409),
        "Apply failed with 1 conflict: conflict with \"kubelet\" with subresource \"status\" using v1: .status.phase"
    );

    c.post(
        DEPLOYMENTS,
        &api::yaml::parse_documents(&web("replicas: 2, ")).unwrap()[0],
    )
    .await
    .ok();
    let scale = format!("{WEB}/scale");
    let wanted = json!({"metadata": {"name": "web"}, "spec": {"replicas": 5}});
    write(&c, Method::PUT, &scale, "hpa/1", &wanted).await.ok();
    let scaled = c.get(WEB).await.ok();
    assert!(
        owners(&scaled)
            .contains(&r#"hpa Update/scale apps/v1 {"f:spec":{"f:replicas":{}}}"#.to_owned())
    );
    assert_eq!(
        owners(&scaled)
            .iter()
            .filter(|o| o.contains("f:replicas"))
            .count(),
        1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn appliers_race() {
    let c = Cluster::start().await;
    let appliers = (0..8).map(|i| {
        let c = &c;
        async move {
            let config = format!(
                "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: a}}, data: {{k{i}: v}}}}"
            );
            apply(c, A, &format!("fieldManager=m{i}"), &config)
                .await
                .ok();
        }
    });
    futures::future::join_all(appliers).await;
    let got = c.get(A).await.ok();
    assert_eq!(got["data"].as_object().unwrap().len(), 8);
    assert_eq!(owners(&got).len(), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_one_kind() {
    let c = Cluster::start().await;
    let path = |version: &str| {
        format!("/apis/autoscaling/{version}/namespaces/default/horizontalpodautoscalers/h")
    };
    let config = |version: &str, more: &str| {
        format!(
            "{{apiVersion: autoscaling/{version}, kind: HorizontalPodAutoscaler, metadata: {{name: h}},
              spec: {{scaleTargetRef: {{kind: Deployment, name: d, apiVersion: apps/v1}}, maxReplicas: 5{more}}}}}"
        )
    };
    let old = config("v1", ", targetCPUUtilizationPercentage: 70");
    let made = apply(&c, &path("v1"), "fieldManager=one", &old).await.ok();
    assert_eq!(made["spec"]["targetCPUUtilizationPercentage"], 70);
    assert_eq!(
        apply(&c, &path("v1"), "fieldManager=one", &old).await.ok(),
        made
    );
    let stored = c.get(&path("v2")).await.ok();
    assert_eq!(
        stored["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    assert!(owners(&stored)[0].starts_with("one Apply autoscaling/v1 "));
    let other = config("v2", "").replace("maxReplicas: 5", "maxReplicas: 6");
    assert_eq!(
        apply(&c, &path("v2"), "fieldManager=two", &other)
            .await
            .refused(409),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.maxReplicas"
    );
    // Through the new version the manager gives up what it had said through the old one; what
    // defaults put in its place is nobody's.
    let new = apply(
        &c,
        &path("v2"),
        "fieldManager=one",
        &config("v2", ", minReplicas: 2"),
    )
    .await
    .ok();
    assert_eq!(
        owners(&new),
        [
            r#"one Apply autoscaling/v2 {"f:spec":{"f:maxReplicas":{},"f:minReplicas":{},"f:scaleTargetRef":{"f:apiVersion":{},"f:kind":{},"f:name":{}}}}"#
        ]
    );
    assert_ne!(
        new["spec"]["metrics"][0]["resource"]["target"]["averageUtilization"],
        70
    );
    let patch = json!({"spec": {"maxReplicas": 9}});
    write(&c, Method::PATCH, &path("v1"), "old/1", &patch)
        .await
        .ok();
    let stored = c.get(&path("v2")).await.ok();
    assert_eq!(
        owners(&stored)[1],
        r#"old Update autoscaling/v1 {"f:spec":{"f:maxReplicas":{}}}"#
    );
}
