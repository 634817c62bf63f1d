//! Validation: what upstream refuses with 422, in its paths and words.
//!
//! One file a family of kinds. Invariant: a rule reads and never changes; what has the wrong type
//! was refused by decoding, so here it reads as absent.

mod at;
mod container;
mod error;
mod meta;
pub mod names;
mod pod;
mod probe;
mod resources;
mod scheduling;
mod security;
mod volume;
mod workload;

use serde_json::Value;

use crate::resource::Resource;
use at::{At, Errors};

pub use error::{FieldError, FieldErrorKind};

/// What is wrong with a new object (defaulted, name and namespace filled in).
#[must_use]
pub fn create(res: &Resource, object: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::create(res, object, &mut out);
    content(res, &At::root(object), None, &mut out);
    out.into_vec()
}

/// What is wrong with `new` as a replacement of `old`.
#[must_use]
pub fn update(res: &Resource, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::update(new, old, &mut out);
    content(res, &At::root(new), Some(old), &mut out);
    out.into_vec()
}

/// What is wrong with `new` as the outcome of a write to a subresource (`status`, `resize`, ...) of `old`.
#[must_use]
pub fn update_subresource(res: &Resource, subresource: &str, new: &Value, old: &Value) -> Vec<FieldError> {
    let mut out = Errors::default();
    meta::update(new, old, &mut out);
    let at = At::root(new);
    match (res.group, res.kind, subresource) {
        ("", "Pod", "status") => pod::status(&at, old, &mut out),
        ("", "Pod", "ephemeralcontainers") => pod::ephemeral(&at, old, &mut out),
        ("apps", kind, "status") | ("", kind @ "ReplicationController", "status") => {
            workload::status(kind, &at, &mut out);
        }
        _ => {}
    }
    out.into_vec()
}

/// The rules of the kind; `old` where it is an update.
fn content(res: &Resource, new: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    match (res.group, res.kind) {
        ("", "Pod") => match old {
            None => pod::create(new, out),
            Some(old) => pod::update(new, old, out),
        },
        ("", "PodTemplate") => pod::template(&new.field("template"), &[], out),
        ("apps", kind) | ("", kind @ "ReplicationController") => workload::check(kind, new, old, out),
        _ => {}
    }
}
