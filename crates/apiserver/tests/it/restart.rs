//! What outlives a restart.

use serde_json::json;

use crate::harness::{Cluster, config_map};

#[tokio::test(flavor = "multi_thread")]
async fn what_was_there_is_there_and_nothing_is_written_twice() {
    let c = Cluster::start().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    let made = c.post(maps, &config_map("a", json!({}))).await.ok();
    for namespace in ["default", "kube-system", "kube-public", "kube-node-lease"] {
        c.get(&format!("/api/v1/namespaces/{namespace}")).await.ok();
    }
    c.get("/apis/rbac.authorization.k8s.io/v1/clusterroles/cluster-admin")
        .await
        .ok();
    c.get("/apis/scheduling.k8s.io/v1/priorityclasses/system-node-critical")
        .await
        .ok();
    let slices = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes";
    assert_eq!(
        c.get(slices).await.ok()["endpoints"][0]["addresses"],
        json!(["10.1.2.3"])
    );
    let before = c.store.current();
    let c = Cluster::start_in(c.stop().await).await;
    assert_eq!(c.store.current(), before);
    assert_eq!(c.get(&format!("{maps}/a")).await.ok(), made);
    assert_eq!(c.get("/readyz").await.text, "ok");
}
