//! Roles and bindings.

use serde_json::Value;

use super::at::{At, Errors, get, same};
use super::names;

const GROUP: &str = "rbac.authorization.k8s.io";

/// One of the four kinds.
pub(super) fn check(kind: &str, at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    match kind {
        "Role" | "ClusterRole" => role(kind, at, out),
        "RoleBinding" | "ClusterRoleBinding" => binding(kind, at, old, out),
        _ => {}
    }
}

fn role(kind: &str, at: &At<'_, '_>, out: &mut Errors) {
    let rules = at.field("rules");
    for rule in rules.items() {
        one_rule(&rule, kind == "Role", out);
    }
    let aggregation = at.field("aggregationRule");
    if aggregation.is_set() {
        let selectors = aggregation.field("clusterRoleSelectors");
        if selectors.is_empty() {
            out.required(
                &selectors,
                "at least one clusterRoleSelector required if aggregationRule is non-nil",
            );
        }
        for selector in selectors.items() {
            out.label_selector(&selector);
        }
    }
}

fn one_rule(rule: &At<'_, '_>, namespaced: bool, out: &mut Errors) {
    let (verbs, urls) = (rule.field("verbs"), rule.field("nonResourceURLs"));
    let (groups, resources) = (rule.field("apiGroups"), rule.field("resources"));
    if verbs.is_empty() {
        out.required(&verbs, "verbs must contain at least one value");
    }
    if !urls.is_empty() {
        if namespaced {
            out.invalid(&urls, "namespaced rules cannot apply to non-resource URLs");
        }
        if !groups.is_empty() || !resources.is_empty() || !rule.field("resourceNames").is_empty() {
            out.invalid(
                &urls,
                "rules cannot apply to both regular resources and non-resource URLs",
            );
        }
        return;
    }
    if groups.is_empty() {
        out.required(&groups, "resource rules must supply at least one api group");
    }
    if resources.is_empty() {
        out.required(
            &resources,
            "resource rules must supply at least one resource",
        );
    }
}

fn binding(kind: &str, at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let namespaced = kind == "RoleBinding";
    let reference = at.field("roleRef");
    let (group, ref_kind, name) = (
        reference.field("apiGroup"),
        reference.field("kind"),
        reference.field("name"),
    );
    if group.text() != GROUP {
        out.not_supported(&group, &[GROUP]);
    }
    let kinds: &[&str] = if namespaced {
        &["ClusterRole", "Role"]
    } else {
        &["ClusterRole"]
    };
    if !kinds.contains(&ref_kind.text()) {
        out.not_supported(&ref_kind, kinds);
    }
    out.required_form(&name, names::path_segment);
    let subjects = at.field("subjects");
    for subject in subjects.items() {
        one_subject(&subject, namespaced, out);
    }
    if let Some(old) = old
        && !same(reference.value, get(old, "roleRef"))
    {
        out.invalid(&reference, "cannot change roleRef");
    }
}

fn one_subject(subject: &At<'_, '_>, namespaced: bool, out: &mut Errors) {
    let (kind, name, group) = (
        subject.field("kind"),
        subject.field("name"),
        subject.field("apiGroup"),
    );
    out.present(&name);
    match kind.text() {
        "ServiceAccount" => {
            if !name.is_empty() {
                out.form(&name, names::dns_subdomain(name.text()));
            }
            if !group.is_empty() {
                out.not_supported(&group, &[""]);
            }
            let namespace = subject.field("namespace");
            if namespace.is_empty() && !namespaced {
                out.required(&namespace, "");
            }
        }
        "User" | "Group" => {
            if group.text() != GROUP {
                out.not_supported(&group, &[GROUP]);
            }
        }
        _ => out.not_supported(&kind, &["ServiceAccount", "User", "Group"]),
    }
}
