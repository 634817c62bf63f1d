//! What watchers see.

use serde_json::json;
use store::Store;

use crate::harness::{Cluster, config_map};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn changes_in_order() {
    let c = Cluster::start().await;
    c.post(MAPS, &config_map("old", json!({}))).await.ok();
    let mut all = c.watch(&format!("{MAPS}?watch=1")).await;
    assert_eq!(all.short().await, "ADDED old");
    let list = c.get(MAPS).await.ok();
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap();
    let mut since = c
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    let made = c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let event = since.next().await.unwrap();
    assert_eq!((&event["type"], &event["object"]), (&json!("ADDED"), &made));
    assert_eq!(all.short().await, "ADDED a");
    let a = format!("{MAPS}/a");
    let changed = c
        .patch(&a, "merge", &json!({"data": {"x": "y"}}))
        .await
        .ok();
    let event = since.next().await.unwrap();
    assert_eq!(
        (&event["type"], &event["object"]),
        (&json!("MODIFIED"), &changed)
    );
    c.delete(&a).await.ok();
    let event = since.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(event["object"]["data"]["x"], "y");
    let gone: u64 = event["object"]["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(gone, c.store.current().0);
    // Others see nothing of it.
    c.post(
        "/api/v1/namespaces/kube-system/configmaps",
        &config_map("b", json!({})),
    )
    .await
    .ok();
    c.post(MAPS, &config_map("c", json!({}))).await.ok();
    assert_eq!(since.short().await, "ADDED c");
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_turn_changes_into_other_changes() {
    let c = Cluster::start().await;
    c.post(MAPS, &config_map("a", json!({"on": "no"})))
        .await
        .ok();
    let mut watch = c
        .watch(&format!("{MAPS}?watch=1&labelSelector=on%3Dyes"))
        .await;
    let set = async |value: &str| {
        let patch = json!({"metadata": {"labels": {"on": value}}});
        c.patch(&format!("{MAPS}/a"), "merge", &patch).await.ok()
    };
    set("yes").await;
    assert_eq!(watch.short().await, "ADDED a");
    let left = set("no").await;
    let event = watch.next().await.unwrap();
    assert_eq!(event["type"], "DELETED");
    assert_eq!(
        event["object"]["metadata"]["labels"]["on"], "yes",
        "the old object"
    );
    assert_eq!(
        event["object"]["metadata"]["resourceVersion"], left["metadata"]["resourceVersion"],
        "the new revision"
    );
    set("yes").await;
    assert_eq!(watch.short().await, "ADDED a");
    c.delete(&format!("{MAPS}/a")).await.ok();
    assert_eq!(watch.short().await, "DELETED a");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_watch_list() {
    let c = Cluster::start().await;
    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let query =
        "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    let mut watch = c.watch(&format!("{MAPS}?{query}")).await;
    assert_eq!(watch.short().await, "ADDED a");
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(mark["object"]["kind"], "ConfigMap");
    assert_eq!(
        mark["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        mark["object"]["metadata"]["resourceVersion"],
        c.store.current().to_string()
    );
    c.post(MAPS, &config_map("b", json!({}))).await.ok();
    assert_eq!(watch.short().await, "ADDED b");
    c.get(&format!("{MAPS}?watch=1&sendInitialEvents=true"))
        .await
        .refused(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn ends_with_a_bookmark_at_its_time() {
    let c = Cluster::start().await;
    let query = "watch=1&timeoutSeconds=1&allowWatchBookmarks=true&resourceVersion=";
    let revision = c.store.current();
    let mut watch = c.watch(&format!("{MAPS}?{query}{revision}")).await;
    c.post(
        "/api/v1/namespaces/kube-system/configmaps",
        &config_map("b", json!({})),
    )
    .await
    .ok();
    let mark = watch.next().await.unwrap();
    assert_eq!(mark["type"], "BOOKMARK");
    assert_eq!(
        mark["object"]["metadata"]["resourceVersion"],
        c.store.current().to_string()
    );
    assert!(watch.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn history_before_the_ring_and_no_history() {
    let c = Cluster::start().await;
    let start = c.store.current();
    c.post(MAPS, &config_map("a", json!({"x": "1"}))).await.ok();
    c.patch(
        &format!("{MAPS}/a"),
        "merge",
        &json!({"metadata": {"labels": {"x": "2"}}}),
    )
    .await
    .ok();
    c.delete(&format!("{MAPS}/a")).await.ok();
    // Another server over the same history: its rings are empty.
    let c = Cluster::start_in(c.stop().await).await;
    let mut watch = c
        .watch(&format!("{MAPS}?watch=1&resourceVersion={start}"))
        .await;
    assert_eq!(watch.short().await, "ADDED a");
    assert_eq!(watch.short().await, "MODIFIED a");
    assert_eq!(watch.short().await, "DELETED a");
    c.post(MAPS, &config_map("b", json!({}))).await.ok();
    assert_eq!(watch.short().await, "ADDED b");
    c.post(MAPS, &config_map("c", json!({}))).await.ok();
    assert_eq!(watch.short().await, "ADDED c");
    let mut left = c
        .watch(&format!(
            "{MAPS}?watch=1&labelSelector=x%3D1&resourceVersion={start}"
        ))
        .await;
    assert_eq!(left.short().await, "ADDED a");
    assert_eq!(left.short().await, "DELETED a");

    c.store.compact(c.store.current()).await.unwrap();
    let mut late = c
        .watch(&format!("{MAPS}?watch=1&resourceVersion={start}"))
        .await;
    let event = late.next().await.unwrap();
    assert_eq!(event["type"], "ERROR");
    assert_eq!(
        (&event["object"]["code"], &event["object"]["reason"]),
        (&json!(410), &json!("Expired"))
    );
    assert!(late.next().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_of_a_burst_sees_all_of_it() {
    let c = Cluster::start().await;
    let revision = c.store.current();
    let mut watches = Vec::new();
    for _ in 0..10 {
        watches.push(
            c.watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
                .await,
        );
    }
    let writes = (0..300).map(|i| {
        let c = &c;
        async move {
            c.post(MAPS, &config_map(&format!("m{i}"), json!({})))
                .await
                .ok()
        }
    });
    futures::future::join_all(writes).await;
    for watch in &mut watches {
        let mut last = revision.0;
        for _ in 0..300 {
            let event = watch.next().await.unwrap();
            let at = event["object"]["metadata"]["resourceVersion"]
                .as_str()
                .unwrap()
                .parse()
                .unwrap();
            assert!(at > last);
            last = at;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watcher_that_falls_off_the_ring_reads_on_from_the_history() {
    const CHANGES: usize = 1500;
    let c = Cluster::start().await;
    let revision = c.store.current();
    let mut slow = c
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    let writes = (0..CHANGES).map(|i| {
        let c = &c;
        async move {
            c.post(MAPS, &config_map(&format!("m{i}"), json!({})))
                .await
                .ok()
        }
    });
    futures::future::join_all(writes).await;
    let mut last = revision.0;
    for _ in 0..CHANGES {
        let event = slow.next().await.unwrap();
        assert_eq!(event["type"], "ADDED");
        let at: u64 = event["object"]["metadata"]["resourceVersion"]
            .as_str()
            .unwrap()
            .parse()
            .unwrap();
        assert!(at > last, "{at} after {last}");
        last = at;
    }
    c.post(MAPS, &config_map("after", json!({}))).await.ok();
    assert_eq!(slow.short().await, "ADDED after");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cache_that_lost_events_loads_anew_and_watches_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let options = store::Options {
        subscription_limit_bytes: 16 << 10,
        ..store::Options::default()
    };
    let store = Store::open(&dir.path().join("state.db"), options)
        .await
        .unwrap();
    let c = Cluster::start_over(store, dir, "10.1.2.3:6443").await;
    c.post(MAPS, &config_map("before", json!({}))).await.ok();
    let revision = c.store.current();
    let mut watch = c
        .watch(&format!("{MAPS}?watch=1&resourceVersion={revision}"))
        .await;
    let lost = || c.store.metrics().lagged;
    let before = lost();
    // One event that is larger than the queue: the cache never sees it as an event.
    let mut large = config_map("large", json!({}));
    large["data"]["key"] = "x".repeat(20 << 10).into();
    c.post(MAPS, &large).await.ok();
    assert_eq!(lost(), before + 1, "the cache was cut off");
    c.delete(&format!("{MAPS}/before")).await.ok();
    c.post(MAPS, &config_map("after", json!({}))).await.ok();
    assert_eq!(watch.short().await, "ADDED large");
    assert_eq!(watch.short().await, "DELETED before");
    assert_eq!(watch.short().await, "ADDED after");
    let list = c.get(MAPS).await.ok();
    let names: Vec<_> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|o| &o["metadata"]["name"])
        .collect();
    assert_eq!(names, ["after", "large"]);
    assert_eq!(c.get("/readyz").await.text, "ok");
}

/// Events end by the store's own time to live; what they hold until then is an hour.
#[tokio::test(flavor = "multi_thread")]
async fn events_have_an_hour_to_live() {
    let c = Cluster::start().await;
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"namespace": "default"},
        "reason": "Tested", "message": "m", "type": "Normal"});
    c.post("/api/v1/namespaces/default/events", &event)
        .await
        .ok();
    let entry = c
        .store
        .get("/registry/core/events/default/e")
        .await
        .unwrap()
        .unwrap();
    let left = entry
        .expires
        .unwrap()
        .duration_since(std::time::SystemTime::now())
        .unwrap();
    assert!(left.as_secs() > 3500 && left.as_secs() <= 3600, "{left:?}");
    c.post(MAPS, &config_map("kept", json!({}))).await.ok();
    let entry = c
        .store
        .get("/registry/core/configmaps/default/kept")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(entry.expires, None);
}
