//! In which form answers come: compressed, for people, in other syntaxes, or not at all.

use std::io::Read as _;

use bytes::Bytes;
use http::{Method, Request};
use http_body_util::BodyExt as _;
use serde_json::json;

use crate::harness::{Cluster, config_map, master};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

struct Raw {
    status: u16,
    encoding: Option<String>,
    content_type: String,
    bytes: Bytes,
}

async fn get(cluster: &Cluster, path: &str, headers: &[(&str, &str)]) -> Raw {
    let mut request = Request::get(path).extension(master());
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let response = cluster
        .raw(request.body(apiserver::full_body("")).unwrap())
        .await;
    let header = |name: &str| {
        let value = response.headers().get(name)?;
        Some(value.to_str().unwrap().to_owned())
    };
    Raw {
        status: response.status().as_u16(),
        encoding: header("content-encoding"),
        content_type: header("content-type").unwrap_or_default(),
        bytes: response.into_body().collect().await.unwrap().to_bytes(),
    }
}

fn unzip(bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    flate2::read::GzDecoder::new(bytes)
        .read_to_end(&mut plain)
        .unwrap();
    plain
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_large_is_compressed_for_who_takes_it() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    // Small enough for one piece at first, then streamed in pieces.
    for (count, name) in [(4, "a"), (30, "b")] {
        for number in 0..count {
            let mut map = config_map(&format!("{name}-{number}"), json!({}));
            map["data"]["key"] = "text ".repeat(10_000).into();
            c.post(MAPS, &map).await.ok();
        }
        let plain = get(&c, MAPS, &[]).await;
        assert_eq!(plain.encoding, None);
        let packed = get(&c, MAPS, &[("accept-encoding", "br, gzip")]).await;
        assert_eq!(packed.encoding.as_deref(), Some("gzip"));
        assert!(packed.bytes.len() < plain.bytes.len() / 10);
        assert_eq!(unzip(&packed.bytes), plain.bytes);
    }
    let small = get(&c, &format!("{MAPS}/a-1"), &[("accept-encoding", "gzip")]).await;
    assert_eq!(small.encoding, None);
    let refused = get(&c, MAPS, &[("accept-encoding", "gzip;q=0.5")]).await;
    assert_eq!(refused.encoding, None, "upstream takes the bare word only");
}

#[tokio::test(flavor = "multi_thread")]
async fn json_for_people() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let path = format!("{MAPS}/a");
    let lines = |raw: &Raw| raw.bytes.iter().filter(|byte| **byte == b'\n').count();
    for (path, agent, pretty) in [
        (path.clone(), "kubectl/v1.36", false),
        (format!("{path}?pretty=true"), "kubectl/v1.36", true),
        (path.clone(), "curl/8.0", true),
        (format!("{path}?pretty=false"), "curl/8.0", false),
        (format!("{path}x?pretty=1"), "kubectl/v1.36", true),
    ] {
        let raw = get(&c, &path, &[("user-agent", agent)]).await;
        assert_eq!(lines(&raw) > 5, pretty, "{path} {agent}");
        serde_json::from_slice::<serde_json::Value>(&raw.bytes).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_are_not_there_are_refused() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let watch = format!("{MAPS}?watch=1&timeoutSeconds=1");
    for (path, accept, status) in [
        (MAPS, "application/yaml", 200),
        (MAPS, "text/plain", 406),
        (watch.as_str(), "application/yaml", 406),
        (
            MAPS,
            "application/json;as=Table;v=v1beta1;g=meta.k8s.io",
            200,
        ),
        (MAPS, "application/json;as=Table;v=v2;g=meta.k8s.io", 406),
        ("/openapi/v2", "text/plain", 406),
    ] {
        let raw = get(&c, path, &[("accept", accept)]).await;
        assert_eq!(raw.status, status, "{path} {accept}");
    }
    let table = "application/json;as=Table;v=v1beta1;g=meta.k8s.io";
    let raw = get(&c, MAPS, &[("accept", table)]).await;
    let table: serde_json::Value = serde_json::from_slice(&raw.bytes).unwrap();
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1beta1");
    // A question has no Table.
    let review = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}}});
    let kind = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let refused = c
        .send_with(
            Method::POST,
            "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
            &[("accept", kind), ("content-type", "application/json")],
            review.to_string().into(),
        )
        .await;
    refused.refused(406);
}

#[tokio::test(flavor = "multi_thread")]
async fn openapi_v2_as_protobuf() {
    let c = Cluster::start().await;
    let old = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let new = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    for accept in [old, new, &format!("{old}, application/json")] {
        let raw = get(&c, "/openapi/v2", &[("accept", accept)]).await;
        assert_eq!(raw.content_type, new);
        assert!(raw.bytes.starts_with(b"\x0a\x032.0"));
        let holds = |text: &str| {
            let bytes = text.as_bytes();
            raw.bytes.windows(bytes.len()).any(|window| window == bytes)
        };
        assert!(holds("io.k8s.api.core.v1.Pod"));
        assert!(holds("x-kubernetes-group-version-kind"));
    }
    let json = get(&c, "/openapi/v2", &[("accept", "application/json")]).await;
    assert_eq!(json.content_type, "application/json");
}
