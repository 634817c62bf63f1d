//! Namespaces: their own life, and that nothing is created in one that is missing or dying.

use api::meta;
use api::status::ApiError;
use serde_json::{Value, json};

use super::{Hook, keep, set, spec_mut};
use crate::pipeline::Call;

pub(crate) struct Namespaces;

/// Namespaces that cannot be deleted.
const PROTECTED: &[&str] = &["default", "kube-system", "kube-public"];
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

impl Hook for Namespaces {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        set(new, "status", json!({"phase": "Active"}));
        if let Some(spec) = spec_mut(new) {
            let list = spec.entry("finalizers").or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut()
                && !list.iter().any(|f| f == "kubernetes")
            {
                list.push("kubernetes".into());
            }
        }
        label(new);
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        match call.subresource.as_str() {
            "finalize" => keep(new, old, "status"),
            "status" => {}
            _ => keep_finalizers(new, old),
        }
        label(new);
        Ok(())
    }

    fn admit_delete(&self, call: &Call, _object: &Value) -> Result<(), ApiError> {
        if PROTECTED.contains(&call.name.as_str()) {
            return Err(ApiError::forbidden(
                "",
                "namespaces",
                &call.name,
                "this namespace may not be deleted",
            ));
        }
        Ok(())
    }

    fn may_vanish(&self, object: &Value) -> bool {
        object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty)
    }

    fn on_mark(&self, object: &mut Value) {
        let status = object.get("status").cloned().unwrap_or_else(|| json!({}));
        set(object, "status", status);
        object["status"]["phase"] = "Terminating".into();
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

fn keep_finalizers(new: &mut Value, old: &Value) {
    let finalizers = old.pointer("/spec/finalizers").cloned();
    if let Some(spec) = spec_mut(new) {
        match finalizers {
            Some(finalizers) => spec.insert("finalizers".to_owned(), finalizers),
            None => spec.remove("finalizers"),
        };
    }
}

/// The label by which selectors find a namespace.
fn label(object: &mut Value) {
    let name = meta::name(object).to_owned();
    if let Some(metadata) = meta::metadata_mut(object) {
        let labels = metadata.entry("labels").or_insert_with(|| json!({}));
        if labels.is_null() {
            *labels = json!({});
        }
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(NAME_LABEL.to_owned(), name.into());
        }
    }
}

/// Refuses a create in a namespace that is missing or being deleted.
pub(crate) fn lifecycle(call: &Call) -> Result<(), ApiError> {
    if !call.resource.namespaced || call.namespace.is_empty() {
        return Ok(());
    }
    let Some(namespace) = call.state.core("namespaces").get("", &call.namespace) else {
        return Err(ApiError::not_found_named("", "namespaces", &call.namespace));
    };
    if !namespace.deleting {
        return Ok(());
    }
    let mut error = ApiError::forbidden(
        &call.resource.group,
        &call.resource.plural,
        &call.name,
        format!(
            "unable to create new content in namespace {} because it is being terminated",
            call.namespace
        ),
    );
    error.details_mut().causes = vec![json!({
        "reason": "NamespaceTerminating",
        "message": format!("namespace {} is being terminated", call.namespace),
        "field": "metadata.namespace",
    })];
    Err(error)
}
