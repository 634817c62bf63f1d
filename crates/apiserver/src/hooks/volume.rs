//! PersistentVolumes and their claims begin as Pending.

use api::status::ApiError;
use serde_json::{Value, json};

use super::{Hook, set, spec_mut};
use crate::pipeline::Call;

pub(super) struct Volumes;
pub(super) struct Claims;

impl Hook for Volumes {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        set(new, "status", json!({"phase": "Pending"}));
        Ok(())
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// Marks the class for claims that name none.
const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";

impl Hook for Claims {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        set(new, "status", json!({"phase": "Pending"}));
        Ok(())
    }

    fn mutate(&self, call: &Call, new: &mut Value, old: Option<&Value>) -> Result<bool, ApiError> {
        if old.is_some()
            || new
                .pointer("/spec/storageClassName")
                .is_some_and(|v| !v.is_null())
        {
            return Ok(false);
        }
        let classes = call
            .state
            .cache
            .kind("storage.k8s.io", "storageclasses")
            .list(None);
        let default = classes
            .iter()
            .filter(|class| api::meta::annotation(&class.value(), DEFAULT_CLASS) == Some("true"))
            // Of several the newest one is the default.
            .max_by_key(|class| class.revision);
        if let (Some(class), Some(spec)) = (default, spec_mut(new)) {
            spec.insert("storageClassName".to_owned(), class.name().into());
        }
        Ok(false)
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}
