//! PUT of an object, and the loop that every change of an existing object goes through.
//!
//! Invariants: uid and revision preconditions hold against the very state that is swapped; a
//! change that changes nothing makes no revision.

use std::sync::Arc;

use api::meta;
use api::status::{self, ApiError};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use store::{Entry, Expect};

use super::stages::{self, Face};
use super::write::{self, Failed};
use super::{Call, claims, create, managed, meta as system};
use crate::cache::Object;
use crate::conversion;
use crate::hooks;
use crate::http::Body;
use crate::storage;

/// How often a change without a revision of its own is tried again.
pub(crate) const ATTEMPTS: usize = 12;

/// Serves the request.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let form = call.form()?;
    managed::check_options(call, "UpdateOptions", false)?;
    let mut new = stages::decode_object(call, body)?;
    let name = meta::name(&new);
    if name.is_empty() {
        return Err(ApiError::bad_request("name must be provided"));
    }
    if name != call.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    let namespace = meta::namespace(&new);
    if call.resource.namespaced && !namespace.is_empty() && namespace != call.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if call
        .state
        .kind(&call.resource)
        .get_key(&call.local())
        .is_none()
        && call.subresource.is_empty()
        && hooks::of(&call.resource).create_on_update()
        && system::claimed_revision(&new)?.is_none()
    {
        create::may_create(call)?;
        meta::remove(&mut new, "resourceVersion");
        let created = create::create(call, new).await?;
        return call.respond(&form, StatusCode::CREATED, created).await;
    }
    let replaced = |old: &Value| {
        let mut new = new.clone();
        managed::keep(call, Some(old), &mut new);
        Ok(new)
    };
    let object = change(call, replaced).await?;
    call.respond(&form, StatusCode::OK, object).await
}

/// The state of the call's object: as the cache has it, or as a failed swap told.
pub(crate) fn current(call: &Call, told: Option<Option<Entry>>) -> Result<Arc<Object>, ApiError> {
    match told {
        None => call.state.kind(&call.resource).get_key(&call.local()),
        Some(Some(entry)) => Some(write::loose(
            call,
            &call.local(),
            &entry.value,
            entry.modified,
        )?),
        Some(None) => None,
    }
    .ok_or_else(|| ApiError::not_found(&call.resource, &call.name))
}

/// Changes the call's object: `make` gives the new state for the current one, both in the version that
/// is worked on ([`api::resource::Resource::hub`]); it is asked again when it missed a conversion.
/// Tried again on a conflict, unless the new state claims a revision.
pub(crate) async fn change(
    call: &Call,
    make: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Arc<Object>, ApiError> {
    change_as(call, None, make).await
}

/// As [`change`], where admission is shown a body of another kind.
pub(crate) async fn change_as(
    call: &Call,
    face: Option<&dyn Face>,
    mut make: impl FnMut(&Value) -> Result<Value, ApiError>,
) -> Result<Arc<Object>, ApiError> {
    let mut told = None;
    for round in 0..ATTEMPTS {
        let object = current(call, told.take())?;
        let read = conversion::bring_one(&call.state, &call.resource, object.clone()).await?;
        let old = read.value();
        let new = loop {
            let made = make(&old);
            if !call.conversions.settle(call).await? {
                break made?;
            }
        };
        let stale = is_stale(call, &read, &object);
        let current = Current {
            object: &object,
            old: &old,
            stale,
        };
        match attempt(call, &current, new, face, round == 0).await {
            Ok(object) => return Ok(object),
            Err(Failed::Api(error)) => return Err(error),
            Err(Failed::Conflict(entry)) => told = Some(entry),
            Err(Failed::Claimed) => claims::learn(call).await,
        }
    }
    Err(ApiError::conflict(
        &call.resource,
        &call.name,
        status::MODIFIED,
    ))
}

/// What a change is made of.
struct Current<'a> {
    /// As it is stored.
    object: &'a Arc<Object>,
    /// In the version that is worked on.
    old: &'a Value,
    /// Whether it is written anew even if nothing changes.
    stale: bool,
}

/// Whether an object would be stored otherwise now than it is: so objects are brought along.
fn is_stale(call: &Call, read: &Arc<Object>, object: &Arc<Object>) -> bool {
    let (hub, storage) = (call.resource.hub(), call.resource.storage());
    if hub.api_version == storage.api_version {
        !Arc::ptr_eq(read, object)
    } else {
        !object.is_in(&storage.api_version)
    }
}

/// One pass through the stages.
async fn attempt(
    call: &Call,
    current: &Current<'_>,
    mut new: Value,
    face: Option<&dyn Face>,
    first: bool,
) -> Result<Arc<Object>, Failed> {
    let &Current { object, old, stale } = current;
    preconditions(call, object, old, &new)?;
    let hook = hooks::of(&call.resource);
    stages::mutate(call, &mut new, Some(old), face).await?;
    system::on_update(call.resource.hub(), &call.subresource, &mut new, old);
    hook.prepare_update(call, &mut new, old)?;
    api::fields::keep_times(&mut new, old);
    stages::check(call, &new, Some(old))?;
    stages::admit(call, &new, Some(old), face).await?;
    if !stale && system::unchanged(&new, old) {
        return Ok(object.clone());
    }
    let local = storage::local(&call.namespace, &call.name);
    if vanishes(call, &new) {
        let revision = write::remove(call, &local, object.revision, old).await?;
        let stored = crate::codec::encode(&new);
        return Ok(write::loose(call, &local, &stored, revision)?);
    }
    claims::allocate(call, &mut new, Some(old), first)?;
    let expect = Expect::At(object.revision);
    let written = write::put(call, &local, expect, Some(old), &new).await;
    if call.dry_run || written.is_err() {
        hook.release(call, &new, Some(old));
    }
    written
}

/// What the new state says of the one it is made from must hold.
fn preconditions(call: &Call, object: &Object, old: &Value, new: &Value) -> Result<(), ApiError> {
    let conflict = |why: &str| Err(ApiError::conflict(&call.resource, &call.name, why));
    let (uid, found) = (meta::uid(new), meta::uid(old));
    if !uid.is_empty() && uid != found {
        return conflict(&format!(
            "Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"
        ));
    }
    match system::claimed_revision(new)? {
        Some(revision) if revision != object.revision.0 => conflict(status::MODIFIED),
        Some(_) => Ok(()),
        None if !hooks::of(&call.resource).unconditional_update() => {
            let error = api::validate::FieldError::invalid(
                "metadata.resourceVersion",
                0,
                "must be specified for an update",
            );
            Err(ApiError::invalid(&call.resource, &call.name, &[error]))
        }
        None => Ok(()),
    }
}

/// Whether a change is the last thing that a deletion waited for.
fn vanishes(call: &Call, new: &Value) -> bool {
    meta::deletion_timestamp(new).is_some()
        && meta::finalizers(new).next().is_none()
        && meta::deletion_grace_period_seconds(new).unwrap_or(0) == 0
        && hooks::of(&call.resource).may_vanish(new)
}
