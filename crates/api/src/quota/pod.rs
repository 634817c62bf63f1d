//! What a pod counts for.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::{Amounts, Scope, add, amounts, one, text};
use crate::meta;

/// The names of what pods ask for, beside prefixed ones.
const COMPUTE: &[&str] = &["cpu", "memory", "ephemeral-storage"];
/// What every container must ask for where a quota counts it. An old mistake of upstream's, which
/// people rely on.
const MANDATORY: &[&str] = &[
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
const DEVICE_CLASS: &str = "deviceclass.resource.kubernetes.io/";

/// Whether the amounts of this name come from pods.
pub(super) fn tracks(name: &str) -> bool {
    let (side, bare) = match name.split_once('.') {
        Some((side @ ("requests" | "limits"), bare)) => (side, bare),
        _ => ("", name),
    };
    let extended = side == "requests" && (!is_native(name) || bare.starts_with(DEVICE_CLASS));
    name == "pods"
        || COMPUTE.contains(&bare)
        || (bare.starts_with("hugepages-") && side != "limits")
        || extended
}

fn is_native(name: &str) -> bool {
    !name.contains('/') || name.contains("kubernetes.io/")
}

/// Whether a container's resource is one that somebody else than Kubernetes defines.
fn is_extended(name: &str) -> bool {
    name.starts_with(DEVICE_CLASS) || (!is_native(name) && !name.starts_with("requests."))
}

pub(super) fn is_terminating(pod: &Value) -> bool {
    let deadline = pod.pointer("/spec/activeDeadlineSeconds");
    deadline.and_then(Value::as_i64).is_some_and(|at| at >= 0)
}

/// Whether a pod uses what it asks for: it has not ended, and is not long overdue.
fn counts(pod: &Value, now: Timestamp) -> bool {
    let status = pod.get("status").unwrap_or(&Value::Null);
    if matches!(text(status, "phase"), "Failed" | "Succeeded") {
        return false;
    }
    let deleted = meta::deletion_timestamp(pod).and_then(|at| at.parse::<Timestamp>().ok());
    let (Some(at), Some(grace)) = (deleted, meta::deletion_grace_period_seconds(pod)) else {
        return true;
    };
    let end = at.checked_add(SignedDuration::from_secs(grace));
    end.is_ok_and(|end| now <= end)
}

/// Adds what a pod uses.
pub(super) fn add_usage(usage: &mut Amounts, pod: &Value, now: Timestamp) {
    if counts(pod, now) {
        let (requests, limits) = (asked(pod, "requests"), asked(pod, "limits"));
        add(usage, &named(&requests, &limits));
        usage.insert("pods".to_owned(), one());
    }
}

/// Requests and limits by the names that quotas give them.
fn named(requests: &Amounts, limits: &Amounts) -> Amounts {
    let mut usage = Amounts::new();
    for (name, amount) in requests {
        let plain = COMPUTE.contains(&name.as_str()) || name.starts_with("hugepages-");
        if plain {
            usage.insert(name.clone(), *amount);
        }
        if plain || is_extended(name) {
            usage.insert(format!("requests.{name}"), *amount);
        }
    }
    for name in COMPUTE {
        if let Some(amount) = limits.get(*name) {
            usage.insert(format!("limits.{name}"), *amount);
        }
    }
    usage
}

fn list<'a>(pod: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> + use<'a> {
    let list = pod.pointer(pointer).and_then(Value::as_array);
    list.into_iter().flatten()
}

fn raise(amounts: &mut Amounts, to: &Amounts) {
    for (name, amount) in to {
        let entry = amounts.entry(name.clone()).or_insert(*amount);
        *entry = (*entry).max(*amount);
    }
}

/// What a pod asks for in all, on one side (`requests` or `limits`): its containers and sidecars
/// together, or the largest moment of its start; what the pod as a whole asks for instead, if it
/// does; and its overhead.
fn asked(pod: &Value, side: &str) -> Amounts {
    let statuses: BTreeMap<&str, &Value> = list(pod, "/status/containerStatuses")
        .chain(list(pod, "/status/initContainerStatuses"))
        .map(|status| (text(status, "name"), status))
        .collect();
    let infeasible = list(pod, "/status/conditions").any(|condition| {
        text(condition, "type") == "PodResizePending" && text(condition, "reason") == "Infeasible"
    });
    let of = |container: &Value| {
        let spec = amounts(container.pointer(&format!("/resources/{side}")));
        match statuses.get(text(container, "name")) {
            Some(status) => resizing(spec, status, side, infeasible),
            None => spec,
        }
    };
    let mut total = Amounts::new();
    for container in list(pod, "/spec/containers") {
        add(&mut total, &of(container));
    }
    let (mut sidecars, mut start) = (Amounts::new(), Amounts::new());
    for container in list(pod, "/spec/initContainers") {
        let mut moment = of(container);
        if text(container, "restartPolicy") == "Always" {
            add(&mut total, &moment);
            add(&mut sidecars, &moment);
            moment = sidecars.clone();
        } else {
            add(&mut moment, &sidecars);
        }
        raise(&mut start, &moment);
    }
    raise(&mut total, &start);
    for (name, amount) in amounts(pod.pointer(&format!("/spec/resources/{side}"))) {
        if is_of_pods(&name) {
            total.insert(name, amount);
        }
    }
    for (name, amount) in amounts(pod.pointer("/spec/overhead")) {
        match total.get_mut(&name) {
            Some(entry) if side == "requests" || !entry.is_zero() => *entry = entry.add(amount),
            None if side == "requests" => {
                total.insert(name, amount);
            }
            _ => {}
        }
    }
    total
}

/// While a container is resized it counts for the most of what it has and what it is to get.
fn resizing(spec: Amounts, status: &Value, side: &str, infeasible: bool) -> Amounts {
    let actual = amounts(status.pointer(&format!("/resources/{side}")));
    let allocated = match side {
        "requests" => amounts(status.get("allocatedResources")),
        _ => Amounts::new(),
    };
    let mut most = match infeasible && !actual.is_empty() {
        true => Amounts::new(),
        false => spec,
    };
    raise(&mut most, &actual);
    raise(&mut most, &allocated);
    most
}

/// What a pod can ask for as a whole.
fn is_of_pods(name: &str) -> bool {
    matches!(name, "cpu" | "memory") || name.starts_with("hugepages-")
}

/// Upstream's words for the containers that do not ask for what a quota of these names counts.
pub(super) fn missing(names: &BTreeSet<&str>, pod: &Value) -> Option<String> {
    let whole = ["requests", "limits"].iter().any(|side| {
        let whole = amounts(pod.pointer(&format!("/spec/resources/{side}")));
        whole.keys().any(|name| is_of_pods(name))
    });
    if whole {
        return None;
    }
    let mut silent: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for container in list(pod, "/spec/containers").chain(list(pod, "/spec/initContainers")) {
        let side = |side: &str| amounts(container.pointer(&format!("/resources/{side}")));
        let said = named(&side("requests"), &side("limits"));
        let wanted = names.iter().filter(|name| MANDATORY.contains(name));
        for name in wanted.filter(|name| !said.contains_key(**name)) {
            let containers = silent.entry(name).or_default();
            containers.insert(text(container, "name"));
        }
    }
    let words = silent.into_iter().map(|(name, containers)| {
        let containers: Vec<&str> = containers.into_iter().collect();
        format!("{name} for: {}", containers.join(","))
    });
    let words: Vec<String> = words.collect();
    (!words.is_empty()).then(|| format!("must specify {}", words.join("; ")))
}

/// Whether a pod is in a scope.
pub(super) fn in_scope(scope: &Scope, pod: &Value) -> bool {
    let best_effort = || {
        let status = pod.get("status").unwrap_or(&Value::Null);
        text(status, "qosClass") == "BestEffort"
    };
    match scope.name.as_str() {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => best_effort(),
        "NotBestEffort" => !best_effort(),
        "PriorityClass" => {
            let class = pod.pointer("/spec/priorityClassName");
            let class = class
                .and_then(Value::as_str)
                .filter(|name| !name.is_empty());
            scope.selects(&class.into_iter().collect())
        }
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => false,
    }
}

/// Whether a pod's affinity looks at pods of other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    let crosses = |term: &Value| {
        let named = term.get("namespaces").and_then(Value::as_array);
        let selected = term.get("namespaceSelector");
        named.is_some_and(|names| !names.is_empty()) || selected.is_some_and(|s| !s.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let at = |when: &str| {
            format!("/spec/affinity/{kind}/{when}DuringSchedulingIgnoredDuringExecution")
        };
        let weighted = list(pod, &at("preferred")).filter_map(|term| term.get("podAffinityTerm"));
        list(pod, &at("required")).chain(weighted).any(crosses)
    })
}
