//! Amounts of resources: their names, that they are not negative, and that a request fits its limit.

use super::at::{At, Errors};
use super::names;

const INTEGER_ONLY: &[&str] = &[
    "pods",
    "services",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
];

fn is_for_containers(name: &str) -> bool {
    ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-")
}

fn is_standard(name: &str) -> bool {
    let rest = name
        .strip_prefix("requests.")
        .or_else(|| name.strip_prefix("limits."))
        .unwrap_or(name);
    is_for_containers(rest)
        || rest == "storage"
        || INTEGER_ONLY.contains(&name)
        || ["services.nodeports", "services.loadbalancers"].contains(&name)
}

/// A resource of vendors: `example.com/gpu`.
fn is_extended(name: &str) -> bool {
    name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.")
}

/// The name of a resource as a key of a map.
pub(super) fn name(at: &At<'_, '_>, name: &str, out: &mut Errors) {
    for detail in names::qualified_name(name) {
        out.invalid_value(at, name, detail);
    }
    if !name.contains('/') && !is_standard(name) {
        out.invalid_value(
            at,
            name,
            "must be a standard resource type or fully qualified",
        );
    }
}

/// An amount that is not negative, and whole where the resource is counted.
pub(super) fn amount(at: &At<'_, '_>, name: &str, out: &mut Errors) {
    let Some(quantity) = at.quantity() else {
        return;
    };
    if quantity.is_negative() {
        out.invalid(at, "must be greater than or equal to 0");
    }
    if (INTEGER_ONLY.contains(&name) || is_extended(name)) && !quantity.is_whole() {
        out.invalid(at, "must be an integer");
    }
}

/// `resources` of a container or a pod.
pub(super) fn requirements(at: &At<'_, '_>, out: &mut Errors) {
    let (limits, requests) = (at.field("limits"), at.field("requests"));
    for list in [&limits, &requests] {
        for (key, entry) in list.entries() {
            name(&entry, key, out);
            if !key.contains('/') && !is_for_containers(key) {
                out.invalid_value(&entry, key, "must be a standard resource for containers");
            }
            amount(&entry, key, out);
        }
    }
    for (key, request) in requests.entries() {
        let limit = limits.key(key);
        let counted = key.starts_with("hugepages-") || is_extended(key);
        match (request.quantity(), limit.quantity()) {
            (Some(wanted), Some(most)) if counted && wanted != most => {
                out.invalid_value(
                    &requests,
                    request.text(),
                    format!("must be equal to {key} limit of {}", limit.text()),
                );
            }
            (Some(wanted), Some(most)) if wanted > most => {
                let words = format!(
                    "must be less than or equal to {key} limit of {}",
                    limit.text()
                );
                out.invalid_value(&requests, request.text(), words);
            }
            (Some(_), None) if counted => out.required(
                &limits,
                "Limit must be set for non overcommitable resources",
            ),
            _ => {}
        }
    }
}
