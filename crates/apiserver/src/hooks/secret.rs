//! Secrets: `stringData` is for writing only.

use api::status::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::Hook;
use crate::pipeline::Call;

pub(super) struct Secrets;

impl Hook for Secrets {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        fold(new);
        Ok(())
    }

    fn prepare_update(&self, _call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        fold(new);
        // A PUT that names no type keeps the one there is.
        if super::text(new, "/type").is_empty() {
            super::keep(new, old, "type");
        }
        Ok(())
    }
}

fn fold(secret: &mut Value) {
    let Some(map) = secret.as_object_mut() else {
        return;
    };
    let Some(Value::Object(plain)) = map.remove("stringData") else {
        return;
    };
    let data = map.entry("data").or_insert_with(|| json!({}));
    if data.is_null() {
        *data = json!({});
    }
    if let Some(data) = data.as_object_mut() {
        for (key, value) in plain {
            if let Some(text) = value.as_str() {
                data.insert(key, STANDARD.encode(text).into());
            }
        }
    }
}
