//! The node's own check of a pod that was bound to it.
//!
//! Invariant: reasons and messages are upstream's; a pod that already runs is not
//! checked again.

use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm, Pod, Taint};

use crate::{resources, shared::Capacity, worker::jobs::host_ports};

#[cfg(test)]
mod tests;

/// What pods already take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Used {
    cpu: i64,
    memory: i64,
    pods: i64,
}

/// Reason and message if the pod does not fit beside the others.
pub(crate) fn check<'a>(
    pod: &Pod,
    others: impl Iterator<Item = &'a Pod> + Clone,
    node: Option<&Node>,
    capacity: Capacity,
    max_pods: u32,
) -> Option<(String, String)> {
    if let Some(node) = node
        && let Some(refusal) = suits(pod, node)
    {
        return Some(refusal);
    }
    for wanted in host_ports(pod) {
        let clash = others.clone().flat_map(host_ports).any(|taken| {
            taken.host_port == wanted.host_port
                && taken.protocol == wanted.protocol
                && (taken.host_ip.is_none()
                    || wanted.host_ip.is_none()
                    || taken.host_ip == wanted.host_ip)
        });
        if clash {
            let message = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports";
            return Some(("NodePorts".into(), message.into()));
        }
    }
    let mut used = Used::default();
    for other in others {
        let (cpu, memory) = resources::pod_requests(other);
        used.cpu += cpu;
        used.memory += memory;
        used.pods += 1;
    }
    let (cpu, memory) = resources::pod_requests(pod);
    let max_pods = i64::from(max_pods);
    let table = [
        ("pods", 1, used.pods, max_pods),
        ("cpu", cpu, used.cpu, capacity.cpu_milli),
        ("memory", memory, used.memory, capacity.memory_bytes),
    ];
    for (name, wanted, taken, capacity) in table {
        if wanted > 0 && taken + wanted > capacity {
            let message = format!(
                "Pod was rejected: Node didn't have enough resource: {name}, requested: {wanted}, used: {taken}, capacity: {capacity}"
            );
            return Some((format!("OutOf{name}"), message));
        }
    }
    None
}

/// Node selector, required node affinity and `NoExecute` taints.
fn suits(pod: &Pod, node: &Node) -> Option<(String, String)> {
    let spec = pod.spec.as_ref()?;
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let selected = spec
        .node_selector
        .iter()
        .flatten()
        .all(|(k, v)| labels.get(k) == Some(v));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|a| a.node_affinity.as_ref())
        .and_then(|a| {
            a.required_during_scheduling_ignored_during_execution
                .as_ref()
        });
    let liked = required.is_none_or(|r| r.node_selector_terms.iter().any(|t| term(t, node)));
    if !selected || !liked {
        let message = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return Some(("NodeAffinity".into(), message.into()));
    }
    let taints = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.as_deref())
        .unwrap_or_default();
    let tolerates = |t: &Taint| {
        spec.tolerations.iter().flatten().any(|tol| {
            let key = tol.key.as_deref().unwrap_or_default();
            let effect = tol.effect.as_deref().unwrap_or_default();
            let exists = tol.operator.as_deref() == Some("Exists");
            (effect.is_empty() || effect == t.effect)
                && (key == t.key || (key.is_empty() && exists))
                && (exists
                    || tol.value.as_deref().unwrap_or_default()
                        == t.value.as_deref().unwrap_or_default())
        })
    };
    if taints
        .iter()
        .any(|t| t.effect == "NoExecute" && !tolerates(t))
    {
        let message = "Pod was rejected: Predicate TaintToleration failed: node(s) had taints that the pod didn't tolerate";
        return Some(("TaintToleration".into(), message.into()));
    }
    None
}

fn term(t: &NodeSelectorTerm, node: &Node) -> bool {
    let (labels, fields) = (t.match_expressions.as_deref(), t.match_fields.as_deref());
    let (labels, fields) = (labels.unwrap_or_default(), fields.unwrap_or_default());
    // A term without requirements matches nothing.
    if labels.is_empty() && fields.is_empty() {
        return false;
    }
    let have = node.metadata.labels.clone().unwrap_or_default();
    labels
        .iter()
        .all(|r| requirement(r, have.get(&r.key).map(String::as_str)))
        && fields
            .iter()
            .all(|r| r.key == "metadata.name" && requirement(r, node.metadata.name.as_deref()))
}

fn requirement(r: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = r.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|v| values.iter().any(|x| x == v));
    let number = |text: &str| text.parse::<i64>().ok();
    let compare = |test: fn(i64, i64) -> bool| {
        let pair = value
            .and_then(number)
            .zip(values.first().and_then(|v| number(v)));
        pair.is_some_and(|(a, b)| test(a, b))
    };
    match r.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|a, b| a > b),
        "Lt" => compare(|a, b| a < b),
        _ => false,
    }
}
