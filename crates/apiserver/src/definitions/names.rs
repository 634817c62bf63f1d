//! The names that a definition is granted, and whether it is established. Pure but for the cache.

use std::cmp::Ordering;

use serde_json::{Map, Value, json};

use super::{GROUP, PLURAL, is_true, set_condition};
use crate::conversion;
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
    // Of several conflicts the last is told.
    let mut conflict: Option<(&str, String)> = None;
    let names = |of: &Value| match of {
        Value::Null => Vec::new(),
        Value::Array(names) => names.clone(),
        name => vec![name.clone()],
    };
    for (field, reason, is_used) in [
        (
            "plural",
            "PluralConflict",
            &is_resource as &dyn Fn(&Value) -> bool,
        ),
        ("singular", "SingularConflict", &is_resource),
        ("shortNames", "ShortNamesConflict", &is_resource),
        ("kind", "KindConflict", &is_kind),
        ("listKind", "ListKindConflict", &is_kind),
    ] {
        // What was accepted once stays so.
        let (asked, own) = (names(&wanted[field]), names(&before[field]));
        let taken = asked
            .iter()
            .filter(|name| !own.contains(name) && is_used(name));
        let taken: Vec<String> = taken
            .map(|name| format!("{name} is already in use"))
            .collect();
        match taken.as_slice() {
            [] => put(&mut accepted, field, &wanted[field]),
            [one] => conflict = Some((reason, one.clone())),
            several => conflict = Some((reason, format!("[{}]", several.join(", ")))),
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
                let (status, reason, words) = if conversion::has_bad_bundle(definition) {
                    let words = "The conversion webhook CABundle is invalid";
                    ("False", "InvalidCABundle", words)
                } else {
                    let words = "the initial names have been accepted";
                    ("True", "InitialNamesAccepted", words)
                };
                set_condition(definition, "Established", status, reason, words);
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
    fn names_that_are_taken_are_refused_and_kept_by_who_has_them() {
        let names = |of: Value| json!({"spec": {"names": of}, "status": {}});
        let others = [
            json!({"plural": "bars", "singular": "bar", "shortNames": ["b", "br"],
            "kind": "Bar", "listKind": "BarList"}),
        ];
        let told = |mut definition: Value| {
            accept(&mut definition, &others);
            let accepted = super::super::condition(&definition, "NamesAccepted").cloned();
            let accepted = accepted.unwrap_or_default();
            let text = |name: &str| accepted[name].as_str().unwrap_or_default().to_owned();
            (
                text("reason"),
                text("message"),
                definition["status"]["acceptedNames"].clone(),
            )
        };
        let asked = json!({"plural": "foos", "singular": "bar", "shortNames": ["b", "f", "br"],
            "kind": "Foo", "listKind": "FooList"});
        let (reason, message, accepted) = told(names(asked.clone()));
        assert_eq!(reason, "ShortNamesConflict");
        assert_eq!(
            message,
            "[\"b\" is already in use, \"br\" is already in use]"
        );
        assert_eq!(
            accepted,
            json!({"plural": "foos", "kind": "Foo", "listKind": "FooList"})
        );
        let mut had = names(asked.clone());
        had["status"]["acceptedNames"] = asked;
        assert_eq!(told(had).0, "NoConflicts");
        let kind = json!({"plural": "foos", "singular": "foo", "kind": "BarList", "listKind": "X"});
        let (reason, message, _) = told(names(kind));
        assert_eq!(
            (&*reason, &*message),
            ("KindConflict", "\"BarList\" is already in use")
        );
    }

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
        assert_eq!(names["reason"], "ListKindConflict");
        assert_eq!(names["message"], "\"FooList\" is already in use");
        assert!(!is_true(&second, "Established"));
        assert_eq!(
            second["status"]["acceptedNames"],
            json!({"plural": "oofs", "kind": ""})
        );
    }
}
