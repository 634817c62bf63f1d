//! What an object holds for itself alone in the whole cluster, such as a Service its address.
//!
//! Invariant: a claim is a key of the store that comes and goes in the transaction of its object, so
//! that no two objects hold the same thing, whichever servers wrote them.

use std::collections::BTreeSet;

use bytes::Bytes;
use serde_json::Value;
use store::{Expect, Write};

use super::Call;
use super::write::{Failed, store_error};
use crate::hooks;

/// The keys of claims, by `pool/what`.
pub(crate) const ROOT: &str = "/claims/";

/// A set of claims' keys.
pub(crate) type Claims = BTreeSet<String>;

/// Adds to a write of an object what it claims and gives up.
pub(crate) async fn add(
    call: &Call,
    writes: &mut Vec<Write>,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<(), Failed> {
    let hook = hooks::of(&call.resource);
    let claims = |object: Option<&Value>| object.map(|o| hook.claims(o)).unwrap_or_default();
    let (before, after) = (claims(old), claims(new));
    let owner = owner(call, new.or(old));
    for key in after.difference(&before) {
        writes.push(Write::put(key, Expect::Absent, owner.clone()));
    }
    for key in before.difference(&after) {
        let claim = call.state.store.get(key).await;
        let claim = claim.map_err(|error| store_error(&error))?;
        if let Some(claim) = claim.filter(|claim| claim.value == owner) {
            writes.push(Write::delete(key, Expect::At(claim.modified)));
        }
    }
    Ok(())
}

/// Who holds a claim: `plural/namespace/name`.
pub(crate) fn owner(call: &Call, object: Option<&Value>) -> Bytes {
    let name = object.map_or("", api::meta::name);
    let local = crate::storage::local(&call.namespace, name);
    format!("{}/{local}", call.resource.plural).into()
}

/// Takes what the object needs from the cluster's pools. They follow the cache, so the first refusal
/// only says that it is time to learn: another server may have given back what they still hold.
pub(crate) fn allocate(
    call: &Call,
    new: &mut Value,
    old: Option<&Value>,
    first: bool,
) -> Result<(), Failed> {
    match hooks::of(&call.resource).allocate(call, new, old) {
        Err(_) if first => Err(Failed::Claimed),
        done => Ok(done?),
    }
}

/// Lets the cache see what another server has claimed.
pub(crate) async fn learn(call: &Call) {
    if let Err(error) = super::fresh(&call.state).await {
        tracing::debug!("after a lost claim: {error}");
    }
}
