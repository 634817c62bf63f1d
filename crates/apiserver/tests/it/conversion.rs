//! Conversion webhooks: a real server over TLS that splits and joins a field, fails, lies and hangs.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::full_body;
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Method, Response};
use serde_json::{Value, json};

use crate::custom::DEFINITIONS;
use crate::harness::{Cluster, config_map};
use crate::https::{Https, json as answer};

const NAME: &str = "hosts.stable.example.com";

fn path(version: &str) -> String {
    format!("/apis/stable.example.com/{version}/namespaces/default/hosts")
}

/// An object of v1 or v2 (v3 is as v2) in another version.
fn converted(object: &Value, to: &str) -> Value {
    let mut new = object.clone();
    let map = new.as_object_mut().unwrap();
    let joined = map.remove("hostPort");
    let split = (map.remove("host"), map.remove("port"));
    let text = |value: Option<Value>| value.and_then(|v| v.as_str().map(str::to_owned));
    if to.ends_with("/v1") {
        let joined = joined.or_else(|| {
            let (host, port) = (text(split.0)?, text(split.1).unwrap_or_default());
            Some(format!("{host}:{port}").into())
        });
        if let Some(joined) = joined {
            map.insert("hostPort".to_owned(), joined);
        }
    } else if let Some((host, port)) = text(joined)
        .as_deref()
        .and_then(|joined| joined.split_once(':'))
    {
        map.insert("host".to_owned(), host.into());
        map.insert("port".to_owned(), port.into());
    } else {
        for (name, value) in [("host", split.0), ("port", split.1)] {
            if let Some(value) = value {
                map.insert(name.to_owned(), value);
            }
        }
    }
    map.insert("apiVersion".to_owned(), to.into());
    new["metadata"]["labels"]["at"] = to.rsplit('/').next().unwrap().into();
    // What it may not change is put back.
    new["metadata"]["generation"] = 99.into();
    new["metadata"]["finalizers"] = json!(["webhook/own"]);
    new["junk"] = "x".into();
    new
}

fn behave(mode: &str, review: &Value) -> Response<apiserver::Body> {
    let request = &review["request"];
    let to = request["desiredAPIVersion"].as_str().unwrap();
    let objects = request["objects"].as_array().unwrap();
    let mut all: Vec<Value> = objects.iter().map(|one| converted(one, to)).collect();
    let mut result = json!({"status": "Success"});
    match mode {
        "500" => {
            let mut failed = Response::new(full_body("out of order"));
            *failed.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            return failed;
        }
        "garbage" => return Response::new(full_body("<html>")),
        "no" => result = json!({"status": "Failed", "message": "cannot convert that"}),
        "no-v3" if to.ends_with("/v3") => result = json!({"status": "Failed", "message": "no v3"}),
        "deep" => {
            let mut deep = json!(1);
            for _ in 0..110 {
                deep = json!([deep]);
            }
            all[0]["host"] = deep;
        }
        "fewer" => drop(all.pop()),
        "name" => all[0]["metadata"]["name"] = "other".into(),
        "uid" => all[0]["metadata"]["uid"] = "other".into(),
        "same-version" => all = objects.clone(),
        _ => {}
    }
    let uid = match mode {
        "wrong-review" => json!("other"),
        _ => request["uid"].clone(),
    };
    answer(
        &json!({"apiVersion": review["apiVersion"], "kind": "ConversionReview",
        "response": {"uid": uid, "result": result, "convertedObjects": all}}),
    )
}

/// How the webhook behaves from now on.
type Mode = Arc<Mutex<&'static str>>;

fn versions(stored: &str) -> Value {
    let text = || json!({"type": "string"});
    let schema = |properties: Value| {
        let mut properties = properties;
        properties["replicas"] = json!({"type": "integer"});
        properties["status"] = json!({"type": "object",
            "properties": {"replicas": {"type": "integer"}, "phase": {"type": "string"}}});
        json!({"openAPIV3Schema": {"type": "object", "properties": properties}})
    };
    let one = |name: &str, properties: Value| {
        json!({"name": name, "served": true, "storage": name == stored,
            "schema": schema(properties),
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas"}}})
    };
    let mut all = vec![
        one("v1", json!({"hostPort": text()})),
        one(
            "v2",
            json!({"host": text(), "port": {"type": "string", "maxLength": 5}}),
        ),
        one("v3", json!({"host": text(), "port": text()})),
    ];
    for version in &mut all {
        let properties = &mut version["schema"]["openAPIV3Schema"]["properties"];
        properties["spec"] =
            json!({"type": "object", "properties": {"replicas": {"type": "integer"}}});
    }
    all[1]["selectableFields"] = json!([{"jsonPath": ".host"}]);
    all.into()
}

async fn started() -> (Cluster, Https, Mode) {
    let mode: Mode = Arc::new(Mutex::new(""));
    let told = mode.clone();
    let server = Https::start(&["localhost"], None, move |asked| {
        let mode = *told.lock().unwrap();
        async move {
            match mode {
                "hang" => std::future::pending::<()>().await,
                "slow" => tokio::time::sleep(Duration::from_millis(200)).await,
                _ => {}
            }
            behave(mode, &asked.json())
        }
        .boxed()
    })
    .await;
    let c = Cluster::start().await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition", "metadata": {"name": NAME},
        "spec": {"group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "hosts", "kind": "Host"}, "versions": versions("v1"),
            "conversion": {"strategy": "Webhook", "webhook": {
                "clientConfig": {"url": format!("https://localhost:{}/convert", server.port()),
                    "caBundle": server.bundle()},
                "conversionReviewVersions": ["v1", "v1beta1"]}}}});
    c.post(DEFINITIONS, &definition).await.ok();
    for _ in 0..200 {
        if c.get(&path("v1")).await.status == 200 {
            return (c, server, mode);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not established");
}

fn set(mode: &Mode, to: &'static str) {
    *mode.lock().unwrap() = to;
}

fn v1(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "Host", "metadata": {"name": name},
        "hostPort": "localhost:8080"})
}

fn v2(name: &str) -> Value {
    json!({"apiVersion": "stable.example.com/v2", "kind": "Host", "metadata": {"name": name},
        "host": "localhost", "port": "8080"})
}

async fn store_in(c: &Cluster, version: &str) {
    let path = format!("{DEFINITIONS}/{NAME}");
    let mut definition = c.get(&path).await.ok();
    definition["spec"]["versions"] = versions(version);
    c.put(&path, &definition).await.ok();
}

/// An object as it is stored.
async fn stored(c: &Cluster, name: &str) -> Value {
    let key = format!("/registry/stable.example.com/hosts/default/{name}");
    let entry = c.store.get(&key).await.unwrap().unwrap();
    serde_json::from_slice(&entry.value).unwrap()
}

fn is_v1(object: &Value) {
    assert_eq!(object["apiVersion"], "stable.example.com/v1", "{object}");
    assert_eq!(object["hostPort"], "localhost:8080", "{object}");
    assert_eq!(
        (&object["host"], &object["port"]),
        (&Value::Null, &Value::Null)
    );
}

fn is_v2(object: &Value) {
    assert_eq!(object["apiVersion"], "stable.example.com/v2", "{object}");
    assert_eq!(
        (&object["host"], &object["port"]),
        (&json!("localhost"), &json!("8080")),
        "{object}"
    );
    assert_eq!(
        (&object["hostPort"], &object["junk"]),
        (&Value::Null, &Value::Null)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_mixed_versions_are_read_in_each() {
    let (c, server, _) = started().await;
    let made = c.post(&path("v1"), &v1("one")).await.ok();
    is_v1(&made);
    assert!(server.take().is_empty());
    let read = c.get(&format!("{}/one", path("v2"))).await.ok();
    is_v2(&read);
    // Metadata are the object's own, labels and annotations apart.
    let mut metadata = made["metadata"].clone();
    metadata["labels"] = json!({"at": "v2"});
    assert_eq!(read["metadata"], metadata);
    let asked = server.take();
    assert_eq!(
        (asked.len(), &*asked[0].path, &*asked[0].query),
        (1, "/convert", "timeout=30s")
    );
    let review = asked[0].json();
    assert_eq!(review["apiVersion"], "apiextensions.k8s.io/v1");
    assert_eq!(review["kind"], "ConversionReview");
    assert_eq!(
        review["request"]["desiredAPIVersion"],
        "stable.example.com/v2"
    );
    assert_eq!(
        review["request"]["objects"][0]["hostPort"],
        "localhost:8080"
    );
    // What is known is not asked for again.
    is_v2(&c.get(&format!("{}/one", path("v2"))).await.ok());
    assert!(server.take().is_empty());
    store_in(&c, "v2").await;
    // A write of another version, stored in the new one.
    is_v1(&c.post(&path("v1"), &v1("two")).await.ok());
    is_v2(&stored(&c, "two").await);
    assert_eq!(
        stored(&c, "one").await["apiVersion"],
        "stable.example.com/v1"
    );
    c.post(&path("v2"), &v2("three")).await.ok();
    server.take();
    for (version, check, foreign) in [
        ("v1", is_v1 as fn(&Value), 1),
        ("v2", is_v2, 1),
        ("v3", |_| {}, 3),
    ] {
        let list = c.get(&path(version)).await.ok();
        let items = list["items"].as_array().unwrap();
        let names: Vec<&Value> = items.iter().map(|one| &one["metadata"]["name"]).collect();
        assert_eq!(names, ["one", "three", "two"]);
        items.iter().for_each(check);
        // Only those that need it, all in one review. "two" was read in v1 when it was made.
        let asked = server.take();
        assert_eq!(asked.len(), 1, "{version}");
        let objects = asked[0].json()["request"]["objects"].clone();
        assert_eq!(objects.as_array().unwrap().len(), foreign, "{version}");
    }
    // An update that changes nothing brings an object along.
    let one = c.get(&format!("{}/one", path("v1"))).await.ok();
    is_v1(&c.put(&format!("{}/one", path("v1")), &one).await.ok());
    is_v2(&stored(&c, "one").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_and_pages_see_the_version_that_is_asked_for() {
    let (c, _server, _) = started().await;
    for name in ["a", "b", "c", "d"] {
        let mut made = v1(name);
        if matches!(name, "b" | "d") {
            made["hostPort"] = "other:1".into();
        }
        c.post(&path("v1"), &made).await.ok();
    }
    let names = async |query: &str| {
        let list = c.get(&format!("{}?{query}", path("v2"))).await.ok();
        let items = list["items"].as_array().unwrap();
        let name = |one: &Value| one["metadata"]["name"].as_str().unwrap().to_owned();
        let names: Vec<String> = items.iter().map(name).collect();
        let more = list["metadata"]["continue"].as_str().map(str::to_owned);
        (names.join(" "), more)
    };
    assert_eq!(names("fieldSelector=host%3Dlocalhost").await.0, "a c");
    // The webhook labels what it converts.
    assert_eq!(names("labelSelector=at%3Dv2").await.0, "a b c d");
    assert_eq!(names("labelSelector=at%3Dv1").await.0, "");
    let (first, more) = names("fieldSelector=host%3Dother&limit=1").await;
    assert_eq!(first, "b");
    let query = format!(
        "fieldSelector=host%3Dother&limit=1&continue={}",
        more.unwrap()
    );
    assert_eq!(names(&query).await.0, "d");
    let accept = [(
        "accept",
        "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
    )];
    let metadata = c
        .send_with(Method::GET, &path("v2"), &accept, Bytes::new())
        .await
        .ok();
    assert_eq!(metadata["items"][0]["metadata"]["labels"]["at"], "v2");
    assert_eq!(metadata["items"][0]["hostPort"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn watches_are_in_the_version_that_is_asked_for() {
    let (c, server, mode) = started().await;
    c.post(&path("v1"), &v1("first")).await.ok();
    let mut all = c.watch(&format!("{}?watch=true", path("v2"))).await;
    let mut local = c
        .watch(&format!(
            "{}?watch=true&fieldSelector=host%3Dlocalhost",
            path("v2")
        ))
        .await;
    let first = all.next().await.unwrap();
    assert_eq!(first["type"], "ADDED");
    is_v2(&first["object"]);
    assert_eq!(local.short().await, "ADDED first");
    c.post(&path("v1"), &v1("second")).await.ok();
    let moved = json!({"hostPort": "away:8080"});
    c.patch(&format!("{}/second", path("v1")), "merge", &moved)
        .await
        .ok();
    c.delete(&format!("{}/second", path("v1"))).await.ok();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let event = all.next().await.unwrap();
        assert_eq!(event["object"]["apiVersion"], "stable.example.com/v2");
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        seen.push((text(&event["type"]), text(&event["object"]["host"])));
    }
    let wanted = [
        ("ADDED", "localhost"),
        ("MODIFIED", "away"),
        ("DELETED", "away"),
    ];
    assert!(
        seen.iter().map(|(a, b)| (&**a, &**b)).eq(wanted),
        "{seen:?}"
    );
    assert_eq!(local.short().await, "ADDED second");
    // It left the selection.
    let left = local.next().await.unwrap();
    assert_eq!(
        (&left["type"], &left["object"]["host"]),
        (&json!("DELETED"), &json!("localhost"))
    );
    // What happened before, from the ring and from the store's history.
    let from = first["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap();
    let past = format!("{}?watch=true&resourceVersion={from}", path("v2"));
    let mut past = c.watch(&past).await;
    for wanted in ["ADDED second", "MODIFIED second", "DELETED second"] {
        assert_eq!(past.short().await, wanted);
    }
    // A webhook that fails ends a watch with its error, and no event is lost in silence.
    server.take();
    set(&mode, "no");
    c.post(&path("v1"), &v1("third")).await.ok();
    let error = all.next().await.unwrap();
    assert_eq!(
        (&error["type"], &error["object"]["code"]),
        (&json!("ERROR"), &json!(500))
    );
    assert_eq!(
        error["object"]["message"],
        "conversion webhook for stable.example.com/v1, Kind=Host failed: cannot convert that"
    );
    assert!(all.next().await.is_none());
    c.get(&format!("{}?watch=true", path("v2")))
        .await
        .refused(500);
    set(&mode, "");
    let mut again = c.watch(&format!("{}?watch=true", path("v2"))).await;
    assert_eq!(again.short().await, "ADDED first");
    assert_eq!(again.short().await, "ADDED third");
    // A changed definition ends watches; clients go on where they were.
    store_in(&c, "v2").await;
    assert!(again.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_watchers_ask_once() {
    let (c, server, mode) = started().await;
    let mut watches = Vec::new();
    for _ in 0..20 {
        watches.push(c.watch(&format!("{}?watch=true", path("v2"))).await);
    }
    set(&mode, "slow");
    c.post(&path("v1"), &v1("a")).await.ok();
    for watch in &mut watches {
        is_v2(&watch.next().await.unwrap()["object"]);
    }
    assert_eq!(server.take().len(), 1);
    // A failure is shared by nobody: each asks itself.
    set(&mode, "no");
    c.post(&path("v1"), &v1("b")).await.ok();
    for watch in &mut watches {
        assert_eq!(watch.next().await.unwrap()["type"], "ERROR");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn failing_and_lying_webhooks_are_told_and_do_no_harm() {
    let (c, _server, mode) = started().await;
    c.post(&path("v1"), &v1("a")).await.ok();
    c.post(&path("v1"), &v1("b")).await.ok();
    let one = "conversion webhook for stable.example.com/v1, Kind=Host";
    let before = stored(&c, "a").await;
    for (how, single, several) in [
        (
            "500",
            "failed: an error on the server (\"out of order\") has prevented the request from succeeding",
            None,
        ),
        (
            "garbage",
            "failed: couldn't get version/kind; json parse error:",
            None,
        ),
        ("no", "failed: cannot convert that", None),
        ("wrong-review", "failed: expected response.uid=", None),
        (
            "fewer",
            "returned 0 objects, expected 1",
            Some("returned 1 objects, expected 2"),
        ),
        (
            "name",
            "returned invalid object: must have the same name: a != other",
            Some(
                "returned invalid converted object at index 0: must have the same name: a != other",
            ),
        ),
        (
            "uid",
            "returned invalid object: must have the same UID: ",
            Some("returned invalid converted object at index 0: must have the same UID: "),
        ),
        (
            "same-version",
            "returned invalid object at index 0: invalid groupVersion (expected stable.example.com/v2, received stable.example.com/v1)",
            Some("returned invalid converted object at index 0: invalid groupVersion"),
        ),
    ] {
        set(&mode, how);
        let told = c.get(&format!("{}/a", path("v2"))).await.refused(500);
        assert!(
            told.starts_with(&format!("{one} {single}")),
            "{how}: {told}"
        );
        let told = c.get(&path("v2")).await.refused(500);
        let several = several.unwrap_or(single);
        assert!(
            told.starts_with(&format!("{one} {several}")),
            "{how}: {told}"
        );
        // Reads and writes of what needs no conversion go on.
        is_v1(&c.get(&format!("{}/a", path("v1"))).await.ok());
        // A write through another version is refused, and nothing is stored.
        let made = c.post(&path("v2"), &v2("new")).await.refused(500);
        assert!(
            made.contains("conversion webhook for stable.example.com/v2, Kind=Host"),
            "{made}"
        );
        let patch = json!({"port": "1"});
        c.patch(&format!("{}/a", path("v2")), "merge", &patch)
            .await
            .refused(500);
        c.delete(&format!("{}/a", path("v2"))).await.refused(500);
        assert_eq!(stored(&c, "a").await, before);
        c.get(&format!("{}/new", path("v1"))).await.refused(404);
    }
    set(&mode, "deep");
    let told = c.get(&format!("{}/a", path("v2"))).await.refused(500);
    assert!(
        told.starts_with("converting to stable.example.com/v2: "),
        "{told}"
    );
    set(&mode, "");
    is_v2(&c.get(&format!("{}/a", path("v2"))).await.ok());
    let metrics = c.get("/metrics").await.text;
    for line in [
        "apiserver_conversion_webhook_request_total{failure_type=\"\",result=\"success\"} 2\n",
        "apiserver_conversion_webhook_request_total{failure_type=\"conversion_webhook_call_failure\",result=\"failure\"}",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    // The end of the definition waits for no webhook.
    store_in(&c, "v2").await;
    set(&mode, "500");
    c.delete(&format!("{DEFINITIONS}/{NAME}")).await.ok();
    for _ in 0..250 {
        if c.get(&format!("{DEFINITIONS}/{NAME}")).await.status == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the definition stays");
}

#[tokio::test]
async fn a_webhook_has_thirty_seconds() {
    let (c, _server, mode) = started().await;
    c.post(&path("v1"), &v1("a")).await.ok();
    set(&mode, "hang");
    tokio::time::pause();
    let began = tokio::time::Instant::now();
    let told = c.get(&format!("{}/a", path("v2"))).await.refused(500);
    assert!(
        told.ends_with("?timeout=30s\": context deadline exceeded"),
        "{told}"
    );
    let took = began.elapsed().as_secs();
    assert!((30..35).contains(&took), "{took}");
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_checked_in_their_version_and_stored_in_another() {
    let (c, _server, _) = started().await;
    let mut wrong = v2("a");
    wrong["port"] = "123456".into();
    let told = c.post(&path("v2"), &wrong).await.refused(422);
    assert!(
        told.contains("port: Too long: may not be more than 5"),
        "{told}"
    );
    let made = c.post(&path("v2"), &v2("a")).await.ok();
    is_v2(&made);
    is_v1(&stored(&c, "a").await);
    let at = format!("{}/a", path("v2"));
    // The same again makes no revision.
    let again = c.put(&at, &made).await.ok();
    assert_eq!(
        again["metadata"]["resourceVersion"],
        made["metadata"]["resourceVersion"]
    );
    let mut moved = again;
    moved["host"] = "h".into();
    let moved = c.put(&at, &moved).await.ok();
    assert_eq!(
        (&moved["host"], &moved["metadata"]["generation"]),
        (&json!("h"), &json!(2))
    );
    assert_eq!(stored(&c, "a").await["hostPort"], "h:8080");
    let patched = c.patch(&at, "merge", &json!({"port": "9"})).await.ok();
    assert_eq!(
        (&patched["port"], &patched["metadata"]["generation"]),
        (&json!("9"), &json!(3))
    );
    assert_eq!(stored(&c, "a").await["hostPort"], "h:9");
    let told = c
        .patch(&at, "merge", &json!({"port": "123456"}))
        .await
        .refused(422);
    assert!(told.contains("port: Too long"), "{told}");
    let operations = json!([{"op": "replace", "path": "/host", "value": "i"}]);
    let kind = "application/json-patch+json";
    let bytes = operations.to_string().into();
    assert_eq!(
        c.send(Method::PATCH, &at, kind, bytes).await.ok()["host"],
        "i"
    );
    // A stale revision stays one in every version.
    let mut stale = made.clone();
    stale["host"] = "z".into();
    c.put(&at, &stale).await.refused(409);
    // Parts.
    let status = json!({"status": {"phase": "Up", "replicas": 2}});
    let up = c
        .patch(&format!("{at}/status"), "merge", &status)
        .await
        .ok();
    assert_eq!(
        (&up["status"]["phase"], &up["host"]),
        (&json!("Up"), &json!("i"))
    );
    let scale = json!({"spec": {"replicas": 4}});
    let scaled = c.patch(&format!("{at}/scale"), "merge", &scale).await.ok();
    assert_eq!(
        (&scaled["spec"]["replicas"], &scaled["status"]["replicas"]),
        (&json!(4), &json!(2))
    );
    assert_eq!(
        c.get(&format!("{at}/scale")).await.ok()["spec"]["replicas"],
        4
    );
    let kept = stored(&c, "a").await;
    assert_eq!(
        (&kept["hostPort"], &kept["spec"]["replicas"]),
        (&json!("i:9"), &json!(4))
    );
    // Nothing that is not written.
    let dry = format!("{}?dryRun=All", path("v2"));
    is_v2(&c.post(&dry, &v2("dry")).await.ok());
    c.get(&format!("{}/dry", path("v1"))).await.refused(404);
    c.delete(&at).await.ok();
    c.get(&at).await.refused(404);
}

async fn apply(
    c: &Cluster,
    version: &str,
    manager: &str,
    text: &str,
    force: bool,
) -> crate::harness::Answer {
    let body = format!(
        "{{\"apiVersion\":\"stable.example.com/{version}\",\"kind\":\"Host\",\"metadata\":{{\"name\":\"a\"}},{text}}}"
    );
    let path = format!("{}/a?fieldManager={manager}&force={force}", path(version));
    c.send(
        Method::PATCH,
        &path,
        "application/apply-patch+yaml",
        body.into(),
    )
    .await
}

/// `manager version: fields` of each entry.
fn owners(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().replace("stable.example.com/", "");
    let each = entries.iter().map(|entry| {
        let fields = entry["fieldsV1"].as_object().unwrap();
        let names: Vec<&str> = fields.keys().map(|k| k.trim_start_matches("f:")).collect();
        format!(
            "{} {}: {}",
            text(&entry["manager"]),
            text(&entry["apiVersion"]),
            names.join(" ")
        )
    });
    let mut all: Vec<String> = each.collect();
    all.sort();
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_have_owners_across_versions() {
    let (c, _server, mode) = started().await;
    apply(&c, "v1", "one", "\"hostPort\":\"a:1\"", false)
        .await
        .ok();
    apply(&c, "v3", "three", "\"spec\":{\"replicas\":1}", false)
        .await
        .ok();
    // What is one field in one version is two in the other.
    let told = apply(&c, "v2", "two", "\"host\":\"b\"", false)
        .await
        .refused(409);
    assert_eq!(
        told,
        "Apply failed with 1 conflict: conflict with \"one\": .hostPort"
    );
    let same = apply(&c, "v2", "two", "\"port\":\"1\"", false).await.ok();
    assert_eq!(
        owners(&same),
        ["one v1: hostPort", "three v3: spec", "two v2: port"]
    );
    let taken = apply(&c, "v2", "two", "\"host\":\"b\",\"port\":\"1\"", true)
        .await
        .ok();
    assert_eq!(owners(&taken), ["three v3: spec", "two v2: host port"]);
    assert_eq!(stored(&c, "a").await["hostPort"], "b:1");
    // A field that its applier gives up goes, in whatever version it said so.
    let less = apply(&c, "v2", "two", "\"host\":\"b\"", false).await.ok();
    assert_eq!((&less["host"], &less["port"]), (&json!("b"), &json!("")));
    // A version that cannot be had costs nobody their fields.
    set(&mode, "no-v3");
    let at = format!("{}/a?fieldManager=put", path("v2"));
    let put = c.patch(&at, "merge", &json!({"host": "c"})).await.ok();
    assert_eq!(owners(&put), ["put v2: host", "three v3: spec"]);
    let told = apply(&c, "v2", "two", "\"host\":\"c\"", false)
        .await
        .refused(500);
    assert!(told.starts_with("failed to convert old object: conversion webhook for stable.example.com/v2, Kind=Host failed: no v3"), "{told}");
    set(&mode, "");
    let told = apply(&c, "v2", "two", "\"spec\":{\"replicas\":2}", false)
        .await
        .refused(409);
    assert_eq!(
        told,
        "Apply failed with 1 conflict: conflict with \"three\": .spec.replicas"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn admission_is_shown_the_version_that_it_wants() {
    let (c, _server, mode) = started().await;
    c.namespace("default").await;
    let hooks = Https::start(&["localhost"], None, |asked| {
        async move {
            use base64::Engine as _;
            let review = asked.json();
            let mut response = json!({"allowed": true, "uid": review["request"]["uid"]});
            if asked.path == "/change" {
                let patch = json!([{"op": "replace", "path": "/hostPort", "value": "hook:7"}]);
                let engine = base64::engine::general_purpose::STANDARD;
                response["patchType"] = "JSONPatch".into();
                response["patch"] = engine.encode(patch.to_string()).into();
            }
            answer(
                &json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
                "response": response}),
            )
        }
        .boxed()
    })
    .await;
    for (kind, path) in [("Mutating", "change"), ("Validating", "look")] {
        let at = format!(
            "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations",
            kind.to_lowercase()
        );
        let hook = json!({"name": format!("{path}.example.com"),
            "clientConfig": {"url": format!("https://localhost:{}/{path}", hooks.port()),
                "caBundle": hooks.bundle()},
            "rules": [{"operations": ["*"], "apiGroups": ["stable.example.com"],
                "apiVersions": ["v1"], "resources": ["hosts"]}],
            "sideEffects": "None", "admissionReviewVersions": ["v1"]});
        let object = json!({"apiVersion": "admissionregistration.k8s.io/v1",
            "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": path},
            "webhooks": [hook]});
        c.post(&at, &object).await.ok();
    }
    let made = c.post(&path("v2"), &v2("a")).await.ok();
    assert_eq!(
        (&made["host"], &made["port"]),
        (&json!("hook"), &json!("7"))
    );
    let asked = hooks.take();
    let paths: Vec<&str> = asked.iter().map(|one| &*one.path).collect();
    assert_eq!(paths, ["/change", "/look"]);
    let request = asked[1].json()["request"].clone();
    assert_eq!(request["object"]["apiVersion"], "stable.example.com/v1");
    assert_eq!(request["object"]["hostPort"], "hook:7");
    assert_eq!(request["requestKind"]["version"], "v2");
    assert_eq!(request["kind"]["version"], "v1");
    let told = json!({"host": "x"});
    c.patch(&format!("{}/a", path("v2")), "merge", &told)
        .await
        .ok();
    let request = hooks.take()[0].json()["request"].clone();
    assert_eq!(request["oldObject"]["hostPort"], "hook:7");
    assert_eq!(request["object"]["hostPort"], "x:7");
    set(&mode, "no");
    let told = c.post(&path("v2"), &v2("b")).await.refused(500);
    assert!(told.contains("failed: cannot convert that"), "{told}");
    // Policies, in the version of their rules.
    set(&mode, "");
    for (plural, name) in [("mutating", "change"), ("validating", "look")] {
        c.delete(&format!(
            "/apis/admissionregistration.k8s.io/v1/{plural}webhookconfigurations/{name}"
        ))
        .await
        .ok();
    }
    let group = "/apis/admissionregistration.k8s.io/v1";
    let policy = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {"matchConstraints": {"resourceRules": [{"operations": ["*"],
            "apiGroups": ["stable.example.com"], "apiVersions": ["v1"], "resources": ["hosts"]}]},
            "validations": [{"expression": "object == null || object.hostPort != 'bad:1'"}]}});
    let binding = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "p"},
        "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    c.post(&format!("{group}/validatingadmissionpolicies"), &policy)
        .await
        .ok();
    c.post(
        &format!("{group}/validatingadmissionpolicybindings"),
        &binding,
    )
    .await
    .ok();
    c.post(&path("v2"), &v2("good")).await.ok();
    let mut bad = v2("bad");
    bad["host"] = "bad".into();
    bad["port"] = "1".into();
    c.post(&path("v2"), &bad).await.refused(422);
    // Kinds of the table are none of this.
    c.post(
        "/api/v1/namespaces/default/configmaps",
        &config_map("a", json!({})),
    )
    .await
    .ok();
}
