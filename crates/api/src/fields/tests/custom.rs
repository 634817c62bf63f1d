//! Apply by a structural schema.

use std::sync::Arc;

use expect_test::expect;
use serde_json::json;

use super::*;
use crate::schema::Schema;
use crate::structural::Custom;

fn versions() -> Arc<[Value]> {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer"},
            "names": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            "plain": {"type": "array", "items": {"type": "string"}},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["port", "protocol"],
                "items": {"type": "object", "required": ["port"], "properties": {
                    "port": {"type": "integer"},
                    "protocol": {"type": "string", "default": "TCP"},
                    "name": {"type": "string"}}}},
            "selector": {"type": "object", "x-kubernetes-map-type": "atomic",
                "additionalProperties": {"type": "string"}},
            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true,
                "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}}},
            "either": {"x-kubernetes-int-or-string": true},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true,
                "x-kubernetes-preserve-unknown-fields": true}}}}});
    ["v1", "v2"]
        .map(|name| json!({"name": name, "schema": {"openAPIV3Schema": schema}}))
        .into()
}

fn resource(at: usize) -> Resource {
    let mut resource = find("configmaps").clone();
    let version = ["v1", "v2"][at].to_owned();
    resource.api_version = format!("g.io/{version}").into();
    (resource.group, resource.storage_group) = ("g.io".to_owned().into(), "g.io".to_owned().into());
    (resource.version, resource.storage_version) = (version.clone().into(), version.into());
    resource.kind = "Foo".to_owned().into();
    resource.schema = Schema::Custom(Custom::among(&versions(), at, None));
    resource
}

fn applied(
    resource: &Resource,
    live: Option<&Value>,
    manager: &str,
    force: bool,
    spec: &str,
) -> Result<Value, ApplyError> {
    let config = json!({"apiVersion": &*resource.api_version, "kind": "Foo",
        "metadata": {"name": "x"}, "spec": yaml(spec)});
    apply(&Target::of(resource, ""), live, &config, manager, force, T1)
}

#[test]
fn managers_share_the_items_of_lists() {
    let v1 = resource(0);
    let one = applied(
        &v1,
        None,
        "one",
        false,
        "{ports: [{port: 80, name: a}, {port: 81}], names: [a, b], plain: [x], labels: {a: b}, selector: {a: b}}",
    )
    .unwrap();
    let both = applied(
        &v1,
        Some(&one),
        "two",
        false,
        "{ports: [{port: 82, protocol: UDP}], names: [b, c], labels: {c: d}}",
    )
    .unwrap();
    assert_eq!(
        both["spec"],
        yaml(
            "{ports: [{port: 80, name: a}, {port: 81}, {port: 82, protocol: UDP}], names: [a, b, c],
              plain: [x], labels: {a: b, c: d}, selector: {a: b}}"
        )
    );
    expect![[r#"
        one Apply g.io/v1 2026-01-01T00:00:01Z
          .spec.plain
          .spec.selector
          .spec.labels.a
          .spec.names[="a"]
          .spec.names[="b"]
          .spec.ports[port=80,protocol="TCP"]
          .spec.ports[port=81,protocol="TCP"]
          .spec.ports[port=80,protocol="TCP"].name
          .spec.ports[port=80,protocol="TCP"].port
          .spec.ports[port=81,protocol="TCP"].port
        two Apply g.io/v1 2026-01-01T00:00:01Z
          .spec.labels.c
          .spec.names[="b"]
          .spec.names[="c"]
          .spec.ports[port=82,protocol="UDP"]
          .spec.ports[port=82,protocol="UDP"].port
          .spec.ports[port=82,protocol="UDP"].protocol
    "#]]
    .assert_eq(&owners(&both));
    let refused = applied(
        &v1,
        Some(&both),
        "two",
        false,
        "{ports: [{port: 80, name: b}]}",
    );
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.ports[port=80,protocol=\"TCP\"].name"
    );
    let taken = applied(
        &v1,
        Some(&both),
        "two",
        true,
        "{ports: [{port: 80, name: b}]}",
    )
    .unwrap();
    // What "two" alone had said is gone.
    assert_eq!(
        taken["spec"],
        yaml(
            "{ports: [{port: 80, name: b}, {port: 81}], names: [a, b], plain: [x],
              labels: {a: b}, selector: {a: b}}"
        )
    );
    let less = applied(&v1, Some(&taken), "one", false, "{names: [a], plain: [x]}").unwrap();
    assert_eq!(
        less["spec"],
        yaml("{ports: [{port: 80, name: b}], names: [a], plain: [x]}")
    );
}

#[test]
fn fields_are_owned_across_versions() {
    let (v1, mut v2) = (resource(0), resource(1));
    let one = applied(&v1, None, "one", false, "{size: 1, names: [a]}").unwrap();
    v2.storage_version = v1.version.clone();
    v2.stored_as = Some(Arc::new(v1));
    let refused = applied(&v2, Some(&one), "two", false, "{size: 2}");
    assert_eq!(
        refused.unwrap_err().to_string(),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.size"
    );
    let both = applied(&v2, Some(&one), "two", false, "{names: [b]}").unwrap();
    expect![[r#"
        one Apply g.io/v1 2026-01-01T00:00:01Z
          .spec.size
          .spec.names[="a"]
        two Apply g.io/v2 2026-01-01T00:00:01Z
          .spec.names[="b"]
    "#]]
    .assert_eq(&owners(&both));
}

#[test]
fn what_is_not_of_its_type_is_told() {
    let v1 = resource(0);
    let error = |spec: &str| match applied(&v1, None, "one", false, spec) {
        Ok(_) => String::new(),
        Err(error) => error.to_string().replace(
            "failed to create typed patch object (/x; g.io/v1, Kind=Foo): ",
            "",
        ),
    };
    for (spec, told) in [
        ("{x: 1}", ".spec.x: field not declared in schema"),
        (
            "{size: a}",
            ".spec.size: expected numeric (int or float), got string",
        ),
        (
            "{labels: [a]}",
            ".spec.labels: expected map, got &{[\"a\"]}",
        ),
        (
            "{ports: {a: b}}",
            ".spec.ports: expected list, got &{{\"a\":\"b\"}}",
        ),
        (
            "{names: [a, a]}",
            ".spec.names: duplicate entries for key [=\"a\"]",
        ),
        (
            "{ports: [{port: 1}, {port: 1, protocol: TCP}]}",
            ".spec.ports: duplicate entries for key [port=1,protocol=\"TCP\"]",
        ),
        (
            "{template: {metadata: {name: x, q: z}, spec: {a: [1]}}}",
            ".spec.template.metadata.q: field not declared in schema",
        ),
        ("{any: {b: [1], known: {c: d}}, either: a}", ""),
        ("{either: 1, size: null, ports: null}", ""),
    ] {
        assert_eq!(error(spec), told, "{spec}");
    }
}

#[test]
fn what_is_open_is_seen_as_its_values_are() {
    let custom = Custom::among(&versions(), 0, None);
    let schema = Schema::Custom(custom);
    let value = yaml(
        "{metadata: {labels: {a: b}, ownerReferences: [{uid: u, name: n}]}, spec: {any: {b: {c: [1]}, known: {z: {q: 1}}},
          either: 1, template: {metadata: {finalizers: [f]}, spec: {a: {b: 1}}}}}",
    );
    expect![[r#"
        .metadata.labels.a
        .metadata.ownerReferences[uid="u"]
        .spec.either
        .spec.any.b
        .spec.any.b.c
        .spec.any.known.z
        .spec.any.known.z.q
        .spec.template.spec
        .spec.template.metadata.finalizers[="f"]
        .spec.template.spec.a
        .spec.template.spec.a.b
    "#]]
    .assert_eq(&Form::of(&schema).fields(&value).unwrap().to_string());
}
