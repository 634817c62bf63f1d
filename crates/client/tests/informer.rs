//! Caches against a scripted API server in process: the test is the server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use client::{Informer, Informers, Key, Meta, Selector};
use futures::StreamExt;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::StreamBody;
use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

type Stream = futures::stream::BoxStream<'static, Result<Frame<Bytes>, Infallible>>;
type Answer = oneshot::Sender<Response<StreamBody<Stream>>>;

struct Server {
    calls: mpsc::UnboundedReceiver<(Request<kube::client::Body>, Answer)>,
    informers: Informers,
    drain: CancellationToken,
}

impl Server {
    fn start() -> Self {
        let (sender, calls) = mpsc::unbounded_channel();
        let service = tower::service_fn(move |request| {
            let (answer, answered) = oneshot::channel();
            sender.send((request, answer)).unwrap();
            answered
        });
        let drain = CancellationToken::new();
        let informers = Informers::new(client::in_process(service), drain.clone());
        Self {
            calls,
            informers,
            drain,
        }
    }

    async fn list(&mut self, code: u16, body: Value) -> String {
        let (request, answer) = self.calls.recv().await.unwrap();
        let uri = request.uri().to_string();
        assert!(!uri.contains("watch=true"), "expected a list: {uri}");
        let frame = Ok(Frame::data(Bytes::from(body.to_string())));
        let body: Stream = futures::stream::iter([frame]).boxed();
        let response = Response::builder()
            .status(code)
            .body(StreamBody::new(body))
            .unwrap();
        answer.send(response).ok().unwrap();
        uri
    }

    async fn watch(&mut self) -> (String, mpsc::UnboundedSender<String>) {
        let (request, answer) = self.calls.recv().await.unwrap();
        let uri = request.uri().to_string();
        assert!(uri.contains("watch=true"), "expected a watch: {uri}");
        let (sender, receiver) = mpsc::unbounded_channel::<String>();
        let frames = futures::stream::unfold(receiver, |mut r| async move {
            let text = r.recv().await?;
            Some((Ok(Frame::data(Bytes::from(text))), r))
        });
        answer
            .send(Response::new(StreamBody::new(frames.boxed())))
            .ok()
            .unwrap();
        (uri, sender)
    }
}

fn map(name: &str, version: u64) -> Value {
    map_uid(name, version, name)
}

fn map_uid(name: &str, version: u64, uid: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {
        "name": name, "namespace": "a", "uid": uid, "resourceVersion": version.to_string(),
        "managedFields": [{"manager": "x", "operation": "Update"}]}})
}

fn page(version: u64, next: &str, items: &[Value]) -> Value {
    json!({"kind": "ConfigMapList", "apiVersion": "v1",
        "metadata": {"resourceVersion": version.to_string(), "continue": next}, "items": items})
}

fn line(kind: &str, object: Value) -> String {
    format!("{}\n", json!({"type": kind, "object": object}))
}

/// Writes down what a handler hears as `old>new` versions.
fn history(cache: &Informer<ConfigMap>) -> Arc<Mutex<Vec<String>>> {
    let heard = Arc::new(Mutex::new(Vec::new()));
    let writer = heard.clone();
    cache.on_change(move |old, new| {
        let say = |o: Option<&Arc<ConfigMap>>| {
            o.map_or_else(
                || "-".to_owned(),
                |o| {
                    let m = &o.metadata;
                    format!(
                        "{}@{}",
                        m.name.as_deref().unwrap(),
                        m.resource_version.as_deref().unwrap()
                    )
                },
            )
        };
        writer
            .lock()
            .unwrap()
            .push(format!("{} > {}", say(old), say(new)));
    });
    heard
}

async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn lists_in_pages_then_follows_and_survives_the_end_of_a_watch() {
    let mut server = Server::start();
    let cache = server.informers.get::<ConfigMap>();
    let again = server.informers.get::<ConfigMap>();
    let heard = history(&cache);
    let mut keys = cache.subscribe();

    let uri = server.list(200, page(7, "more", &[map("one", 3)])).await;
    assert_eq!(uri, "/api/v1/configmaps?&limit=500");
    let uri = server.list(200, page(7, "", &[map("two", 5)])).await;
    assert!(uri.contains("continue=more"), "{uri}");
    cache.synced().await;
    assert!(again.is_synced(), "a second user shares the cache");
    assert_eq!(cache.list().len(), 2);
    assert_eq!(cache.get("a", "one").unwrap().metadata.managed_fields, None);

    let (uri, watch) = server.watch().await;
    assert!(uri.contains("resourceVersion=7"), "{uri}");
    // Two events in one frame, one event over two frames, one that cannot be decoded.
    let (first, second) = (
        line("MODIFIED", map("one", 8)),
        line("ADDED", map("three", 9)),
    );
    let third = line("DELETED", map("two", 10));
    watch
        .send(format!("{first}{second}{}", &third[..30]))
        .unwrap();
    watch.send(third[30..].to_owned()).unwrap();
    let mut bad = map("bad", 11);
    bad["data"] = json!(17);
    watch.send(line("ADDED", bad)).unwrap();
    settle().await;
    let said = heard.lock().unwrap().join("; ");
    assert_eq!(
        said,
        "- > one@3; - > two@5; one@3 > one@8; - > three@9; two@10 > -"
    );
    // `one` changed twice and is read once.
    for expected in ["one", "two", "three"] {
        assert_eq!(keys.next().await, Some(Key::new("a", expected)));
    }
    let bookmark =
        json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"resourceVersion": "12"}});
    watch.send(line("BOOKMARK", bookmark)).unwrap();
    drop(watch);
    let (uri, _watch) = server.watch().await;
    assert!(uri.contains("resourceVersion=12"), "{uri}");

    server.drain.cancel();
    server.informers.closed().await;
    assert_eq!(keys.next().await, None);
}

#[tokio::test(start_paused = true)]
async fn after_gone_it_lists_again_and_tells_what_it_missed() {
    let mut server = Server::start();
    let cache = server
        .informers
        .get_with::<ConfigMap>(Selector::fields("metadata.namespace=a"));
    let by_uid = cache.index(|o| o.metadata.uid.iter().cloned().collect());
    let heard = history(&cache);
    let items = [
        map("same", 1),
        map("changed", 2),
        map("gone", 3),
        map("reborn", 4),
    ];
    let uri = server.list(200, page(4, "", &items)).await;
    assert!(
        uri.contains("fieldSelector=metadata.namespace%3Da"),
        "{uri}"
    );
    let (_, watch) = server.watch().await;
    cache.synced().await;
    heard.lock().unwrap().clear();
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "message": "too old resource version: 4 (9)", "reason": "Expired", "code": 410});
    watch.send(line("ERROR", status)).unwrap();
    let items = [
        map("same", 1),
        map("changed", 9),
        map_uid("reborn", 8, "other"),
        map("new", 7),
    ];
    server.list(200, page(9, "", &items)).await;
    let _watch = server.watch().await;
    assert_eq!(
        heard.lock().unwrap().join("; "),
        "changed@2 > changed@9; reborn@4 > -; - > reborn@8; - > new@7; gone@3 > -"
    );
    assert!(by_uid.get("gone").is_empty() && by_uid.get("reborn").is_empty());
    assert_eq!(by_uid.get("other").len(), 1);
    server.drain.cancel();
}

#[tokio::test(start_paused = true)]
async fn failures_wait_and_metadata_is_asked_for_by_accept() {
    let mut server = Server::start();
    let cache = server
        .informers
        .at::<Meta>("/apis/x.io/v1/things", Selector::all());
    let (request, answer) = server.calls.recv().await.unwrap();
    let accept = request.headers()["accept"].to_str().unwrap();
    assert!(accept.contains("as=PartialObjectMetadataList"), "{accept}");
    drop(answer);
    let before = tokio::time::Instant::now();
    for _ in 0..8 {
        server
            .list(
                503,
                json!({"kind": "Status", "code": 503, "message": "not yet"}),
            )
            .await;
    }
    assert!(
        before.elapsed() > Duration::from_secs(3),
        "{:?}",
        before.elapsed()
    );
    let mut item = map("x", 3);
    item["metadata"]["ownerReferences"] =
        json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
    server.list(200, page(3, "", &[item])).await;
    cache.synced().await;
    assert_eq!(cache.get("a", "x").unwrap().owner_references()[0].uid, "u");
    server.drain.cancel();
}
