//! Bodies, patches, selectors and tokens that nobody should send: right answers, in bounded time.
//!
//! The corpus (`tests/corpus`) is what strangers write when they mean well; it is sent as it is, and
//! then for a fixed time with damage done to it by a generator that starts from the same seed in every
//! run. A finding is saved as one more file of the corpus.

use std::path::Path;
use std::time::{Duration, Instant};

use api::proto;
use bytes::Bytes;
use http::{Method, Request};
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster, answer, config_map, master, pod};

/// How long each sort of input is damaged and sent.
const FOR: Duration = Duration::from_secs(3);
/// The longest that any answer may take, in a debug build on a busy machine.
const LIMIT: Duration = Duration::from_secs(10);
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TARGET: &str = "/api/v1/namespaces/default/configmaps/target";

/// xorshift64: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % (limit.max(1) as u64)).unwrap()
    }
}

/// Pieces that parsers stumble over.
const SPLINTERS: &[&[u8]] = &[
    b"{",
    b"[",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"null",
    b"1e999",
    b"-0",
    b"18446744073709551616",
    b"\xff\xfe",
    b"\xf0\x9f\x98\x80",
    b"\0",
    b"~1",
    b"~2",
    b"/-",
    b"/../",
    b"$patch",
    b"&a",
    b"*a",
    b"!!binary",
    b"<<: *m",
    b"---\n",
    b"%",
    b"(",
    b",",
    b"==",
    b"!",
    b"k8s\0",
    b"\x0a\xff\xff\xff\xff\x0f",
    b"metadata",
    b"\"name\":",
    b"true",
];

fn damage(seed: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=random.below(6) {
        let at = random.below(bytes.len() + 1);
        match random.below(7) {
            0 if !bytes.is_empty() => {
                let at = at.min(bytes.len() - 1);
                bytes[at] ^= 1 << random.below(8);
            }
            1 => bytes.truncate(at),
            2 => {
                let splinter = SPLINTERS[random.below(SPLINTERS.len())];
                bytes.splice(at..at, splinter.iter().copied());
            }
            3 => {
                let end = (at + random.below(40)).min(bytes.len());
                bytes.drain(at..end);
            }
            4 => {
                let end = (at + random.below(60)).min(bytes.len());
                let part = bytes[at..end].to_vec();
                bytes.splice(at..at, part);
            }
            5 => {
                let open = [b'[', b'{', b'('][random.below(3)];
                let many = vec![open; random.below(400)];
                bytes.splice(at..at, many);
            }
            _ => {
                let end = (at + random.below(8)).min(bytes.len());
                let byte = u8::try_from(random.below(256)).unwrap();
                bytes[at..end].fill(byte);
            }
        }
    }
    bytes
}

fn corpus(name: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/corpus")
        .join(name);
    let mut files: Vec<_> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.sort();
    files
        .iter()
        .map(|file| std::fs::read(file).unwrap())
        .collect()
}

/// An answer that came in time and says what it is.
fn judge(answer: &Answer, took: Duration, input: &[u8]) {
    let shown = || String::from_utf8_lossy(input).into_owned();
    assert!(took < LIMIT, "{took:?} for {}", shown());
    if answer.status < 300 {
        return;
    }
    // Upstream answers an applied object that does not fit its type like this, without a reason.
    let untyped = [
        "failed to create typed patch object",
        "failed to convert new typed object",
    ];
    let message = answer.body["message"].as_str().unwrap_or_default();
    if answer.status == 500 && untyped.iter().any(|start| message.starts_with(start)) {
        return;
    }
    assert!(
        (400..500).contains(&answer.status),
        "{} {} for {}",
        answer.status,
        answer.text,
        shown()
    );
    assert_eq!(
        answer.body["kind"],
        "Status",
        "{} for {}",
        answer.text,
        shown()
    );
    assert_eq!(answer.body["code"], answer.status);
    assert_ne!(answer.body["reason"], "", "{}", answer.text);
    assert_ne!(answer.body["message"], "", "{}", answer.text);
}

/// Sends each seed, and then damaged ones for a while.
async fn hammer<F>(seeds: Vec<Vec<u8>>, send: impl Fn(Vec<u8>) -> F)
where
    F: Future<Output = Answer>,
{
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let until = Instant::now() + FOR;
    let mut next = seeds.clone().into_iter();
    while Instant::now() < until {
        let input = match next.next() {
            Some(seed) => seed,
            None => damage(&seeds[random.below(seeds.len())], &mut random),
        };
        let start = Instant::now();
        let answer = send(input.clone()).await;
        judge(&answer, start.elapsed(), &input);
    }
}

/// The server still does its work.
async fn alive(cluster: &Cluster) {
    cluster.get("/readyz").await;
    cluster
        .post(MAPS, &config_map("after", json!({})))
        .await
        .ok();
    let listed = cluster.get(MAPS).await.ok();
    assert!(
        listed["items"]
            .as_array()
            .is_some_and(|items| !items.is_empty())
    );
}

async fn bodies(kind: &str, seeds: Vec<Vec<u8>>, method: Method, path: &str) {
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    cluster
        .post(MAPS, &config_map("target", json!({"a": "b"})))
        .await
        .ok();
    hammer(seeds, |input| {
        cluster.send(method.clone(), path, kind, input.into())
    })
    .await;
    alive(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn json_bodies() {
    bodies(
        "application/json",
        corpus("json"),
        Method::POST,
        "/api/v1/namespaces/default/pods",
    )
    .await;
}

#[tokio::test]
async fn json_bodies_in_the_place_of_an_object() {
    bodies("application/json", corpus("json"), Method::PUT, TARGET).await;
}

#[tokio::test]
async fn yaml_bodies() {
    bodies("application/yaml", corpus("yaml"), Method::POST, MAPS).await;
}

#[tokio::test]
async fn protobuf_bodies() {
    let mut seeds = vec![proto::encode(&pod("x")).unwrap()];
    seeds.push(proto::encode(&config_map("x", json!({"a": "b"}))).unwrap());
    let pods = "/api/v1/namespaces/default/pods";
    bodies(proto::MEDIA_TYPE, seeds, Method::POST, pods).await;
}

#[tokio::test]
async fn json_patches() {
    bodies(
        "application/json-patch+json",
        corpus("json-patch"),
        Method::PATCH,
        TARGET,
    )
    .await;
}

#[tokio::test]
async fn merge_patches() {
    bodies(
        "application/merge-patch+json",
        corpus("merge-patch"),
        Method::PATCH,
        TARGET,
    )
    .await;
}

#[tokio::test]
async fn strategic_patches() {
    let kind = "application/strategic-merge-patch+json";
    bodies(kind, corpus("strategic-patch"), Method::PATCH, TARGET).await;
}

#[tokio::test]
async fn applied_objects() {
    let path = format!("{TARGET}?fieldManager=m");
    bodies(
        "application/apply-patch+yaml",
        corpus("apply"),
        Method::PATCH,
        &path,
    )
    .await;
}

async fn queries(name: &str, query: &str) {
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    for name in ["a", "b", "c"] {
        cluster
            .post(MAPS, &config_map(name, json!({"a": "b"})))
            .await
            .ok();
    }
    hammer(corpus(name), |input| {
        let encoded: String = input.iter().map(|byte| format!("%{byte:02X}")).collect();
        let path = format!("{MAPS}?{query}={encoded}");
        let cluster = &cluster;
        async move { cluster.get(&path).await }
    })
    .await;
    alive(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn label_selectors() {
    queries("label-selectors", "labelSelector").await;
}

#[tokio::test]
async fn field_selectors() {
    queries("field-selectors", "fieldSelector").await;
}

#[tokio::test]
async fn continue_tokens() {
    queries("tokens", "limit=1&continue").await;
}

/// A token is no way to what the list may not show.
#[tokio::test]
async fn a_token_does_not_leave_its_list() {
    use base64::Engine as _;
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    cluster.namespace("other").await;
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"k": "hidden"}});
    cluster
        .post("/api/v1/namespaces/other/secrets", &secret)
        .await
        .ok();
    cluster
        .post(
            "/api/v1/namespaces/other/configmaps",
            &config_map("m", json!({})),
        )
        .await
        .ok();
    for start in [
        "",
        "../",
        "../../secrets/",
        "kube-system/",
        "default/",
        "zzz/",
        "other/",
    ] {
        for revision in [-1, 1, 1_000_000] {
            let token =
                json!({"v": "meta.k8s.io/v1", "rv": revision, "start": format!("{start}\0")});
            let token = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token.to_string());
            let answer = cluster
                .get(&format!("{MAPS}?limit=500&continue={token}"))
                .await;
            assert!(!answer.text.contains("hidden"), "{start}");
            let items = answer.body["items"].as_array().cloned().unwrap_or_default();
            for item in items {
                assert_eq!(
                    item["metadata"]["namespace"], "default",
                    "{start} {revision}"
                );
            }
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn three_megabytes_are_enough() {
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    cluster
        .post(MAPS, &config_map("target", json!({})))
        .await
        .ok();
    let body = |size: usize| {
        let mut text = config_map("big", json!({})).to_string();
        text.truncate(text.len() - 1);
        let room = size - text.len() - r#","x":""}"#.len();
        Bytes::from(format!(r#"{text},"x":"{}"}}"#, "y".repeat(room)))
    };
    let most = 3 << 20;
    // The most that is read at all; the store has a word about what is kept.
    let fits = cluster
        .send(Method::POST, MAPS, "application/json", body(most))
        .await;
    assert_ne!(fits.text, "", "read");
    for (method, path, kind) in [
        (Method::POST, MAPS, "application/json"),
        (Method::POST, MAPS, "application/yaml"),
        (Method::POST, MAPS, proto::MEDIA_TYPE),
        (Method::PUT, TARGET, "application/json"),
        (Method::PATCH, TARGET, "application/merge-patch+json"),
        (Method::PATCH, TARGET, "application/json-patch+json"),
        (
            Method::PATCH,
            TARGET,
            "application/strategic-merge-patch+json",
        ),
        (Method::DELETE, TARGET, "application/json"),
    ] {
        let refused = cluster.send(method, path, kind, body(most + 1)).await;
        assert_eq!(
            refused.refused(413),
            "Request entity too large: limit is 3145728",
            "{kind}"
        );
    }
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_nested_without_end_is_refused() {
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    cluster
        .post(MAPS, &config_map("target", json!({})))
        .await
        .ok();
    let deep = |open: &str, close: &str| {
        let levels = 200_000;
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    };
    for nest in [deep("[", "]"), deep(r#"{"a":"#, "}")] {
        for (method, path, kind, body) in [
            (Method::POST, MAPS, "application/json", nest.clone()),
            (
                Method::POST,
                MAPS,
                "application/json",
                format!(r#"{{"metadata":{{"name":"x"}},"y":{nest}}}"#),
            ),
            (Method::POST, MAPS, "application/yaml", nest.clone()),
            (
                Method::PATCH,
                TARGET,
                "application/merge-patch+json",
                format!(r#"{{"data":{nest}}}"#),
            ),
            (
                Method::PATCH,
                TARGET,
                "application/strategic-merge-patch+json",
                format!(r#"{{"data":{nest}}}"#),
            ),
            (
                Method::PATCH,
                TARGET,
                "application/json-patch+json",
                format!(r#"[{{"op":"add","path":"/data","value":{nest}}}]"#),
            ),
        ] {
            let start = Instant::now();
            let answer = cluster.send(method, path, kind, body.into()).await;
            judge(&answer, start.elapsed(), kind.as_bytes());
            assert!(answer.status >= 400, "{kind}: {}", answer.status);
        }
    }
    alive(&cluster).await;
    cluster.stop().await;
}

#[tokio::test]
async fn bodies_that_are_not_what_they_say() {
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    cluster
        .post(MAPS, &config_map("target", json!({})))
        .await
        .ok();
    let send = |method: Method, kind: &'static str, body: Vec<u8>| {
        let path = if method == Method::POST { MAPS } else { TARGET };
        cluster.send(method, path, kind, body.into())
    };
    let cases: &[(Method, &'static str, &[u8], u16)] = &[
        (Method::POST, "application/json", b"", 400),
        (Method::POST, "application/json", b"kind: ConfigMap", 400),
        (Method::POST, "application/json", b"[]", 400),
        (Method::POST, "application/json", b"null", 400),
        (
            Method::POST,
            "application/json",
            br#"{"kind":"Pod","apiVersion":"v1"}"#,
            400,
        ),
        (
            Method::POST,
            "application/json",
            br#"{"metadata":{"name":"x"}} x"#,
            400,
        ),
        (
            Method::POST,
            "application/json",
            b"{\"metadata\":{\"name\":\"\xff\"}}",
            400,
        ),
        (Method::POST, "application/yaml", b"\t", 400),
        (Method::POST, "application/yaml", b"a: b: c", 400),
        (Method::POST, proto::MEDIA_TYPE, b"{}", 400),
        (Method::POST, proto::MEDIA_TYPE, b"k8s\0\x0a\xff", 400),
        (
            Method::POST,
            "application/vnd.kubernetes.cbor",
            b"\xa0",
            415,
        ),
        (Method::POST, "text/plain", b"{}", 415),
        (Method::POST, "multipart/form-data", b"{}", 415),
        (Method::PATCH, "application/json", b"{}", 415),
        (Method::PATCH, "application/yaml", b"{}", 415),
        (Method::PATCH, "application/json-patch+json", b"{}", 400),
        (Method::PATCH, "application/merge-patch+json", b"[]", 400),
        (
            Method::PATCH,
            "application/strategic-merge-patch+json",
            b"1",
            400,
        ),
    ];
    for (method, kind, body, status) in cases {
        let answer = send(method.clone(), kind, body.to_vec()).await;
        let shown = String::from_utf8_lossy(body).into_owned();
        assert_eq!(answer.status, *status, "{kind} {shown}: {}", answer.text);
        assert_eq!(
            answer.body["kind"], "Status",
            "{kind} {shown}: {}",
            answer.text
        );
    }
    cluster.stop().await;
}

/// What no client can be refused early: many hostile requests at once, beside a good one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_bad_bodies_stops_nobody() {
    let cluster = Cluster::start().await;
    cluster.namespace("default").await;
    let server = cluster.server.clone();
    let flood = tokio::spawn(async move {
        let bad: Vec<Bytes> = vec![
            Bytes::from("[".repeat(1 << 20)),
            Bytes::from(vec![0xff; 1 << 20]),
            Bytes::from(corpus("yaml").remove(0)),
        ];
        for turn in 0..60 {
            let requests = (0..8).map(|at| {
                let request = Request::post(MAPS)
                    .header("content-type", "application/yaml")
                    .extension(master())
                    .body(apiserver::full_body(bad[(turn + at) % bad.len()].clone()))
                    .unwrap();
                server.handle(request)
            });
            for response in futures::future::join_all(requests).await {
                assert!(response.status().is_client_error());
                answer(response).await;
            }
        }
    });
    let mut slowest = Duration::ZERO;
    let mut number = 0;
    while !flood.is_finished() {
        let start = Instant::now();
        number += 1;
        let made: Value = cluster
            .post(MAPS, &config_map(&format!("good-{number}"), json!({})))
            .await
            .ok();
        assert_eq!(made["kind"], "ConfigMap");
        slowest = slowest.max(start.elapsed());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    flood.await.unwrap();
    assert!(slowest < Duration::from_secs(5), "{slowest:?}");
    cluster.stop().await;
}
