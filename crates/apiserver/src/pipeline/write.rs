//! The last stages: compare-and-swap, then publish.
//!
//! Invariant: when a write is answered, the cache shows it.

use std::sync::Arc;

use api::status::ApiError;
use bytes::Bytes;
use serde_json::Value;
use store::{Entry, Expect, Revision, StoreError, Write};

use super::{Call, claims};
use crate::admission::quota;
use crate::cache::fields::selectable;
use crate::cache::{EventType, Object};
use crate::codec;
use crate::conversion;
use crate::hooks;
use crate::state::APPLY_LIMIT;
use crate::storage;

/// Why a write did not happen.
#[derive(Debug)]
pub(crate) enum Failed {
    /// The object is not as expected; what is there instead.
    Conflict(Option<Entry>),
    /// What the object claims is held by another one, or a quota has changed meanwhile.
    Claimed,
    /// Anything else.
    Api(ApiError),
}

impl From<ApiError> for Failed {
    fn from(error: ApiError) -> Self {
        Self::Api(error)
    }
}

/// What a client is told of the store's errors.
pub(crate) fn store_error(error: &StoreError) -> ApiError {
    match error {
        StoreError::TooLarge { limit_bytes, .. } => {
            ApiError::too_large(format!("limit is {limit_bytes}"))
        }
        StoreError::Compacted { oldest } => ApiError::too_old(0, oldest.0),
        StoreError::Closed => ApiError::unavailable("the server is shutting down"),
        error @ StoreError::Unreachable { .. } => ApiError::unavailable(stdx::chain::chain(error)),
        error => ApiError::internal(stdx::chain::chain(error)),
    }
}

fn key(call: &Call, local: &str) -> String {
    let mut key = storage::prefix(&call.resource.storage_group, &call.resource.plural);
    key.push_str(local);
    key
}

/// A write of the call's object, with what it claims, gives up and is charged for it, in one
/// transaction.
async fn swap(
    call: &Call,
    write: Write,
    old: Option<&Value>,
    new: Option<&Value>,
) -> Result<Revision, Failed> {
    let (state, key) = (&call.state, write.key.clone());
    let mut writes = vec![write];
    claims::add(call, &mut writes, old, new).await?;
    // Held until the cache shows the write.
    let _turn = match new {
        Some(new) => quota::charge(call, &mut writes, old, new).await?,
        None => None,
    };
    let revision = match state.store.transact(writes).await {
        // The object is first.
        Ok(revisions) => revisions.first().copied().unwrap_or_default(),
        Err(StoreError::Conflict { key: at, current }) if *at == *key => {
            return Err(Failed::Conflict(current));
        }
        Err(StoreError::Conflict { .. }) => return Err(Failed::Claimed),
        Err(error) => return Err(Failed::Api(store_error(&error))),
    };
    if !state.cache.wait(revision, APPLY_LIMIT).await {
        tracing::warn!(key, %revision, "the cache has not applied a write in time");
    }
    Ok(revision)
}

/// An object that is not in the cache.
pub(crate) fn loose(
    call: &Call,
    local: &str,
    stored: &Bytes,
    revision: Revision,
) -> Result<Arc<Object>, ApiError> {
    let schema = selectable(&call.resource.storage_group, &call.resource.plural);
    Object::from_stored(
        Arc::from(local),
        stored,
        revision,
        EventType::Modified,
        schema,
    )
    .map(Arc::new)
    .map_err(|broken| ApiError::internal(stdx::chain::chain(&broken)))
}

/// Stores an object, made from `old`; in a dry run only shows what would be stored.
pub(crate) async fn put(
    call: &Call,
    local: &str,
    expect: Expect,
    old: Option<&Value>,
    new: &Value,
) -> Result<Arc<Object>, Failed> {
    let stored = conversion::to_storage(&call.state, &call.resource, new).await?;
    let stored = codec::encode(&stored);
    if call.dry_run {
        quota::charge(call, &mut Vec::new(), old, new).await?;
        let shown = match expect {
            Expect::Absent => Revision(0),
            Expect::At(revision) => revision,
        };
        return Ok(loose(call, local, &stored, shown)?);
    }
    let write = Write::put(key(call, local), expect, stored.clone());
    let write = match hooks::of(&call.resource).ttl() {
        Some(ttl) => write.with_ttl(ttl),
        None => write,
    };
    let revision = swap(call, write, old, Some(new)).await?;
    // Mostly it is the newest state still, and its bytes are shared.
    let cached = call.state.kind(&call.resource).get_key(local);
    match cached.filter(|object| object.revision == revision) {
        Some(object) => Ok(object),
        None => Ok(loose(call, local, &stored, revision)?),
    }
}

/// Removes an object.
pub(crate) async fn remove(
    call: &Call,
    local: &str,
    at: Revision,
    old: &Value,
) -> Result<Revision, Failed> {
    if call.dry_run {
        return Ok(at);
    }
    let write = Write::delete(key(call, local), Expect::At(at));
    swap(call, write, Some(old), None).await
}
