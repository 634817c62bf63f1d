//! What becomes of recorded events, seen from the server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use client::{EventType, Events, Source};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use k8s_openapi::api::core::v1::ObjectReference;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use tokio_util::sync::CancellationToken;

type Calls = Arc<Mutex<Vec<(Method, Value)>>>;

fn start() -> (Events, Calls, CancellationToken) {
    let calls: Calls = Arc::default();
    let seen = calls.clone();
    let service = tower::service_fn(move |request: Request<kube::client::Body>| {
        let seen = seen.clone();
        async move {
            let method = request.method().clone();
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            let sent: Value = serde_json::from_slice(&bytes).unwrap();
            let answer = json!({"apiVersion": "v1", "kind": "Event", "involvedObject": {},
                "metadata": {"name": sent["metadata"]["name"].as_str().unwrap_or("e")}});
            seen.lock().unwrap().push((method, sent));
            Ok::<_, Infallible>(Response::new(Full::<bytes::Bytes>::from(
                answer.to_string(),
            )))
        }
    });
    let drain = CancellationToken::new();
    let source = Source {
        component: "kubelet".to_owned(),
        host: Some("n".to_owned()),
    };
    let events = Events::start(client::in_process(service), source, drain.clone());
    (events, calls, drain)
}

fn pod(name: &str) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".to_owned()),
        name: Some(name.to_owned()),
        namespace: Some("a".to_owned()),
        uid: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}

async fn settle() {
    for _ in 0..2000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(start_paused = true)]
async fn repeats_become_a_count_and_a_flood_is_held_back() {
    let (events, calls, drain) = start();
    for _ in 0..3 {
        events.record(&pod("p"), EventType::Warning, "BackOff", "again");
    }
    settle().await;
    {
        let calls = calls.lock().unwrap();
        let told: Vec<String> = calls
            .iter()
            .map(|(m, v)| format!("{m} {} {}", v["count"], v["message"].as_str().unwrap()))
            .collect();
        assert_eq!(told, ["POST 1 again", "PATCH 2 again", "PATCH 3 again"]);
        let first = &calls[0].1;
        assert_eq!(
            first["source"],
            json!({"component": "kubelet", "host": "n"})
        );
        assert_eq!(first["involvedObject"]["name"], "p");
        assert_eq!(
            (&first["type"], &first["reason"]),
            (&json!("Warning"), &json!("BackOff"))
        );
    }
    calls.lock().unwrap().clear();
    for n in 0..100 {
        events.record(&pod("q"), EventType::Normal, "Pulled", format!("image {n}"));
    }
    settle().await;
    let calls = calls.lock().unwrap();
    assert_eq!(calls.len(), 25, "one object has 25 events at once");
    let (method, last) = calls.last().unwrap();
    assert_eq!(method, Method::PATCH, "many alike become one");
    let message = last["message"].as_str().unwrap();
    assert!(
        message.starts_with("(combined from similar events): image"),
        "{message}"
    );
    drain.cancel();
}
