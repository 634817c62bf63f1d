//! What to do about a DaemonSet: a pure function of it, the nodes and its pods.

use crate::pods;
use crate::revisions::HASH;
use client::fit;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{
    Affinity, Node, NodeAffinity, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, Pod,
    PodSpec, Toleration,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const FIELD: &str = "metadata.name";

/// Writes that bring a DaemonSet one step further.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Names of nodes that lack a pod.
    pub(super) create: Vec<String>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods among `delete` that had failed, with their nodes.
    pub(super) failed: Vec<(String, String)>,
    pub(super) status: DaemonSetStatus,
    /// When the next pod has been ready for long enough.
    pub(super) again: Option<Duration>,
}

/// The pod spec for one node: bound to it by its name, and tolerant of what ails nodes.
pub(super) fn spec_for(template: &PodSpec, node: &str) -> PodSpec {
    let mut spec = template.clone();
    let by_name = NodeSelectorRequirement {
        key: FIELD.to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let affinity: &mut Affinity = spec.affinity.get_or_insert_default();
    let affinity: &mut NodeAffinity = affinity.node_affinity.get_or_insert_default();
    // What the template requires of nodes was looked at already: the name says it all.
    affinity.required_during_scheduling_ignored_during_execution = Some(NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![by_name]),
        }],
    });
    let host_network = spec.host_network == Some(true);
    let tolerations = spec.tolerations.get_or_insert_default();
    for (key, effect) in [
        ("not-ready", "NoExecute"),
        ("unreachable", "NoExecute"),
        ("disk-pressure", "NoSchedule"),
        ("memory-pressure", "NoSchedule"),
        ("pid-pressure", "NoSchedule"),
        ("unschedulable", "NoSchedule"),
        ("network-unavailable", "NoSchedule"),
    ] {
        if key == "network-unavailable" && !host_network {
            continue;
        }
        let toleration = Toleration {
            key: Some(format!("node.kubernetes.io/{key}")),
            operator: Some("Exists".to_owned()),
            effect: Some(effect.to_owned()),
            ..Toleration::default()
        };
        if !tolerations.contains(&toleration) {
            tolerations.push(toleration);
        }
    }
    spec
}

/// The node that a pod is on, or is meant for.
pub(super) fn target(pod: &Pod) -> Option<&str> {
    if let Some(node) = pods::node_name(pod) {
        return Some(node);
    }
    let affinity = pod
        .spec
        .as_ref()?
        .affinity
        .as_ref()?
        .node_affinity
        .as_ref()?;
    let required = affinity
        .required_during_scheduling_ignored_during_execution
        .as_ref()?;
    required
        .node_selector_terms
        .iter()
        .flat_map(|t| t.match_fields.iter().flatten())
        .find(|r| r.key == FIELD && r.operator == "In")
        .and_then(|r| r.values.as_ref()?.first().map(String::as_str))
}

/// Whether a new pod shall run on the node, and whether one that is there may stay.
fn wants(spec: &PodSpec, node: &Node) -> (bool, bool) {
    let name = node.metadata.name.as_deref().unwrap_or_default();
    let named = spec
        .node_name
        .as_deref()
        .is_none_or(|n| n.is_empty() || n == name);
    if !named || !fit::affinity_allows(spec, node) {
        return (false, false);
    }
    let meant = spec_for(spec, name);
    let tolerations = meant.tolerations.unwrap_or_default();
    let stays = fit::untolerated(node, &tolerations, &["NoExecute"])
        .next()
        .is_none();
    let starts = fit::untolerated(node, &tolerations, &["NoSchedule", "NoExecute"])
        .next()
        .is_none();
    (starts, stays)
}

/// What happens on one node.
struct Place<'a> {
    name: &'a str,
    starts: bool,
    /// Pods of this set on the node, oldest first.
    pods: Vec<Arc<Pod>>,
}

/// Decides the next step. `hash` is the current revision's.
pub(super) fn plan(
    set: &DaemonSet,
    nodes: &[Arc<Node>],
    owned: &[Arc<Pod>],
    hash: &str,
    now: Timestamp,
) -> Plan {
    let empty = PodSpec::default();
    let spec = set
        .spec
        .as_ref()
        .and_then(|s| s.template.spec.as_ref())
        .unwrap_or(&empty);
    let mut by_node: BTreeMap<&str, Vec<Arc<Pod>>> = BTreeMap::new();
    for pod in owned {
        by_node
            .entry(target(pod).unwrap_or_default())
            .or_default()
            .push(pod.clone());
    }
    let mut plan = Plan::default();
    let mut places = Vec::new();
    let mut misplaced = 0;
    for node in nodes {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let mut pods = by_node.remove(name).unwrap_or_default();
        pods.sort_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0));
        let (starts, stays) = wants(spec, node);
        if !starts && !pods.is_empty() {
            misplaced += 1;
        }
        if stays {
            plan_node(&mut plan, name, starts, &pods, hash);
        } else {
            plan.delete
                .extend(pods.iter().filter(|p| !going(p)).cloned());
        }
        places.push(Place { name, starts, pods });
    }
    // Not yet placed pods for nodes that are gone; placed ones are collected elsewhere.
    let gone = by_node.into_values().flatten();
    plan.delete
        .extend(gone.filter(|p| !going(p) && pods::node_name(p).is_none()));
    let min_ready = set
        .spec
        .as_ref()
        .and_then(|s| s.min_ready_seconds)
        .unwrap_or(0);
    count(&mut plan, set, &places, misplaced, hash, min_ready, now);
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    if strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete") {
        roll(&mut plan, set, &places, hash, min_ready, now);
    }
    plan
}

fn going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn is_current(pod: &Pod, hash: &str) -> bool {
    pod.metadata
        .labels
        .as_ref()
        .and_then(|l| l.get(HASH))
        .is_some_and(|h| h == hash)
}

/// A pod where one is missing; failed ones go, and of several the younger.
fn plan_node(plan: &mut Plan, name: &str, starts: bool, pods: &[Arc<Pod>], hash: &str) {
    let alive: Vec<&Arc<Pod>> = pods.iter().filter(|p| !going(p)).collect();
    let (ended, running): (Vec<_>, Vec<_>) = alive.into_iter().partition(|p| pods::is_finished(p));
    for pod in &ended {
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        plan.failed.push((pod_name, name.to_owned()));
        plan.delete.push(Arc::clone(pod));
    }
    if pods.is_empty() {
        if starts {
            plan.create.push(name.to_owned());
        }
        return;
    }
    // During a surge an old and a new pod may be there together.
    for current in [true, false] {
        let same = running.iter().filter(|p| is_current(p, hash) == current);
        plan.delete.extend(same.skip(1).map(|p| Arc::clone(p)));
    }
}

#[allow(
    clippy::too_many_arguments,
    reason = "one call; a struct would only rename them"
)]
fn count(
    plan: &mut Plan,
    set: &DaemonSet,
    places: &[Place<'_>],
    misplaced: usize,
    hash: &str,
    min_ready: i32,
    now: Timestamp,
) {
    let (mut desired, mut current, mut ready, mut available, mut updated) = (0, 0, 0, 0, 0);
    for place in places.iter().filter(|p| p.starts) {
        desired += 1;
        // The newest pod that is ready speaks for its node, else the oldest.
        let speaker = place
            .pods
            .iter()
            .rfind(|p| pods::is_ready(p))
            .or(place.pods.first());
        let Some(pod) = speaker else { continue };
        current += 1;
        updated += i32::from(is_current(pod, hash));
        if !pods::is_ready(pod) {
            continue;
        }
        ready += 1;
        match pods::available_in(pod, min_ready, now) {
            Some(left) if left.is_zero() => available += 1,
            Some(left) => plan.again = Some(plan.again.map_or(left, |again| again.min(left))),
            None => {}
        }
    }
    let old = set.status.clone().unwrap_or_default();
    let some = |n: i32| (n > 0).then_some(n);
    plan.status = DaemonSetStatus {
        current_number_scheduled: current,
        desired_number_scheduled: desired,
        number_misscheduled: i32::try_from(misplaced).unwrap_or(i32::MAX),
        number_ready: ready,
        number_available: some(available),
        number_unavailable: some(desired - available),
        updated_number_scheduled: some(updated),
        observed_generation: set.metadata.generation,
        collision_count: old.collision_count,
        conditions: old.conditions,
    };
}

/// Replaces pods of former revisions, as many at once as may be unavailable.
fn roll(
    plan: &mut Plan,
    set: &DaemonSet,
    places: &[Place<'_>],
    hash: &str,
    min_ready: i32,
    now: Timestamp,
) {
    let desired = plan.status.desired_number_scheduled;
    let (mut surge, most) = limits(set, desired);
    let is_available =
        |p: &Pod| pods::available_in(p, min_ready, now).is_some_and(|left| left.is_zero());
    let mut unavailable = 0;
    let mut candidates = Vec::new();
    for place in places.iter().filter(|p| p.starts) {
        let old = place
            .pods
            .iter()
            .find(|p| !is_current(p, hash) && !going(p));
        let new = place.pods.iter().find(|p| is_current(p, hash) && !going(p));
        let served = place.pods.iter().any(|p| !going(p) && is_available(p));
        match (old, new) {
            (Some(old), Some(new)) => {
                surge -= 1;
                if is_available(new) || !is_available(old) {
                    plan.delete.push(old.clone());
                }
            }
            (Some(old), None) if !served => {
                // It does not work anyway: replacing it costs nothing.
                unavailable += 1;
                plan.delete.push(old.clone());
            }
            (Some(old), None) => candidates.push((place.name, old)),
            _ => unavailable += i32::from(!served),
        }
    }
    for (node, old) in candidates {
        if surge > 0 {
            surge -= 1;
            plan.create.push(node.to_owned());
        } else if most > unavailable && limits(set, desired).0 == 0 {
            unavailable += 1;
            plan.delete.push(old.clone());
        }
    }
}

/// How many pods may be there twice, and how many may be missing.
fn limits(set: &DaemonSet, desired: i32) -> (i32, i32) {
    let strategy = set.spec.as_ref().and_then(|s| s.update_strategy.as_ref());
    let rolling = strategy.and_then(|s| s.rolling_update.as_ref());
    let scaled = |value: Option<&IntOrString>, default: i32| match value {
        None => default,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(text)) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|t| t.parse().ok())
                .unwrap_or(0);
            let hundredfold = percent.max(0).saturating_mul(i64::from(desired));
            i32::try_from(hundredfold.saturating_add(99) / 100).unwrap_or(i32::MAX)
        }
    };
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), 0);
    let missing = scaled(rolling.and_then(|r| r.max_unavailable.as_ref()), 1);
    if surge == 0 && missing == 0 {
        (0, 1)
    } else {
        (surge, missing)
    }
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
