//! Tests of `tokens`.

use super::*;

fn secret(value: Value) -> Secret {
    let mut secret = json!({"metadata": {"name": "s", "namespace": "ns",
        "annotations": {ACCOUNT: "robot"}}, "type": TYPE});
    secret["data"] = value;
    serde_json::from_value(secret).unwrap()
}

fn account() -> ServiceAccount {
    serde_json::from_value(json!({"metadata": {"name": "robot", "namespace": "ns", "uid": "u-1"}}))
        .unwrap()
}

#[test]
fn what_is_missing_is_filled_in() {
    // "bnM=" is ns, "Y2E=" is ca, "dA==" is t.
    let (namespace, ca, token) = ("bnM=", "Y2E=", "dA==");
    for (data, wanted) in [
        (json!({}), Some(vec![CA, NAMESPACE])),
        (json!({"token": token}), Some(vec![CA, NAMESPACE, TOKEN])),
        (
            json!({"ca.crt": ca, "namespace": namespace}),
            Some(vec![CA, NAMESPACE]),
        ),
        (
            json!({"ca.crt": "b2xk", "namespace": namespace, "token": token, "own": "eA=="}),
            Some(vec![CA, NAMESPACE, "own", TOKEN]),
        ),
        (
            json!({"ca.crt": ca, "namespace": namespace, "token": token}),
            None,
        ),
        // A namespace of its own stays.
        (
            json!({"ca.crt": ca, "namespace": "eA==", "token": token}),
            None,
        ),
    ] {
        let new = filled(&secret(data.clone()), &account(), "ca");
        let keys = new.as_ref().map(|new| {
            let data = new.data.as_ref().unwrap();
            assert_eq!(data[CA].0, b"ca", "{data:?}");
            assert_eq!(new.metadata.annotations.as_ref().unwrap()[UID], "u-1");
            data.keys().map(String::as_str).collect::<Vec<_>>()
        });
        assert_eq!(keys, wanted, "{data}");
    }
}

#[test]
fn claims_are_upstreams() {
    assert_eq!(
        claims(&secret(json!({})), &account()),
        json!({
            "iss": "kubernetes/serviceaccount",
            "kubernetes.io/serviceaccount/namespace": "ns",
            "kubernetes.io/serviceaccount/secret.name": "s",
            "kubernetes.io/serviceaccount/service-account.name": "robot",
            "kubernetes.io/serviceaccount/service-account.uid": "u-1",
            "sub": "system:serviceaccount:ns:robot",
        })
    );
    let mut nobody = secret(json!({}));
    nobody.metadata.annotations = None;
    assert_eq!(account_of(&nobody), None);
}
