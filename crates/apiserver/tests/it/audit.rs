//! The audit log: what is written of which request, and what is not.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use apiserver::audit::log::{LogOptions, LogSink};
use apiserver::audit::{Event, Policy, Sink, WebhookOptions};
use apiserver::{User, full_body};
use bytes::Bytes;
use futures::future::BoxFuture;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::{Cluster, answer, config_map, pod};

/// Keeps events, or loses them.
#[derive(Default)]
struct Memory {
    events: Mutex<Vec<Arc<Event>>>,
    loses: bool,
}

impl Sink for Memory {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn take(&self, event: Arc<Event>) -> BoxFuture<'_, bool> {
        self.events.lock().unwrap().push(event);
        Box::pin(async { !self.loses })
    }

    fn strict(&self) -> bool {
        self.loses
    }
}

impl Memory {
    /// The events whose path begins so, as JSON.
    fn about(&self, path: &str) -> Vec<Value> {
        let events = self.events.lock().unwrap();
        events
            .iter()
            .map(|event| serde_json::from_str(&event.to_json(None).unwrap()).unwrap())
            .filter(|event: &Value| event["requestURI"].as_str().unwrap().starts_with(path))
            .collect()
    }
}

async fn cluster(rules: &str) -> (Cluster, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    (with_sink(rules, memory.clone()).await, memory)
}

async fn with_sink(rules: &str, sink: Arc<dyn Sink>) -> Cluster {
    let text = format!("apiVersion: audit.k8s.io/v1\nkind: Policy\nrules: {rules}");
    let policy = Arc::new(Policy::parse(&text).unwrap());
    Cluster::start_changed(|config| {
        config.audit.policy = Some(policy);
        config.audit.sinks = vec![sink];
    })
    .await
}

fn stages(events: &[Value]) -> Vec<&str> {
    events
        .iter()
        .map(|e| e["stage"].as_str().unwrap())
        .collect()
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test]
async fn metadata_tells_who_did_what_without_bodies() {
    let (c, log) = cluster("[{level: Metadata}]").await;
    let made = c
        .send_with(
            Method::POST,
            MAPS,
            &[
                ("content-type", "application/json"),
                ("user-agent", "tool/1"),
                ("x-forwarded-for", "10.0.0.9, 10.0.0.8"),
                ("audit-id", "its-own-id"),
            ],
            config_map("a", json!({})).to_string().into(),
        )
        .await;
    assert_eq!(made.headers["audit-id"], "its-own-id");
    made.ok();
    let events = log.about(MAPS);
    assert_eq!(stages(&events), ["RequestReceived", "ResponseComplete"]);
    assert!(events[0].get("responseStatus").is_none());
    assert!(events[0]["objectRef"].get("name").is_none());
    let mut event = events[1].clone();
    for time in ["requestReceivedTimestamp", "stageTimestamp"] {
        let text = event[time].as_str().unwrap();
        assert_eq!((text.len(), &text[19..20], &text[26..]), (27, ".", "Z"));
        event.as_object_mut().unwrap().remove(time);
    }
    let wanted = json!({
        "kind": "Event", "apiVersion": "audit.k8s.io/v1", "level": "Metadata",
        "auditID": "its-own-id", "stage": "ResponseComplete", "requestURI": MAPS, "verb": "create",
        "user": {"username": "admin", "groups": ["system:masters", "system:authenticated"]},
        "sourceIPs": ["10.0.0.9", "10.0.0.8"], "userAgent": "tool/1",
        "objectRef": {"resource": "configmaps", "namespace": "default", "name": "a",
            "apiVersion": "v1"},
        "responseStatus": {"metadata": {}, "code": 201},
        "annotations": {"authorization.k8s.io/decision": "allow", "authorization.k8s.io/reason": ""},
    });
    assert_eq!(event, wanted);

    // A refusal tells why.
    c.get(&format!("{MAPS}/none")).await.refused(404);
    let status = &log.about(&format!("{MAPS}/none"))[1]["responseStatus"];
    assert_eq!(status["reason"], "NotFound");
    assert_eq!(status["message"], "configmaps \"none\" not found");
}

#[tokio::test]
async fn bodies_are_written_as_far_as_the_level_asks() {
    let (c, log) = cluster(
        "[{level: Metadata, resources: [{group: '', resources: [secrets]}]},\
          {level: Request, resources: [{group: '', resources: [configmaps]}]},\
          {level: RequestResponse, omitManagedFields: true}]",
    )
    .await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"key": "hidden-words"}});
    c.post("/api/v1/namespaces/default/secrets", &secret)
        .await
        .ok();
    let all = format!("{:?}", log.about("/api/v1/namespaces/default/secrets"));
    assert!(!all.contains("hidden-words") && !all.contains("aGlkZGVuLXdvcmRz"));

    c.post(MAPS, &config_map("a", json!({"x": "y"}))).await.ok();
    let event = &log.about(MAPS)[1];
    assert_eq!(event["requestObject"]["data"]["key"], "value");
    assert!(event.get("responseObject").is_none());
    let patch = json!({"data": {"key": "other"}});
    c.patch(&format!("{MAPS}/a"), "merge", &patch).await.ok();
    let events = log.about(&format!("{MAPS}/a"));
    assert_eq!(events[1]["requestObject"], patch);

    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    c.post(accounts, &json!({"metadata": {"name": "b"}}))
        .await
        .ok();
    let answered = &log.about(accounts)[1]["responseObject"];
    assert_eq!(answered["metadata"]["name"], "b");
    assert!(answered["metadata"].get("managedFields").is_none());
    assert!(!answered["metadata"]["uid"].as_str().unwrap().is_empty());
    let listed = c.get(accounts).await.ok();
    let event = &log.about(accounts)[3];
    assert_eq!(
        event["responseObject"]["items"].as_array().unwrap().len(),
        listed["items"].as_array().unwrap().len()
    );
    c.delete(&format!("{accounts}/b")).await.ok();
    let event = &log.about(&format!("{accounts}/b"))[1];
    assert_eq!(event["responseStatus"]["code"], 200);

    // A token that is issued is known by its id.
    c.post(accounts, &json!({"metadata": {"name": "b"}}))
        .await
        .ok();
    let path = format!("{accounts}/b/token");
    c.post(&path, &json!({"spec": {}})).await.ok();
    let said = &log.about(&path)[1]["annotations"];
    let id = said["authentication.kubernetes.io/issued-credential-id"]
        .as_str()
        .unwrap();
    assert!(id.starts_with("JTI="), "{id}");

    // Protobuf is written as JSON too.
    let path = "/api/v1/namespaces/default/limitranges";
    let body = api::proto::encode(
        &json!({"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "l"}}),
    )
    .unwrap();
    c.send(Method::POST, path, api::proto::MEDIA_TYPE, body.into())
        .await
        .ok();
    assert_eq!(log.about(path)[1]["requestObject"]["metadata"]["name"], "l");
}

#[tokio::test]
async fn watches_have_a_start_and_an_end() {
    let (c, log) = cluster("[{level: Metadata, omitStages: [RequestReceived]}]").await;
    let mut watch = c.watch(&format!("{MAPS}?watch=1")).await;
    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    assert_eq!(watch.short().await, "ADDED a");
    assert_eq!(stages(&log.about(&format!("{MAPS}?"))), ["ResponseStarted"]);
    drop(watch);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    let events = log.about(&format!("{MAPS}?"));
    assert_eq!(stages(&events), ["ResponseStarted", "ResponseComplete"]);
    assert_eq!(events[1]["verb"], "watch");
}

async fn ask(c: &Cluster, path: &str, user: Option<User>, headers: &[(&str, &str)]) -> u16 {
    let mut request = Request::builder().uri(path);
    if let Some(user) = user {
        request = request.extension(user);
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = c.raw(request.body(full_body(Bytes::new())).unwrap()).await;
    answer(response).await.status
}

#[tokio::test]
async fn strangers_and_those_who_may_not_are_written_down() {
    let (c, log) = cluster("[{level: RequestResponse}]").await;
    assert_eq!(
        ask(&c, "/api/v1/pods", None, &[("authorization", "Bearer x")]).await,
        401
    );
    let events = log.about("/api/v1/pods");
    assert_eq!(stages(&events), ["ResponseStarted"]);
    assert_eq!(events[0]["user"], json!({}));
    assert_eq!(events[0]["responseStatus"]["code"], 401);
    assert_eq!(
        events[0]["responseStatus"]["message"],
        "Authentication failed, attempted: bearer"
    );

    let jane = User {
        name: "jane".to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        ..User::default()
    };
    assert_eq!(ask(&c, "/api/v1/nodes", Some(jane), &[]).await, 403);
    let event = &log.about("/api/v1/nodes")[1];
    assert_eq!(
        event["annotations"]["authorization.k8s.io/decision"],
        "forbid"
    );
    assert_eq!(event["responseStatus"]["reason"], "Forbidden");

    let as_bob = [("impersonate-user", "bob"), ("impersonate-group", "people")];
    assert_eq!(
        ask(
            &c,
            "/api/v1/secrets",
            Some(crate::harness::master()),
            &as_bob
        )
        .await,
        403
    );
    let event = &log.about("/api/v1/secrets")[1];
    assert_eq!(event["user"]["username"], "admin");
    assert_eq!(event["impersonatedUser"]["username"], "bob");

    assert_eq!(ask(&c, "/readyz", None, &[]).await, 200);
    let event = &log.about("/readyz")[1];
    assert_eq!(event["user"]["username"], "system:anonymous");
    assert!(event.get("objectRef").is_none());
}

#[tokio::test]
async fn pod_security_says_what_it_found() {
    let (c, log) = cluster("[{level: Metadata}]").await;
    c.post(
        "/api/v1/namespaces",
        &json!({"metadata": {"name": "tight", "labels": {
            "pod-security.kubernetes.io/enforce": "baseline",
            "pod-security.kubernetes.io/audit": "restricted"}}}),
    )
    .await
    .ok();
    let accounts = "/api/v1/namespaces/tight/serviceaccounts";
    c.post(accounts, &json!({"metadata": {"name": "default"}}))
        .await
        .ok();
    let path = "/api/v1/namespaces/tight/pods";
    c.post(path, &pod("p")).await.ok();
    let said = &log.about(path)[1]["annotations"];
    assert_eq!(
        said["pod-security.kubernetes.io/enforce-policy"],
        "baseline:latest"
    );
    let found = said["pod-security.kubernetes.io/audit-violations"]
        .as_str()
        .unwrap();
    assert!(
        found.starts_with("would violate PodSecurity \"restricted:latest\": "),
        "{found}"
    );
}

#[tokio::test]
async fn a_strict_log_that_fails_lets_nothing_through() {
    let sink = Arc::new(Memory {
        loses: true,
        ..Memory::default()
    });
    let c = with_sink("[{level: Metadata, resources: [{group: ''}]}]", sink).await;
    let said = c.post(MAPS, &config_map("a", json!({}))).await.refused(500);
    assert!(said.contains("failed to store audit event"), "{said}");
    let metrics = c.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_audit_requests_rejected_total 1"));
    assert!(metrics.contains("apiserver_audit_error_total{plugin=\"memory\"}"));
}

#[tokio::test]
async fn the_file_has_every_answered_request() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.log");
    let lines = |path: &Path| -> Vec<Value> {
        let text = std::fs::read_to_string(path).unwrap();
        text.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect()
    };
    let sink = LogSink::open(LogOptions {
        path: Some(path.clone()),
        max_event_bytes: Some(2000),
        ..LogOptions::default()
    })
    .unwrap();
    let c = with_sink("[{level: Request, verbs: [create]}]", sink).await;
    for n in 0..20 {
        c.post(MAPS, &config_map(&format!("m{n}"), json!({})))
            .await
            .ok();
        let written = lines(&path);
        assert_eq!(
            written.last().unwrap()["requestObject"]["metadata"]["name"],
            format!("m{n}")
        );
    }
    // What is too large loses its objects, and says so.
    let mut large = config_map("large", json!({}));
    large["data"]["key"] = "x".repeat(3000).into();
    c.post(MAPS, &large).await.ok();
    let last = lines(&path).pop().unwrap();
    assert!(last.get("requestObject").is_none());
    assert_eq!(last["annotations"]["audit.k8s.io/truncated"], "true");
    assert_eq!(lines(&path).len(), 42);
    c.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_webhook_gets_batches_even_when_it_was_away() {
    let server = crate::oidc::Issuer::start().await;
    let remote = server.remote("/events");
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\n\
                rules: [{level: Metadata, verbs: [create], resources: [{resources: [configmaps]}]}]";
    let policy = Arc::new(Policy::parse(text).unwrap());
    let c = Cluster::start_changed(|config| {
        config.audit.policy = Some(policy);
        let options = WebhookOptions {
            batch_events: 5,
            batch_wait: Duration::from_millis(50),
            initial_backoff: Duration::from_millis(20),
            ..WebhookOptions::default()
        };
        config.audit.webhook = Some((remote, options));
    })
    .await;
    for n in 0..12 {
        c.post(MAPS, &config_map(&format!("m{n}"), json!({})))
            .await
            .ok();
    }
    // It has refused all till now: what it refused comes again.
    tokio::time::sleep(Duration::from_millis(30)).await;
    server.put("/events", &json!({}));
    let until = std::time::Instant::now() + Duration::from_secs(20);
    let mut names = std::collections::BTreeSet::new();
    while names.len() < 12 && std::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        for (path, body) in server.posted.lock().unwrap().iter() {
            let list: Value = serde_json::from_str(body).unwrap();
            assert_eq!(
                (path.as_str(), &list["kind"]),
                ("/events", &json!("EventList"))
            );
            let items = list["items"].as_array().unwrap();
            assert!(items.len() <= 5);
            for item in items {
                names.insert(item["objectRef"]["name"].as_str().unwrap().to_owned());
            }
        }
    }
    assert_eq!(names.len(), 12, "{names:?}");
    let metrics = c.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_audit_error_total{plugin=\"webhook\"} 0"));
}
