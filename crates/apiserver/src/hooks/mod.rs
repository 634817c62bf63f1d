//! What is special about a kind, one file a kind.
//!
//! Invariant: a hook decides synchronously, from the request, the object and the cache; it never
//! writes.

mod admission_policy;
mod csr;
mod definition;
mod fairness;
mod job;
mod limit_range;
pub(crate) mod namespace;
mod node;
pub(crate) mod node_restriction;
pub(crate) mod pod;
mod pod_service_account;
mod rbac;
mod secret;
pub(crate) mod service;
mod volume;

use std::time::Duration;

use api::resource::Resource;
use api::status::ApiError;
use api::validate::FieldError;
use serde_json::{Value, json};

use crate::pipeline::Call;
use crate::pipeline::claims::Claims;

/// The rules of a kind; every method has the plain kind's answer.
pub(crate) trait Hook: Send + Sync {
    /// Upstream's strategy for a new object, after its system metadata was set.
    fn prepare_create(&self, _call: &Call, _new: &mut Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// Upstream's strategy for a changed one.
    fn prepare_update(&self, _call: &Call, _new: &mut Value, _old: &Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// An object (core plural, name, in the call's namespace) without which a create is refused,
    /// and for which it waits a moment.
    fn awaits(&self, _new: &Value) -> Option<(&'static str, String)> {
        None
    }

    /// Mutating admission; whether anything was added that needs defaults.
    fn mutate(
        &self,
        _call: &Call,
        _new: &mut Value,
        _old: Option<&Value>,
    ) -> Result<bool, ApiError> {
        Ok(false)
    }

    /// Validation that needs the cluster's configuration.
    fn validate(&self, _call: &Call, _new: &Value, _old: Option<&Value>) -> Vec<FieldError> {
        Vec::new()
    }

    /// Validating admission.
    fn admit(&self, _call: &Call, _new: &Value, _old: Option<&Value>) -> Result<(), ApiError> {
        Ok(())
    }

    /// Admission of a delete.
    fn admit_delete(&self, _call: &Call, _object: &Value) -> Result<(), ApiError> {
        Ok(())
    }

    /// Takes what the object needs from the cluster's pools, right before it is written.
    fn allocate(
        &self,
        _call: &Call,
        _new: &mut Value,
        _old: Option<&Value>,
    ) -> Result<(), ApiError> {
        Ok(())
    }

    /// What the object holds for itself alone, as keys of the store.
    fn claims(&self, _object: &Value) -> Claims {
        Claims::new()
    }

    /// Gives back what `gone` has and `kept` has not, after a write that did not happen.
    fn release(&self, _call: &Call, _gone: &Value, _kept: Option<&Value>) {}

    /// The grace period of a delete, for kinds that have one.
    fn grace_period(&self, _object: &Value, _asked: Option<i64>) -> Option<i64> {
        None
    }

    /// Whether a deleted object without finalizers may be removed.
    fn may_vanish(&self, _object: &Value) -> bool {
        true
    }

    /// What else changes in an object that is marked as being deleted.
    fn on_mark(&self, _object: &mut Value) {}

    /// Whether a finished delete answers the object instead of a Status.
    fn returns_deleted(&self) -> bool {
        false
    }

    /// Whether a PUT creates what is not there.
    fn create_on_update(&self) -> bool {
        false
    }

    /// How long an object is kept after its last change; for good when absent.
    fn ttl(&self) -> Option<Duration> {
        None
    }

    /// Whether a PUT may leave out the resourceVersion.
    fn unconditional_update(&self) -> bool {
        true
    }
}

/// A kind without rules of its own.
struct Plain;
impl Hook for Plain {}

/// A kind whose PUT creates.
struct Upsert;
impl Hook for Upsert {
    fn create_on_update(&self) -> bool {
        true
    }
}

/// Events: made by PUT too, and kept for an hour after their last change, as upstream keeps them
/// (`--event-ttl`).
struct Events;
impl Hook for Events {
    fn create_on_update(&self) -> bool {
        true
    }

    fn ttl(&self) -> Option<Duration> {
        Some(Duration::from_hours(1))
    }
}

/// A kind whose delete answers the object.
struct Returned;
impl Hook for Returned {
    fn returns_deleted(&self) -> bool {
        true
    }
}

/// A kind whose PUT must name the revision.
struct Conditional;
impl Hook for Conditional {
    fn unconditional_update(&self) -> bool {
        false
    }
}

/// The rules of a resource.
pub(crate) fn of(resource: &Resource) -> &'static dyn Hook {
    match (&*resource.group, &*resource.plural) {
        ("", "pods") => &pod::Pods,
        ("", "services") => &service::Services,
        ("", "namespaces") => &namespace::Namespaces,
        ("", "nodes") => &node::Nodes,
        ("", "secrets") => &secret::Secrets,
        ("", "persistentvolumes") => &volume::Volumes,
        ("", "persistentvolumeclaims") => &volume::Claims,
        ("", "podtemplates" | "serviceaccounts" | "resourcequotas") => &Returned,
        ("batch", "jobs") => &job::Jobs,
        ("certificates.k8s.io", "certificatesigningrequests") => &csr::Requests,
        ("flowcontrol.apiserver.k8s.io", "flowschemas") => &fairness::Schemas,
        ("flowcontrol.apiserver.k8s.io", "prioritylevelconfigurations") => &fairness::Levels,
        ("" | "events.k8s.io", "events") => &Events,
        ("apiextensions.k8s.io", "customresourcedefinitions") => &definition::Definitions,
        ("", "endpoints" | "limitranges") | ("coordination.k8s.io", "leases") => &Upsert,
        ("rbac.authorization.k8s.io", "roles" | "clusterroles") => &rbac::Roles,
        ("rbac.authorization.k8s.io", _) => &rbac::Bindings,
        (
            "admissionregistration.k8s.io",
            "mutatingwebhookconfigurations" | "validatingwebhookconfigurations",
        ) => &admission_policy::Webhooks,
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies" | "mutatingadmissionpolicies",
        ) => &admission_policy::Policies,
        ("admissionregistration.k8s.io", _) => &admission_policy::Bindings,
        (
            "apiextensions.k8s.io"
            | "apiregistration.k8s.io"
            | "flowcontrol.apiserver.k8s.io"
            | "networking.k8s.io",
            "customresourcedefinitions" | "apiservices" | "servicecidrs" | "ipaddresses",
        ) => &Conditional,
        _ => &Plain,
    }
}

/// `spec`, made when it is not there.
pub(crate) fn spec_mut(object: &mut Value) -> Option<&mut serde_json::Map<String, Value>> {
    object
        .as_object_mut()?
        .entry("spec")
        .or_insert_with(|| json!({}))
        .as_object_mut()
}

/// Sets a member of the object itself.
pub(crate) fn set(object: &mut Value, name: &str, value: Value) {
    if let Some(map) = object.as_object_mut() {
        map.insert(name.to_owned(), value);
    }
}

/// Makes a member what it was before.
pub(crate) fn keep(new: &mut Value, old: &Value, name: &str) {
    match old.get(name) {
        Some(value) => set(new, name, value.clone()),
        None => {
            if let Some(map) = new.as_object_mut() {
                map.remove(name);
            }
        }
    }
}

/// A string below an object, empty when absent.
pub(crate) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}
