//! LimitRanges: what containers get that name no resources, and the bounds of what they may name.

use std::collections::BTreeMap;

use api::meta;
use api::quantity::Quantity;
use api::status::ApiError;
use serde_json::{Map, Value, json};

use super::{set, text};
use crate::pipeline::Call;

/// Says what was filled in.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";
const LISTS: [&str; 2] = ["initContainers", "containers"];

type Amounts = BTreeMap<String, Quantity>;

/// The limits of the call's namespace for a type, such as `Container`.
fn limits(call: &Call, kind: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for range in call.state.core("limitranges").list(Some(&call.namespace)) {
        let range = range.value();
        let all = range.pointer("/spec/limits").and_then(Value::as_array);
        found.extend(
            all.into_iter()
                .flatten()
                .filter(|l| text(l, "/type") == kind)
                .cloned(),
        );
    }
    found
}

fn containers(pod: &Value) -> impl Iterator<Item = (&'static str, &Value)> {
    LISTS.into_iter().flat_map(move |list| {
        let all = pod
            .get("spec")
            .and_then(|s| s.get(list))
            .and_then(Value::as_array);
        all.into_iter()
            .flatten()
            .map(move |container| (list, container))
    })
}

/// Fills in what the namespace's limits give to containers that name nothing.
pub(super) fn fill(call: &Call, pod: &mut Value) {
    let limits = limits(call, "Container");
    if limits.is_empty() {
        return;
    }
    let mut words = Vec::new();
    for list in LISTS {
        let all = pod
            .get_mut("spec")
            .and_then(|s| s.get_mut(list))
            .and_then(Value::as_array_mut);
        for container in all.into_iter().flatten() {
            let name = text(container, "/name").to_owned();
            for limit in &limits {
                for (side, field) in [("requests", "defaultRequest"), ("limits", "default")] {
                    let given = give(container, side, limit.get(field));
                    if !given.is_empty() {
                        let what = if list == "containers" {
                            "container"
                        } else {
                            "init container"
                        };
                        let side = side.trim_end_matches('s');
                        words.push(format!("{} {side} for {what} {name}", given.join(", ")));
                    }
                }
            }
        }
    }
    if words.is_empty() {
        return;
    }
    if let Some(metadata) = meta::metadata_mut(pod) {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        set(
            annotations,
            ANNOTATION,
            format!("LimitRanger plugin set: {}", words.join("; ")).into(),
        );
    }
}

/// Gives a container what it lacks on one side of its resources; the names of what was given.
fn give(container: &mut Value, side: &str, defaults: Option<&Value>) -> Vec<String> {
    let Some(defaults) = defaults.and_then(Value::as_object) else {
        return Vec::new();
    };
    let Some(container) = container.as_object_mut() else {
        return Vec::new();
    };
    let resources = container.entry("resources").or_insert_with(|| json!({}));
    let Some(resources) = resources.as_object_mut() else {
        return Vec::new();
    };
    let amounts = resources
        .entry(side)
        .or_insert_with(|| Value::Object(Map::new()));
    let Some(amounts) = amounts.as_object_mut() else {
        return Vec::new();
    };
    let mut given = Vec::new();
    for (name, amount) in defaults {
        if !amounts.contains_key(name) {
            amounts.insert(name.clone(), amount.clone());
            given.push(name.clone());
        }
    }
    if amounts.is_empty() {
        resources.remove(side);
    }
    given
}

fn amounts(value: Option<&Value>) -> Amounts {
    let all = value.and_then(Value::as_object).into_iter().flatten();
    all.filter_map(|(name, amount)| {
        let amount = match amount {
            Value::String(text) => Quantity::parse(text).ok()?,
            other => Quantity::parse(&other.to_string()).ok()?,
        };
        Some((name.clone(), amount))
    })
    .collect()
}

/// Refuses a pod that is outside of the namespace's bounds.
pub(super) fn check(call: &Call, pod: &Value) -> Result<(), ApiError> {
    let mut problems = Vec::new();
    let of_container = limits(call, "Container");
    for (_, container) in containers(pod) {
        let side = |side: &str| amounts(container.pointer(&format!("/resources/{side}")));
        let (requests, limited) = (side("requests"), side("limits"));
        for limit in &of_container {
            bounds(limit, "Container", &requests, &limited, &mut problems);
        }
    }
    for limit in limits(call, "Pod") {
        let (requests, limited) = (total(pod, "requests"), total(pod, "limits"));
        bounds(&limit, "Pod", &requests, &limited, &mut problems);
    }
    let why = match problems.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    Err(ApiError::forbidden("", "pods", meta::name(pod), why))
}

/// What a pod needs in all: the sum of its containers, or the largest init container.
fn total(pod: &Value, side: &str) -> Amounts {
    let (mut sum, mut largest) = (Amounts::new(), Amounts::new());
    for (list, container) in containers(pod) {
        for (name, amount) in amounts(container.pointer(&format!("/resources/{side}"))) {
            if list == "containers" {
                let entry = sum.entry(name).or_insert(Quantity::ZERO);
                *entry = entry.add(amount);
            } else {
                let entry = largest.entry(name).or_insert(amount);
                *entry = (*entry).max(amount);
            }
        }
    }
    for (name, amount) in largest {
        let entry = sum.entry(name).or_insert(amount);
        *entry = (*entry).max(amount);
    }
    sum
}

fn bounds(
    limit: &Value,
    kind: &str,
    requests: &Amounts,
    limits: &Amounts,
    problems: &mut Vec<String>,
) {
    for (name, min) in amounts(limit.get("min")) {
        let head = format!("minimum {name} usage per {kind} is {min}");
        match (requests.get(&name), limits.get(&name)) {
            (None, _) => problems.push(format!("{head}.  No request is specified")),
            (Some(request), _) if *request < min => {
                problems.push(format!("{head}, but request is {request}"));
            }
            (_, Some(limit)) if *limit < min => {
                problems.push(format!("{head}, but limit is {limit}"));
            }
            _ => {}
        }
    }
    for (name, max) in amounts(limit.get("max")) {
        let head = format!("maximum {name} usage per {kind} is {max}");
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => problems.push(format!("{head}.  No limit is specified")),
            (_, Some(limit)) if *limit > max => {
                problems.push(format!("{head}, but limit is {limit}"));
            }
            (Some(request), _) if *request > max => {
                problems.push(format!("{head}, but request is {request}"));
            }
            _ => {}
        }
    }
    for (name, most) in amounts(limit.get("maxLimitRequestRatio")) {
        let head = format!("{name} max limit to request ratio per {kind} is {most}");
        match (requests.get(&name), limits.get(&name)) {
            (Some(request), Some(limit)) if !request.is_zero() => {
                let ratio = amount(*limit) / amount(*request);
                if ratio > amount(most) {
                    problems.push(format!("{head}, but provided ratio is {ratio:.6}"));
                }
            }
            _ => problems.push(format!(
                "{head}, but no request is specified or request is 0"
            )),
        }
    }
}

#[allow(clippy::cast_precision_loss, reason = "a ratio for comparison")]
fn amount(quantity: Quantity) -> f64 {
    quantity.as_milli() as f64
}
