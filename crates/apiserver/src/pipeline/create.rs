//! POST of an object.

use std::sync::Arc;
use std::time::Duration;

use api::meta;
use api::status::{self, ApiError};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;
use store::Expect;

use super::update::ATTEMPTS;
use super::write::{self, Failed};
use super::{Call, claims, managed, meta as system, stages};
use crate::auth::rbac::{Attributes, Decision};
use crate::cache::Object;
use crate::hooks;
use crate::http::Body;
use crate::storage;

/// How many generated names are tried.
const NAME_ATTEMPTS: usize = 8;
/// How long a create waits for an object that it needs.
const ARRIVAL_LIMIT: Duration = Duration::from_millis(1500);

/// Serves the request.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let form = call.form()?;
    managed::check_options(call, "CreateOptions", false)?;
    let object = stages::decode_object(call, body)?;
    let object = create(call, object).await?;
    call.respond(&form, StatusCode::CREATED, object).await
}

/// Creates a decoded object (in the version that is worked on).
pub(crate) async fn create(call: &Call, mut object: Value) -> Result<Arc<Object>, ApiError> {
    let given = managed::converts(call).then(|| object.clone());
    managed::keep(call, None, &mut object);
    while let Some(given) = &given
        && call.conversions.settle(call).await?
    {
        object.clone_from(given);
        managed::keep(call, None, &mut object);
    }
    create_owned(call, object).await
}

/// As [`create`], for an object whose managed fields say already who owns what.
pub(crate) async fn create_owned(call: &Call, mut object: Value) -> Result<Arc<Object>, ApiError> {
    place(call, &mut object)?;
    system::wipe(call.resource.hub(), &call.namespace, &mut object);
    if let Some((plural, needed)) = hooks::of(&call.resource).awaits(&object) {
        arrival(call, plural, &needed).await;
    }
    // Before there is a name: who is asked may still set one.
    stages::mutate(call, &mut object, None, None).await?;
    let prefix = meta::generate_name(&object).to_owned();
    let generate = meta::name(&object).is_empty() && !prefix.is_empty();
    let mut attempt = 0;
    loop {
        attempt += 1;
        let mut new = object.clone();
        if generate {
            meta::set(&mut new, "name", system::generated(&prefix));
        }
        let name = meta::name(&new).to_owned();
        match try_create(call, new, &name, attempt == 1).await {
            Ok(object) => return Ok(object),
            Err(Failed::Api(error)) => return Err(error),
            Err(Failed::Claimed) if attempt < ATTEMPTS => claims::learn(call).await,
            Err(Failed::Claimed) => {
                return Err(ApiError::conflict(&call.resource, &name, status::MODIFIED));
            }
            Err(Failed::Conflict(_)) if generate && attempt < NAME_ATTEMPTS => {}
            Err(Failed::Conflict(_)) if generate => {
                return Err(ApiError::generate_name_conflict(&call.resource, &name));
            }
            Err(Failed::Conflict(_)) => {
                return Err(ApiError::already_exists(&call.resource, &name));
            }
        }
    }
}

async fn try_create(
    call: &Call,
    mut new: Value,
    name: &str,
    first: bool,
) -> Result<Arc<Object>, Failed> {
    let hook = hooks::of(&call.resource);
    system::on_create(call.resource.hub(), &call.namespace, &mut new);
    hook.prepare_create(call, &mut new)?;
    stages::check(call, &new, None)?;
    stages::admit(call, &new, None, None).await?;
    let local = storage::local(&call.namespace, name);
    // Only allocate what a write that is about to happen needs.
    let kind = call.state.kind(&call.resource);
    if kind.get_key(&local).is_some() {
        // Another server may have deleted it a moment ago.
        super::fresh(&call.state).await?;
        if kind.get_key(&local).is_some() {
            return Err(Failed::Conflict(None));
        }
    }
    claims::allocate(call, &mut new, None, first)?;
    let written = write::put(call, &local, Expect::Absent, None, &new).await;
    if call.dry_run || written.is_err() {
        hook.release(call, &new, None);
    }
    written
}

/// A PUT or an apply that makes an object needs the right to create it, too.
pub(crate) fn may_create(call: &Call) -> Result<(), ApiError> {
    let attributes = Attributes {
        verb: "create",
        group: &call.resource.group,
        version: &call.resource.version,
        resource: &call.resource.plural,
        subresource: &call.subresource,
        namespace: &call.namespace,
        name: &call.name,
        ..Attributes::of(&call.user)
    };
    match call.state.authorizer.authorize(&attributes) {
        Decision::Allow(_) => Ok(()),
        Decision::NoOpinion(reason) => Err(attributes.forbidden(&reason)),
    }
}

/// Waits a moment for an object that something else is about to make (the account of a new
/// namespace); whether it came is for admission to say.
async fn arrival(call: &Call, plural: &str, name: &str) {
    let kind = call.state.core(plural);
    if kind.get(&call.namespace, name).is_some()
        || call
            .state
            .core("namespaces")
            .get("", &call.namespace)
            .is_none()
    {
        return;
    }
    let mut changed = kind.subscribe();
    let there = async {
        while kind.get(&call.namespace, name).is_none() {
            if changed.changed().await.is_err() {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(ARRIVAL_LIMIT, there).await;
}

/// The namespace of the path is the namespace of the object.
fn place(call: &Call, object: &mut Value) -> Result<(), ApiError> {
    let namespace = meta::namespace(object);
    if call.resource.namespaced {
        if call.namespace.is_empty() {
            return Err(ApiError::bad_request(
                "an empty namespace may not be set during creation",
            ));
        }
        if !namespace.is_empty() && namespace != call.namespace {
            return Err(ApiError::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    } else if !namespace.is_empty() {
        meta::remove(object, "namespace");
    }
    if !meta::resource_version(object).is_empty() && meta::resource_version(object) != "0" {
        return Err(ApiError::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    Ok(())
}
