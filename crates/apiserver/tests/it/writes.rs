//! Writes, patches, conflicts, deletion.

use http::Method;
use serde_json::json;

use crate::harness::{Cluster, config_map, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const A: &str = "/api/v1/namespaces/default/configmaps/a";

#[tokio::test(flavor = "multi_thread")]
async fn an_object_lives() {
    let c = Cluster::start().await;
    let made = c.post(MAPS, &config_map("a", json!({"x": "y"}))).await;
    assert_eq!(made.status, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    assert!(made["metadata"]["uid"].as_str().unwrap().len() == 36);
    assert_eq!(
        c.post(MAPS, &config_map("a", json!({}))).await.refused(409),
        "configmaps \"a\" already exists"
    );
    let got = c.get(A).await.ok();
    assert_eq!(got, made);

    // A write that changes nothing makes no revision.
    let same = c.put(A, &got).await.ok();
    assert_eq!(
        same["metadata"]["resourceVersion"],
        got["metadata"]["resourceVersion"]
    );

    let mut changed = got.clone();
    changed["data"]["key"] = json!("other");
    let changed = c.put(A, &changed).await.ok();
    assert_ne!(
        changed["metadata"]["resourceVersion"],
        got["metadata"]["resourceVersion"]
    );
    assert_eq!(
        changed["metadata"]["creationTimestamp"],
        got["metadata"]["creationTimestamp"]
    );
    assert_eq!(
        c.put(A, &got).await.refused(409),
        "Operation cannot be fulfilled on configmaps \"a\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let mut other = got.clone();
    other["metadata"]["uid"] = json!("other");
    other["metadata"]["resourceVersion"] = json!("");
    assert!(
        c.put(A, &other)
            .await
            .refused(409)
            .contains("Precondition failed: UID")
    );

    let gone = c.delete(A).await.ok();
    assert_eq!(gone["status"], "Success");
    assert_eq!(gone["details"]["uid"], made["metadata"]["uid"]);
    assert_eq!(c.get(A).await.refused(404), "configmaps \"a\" not found");
    assert_eq!(c.delete(A).await.refused(404), "configmaps \"a\" not found");
}

#[tokio::test(flavor = "multi_thread")]
async fn names_and_namespaces() {
    let c = Cluster::start().await;
    let made = c
        .post(MAPS, &json!({"metadata": {"generateName": "web-"}}))
        .await
        .ok();
    let name = made["metadata"]["name"].as_str().unwrap();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    let missing = "/api/v1/namespaces/missing/configmaps";
    assert_eq!(
        c.post(missing, &config_map("a", json!({})))
            .await
            .refused(404),
        "namespaces \"missing\" not found"
    );
    let mut elsewhere = config_map("a", json!({}));
    elsewhere["metadata"]["namespace"] = json!("other");
    assert!(
        c.post(MAPS, &elsewhere)
            .await
            .refused(400)
            .contains("does not match the namespace")
    );
    assert!(
        c.post(MAPS, &json!({"apiVersion": "v1", "kind": "Pod"}))
            .await
            .refused(400)
            .contains("Pod")
    );
    c.post(MAPS, &json!({"metadata": {"name": "Not_Valid"}}))
        .await
        .refused(422);
    assert_eq!(
        c.get("/api/v1/namespaces/default/nothings").await.status,
        404
    );
    assert_eq!(c.post(A, &config_map("a", json!({}))).await.status, 405);
    assert_eq!(c.put(MAPS, &config_map("a", json!({}))).await.status, 405);
    assert_eq!(c.delete("/api/v1/configmaps").await.status, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    c.post(MAPS, &config_map("a", json!({"x": "y"}))).await.ok();
    let merged = c
        .patch(A, "merge", &json!({"data": {"key": null, "new": "1"}}))
        .await
        .ok();
    assert_eq!(merged["data"], json!({"new": "1"}));
    let jsoned = c
        .patch(
            A,
            "json",
            &json!([{"op": "add", "path": "/data/more", "value": "2"}]),
        )
        .await
        .ok();
    assert_eq!(jsoned["data"], json!({"new": "1", "more": "2"}));
    c.patch(
        A,
        "json",
        &json!([{"op": "test", "path": "/data/more", "value": "3"}]),
    )
    .await
    .refused(422);
    let stale = json!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}});
    c.patch(A, "merge", &stale).await.refused(409);
    let none = "/api/v1/namespaces/default/configmaps/none";
    c.patch(none, "merge", &json!({})).await.refused(404);

    let pods = "/api/v1/namespaces/default/pods";
    c.post(pods, &pod("p")).await.ok();
    let patch = json!({"spec": {"containers": [{"name": "main", "image": "second"}]}});
    let patched = c
        .patch(&format!("{pods}/p"), "strategic-merge", &patch)
        .await
        .ok();
    assert_eq!(patched["spec"]["containers"].as_array().unwrap().len(), 1);
    assert_eq!(patched["spec"]["containers"][0]["image"], "second");
    assert_eq!(patched["metadata"]["generation"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn patches_race_without_conflict() {
    let c = Cluster::start().await;
    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let writers = (0..8).map(|i| {
        let c = &c;
        async move {
            let patch = json!({"data": {format!("k{i}"): "v"}});
            c.patch(A, "merge", &patch).await.ok();
        }
    });
    futures::future::join_all(writers).await;
    let data = c.get(A).await.ok()["data"].clone();
    assert_eq!(data.as_object().unwrap().len(), 9, "{data}");
}

#[tokio::test(flavor = "multi_thread")]
async fn strictness() {
    let c = Cluster::start().await;
    let odd = json!({"metadata": {"name": "odd"}, "dato": {}, "data": {"a": "b"}});
    let strict = c
        .post(&format!("{MAPS}?fieldValidation=Strict"), &odd)
        .await
        .refused(400);
    assert!(
        strict.contains("strict decoding error: unknown field \"dato\""),
        "{strict}"
    );
    let warned = c.post(MAPS, &odd).await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"unknown field \\\"dato\\\"\""
    );
    assert!(warned.ok().get("dato").is_none());
    let body = r#"{"metadata":{"name":"twice"},"data":{"a":"1"},"data":{"b":"2"}}"#;
    let path = format!("{MAPS}?fieldValidation=Strict");
    let twice = c
        .send(Method::POST, &path, "application/json", body.into())
        .await
        .refused(400);
    assert!(twice.contains("duplicate field \"data\""), "{twice}");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: yaml\ndata:\n  a: b\n";
    let made = c
        .send(Method::POST, MAPS, "application/yaml", yaml.into())
        .await
        .ok();
    assert_eq!(made["data"]["a"], "b");
    c.send(Method::POST, MAPS, "text/plain", "x".into())
        .await
        .refused(415);
    let huge = vec![b' '; (3 << 20) + 1];
    c.send(Method::POST, MAPS, "application/json", huge.into())
        .await
        .refused(413);
    c.post(MAPS, &json!({"metadata": {"name": "t"}, "data": {"a": 1}}))
        .await
        .refused(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_run() {
    let c = Cluster::start().await;
    let tried = c
        .post(&format!("{MAPS}?dryRun=All"), &config_map("a", json!({})))
        .await;
    assert_eq!(tried.status, 201);
    let tried = tried.ok();
    assert!(tried["metadata"].get("resourceVersion").is_none());
    c.get(A).await.refused(404);
    let before = c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let tried = c
        .patch(
            &format!("{A}?dryRun=All"),
            "merge",
            &json!({"data": {"x": "y"}}),
        )
        .await
        .ok();
    assert_eq!(tried["data"]["x"], "y");
    c.delete(&format!("{A}?dryRun=All")).await.ok();
    assert_eq!(c.get(A).await.ok(), before);
    c.post(&format!("{MAPS}?dryRun=Some"), &config_map("b", json!({})))
        .await
        .refused(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn finalizers_and_propagation() {
    let c = Cluster::start().await;
    let mut kept = config_map("a", json!({}));
    kept["metadata"]["finalizers"] = json!(["example.com/hold"]);
    c.post(MAPS, &kept).await.ok();
    let marked = c.delete(A).await.ok();
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    let again = c.delete(A).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        marked["metadata"]["resourceVersion"]
    );
    c.patch(A, "merge", &json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    c.get(A).await.refused(404);

    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let foreground = c
        .delete(&format!("{A}?propagationPolicy=Foreground"))
        .await
        .ok();
    assert_eq!(
        foreground["metadata"]["finalizers"],
        json!(["foregroundDeletion"])
    );
    let orphaned = c
        .delete(&format!("{A}?propagationPolicy=Orphan"))
        .await
        .ok();
    assert_eq!(orphaned["metadata"]["finalizers"], json!(["orphan"]));
    let options =
        json!({"kind": "DeleteOptions", "apiVersion": "v1", "preconditions": {"uid": "x"}});
    let refused = c
        .send(
            Method::DELETE,
            A,
            "application/json",
            options.to_string().into(),
        )
        .await
        .refused(409);
    assert!(
        refused.contains("Precondition failed: UID in precondition: x"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_are_deleted_by_selector() {
    let c = Cluster::start().await;
    for i in 0..5 {
        let side = if i % 2 == 0 { "even" } else { "odd" };
        c.post(MAPS, &config_map(&format!("m{i}"), json!({"side": side})))
            .await
            .ok();
    }
    let deleted = c
        .delete(&format!("{MAPS}?labelSelector=side%3Deven"))
        .await
        .ok();
    assert_eq!(deleted["kind"], "ConfigMapList");
    assert_eq!(deleted["items"].as_array().unwrap().len(), 3);
    let left = c.get(&format!("{MAPS}?labelSelector=side")).await.ok();
    assert_eq!(left["items"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_is_apart() {
    let c = Cluster::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let made = c
        .post(
            path,
            &json!({"metadata": {"name": "d"}, "status": {"replicas": 5}, "spec": {
                "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
                "spec": {"containers": [{"name": "c", "image": "i"}]}}}}),
        )
        .await
        .ok();
    assert_eq!(made["metadata"]["generation"], 1);
    assert!(made["status"].get("replicas").is_none());
    assert_eq!(made["spec"]["replicas"], 1, "defaulted");
    let one = format!("{path}/d");
    let status = c
        .patch(
            &format!("{one}/status"),
            "merge",
            &json!({"status": {"replicas": 1}, "spec": {"replicas": 9}}),
        )
        .await
        .ok();
    assert_eq!(
        (&status["status"]["replicas"], &status["spec"]["replicas"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(status["metadata"]["generation"], 1);
    let spec = c
        .patch(
            &one,
            "merge",
            &json!({"status": {"replicas": 7}, "spec": {"replicas": 2}}),
        )
        .await
        .ok();
    assert_eq!(
        (&spec["status"]["replicas"], &spec["spec"]["replicas"]),
        (&json!(1), &json!(2))
    );
    assert_eq!(spec["metadata"]["generation"], 2);

    let scale = c.get(&format!("{one}/scale")).await.ok();
    assert_eq!(scale["kind"], "Scale");
    assert_eq!(scale["spec"]["replicas"], 2);
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "a=b"}));
    let scaled = c
        .patch(
            &format!("{one}/scale"),
            "merge",
            &json!({"spec": {"replicas": 0}}),
        )
        .await
        .ok();
    assert_eq!(scaled["spec"], json!({}));
    assert_eq!(c.get(&one).await.ok()["spec"]["replicas"], 0);
}
