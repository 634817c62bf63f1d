//! PersistentVolumes and their claims: they begin as Pending and are kept while in use; a claim gets
//! the default class, and grows only where its class allows that.

use api::meta;
use api::quantity::Quantity;
use api::quota::storage_class;
use api::status::ApiError;
use serde_json::{Value, json};

use super::{Hook, set, spec_mut, text};
use crate::pipeline::Call;

pub(super) struct Volumes;
pub(super) struct Claims;

/// What the protection controllers take away when nobody uses the object any more.
const VOLUME_PROTECTION: &str = "kubernetes.io/pv-protection";
const CLAIM_PROTECTION: &str = "kubernetes.io/pvc-protection";

/// Keeps a new object from going while it is in use.
fn protect(object: &mut Value, finalizer: &str) {
    if meta::finalizers(object).any(|own| own == finalizer) {
        return;
    }
    let mut all: Vec<String> = meta::finalizers(object).map(str::to_owned).collect();
    all.push(finalizer.to_owned());
    meta::set(object, "finalizers", all);
}

impl Hook for Volumes {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        set(new, "status", json!({"phase": "Pending"}));
        Ok(())
    }

    fn mutate(&self, _call: &Call, new: &mut Value, old: Option<&Value>) -> Result<bool, ApiError> {
        if old.is_none() {
            protect(new, VOLUME_PROTECTION);
        }
        Ok(false)
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// Mark the class for claims that name none; the second one is as old as classes are.
const DEFAULT_CLASS: &[&str] = &[
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// Names a claim's class, as it was before the field.
const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

impl Hook for Claims {
    fn prepare_create(&self, _call: &Call, new: &mut Value) -> Result<(), ApiError> {
        set(new, "status", json!({"phase": "Pending"}));
        Ok(())
    }

    fn mutate(&self, call: &Call, new: &mut Value, old: Option<&Value>) -> Result<bool, ApiError> {
        if old.is_some() {
            return Ok(false);
        }
        protect(new, CLAIM_PROTECTION);
        let named = new.pointer("/spec/storageClassName");
        if named.is_some_and(|v| !v.is_null()) || meta::annotation(new, BETA_CLASS).is_some() {
            return Ok(false);
        }
        if let (Some(class), Some(spec)) = (default_class(call), spec_mut(new)) {
            spec.insert("storageClassName".to_owned(), class.into());
        }
        Ok(false)
    }

    fn admit(&self, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let Some(old) = old.filter(|_| call.subresource.is_empty()) else {
            return Ok(());
        };
        let size = |claim| Quantity::parse(text(claim, "/spec/resources/requests/storage"));
        let size = |claim| size(claim).unwrap_or(Quantity::ZERO);
        if size(new) <= size(old) {
            return Ok(());
        }
        let refuse = |why| {
            Err(ApiError::forbidden(
                "",
                "persistentvolumeclaims",
                &call.name,
                why,
            ))
        };
        if text(old, "/status/phase") != "Bound" {
            return refuse("Only bound persistent volume claims can be expanded");
        }
        let class = storage_class(new);
        let classes = call.state.cache.kind("storage.k8s.io", "storageclasses");
        let grows = classes.get("", class).is_some_and(|class| {
            class.value().get("allowVolumeExpansion") == Some(&Value::Bool(true))
        });
        if class.is_empty() || class != storage_class(old) || !grows {
            return refuse(
                "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
            );
        }
        Ok(())
    }

    fn returns_deleted(&self) -> bool {
        true
    }
}

/// The newest of the classes that are marked as the default; of equally old ones the first by name.
fn default_class(call: &Call) -> Option<String> {
    let classes = call.state.cache.kind("storage.k8s.io", "storageclasses");
    let mut marked: Vec<(String, String)> = Vec::new();
    for class in classes.list(None) {
        let value = class.value();
        let says = |key: &&str| meta::annotation(&value, key) == Some("true");
        if DEFAULT_CLASS.iter().any(says) {
            let made = meta::creation_timestamp(&value).to_owned();
            marked.push((made, class.name().to_owned()));
        }
    }
    marked.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.cmp(other)));
    marked.into_iter().next().map(|(_, name)| name)
}
