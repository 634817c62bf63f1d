//! ObjectMeta: names by kind, labels, annotations, owners, finalizers, and what never changes.

use std::net::IpAddr;

use serde_json::Value;

use super::at::{At, Errors, get};
use super::names;
use crate::resource::Resource;

/// Annotations of an object together, keys included.
const ANNOTATIONS_LIMIT_BYTES: usize = 256 * 1024;
const STANDARD_FINALIZERS: &[&str] = &["kubernetes", "orphan", "foregroundDeletion"];

type Form = fn(&str) -> Vec<String>;

/// The form of the names of a kind.
fn form(res: &Resource) -> Form {
    match (&*res.group, &*res.plural) {
        ("", "namespaces") => names::dns_label,
        ("", "services") => names::dns_1035_label,
        ("rbac.authorization.k8s.io" | "apiregistration.k8s.io", _) => names::path_segment,
        ("networking.k8s.io", "ipaddresses") => address,
        _ => names::dns_subdomain,
    }
}

fn address(text: &str) -> Vec<String> {
    match text.parse::<IpAddr>() {
        Ok(ip) if ip.to_string() == text => Vec::new(),
        Ok(_) => vec!["must be a canonical form IP address".to_owned()],
        Err(_) => vec!["must be a valid IP address".to_owned()],
    }
}

/// Metadata of a new object.
pub(super) fn create(res: &Resource, object: &Value, out: &mut Errors) {
    let root = At::root(object);
    let meta = root.field("metadata");
    let (generate, name) = (meta.field("generateName"), meta.field("name"));
    let form = form(res);
    if !generate.is_empty() {
        // A random end follows, so that a dash may come before it.
        let text = generate.text();
        let masked = match text
            .strip_suffix('-')
            .and_then(|t| t.char_indices().next_back().map(|(i, _)| &t[..i]))
        {
            Some(start) => format!("{start}a"),
            None => text.to_owned(),
        };
        out.form(&generate, form(&masked));
    }
    if name.is_empty() {
        out.required(&name, "name or generateName is required");
    } else {
        out.form(&name, form(name.text()));
    }
    let namespace = meta.field("namespace");
    if res.namespaced {
        out.required_form(&namespace, names::dns_label);
    } else if !namespace.is_empty() {
        out.forbidden(&namespace, "not allowed on this type");
    }
    out.non_negative(&meta.field("generation"));
    common(res, &meta, out);
}

/// What holds for new and changed metadata.
fn common(res: &Resource, meta: &At<'_, '_>, out: &mut Errors) {
    out.labels(&meta.field("labels"));
    annotations(&meta.field("annotations"), out);
    owners(&meta.field("ownerReferences"), out);
    // Custom resources and their definitions may have finalizers without a domain.
    let strict = || res.schema.table().is_some() && res.group != "apiextensions.k8s.io";
    finalizers(&meta.field("finalizers"), strict, out);
}

/// Metadata of a pod template.
pub(super) fn template(meta: &At<'_, '_>, out: &mut Errors) {
    out.labels(&meta.field("labels"));
    annotations(&meta.field("annotations"), out);
    finalizers(&meta.field("finalizers"), || true, out);
}

pub(super) fn annotations(at: &At<'_, '_>, out: &mut Errors) {
    let mut size_bytes = 0;
    for (key, value) in at.entries() {
        size_bytes += key.len() + value.text().len();
        for detail in names::qualified_name(&key.to_lowercase()) {
            out.invalid_value(at, key, detail);
        }
    }
    if size_bytes > ANNOTATIONS_LIMIT_BYTES {
        out.too_long(at, ANNOTATIONS_LIMIT_BYTES);
    }
}

fn owners(at: &At<'_, '_>, out: &mut Errors) {
    let mut controller: Option<String> = None;
    for owner in at.items() {
        let (version, kind) = (owner.field("apiVersion"), owner.field("kind"));
        let short = version.text().rsplit('/').next().unwrap_or_default();
        if short.is_empty() || version.text().matches('/').count() > 1 {
            out.invalid(&version, "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            let field = owner.field(field);
            if field.is_empty() {
                out.invalid(&field, "must not be empty");
            }
        }
        if version.text() == "v1" && kind.text() == "Event" {
            out.invalid(&owner, "/v1, Kind=Event is disallowed from being an owner");
        }
        if owner.field("controller").flag() {
            let this = format!("{}/{}", kind.text(), owner.field("name").text());
            match &controller {
                Some(first) => out.invalid(
                    at,
                    format!(
                        "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                    ),
                ),
                None => controller = Some(this),
            }
        }
    }
}

fn finalizers(at: &At<'_, '_>, strict: impl Fn() -> bool, out: &mut Errors) {
    let has = |name: &str| at.items().any(|f| f.text() == name);
    for finalizer in at.items() {
        let text = finalizer.text();
        for detail in names::qualified_name(text) {
            out.invalid_value(at, text, detail);
        }
        if !text.contains('/') && !STANDARD_FINALIZERS.contains(&text) && strict() {
            out.invalid(
                &finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    if has("orphan") && has("foregroundDeletion") {
        out.invalid(
            at,
            "finalizer orphan and foregroundDeletion cannot be both set",
        );
    }
}

/// Metadata of a changed object.
pub(super) fn update(res: &Resource, new: &Value, old: &Value, out: &mut Errors) {
    let root = At::root(new);
    let meta = root.field("metadata");
    let before = get(old, "metadata");
    let finalizers = meta.field("finalizers");
    if !get(before, "deletionTimestamp").is_null() {
        let known = get(before, "finalizers").as_array();
        let added: Vec<String> = finalizers
            .items()
            .filter(|f| !known.is_some_and(|list| list.contains(f.value)))
            .map(|f| format!("{:?}", f.text()))
            .collect();
        if !added.is_empty() {
            out.forbidden(
                &finalizers,
                format!(
                    "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
                    added.join(", ")
                ),
            );
        }
    }
    let generation = meta.field("generation");
    if generation.int().unwrap_or_default() < get(before, "generation").as_i64().unwrap_or_default()
    {
        out.invalid(&generation, "must not be decremented");
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        out.immutable(&meta.field(field), get(before, field));
    }
    common(res, &meta, out);
}
