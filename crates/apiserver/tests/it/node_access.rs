//! What a node may read and write, by its client certificate.

use apiserver::full_body;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};

use crate::harness::{Cluster, pod};
use crate::listener::Door;

const NAMESPACE: &str = "/api/v1/namespaces/default";
const PODS: &str = "/api/v1/namespaces/default/pods";

/// A connection of a node's.
struct AsNode(SendRequest<apiserver::Body>);

impl AsNode {
    async fn connect(door: &Door, name: &str) -> Self {
        let user = format!("system:node:{name}");
        let stream = door
            .connect(b"http/1.1", Some((&user, "system:nodes")))
            .await;
        let handshake = hyper::client::conn::http1::handshake(TokioIo::new(stream));
        let (sender, connection) = handshake.await.unwrap();
        tokio::spawn(connection);
        Self(sender)
    }

    async fn send(&mut self, method: Method, path: &str, body: &Value) -> (u16, Value) {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", kind)
            .body(full_body(body.to_string()))
            .unwrap();
        self.0.ready().await.unwrap();
        let answer = self.0.send_request(request).await.unwrap();
        let status = answer.status().as_u16();
        let body = answer.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap())
    }

    async fn get(&mut self, path: &str) -> (u16, Value) {
        self.send(Method::GET, path, &Value::Null).await
    }

    /// The message of a 403.
    async fn refused(&mut self, method: Method, path: &str, body: &Value) -> String {
        let (status, answer) = self.send(method, path, body).await;
        assert_eq!(status, 403, "{answer}");
        answer["message"].as_str().unwrap().to_owned()
    }
}

fn mounting(name: &str, node: &str, secret: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["nodeName"] = json!(node);
    pod["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": secret}}]);
    pod
}

async fn secret(c: &Cluster, name: &str) {
    let path = format!("{NAMESPACE}/secrets");
    c.post(&path, &json!({"metadata": {"name": name}}))
        .await
        .ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_reads_the_secrets_of_its_pods_as_long_as_it_has_them() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let (door, serving) = Door::open(&c).await;
    let mut n1 = AsNode::connect(&door, "n1").await;
    for (name, node) in [("s1", "n1"), ("s2", "n2")] {
        secret(&c, name).await;
        c.post(PODS, &mounting(&format!("on-{node}"), node, name))
            .await
            .ok();
    }
    let (own, other) = (
        format!("{NAMESPACE}/secrets/s1"),
        format!("{NAMESPACE}/secrets/s2"),
    );
    assert_eq!(n1.get(&own).await.0, 200);
    let words = n1.refused(Method::GET, &other, &Value::Null).await;
    assert_eq!(
        words,
        "secrets \"s2\" is forbidden: User \"system:node:n1\" cannot get resource \"secrets\" in \
         API group \"\" in the namespace \"default\": no relationship found between node 'n1' and \
         this object"
    );
    let one = format!("{NAMESPACE}/secrets?fieldSelector=metadata.name%3Ds1");
    let (status, list) = n1.get(&one).await;
    assert_eq!((status, list["items"].as_array().unwrap().len()), (200, 1));
    let all = format!("{NAMESPACE}/secrets");
    let words = n1.refused(Method::GET, &all, &Value::Null).await;
    assert!(words.ends_with(": No Object name found"), "{words}");
    let (status, pods) = n1
        .get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        .await;
    assert_eq!((status, pods["items"].as_array().unwrap().len()), (200, 1));
    let words = n1.refused(Method::GET, "/api/v1/pods", &Value::Null).await;
    assert!(words.ends_with("can only list/watch pods with spec.nodeName field selector"));

    // A pod that leaves takes the right with it, at once.
    c.delete(&format!("{PODS}/on-n1?gracePeriodSeconds=0"))
        .await
        .ok();
    n1.refused(Method::GET, &own, &Value::Null).await;
    c.drain.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_has_seen_its_pod_may_read_its_secret() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let (door, serving) = Door::open(&c).await;
    let mut n1 = AsNode::connect(&door, "n1").await;
    let mut watch = c
        .watch("/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3Dn1")
        .await;
    let pods = async {
        for round in 0..50 {
            let name = format!("s{round}");
            secret(&c, &name).await;
            c.post(PODS, &mounting(&format!("p{round}"), "n1", &name))
                .await
                .ok();
        }
    };
    let node = async {
        for round in 0..50 {
            assert_eq!(watch.short().await, format!("ADDED p{round}"));
            let (status, said) = n1.get(&format!("{NAMESPACE}/secrets/s{round}")).await;
            assert_eq!(status, 200, "{round}: {said}");
        }
    };
    tokio::join!(pods, node);
    c.drain.cancel();
    serving.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_writes_no_more_than_nodes_do() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let (door, serving) = Door::open(&c).await;
    let mut n1 = AsNode::connect(&door, "n1").await;
    let node = json!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1"}}});
    let mut labelled = node.clone();
    labelled["metadata"]["labels"]["node-role.kubernetes.io/control-plane"] = json!("");
    let words = n1.refused(Method::POST, "/api/v1/nodes", &labelled).await;
    let said = "node \"n1\" is not allowed to set the following labels: node-role.kubernetes.io/control-plane";
    assert!(words.ends_with(said), "{words}");
    let (status, made) = n1.send(Method::POST, "/api/v1/nodes", &node).await;
    assert_eq!(status, 201, "{made}");
    let words = n1
        .refused(
            Method::PATCH,
            "/api/v1/nodes/n1",
            &json!({"metadata": {"ownerReferences": [
                {"apiVersion": "v1", "kind": "Node", "name": "x", "uid": "x"}]}}),
        )
        .await;
    assert!(words.ends_with("not allowed to modify ownerReferences"));

    // Mirror pods are the node's own, and need nothing of the API.
    let owner = json!([{"apiVersion": "v1", "kind": "Node", "name": "n1", "controller": true,
        "uid": made["metadata"]["uid"]}]);
    let mut mirror = pod("mirror");
    mirror["spec"]["nodeName"] = json!("n1");
    let words = n1.refused(Method::POST, PODS, &mirror).await;
    assert!(words.ends_with("can only create mirror pods"), "{words}");
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    let words = n1.refused(Method::POST, PODS, &mirror).await;
    assert!(words.ends_with("with an owner reference set to itself"));
    mirror["metadata"]["ownerReferences"] = owner;
    let mut reading = mirror.clone();
    reading["spec"]["volumes"] = json!([{"name": "s", "secret": {"secretName": "s"}}]);
    let words = n1.refused(Method::POST, PODS, &reading).await;
    assert!(words.ends_with("node \"n1\" can not create pods that reference secrets"));
    let (status, said) = n1.send(Method::POST, PODS, &mirror).await;
    assert_eq!(status, 201, "{said}");

    // Its pods' status, not what leads to them.
    c.post(PODS, &mounting("real", "n1", "s")).await.ok();
    let path = format!("{PODS}/real/status");
    let words = n1
        .refused(
            Method::PATCH,
            &path,
            &json!({"metadata": {"labels": {"app": "y"}}}),
        )
        .await;
    assert!(words.ends_with("cannot update labels through pod status"));
    let claimed = json!({"status": {"resourceClaimStatuses": [
        {"name": "x", "resourceClaimName": "another"}]}});
    let words = n1.refused(Method::PATCH, &path, &claimed).await;
    assert!(
        words.ends_with("cannot update resource claim statues"),
        "{words}"
    );

    // Tokens only for the audiences that the pod asks for.
    let uid = c.get(&format!("{PODS}/real")).await.ok()["metadata"]["uid"].clone();
    let ask = |audiences: Value| {
        json!({"spec": {"audiences": audiences, "boundObjectRef":
            {"kind": "Pod", "apiVersion": "v1", "name": "real", "uid": uid}}})
    };
    let path = format!("{NAMESPACE}/serviceaccounts/default/token");
    let (status, said) = n1.send(Method::POST, &path, &ask(json!([]))).await;
    assert_eq!(status, 201, "{said}");
    let words = n1
        .refused(Method::POST, &path, &ask(json!(["vault"])))
        .await;
    assert!(words.ends_with(
        "audience \"vault\" not found in pod spec volume, system:node:n1 is not authorized to \
         request tokens for this audience"
    ));
    c.drain.cancel();
    serving.await.unwrap();
}
