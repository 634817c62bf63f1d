//! CustomResourceDefinitions: names, versions and what versions serve; schemas are checked where they
//! are compiled.

use std::collections::HashSet;

use serde_json::{Value, json};

use super::at::{At, Errors, get};
use super::{names, webhooks};

const COLUMN_TYPES: &[&str] = &["boolean", "date", "integer", "number", "string"];
const COLUMN_FORMATS: &[&str] = &[
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
const MAX_SELECTABLE: usize = 8;
const MAX_WARNING_BYTES: usize = 256;
/// Says that an API in a group of the community's own was agreed on.
const APPROVED: &str = "api-approved.kubernetes.io";
const APPROVAL_PAGE: &str = "https://github.com/kubernetes/enhancements/pull/1111";

/// What is wrong with a definition; `old` is what it was.
pub(super) fn check(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let (spec, name) = (at.field("spec"), at.field("metadata.name"));
    let group = spec.field("group");
    let plural = spec.field("names.plural");
    if name.text() != format!("{}.{}", plural.text(), group.text()) {
        out.invalid(&name, "must be spec.names.plural+\".\"+spec.group");
    }
    if group.is_empty() {
        out.required(&group, "");
    } else {
        out.form(&group, names::dns_subdomain(group.text()));
        if !group.text().contains('.') {
            out.invalid(&group, "should be a domain with at least one dot");
        }
    }
    out.one_of(&spec.field("scope"), &["Cluster", "Namespaced"]);
    check_names(&spec, out);
    check_versions(&spec, out);
    check_conversion(at, old, out);
    let open = spec.field("preserveUnknownFields");
    let was_open = old.is_some_and(|old| get(old, "spec.preserveUnknownFields") == true);
    if open.flag() && !was_open {
        out.invalid(&open, "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead");
    }
    check_approval(at, old, out);
}

fn check_names(spec: &At<'_, '_>, out: &mut Errors) {
    let names = spec.field("names");
    out.required_form(&names.field("plural"), names::dns_1035_label);
    let singular = names.field("singular");
    if !singular.is_empty() {
        out.form(&singular, names::dns_1035_label(singular.text()));
    }
    let (kind, list_kind) = (names.field("kind"), names.field("listKind"));
    out.present(&kind);
    for kind in [&kind, &list_kind] {
        if kind.is_empty() {
            continue;
        }
        let details = names::dns_1035_label(&kind.text().to_lowercase());
        if !details.is_empty() {
            let details = details.join(",");
            let words = format!("may have mixed case, but should otherwise match: {details}");
            out.invalid(kind, words);
        }
    }
    for list in ["shortNames", "categories"] {
        for name in names.field(list).items() {
            out.form(&name, names::dns_1035_label(name.text()));
        }
    }
    if !kind.is_empty() && kind.text() == list_kind.text() {
        out.invalid(&list_kind, "kind and listKind may not be the same");
    }
}

/// How versions become each other. Errors name the fields as upstream's inner form has them.
fn check_conversion(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let conversion = get(at.value, "spec.conversion");
    if conversion.is_null() {
        return;
    }
    let strategy = get(conversion, "strategy");
    let inner = json!({"spec": {"conversion": {
        "strategy": strategy,
        "webhookClientConfig": get(conversion, "webhook.clientConfig"),
        "conversionReviewVersions": get(conversion, "webhook.conversionReviewVersions"),
    }}});
    let root = At::root(&inner);
    let at = root.field("spec.conversion");
    let (config, versions) = (
        at.field("webhookClientConfig"),
        at.field("conversionReviewVersions"),
    );
    out.one_of(&at.field("strategy"), &["None", "Webhook"]);
    if strategy != "Webhook" {
        let words = "should not be set when strategy is not set to Webhook";
        for (field, set) in [
            (&config, config.is_set()),
            (&versions, !versions.is_empty()),
        ] {
            if set {
                out.forbidden(field, words);
            }
        }
        return;
    }
    if config.is_set() {
        webhooks::client_config(&config, out);
    } else {
        out.required(&config, "required when strategy is set to Webhook");
    }
    if versions.is_empty() {
        return out.required(&versions, "");
    }
    let mut seen: Vec<&str> = Vec::new();
    for version in versions.items() {
        if seen.contains(&version.text()) {
            out.invalid(&version, "duplicate version");
            continue;
        }
        seen.push(version.text());
        out.form(&version, names::dns_1035_label(version.text()));
    }
    let known = |version: &str| webhooks::REVIEW_VERSIONS.contains(&version);
    // What an older definition got wrong already does not stop its change.
    let before = old.map(|old| get(old, "spec.conversion.webhook.conversionReviewVersions"));
    let lenient = before.and_then(Value::as_array).is_some_and(|before| {
        let mut before = before.iter().filter_map(Value::as_str);
        before.clone().next().is_some() && !before.any(known)
    });
    if !lenient && !seen.into_iter().any(known) {
        let known = webhooks::REVIEW_VERSIONS.join(", ");
        out.invalid(&versions, format!("must include at least one of {known}"));
    }
}

fn check_versions(spec: &At<'_, '_>, out: &mut Errors) {
    let versions = spec.field("versions");
    if versions.is_empty() {
        return out.required(&versions, "must have at least one version");
    }
    let mut seen = HashSet::new();
    let mut stored = 0;
    for version in versions.items() {
        let name = version.field("name");
        out.form(&name, names::dns_1035_label(name.text()));
        if !seen.insert(name.text()) {
            out.invalid(&versions, "must contain unique version names");
        }
        stored += usize::from(version.field("storage").flag());
        let schema = version.field("schema.openAPIV3Schema");
        if !schema.is_set() {
            out.required(&schema, "schemas are required");
        }
        check_warning(&version, out);
        check_scale(&version.field("subresources.scale"), out);
        for column in version.field("additionalPrinterColumns").items() {
            check_column(&column, out);
        }
        check_selectable(&version, out);
    }
    if stored != 1 {
        let shown: Value = versions
            .items()
            .map(|v| json!(v.field("name").text()))
            .collect();
        out.invalid_value(
            &versions,
            shown,
            "must have exactly one version marked as storage version",
        );
    }
}

/// The words of a deprecated version.
fn check_warning(version: &At<'_, '_>, out: &mut Errors) {
    let warning = version.field("deprecationWarning");
    if !warning.is_set() {
        return;
    }
    if !version.field("deprecated").flag() {
        return out.invalid(&warning, "can only be set for deprecated versions");
    }
    let text = warning.text();
    if text.len() > MAX_WARNING_BYTES {
        out.invalid(&warning, "must be <= 256 characters long");
    }
    if text.is_empty() {
        out.invalid(&warning, "must not be an empty string");
    }
    let printable = |c: char| c == ' ' || !(c.is_control() || c.is_whitespace());
    if let Some((index, _)) = text.char_indices().find(|(_, c)| !printable(*c)) {
        out.invalid(&warning, format!("must only contain printable UTF-8 characters; non-printable character found at index {index}"));
    }
}

/// Whether it is a path such as `.spec.replicas`; says why not.
fn is_simple_path(path: &At<'_, '_>, out: &mut Errors) -> bool {
    let simple = path.text().starts_with('.');
    if !simple {
        out.invalid(path, "must be a simple json path starting with .");
    }
    simple
}

fn check_scale(scale: &At<'_, '_>, out: &mut Errors) {
    if !scale.is_set() {
        return;
    }
    for (name, root) in [
        ("specReplicasPath", ".spec"),
        ("statusReplicasPath", ".status"),
    ] {
        let path = scale.field(name);
        if path.is_empty() {
            out.required(&path, "");
        } else if is_simple_path(&path, out) && !path.text().starts_with(&format!("{root}.")) {
            out.invalid(&path, format!("should be a json path under {root}"));
        }
    }
    let path = scale.field("labelSelectorPath");
    if !path.is_empty() && is_simple_path(&path, out) {
        let below = [".spec.", ".status."];
        if !below.iter().any(|root| path.text().starts_with(root)) {
            out.invalid(&path, "should be a json path under either .spec or .status");
        }
    }
}

fn check_column(column: &At<'_, '_>, out: &mut Errors) {
    let name = column.field("name");
    if name.is_empty() {
        out.required(&name, "");
    }
    let types = format!("must be one of {}", COLUMN_TYPES.join(","));
    let kind = column.field("type");
    if kind.is_empty() {
        out.required(&kind, &types);
    } else if !COLUMN_TYPES.contains(&kind.text()) {
        out.invalid(&kind, types);
    }
    let format = column.field("format");
    if !format.is_empty() && !COLUMN_FORMATS.contains(&format.text()) {
        let words = format!("must be one of {}", COLUMN_FORMATS.join(","));
        out.invalid(&format, words);
    }
    // Upstream names the field as its Go struct has it.
    let (shown, path) = (column.field("JSONPath"), column.field("jsonPath"));
    if path.is_empty() {
        out.required(&shown, "");
    } else if !path.text().starts_with('.') {
        let words = "must be a simple json path starting with .";
        out.invalid_value(&shown, path.text(), words);
    }
}

fn check_selectable(version: &At<'_, '_>, out: &mut Errors) {
    let schema = version.field("schema.openAPIV3Schema");
    let fields = version.field("selectableFields");
    let mut seen = HashSet::new();
    for field in fields.items() {
        let path = field.field("jsonPath");
        if path.is_empty() {
            out.required(&path, "");
            continue;
        }
        let found = match schema_at(schema.value, path.text()) {
            Ok(found) => found,
            Err(why) => {
                out.invalid(&path, format!("is an invalid path: {why}"));
                continue;
            }
        };
        if path.text() == ".metadata" || path.text().starts_with(".metadata.") {
            out.invalid(&path, "must not point to fields in metadata");
        }
        let kind = found.get("type").and_then(Value::as_str);
        if !matches!(kind, Some("string" | "boolean" | "integer")) {
            out.invalid(&path, "must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.");
        }
        if !seen.insert(path.text()) {
            out.duplicate(&path);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        out.too_many(&fields, seen.len(), MAX_SELECTABLE);
    }
}

/// The schema at a path such as `.spec.color`; else what is wrong with the path.
fn schema_at<'a>(schema: &'a Value, path: &str) -> Result<&'a Value, String> {
    let (mut at, mut rest) = (schema, path);
    while !rest.is_empty() {
        let end = |text: &str| text.find(['.', '[', ']']).unwrap_or(text.len());
        if rest.starts_with('[') {
            return Err("array notation is not allowed".to_owned());
        }
        let Some(after) = rest.strip_prefix('.') else {
            let token = &rest[..end(rest).max(1)];
            return Err(format!("expected [ or . but got: {token}"));
        };
        if after.is_empty() {
            return Err("unexpected end of JSON path".to_owned());
        }
        let (name, left) = after.split_at(end(after));
        let below = match (at.get("properties"), at.get("additionalProperties")) {
            (Some(properties), _) => properties.get(name),
            (None, Some(values)) => Some(values).filter(|values| values.is_object()),
            (None, None) => None,
        };
        at = below.ok_or_else(|| "does not refer to a valid field".to_owned())?;
        rest = left;
    }
    Ok(at)
}

/// Whether a group is the community's own.
fn is_protected(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"].iter().any(|own| {
        let rest = group.strip_suffix(own);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// What an approval says: the status of the condition, its reason and its message; nothing for
/// definitions that need none.
#[must_use]
pub fn approval(definition: &Value) -> Option<(&'static str, &'static str, String)> {
    let group = definition.pointer("/spec/group").and_then(Value::as_str);
    if !is_protected(group.unwrap_or_default()) {
        return None;
    }
    let annotation = definition
        .get("metadata")
        .and_then(|meta| meta.get("annotations")?.get(APPROVED)?.as_str())
        .unwrap_or_default();
    let is_url = annotation.split_once("://").is_some_and(|(scheme, rest)| {
        let host = rest.split(['/', '?']).next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || "+-.".contains(c);
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(plain)
            && !host.is_empty()
            && !annotation.contains([' ', '\u{7f}'])
    });
    Some(if annotation.is_empty() {
        let words = format!(
            "protected groups must have approval annotation {APPROVED:?}, see {APPROVAL_PAGE}"
        );
        ("False", "MissingAnnotation", words)
    } else if annotation.starts_with("unapproved") {
        let words = format!("not approved: {}", crate::status::quote(annotation));
        ("False", "UnapprovedAnnotation", words)
    } else if is_url {
        let words = format!("approved in {annotation}");
        ("True", "ApprovedAnnotation", words)
    } else {
        let words = format!(
            "protected groups must have approval annotation {APPROVED:?} with either a URL or a reason starting with \"unapproved\", see {APPROVAL_PAGE}"
        );
        ("False", "InvalidAnnotation", words)
    })
}

fn check_approval(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let Some((_, reason, words)) = approval(at.value) else {
        return;
    };
    if old
        .and_then(approval)
        .is_some_and(|(_, was, _)| was == reason)
    {
        return;
    }
    let annotations = at.field("metadata.annotations");
    let annotation = annotations.key(APPROVED);
    match reason {
        "MissingAnnotation" => out.required(&annotation, &words),
        "InvalidAnnotation" => out.invalid(&annotation, words),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(change: impl FnOnce(&mut Value)) -> Vec<String> {
        let schema = json!({"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"color": {"type": "string"}, "list": {"type": "array"}}}}});
        let mut definition = json!({"metadata": {"name": "foos.g.io"},
            "spec": {"group": "g.io", "scope": "Namespaced",
                "names": {"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"},
                "versions": [{"name": "v1", "served": true, "storage": true,
                    "schema": {"openAPIV3Schema": schema}}]}});
        change(&mut definition);
        let mut out = Errors::default();
        check(&At::root(&definition), None, &mut out);
        let all = out.into_vec();
        all.iter()
            .map(|e| format!("{}: {}", e.path, e.body()))
            .collect()
    }

    fn of_version(name: &str, value: Value) -> Vec<String> {
        told(|d| d["spec"]["versions"][0][name] = value)
    }

    #[test]
    fn versions_in_upstreams_words() {
        assert!(told(|_| ()).is_empty());
        assert_eq!(
            of_version(
                "additionalPrinterColumns",
                json!([{"name": "A", "type": "text", "jsonPath": "a"}])
            ),
            [
                "spec.versions[0].additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string",
                "spec.versions[0].additionalPrinterColumns[0].JSONPath: Invalid value: \"a\": must be a simple json path starting with .",
            ]
        );
        assert_eq!(
            of_version(
                "selectableFields",
                json!([{"jsonPath": ".spec.color"}, {"jsonPath": ".spec.x"}, {"jsonPath": ".spec.list"},
                    {"jsonPath": ".spec['color']"}, {"jsonPath": "spec"}, {"jsonPath": ".spec."}])
            ),
            [
                "spec.versions[0].selectableFields[1].jsonPath: Invalid value: \".spec.x\": is an invalid path: does not refer to a valid field",
                "spec.versions[0].selectableFields[2].jsonPath: Invalid value: \".spec.list\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.",
                "spec.versions[0].selectableFields[3].jsonPath: Invalid value: \".spec['color']\": is an invalid path: array notation is not allowed",
                "spec.versions[0].selectableFields[4].jsonPath: Invalid value: \"spec\": is an invalid path: expected [ or . but got: spec",
                "spec.versions[0].selectableFields[5].jsonPath: Invalid value: \".spec.\": is an invalid path: unexpected end of JSON path",
            ]
        );
        assert_eq!(
            of_version(
                "subresources",
                json!({"scale": {"specReplicasPath": ".status.a", "statusReplicasPath": ""}})
            ),
            [
                "spec.versions[0].subresources.scale.specReplicasPath: Invalid value: \".status.a\": should be a json path under .spec",
                "spec.versions[0].subresources.scale.statusReplicasPath: Required value",
            ]
        );
        assert_eq!(
            of_version("deprecationWarning", json!("old")),
            [
                "spec.versions[0].deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"
            ]
        );
    }

    #[test]
    fn names_and_protected_groups() {
        assert_eq!(
            told(|d| {
                d["spec"]["names"]["listKind"] = "Foo".into();
                d["spec"]["names"]["shortNames"] = json!(["F"]);
            })
            .iter()
            .map(|words| words.split(": ").next().unwrap_or_default())
            .collect::<Vec<_>>(),
            ["spec.names.shortNames[0]", "spec.names.listKind"]
        );
        let own = |annotation: Option<&str>| {
            told(|d| {
                d["spec"]["group"] = "x.k8s.io".into();
                d["metadata"]["name"] = "foos.x.k8s.io".into();
                if let Some(annotation) = annotation {
                    d["metadata"]["annotations"][APPROVED] = annotation.into();
                }
            })
        };
        assert_eq!(
            own(None),
            [
                "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
            ]
        );
        assert_eq!(own(Some("yes")).len(), 1);
        assert!(own(Some("unapproved, a test")).is_empty());
        assert!(own(Some("https://example.com/1")).is_empty());
    }
}
