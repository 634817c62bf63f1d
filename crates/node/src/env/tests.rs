//! Tests of `env`.

#![allow(clippy::unwrap_used, reason = "tests")]
use serde_json::json;

use super::*;

#[test]
fn expansion_follows_the_rules_of_the_api() {
    let lookup = |name: &str| match name {
        "A" => Some("1".to_owned()),
        "EMPTY" => Some(String::new()),
        "REF" => Some("$(A)".to_owned()),
        _ => None,
    };
    let table = [
        ("plain", "plain"),
        ("$(A)", "1"),
        ("x$(A)y$(A)", "x1y1"),
        ("$(EMPTY)", ""),
        ("$(REF)", "$(A)"),
        ("$(NONE)", "$(NONE)"),
        ("$$(A)", "$(A)"),
        ("$$$(A)", "$1"),
        ("$$$$(A)", "$$(A)"),
        ("$A", "$A"),
        ("$(A", "$(A"),
        ("cost: 5$", "cost: 5$"),
        ("$()", "$()"),
        ("$(A$(A))", "$(A$(A))"),
        ("é$(A)ü", "é1ü"),
    ];
    for (text, want) in table {
        assert_eq!(expand(text, &lookup), want, "{text}");
    }
}

fn container(value: serde_json::Value) -> Container {
    serde_json::from_value(value).unwrap()
}

#[test]
fn precedence_and_references() {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": {"name": "p", "namespace": "ns", "uid": "u", "labels": {"a": "x\"y", "b": "2"}},
        "spec": {"nodeName": "n", "containers": []}}))
    .unwrap();
    let c = container(json!({"name": "c",
    "resources": {"limits": {"cpu": "1500m", "memory": "64Mi"}},
    "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cm"}}, {"secretRef": {"name": "gone", "optional": true}}],
    "env": [
        {"name": "ONE", "value": "1"},
        {"name": "TWO", "value": "$(ONE)$(P_k)$(KUBERNETES_SERVICE_HOST)"},
        {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['b']"}}},
        {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
        {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
        {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cm", "key": "k"}}},
        {"name": "SOFT", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "k", "optional": true}}},
        {"name": "ONE", "value": "again"},
    ]}));
    let mut sources = Sources::default();
    let data = [("k".to_owned(), b"v".to_vec())].into();
    sources.config_maps.insert("cm".into(), Source { data });
    let services = [("KUBERNETES_SERVICE_HOST".to_owned(), "10.0.0.1".to_owned())].into();
    let downward = Downward {
        pod_ips: vec!["10.1.0.2".parse().unwrap()],
        ..Downward::default()
    };
    let got = variables(&pod, &c, &sources, &services, &downward).unwrap();
    let got: Vec<String> = got.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(
        got,
        [
            "P_k=v",
            "ONE=again",
            "TWO=1v10.0.0.1",
            "NODE=n",
            "IP=10.1.0.2",
            "LABEL=2",
            "CPU=2",
            "MEM=64",
            "KEY=v",
            "KUBERNETES_SERVICE_HOST=10.0.0.1"
        ]
    );
    assert_eq!(
        fields::field(&pod, "metadata.labels", &downward).unwrap(),
        "a=\"x\\\"y\"\nb=\"2\""
    );

    let table = [
        (
            json!({"configMapKeyRef": {"name": "cm", "key": "no"}}),
            "couldn't find key no in ConfigMap ns/cm",
        ),
        (
            json!({"secretKeyRef": {"name": "gone", "key": "k"}}),
            "secret \"gone\" not found",
        ),
        (
            json!({"fieldRef": {"fieldPath": "spec.foo"}}),
            "unsupported fieldPath: spec.foo",
        ),
    ];
    for (from, want) in table {
        let c = container(json!({"name": "c", "env": [{"name": "X", "valueFrom": from}]}));
        let error = variables(&pod, &c, &sources, &services, &downward).unwrap_err();
        assert_eq!(error.to_string(), want);
    }
}

#[test]
fn service_variables_are_upstreams() {
    let service: Service = serde_json::from_value(json!({
        "metadata": {"name": "my-web", "namespace": "ns"},
        "spec": {"clusterIP": "10.0.0.9", "ports": [{"name": "http-x", "port": 80, "protocol": "TCP"}]}}))
    .unwrap();
    let other: Service = serde_json::from_value(json!({
        "metadata": {"name": "headless", "namespace": "ns"},
        "spec": {"clusterIP": "None", "ports": [{"port": 80}]}}))
    .unwrap();
    let got = services("ns", true, [&service, &other].into_iter());
    let got: Vec<String> = got.iter().map(|(n, v)| format!("{n}={v}")).collect();
    assert_eq!(
        got,
        [
            "MY_WEB_PORT=tcp://10.0.0.9:80",
            "MY_WEB_PORT_80_TCP=tcp://10.0.0.9:80",
            "MY_WEB_PORT_80_TCP_ADDR=10.0.0.9",
            "MY_WEB_PORT_80_TCP_PORT=80",
            "MY_WEB_PORT_80_TCP_PROTO=tcp",
            "MY_WEB_SERVICE_HOST=10.0.0.9",
            "MY_WEB_SERVICE_PORT=80",
            "MY_WEB_SERVICE_PORT_HTTP_X=80"
        ]
    );
    assert!(services("ns", false, [&service].into_iter()).is_empty());
}

#[test]
fn command_and_args_over_the_image() {
    let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect::<Vec<_>>();
    let (entry, cmd) = (list(&["/entry"]), list(&["cmd"]));
    let table = [
        (json!({"name": "c"}), vec!["/entry", "cmd"]),
        (json!({"name": "c", "args": ["$(A)"]}), vec!["/entry", "1"]),
        (json!({"name": "c", "command": ["x"]}), vec!["x"]),
        (
            json!({"name": "c", "command": ["x"], "args": ["y"]}),
            vec!["x", "y"],
        ),
    ];
    for (c, want) in table {
        let got = argv(
            &container(c),
            Some(&entry),
            Some(&cmd),
            &[("A".into(), "1".into())],
        );
        assert_eq!(got, want);
    }
}
