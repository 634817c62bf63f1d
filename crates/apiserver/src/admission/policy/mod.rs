//! Admission policies: rules in the cluster itself, in the expression language.
//! Facts: `apiserver/pkg/admission/plugin/policy` and `plugin/cel` of 1.36.
//!
//! Invariants: a policy is compiled when it is first needed after a change, never for a request;
//! what an evaluation may spend is bounded; a policy that fails refuses unless it says otherwise.

pub(crate) mod config;
pub(crate) mod env;
mod facts;
mod metrics;
pub(crate) mod mutating;
mod params;
pub(crate) mod status;
mod types;
pub(crate) mod validating;

use std::sync::{Arc, Mutex, PoisonError};

use api::status::ApiError;
use serde_json::Value;

use self::config::Policy;
pub(crate) use self::env::Conditions;
pub(crate) use self::facts::{Facts, Version};
use crate::admission::attributes::Attributes;
use crate::state::State;

pub(crate) const GROUP: &str = "admissionregistration.k8s.io";
pub(crate) const VALIDATING: [&str; 2] = [
    "validatingadmissionpolicies",
    "validatingadmissionpolicybindings",
];
pub(crate) const MUTATING: [&str; 2] = [
    "mutatingadmissionpolicies",
    "mutatingadmissionpolicybindings",
];

/// What all expressions of a policy on one object may spend.
const BUDGET: u64 = cel::RUNTIME_COST_BUDGET;
/// What its conditions may spend.
const CONDITIONS_BUDGET: u64 = BUDGET / 4;

/// The policies of one sort with their bindings, and of which states of both kinds they are.
type Compiled = Option<([u64; 2], Arc<[Policy]>)>;

/// Policies, compiled when they have changed.
#[derive(Default)]
struct Read(Mutex<Compiled>);

impl Read {
    fn get(&self, state: &State, plurals: [&str; 2]) -> Arc<[Policy]> {
        let [policies, bindings] = plurals.map(|plural| state.cache.kind(GROUP, plural));
        // Before the objects: what changes in between is read again.
        let generations = [policies.generation(), bindings.generation()];
        let mut read = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((of, compiled)) = &*read
            && *of == generations
        {
            return compiled.clone();
        }
        let values = |kind: &crate::cache::KindCache| -> Vec<Value> {
            kind.list(None)
                .iter()
                .map(|object| object.value())
                .collect()
        };
        let compiled: Arc<[Policy]> =
            config::policies(&values(&policies), &values(&bindings)).into();
        *read = Some((generations, compiled.clone()));
        compiled
    }
}

/// The policies of this server.
#[derive(Default)]
pub(crate) struct Policies {
    validating: Read,
    mutating: Read,
}

/// Whether any policy is bound.
pub(crate) fn any(state: &State) -> bool {
    [VALIDATING[1], MUTATING[1]]
        .iter()
        .any(|plural| !state.cache.kind(GROUP, plural).is_empty())
}

/// The 403 of a write.
fn forbidden(attributes: &Attributes<'_>, why: &str) -> ApiError {
    let resource = &attributes.resource;
    let name = match attributes.name.as_str() {
        "" => api::meta::generate_name(&attributes.object),
        name => name,
    };
    ApiError::forbidden(&resource.group, &resource.resource, name, why)
}

/// `namespaceObject` of a write; null at cluster scope and for namespaces themselves.
fn namespace_object(attributes: &Attributes<'_>) -> Result<Value, ApiError> {
    let kind = &attributes.kind;
    if attributes.namespace.is_empty() || (kind.group.is_empty() && kind.kind == "Namespace") {
        return Ok(Value::Null);
    }
    let namespaces = attributes.call.state.core("namespaces");
    match namespaces.get("", &attributes.namespace) {
        Some(namespace) => Ok(namespace.value()),
        None => Err(ApiError::not_found_named(
            "",
            "namespaces",
            &attributes.namespace,
        )),
    }
}
