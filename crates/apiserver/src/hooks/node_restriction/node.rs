//! A node's own Node.

use std::collections::BTreeSet;

use api::meta;
use serde_json::Value;

use super::{Checked, forbidden};
use crate::pipeline::Call;

/// Labels that say where pods may go, and which a node may therefore not give itself.
const RESTRICTED: &str = "node-restriction.kubernetes.io";
/// What of the project's own labels a node may set on itself.
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];
/// And everything below these.
const OWN_DOMAINS: &[&str] = &["kubelet.kubernetes.io", "node.kubernetes.io"];

/// Whether it is this node's.
pub(super) fn own(call: &Call, node: &str, name: &str) -> Checked {
    if name == node {
        return Ok(());
    }
    let words = format!("node {node:?} is not allowed to modify node {name:?}");
    forbidden(call, words)
}

/// Checks a create (without `old`) or an update.
pub(super) fn write(call: &Call, node: &str, new: &Value, old: Option<&Value>) -> Checked {
    own(call, node, meta::name(new))?;
    let at = |object: &Value, path: &str| {
        let found = object.pointer(path);
        let empty = |value: &Value| value.as_array().is_some_and(Vec::is_empty);
        found
            .filter(|value| !value.is_null() && !empty(value))
            .cloned()
    };
    let (source, taints) = ("/spec/configSource", "/spec/taints");
    let labels = forbidden_labels(new, old);
    let Some(old) = old else {
        if at(new, source).is_some() {
            let words =
                format!("node {node:?} is not allowed to create pods with a non-nil configSource");
            return forbidden(call, words);
        }
        if labels.is_empty() {
            return Ok(());
        }
        let labels = labels.join(", ");
        let words = format!("node {node:?} is not allowed to set the following labels: {labels}");
        return forbidden(call, words);
    };
    if at(new, source).is_some() && at(new, source) != at(old, source) {
        let words = format!(
            "node {node:?} is not allowed to update configSource to a new non-nil configSource"
        );
        return forbidden(call, words);
    }
    for (path, what) in [
        (taints, "taints"),
        ("/metadata/ownerReferences", "ownerReferences"),
    ] {
        if at(new, path) != at(old, path) {
            let words = format!("node {node:?} is not allowed to modify {what}");
            return forbidden(call, words);
        }
    }
    if labels.is_empty() {
        return Ok(());
    }
    let labels = labels.join(", ");
    forbidden(call, format!("is not allowed to modify labels: {labels}"))
}

/// The labels that are added, changed or removed and are not a node's to set.
fn forbidden_labels(new: &Value, old: Option<&Value>) -> Vec<String> {
    let labels = |object: &Value| -> BTreeSet<(String, String)> {
        let all = meta::labels(object).into_iter().flatten();
        all.map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()))
            .collect()
    };
    let old = old.map(labels).unwrap_or_default();
    let changed = labels(new);
    let changed = changed.symmetric_difference(&old).map(|(key, _)| key);
    let wrong: BTreeSet<&String> = changed.filter(|key| !may_set(key)).collect();
    wrong.into_iter().cloned().collect()
}

fn may_set(label: &str) -> bool {
    let domain = label.split_once('/').map_or("", |(domain, _)| domain);
    let below = |parent: &str| {
        let rest = domain.strip_suffix(parent);
        rest.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    };
    if below(RESTRICTED) {
        return false;
    }
    let is_ours = below("kubernetes.io") || below("k8s.io");
    !is_ours || OWN_LABELS.contains(&label) || OWN_DOMAINS.iter().any(|own| below(own))
}

#[cfg(test)]
mod tests {
    use super::may_set;

    #[test]
    fn labels_that_steer_pods_are_not_a_nodes_to_set() {
        for (label, wanted) in [
            ("plain", true),
            ("example.com/x", true),
            ("notkubernetes.io/x", true),
            ("kubernetes.io/hostname", true),
            ("topology.kubernetes.io/zone", true),
            ("node.kubernetes.io/anything", true),
            ("sub.kubelet.kubernetes.io/anything", true),
            ("kubernetes.io/role", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("x.k8s.io/y", false),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
        ] {
            assert_eq!(may_set(label), wanted, "{label}");
        }
    }
}
