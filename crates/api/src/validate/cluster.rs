//! Namespaces, nodes, priorities, leases, limits, quotas, runtime classes, events.

use std::collections::HashSet;

use serde_json::Value;

use super::at::{At, Errors, get, same};
use super::{names, resources, scheduling};

const HIGHEST_USER_PRIORITY: i64 = 1_000_000_000;
const SYSTEM_PRIORITIES: &[(&str, i64)] = &[
    ("system-node-critical", 2_000_001_000),
    ("system-cluster-critical", 2_000_000_000),
];
const QUOTA_SCOPES: &[&str] = &[
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];

/// A Namespace.
pub(super) fn namespace(at: &At<'_, '_>, out: &mut Errors) {
    let finalizers = at.field("spec.finalizers");
    for finalizer in finalizers.items() {
        out.form(&finalizer, names::qualified_name(finalizer.text()));
    }
}

/// A Node.
pub(super) fn node(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    scheduling::taints(&spec.field("taints"), out);
    let ranges = spec.field("podCIDRs");
    if ranges
        .items()
        .next()
        .is_some_and(|first| first.text() != spec.field("podCIDR").text())
    {
        out.invalid(&ranges, "must match spec.podCIDR at index 0");
    }
    for range in ranges.items() {
        if !super::service::is_cidr(range.text()) {
            out.invalid(
                &range,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    node_status(at, out);
    let Some(old) = old else { return };
    for (field, words) in [
        (
            "podCIDRs",
            "node updates may not change podCIDR except from \"\" to valid",
        ),
        (
            "providerID",
            "node updates may not change providerID except from \"\" to valid",
        ),
    ] {
        let (field, was) = (spec.field(field), get(get(old, "spec"), field));
        if !same(was, &Value::Null) && !same(field.value, was) {
            out.forbidden(&field, words);
        }
    }
}

/// What a Node says of itself.
pub(super) fn node_status(at: &At<'_, '_>, out: &mut Errors) {
    let status = at.field("status");
    for list in ["capacity", "allocatable"] {
        let amounts = status.field(list);
        for (key, entry) in amounts.entries() {
            resources::name(&entry, key, out);
            resources::amount(&entry, key, out);
        }
    }
    let mut seen = HashSet::new();
    let addresses = status.field("addresses");
    for address in addresses.items() {
        if !seen.insert((
            address.field("type").text(),
            address.field("address").text(),
        )) {
            out.duplicate(&address);
        }
    }
}

/// A PriorityClass.
pub(super) fn priority_class(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let (name, value) = (at.field("metadata.name"), at.field("value"));
    let number = value.int().unwrap_or_default();
    if name.text().starts_with("system-") {
        let known = SYSTEM_PRIORITIES
            .iter()
            .find(|(system, _)| *system == name.text());
        if known.is_none_or(|(_, wanted)| *wanted != number) {
            let why = match known {
                None => format!("{} is not a known system priority class", name.text()),
                Some((system, wanted)) => {
                    format!("value of {system} PriorityClass must be {wanted}")
                }
            };
            out.forbidden(
                &name,
                format!("priority class names with 'system-' prefix are reserved for system use only. error: {why}"),
            );
        }
    } else if number > HIGHEST_USER_PRIORITY {
        out.forbidden(
            &value,
            format!("maximum allowed value of a user defined priority is {HIGHEST_USER_PRIORITY}"),
        );
    }
    out.any_of(
        &at.field("preemptionPolicy"),
        &["Never", "PreemptLowerPriority"],
    );
    if let Some(old) = old {
        if number != get(old, "value").as_i64().unwrap_or_default() {
            out.forbidden(&value, "may not be changed in an update.");
        }
        out.immutable(&at.field("preemptionPolicy"), get(old, "preemptionPolicy"));
    }
}

/// A Lease.
pub(super) fn lease(at: &At<'_, '_>, out: &mut Errors) {
    let spec = at.field("spec");
    out.positive(&spec.field("leaseDurationSeconds"));
    out.non_negative(&spec.field("leaseTransitions"));
}

/// A RuntimeClass.
pub(super) fn runtime_class(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let handler = at.field("handler");
    out.form(&handler, names::dns_label(handler.text()));
    if let Some(old) = old {
        out.immutable(&handler, get(old, "handler"));
    }
    let overhead = at.field("overhead.podFixed");
    for (key, entry) in overhead.entries() {
        resources::amount(&entry, key, out);
    }
    scheduling::tolerations(&at.field("scheduling.tolerations"), out);
    out.labels(&at.field("scheduling.nodeSelector"));
}

/// A LimitRange.
pub(super) fn limit_range(at: &At<'_, '_>, out: &mut Errors) {
    let limits = at.field("spec.limits");
    let mut seen = HashSet::new();
    for limit in limits.items() {
        let kind = limit.field("type");
        if out.present(&kind) {
            if !kind.text().contains('/')
                && !["Pod", "Container", "PersistentVolumeClaim"].contains(&kind.text())
            {
                out.invalid(&kind, "must be a standard limit type or fully qualified");
            }
            if !seen.insert(kind.text()) {
                out.duplicate(&kind);
            }
        }
        amounts_of_limit(&limit, out);
    }
}

fn amounts_of_limit(limit: &At<'_, '_>, out: &mut Errors) {
    const LISTS: [&str; 5] = [
        "max",
        "min",
        "default",
        "defaultRequest",
        "maxLimitRequestRatio",
    ];
    for list in LISTS {
        let amounts = limit.field(list);
        for (key, entry) in amounts.entries() {
            resources::name(&entry, key, out);
            resources::amount(&entry, key, out);
        }
    }
    if limit.field("type").text() == "Pod" {
        for list in ["default", "defaultRequest"] {
            let amounts = limit.field(list);
            if !amounts.is_empty() {
                out.forbidden(&amounts, "may not be specified when `type` is 'Pod'");
            }
        }
    }
    // The first may not be more than the second; both as upstream calls them.
    for (low, low_words, high, high_words) in [
        ("min", "min", "max", "max"),
        ("min", "min", "defaultRequest", "default request"),
        ("defaultRequest", "default request", "max", "max"),
        (
            "defaultRequest",
            "default request",
            "default",
            "default limit",
        ),
        ("min", "min", "default", "default"),
        ("default", "default", "max", "max"),
    ] {
        let (less, more) = (limit.field(low), limit.field(high));
        for (key, entry) in less.entries() {
            let bound = more.key(key);
            if let (Some(a), Some(b)) = (entry.quantity(), bound.quantity())
                && a > b
            {
                let words = format!(
                    "{low_words} value {} is greater than {high_words} value {}",
                    entry.text(),
                    bound.text()
                );
                out.invalid(&entry, words);
            }
        }
    }
}

/// A ResourceQuota.
pub(super) fn quota(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    let hard = spec.field("hard");
    for (key, entry) in hard.entries() {
        for detail in names::qualified_name(key) {
            out.invalid_value(&entry, key, detail);
        }
        resources::amount(&entry, key, out);
    }
    let scopes = spec.field("scopes");
    for scope in scopes.items() {
        if !QUOTA_SCOPES.contains(&scope.text()) {
            out.invalid(&scopes, "unsupported scope");
        }
    }
    if let Some(old) = old {
        for field in ["scopes", "scopeSelector"] {
            out.immutable(&spec.field(field), get(get(old, "spec"), field));
        }
    }
}

/// An Event: it lives where what it tells of lives.
pub(super) fn event(at: &At<'_, '_>, out: &mut Errors) {
    let (own, about) = (
        at.field("metadata.namespace"),
        at.field("involvedObject.namespace"),
    );
    let fits = match about.text() {
        "" => matches!(own.text(), "" | "default"),
        namespace => namespace == own.text(),
    };
    if !fits {
        out.invalid(&about, "does not match event.namespace");
    }
}

/// A HorizontalPodAutoscaler.
pub(super) fn autoscaler(at: &At<'_, '_>, out: &mut Errors) {
    let spec = at.field("spec");
    let (least, most) = (spec.field("minReplicas"), spec.field("maxReplicas"));
    let most_number = most.int().unwrap_or_default();
    if least.int().is_some_and(|n| n < 1) {
        out.invalid(&least, "must be greater than or equal to 1");
    }
    if most_number < 1 {
        out.invalid_value(&most, most_number, "must be greater than 0");
    }
    if least.int().is_some_and(|n| most_number < n) {
        out.invalid_value(
            &most,
            most_number,
            "must be greater than or equal to `minReplicas`",
        );
    }
    for field in ["kind", "name"] {
        let target = spec.field("scaleTargetRef");
        out.required_form(&target.field(field), names::path_segment);
    }
}

/// A PodDisruptionBudget.
pub(super) fn disruption_budget(at: &At<'_, '_>, out: &mut Errors) {
    let spec = at.field("spec");
    let (least, most) = (spec.field("minAvailable"), spec.field("maxUnavailable"));
    if least.is_set() && most.is_set() {
        out.invalid(&spec, "minAvailable and maxUnavailable cannot be both set");
    }
    super::workload::int_or_percent(&least, out);
    super::workload::int_or_percent(&most, out);
    out.label_selector(&spec.field("selector"));
    out.any_of(
        &spec.field("unhealthyPodEvictionPolicy"),
        &["AlwaysAllow", "IfHealthyBudget"],
    );
}
