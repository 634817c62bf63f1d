//! Aggregated API servers: a real one over TLS that checks who asks.

use std::time::Duration;

use apiserver::{Body, User, full_body};
use bytes::Bytes;
use futures::FutureExt as _;
use http::{Method, Request, Response, StatusCode};
use serde_json::{Value, json};
use store::{Expect, Write};

use crate::harness::{Answer, Cluster, answer};
use crate::https::{Asked, Https, json as reply};

const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";

async fn serve(asked: Asked) -> Response<Body> {
    let verbs = json!(["create", "get", "list", "watch"]);
    match asked.path.as_str() {
        "/apis/wardle.example.com/v1alpha1" => reply(&json!({"kind": "APIResourceList",
            "apiVersion": "v1", "groupVersion": "wardle.example.com/v1alpha1",
            "resources": [{"name": "flunders", "singularName": "flunder", "namespaced": true,
                "kind": "Flunder", "verbs": verbs}]})),
        "/openapi/v3" => reply(&json!({"paths": {"apis/wardle.example.com/v1alpha1":
            {"serverRelativeURL": "/openapi/v3/apis/wardle.example.com/v1alpha1?hash=A"}}})),
        "/openapi/v2" => reply(&json!({"swagger": "2.0",
            "paths": {"/apis/wardle.example.com/v1alpha1/flunders": {"get": {}}, "/version": {}},
            "definitions": {"com.example.Flunder": {"type": "object"}}})),
        "/openapi/v3/apis/wardle.example.com/v1alpha1" => reply(&json!({"openapi": "3.0.0"})),
        path if path.ends_with("/flunders") && asked.query.contains("watch=") => {
            // Two events, the second of which comes late; the stream stays open.
            let events = futures::stream::unfold(0, |n| async move {
                if n == 1 {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                if n == 2 {
                    std::future::pending::<()>().await;
                }
                let line = Bytes::from(format!("{{\"type\":\"ADDED\",\"n\":{n}}}\n"));
                Some((Ok(http_body::Frame::data(line)), n + 1))
            });
            use http_body_util::BodyExt as _;
            Response::new(http_body_util::StreamBody::new(events).boxed_unsync())
        }
        _ => {
            let told = json!({"method": asked.method.as_str(), "path": asked.path,
                "query": asked.query, "body": String::from_utf8_lossy(&asked.body)});
            let mut response = Response::new(full_body(told.to_string()));
            *response.status_mut() = StatusCode::CREATED;
            response
        }
    }
}

/// The server behind `v1alpha1.wardle.example.com`, reached by a Service.
async fn aggregated(c: &Cluster) -> Https {
    let map = c
        .get("/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication")
        .await
        .ok();
    let clients = map["data"]["requestheader-client-ca-file"]
        .as_str()
        .unwrap()
        .to_owned();
    let names = ["sample-api.wardle.svc"];
    let server = Https::start(&names, Some(&clients), |asked| serve(asked).boxed()).await;
    c.namespace("wardle").await;
    let service = json!({"metadata": {"name": "sample-api"},
        "spec": {"ports": [{"port": 7443, "targetPort": 443}]}});
    c.post("/api/v1/namespaces/wardle/services", &service)
        .await
        .ok();
    server
}

/// An endpoint on this host, which only the store lets anybody write.
async fn slice(c: &Cluster, server: &Https) {
    let stored = format!(
        "{{\"apiVersion\":\"discovery.k8s.io/v1\",\"kind\":\"EndpointSlice\",\"metadata\":{{\
         \"name\":\"sample-api-1\",\"namespace\":\"wardle\",\"uid\":\"u\",\"labels\":{{\
         \"kubernetes.io/service-name\":\"sample-api\"}}}},\"addressType\":\"IPv4\",\"endpoints\":\
         [{{\"addresses\":[\"127.0.0.1\"]}}],\"ports\":[{{\"name\":\"\",\"port\":{}}}]}}",
        server.port()
    );
    let key = "/registry/discovery.k8s.io/endpointslices/wardle/sample-api-1";
    let write = Write::put(key, Expect::Absent, stored);
    c.store.write(write).await.unwrap();
}

fn api_service(bundle: &str) -> Value {
    json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1alpha1.wardle.example.com"},
        "spec": {"group": "wardle.example.com", "version": "v1alpha1", "caBundle": bundle,
            "groupPriorityMinimum": 2000, "versionPriority": 200,
            "service": {"name": "sample-api", "namespace": "wardle", "port": 7443}}})
}

/// Waits for a reason of the Available condition.
async fn available(c: &Cluster, name: &str, reason: &str) -> Value {
    let mut last = Value::Null;
    for _ in 0..200 {
        last = c.get(&format!("{SERVICES}/{name}")).await.body;
        if last["status"]["conditions"][0]["reason"] == reason {
            return last["status"]["conditions"][0].clone();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{name} never became {reason}: {last}");
}

async fn ask_as(c: &Cluster, user: User, method: Method, path: &str, body: &str) -> Answer {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", "Bearer secret")
        .header("x-remote-user", "somebody-else")
        .header("content-type", "application/json")
        .extension(user)
        .body(full_body(body.to_owned()))
        .unwrap();
    answer(c.raw(request).await).await
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_on_as_who_made_them() {
    let c = Cluster::start().await;
    let server = aggregated(&c).await;
    let name = "v1alpha1.wardle.example.com";
    c.post(SERVICES, &api_service(&server.bundle())).await.ok();
    let condition = available(&c, name, "EndpointsNotFound").await;
    assert_eq!(
        condition["message"],
        "cannot find endpointslices for service/sample-api in \"wardle\""
    );
    let flunders = "/apis/wardle.example.com/v1alpha1/namespaces/default/flunders";
    assert_eq!(c.get(flunders).await.status, 503);
    slice(&c, &server).await;
    let condition = available(&c, name, "Passed").await;
    assert_eq!(condition["message"], "all checks passed");
    assert_eq!(condition["status"], "True");
    let check = server
        .take()
        .into_iter()
        .find(|asked| asked.path.starts_with("/apis"));
    assert_eq!(
        check.unwrap().headers["x-remote-user"],
        "system:kube-aggregator"
    );

    let jane = User {
        name: "jane".to_owned(),
        groups: vec!["system:masters".to_owned(), "devs".to_owned()],
        extra: [("example.com/team".to_owned(), vec!["blue".to_owned()])].into(),
        ..User::default()
    };
    let path = format!("{flunders}?dryRun=All");
    let made = ask_as(&c, jane, Method::POST, &path, "{\"kind\":\"Flunder\"}").await;
    assert_eq!(made.status, 201);
    assert_eq!(made.body["path"], flunders);
    assert_eq!(made.body["query"], "dryRun=All");
    assert_eq!(made.body["body"], "{\"kind\":\"Flunder\"}");
    let asked = server
        .take()
        .into_iter()
        .find(|a| a.path == flunders)
        .unwrap();
    assert!(asked.peer.is_some(), "it came with a certificate");
    assert_eq!(asked.headers["host"], "sample-api.wardle.svc:7443");
    assert!(!asked.headers.contains_key("authorization"));
    let all = |name: &str| -> Vec<String> {
        let all = asked.headers.get_all(name).iter();
        all.map(|value| value.to_str().unwrap().to_owned())
            .collect()
    };
    assert_eq!(all("x-remote-user"), ["jane"]);
    assert_eq!(all("x-remote-group"), ["system:masters", "devs"]);
    assert_eq!(all("x-remote-extra-example.com%2fteam"), ["blue"]);

    // Who may not is not passed on.
    let nobody = User {
        name: "nobody".to_owned(),
        ..User::default()
    };
    assert_eq!(
        ask_as(&c, nobody, Method::GET, flunders, "").await.status,
        403
    );
    assert!(server.take().iter().all(|asked| asked.path != flunders));

    let mut watch = c.watch(&format!("{flunders}?watch=1")).await;
    assert_eq!(watch.next().await.unwrap()["n"], 0);
    assert_eq!(watch.next().await.unwrap()["n"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_tell_of_other_servers() {
    let c = Cluster::start().await;
    let server = aggregated(&c).await;
    let name = "v1alpha1.wardle.example.com";
    c.post(SERVICES, &api_service(&server.bundle())).await.ok();
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
    let discovery = async || {
        let headers = [("accept", accept)];
        let all = c
            .send_with(Method::GET, "/apis", &headers, Bytes::new())
            .await
            .ok();
        let items = all["items"].as_array().unwrap().clone();
        items
            .into_iter()
            .find(|i| i["metadata"]["name"] == "wardle.example.com")
            .unwrap()
    };
    available(&c, name, "EndpointsNotFound").await;
    let stale = discovery().await;
    assert_eq!(stale["versions"][0]["freshness"], "Stale");
    slice(&c, &server).await;
    available(&c, name, "Passed").await;
    let version = discovery().await["versions"][0].clone();
    assert_eq!(version["freshness"], "Current");
    assert_eq!(version["resources"][0]["resource"], "flunders");
    assert_eq!(
        version["resources"][0]["responseKind"],
        json!({"group": "wardle.example.com", "version": "v1alpha1", "kind": "Flunder"})
    );
    let groups = c.get("/apis").await.ok();
    let names: Vec<&str> = groups["groups"]
        .as_array()
        .unwrap()
        .iter()
        .map(|group| group["name"].as_str().unwrap())
        .collect();
    assert_eq!(names[0], "apiregistration.k8s.io");
    assert_eq!(names.last(), Some(&"wardle.example.com"));
    let group = c.get("/apis/wardle.example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v1alpha1");
    let list = c.get("/apis/wardle.example.com/v1alpha1").await.ok();
    assert_eq!(list["resources"][0]["name"], "flunders");
    let index = c.get("/openapi/v3").await.ok();
    let at = &index["paths"]["apis/wardle.example.com/v1alpha1"]["serverRelativeURL"];
    let document = c.get(at.as_str().unwrap()).await.ok();
    assert_eq!(document["openapi"], "3.0.0");
    let v2 = c.get("/openapi/v2").await.ok();
    assert!(v2["paths"]["/apis/wardle.example.com/v1alpha1/flunders"].is_object());
    assert!(v2["definitions"]["com.example.Flunder"].is_object());
    c.delete(&format!("{SERVICES}/{name}")).await.ok();
    c.get("/apis/wardle.example.com/v1alpha1").await;
    let groups = c.get("/apis").await.text;
    assert!(!groups.contains("wardle"), "{groups}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_cannot_be_trusted_is_not_available() {
    let c = Cluster::start().await;
    let (server, other) = (
        aggregated(&c).await,
        Https::start(&["x"], None, |asked| serve(asked).boxed()).await,
    );
    slice(&c, &server).await;
    let name = "v1alpha1.wardle.example.com";
    c.post(SERVICES, &api_service(&other.bundle())).await.ok();
    let condition = available(&c, name, "FailedDiscoveryCheck").await;
    let message = condition["message"].as_str().unwrap();
    assert!(
        message.contains("certificate signed by unknown authority"),
        "{message}"
    );
    let skip = json!({"spec": {"caBundle": null, "insecureSkipTLSVerify": true}});
    c.patch(&format!("{SERVICES}/{name}"), "merge", &skip)
        .await
        .ok();
    available(&c, name, "Passed").await;
    let gone = c
        .delete("/api/v1/namespaces/wardle/services/sample-api")
        .await;
    gone.ok();
    available(&c, name, "ServiceNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_here_has_services_too() {
    let c = Cluster::start().await;
    let condition = available(&c, "v1.apps", "Local").await;
    assert_eq!(
        condition["message"],
        "Local APIServices are always available"
    );
    available(&c, "v1.", "Local").await;
    let apps = c.get(&format!("{SERVICES}/v1.apps")).await.ok();
    assert_eq!(apps["spec"]["groupPriorityMinimum"], 17800);
    assert_eq!(apps["spec"]["versionPriority"], 15);
    assert_eq!(
        apps["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
    let definition = json!({"metadata": {"name": "things.x.example.com"}, "spec": {
        "group": "x.example.com", "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    c.post(definitions, &definition).await.ok();
    available(&c, "v1.x.example.com", "Local").await;
    // It is kept while the definition is.
    c.delete(&format!("{SERVICES}/v1.x.example.com")).await.ok();
    available(&c, "v1.x.example.com", "Local").await;
    c.delete(&format!("{definitions}/things.x.example.com"))
        .await
        .ok();
    for _ in 0..100 {
        if c.get(&format!("{SERVICES}/v1.x.example.com")).await.status == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    c.get(&format!("{SERVICES}/v1.x.example.com"))
        .await
        .refused(404);

    let mut bad = api_service("");
    bad["metadata"]["name"] = "other".into();
    bad["spec"]["groupPriorityMinimum"] = 20001.into();
    bad["spec"]["service"] = Value::Null;
    bad["spec"]["insecureSkipTLSVerify"] = true.into();
    let refused = c.post(SERVICES, &bad).await.refused(422);
    for words in [
        "metadata.name: Invalid value: \"other\": must be `spec.version+\".\"+spec.group`: \"v1alpha1.wardle.example.com\"",
        "spec.groupPriorityMinimum: Invalid value: 20001: must be positive and less than 20000",
        "spec.insecureSkipTLSVerify: Invalid value: true: local APIServices may not have insecureSkipTLSVerify",
    ] {
        assert!(refused.contains(words), "{words}\n{refused}");
    }
}
