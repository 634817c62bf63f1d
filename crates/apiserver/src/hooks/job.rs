//! Jobs: the selector that the server makes from the Job's uid.

use api::meta;
use api::status::ApiError;
use serde_json::{Map, Value, json};

use super::{Hook, spec_mut};
use crate::pipeline::Call;

pub(super) struct Jobs;

const UID: &str = "batch.kubernetes.io/controller-uid";
const NAME: &str = "batch.kubernetes.io/job-name";

impl Hook for Jobs {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        if new.pointer("/spec/manualSelector").and_then(Value::as_bool) == Some(true) {
            return Ok(());
        }
        let (name, uid) = (meta::name(new).to_owned(), meta::uid(new).to_owned());
        let Some(spec) = spec_mut(new) else {
            return Ok(());
        };
        if let Some(labels) = template_labels(spec) {
            for key in ["job-name", NAME] {
                labels.entry(key).or_insert_with(|| name.as_str().into());
            }
            for key in ["controller-uid", UID] {
                labels.insert(key.to_owned(), uid.as_str().into());
            }
        }
        let selector = spec.entry("selector").or_insert_with(|| json!({}));
        if !selector.is_object() {
            *selector = json!({});
        }
        if let Some(map) = selector.as_object_mut() {
            let labels = map.entry("matchLabels").or_insert_with(|| json!({}));
            if let Some(labels) = labels.as_object_mut() {
                labels.entry(UID).or_insert_with(|| uid.into());
            }
        }
        Ok(())
    }
}

fn template_labels(spec: &mut Map<String, Value>) -> Option<&mut Map<String, Value>> {
    let mut at = spec.entry("template").or_insert_with(|| json!({}));
    for name in ["metadata", "labels"] {
        at = at.as_object_mut()?.entry(name).or_insert_with(|| json!({}));
        if at.is_null() {
            *at = json!({});
        }
    }
    at.as_object_mut()
}
