//! Reads: lists, selectors, pages, Tables.

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, pod};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn names(list: &Value) -> Vec<String> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

async fn five() -> Cluster {
    let c = Cluster::start().await;
    for i in 0..5 {
        let labels = json!({"n": i.to_string(), "side": if i < 2 { "left" } else { "right" }});
        c.post(MAPS, &config_map(&format!("m{i}"), labels))
            .await
            .ok();
    }
    c
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors() {
    let c = five().await;
    for (query, wanted) in [
        ("labelSelector=side%3Dleft", "m0 m1"),
        ("labelSelector=side+in+(right),n!%3D3", "m2 m4"),
        ("labelSelector=!side", ""),
        ("fieldSelector=metadata.name%3Dm3", "m3"),
        (
            "fieldSelector=metadata.name!%3Dm3&labelSelector=side%3Dright",
            "m2 m4",
        ),
    ] {
        let list = c.get(&format!("{MAPS}?{query}")).await.ok();
        assert_eq!(names(&list).join(" "), wanted, "{query}");
    }
    c.get(&format!("{MAPS}?labelSelector=a+b+c"))
        .await
        .refused(400);
    let unknown = c
        .get(&format!("{MAPS}?fieldSelector=spec.x%3Dy"))
        .await
        .refused(400);
    assert!(
        unknown.contains("\"spec.x\" is not a known field selector"),
        "{unknown}"
    );

    c.namespace("default").await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut placed = pod("placed");
    placed["spec"]["nodeName"] = json!("n1");
    c.post(pods, &placed).await.ok();
    c.post(pods, &pod("free")).await.ok();
    let on_node = c
        .get("/api/v1/pods?fieldSelector=spec.nodeName%3Dn1")
        .await
        .ok();
    assert_eq!(names(&on_node), ["placed"]);
    let pending = "/api/v1/pods?fieldSelector=status.phase%3DPending,spec.nodeName%3D";
    assert_eq!(names(&c.get(pending).await.ok()), ["free"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_of_one_revision() {
    let c = five().await;
    let first = c.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["m0", "m1"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    let token = first["metadata"]["continue"].as_str().unwrap().to_owned();
    // What happens between two pages is not in them.
    c.post(MAPS, &config_map("m22", json!({}))).await.ok();
    c.delete(&format!("{MAPS}/m3")).await.ok();
    let second = c
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&second), ["m2", "m3"]);
    assert_eq!(
        second["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    let token = second["metadata"]["continue"].as_str().unwrap().to_owned();
    let third = c
        .get(&format!("{MAPS}?limit=2&continue={token}"))
        .await
        .ok();
    assert_eq!(names(&third), ["m4"]);
    assert!(third["metadata"].get("continue").is_none());

    // Once the history is gone, the client is told how to go on.
    c.store.compact(c.store.current()).await.unwrap();
    let expired = c.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(
        (expired.status, &expired.body["reason"]),
        (410, &json!("Expired"))
    );
    let fresh = expired.body["metadata"]["continue"]
        .as_str()
        .unwrap()
        .to_owned();
    let rest = c
        .get(&format!("{MAPS}?limit=2&continue={fresh}"))
        .await
        .ok();
    assert_eq!(names(&rest), ["m4"]);
    c.get(&format!("{MAPS}?continue=rubbish"))
        .await
        .refused(400);
}

#[tokio::test(flavor = "multi_thread")]
async fn revisions() {
    let c = five().await;
    let list = c.get(MAPS).await.ok();
    let now: u64 = list["metadata"]["resourceVersion"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    assert_eq!(now, c.store.current().0);
    c.delete(&format!("{MAPS}/m0")).await.ok();
    let then = c
        .get(&format!(
            "{MAPS}?resourceVersion={now}&resourceVersionMatch=Exact"
        ))
        .await
        .ok();
    assert_eq!(names(&then).len(), 5);
    assert_eq!(then["metadata"]["resourceVersion"], now.to_string());
    let newer = c
        .get(&format!(
            "{MAPS}?resourceVersion={now}&resourceVersionMatch=NotOlderThan"
        ))
        .await;
    assert_eq!(names(&newer.ok()).len(), 4);
    assert_eq!(
        names(
            &c.get(&format!("{MAPS}?resourceVersion=0&limit=1"))
                .await
                .ok()
        )
        .len(),
        4
    );
    let future = c
        .get(&format!("{MAPS}?resourceVersion={}", now + 1000))
        .await
        .refused(504);
    assert!(future.contains("Too large resource version"), "{future}");
    c.get(&format!("{MAPS}?resourceVersionMatch=Exact"))
        .await
        .refused(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms() {
    let c = five().await;
    let with = async |path: &str, accept: &str| {
        c.send_with(Method::GET, path, &[("accept", accept)], Bytes::new())
            .await
    };
    let table = with(
        MAPS,
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
    )
    .await
    .ok();
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["columnDefinitions"][0]["name"], "Name");
    assert_eq!(table["rows"].as_array().unwrap().len(), 5);
    assert_eq!(table["rows"][0]["cells"][0], "m0");
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let list = with(MAPS, partial).await.ok();
    assert_eq!(list["kind"], "PartialObjectMetadataList");
    assert_eq!(list["items"][0]["metadata"]["name"], "m0");
    assert!(list["items"][0].get("data").is_none());
    let one = format!("{MAPS}/m0");
    let partial = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
    assert_eq!(
        with(&one, partial).await.ok()["kind"],
        "PartialObjectMetadata"
    );
    with(&one, "application/cbor").await.refused(406);
    with(&one, "application/cbor,application/json").await.ok();
    let yaml = with(&one, "application/yaml").await;
    assert_eq!(yaml.headers["content-type"], "application/yaml");
    assert!(yaml.text.contains("  name: m0\n"), "{}", yaml.text);
}
