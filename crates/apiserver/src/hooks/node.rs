//! Nodes.

use api::status::ApiError;
use serde_json::{Value, json};

use super::{Hook, keep};
use crate::pipeline::Call;

pub(super) struct Nodes;

impl Hook for Nodes {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        if new.get("spec").is_none_or(Value::is_null) {
            super::set(new, "spec", json!({}));
        }
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        // What a node's pods were given does not change under them.
        if call.subresource.is_empty() {
            let given = |object: &Value| object.pointer("/spec/podCIDR").cloned();
            if given(old).is_some() && given(new).is_none() {
                let (cidr, cidrs) = (given(old), old.pointer("/spec/podCIDRs").cloned());
                if let Some(spec) = super::spec_mut(new) {
                    spec.extend(cidr.map(|v| ("podCIDR".to_owned(), v)));
                    spec.extend(cidrs.map(|v| ("podCIDRs".to_owned(), v)));
                }
            }
        } else {
            keep(new, old, "spec");
        }
        Ok(())
    }
}
