//! Merges: what an applied object makes of what is there.

use expect_test::{Expect, expect};
use serde_json::json;

use super::super::compare::Comparison;
use super::super::merge::merge;
use super::*;

#[track_caller]
fn merged(plural: &str, old: &str, new: &str, expected: &str) {
    let form = Form::of(&find(plural).schema);
    let out = merge(form, &yaml(old), &yaml(new)).unwrap();
    assert_eq!(out, yaml(expected), "{out}");
}

#[test]
fn maps_leaves_and_atoms() {
    merged(
        "services",
        "{metadata: {labels: {a: '1', b: '2'}}, spec: {selector: {x: y, z: w}, externalIPs: [1.1.1.1, 2.2.2.2]}}",
        "{metadata: {labels: {b: '3', c: '4'}}, spec: {selector: {x: q}, externalIPs: [3.3.3.3]}}",
        "{metadata: {labels: {a: '1', b: '3', c: '4'}}, spec: {selector: {x: q}, externalIPs: [3.3.3.3]}}",
    );
    // A null stands where a leaf was, but takes nothing away from a map.
    merged(
        "deployments",
        "{metadata: {labels: {a: '1'}}, spec: {replicas: 3}}",
        "{metadata: {labels: null}, spec: {replicas: null}}",
        "{metadata: {labels: {a: '1'}}, spec: {replicas: null}}",
    );
    // Empty and absent stay apart.
    merged(
        "configmaps",
        "{data: {}}",
        "{binaryData: {}}",
        "{data: {}, binaryData: {}}",
    );
}

#[test]
fn lists_keep_the_applied_order() {
    let names = |names: &str| {
        let items: Vec<Value> = names.chars().map(|c| json!(format!("x/{c}"))).collect();
        json!({"metadata": {"finalizers": items}})
    };
    let form = Form::of(&find("configmaps").schema);
    let cases = [
        // there, applied, outcome: as upstream orders them.
        ("abc", "bc", "abc"),
        ("abc", "cb", "acb"),
        ("abc", "d", "abcd"),
        ("abc", "da", "dabc"),
        ("abc", "ad", "abcd"),
        ("", "ab", "ab"),
        ("abcd", "db", "acdb"),
        ("axbycz", "cba", "xyczba"),
    ];
    for (old, new, expected) in cases {
        let out = merge(form, &names(old), &names(new)).unwrap();
        let mut shown = String::new();
        for item in out["metadata"]["finalizers"].as_array().unwrap() {
            shown.push_str(&item.as_str().unwrap()[2..]);
        }
        assert_eq!(shown, expected, "{old} <- {new}");
    }
}

#[test]
fn items_merge_by_key() {
    merged(
        "pods",
        "{spec: {containers: [{name: a, image: x, ports: [{containerPort: 80, protocol: TCP, name: web}]}, {name: b}]}}",
        "{spec: {containers: [{name: a, args: [q], ports: [{containerPort: 80}, {containerPort: 80, protocol: UDP}]}]}}",
        "{spec: {containers: [{name: a, image: x, args: [q], ports: [
            {containerPort: 80, protocol: TCP, name: web}, {containerPort: 80, protocol: UDP}]}, {name: b}]}}",
    );
    // Items that share a name are all replaced by the one that is applied, or all left.
    let twice = "{spec: {containers: [{name: a, env: [{name: E, value: '1'}, {name: E, value: '2'}, {name: F, value: '3'}]}]}}";
    merged(
        "pods",
        twice,
        "{spec: {containers: [{name: a, env: [{name: E, value: '9'}]}]}}",
        "{spec: {containers: [{name: a, env: [{name: E, value: '9'}, {name: F, value: '3'}]}]}}",
    );
    merged(
        "pods",
        twice,
        "{spec: {containers: [{name: a, env: [{name: F, value: '9'}]}]}}",
        "{spec: {containers: [{name: a, env: [{name: E, value: '1'}, {name: E, value: '2'}, {name: F, value: '9'}]}]}}",
    );
}

fn compared(plural: &str, old: &str, new: &str, expected: &Expect) {
    let form = Form::of(&find(plural).schema);
    let found = Comparison::of(form, &yaml(old), &yaml(new)).unwrap();
    let part = |name: &str, set: &Set| {
        set.to_string()
            .lines()
            .map(|line| format!("{name} {line}\n"))
            .collect::<String>()
    };
    expected.assert_eq(&format!(
        "{}{}{}",
        part("+", &found.added),
        part("~", &found.modified),
        part("-", &found.removed)
    ));
}

#[test]
fn comparisons() {
    compared(
        "services",
        "{metadata: {labels: {a: '1', b: '2'}}, spec: {ports: [{port: 80, name: a}, {port: 81}], clusterIPs: [a]}}",
        "{metadata: {labels: {a: '2'}}, spec: {type: ClusterIP, ports: [{port: 80, name: b, protocol: TCP}, {port: 82}], clusterIPs: [b]}}",
        &expect![[r#"
            + .spec.type
            + .spec.ports[port=82,protocol="TCP"]
            + .spec.ports[port=80,protocol="TCP"].protocol
            + .spec.ports[port=82,protocol="TCP"].port
            ~ .metadata.labels.a
            ~ .spec.clusterIPs
            ~ .spec.ports[port=80,protocol="TCP"].name
            - .metadata.labels.b
            - .spec.ports[port=81,protocol="TCP"]
            - .spec.ports[port=81,protocol="TCP"].port
        "#]],
    );
    // Items with one name: compared together, or as an item that comes or goes.
    let env = |values: &str| {
        let items: Vec<String> = values
            .chars()
            .map(|c| format!("{{name: E, value: {c:?}}}"))
            .collect();
        format!(
            "{{spec: {{containers: [{{name: a, env: [{}]}}]}}}}",
            items.join(", ")
        )
    };
    compared("pods", &env("12"), &env("12"), &expect![""]);
    compared(
        "pods",
        &env("12"),
        &env("13"),
        &expect![[r#"
            ~ .spec.containers[name="a"].env[name="E"]
        "#]],
    );
    compared(
        "pods",
        &env("12"),
        &env("1"),
        &expect![[r#"
            + .spec.containers[name="a"].env[name="E"]
            + .spec.containers[name="a"].env[name="E"].name
            + .spec.containers[name="a"].env[name="E"].value
            - .spec.containers[name="a"].env[name="E"]
        "#]],
    );
}

#[test]
fn applied_objects_are_checked() {
    let told = |text: &str| {
        let config = yaml(text);
        let target = Target::of(find("services"), "");
        apply(&target, None, &config, "m", false, T1).map_err(|error| error.to_string())
    };
    let service = |rest: &str| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: a, namespace: ns}}, {rest}}}")
    };
    let cases = [
        (
            "{apiVersion: v1, kind: Pod}".to_owned(),
            "invalid object type: /v1, Kind=Pod",
        ),
        (
            "{apiVersion: apps/v1, kind: Service}".to_owned(),
            "invalid object type: apps/v1, Kind=Service",
        ),
        (
            "{apiVersion: v1, kind: Service, metadata: {managedFields: []}}".to_owned(),
            "metadata.managedFields must be nil",
        ),
        (
            service("spec: {foo: 1}"),
            "failed to create typed patch object (ns/a; /v1, Kind=Service): .spec.foo: field not declared in schema",
        ),
        (
            service("spec: {ports: [{port: 80}, {port: 80, protocol: TCP}]}"),
            "failed to create typed patch object (ns/a; /v1, Kind=Service): .spec.ports: duplicate entries for key [port=80,protocol=\"TCP\"]",
        ),
        (
            service("spec: {ports: [{port: x, bar: 1}]}"),
            "failed to create typed patch object (ns/a; /v1, Kind=Service): errors:\n  .spec.ports[port=\"x\",protocol=\"TCP\"].bar: field not declared in schema\n  .spec.ports[port=\"x\",protocol=\"TCP\"].port: expected numeric (int or float), got string",
        ),
        (
            service("spec: {ports: [null]}"),
            "failed to create typed patch object (ns/a; /v1, Kind=Service): .spec.ports: element 0: associative list with keys may not have a null element",
        ),
        (
            service("spec: {selector: [a]}"),
            "failed to create typed patch object (ns/a; /v1, Kind=Service): .spec.selector: expected map, got &{[\"a\"]}",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(told(&text).unwrap_err(), expected);
    }
}
