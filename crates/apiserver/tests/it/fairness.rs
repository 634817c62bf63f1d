//! Priority and fairness: a flood by one client leaves the others their turn, and objects are
//! honoured.

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{FairnessOptions, User, full_body};
use http::Request;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, answer};

const GROUP: &str = "/apis/flowcontrol.apiserver.k8s.io/v1";

async fn get_as(c: &Cluster, user: &str, path: &str) -> Answer {
    let user = User {
        name: user.to_owned(),
        groups: vec!["system:authenticated".to_owned()],
        ..User::default()
    };
    let request = Request::builder()
        .uri(path)
        .extension(user)
        .body(full_body(""))
        .unwrap();
    answer(c.raw(request).await).await
}

fn schema(name: &str, level: &str, user: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {
        "priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 20,
        "distinguisherMethod": {"type": "ByUser"},
        "rules": [{"subjects": [{"kind": "User", "user": {"name": user}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"],
                "namespaces": ["*"], "clusterScope": true}]}]}})
}

fn dangling(object: &Value) -> &str {
    let condition = &object["status"]["conditions"][0];
    assert_eq!(condition["type"], "Dangling");
    condition["status"].as_str().unwrap()
}

#[tokio::test]
async fn requests_are_sorted_and_told_where_to() {
    let c = Cluster::start().await;
    let uid = |object: &Value| object["metadata"]["uid"].as_str().unwrap().to_owned();
    let level = c
        .get(&format!(
            "{GROUP}/prioritylevelconfigurations/global-default"
        ))
        .await
        .ok();
    let global = c
        .get(&format!("{GROUP}/flowschemas/global-default"))
        .await
        .ok();
    assert_eq!(dangling(&global), "False");
    let asked = get_as(&c, "jane", "/api/v1/nodes").await;
    assert_eq!(
        asked.headers["x-kubernetes-pf-flowschema-uid"],
        uid(&global)
    );
    assert_eq!(
        asked.headers["x-kubernetes-pf-prioritylevel-uid"],
        uid(&level)
    );
    let exempt = c.get(&format!("{GROUP}/flowschemas/exempt")).await;
    let own = exempt.headers["x-kubernetes-pf-flowschema-uid"].clone();
    assert_eq!(own, uid(&exempt.ok()));

    // A schema of one's own counts as soon as it is there, and one that leads nowhere does not.
    let made = c
        .post(
            &format!("{GROUP}/flowschemas"),
            &schema("mine", "nowhere", "jane"),
        )
        .await
        .ok();
    let asked = get_as(&c, "jane", "/api/v1/nodes").await;
    assert_eq!(
        asked.headers["x-kubernetes-pf-flowschema-uid"],
        uid(&global)
    );
    let path = format!("{GROUP}/flowschemas/mine");
    let until = Instant::now() + Duration::from_secs(10);
    let mut seen = made.clone();
    while seen["status"]["conditions"].is_null() && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = c.get(&path).await.ok();
    }
    assert_eq!(dangling(&seen), "True");
    let patch = json!({"spec": {"priorityLevelConfiguration": {"name": "workload-low"}}});
    c.patch(&path, "merge", &patch).await.ok();
    let asked = get_as(&c, "jane", "/api/v1/nodes").await;
    assert_eq!(asked.headers["x-kubernetes-pf-flowschema-uid"], uid(&made));
    let metrics = c.get("/metrics").await.text;
    assert!(metrics.contains("apiserver_flowcontrol_dispatched_requests_total{flow_schema=\"mine\",priority_level=\"workload-low\"} 1"));

    // What must be as it is cannot be changed.
    let patch = json!({"spec": {"matchingPrecedence": 50}});
    let said = c
        .patch(&format!("{GROUP}/flowschemas/catch-all"), "merge", &patch)
        .await
        .refused(422);
    assert!(
        said.contains("spec of 'catch-all' must equal the fixed value"),
        "{said}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_by_one_client_does_not_starve_another() {
    // Few seats, so that a flood fills them.
    let c = Cluster::start_changed(|config| {
        config.fairness = FairnessOptions {
            enabled: true,
            seats: 24,
        };
    })
    .await;
    let c = Arc::new(c);
    let level = json!({"metadata": {"name": "narrow"}, "spec": {"type": "Limited", "limited": {
        "nominalConcurrencyShares": 10, "borrowingLimitPercent": 0,
        "limitResponse": {"type": "Queue",
            "queuing": {"queues": 32, "handSize": 2, "queueLengthLimit": 20}}}}});
    c.post(&format!("{GROUP}/prioritylevelconfigurations"), &level)
        .await
        .ok();
    c.post(
        &format!("{GROUP}/flowschemas"),
        &schema("narrow", "narrow", "*"),
    )
    .await
    .ok();
    let mut many = json!({"metadata": {"name": "large"}, "data": {}});
    many["data"]["key"] = "x".repeat(200_000).into();
    c.post("/api/v1/namespaces/default/configmaps", &many)
        .await
        .ok();

    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..400 {
        let c = c.clone();
        flood.spawn(async move {
            let mut refused = 0;
            for _ in 0..5 {
                let answer = get_as(&c, "flood", "/api/v1/configmaps?limit=500").await;
                refused += u32::from(answer.status == 429);
                if answer.status == 429 {
                    assert_eq!(answer.headers["retry-after"], "1");
                }
            }
            refused
        });
    }
    // The quiet one is served each time (to be told that it may not).
    for _ in 0..20 {
        let answer = get_as(&c, "quiet", "/api/v1/nodes").await;
        assert_eq!(answer.status, 403, "{}", answer.text);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let refused: u32 = flood.join_all().await.into_iter().sum();
    assert!(refused > 0, "the flood fits into its queues");
    let metrics = c.get("/metrics").await.text;
    assert!(metrics.contains("reason=\"queue-full\""), "{metrics}");
    assert!(
        metrics
            .contains("apiserver_flowcontrol_current_executing_seats{priority_level=\"narrow\"} 0")
    );
}
