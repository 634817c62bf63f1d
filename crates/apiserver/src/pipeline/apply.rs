//! Server-side apply: a client says the part of an object that it wants, and owns it.
//!
//! Invariant: what is stored is decoded, defaulted and admitted as by any other write; an apply that
//! says what is there already makes no revision.

use api::fields::{self, ApplyError, Target};
use api::status::{self, ApiError};
use api::{meta, schema, yaml};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use super::update::{self, ATTEMPTS};
use super::{Call, create, managed, meta as system, stages};
use crate::http::Body;

/// The media type of an apply.
pub(crate) const YAML: &str = "application/apply-patch+yaml";

/// Serves the request.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let form = call.form()?;
    let config = parse(call, body)?;
    for _ in 0..ATTEMPTS {
        let kind = call.state.kind(&call.resource);
        if kind.get_key(&call.local()).is_some() {
            match update::change(call, |old| applied(call, Some(old), &config)).await {
                Ok(object) => return call.respond(&form, StatusCode::OK, object).await,
                // It went meanwhile.
                Err(error) if error.reason == "NotFound" => super::fresh(&call.state).await?,
                Err(error) => return Err(error),
            }
        } else if call.subresource.is_empty() {
            match create(call, &config).await {
                Ok(object) => return call.respond(&form, StatusCode::CREATED, object).await,
                // It came meanwhile.
                Err(error) if error.reason == "AlreadyExists" => super::fresh(&call.state).await?,
                Err(error) => return Err(error),
            }
        } else {
            return Err(ApiError::not_found(&call.resource, &call.name));
        }
    }
    let (resource, name) = (&call.resource, &call.name);
    Err(ApiError::conflict(resource, name, status::MODIFIED))
}

/// Reads an applied object, and the options of the request.
pub(crate) fn parse(call: &Call, body: &Bytes) -> Result<Value, ApiError> {
    managed::check_options(call, "PatchOptions", true)?;
    let refused =
        |why: &dyn std::fmt::Display| ApiError::bad_request(format!("error decoding patch: {why}"));
    let text = std::str::from_utf8(body).map_err(|error| refused(&error))?;
    let document = yaml::parse_stream(text)
        .map_err(|error| refused(&error))?
        .into_iter()
        .next();
    let Some(document) = document else {
        return Ok(Value::Object(Map::new()));
    };
    if !document.value.is_object() {
        return Err(refused(
            &"error unmarshaling JSON: while decoding JSON: the applied object is no object",
        ));
    }
    match stages::report(call, &document.duplicates)? {
        Some(strict) => {
            let why = strict.trim_start_matches("strict decoding error: ");
            Err(ApiError::bad_request(format!(
                "error strict decoding YAML: error converting YAML to JSON: {why}"
            )))
        }
        None => Ok(document.value),
    }
}

/// What a client is told of an apply that is refused.
pub(crate) fn refusal(error: &ApplyError) -> ApiError {
    match error {
        ApplyError::Kind(_) | ApplyError::ManagedFields => ApiError::bad_request(error.to_string()),
        ApplyError::Conflict(conflicts) => {
            let causes = conflicts.iter().map(|conflict| {
                json!({
                    "reason": "FieldManagerConflict",
                    "message": format!("conflict with {}", conflict.manager),
                    "field": conflict.field(),
                })
            });
            ApiError::apply_conflict(error.to_string(), causes.collect())
        }
        // Upstream answers these so, and kubectl shows the message alone.
        ApplyError::Untyped { .. } | ApplyError::Type(_) | ApplyError::Convert(_) => {
            ApiError::new(500, "", error.to_string())
        }
    }
}

/// An applied object merged into what is there, of the target's type, without defaults.
pub(crate) fn merged(
    call: &Call,
    target: &Target<'_>,
    live: Option<&Value>,
    config: &Value,
) -> Result<Value, ApiError> {
    let manager = managed::manager(call);
    let force = call.query.flag("force");
    fields::apply(target, live, config, &manager, force, &system::now())
        .map_err(|error| refusal(&error))
}

/// The new state of the call's object, in the version that is worked on.
fn applied(call: &Call, live: Option<&Value>, config: &Value) -> Result<Value, ApiError> {
    let resource = &*call.resource;
    let target = managed::target(call);
    let mut new = merged(call, &target, live, config)?;
    schema::decode(resource, &mut new).map_err(|error| {
        let object = format!("{}/{}", meta::namespace(config), meta::name(config));
        let message = format!("failed to convert new typed object ({object}) to object: {error}");
        ApiError::new(500, "", message)
    })?;
    match meta::name(&new) {
        "" => {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                call.name
            )));
        }
        name if name != call.name => {
            return Err(ApiError::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                call.name
            )));
        }
        _ => {}
    }
    let namespace = meta::namespace(&new);
    if resource.namespaced && !namespace.is_empty() && namespace != call.namespace {
        return Err(ApiError::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    stages::to_hub(resource, &mut new);
    Ok(new)
}

/// Makes what is not there.
async fn create(
    call: &Call,
    config: &Value,
) -> Result<std::sync::Arc<crate::cache::Object>, ApiError> {
    let mut new = applied(call, None, config)?;
    let uid = meta::uid(&new);
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(ApiError::conflict(&call.resource, &call.name, &why));
    }
    create::may_create(call)?;
    meta::remove(&mut new, "resourceVersion");
    create::create_owned(call, new).await
}
