//! What discovery and OpenAPI answer.

use bytes::Bytes;
use http::Method;
use serde_json::json;

use crate::harness::Cluster;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_served_is_told() {
    let c = Cluster::start().await;
    assert_eq!(c.get("/api").await.ok()["versions"], json!(["v1"]));
    assert_eq!(c.get("/apis").await.ok()["kind"], "APIGroupList");
    assert_eq!(c.get("/apis/apps").await.ok()["kind"], "APIGroup");
    assert_eq!(c.get("/apis/apps/v1").await.ok()["kind"], "APIResourceList");
    let accept =
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for path in ["/api", "/apis"] {
        let answer = c
            .send_with(Method::GET, path, &[("accept", accept)], Bytes::new())
            .await;
        let kind = answer.headers["content-type"].to_str().unwrap().to_owned();
        assert!(kind.contains("as=APIGroupDiscoveryList"), "{kind}");
        let tag = answer.headers["etag"].to_str().unwrap().to_owned();
        assert_eq!(answer.ok()["kind"], "APIGroupDiscoveryList");
        let headers = [("accept", accept), ("if-none-match", tag.as_str())];
        let again = c.send_with(Method::GET, path, &headers, Bytes::new()).await;
        assert_eq!(again.status, 304);
    }
    let index = c.get("/openapi/v3").await.ok();
    let url = index["paths"]["apis/apps/v1"]["serverRelativeURL"]
        .as_str()
        .unwrap()
        .to_owned();
    let document = c.get(&url).await;
    assert!(
        document.headers["cache-control"]
            .to_str()
            .unwrap()
            .contains("immutable")
    );
    assert!(document.ok()["openapi"].as_str().unwrap().starts_with('3'));
    assert_eq!(c.get("/openapi/v2").await.ok()["swagger"], "2.0");
    let unknown = c.get("/apis/nothing/v1").await;
    assert_eq!(
        (unknown.status, unknown.text.trim()),
        (404, "404 page not found")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_version_metrics() {
    let c = Cluster::start().await;
    assert_eq!(c.get("/livez").await.text, "ok");
    let verbose = c.get("/readyz?verbose").await.text;
    assert!(verbose.contains("[+]bootstrap ok") && verbose.ends_with("readyz check passed\n"));
    assert_eq!(c.get("/readyz/ping").await.text, "ok");
    let version = c.get("/version").await.ok();
    assert!(
        version["gitVersion"]
            .as_str()
            .unwrap()
            .starts_with("v1.36.2+knarr")
    );
    c.get("/api/v1/pods").await.ok();
    let metrics = c.get("/metrics").await.text;
    assert!(
        metrics.contains("apiserver_request_total{code=\"200\""),
        "{metrics}"
    );
    for line in [
        "apiserver_request_duration_seconds_count{",
        "apiserver_storage_size_bytes{storage_cluster_id=\"sqlite\"} ",
        "knarr_store_commit_duration_seconds_bucket{le=\"+Inf\"} ",
        "knarr_store_commit_transactions_sum ",
        "knarr_store_queue_duration_seconds_sum ",
        "knarr_store_wal_bytes ",
        "knarr_store_subscriptions 1\n",
        "knarr_store_subscriptions_lagged_total 0\n",
    ] {
        assert!(metrics.contains(line), "{line} in {metrics}");
    }
    let keys = c.get("/openid/v1/jwks").await.ok();
    assert_eq!(keys["keys"][0]["alg"], "ES256");
    let issuer = c.get("/.well-known/openid-configuration").await.ok();
    assert_eq!(
        issuer["issuer"],
        "https://kubernetes.default.svc.cluster.local"
    );
}
