//! Tests of `token`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::HashMap;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;

use serde::Deserialize as _;

use super::super::claims::{Claims, ClaimsError};
use super::super::live::Live;
use super::*;

/// Objects by kind, namespace and name.
#[derive(Default)]
struct Objects(HashMap<(BoundKind, String, String), Value>);

impl Objects {
    fn put(&mut self, kind: BoundKind, object: Value) {
        let text = |field: &str| {
            object["metadata"][field]
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        self.0
            .insert((kind, text("namespace"), text("name")), object);
    }
}

impl LiveLookup for Objects {
    fn live(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<Live> {
        let metadata = &self.object(kind, namespace, name)?["metadata"];
        let deleted = metadata["deletionTimestamp"]
            .as_str()
            .map(|text| text.parse().unwrap());
        Some(Live {
            uid: metadata["uid"].as_str().unwrap().to_owned(),
            deleted,
        })
    }

    fn object(&self, kind: BoundKind, namespace: &str, name: &str) -> Option<Value> {
        self.0
            .get(&(kind, namespace.to_owned(), name.to_owned()))
            .cloned()
    }
}

fn objects() -> Objects {
    let mut objects = Objects::default();
    let meta = |name: &str, uid: &str| json!({"name": name, "namespace": "dev", "uid": uid});
    objects.put(
        BoundKind::ServiceAccount,
        json!({"metadata": meta("robot", "u-sa")}),
    );
    let spec = json!({"serviceAccountName": "robot", "nodeName": "n1"});
    objects.put(
        BoundKind::Pod,
        json!({"metadata": meta("web", "u-pod"), "spec": spec}),
    );
    let spec = json!({"serviceAccountName": "other"});
    objects.put(
        BoundKind::Pod,
        json!({"metadata": meta("strange", "u-pod2"), "spec": spec}),
    );
    objects.put(
        BoundKind::Secret,
        json!({"metadata": meta("s", "u-secret")}),
    );
    objects.put(
        BoundKind::Node,
        json!({"metadata": {"name": "n1", "uid": "u-node"}}),
    );
    objects
}

struct Fixture {
    keys: pki::TokenKeys,
    audiences: Vec<String>,
    now: Timestamp,
    _folder: tempfile::TempDir,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let keys = pki::TokenKeys::load_or_create(&folder.path().join("key")).unwrap();
        let now = "2026-01-02T03:04:05.678Z".parse().unwrap();
        Self {
            keys,
            audiences: vec!["https://api".into(), "api".into()],
            now,
            _folder: folder,
        }
    }

    fn issue(&self, objects: &Objects, spec: Value) -> Result<Value, ApiError> {
        let (keys, audiences) = (&self.keys, &self.audiences);
        let issuer = Issuer {
            keys,
            issuer: "https://api",
            audiences,
            lookup: objects,
        };
        issuer.issue("dev", "robot", json!({"spec": spec}), self.now)
    }

    fn claims(&self, request: &Value) -> Value {
        let token = request["status"]["token"].as_str().unwrap();
        let claims = BASE64.decode(token.split('.').nth(1).unwrap()).unwrap();
        let mut claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(self.keys.verify(token).unwrap(), claims);
        assert_eq!(claims["jti"].take().as_str().unwrap().len(), 36);
        claims
    }
}

#[test]
fn claims_are_as_upstream_writes_them() {
    let fixture = Fixture::new();
    let start = 1_767_323_045;
    let answer = fixture.issue(&objects(), json!({})).unwrap();
    assert_eq!(
        fixture.claims(&answer),
        json!({
            "aud": ["https://api", "api"], "exp": start + 3600, "iat": start, "nbf": start,
            "iss": "https://api", "jti": null, "sub": "system:serviceaccount:dev:robot",
            "kubernetes.io": {"namespace": "dev", "serviceaccount": {"name": "robot", "uid": "u-sa"}},
        })
    );
    assert_eq!(
        answer["status"]["expirationTimestamp"],
        "2026-01-02T04:04:05Z"
    );
    assert_eq!(
        answer["spec"],
        json!({"audiences": ["https://api", "api"], "expirationSeconds": 3600})
    );

    // A projected volume's token.
    let bound = json!({"kind": "Pod", "apiVersion": "v1", "name": "web", "uid": "u-pod"});
    let spec = json!({"boundObjectRef": bound, "expirationSeconds": 3607});
    let answer = fixture.issue(&objects(), spec.clone()).unwrap();
    let claims = fixture.claims(&answer);
    assert_eq!(
        claims["kubernetes.io"],
        json!({
            "namespace": "dev",
            "node": {"name": "n1", "uid": "u-node"},
            "pod": {"name": "web", "uid": "u-pod"},
            "serviceaccount": {"name": "robot", "uid": "u-sa"},
            "warnafter": start + 3607,
        })
    );
    assert_eq!(claims["exp"], json!(start + 365 * 86400));
    assert_eq!(
        answer["status"]["expirationTimestamp"], "2026-01-02T04:04:12Z",
        "when to renew"
    );
    let mut elsewhere = spec;
    elsewhere["audiences"] = json!(["vault"]);
    let claims = fixture.claims(&fixture.issue(&objects(), elsewhere).unwrap());
    assert_eq!(
        (&claims["aud"], &claims["exp"]),
        (&json!(["vault"]), &json!(start + 3607))
    );
}

#[test]
fn requests_that_cannot_be_are_refused_in_upstreams_words() {
    let fixture = Fixture::new();
    let bound = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name, "uid": uid}});
    let table = [
        (
            json!({"expirationSeconds": 599}),
            422,
            "may not specify a duration less than 10 minutes",
        ),
        (
            json!({"expirationSeconds": 1_i64 << 33}),
            422,
            "larger than 2^32 seconds",
        ),
        (json!({"expirationSeconds": "9"}), 422, "whole number"),
        (bound("Pod", "none", ""), 404, r#"pods "none" not found"#),
        (
            bound("Pod", "strange", ""),
            400,
            r#"cannot bind token for serviceaccount "robot" to pod running with different serviceaccount name."#,
        ),
        (
            bound("Pod", "web", "old"),
            409,
            "the UID in the bound object reference (old) does not match",
        ),
        (
            bound("ConfigMap", "c", ""),
            400,
            "cannot bind token to object of type /v1, Kind=ConfigMap",
        ),
        (json!(7), 400, "not a TokenRequest"),
    ];
    for (spec, code, words) in table {
        let error = fixture.issue(&objects(), spec.clone()).unwrap_err();
        assert_eq!(error.code, code, "{spec}: {}", error.message);
        assert!(error.message.contains(words), "{spec}: {}", error.message);
    }
    let none = fixture.issue(&Objects::default(), json!({})).unwrap_err();
    assert_eq!(none.message, r#"serviceaccounts "robot" not found"#);
}

#[test]
fn a_token_lives_no_longer_than_what_it_is_bound_to() {
    let fixture = Fixture::new();
    let bound = |kind: &str, name: &str| json!({"boundObjectRef": {"kind": kind, "apiVersion": "v1", "name": name}});
    let claims = |spec: Value| -> Claims {
        let answer = fixture.issue(&objects(), spec).unwrap();
        Claims::deserialize(
            fixture
                .keys
                .verify(answer["status"]["token"].as_str().unwrap())
                .unwrap(),
        )
        .unwrap()
    };
    let (plain, pod) = (claims(json!({})), claims(bound("Pod", "web")));
    let (secret, node) = (claims(bound("Secret", "s")), claims(bound("Node", "n1")));
    let at = |seconds: i64| fixture.now + SignedDuration::from_secs(seconds);
    let user = pod.check(&objects(), at(5)).unwrap();
    assert_eq!(user.name, "system:serviceaccount:dev:robot");
    assert_eq!(user.uid, "u-sa");
    assert_eq!(
        user.groups,
        [
            "system:serviceaccounts",
            "system:serviceaccounts:dev",
            "system:authenticated"
        ]
    );
    let extra = |key: &str| user.extra[&format!("authentication.kubernetes.io/{key}")].join(",");
    assert_eq!(
        (extra("pod-name"), extra("pod-uid")),
        ("web".into(), "u-pod".into())
    );
    assert_eq!(
        (extra("node-name"), extra("node-uid")),
        ("n1".into(), "u-node".into())
    );
    assert_eq!(extra("credential-id"), format!("JTI={}", pod.jti));

    assert_eq!(
        plain.check(&objects(), at(3600 + 59)).map(|user| user.uid),
        Ok("u-sa".into())
    );
    assert_eq!(
        plain.check(&objects(), at(3600 + 61)),
        Err(ClaimsError::Expired)
    );
    assert_eq!(plain.check(&objects(), at(-62)), Err(ClaimsError::NotYet));

    // Each object removed, replaced, or deleted for longer than a minute.
    let cases = [
        (&plain, BoundKind::ServiceAccount, "dev", "robot"),
        (&pod, BoundKind::Pod, "dev", "web"),
        (&secret, BoundKind::Secret, "dev", "s"),
        (&node, BoundKind::Node, "", "n1"),
    ];
    for (claims, kind, namespace, name) in cases {
        assert!(claims.check(&objects(), at(5)).is_ok());
        let mut changed = objects();
        let key = (kind, namespace.to_owned(), name.to_owned());
        changed.0.get_mut(&key).unwrap()["metadata"]["deletionTimestamp"] =
            json!(at(0).to_string());
        assert!(claims.check(&changed, at(59)).is_ok(), "{kind:?} going");
        assert!(
            claims.check(&changed, at(61)).is_err(),
            "{kind:?} gone for long"
        );
        changed.0.get_mut(&key).unwrap()["metadata"] = json!({"uid": "new"});
        assert!(claims.check(&changed, at(5)).is_err(), "{kind:?} replaced");
        changed.0.remove(&key);
        assert!(claims.check(&changed, at(5)).is_err(), "{kind:?} removed");
    }
    // A pod's token does not depend on the node object.
    let mut no_node = objects();
    no_node
        .0
        .remove(&(BoundKind::Node, String::new(), "n1".to_owned()));
    assert!(pod.check(&no_node, at(5)).is_ok());
}
