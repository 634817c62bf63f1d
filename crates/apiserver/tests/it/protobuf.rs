//! Bodies and answers in protobuf, as kubectl and controllers in Go send and want them.

use api::proto;
use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, master, pod};

const PROTO: &str = proto::MEDIA_TYPE;
/// What kubectl accepts for the bodies that it sends in protobuf.
const BOTH: &str = "application/vnd.kubernetes.protobuf,application/json";

struct Answer {
    status: u16,
    content_type: String,
    bytes: Bytes,
}

impl Answer {
    /// The object, which must have come in protobuf.
    #[track_caller]
    fn object(&self, status: u16) -> Value {
        assert_eq!(self.content_type, PROTO);
        let object = proto::decode(&self.bytes).unwrap();
        assert_eq!(self.status, status, "{object}");
        object
    }
}

async fn ask(cluster: &Cluster, method: Method, path: &str, accept: &str, body: &[u8]) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("content-type", PROTO)
        .header("accept", accept)
        .extension(master())
        .body(apiserver::full_body(body.to_vec()))
        .unwrap();
    let response = cluster.raw(request).await;
    Answer {
        status: response.status().as_u16(),
        content_type: response.headers()["content-type"]
            .to_str()
            .unwrap()
            .to_owned(),
        bytes: response.into_body().collect().await.unwrap().to_bytes(),
    }
}

async fn post(cluster: &Cluster, path: &str, object: &Value) -> Answer {
    let body = proto::encode(object).unwrap();
    ask(cluster, Method::POST, path, BOTH, &body).await
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": name, "creationTimestamp": null, "labels": {"app": "x"}},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "x"}}, "strategy": {},
            "template": {"metadata": {"creationTimestamp": null, "labels": {"app": "x"}},
                "spec": {"containers": [{"name": "main", "image": "image", "resources": {"limits": {"cpu": "1500m"}},
                    "readinessProbe": {"httpGet": {"port": 8080, "path": "/"}}}],
                    "volumes": [{"name": "v", "emptyDir": {}}]}}},
        "status": {}})
}

#[tokio::test]
async fn an_object_is_the_same_in_either_encoding() {
    let cluster = Cluster::start().await;
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let answered = post(&cluster, path, &deployment("binary"))
        .await
        .object(201);
    cluster.post(path, &deployment("text")).await.ok();
    let read = async |name: &str| cluster.get(&format!("{path}/{name}")).await.ok();
    let (binary, text) = (read("binary").await, read("text").await);
    assert_eq!(binary["spec"], text["spec"]);
    assert_eq!(binary["status"], text["status"]);
    assert_eq!(binary["spec"]["replicas"], 0);
    assert_eq!(answered["spec"], binary["spec"]);
    assert_eq!(answered["metadata"], binary["metadata"]);

    // Read, changed and written again in protobuf.
    let one = format!("{path}/binary");
    let mut object = ask(&cluster, Method::GET, &one, PROTO, b"")
        .await
        .object(200);
    object["spec"]["replicas"] = 2.into();
    let body = proto::encode(&object).unwrap();
    let updated = ask(&cluster, Method::PUT, &one, PROTO, &body)
        .await
        .object(200);
    assert_eq!(updated["metadata"]["generation"], 2);
    let scale = ask(&cluster, Method::GET, &format!("{one}/scale"), PROTO, b"")
        .await
        .object(200);
    assert_eq!(scale["spec"]["replicas"], 2);
}

#[tokio::test]
async fn reviews_deletes_and_errors() {
    let cluster = Cluster::start().await;
    let review = json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": {"namespace": "default", "verb": "create", "resource": "pods"}}});
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let answer = post(&cluster, path, &review).await.object(201);
    assert_eq!(answer["status"]["allowed"], true);

    let maps = "/api/v1/namespaces/default/configmaps";
    post(&cluster, maps, &config_map("a", json!({})))
        .await
        .object(201);
    let again = post(&cluster, maps, &config_map("a", json!({})))
        .await
        .object(409);
    assert_eq!(again["reason"], "AlreadyExists");
    assert_eq!(again["message"], "configmaps \"a\" already exists");

    let one = format!("{maps}/a");
    let delete = async |options: Value| {
        let body = proto::encode(&options).unwrap();
        ask(&cluster, Method::DELETE, &one, BOTH, &body).await
    };
    // The options are of every group version.
    let wrong = delete(
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "preconditions": {"uid": "x"}}),
    );
    assert_eq!(wrong.await.object(409)["reason"], "Conflict");
    let right = delete(
        json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": "Background"}),
    );
    let gone = right.await.object(200);
    assert_eq!(
        (&gone["kind"], &gone["status"]),
        (&json!("Status"), &json!("Success"))
    );

    for (body, why) in [
        (
            b"{\"kind\": \"ConfigMap\"}".to_vec(),
            "does not appear to be a protobuf message",
        ),
        (
            proto::encode(&config_map("b", json!({}))).unwrap()[..30].to_vec(),
            "unexpected EOF",
        ),
        (
            proto::encode(&pod("b")).unwrap(),
            "does not match the expected kind (ConfigMap)",
        ),
    ] {
        let refused = ask(&cluster, Method::POST, maps, BOTH, &body)
            .await
            .object(400);
        let message = refused["message"].as_str().unwrap();
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn lists_in_protobuf_where_they_have_such_a_form() {
    let cluster = Cluster::start().await;
    cluster.namespace("lists").await;
    let maps = "/api/v1/namespaces/lists/configmaps";
    for name in ["a", "b", "c"] {
        post(&cluster, maps, &config_map(name, json!({"n": name})))
            .await
            .object(201);
    }
    let list = ask(&cluster, Method::GET, maps, BOTH, b"")
        .await
        .object(200);
    let mut wanted = cluster.get(maps).await.ok();
    // The items of a list in protobuf have no type of their own.
    for item in wanted["items"].as_array_mut().unwrap() {
        let item = item.as_object_mut().unwrap();
        item.remove("apiVersion");
        item.remove("kind");
    }
    assert_eq!(list, wanted);

    let paged = format!("{maps}?limit=2");
    let accept = format!("{PROTO};as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");
    let page = ask(&cluster, Method::GET, &paged, &accept, b"")
        .await
        .object(200);
    assert_eq!(page["kind"], "PartialObjectMetadataList");
    assert_eq!(page["metadata"]["remainingItemCount"], 1);
    assert_eq!(page["items"][1]["metadata"]["labels"], json!({"n": "b"}));
    assert!(page["items"][0].get("data").is_none());

    let accept = format!("{PROTO};as=Table;g=meta.k8s.io;v=v1");
    let refused = ask(&cluster, Method::GET, maps, &accept, b"")
        .await
        .object(406);
    assert_eq!(refused["reason"], "NotAcceptable");
    let accept = format!("{accept},application/json;as=Table;g=meta.k8s.io;v=v1");
    let table = ask(&cluster, Method::GET, maps, &accept, b"").await;
    assert_eq!(table.content_type, "application/json");
}

#[tokio::test]
async fn a_watch_is_framed() {
    let cluster = Cluster::start().await;
    cluster.namespace("watched").await;
    let maps = "/api/v1/namespaces/watched/configmaps";
    post(&cluster, maps, &config_map("a", json!({})))
        .await
        .object(201);
    let path = format!(
        "{maps}?watch=true&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan"
    );
    let request = Request::builder()
        .uri(path)
        .header("accept", PROTO)
        .extension(master())
        .body(apiserver::full_body(""))
        .unwrap();
    let response = cluster.raw(request).await;
    assert_eq!(
        response.headers()["content-type"],
        "application/vnd.kubernetes.protobuf;stream=watch"
    );
    let mut body = response.into_body();
    let mut buffer = Vec::new();
    let mut next = async || loop {
        if let Some((length, rest)) = buffer.split_first_chunk::<4>() {
            let length = u32::from_be_bytes(*length) as usize;
            if rest.len() >= length {
                let event = event(&rest[..length]);
                buffer.drain(..4 + length);
                return event;
            }
        }
        let frame = tokio::time::timeout(std::time::Duration::from_secs(10), body.frame());
        let frame = frame.await.expect("no event in time").unwrap().unwrap();
        buffer.extend_from_slice(&frame.into_data().unwrap());
    };
    let (kind, object) = next().await;
    assert_eq!(
        (kind.as_str(), &object["metadata"]["name"]),
        ("ADDED", &json!("a"))
    );
    assert_eq!(object["data"], json!({"key": "value"}));
    let (kind, object) = next().await;
    assert_eq!(kind, "BOOKMARK");
    let marks = json!({"k8s.io/initial-events-end": "true"});
    assert_eq!(object["metadata"]["annotations"], marks);
    cluster.delete(&format!("{maps}/a")).await.ok();
    let (kind, object) = next().await;
    assert_eq!(
        (kind.as_str(), &object["kind"]),
        ("DELETED", &json!("ConfigMap"))
    );
}

/// `WatchEvent {1: type, 2: RawExtension {1: envelope}}`, read by hand.
fn event(bytes: &[u8]) -> (String, Value) {
    assert_eq!(bytes[0], 0x0a);
    let (kind, rest) = bytes[2..].split_at(bytes[1].into());
    assert_eq!(rest[0], 0x12);
    let start = rest.windows(4).position(|w| w == b"k8s\0").unwrap();
    let object = proto::decode(&rest[start..]).unwrap();
    (String::from_utf8(kind.to_vec()).unwrap(), object)
}
