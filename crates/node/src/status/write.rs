//! The patch that takes a pod's status in the API from one version to the next.
//!
//! Invariant: only what changed is sent, by the UID of the pod that it is about;
//! conditions of other owners are left alone.

use k8s_openapi::api::core::v1::PodStatus;
use serde_json::{Map, Value, json};

/// The strategic merge patch from `before` to `after`; `None` when nothing changed.
pub(crate) fn patch(uid: &str, before: &PodStatus, after: &PodStatus) -> Option<Value> {
    let old = object(before);
    let new = object(after);
    let mut status = Map::new();
    for (key, value) in &new {
        if old.get(key) == Some(value) {
            continue;
        }
        let value = match key.as_str() {
            "conditions" => changed_conditions(old.get(key), value),
            // Merged by address, so an address that is gone has to be said to be gone.
            "podIPs" | "hostIPs" if old.contains_key(key) => replace(value),
            _ => value.clone(),
        };
        if value.as_array().is_none_or(|l| !l.is_empty()) {
            status.insert(key.clone(), value);
        }
    }
    for key in old.keys().filter(|k| !new.contains_key(*k) && owned(k)) {
        status.insert(key.clone(), Value::Null);
    }
    if status.is_empty() {
        return None;
    }
    Some(json!({"metadata": {"uid": uid}, "status": status}))
}

fn object(status: &PodStatus) -> Map<String, Value> {
    match serde_json::to_value(status) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

/// The fields of a status that the node writes.
fn owned(key: &str) -> bool {
    !matches!(
        key,
        "nominatedNodeName" | "resize" | "resourceClaimStatuses"
    )
}

fn changed_conditions(old: Option<&Value>, new: &Value) -> Value {
    let old = old
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let list = new.as_array().map(Vec::as_slice).unwrap_or_default();
    let changed = list.iter().filter(|c| !old.contains(c)).map(|c| {
        let mut c = c.clone();
        // A reason or message that went away must not survive the merge.
        if let Some(before) = old.iter().find(|o| o["type"] == c["type"]) {
            for key in ["reason", "message"] {
                if before.get(key).is_some() && c.get(key).is_none() {
                    c[key] = Value::Null;
                }
            }
        }
        c
    });
    Value::Array(changed.collect())
}

fn replace(value: &Value) -> Value {
    let mut list = vec![json!({"$patch": "replace"})];
    list.extend(value.as_array().into_iter().flatten().cloned());
    Value::Array(list)
}
