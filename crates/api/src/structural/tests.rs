//! What definitions say of values, and what comes of values by them.

#![allow(clippy::unwrap_used, reason = "tests")]

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Custom, check};

fn version(schema: Value) -> Value {
    json!({"name": "v1", "schema": {"openAPIV3Schema": schema}})
}

fn foos() -> Value {
    version(json!({"type": "object", "properties": {
        "spec": {"type": "object", "required": ["size"], "properties": {
            "size": {"type": "integer", "minimum": 1, "maximum": 5},
            "color": {"type": "string", "default": "red", "enum": ["red", "blue"]},
            "name": {"type": "string", "pattern": "^a+$", "maxLength": 3},
            "port": {"x-kubernetes-int-or-string": true},
            "any": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "items": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["id"],
                "items": {"type": "object", "required": ["id"], "properties": {
                    "id": {"type": "string"}, "n": {"type": "integer", "maximum": 3}}}}}}}}))
}

#[test]
fn unknown_fields_go_and_defaults_come() {
    let custom = Custom::new(&foos());
    let mut object = json!({"apiVersion": "a/v1", "kind": "Foo", "x": 1,
        "metadata": {"name": "a", "bad": 1},
        "spec": {"size": 2, "y": 1, "any": {"z": [1]}, "color": null, "items": [{"id": "a", "q": 1}]}});
    let problems: Vec<String> = custom
        .decode(&mut object)
        .unwrap()
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        problems,
        [
            "unknown field \"metadata.bad\"",
            "unknown field \"spec.items[0].q\"",
            "unknown field \"spec.y\"",
            "unknown field \"x\"",
        ]
    );
    custom.apply_defaults(&mut object);
    assert_eq!(
        object,
        json!({"apiVersion": "a/v1", "kind": "Foo", "metadata": {"name": "a"},
            "spec": {"size": 2, "any": {"z": [1]}, "color": "red", "items": [{"id": "a"}]}})
    );
}

#[test]
fn errors_in_upstreams_words_and_unchanged_ones_pass() {
    let custom = Custom::new(&foos());
    let bad = json!({"spec": {"size": 9, "color": "green", "name": "bbbb", "port": true,
        "items": [{"id": "a", "n": 4}, {"id": "a"}]}});
    let told = |new: &Value, old: Option<&Value>| -> Vec<String> {
        custom
            .validate(new, old)
            .iter()
            .map(|e| format!("{}: {}", e.path, e.body()))
            .collect()
    };
    let mut errors = told(&bad, None);
    errors.sort();
    assert_eq!(
        errors,
        [
            "spec.color: Unsupported value: \"green\": supported values: \"red\", \"blue\"",
            "spec.items[0].n: Invalid value: 4: spec.items[0].n in body should be less than or equal to 3",
            "spec.items[1]: Duplicate value: {\"id\":\"a\"}",
            "spec.name: Invalid value: \"bbbb\": spec.name in body should match '^a+$'",
            "spec.name: Too long: may not be more than 3 bytes",
            "spec.port: Invalid value: \"boolean\": spec.port in body must be of type integer,string: \"boolean\"",
            "spec.size: Invalid value: 9: spec.size in body should be less than or equal to 5",
        ]
    );
    assert_eq!(
        told(&json!({"spec": {}}), None),
        ["spec.size: Required value"]
    );
    let mut changed = bad.clone();
    changed["spec"]["color"] = "blue".into();
    assert!(told(&changed, Some(&bad)).is_empty());
    changed["spec"]["size"] = 7.into();
    assert_eq!(told(&changed, Some(&bad)).len(), 1);
}

#[test]
fn schemas_must_be_structural() {
    let errors = |schema: Value| -> Vec<String> {
        check(&version(schema), "s")
            .iter()
            .map(|e| format!("{}: {}", e.path, e.body()))
            .collect()
    };
    assert!(check(&foos(), "s").is_empty());
    assert_eq!(
        errors(
            json!({"type": "object", "properties": {"a": {}, "b": {"type": "array"},
            "c": {"type": "string", "default": 1, "$ref": "#/x"},
            "d": {"type": "string", "pattern": "(?=x)"}}})
        )
        .iter()
        .map(|e| e.split('\n').next().unwrap_or_default().to_owned())
        .collect::<Vec<_>>(),
        [
            "s.properties[a].type: Required value: must not be empty for specified object fields",
            "s.properties[b].items: Required value: must be specified",
            "s.properties[c].$ref: Forbidden: $ref is not supported",
            "s.properties[c].default: Invalid value: \"integer\": s.properties[c].default in body must be of type string: \"integer\"",
            "s.properties[d].pattern: Invalid value: \"(?=x)\": must be a valid regular expression, but isn't: regex parse error:",
        ]
    );
    let mut deep = json!({"type": "string"});
    for _ in 0..120 {
        deep = json!({"type": "object", "properties": {"a": deep}});
    }
    assert!(!check(&version(deep), "s").is_empty());
}

#[test]
fn extensions_must_fit() {
    let errors = |schema: Value| -> Vec<String> {
        let root = json!({"type": "object", "properties": {"a": schema}});
        let found = check(&version(root), "s");
        found
            .iter()
            .map(|e| {
                format!(
                    "{}: {}",
                    e.path.trim_start_matches("s.properties[a]"),
                    e.body()
                )
            })
            .collect()
    };
    let text = json!({"type": "string"});
    for (schema, told) in [
        (
            json!({"type": "string", "x-kubernetes-map-type": "atomic"}),
            ".type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified",
        ),
        (
            json!({"type": "object", "x-kubernetes-map-type": "other"}),
            ".x-kubernetes-map-type: Unsupported value: \"other\": supported values: \"atomic\", \"granular\"",
        ),
        (
            json!({"type": "object", "x-kubernetes-embedded-resource": true}),
            ".properties: Required value: must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set",
                "items": {"type": "object", "properties": {"b": text}}}),
            ".items.x-kubernetes-map-type: Invalid value: null: must be atomic as item of a list with x-kubernetes-list-type=set",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-type": "set",
                "items": {"type": "string", "nullable": true}}),
            ".items.nullable: Forbidden: cannot be nullable when x-kubernetes-list-type is set",
        ),
        (
            json!({"type": "array", "x-kubernetes-list-map-keys": ["b"], "items": text}),
            ".x-kubernetes-list-type: Required value: must be map if x-kubernetes-list-map-keys is non-empty",
        ),
        (
            json!({"x-kubernetes-int-or-string": true, "x-kubernetes-preserve-unknown-fields": true}),
            ".x-kubernetes-preserve-unknown-fields: Invalid value: true: must be false if x-kubernetes-int-or-string is true",
        ),
    ] {
        assert_eq!(errors(schema), [told]);
    }
    let metadata = |metadata: Value| {
        check(
            &version(json!({"type": "object", "properties": {"metadata": metadata}})),
            "s",
        )
        .len()
    };
    assert_eq!(
        metadata(
            json!({"type": "object", "properties": {"name": {"type": "string", "maxLength": 3}}})
        ),
        0
    );
    assert_eq!(
        metadata(json!({"type": "object", "properties": {"labels": {"type": "object"}}})),
        1
    );
}

#[test]
fn what_stands_beside_a_status_is_little() {
    let told = |subresources: Value| {
        let mut version = version(json!({"type": "object", "required": ["spec"],
            "description": "a", "minProperties": 1, "x-kubernetes-validations": [],
            "properties": {"spec": {"type": "object", "minProperties": 1}}}));
        version["subresources"] = subresources;
        let errors = check(&version, "s");
        let words: Vec<String> = errors.iter().map(|e| e.detail.clone()).collect();
        words.join("; ")
    };
    assert_eq!(told(json!({"scale": {}})), "");
    let words = told(json!({"status": {}}));
    assert!(
        words.starts_with("only [Description Type Format"),
        "{words}"
    );
    assert!(words.ends_with("at the root of the schema if the status subresource is enabled"));
}

#[test]
fn cells_by_paths() {
    let mut version = foos();
    version["additionalPrinterColumns"] = json!([
        {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
        {"name": "First", "type": "string", "jsonPath": ".spec.items[0].id"},
        {"name": "None", "type": "string", "jsonPath": ".spec.none"},
        {"name": "Ready", "type": "string",
            "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
        {"name": "Any", "type": "string", "jsonPath": ".spec.items[*].id"},
        {"name": "Half", "type": "integer", "jsonPath": ".spec.half"},
        {"name": "All", "type": "string", "jsonPath": ".spec.items"},
        {"name": "Odd", "type": "number", "jsonPath": ".spec.items[0].id"},
        {"name": "When", "type": "date", "jsonPath": ".spec.items[0].id"},
        {"name": "Broken", "type": "string", "jsonPath": ".spec.items[x]"},
        {"name": "Lost", "type": "integer", "jsonPath": ".spec.size"}]);
    let object = json!({"metadata": {"name": "a"}, "spec": {"size": 2, "half": 2.5,
        "items": [{"id": "x"}, {"id": "y"}]},
        "status": {"conditions": [{"type": "Other", "status": "False"},
            {"type": "Ready", "status": "True"}]}});
    let custom = Custom::new(&version);
    assert_eq!(
        Value::Array(custom.cells(&object, Timestamp::UNIX_EPOCH)),
        json!([
            "a",
            2,
            "x",
            null,
            "True",
            "x",
            2,
            "[{\"id\":\"x\"},{\"id\":\"y\"}]",
            null,
            "<invalid>"
        ])
    );
    // What follows a path that is none is not printed.
    let columns = custom.column_definitions();
    assert_eq!(columns.as_array().map(Vec::len), Some(10));
}
