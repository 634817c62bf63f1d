//! Who makes a write, and `metadata.managedFields` by it.
//!
//! Invariant: every write of an object by a client goes through [`keep`] or through apply, before
//! admission, so that what the server itself adds is nobody's.

use api::fields::{self, Converter, ManagedFields, Target};
use api::resource::split_api_version;
use api::status::ApiError;
use api::validate::FieldError;
use http::header;
use serde_json::Value;

use super::{Call, meta as system};

/// The longest name of a manager.
const MANAGER_LIMIT_BYTES: usize = 128;

/// The options of a write that are about managed fields, checked; `apply` for server-side apply,
/// `options` is how messages call them.
pub(crate) fn check_options(call: &Call, options: &str, apply: bool) -> Result<(), ApiError> {
    let named = call.query.text("fieldManager").unwrap_or_default();
    let mut errors = Vec::new();
    if apply && named.is_empty() {
        errors.push(FieldError::required(
            "fieldManager",
            "is required for apply patch",
        ));
    }
    if !apply && options == "PatchOptions" && call.query.text("force").is_some() {
        errors.push(FieldError::forbidden(
            "force",
            "may not be specified for non-apply patch",
        ));
    }
    if named.len() > MANAGER_LIMIT_BYTES {
        errors.push(FieldError::too_long("fieldManager", MANAGER_LIMIT_BYTES));
    }
    for (at, letter) in named.char_indices().filter(|(_, c)| !is_printable(*c)) {
        errors.push(FieldError::invalid(
            "fieldManager",
            named,
            format!(
                "invalid character U+{:04X} (at position {at})",
                u32::from(letter)
            ),
        ));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid_kind("meta.k8s.io", options, "", &errors))
    }
}

fn is_printable(letter: char) -> bool {
    letter == ' ' || !(letter.is_control() || letter.is_whitespace())
}

/// The name under which a call's fields are kept: as the client says, else the program that it is.
pub(crate) fn manager(call: &Call) -> String {
    if let Some(named) = call
        .query
        .text("fieldManager")
        .filter(|name| !name.is_empty())
    {
        return named.to_owned();
    }
    let agent = call.headers.get(header::USER_AGENT);
    let agent = agent.map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let agent = agent.as_deref().unwrap_or_default();
    let mut name = String::new();
    let program = agent.split('/').next().unwrap_or_default();
    for letter in program.chars().filter(|letter| is_printable(*letter)) {
        if name.len() + letter.len_utf8() > MANAGER_LIMIT_BYTES {
            break;
        }
        name.push(letter);
    }
    name
}

/// Whether a webhook makes objects of the call's resource those of other versions.
pub(crate) fn converts(call: &Call) -> bool {
    call.state.resources.conversion(&call.resource).is_some()
}

/// What a call writes to.
pub(crate) fn target(call: &Call) -> Target<'_> {
    let converter = converts(call).then_some(&call.conversions as &dyn Converter);
    Target::of(&call.resource, &call.subresource).converting(converter)
}

/// Keeps the managed fields of a write that is no apply; `old` is nothing for a new object. Both
/// are in the version that is worked on.
pub(crate) fn keep(call: &Call, old: Option<&Value>, new: &mut Value) {
    let target = target(call);
    fields::update(&target, old, new, &manager(call), &system::now());
}

/// The managed fields of a workload, as its scale has them.
pub(crate) fn to_scale(call: &Call, workload: &Value, scale: &mut Value) {
    let managed = ManagedFields::of(workload).unwrap_or_default();
    let at = |version: &str| replicas(call, version);
    fields::workload_to_scale(&managed, &at).put(scale);
}

/// The managed fields of a scale that was written, in its workload.
pub(crate) fn from_scale(call: &Call, scale: &Value, workload: &mut Value) {
    let of = |object: &Value| ManagedFields::of(object).unwrap_or_default();
    let version = &call.resource.hub().api_version;
    let at = |version: &str| replicas(call, version);
    fields::scale_to_workload(of(workload), of(scale), version, &at).put(workload);
}

/// Where a workload has its replicas in a version; nothing where it cannot be scaled in that.
fn replicas<'c>(call: &'c Call, api_version: &str) -> Option<Vec<&'c str>> {
    let path = match call.resource.schema.custom() {
        Some(custom) => custom.scale_in(split_api_version(api_version).1)?.0,
        None => ".spec.replicas",
    };
    Some(path.split('.').filter(|name| !name.is_empty()).collect())
}
