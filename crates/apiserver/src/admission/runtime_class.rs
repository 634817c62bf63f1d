//! RuntimeClass: a pod gets the overhead and the place of the class that it names.
//! Facts: `plugin/pkg/admission/runtimeclass` and `pkg/util/tolerations` of 1.36.
//!
//! Invariant: a pod's overhead is its class's, never what somebody wrote.

use api::meta;
use api::quota::amounts;
use api::status::ApiError;
use serde_json::{Map, Value, json};

use crate::hooks::{spec_mut, text};
use crate::pipeline::Call;

/// The class that a pod names; refused when there is none.
fn class(call: &Call, pod: &Value) -> Result<Option<Value>, ApiError> {
    let Some(name) = pod.pointer("/spec/runtimeClassName") else {
        return Ok(None);
    };
    let Some(name) = name.as_str() else {
        return Ok(None);
    };
    let classes = call.state.cache.kind("node.k8s.io", "runtimeclasses");
    match classes.get("", name) {
        Some(class) => Ok(Some(class.value())),
        None => Err(refuse(
            pod,
            &format!("pod rejected: RuntimeClass {name:?} not found"),
        )),
    }
}

fn refuse(pod: &Value, why: &str) -> ApiError {
    ApiError::forbidden("", "pods", meta::name(pod), why)
}

fn overhead(class: &Value) -> Option<&Value> {
    let overhead = class.get("overhead").filter(|value| !value.is_null())?;
    Some(overhead.get("podFixed").unwrap_or(&Value::Null))
}

const OTHER_OVERHEAD: &str =
    "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead";
const OWN_OVERHEAD: &str =
    "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";

/// Gives a new pod what its class says.
pub(crate) fn mutate(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    match class(call, pod)? {
        Some(class) => apply(&class, pod).map_err(|why| refuse(pod, &why)),
        None => Ok(()),
    }
}

/// Refuses a new pod whose overhead is not that of its class.
pub(crate) fn admit(call: &Call, pod: &Value) -> Result<(), ApiError> {
    let class = class(call, pod)?;
    let own = pod.pointer("/spec/overhead").filter(|own| !own.is_null());
    match (class.as_ref().and_then(overhead), own) {
        (Some(wanted), own) if amounts(Some(wanted)) != amounts(own) => {
            Err(refuse(pod, OTHER_OVERHEAD))
        }
        (None, Some(_)) => Err(refuse(pod, OWN_OVERHEAD)),
        _ => Ok(()),
    }
}

/// Lays a class over a pod; upstream's words when they contradict each other.
fn apply(class: &Value, pod: &mut Value) -> Result<(), String> {
    let Some(spec) = spec_mut(pod) else {
        return Ok(());
    };
    if let Some(fixed) = overhead(class) {
        let own = spec.get("overhead").filter(|own| !own.is_null());
        if own.is_some() && amounts(own) != amounts(Some(fixed)) {
            return Err(OTHER_OVERHEAD.to_owned());
        }
        if !fixed.is_null() {
            spec.insert("overhead".to_owned(), fixed.clone());
        }
    }
    let Some(scheduling) = class.get("scheduling").filter(|value| !value.is_null()) else {
        return Ok(());
    };
    if let Some(selector) = scheduling.get("nodeSelector").and_then(Value::as_object) {
        select(selector, spec)?;
    }
    let list = |holder: Option<&Value>| -> Vec<Value> {
        let list = holder.and_then(Value::as_array);
        list.cloned().unwrap_or_default()
    };
    let mut all = list(spec.get("tolerations"));
    all.extend(list(scheduling.get("tolerations")));
    spec.insert("tolerations".to_owned(), merged(&all).into());
    Ok(())
}

fn select(selector: &Map<String, Value>, spec: &mut Map<String, Value>) -> Result<(), String> {
    let own = spec.entry("nodeSelector").or_insert_with(|| json!({}));
    if own.is_null() {
        *own = json!({});
    }
    let Some(own) = own.as_object_mut() else {
        return Ok(());
    };
    for (key, value) in selector {
        let before = own.insert(key.clone(), value.clone());
        if let Some(before) = before.filter(|before| before != value) {
            let (value, before) = (value.as_str(), before.as_str().map(str::to_owned));
            return Err(format!(
                "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {}; pod.spec.nodeSelector[{key}] = {}",
                value.unwrap_or_default(),
                before.unwrap_or_default()
            ));
        }
    }
    Ok(())
}

/// Tolerations without those that another one includes.
fn merged(all: &[Value]) -> Vec<Value> {
    let mut merged: Vec<Value> = Vec::new();
    for (at, toleration) in all.iter().enumerate() {
        let known = merged.iter().any(|other| includes(other, toleration));
        // Of equal ones the first stays.
        let later = all[at + 1..]
            .iter()
            .any(|other| other != toleration && includes(other, toleration));
        if !known && !later {
            merged.push(toleration.clone());
        }
    }
    merged
}

/// Whether a toleration bears all that another one does.
fn includes(wide: &Value, narrow: &Value) -> bool {
    if wide == narrow {
        return true;
    }
    let (key, operator) = (text(wide, "/key"), text(wide, "/operator"));
    let effect = text(wide, "/effect");
    let every_key = key.is_empty() && operator == "Exists";
    if (text(narrow, "/key") != key && !every_key)
        || (!effect.is_empty() && text(narrow, "/effect") != effect)
    {
        return false;
    }
    let secs = |toleration: &Value| toleration.get("tolerationSeconds").and_then(Value::as_i64);
    if effect == "NoExecute"
        && secs(wide).is_some_and(|most| secs(narrow).is_none_or(|secs| secs > most))
    {
        return false;
    }
    match operator {
        "" | "Equal" => {
            matches!(text(narrow, "/operator"), "" | "Equal")
                && text(narrow, "/value") == text(wide, "/value")
        }
        "Exists" => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_laid_over_pods() {
        let class = json!({"overhead": {"podFixed": {"cpu": "250m"}}, "scheduling": {
            "nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}});
        for (class, spec, wanted) in [
            (
                &class,
                json!({}),
                Ok(
                    json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"vm": "yes"},
                    "tolerations": [{"key": "vm", "operator": "Exists"}]}),
                ),
            ),
            (
                &class,
                json!({"overhead": {"cpu": "0.25"}, "nodeSelector": {"a": "b", "vm": "yes"},
                    "tolerations": [{"key": "vm", "value": "x", "effect": "NoSchedule"}, {"key": "y"}]}),
                Ok(
                    json!({"overhead": {"cpu": "250m"}, "nodeSelector": {"a": "b", "vm": "yes"},
                    "tolerations": [{"key": "y"}, {"key": "vm", "operator": "Exists"}]}),
                ),
            ),
            (
                &class,
                json!({"overhead": {"cpu": "1"}}),
                Err("pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"),
            ),
            (
                &class,
                json!({"nodeSelector": {"vm": "no"}}),
                Err(
                    "conflict: runtimeClass.scheduling.nodeSelector[vm] = yes; pod.spec.nodeSelector[vm] = no",
                ),
            ),
            (
                &json!({"handler": "x"}),
                json!({"a": 1}),
                Ok(json!({"a": 1})),
            ),
        ] {
            let mut pod = json!({"spec": spec});
            let got = apply(class, &mut pod).map(|()| pod["spec"].clone());
            assert_eq!(got, wanted.map_err(str::to_owned), "{spec}");
        }
    }

    #[test]
    fn what_tolerations_include() {
        let every = json!({"operator": "Exists"});
        let short = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 5});
        let long = json!({"key": "a", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 9});
        let equal = json!({"key": "a", "value": "v"});
        for (all, wanted) in [
            ([&short, &every], vec![&every]),
            ([&every, &short], vec![&every]),
            ([&short, &long], vec![&long]),
            ([&equal, &equal], vec![&equal]),
            ([&equal, &short], vec![&equal, &short]),
        ] {
            let all = all.map(Clone::clone);
            let wanted: Vec<Value> = wanted.into_iter().cloned().collect();
            assert_eq!(merged(&all), wanted);
        }
    }
}
