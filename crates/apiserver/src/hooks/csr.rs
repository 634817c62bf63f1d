//! CertificateSigningRequests: who asks is written down by the server; approval is a subresource.

use api::status::ApiError;
use serde_json::{Value, json};

use super::{Hook, keep, spec_mut};
use crate::pipeline::Call;

pub(super) struct Requests;

impl Hook for Requests {
    fn prepare_create(&self, call: &Call, new: &mut Value) -> Result<(), ApiError> {
        if let Some(spec) = spec_mut(new) {
            spec.insert("username".to_owned(), call.user.name.as_str().into());
            spec.insert("groups".to_owned(), call.user.groups.clone().into());
            spec.remove("uid");
            if !call.user.uid.is_empty() {
                spec.insert("uid".to_owned(), call.user.uid.as_str().into());
            }
            spec.remove("extra");
            if !call.user.extra.is_empty() {
                spec.insert("extra".to_owned(), json!(call.user.extra));
            }
        }
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        keep(new, old, "spec");
        match call.subresource.as_str() {
            "approval" => {
                let conditions = new.pointer("/status/conditions").cloned();
                keep(new, old, "status");
                if let Some(status) = new.get_mut("status").and_then(Value::as_object_mut) {
                    match conditions {
                        Some(conditions) => status.insert("conditions".to_owned(), conditions),
                        None => status.remove("conditions"),
                    };
                }
            }
            "status" => {
                // Approval and denial are not for the signer to write.
                let decided = |object: &Value| -> Vec<Value> {
                    let all = object
                        .pointer("/status/conditions")
                        .and_then(Value::as_array);
                    let decides = |c: &&Value| {
                        matches!(
                            c.get("type").and_then(Value::as_str),
                            Some("Approved" | "Denied")
                        )
                    };
                    all.into_iter().flatten().filter(decides).cloned().collect()
                };
                if decided(new) != decided(old) {
                    return Err(ApiError::forbidden(
                        &call.resource.group,
                        &call.resource.plural,
                        &call.name,
                        "approval and denial are written through the approval subresource",
                    ));
                }
            }
            _ => {}
        }
        Ok(())
    }
}
