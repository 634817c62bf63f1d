//! The one chain that every write goes through: create, update, patch, apply, delete, each object of
//! a collection, connect, and subresources.
//!
//! The order is upstream's. Built-in mutation (hooks) comes first, then policies and webhooks that
//! mutate; after validation built-in admission, then policies and webhooks that validate. The quota
//! is charged with the write itself, last of all.
//!
//! Invariants: nothing is locked while somebody outside is asked; what the chain refuses is not
//! written.

use api::status::ApiError;
use serde_json::Value;

use super::attributes::{Attributes, BodyKind, Operation};
use super::policy;
use super::webhook::{self, Reinvocation};
use crate::pipeline::Call;

/// Whether nobody but built-in plugins has a say in the call.
pub(crate) fn is_idle(call: &Call) -> bool {
    call.built_in_only || !(webhook::any(&call.state) || policy::any(&call.state))
}

/// Lets everybody change the object who may; whether anybody did.
pub(crate) async fn mutate(
    attributes: &mut Attributes<'_>,
    again: &mut Reinvocation,
) -> Result<bool, ApiError> {
    if attributes.is_exempt() {
        return Ok(false);
    }
    let by_policy = policy::mutating::run(attributes, again).await?;
    let by_webhook = webhook::mutating::run(attributes, again).await?;
    Ok(by_policy || by_webhook)
}

/// Lets everybody refuse the write who may.
pub(crate) async fn validate(attributes: &Attributes<'_>) -> Result<(), ApiError> {
    if attributes.is_exempt() {
        return Ok(());
    }
    policy::validating::run(attributes).await?;
    webhook::validating::run(attributes).await
}

/// Admits a body of a kind of its own, and gives it back as admission made it.
pub(crate) async fn body(
    call: &Call,
    operation: Operation,
    kind: Option<BodyKind>,
    body: Value,
) -> Result<Value, ApiError> {
    let Some(kind) = kind.filter(|_| !is_idle(call)) else {
        return Ok(body);
    };
    let mut attributes = Attributes::of_body(call, operation, kind, body, Value::Null);
    let mut again = Reinvocation::default();
    if mutate(&mut attributes, &mut again).await? {
        again.next_round();
        mutate(&mut attributes, &mut again).await?;
    }
    validate(&attributes).await?;
    Ok(attributes.object)
}

/// Admits the deletion of an object.
pub(crate) async fn delete(
    call: &Call,
    object: &Value,
    options: Value,
    dry_run: bool,
) -> Result<(), ApiError> {
    if is_idle(call) {
        return Ok(());
    }
    let mut attributes =
        Attributes::of_object(call, Operation::Delete, Value::Null, object.clone());
    attributes.options = options;
    attributes.dry_run = dry_run;
    mutate(&mut attributes, &mut Reinvocation::default()).await?;
    validate(&attributes).await
}
