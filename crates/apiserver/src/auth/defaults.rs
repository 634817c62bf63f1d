//! The default roles and bindings, the same as upstream's, and how they are kept up to date.
//!
//! Invariant: reconciling only ever adds what is missing, and leaves alone what somebody has opted
//! out of by the annotation `rbac.authorization.kubernetes.io/autoupdate: "false"`.

mod cluster_roles;
mod controllers;
mod namespaced;
mod table;

use serde_json::{Value, json};

use self::cluster_roles::CLUSTER_ROLES;
use self::controllers::CONTROLLER_ROLES;
use self::namespaced::{CLUSTER_ROLE_BINDINGS, ROLE_BINDINGS, ROLES};
use self::table::{RoleFacts, RuleFacts};
use super::rule::Rule;

/// Says whether upgrades may add to an object.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// ClusterRoles, ClusterRoleBindings, Roles and RoleBindings to create when absent, as upstream
/// writes them at start; the aggregated ClusterRoles have their rules filled in.
pub fn objects() -> Vec<Value> {
    let mut objects = bare();
    let filled = super::aggregate::aggregate(&objects);
    for (name, rules) in filled {
        let role = objects
            .iter_mut()
            .find(|object| object["kind"] == "ClusterRole" && object["metadata"]["name"] == name);
        if let Some(role) = role {
            role["rules"] = rules.iter().map(Rule::to_value).collect();
        }
    }
    objects
}

/// What an existing default object should be changed to so that it holds what `wanted` (one of
/// [`objects`]) holds; `None` when it does, or when it has opted out.
///
/// A binding whose `roleRef` differs cannot be changed (it is immutable) and is left alone.
pub fn reconcile(existing: &Value, wanted: &Value) -> Option<Value> {
    let annotation = existing
        .pointer("/metadata/annotations")
        .and_then(|all| all.get(AUTOUPDATE));
    if annotation.is_some_and(|value| value == "false") || existing["roleRef"] != wanted["roleRef"]
    {
        return None;
    }
    let mut updated = existing.clone();
    for field in ["labels", "annotations"] {
        let metadata = updated.get_mut("metadata").and_then(Value::as_object_mut)?;
        let own = metadata.entry(field).or_insert_with(|| json!({}));
        if own.is_null() {
            *own = json!({});
        }
        let wanted = wanted["metadata"][field].as_object().into_iter().flatten();
        for (key, value) in wanted {
            // What is there stays: somebody may have changed it on purpose.
            if let Some(own) = own.as_object_mut() {
                own.entry(key).or_insert_with(|| value.clone());
            }
        }
    }
    if wanted.get("roleRef").is_some() {
        add_missing(&mut updated, "/subjects", wanted);
    } else if wanted.get("aggregationRule").is_some() {
        add_missing(
            &mut updated,
            "/aggregationRule/clusterRoleSelectors",
            wanted,
        );
    } else {
        let rules = |value: &Value| -> Vec<Rule> {
            value["rules"]
                .as_array()
                .into_iter()
                .flatten()
                .map(Rule::from_value)
                .collect()
        };
        let missing = super::rule::missing(&rules(existing), &rules(wanted));
        let missing: Value = missing.iter().map(Rule::to_value).collect();
        add_missing(&mut updated, "/rules", &json!({ "rules": missing }));
    }
    (updated != *existing).then_some(updated)
}

/// Adds to the list at `path` what the one of `wanted` has more; a list that is not there is made,
/// in an object that is.
fn add_missing(updated: &mut Value, path: &str, wanted: &Value) {
    let wanted = wanted
        .pointer(path)
        .and_then(Value::as_array)
        .filter(|list| !list.is_empty());
    let Some(((parent, field), wanted)) = path.rsplit_once('/').zip(wanted) else {
        return;
    };
    let Some(parent) = updated.pointer_mut(parent).and_then(Value::as_object_mut) else {
        return;
    };
    let list = parent.entry(field).or_insert_with(|| json!([]));
    if !list.is_array() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for value in wanted {
        if !list.contains(value) {
            list.push(value.clone());
        }
    }
}

/// The rules of `system:node`, which every node has.
pub(super) fn node_rules() -> Vec<Rule> {
    let node = CLUSTER_ROLES.iter().find(|role| role.name == "system:node");
    let rules = node.map_or(&[][..], |role| role.rules);
    rules
        .iter()
        .map(|rule| Rule::from_value(&RuleFacts::to_value(rule)))
        .collect()
}

/// The objects as upstream's files have them.
fn bare() -> Vec<Value> {
    let roles = CLUSTER_ROLES
        .iter()
        .chain(CONTROLLER_ROLES)
        .chain(ROLES)
        .map(RoleFacts::to_value);
    let bindings = CLUSTER_ROLE_BINDINGS
        .iter()
        .chain(ROLE_BINDINGS)
        .map(|binding| binding.to_value());
    let controllers = CONTROLLER_ROLES.iter().map(RoleFacts::controller_binding);
    roles.chain(bindings).chain(controllers).collect()
}

#[cfg(test)]
mod tests;
