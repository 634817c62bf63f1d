//! Sets: their JSON, their operations, and the fields of values.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

fn set(value: Value) -> Set {
    Set::from_fields_v1(&value).unwrap()
}

#[test]
fn json_there_and_back() {
    let value = json!({
        "f:metadata": {"f:labels": {".": {}, "f:app": {}}, "f:finalizers": {".": {}, "v:\"a/b\"": {}}},
        "f:spec": {"f:ports": {
            "k:{\"port\":443,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}},
            "k:{\"port\":80,\"protocol\":\"TCP\"}": {".": {}, "f:port": {}}}, "i:3": {}},
    });
    let read = set(value.clone());
    assert_eq!(read.to_fields_v1(), value);
    // By number, not by text.
    expect![[r#"
        .metadata.finalizers
        .metadata.labels
        .metadata.finalizers[="a/b"]
        .metadata.labels.app
        .spec[3]
        .spec.ports[port=80,protocol="TCP"]
        .spec.ports[port=443,protocol="TCP"]
        .spec.ports[port=80,protocol="TCP"].port
        .spec.ports[port=443,protocol="TCP"].port
    "#]]
    .assert_eq(&read.to_string());
    // A later version's path elements are left out, keys may come in any order.
    let odd = set(json!({"x:what": {}, "f:a": {}, "k:{\"b\":1,\"a\":2}": {}}));
    assert_eq!(odd.to_string(), ".a\n[a=2,b=1]\n");
    for bad in [
        json!([]),
        json!({"spec": {}}),
        json!({"f": {}}),
        json!({"v:{": {}}),
        json!({"k:[]": {}}),
        json!({"i:x": {}}),
        json!({"f:a": 1}),
    ] {
        assert!(Set::from_fields_v1(&bad).is_err(), "{bad}");
    }
}

#[test]
fn operations() {
    let a = set(json!({"f:a": {}, "f:b": {".": {}, "f:c": {}, "f:d": {}}, "f:e": {"f:f": {}}}));
    let b = set(json!({"f:b": {"f:c": {}, "f:x": {}}, "f:e": {}}));
    let lines = |set: &Set| set.to_string().replace('\n', " ");
    assert_eq!(lines(&a), ".a .b .b.c .b.d .e.f ");
    assert_eq!(lines(&a.intersection(&b)), ".b.c ");
    let (mut less, mut whole, mut both) = (a.clone(), a.clone(), a.clone());
    less.subtract(&b);
    assert_eq!(lines(&less), ".a .b .b.d .e.f ");
    whole.subtract_whole(&b);
    assert_eq!(lines(&whole), ".a .b .b.d ");
    both.unite(b);
    assert_eq!(lines(&both), ".a .b .e .b.c .b.d .b.x .e.f ");
    let mut kept = set(json!({"f:spec": {"f:x": {}, "f:containers": {
        "k:{\"name\":\"a\"}": {".": {}, "f:image": {}, "f:resources": {"f:limits": {"f:cpu": {}}}}}}}));
    kept.keep(&[&["spec", "containers", "*", "resources"]]);
    assert_eq!(
        lines(&kept),
        ".spec.containers[name=\"a\"] .spec.containers[name=\"a\"].resources.limits.cpu "
    );
}

fn fields(plural: &str, text: &str, expected: &Expect) {
    let form = Form::of(&find(plural).schema);
    expected.assert_eq(&form.fields(&yaml(text)).unwrap().to_string());
}

#[test]
fn fields_of_values() {
    // Maps and sets by element, lists of objects by key (with its default), atomic things as one.
    fields(
        "services",
        "
metadata: {labels: {}, annotations: {a: b}, finalizers: [x/y, x/z]}
spec:
  selector: {app: a}
  externalIPs: [1.2.3.4]
  ports: [{port: 80, targetPort: http}, {port: 80, protocol: UDP}]
",
        &expect![[r#"
            .metadata.labels
            .metadata.annotations.a
            .metadata.finalizers[="x/y"]
            .metadata.finalizers[="x/z"]
            .spec.externalIPs
            .spec.selector
            .spec.ports[port=80,protocol="TCP"]
            .spec.ports[port=80,protocol="UDP"]
            .spec.ports[port=80,protocol="TCP"].port
            .spec.ports[port=80,protocol="TCP"].targetPort
            .spec.ports[port=80,protocol="UDP"].port
            .spec.ports[port=80,protocol="UDP"].protocol
        "#]],
    );
    // What is null is set; an empty list sets nothing; items with one name are one field.
    fields(
        "pods",
        "
spec:
  nodeName: null
  volumes: null
  tolerations: []
  initContainers: []
  containers:
  - {name: a, env: [{name: E, value: '1'}, {name: E, value: '2'}, {name: F}], args: [x]}
",
        &expect![[r#"
            .spec.nodeName
            .spec.tolerations
            .spec.volumes
            .spec.containers[name="a"]
            .spec.containers[name="a"].args
            .spec.containers[name="a"].name
            .spec.containers[name="a"].env[name="E"]
            .spec.containers[name="a"].env[name="F"]
            .spec.containers[name="a"].env[name="F"].name
        "#]],
    );
}
