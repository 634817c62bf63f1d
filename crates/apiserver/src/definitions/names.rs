//! The names that a definition is granted, and whether it is established. Pure but for the cache.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{GROUP, PLURAL, is_true, set_condition};
use crate::state::State;

/// The definition with the status that it should have; nothing when it has that.
pub(super) fn plan(state: &State, definition: &Value) -> Option<Value> {
    let group = &definition["spec"]["group"];
    let others: Vec<Value> = state
        .cache
        .kind(GROUP, PLURAL)
        .list(None)
        .iter()
        .filter(|other| other.name() != api::meta::name(definition))
        .map(|other| other.value())
        .filter(|other| other["spec"]["group"] == *group)
        .map(|other| other["status"]["acceptedNames"].clone())
        .collect();
    let mut new = definition.clone();
    accept(&mut new, &others);
    if let Some((status, reason, message)) = api::validate::approval(definition) {
        let kind = "KubernetesAPIApprovalPolicyConformant";
        set_condition(&mut new, kind, status, reason, &message);
    }
    (new != *definition).then_some(new)
}

fn accept(definition: &mut Value, others: &[Value]) {
    let wanted = definition["spec"]["names"].clone();
    let before = definition["status"]["acceptedNames"].clone();
    let is_resource = |name: &Value| {
        others.iter().any(|other| {
            let short = other["shortNames"].as_array();
            other["plural"] == *name
                || other["singular"] == *name
                || short.is_some_and(|list| list.contains(name))
        })
    };
    let is_kind = |name: &Value| {
        others
            .iter()
            .any(|o| o["kind"] == *name || o["listKind"] == *name)
    };
    let mut accepted = before.as_object().cloned().unwrap_or_default();
    let mut conflict: Option<(&str, String)> = None;
    let mut refuse = |reason: &'static str, name: &Value| {
        if conflict.is_none() {
            conflict = Some((reason, format!("{name} is already in use")));
        }
    };
    for (field, reason) in [
        ("plural", "PluralConflict"),
        ("singular", "SingularConflict"),
    ] {
        match &wanted[field] {
            Value::Null => {}
            name if is_resource(name) => refuse(reason, name),
            name => put(&mut accepted, field, name),
        }
    }
    let short = wanted["shortNames"].as_array().cloned().unwrap_or_default();
    match short.iter().find(|name| is_resource(name)) {
        Some(name) => refuse("ShortNamesConflict", name),
        None => put(&mut accepted, "shortNames", &wanted["shortNames"]),
    }
    for (field, reason) in [("kind", "KindConflict"), ("listKind", "ListKindConflict")] {
        match &wanted[field] {
            Value::Null => {}
            name if is_kind(name) => refuse(reason, name),
            name => put(&mut accepted, field, name),
        }
    }
    put(&mut accepted, "categories", &wanted["categories"]);
    for field in ["plural", "kind"] {
        accepted.entry(field).or_insert_with(|| json!(""));
    }
    if !definition["status"].is_object() {
        definition["status"] = json!({});
    }
    definition["status"]["acceptedNames"] = Value::Object(accepted);
    let established = is_true(definition, "Established");
    match conflict {
        Some((reason, message)) => {
            set_condition(definition, "NamesAccepted", "False", reason, &message);
            if !established {
                let words = "not all names are accepted";
                set_condition(definition, "Established", "False", "NotAccepted", words);
            }
        }
        None => {
            let words = "no conflicts found";
            set_condition(definition, "NamesAccepted", "True", "NoConflicts", words);
            if !established {
                let words = "the initial names have been accepted";
                set_condition(
                    definition,
                    "Established",
                    "True",
                    "InitialNamesAccepted",
                    words,
                );
            }
        }
    }
}

fn put(accepted: &mut Map<String, Value>, field: &str, value: &Value) {
    if value.is_null() {
        accepted.remove(field);
    } else {
        accepted.insert(field.to_owned(), value.clone());
    }
}

/// Upstream's order of versions: v10, v2, v1, v11beta2, v10beta3, v3alpha1, then others by name.
pub(super) fn by_version(a: &str, b: &str) -> Ordering {
    match (parse(a), parse(b)) {
        (Some(a), Some(b)) => b.cmp(&a),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => a.cmp(b),
    }
}

/// How stable it is, its major and its minor number.
fn parse(version: &str) -> Option<(u8, u64, u64)> {
    let rest = version.strip_prefix('v')?;
    let digits = rest
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (major, rest) = rest.split_at(digits);
    let major = major.parse().ok()?;
    if rest.is_empty() {
        return Some((3, major, 0));
    }
    let (level, minor) = match rest.strip_prefix("beta") {
        Some(minor) => (2, minor),
        None => (1, rest.strip_prefix("alpha")?),
    };
    Some((level, major, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_in_upstreams_order() {
        let mut all = [
            "foo1",
            "v3alpha1",
            "v1",
            "v11beta2",
            "v10",
            "v12alpha1",
            "v10beta3",
            "v2",
            "foo10",
        ];
        all.sort_by(|a, b| by_version(a, b));
        assert_eq!(
            all,
            [
                "v10",
                "v2",
                "v1",
                "v11beta2",
                "v10beta3",
                "v12alpha1",
                "v3alpha1",
                "foo1",
                "foo10"
            ]
        );
    }

    #[test]
    fn names_in_use_are_not_granted() {
        let definition = |plural: &str| {
            json!({"spec": {"group": "g.io", "names": {"plural": plural, "singular": "foo",
                "kind": "Foo", "listKind": "FooList", "shortNames": ["f"]}}})
        };
        let mut first = definition("foos");
        accept(&mut first, &[]);
        assert!(is_true(&first, "Established"));
        let mut second = definition("oofs");
        accept(&mut second, &[first["status"]["acceptedNames"].clone()]);
        let names = super::super::condition(&second, "NamesAccepted").cloned();
        let names = names.unwrap_or_default();
        assert_eq!(names["reason"], "SingularConflict");
        assert_eq!(names["message"], "\"foo\" is already in use");
        assert!(!is_true(&second, "Established"));
        assert_eq!(
            second["status"]["acceptedNames"],
            json!({"plural": "oofs", "kind": ""})
        );
    }
}
