//! Rules as definitions carry them.

use serde_json::{Value, json};

use super::{Rules, check};

fn schema(rules: Value) -> Value {
    json!({"type": "object", "properties": {"spec": {
    "type": "object", "x-kubernetes-validations": rules,
    "properties": {
        "x": {"type": "integer"}, "min-size": {"type": "integer"}, "name": {"type": "string"},
        "port": {"x-kubernetes-int-or-string": true},
        "list": {"type": "array", "items": {"type": "string"}},
        "short": {"type": "array", "maxItems": 5, "items": {"type": "string", "maxLength": 10}},
        "parts": {"type": "array", "maxItems": 9, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["id"],
            "items": {"type": "object", "required": ["id"], "properties": {
                "id": {"type": "string"},
                "size": {"type": "integer", "x-kubernetes-validations": [{"rule": "self >= oldSelf"}]}}}},
    }}}})
}

fn faults(rules: Value) -> Vec<String> {
    let path = "spec.versions[0].schema.openAPIV3Schema";
    check(&schema(rules), path, &|_| false)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn violations(rules: Value, object: Value, old: Option<Value>) -> (Vec<String>, usize) {
    let compiled = Rules::compile(&schema(rules));
    let found = compiled.validate(
        &json!({"spec": object}),
        old.map(|old| json!({"spec": old})).as_ref(),
    );
    (
        found.errors.iter().map(ToString::to_string).collect(),
        found.warnings.len(),
    )
}

fn errors(rules: Value, object: Value) -> Vec<String> {
    violations(rules, object, None).0
}

#[test]
fn definitions_with_good_rules_pass() {
    assert_eq!(
        faults(json!([
            {"rule": "self.x > 0", "messageExpression": "'x is ' + self.short[0]", "fieldPath": ".x", "reason": "FieldValueForbidden"},
            {"rule": "self.min__dash__size > 0 && self.port == 80"},
            {"rule": "self.short.all(s, self.short.exists(t, s == t))"},
            {"rule": "oldSelf.hasValue() || self.x == 0", "optionalOldSelf": true},
        ])),
        Vec::<String>::new()
    );
}

#[test]
fn defaults_are_held_to_rules() {
    let told = |default: Value, rules: Value| {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {
                "free": {"type": "integer", "default": 1},
                "part": {"type": "object", "default": default, "properties": {
                    "x": {"type": "integer", "x-kubernetes-validations": [{"rule": "self < 9"}]}},
                    "x-kubernetes-validations": rules},
                "list": {"type": "array", "items": {"type": "object", "properties": {
                    "y": {"type": "integer", "default": 3,
                        "x-kubernetes-validations": [{"rule": "self != 4"}]}}}}}}}});
        let errors = super::defaults(&schema, "s");
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        told.join("; ")
    };
    let small = || json!([{"rule": "self.x > 1", "message": "too small"}]);
    assert_eq!(told(json!({"x": 2}), small()), "");
    assert_eq!(
        told(json!({"x": 1}), small()),
        "s.properties[spec].properties[part].default: Invalid value: too small"
    );
    assert_eq!(
        told(json!({"x": 9}), json!([])),
        "s.properties[spec].properties[part].default.x: Invalid value: 9: failed rule: self < 9"
    );
    // Where it takes the place of itself, and where of nothing.
    let changed = json!([{"rule": "self.x != oldSelf.x", "message": "must change"}]);
    assert!(told(json!({"x": 2}), changed).ends_with("must change"));
    let begun = json!([{"rule": "oldSelf.hasValue()", "optionalOldSelf": true, "message": "new"}]);
    assert!(told(json!({"x": 2}), begun).ends_with("new"));
}

#[test]
fn broken_rules_are_refused_at_their_path() {
    let at = "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0]";
    for (rule, field, words) in [
        (
            json!({"rule": "self.nope"}),
            "rule",
            "compilation failed: ERROR: <input>:1:5: undefined field 'nope'",
        ),
        (
            json!({"rule": "self.x"}),
            "rule",
            "cel expression must evaluate to a bool",
        ),
        (
            json!({"rule": " "}),
            "rule",
            "Required value: rule is not specified",
        ),
        (
            json!({"rule": "true\n", "message": "a\nb"}),
            "message",
            "must not contain line breaks",
        ),
        (
            json!({"rule": "true", "messageExpression": "1"}),
            "messageExpression",
            "messageExpression must evaluate to a string",
        ),
        (
            json!({"rule": "true", "fieldPath": ".nope"}),
            "fieldPath",
            "must be a valid path",
        ),
        (
            json!({"rule": "true", "reason": "Else"}),
            "reason",
            "supported values: \"FieldValueDuplicate\"",
        ),
        (
            json!({"rule": "true", "optionalOldSelf": true}),
            "optionalOldSelf",
            "may not be set if oldSelf is not used in rule",
        ),
        (
            json!({"rule": "self.list.all(s, self.list.all(t, s != t))"}),
            "rule",
            "Forbidden: estimated rule cost exceeds budget by factor of more than 100x (try simplifying the rule",
        ),
    ] {
        let found = faults(json!([rule]));
        assert!(found.iter().any(|fault| fault.starts_with(&format!("{at}.{field}: ")) && fault.contains(words)), "{words}: {found:?}");
    }
}

#[test]
fn old_self_needs_elements_that_can_be_told_apart() {
    let mut schema = schema(json!([]));
    schema["properties"]["spec"]["properties"]["short"]["items"]["x-kubernetes-validations"] =
        json!([{"rule": "self == oldSelf"}]);
    let found = check(&schema, "s", &|_| false);
    let words = "oldSelf cannot be used on the uncorrelatable portion of the schema within s.properties[spec].properties[short]";
    assert!(
        found.len() == 1 && found[0].to_string().contains(words),
        "{found:?}"
    );
}

#[test]
fn objects_are_refused_in_upstreams_words() {
    let rule = json!([{"rule": "self.x > 0"}]);
    assert!(errors(rule.clone(), json!({"x": 1})).is_empty());
    assert_eq!(
        errors(rule.clone(), json!({"x": 0})),
        ["spec: Invalid value: failed rule: self.x > 0"]
    );
    assert_eq!(
        errors(rule, json!({})),
        ["spec: Invalid value: \"object\": no such key: x evaluating rule: self.x > 0"]
    );
    let rule = json!([{"rule": "self.x > 0", "message": "no", "messageExpression": "'x is ' + string(self.x)", "fieldPath": ".x", "reason": "FieldValueForbidden"}]);
    assert_eq!(errors(rule, json!({"x": 0})), ["spec.x: Forbidden: x is 0"]);
    let rule = json!([{"rule": "self.port > 0"}]);
    assert!(errors(rule.clone(), json!({"port": 1})).is_empty());
    assert!(
        errors(rule, json!({"port": "a"}))[0]
            .contains("'no such overload': call arguments did not match")
    );
}

#[test]
fn transitions_compare_with_what_was_there() {
    let part = |size: i64| json!({"parts": [{"id": "b", "size": 9}, {"id": "a", "size": size}]});
    let rules = json!([{"rule": "self.x == oldSelf.x"}]);
    let mut new = part(2);
    new["x"] = 1.into();
    let mut old = json!({"x": 1, "parts": [{"id": "a", "size": 1}]});
    assert_eq!(
        violations(rules.clone(), new.clone(), Some(old.clone())).0,
        Vec::<String>::new()
    );
    old["x"] = 2.into();
    old["parts"][0]["size"] = 3.into();
    let found = violations(rules, new, Some(old)).0;
    assert_eq!(
        found,
        [
            "spec: Invalid value: failed rule: self.x == oldSelf.x",
            "spec.parts[1].size: Invalid value: 2: failed rule: self >= oldSelf"
        ]
    );
}

#[test]
fn what_did_not_change_is_a_warning() {
    let rules = json!([{"rule": "self.x > 0"}]);
    let bad = json!({"x": 0});
    assert_eq!(
        violations(rules.clone(), bad.clone(), Some(bad.clone())),
        (vec![], 1)
    );
    let (found, warned) = violations(rules, json!({"x": 0, "name": "n"}), Some(bad));
    assert_eq!((found.len(), warned), (1, 0));
}

#[test]
fn the_budget_is_for_the_whole_object() {
    let list: Vec<String> = (0..2_000)
        .map(|n| format!("{n}-{}", "x".repeat(50)))
        .collect();
    let rules = json!([{"rule": "self.list.all(s, self.list.all(t, s != '' && t != ''))"}, {"rule": "false"}]);
    let found = errors(rules, json!({"list": list}));
    assert!(
        found.len() == 1 && found[0].contains("call cost exceeds limit"),
        "{found:?}"
    );
}
