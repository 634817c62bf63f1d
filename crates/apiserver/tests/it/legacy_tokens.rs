//! Tokens that live in Secrets.

use apiserver::full_body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Request;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, answer};

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// Asks who the bearer of a token is.
async fn whom(c: &Cluster, token: &str) -> Answer {
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let request = Request::post("/apis/authentication.k8s.io/v1/selfsubjectreviews")
        .header("content-type", "application/json")
        .header("authorization", format!("Bearer {token}"))
        .body(full_body(review.to_string()))
        .unwrap();
    answer(c.raw(request).await).await
}

fn today() -> String {
    jiff::Timestamp::now().to_string()[..10].to_owned()
}

async fn secret(c: &Cluster) -> Value {
    c.get(&format!("{NAMESPACE}/secrets/s")).await.ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_is_good_as_long_as_its_secret_holds_it() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let account = c
        .get(&format!("{NAMESPACE}/serviceaccounts/default"))
        .await
        .ok();
    let keys = pki::TokenKeys::load_or_create(&c.dir.path().join("sa.key")).unwrap();
    let claims = |secret: &str, uid: &Value| {
        json!({"iss": "kubernetes/serviceaccount", "sub": "system:serviceaccount:default:default",
            "kubernetes.io/serviceaccount/namespace": "default",
            "kubernetes.io/serviceaccount/secret.name": secret,
            "kubernetes.io/serviceaccount/service-account.name": "default",
            "kubernetes.io/serviceaccount/service-account.uid": uid})
    };
    let token = keys
        .sign(&claims("s", &account["metadata"]["uid"]))
        .unwrap();
    assert_eq!(whom(&c, &token).await.status, 401, "no Secret holds it");
    let of = json!({"kubernetes.io/service-account.name": "default"});
    let path = format!("{NAMESPACE}/secrets");
    c.post(
        &path,
        &json!({"metadata": {"name": "s", "annotations": of}, "data": {"token": STANDARD.encode(&token)},
            "type": "kubernetes.io/service-account-token"}),
    )
    .await
    .ok();

    let before = today();
    let said = whom(&c, &token).await;
    assert!(said.headers.get("warning").is_none());
    let user = said.ok()["status"]["userInfo"].clone();
    assert_eq!(user["username"], "system:serviceaccount:default:default");
    assert_eq!(
        user["groups"],
        json!([
            "system:serviceaccounts",
            "system:serviceaccounts:default",
            "system:authenticated"
        ])
    );
    let used = &secret(&c).await["metadata"]["labels"]["kubernetes.io/legacy-token-last-used"];
    assert!(*used == before || *used == today(), "{used}");
    let revision = secret(&c).await["metadata"]["resourceVersion"].clone();
    whom(&c, &token).await.ok();
    let again = secret(&c).await["metadata"]["resourceVersion"].clone();
    assert_eq!(revision, again, "one write a day");
    let review = c
        .post(
            "/apis/authentication.k8s.io/v1/tokenreviews",
            &json!({"spec": {"token": token}}),
        )
        .await
        .ok();
    assert_eq!(review["status"]["authenticated"], true, "{review}");
    let other = keys.sign(&claims("s", &json!("another"))).unwrap();
    assert_eq!(whom(&c, &other).await.status, 401, "not the same token");

    // One that was made without being asked for is warned of, and may be marked.
    let path = format!("{NAMESPACE}/serviceaccounts/default");
    c.patch(&path, "merge", &json!({"secrets": [{"name": "s"}]}))
        .await
        .ok();
    let said = whom(&c, &token).await;
    let warning = said.headers["warning"].to_str().unwrap();
    assert!(
        warning.contains("instead of auto-generated secret-based tokens"),
        "{warning}"
    );
    let path = format!("{NAMESPACE}/secrets/s");
    let label = |value: Value| json!({"metadata": {"labels": {"kubernetes.io/legacy-token-invalid-since": value}}});
    c.patch(&path, "merge", &label(json!("2026-01-01")))
        .await
        .ok();
    assert_eq!(whom(&c, &token).await.status, 401);
    c.patch(&path, "merge", &label(Value::Null)).await.ok();
    assert_eq!(whom(&c, &token).await.status, 201);
    let metrics = c.get("/metrics").await.text;
    for line in [
        "serviceaccount_legacy_manual_token_uses_total 3",
        "serviceaccount_legacy_auto_token_uses_total 2",
        "serviceaccount_invalid_legacy_auto_token_uses_total 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line}: {metrics}");
    }
    c.delete(&path).await.ok();
    assert_eq!(whom(&c, &token).await.status, 401, "the Secret is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_says_since_when_use_is_tracked() {
    let c = Cluster::start().await;
    let maps = "/api/v1/namespaces/kube-system/configmaps";
    let name = "kube-apiserver-legacy-service-account-token-tracking";
    let path = format!("{maps}/{name}");
    let select = format!("{maps}?watch=1&fieldSelector=metadata.name%3D{name}");
    let mut watch = c.watch(&select).await;
    let before = today();
    let made = watch.next().await.unwrap();
    let since = made["object"]["data"]["since"].clone();
    assert!(since == before || since == today(), "{made}");
    c.patch(&path, "merge", &json!({"data": {"since": "always"}}))
        .await
        .ok();
    assert_eq!(
        watch.next().await.unwrap()["object"]["data"]["since"],
        "always"
    );
    assert_eq!(
        watch.next().await.unwrap()["object"]["data"]["since"],
        since
    );
    // One that was there before stays as it is.
    let old = json!({"data": {"since": "2020-01-01"}});
    c.patch(&path, "merge", &old).await.ok();
    let dir = c.stop().await;
    let c = Cluster::start_in(dir).await;
    assert_eq!(c.get(&path).await.ok()["data"], old["data"]);
}
