//! Pods: what is set when one is created, what a change may touch, how one is deleted.

use std::collections::BTreeMap;

use api::quantity::Quantity;
use api::status::ApiError;
use serde_json::{Value, json};

use super::pod_service_account as service_account;
use super::{Hook, keep, limit_range, set, spec_mut, text};
use crate::admission::runtime_class;
use crate::pipeline::Call;

pub(crate) struct Pods;

/// How long a pod stays on a node that is not ready or cannot be reached.
const TOLERATION_SECS: i64 = 300;
const NODE_TROUBLE: &[&str] = &[
    "node.kubernetes.io/not-ready",
    "node.kubernetes.io/unreachable",
];
/// The grace period of a pod that names none.
const GRACE_SECS: i64 = 30;

impl Hook for Pods {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        let mut status = json!({"phase": "Pending"});
        status["qosClass"] = qos_class(new).into();
        set(new, "status", status);
        let gated = new
            .pointer("/spec/schedulingGates")
            .and_then(Value::as_array)
            .is_some_and(|gates| !gates.is_empty());
        if gated {
            new["status"]["conditions"] = json!([{
                "type": "PodScheduled", "status": "False", "reason": "SchedulingGated",
                "message": "Scheduling is blocked due to non-empty scheduling gates",
                "lastProbeTime": null, "lastTransitionTime": crate::pipeline::meta::now(),
            }]);
        }
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        match call.subresource.as_str() {
            "status" => {
                if let (Some(owners), Some(metadata)) = (
                    old.pointer("/metadata/ownerReferences").cloned(),
                    api::meta::metadata_mut(new),
                ) {
                    metadata.insert("ownerReferences".to_owned(), owners);
                }
                keep_qos(new, old);
            }
            "ephemeralcontainers" => only(new, old, &["ephemeralContainers"]),
            "resize" => resize(new, old),
            _ => {}
        }
        Ok(())
    }

    fn awaits(&self, new: &Value) -> Option<(&'static str, String)> {
        service_account::wanted(new).map(|name| ("serviceaccounts", name.to_owned()))
    }

    fn mutate(&self, call: &Call, new: &mut Value, old: Option<&Value>) -> Result<bool, ApiError> {
        if old.is_some() {
            if call.subresource.is_empty() {
                tolerate(new);
            }
            return Ok(false);
        }
        service_account::inject(call, new)?;
        limit_range::fill(call, new);
        tolerate(new);
        priority(call, new)?;
        runtime_class::mutate(call, new)?;
        Ok(true)
    }

    fn admit(&self, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        if old.is_none() || call.subresource == "resize" {
            limit_range::check(call, new)?;
        }
        if old.is_none() {
            runtime_class::admit(call, new)?;
        }
        Ok(())
    }

    fn grace_period(&self, pod: &Value, asked: Option<i64>) -> Option<i64> {
        let own = pod
            .pointer("/spec/terminationGracePeriodSeconds")
            .and_then(Value::as_i64);
        let secs = asked.or(own).unwrap_or(GRACE_SECS);
        let nobody_runs_it = text(pod, "/spec/nodeName").is_empty()
            || matches!(text(pod, "/status/phase"), "Failed" | "Succeeded");
        Some(match secs {
            _ if nobody_runs_it => 0,
            secs if secs < 0 => 1,
            secs => secs,
        })
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// The class of a pod cannot be lost by a status that leaves it out.
fn keep_qos(new: &mut Value, old: &Value) {
    let class = text(old, "/status/qosClass").to_owned();
    if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut)
        && !class.is_empty()
    {
        status.insert("qosClass".to_owned(), class.into());
    }
}

/// Lets nothing of the spec through but these members.
fn only(new: &mut Value, old: &Value, members: &[&str]) {
    let wanted: Vec<(String, Option<Value>)> = members
        .iter()
        .map(|m| {
            (
                (*m).to_owned(),
                new.get("spec").and_then(|s| s.get(m)).cloned(),
            )
        })
        .collect();
    keep(new, old, "spec");
    keep(new, old, "status");
    if let Some(spec) = spec_mut(new) {
        for (name, value) in wanted {
            match value {
                Some(value) => spec.insert(name, value),
                None => spec.remove(&name),
            };
        }
    }
}

/// Lets only the resources of containers change.
fn resize(new: &mut Value, old: &Value) {
    let pick = |list: &str| -> BTreeMap<String, Value> {
        let all = new
            .get("spec")
            .and_then(|s| s.get(list))
            .and_then(Value::as_array);
        all.into_iter()
            .flatten()
            .map(|c| {
                (
                    text(c, "/name").to_owned(),
                    c.get("resources").cloned().unwrap_or_default(),
                )
            })
            .collect()
    };
    let wanted = [
        ("containers", pick("containers")),
        ("initContainers", pick("initContainers")),
    ];
    let policies = new.pointer("/spec/resources").cloned();
    keep(new, old, "spec");
    keep(new, old, "status");
    let Some(spec) = spec_mut(new) else { return };
    spec.extend(policies.map(|v| ("resources".to_owned(), v)));
    for (list, wanted) in wanted {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            if let Some(resources) = wanted.get(text(container, "/name"))
                && !resources.is_null()
            {
                set(container, "resources", resources.clone());
            }
        }
    }
}

/// Bears trouble of its node for a while, unless the pod says otherwise.
fn tolerate(pod: &mut Value) {
    let Some(spec) = spec_mut(pod) else { return };
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    if list.is_null() {
        *list = json!([]);
    }
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for key in NODE_TROUBLE {
        let borne = list.iter().any(|t| {
            let of = text(t, "/key");
            (of == *key || (of.is_empty() && text(t, "/operator") == "Exists"))
                && matches!(text(t, "/effect"), "" | "NoExecute")
        });
        if !borne {
            list.push(json!({
                "key": key, "operator": "Exists", "effect": "NoExecute",
                "tolerationSeconds": TOLERATION_SECS,
            }));
        }
    }
}

/// Fills in the number behind the priority class.
fn priority(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    let class_name = text(pod, "/spec/priorityClassName").to_owned();
    let classes = call
        .state
        .cache
        .kind("scheduling.k8s.io", "priorityclasses");
    let refuse = |why: String| Err(ApiError::forbidden("", "pods", api::meta::name(pod), why));
    let class = if class_name.is_empty() {
        classes
            .list(None)
            .iter()
            .map(|class| class.value())
            .filter(|class| class.get("globalDefault").and_then(Value::as_bool) == Some(true))
            .min_by_key(|class| class.get("value").and_then(Value::as_i64))
    } else {
        match classes.get("", &class_name) {
            Some(class) => Some(class.value()),
            None => return refuse(format!("no PriorityClass with name {class_name} was found")),
        }
    };
    let value = class
        .as_ref()
        .and_then(|c| c.get("value"))
        .and_then(Value::as_i64)
        .unwrap_or_default();
    let policy = class
        .as_ref()
        .and_then(|c| c.get("preemptionPolicy"))
        .and_then(Value::as_str)
        .unwrap_or("PreemptLowerPriority")
        .to_owned();
    let given = pod.pointer("/spec/priority").and_then(Value::as_i64);
    if let Some(given) = given.filter(|given| *given != value) {
        return refuse(format!(
            "the integer value of priority ({given}) must not be provided in pod spec; priority admission controller computed {value} from the given PriorityClass name"
        ));
    }
    if let Some(spec) = spec_mut(pod) {
        if let Some(class) = &class {
            spec.insert(
                "priorityClassName".to_owned(),
                api::meta::name(class).into(),
            );
        }
        spec.insert("priority".to_owned(), value.into());
        spec.entry("preemptionPolicy")
            .or_insert_with(|| policy.into());
    }
    Ok(())
}

/// The quality of service class that a pod's resources make.
pub(crate) fn qos_class(pod: &Value) -> &'static str {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let spec = |name: &str| pod.get("spec").and_then(|s| s.get(name));
    let amount = |resources: Option<&Value>, side: &str, name: &str| {
        let value = resources?.get(side)?.get(name)?;
        let amount = match value {
            Value::String(s) => Quantity::parse(s).ok()?,
            other => Quantity::parse(&other.to_string()).ok()?,
        };
        (!amount.is_zero()).then_some(amount)
    };
    let whole = spec("resources");
    let of_pod = whole.is_some_and(|r| {
        COUNTED.iter().any(|n| {
            amount(Some(r), "requests", n)
                .or(amount(Some(r), "limits", n))
                .is_some()
        })
    });
    let holders: Vec<Option<&Value>> = if of_pod {
        vec![whole]
    } else {
        ["containers", "initContainers"]
            .into_iter()
            .filter_map(spec)
            .filter_map(Value::as_array)
            .flatten()
            .map(|container| container.get("resources"))
            .collect()
    };
    let (mut any, mut guaranteed) = (false, true);
    for holder in holders {
        for name in COUNTED {
            let request = amount(holder, "requests", name);
            let limit = amount(holder, "limits", name);
            any |= request.is_some() || limit.is_some();
            guaranteed &= limit.is_some_and(|limit| request.unwrap_or(limit) == limit);
        }
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quality_of_service() {
        let both = |cpu: &str, memory: &str| json!({"cpu": cpu, "memory": memory});
        for (resources, wanted) in [
            (json!({}), "BestEffort"),
            (json!({"requests": {"cpu": "1"}}), "Burstable"),
            (json!({"limits": both("1", "1Gi")}), "Guaranteed"),
            (
                json!({"requests": both("1000m", "1Gi"), "limits": both("1", "1024Mi")}),
                "Guaranteed",
            ),
            (
                json!({"requests": both("1", "1Gi"), "limits": both("2", "1Gi")}),
                "Burstable",
            ),
            (json!({"limits": {"memory": "1Gi"}}), "Burstable"),
        ] {
            let pod = json!({"spec": {"containers": [{"name": "a", "resources": resources}]}});
            assert_eq!(qos_class(&pod), wanted, "{resources}");
        }
    }
}
