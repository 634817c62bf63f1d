//! Several processes and one Lease, on a paused clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use client::{Client, Election, lead};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use serde_json::{Value, json};
use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

/// A server of one Lease: what is stored, and how often that was written.
type Stored = Arc<Mutex<(Option<Value>, u64)>>;

fn refusal(code: StatusCode, reason: &str) -> (StatusCode, Value) {
    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure",
        "code": code.as_u16(), "reason": reason, "message": reason});
    (code, status)
}

fn answer(stored: &Stored, method: &Method, sent: Value) -> (StatusCode, Value) {
    let mut stored = stored.lock().unwrap();
    let (lease, version) = &mut *stored;
    let is = |lease: &Value| lease["metadata"]["resourceVersion"].clone();
    match (method, lease.as_ref()) {
        (&Method::GET, Some(lease)) => return (StatusCode::OK, lease.clone()),
        (&Method::GET, None) => return refusal(StatusCode::NOT_FOUND, "NotFound"),
        (&Method::POST, Some(_)) => return refusal(StatusCode::CONFLICT, "AlreadyExists"),
        (&Method::PUT, Some(lease)) if is(lease) != is(&sent) => {
            return refusal(StatusCode::CONFLICT, "Conflict");
        }
        _ => {}
    }
    *version += 1;
    let mut new = sent;
    new["metadata"]["resourceVersion"] = version.to_string().into();
    *lease = Some(new.clone());
    (StatusCode::OK, new)
}

/// A way to the server that can be cut.
fn client(stored: &Stored, cut: &Arc<AtomicBool>) -> Client {
    let (stored, cut) = (stored.clone(), cut.clone());
    client::in_process(tower::service_fn(
        move |request: Request<kube::client::Body>| {
            let (stored, cut) = (stored.clone(), cut.clone());
            async move {
                let method = request.method().clone();
                let bytes = request.into_body().collect().await.unwrap().to_bytes();
                let sent = serde_json::from_slice(&bytes).unwrap_or_default();
                let (code, body) = if cut.load(Ordering::Relaxed) {
                    refusal(StatusCode::INTERNAL_SERVER_ERROR, "InternalError")
                } else {
                    answer(&stored, &method, sent)
                };
                let body = Full::<bytes::Bytes>::from(body.to_string());
                let response = Response::builder().status(code).body(body).unwrap();
                Ok::<_, Infallible>(response)
            }
        },
    ))
}

/// Who works, and since when.
type Log = Arc<Mutex<Vec<(String, Instant)>>>;

struct Contender {
    cut: Arc<AtomicBool>,
    drain: CancellationToken,
}

fn contend(stored: &Stored, identity: &str, log: &Log, working: &Arc<AtomicUsize>) -> Contender {
    let cut = Arc::new(AtomicBool::new(false));
    let drain = CancellationToken::new();
    let election = Election {
        client: client(stored, &cut),
        namespace: "kube-system".to_owned(),
        name: "kube-scheduler".to_owned(),
        identity: identity.to_owned(),
    };
    let (log, working, who) = (log.clone(), working.clone(), identity.to_owned());
    let work = move |term: CancellationToken| {
        let (log, working, who) = (log.clone(), working.clone(), who.clone());
        async move {
            log.lock().unwrap().push((who, Instant::now()));
            assert_eq!(
                working.fetch_add(1, Ordering::SeqCst),
                0,
                "two work at once"
            );
            term.cancelled().await;
            working.fetch_sub(1, Ordering::SeqCst);
        }
    };
    tokio::spawn(lead(election, drain.clone(), work));
    Contender { cut, drain }
}

#[tokio::test(start_paused = true)]
async fn one_works_and_another_takes_over() {
    let (stored, log, working) = (Stored::default(), Log::default(), Arc::default());
    let a = contend(&stored, "a", &log, &working);
    sleep(Duration::from_millis(10)).await;
    let b = contend(&stored, "b", &log, &working);
    sleep(Duration::from_secs(120)).await;
    let leaders = |log: &Log| {
        let log = log.lock().unwrap();
        log.iter().map(|(who, _)| who.clone()).collect::<Vec<_>>()
    };
    assert_eq!(leaders(&log), ["a"], "who leads goes on leading");

    // Cut off, a stops within ten seconds, and b takes over after fifteen.
    a.cut.store(true, Ordering::Relaxed);
    let cut_at = Instant::now();
    while working.load(Ordering::SeqCst) == 1 {
        sleep(Duration::from_millis(100)).await;
    }
    assert!(
        cut_at.elapsed() < Duration::from_secs(13),
        "{:?}",
        cut_at.elapsed()
    );
    sleep(Duration::from_secs(15)).await;
    assert_eq!(leaders(&log), ["a", "b"]);
    let taken = log.lock().unwrap()[1].1 - cut_at;
    assert!(taken > Duration::from_secs(13), "{taken:?}");

    // Back again, a waits; given up in order, the Lease is taken at once.
    a.cut.store(false, Ordering::Relaxed);
    sleep(Duration::from_secs(60)).await;
    assert_eq!(leaders(&log), ["a", "b"]);
    b.drain.cancel();
    sleep(Duration::from_secs(6)).await;
    assert_eq!(leaders(&log), ["a", "b", "a"]);
    let lease = stored.lock().unwrap().0.clone().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "a");
    assert_eq!(lease["spec"]["leaseTransitions"], 2);
    a.drain.cancel();
    sleep(Duration::from_secs(1)).await;
    assert_eq!(working.load(Ordering::SeqCst), 0);
    let lease = stored.lock().unwrap().0.clone().unwrap();
    assert_eq!(lease["spec"]["holderIdentity"], "");
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_under_its_name_goes_on_at_once() {
    let (stored, log, working) = (Stored::default(), Log::default(), Arc::default());
    let first = contend(&stored, "a", &log, &working);
    sleep(Duration::from_secs(1)).await;
    // As a process that is killed: its Lease stays.
    first.cut.store(true, Ordering::Relaxed);
    first.drain.cancel();
    sleep(Duration::from_secs(3)).await;
    let began = Instant::now();
    let _second = contend(&stored, "a", &log, &working);
    sleep(Duration::from_millis(10)).await;
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 2);
    assert!(log[1].1 - began < Duration::from_millis(10));
}
