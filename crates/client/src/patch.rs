//! The smallest change from one version of an object to another, and what went wrong with it.

use serde::Serialize;
use serde_json::{Map, Value};
use std::error::Error;

/// The JSON merge patch that turns `old` into `new`; `None` when they are equal.
pub fn merge_patch(old: &Value, new: &Value) -> Option<Value> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            let mut patch = Map::new();
            for (name, value) in new {
                match old.get(name) {
                    None => {
                        patch.insert(name.clone(), value.clone());
                    }
                    Some(before) => {
                        if let Some(change) = merge_patch(before, value) {
                            patch.insert(name.clone(), change);
                        }
                    }
                }
            }
            for name in old.keys().filter(|name| !new.contains_key(*name)) {
                patch.insert(name.clone(), Value::Null);
            }
            (!patch.is_empty()).then_some(Value::Object(patch))
        }
        (old, new) if old == new => None,
        (_, new) => Some(new.clone()),
    }
}

/// [`merge_patch`] between two objects, bound to the resource version (and so the uid) of `old`:
/// the server answers 409 if the object has changed meanwhile.
pub fn change<K: kube::Resource + Serialize>(
    old: &K,
    new: &K,
) -> Result<Option<Value>, serde_json::Error> {
    let mut patch = merge_patch(&serde_json::to_value(old)?, &serde_json::to_value(new)?);
    if let Some(Value::Object(patch)) = &mut patch
        && let Some(version) = &old.meta().resource_version
    {
        let meta = patch
            .entry("metadata")
            .or_insert_with(|| Value::Object(Map::new()));
        meta["resourceVersion"] = Value::String(version.clone());
    }
    Ok(patch)
}

/// The HTTP status that the API server answered with, looked for in the whole chain.
pub fn status_code(error: &(dyn Error + 'static)) -> Option<u16> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
            return Some(status.code);
        }
        next = error.source();
    }
    None
}

/// Whether the object was changed by somebody else since it was read.
pub fn is_conflict(error: &(dyn Error + 'static)) -> bool {
    status_code(error) == Some(409) && reason(error).as_deref() != Some("AlreadyExists")
}

/// Whether there is no such object.
pub fn is_not_found(error: &(dyn Error + 'static)) -> bool {
    status_code(error) == Some(404)
}

/// Whether there is such an object already.
pub fn is_already_exists(error: &(dyn Error + 'static)) -> bool {
    status_code(error) == Some(409) && reason(error).as_deref() == Some("AlreadyExists")
}

/// Whether the namespace takes no new objects because it is being deleted.
pub fn is_namespace_terminating(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
            return status.code == 403
                && (status.message.contains("because it is being terminated")
                    || status.details.as_ref().is_some_and(|d| {
                        d.causes.iter().any(|c| c.reason == "NamespaceTerminating")
                    }));
        }
        next = error.source();
    }
    false
}

fn reason(error: &(dyn Error + 'static)) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(kube::Error::Api(status)) = error.downcast_ref::<kube::Error>() {
            return Some(status.reason.clone());
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_patch_says_only_what_changed() {
        let old = json!({"a": 1, "b": {"c": [1, 2], "d": "x"}, "e": true});
        let new = json!({"a": 1, "b": {"c": [2], "f": null}, "g": {}});
        assert_eq!(
            merge_patch(&old, &new),
            Some(json!({"b": {"c": [2], "d": null, "f": null}, "e": null, "g": {}}))
        );
        assert_eq!(merge_patch(&new, &new), None);
    }
}
