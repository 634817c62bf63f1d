//! Conversion between the forms of a resource that share one storage: events and autoscalers.
//!
//! Lossless both ways: what the older form has no field for travels in the annotations that upstream
//! keeps for it.

use serde_json::{Map, Value, json};

use crate::resource::Resource;

/// Fields of an event: in the core group, in `events.k8s.io`.
const EVENT: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT_METRICS: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";

/// Rewrites `object` from the form of `from` to that of `to`; the two share their storage.
/// Sets `apiVersion`; does nothing else where the forms are the same.
pub fn convert(from: &Resource, to: &Resource, object: &mut Value) {
    let Value::Object(map) = object else { return };
    if from.group == to.group && from.version == to.version {
        return;
    }
    map.insert("apiVersion".to_owned(), to.api_version.as_str().into());
    if from.schema.table().is_none() {
        return;
    }
    match (&*from.plural, &*from.group, &*from.version, &*to.version) {
        ("events", "", ..) => EVENT.iter().for_each(|(old, new)| rename(map, old, new)),
        ("events", ..) => EVENT.iter().for_each(|(old, new)| rename(map, new, old)),
        ("horizontalpodautoscalers", _, "v1", "v2") => autoscaler_to_new(map),
        ("horizontalpodautoscalers", _, "v2", "v1") => autoscaler_to_old(map),
        _ => {}
    }
}

fn rename(map: &mut Map<String, Value>, from: &str, to: &str) {
    if let Some(value) = map.remove(from) {
        map.insert(to.to_owned(), value);
    }
}

fn part<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    map.get_mut(key).and_then(Value::as_object_mut)
}

fn take_annotation(map: &mut Map<String, Value>, key: &str) -> Option<Value> {
    let metadata = part(map, "metadata")?;
    let annotations = part(metadata, "annotations")?;
    let text = annotations.remove(key)?;
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    serde_json::from_str(text.as_str()?).ok()
}

fn put_annotation(map: &mut Map<String, Value>, key: &str, value: &Value) {
    let metadata = map.entry("metadata").or_insert_with(|| json!({}));
    if let Some(metadata) = metadata.as_object_mut() {
        let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(key.to_owned(), value.to_string().into());
        }
    }
}

fn autoscaler_to_new(map: &mut Map<String, Value>) {
    let others = take_annotation(map, METRICS);
    let other_currents = take_annotation(map, CURRENT_METRICS);
    let conditions = take_annotation(map, CONDITIONS);
    let behavior = take_annotation(map, BEHAVIOR);
    if let Some(spec) = part(map, "spec") {
        let mut metrics = others
            .and_then(|v| v.as_array().cloned())
            .unwrap_or_default();
        if let Some(percent) = spec.remove("targetCPUUtilizationPercentage") {
            let target = json!({"type": "Utilization", "averageUtilization": percent});
            metrics.insert(
                0,
                json!({"type": "Resource", "resource": {"name": "cpu", "target": target}}),
            );
        }
        if !metrics.is_empty() {
            spec.insert("metrics".to_owned(), metrics.into());
        }
        if let Some(behavior) = behavior {
            spec.insert("behavior".to_owned(), behavior);
        }
    }
    if let Some(status) = part(map, "status") {
        let mut metrics = other_currents
            .and_then(|v| v.as_array().cloned())
            .unwrap_or_default();
        if let Some(percent) = status.remove("currentCPUUtilizationPercentage") {
            let current = json!({"averageUtilization": percent});
            metrics.insert(
                0,
                json!({"type": "Resource", "resource": {"name": "cpu", "current": current}}),
            );
        }
        if !metrics.is_empty() {
            status.insert("currentMetrics".to_owned(), metrics.into());
        }
        if let Some(conditions) = conditions {
            status.insert("conditions".to_owned(), conditions);
        }
    }
}

/// Takes the first plain CPU utilization out of a list of metrics.
fn take_cpu(metrics: &mut Vec<Value>, side: &str) -> Option<Value> {
    let pointer = format!("/resource/{side}/averageUtilization");
    let is_cpu = |m: &Value| m.pointer("/resource/name").and_then(Value::as_str) == Some("cpu");
    let at = metrics.iter().position(|m| {
        is_cpu(m)
            && m.pointer(&pointer).is_some()
            && m.pointer(&format!("/resource/{side}"))
                .and_then(Value::as_object)
                .is_some_and(|t| t.len() <= 2)
            && m.pointer(&format!("/resource/{side}/averageValue"))
                .is_none()
    })?;
    metrics.remove(at).pointer(&pointer).cloned()
}

fn autoscaler_to_old(map: &mut Map<String, Value>) {
    let mut kept = Vec::new();
    if let Some(spec) = part(map, "spec") {
        let mut metrics = spec
            .remove("metrics")
            .and_then(|v| v.as_array().cloned())
            .unwrap_or_default();
        if let Some(percent) = take_cpu(&mut metrics, "target") {
            spec.insert("targetCPUUtilizationPercentage".to_owned(), percent);
        }
        if !metrics.is_empty() {
            kept.push((METRICS, Value::from(metrics)));
        }
        kept.extend(spec.remove("behavior").map(|b| (BEHAVIOR, b)));
    }
    if let Some(status) = part(map, "status") {
        let mut metrics = status
            .remove("currentMetrics")
            .and_then(|v| v.as_array().cloned())
            .unwrap_or_default();
        if let Some(percent) = take_cpu(&mut metrics, "current") {
            status.insert("currentCPUUtilizationPercentage".to_owned(), percent);
        }
        if !metrics.is_empty() {
            kept.push((CURRENT_METRICS, Value::from(metrics)));
        }
        kept.extend(status.remove("conditions").map(|c| (CONDITIONS, c)));
    }
    for (key, value) in kept {
        put_annotation(map, key, &value);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::resource::find;

    #[test]
    fn events_and_autoscalers_go_there_and_back() {
        let core = find("", "v1", "events").unwrap();
        let new = find("events.k8s.io", "v1", "events").unwrap();
        assert_eq!(new.storage().group, "");
        let mut event = json!({"apiVersion": "events.k8s.io/v1", "regarding": {"kind": "Pod"}, "note": "n",
            "reportingController": "c", "reportingInstance": "i", "reason": "r"});
        let before = event.clone();
        convert(new, core, &mut event);
        assert_eq!(
            event,
            json!({"apiVersion": "v1", "involvedObject": {"kind": "Pod"}, "message": "n",
                   "reportingComponent": "c", "reportingInstance": "i", "reason": "r"})
        );
        convert(core, new, &mut event);
        assert_eq!(event, before);

        let old = find("autoscaling", "v1", "horizontalpodautoscalers").unwrap();
        let new = find("autoscaling", "v2", "horizontalpodautoscalers").unwrap();
        let mut scaler = json!({"apiVersion": "autoscaling/v2", "metadata": {"name": "a"}, "spec": {"maxReplicas": 3, "behavior": {},
            "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}},
                        {"type": "Pods", "pods": {}}]}, "status": {"conditions": []}});
        let before = scaler.clone();
        convert(new, old, &mut scaler);
        assert_eq!(
            scaler["spec"],
            json!({"maxReplicas": 3, "targetCPUUtilizationPercentage": 80})
        );
        convert(old, new, &mut scaler);
        assert_eq!(scaler, before);
    }
}
