//! Validation: what upstream refuses with 422, in its paths and words.
//!
//! One file a family of kinds. Invariant: a rule reads and never changes; what has the wrong type
//! was refused by decoding, so here it reads as absent.

mod apiservice;
mod at;
mod batch;
mod cluster;
mod config;
mod container;
mod cron;
mod definition;
mod error;
mod meta;
pub mod names;
mod network;
mod pod;
mod probe;
mod rbac;
mod resources;
mod scheduling;
mod security;
mod service;
mod storage;
mod volume;
mod webhooks;
mod workload;

use serde_json::Value;

use crate::resource::Resource;
use at::{At, Errors};

pub use definition::approval;
pub use error::{FieldError, FieldErrorKind};

/// What is wrong with an object's labels.
#[must_use]
pub fn labels(object: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    out.labels(&At::root(object).field("metadata.labels"));
    out.into_vec()
}

/// What is wrong with an object's annotations.
#[must_use]
pub fn annotations(object: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::annotations(&At::root(object).field("metadata.annotations"), &mut out);
    out.into_vec()
}

/// What is wrong with a new object (defaulted, name and namespace filled in).
#[must_use]
pub fn create(res: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::create(res, object, &mut out);
    if let Some(custom) = res.schema.custom() {
        return [out.into_vec(), custom.validate(object, None)].concat();
    }
    content(res, &At::root(object), None, &mut out);
    out.into_vec()
}

/// What is wrong with `new` as a replacement of `old`.
#[must_use]
pub fn update(res: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::update(res, new, old, &mut out);
    if let Some(custom) = res.schema.custom() {
        return [out.into_vec(), custom.validate(new, Some(old))].concat();
    }
    content(res, &At::root(new), Some(old), &mut out);
    out.into_vec()
}

/// What is wrong with `new` as the outcome of a write to a subresource (`status`, `resize`, ...) of `old`.
#[must_use]
pub fn update_subresource(
    res: &Resource,
    subresource: &str,
    new: &Value,
    old: &Value,
) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::update(res, new, old, &mut out);
    if let Some(custom) = res.schema.custom() {
        return [out.into_vec(), custom.validate(new, Some(old))].concat();
    }
    let at = At::root(new);
    match (&*res.group, &*res.kind, subresource) {
        ("", "Pod", "status") => pod::status(&at, old, &mut out),
        ("", "Pod", "ephemeralcontainers") => pod::ephemeral(&at, old, &mut out),
        ("apps", kind, "status") | ("", kind @ "ReplicationController", "status") => {
            workload::status(kind, &at, &mut out);
        }
        ("", "Node", "status") => cluster::node_status(&at, &mut out),
        ("apiregistration.k8s.io", "APIService", "status") => apiservice::status(&at, &mut out),
        _ => {}
    }
    out.into_vec()
}

/// The rules of the kind; `old` where it is an update.
fn content(res: &Resource, new: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    match (&*res.group, &*res.kind) {
        ("", "Pod") => match old {
            None => pod::create(new, out),
            Some(old) => pod::update(new, old, out),
        },
        ("", "PodTemplate") => pod::template(&new.field("template"), &[], out),
        ("apps", kind) | ("", kind @ "ReplicationController") => {
            workload::check(kind, new, old, out)
        }
        ("batch", "Job") => batch::job(new, old, out),
        ("batch", "CronJob") => batch::cron_job(new, old, out),
        ("", "Service") => service::service(new, old, out),
        ("", "Endpoints") => service::endpoints(new, out),
        ("discovery.k8s.io", "EndpointSlice") => service::slice(new, old, out),
        ("", "ConfigMap") => config::config_map(new, old, out),
        ("", "Secret") => config::secret(new, old, out),
        ("", "Namespace") => cluster::namespace(new, out),
        ("", "Node") => cluster::node(new, old, out),
        ("", "LimitRange") => cluster::limit_range(new, out),
        ("", "ResourceQuota") => cluster::quota(new, old, out),
        ("", "Event") => cluster::event(new, out),
        ("", "PersistentVolumeClaim") => storage::claim(new, old, out),
        ("", "PersistentVolume") => storage::volume(new, old, out),
        ("storage.k8s.io", "StorageClass") => storage::class(new, old, out),
        ("scheduling.k8s.io", "PriorityClass") => cluster::priority_class(new, old, out),
        ("coordination.k8s.io", "Lease") => cluster::lease(new, out),
        ("node.k8s.io", "RuntimeClass") => cluster::runtime_class(new, old, out),
        ("autoscaling", "HorizontalPodAutoscaler") => cluster::autoscaler(new, out),
        ("policy", "PodDisruptionBudget") => cluster::disruption_budget(new, out),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition::check(new, old, out),
        (
            "admissionregistration.k8s.io",
            kind @ ("MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration"),
        ) => {
            webhooks::configuration(new, old, kind.starts_with('M'), out);
        }
        ("apiregistration.k8s.io", "APIService") => apiservice::check(new, out),
        ("rbac.authorization.k8s.io", kind) => rbac::check(kind, new, old, out),
        ("networking.k8s.io", "Ingress") => network::ingress(new, out),
        ("networking.k8s.io", "IngressClass") => network::ingress_class(new, old, out),
        ("networking.k8s.io", "NetworkPolicy") => network::policy(new, out),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
