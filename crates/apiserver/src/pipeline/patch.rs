//! PATCH: JSON patch, merge patch, strategic merge patch (apply is a neighbour). Tried again by the server when the
//! object changed meanwhile and the patch names no revision.

use api::meta;
use api::patch::PatchError;
use api::schema::{self, Schema};
use api::status::ApiError;
use api::validate::FieldError;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::Value;

use super::{Call, apply, managed, stages, update};
use crate::http::Body;
use crate::negotiate::{Syntax, media_type};

/// The kinds of patches.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Patch {
    /// RFC 6902.
    Json(Bytes),
    /// RFC 7386.
    Merge(Value),
    /// Strategic merge.
    Strategic(Value),
}

const ACCEPTED: &[&str] = &[
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    apply::YAML,
];

impl Patch {
    /// Reads a patch by its media type.
    pub(crate) fn parse(media: &str, body: &Bytes) -> Result<Self, ApiError> {
        let value = || {
            let value = stages::parse(Syntax::Json, body)?;
            if value.is_object() {
                Ok(value)
            } else {
                Err(ApiError::bad_request("the patch is not a JSON object"))
            }
        };
        match media {
            "application/json-patch+json" => Ok(Self::Json(body.clone())),
            "application/merge-patch+json" => Ok(Self::Merge(value()?)),
            "application/strategic-merge-patch+json" => Ok(Self::Strategic(value()?)),
            _ => Err(ApiError::unsupported_media_type(ACCEPTED)),
        }
    }

    /// Applies it to an object of a type.
    pub(crate) fn apply(&self, schema: &Schema, target: &mut Value) -> Result<(), PatchError> {
        match self {
            Self::Json(bytes) => api::patch::json(target, bytes),
            Self::Merge(patch) => api::patch::merge(target, patch.clone()),
            Self::Strategic(patch) => api::patch::strategic_schema(schema, target, patch.clone()),
        }
    }
}

/// What a client is told of a patch that does not apply.
pub(crate) fn refusal(error: &PatchError) -> ApiError {
    match error {
        PatchError::Malformed(_) | PatchError::TooDeep => ApiError::bad_request(error.to_string()),
        PatchError::TooManyOperations(_) | PatchError::TooLarge => ApiError::too_large(error),
        error @ (PatchError::DoesNotApply(_) | PatchError::TestFailed) => {
            let why = error.to_string();
            let mut refused = ApiError::new(
                422,
                "Invalid",
                format!("the server rejected our request due to an error in our request: {why}"),
            );
            refused.details_mut();
            refused
        }
    }
}

/// Serves the request.
pub(crate) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let media = media_type(&call.headers);
    if media == apply::YAML {
        return apply::serve(call, body).await;
    }
    let form = call.form()?;
    managed::check_options(call, "PatchOptions", false)?;
    let patch = Patch::parse(&media, body)?;
    if matches!(patch, Patch::Strategic(_)) && call.resource.schema.custom().is_some() {
        let taken: Vec<&str> = ACCEPTED
            .iter()
            .copied()
            .filter(|media| !media.contains("strategic"))
            .collect();
        return Err(ApiError::unsupported_media_type(&taken));
    }
    let (resource, hub) = (&call.resource, call.resource.hub());
    let object = update::change(call, |old| {
        let mut new = old.clone();
        if resource.api_version != hub.api_version {
            api::convert::convert(hub, resource, &mut new);
        }
        patch
            .apply(&resource.schema, &mut new)
            .map_err(|error| refusal(&error))?;
        checked(call, &mut new, &patch)?;
        stages::to_hub(resource, &mut new);
        managed::keep(call, Some(old), &mut new);
        Ok(new)
    })
    .await?;
    call.respond(&form, StatusCode::OK, object).await
}

/// The outcome of a patch must be an object of the same name and type.
fn checked(call: &Call, new: &mut Value, patch: &Patch) -> Result<(), ApiError> {
    let resource = &*call.resource;
    let text = |name: &str| new.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("kind") != resource.kind || text("apiVersion") != resource.api_version {
        return Err(ApiError::bad_request(format!(
            "{} in version {:?} cannot be handled as a {}",
            text("kind"),
            text("apiVersion"),
            &resource.kind
        )));
    }
    let name = meta::name(new);
    if name != call.name {
        return Err(ApiError::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            call.name
        )));
    }
    let problems = schema::decode(resource, new).map_err(|error| {
        let shown = match patch {
            Patch::Json(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Patch::Merge(value) | Patch::Strategic(value) => value.to_string(),
        };
        let error = FieldError::invalid("patch", shown, error.to_string());
        ApiError::invalid_kind("", "", &call.name, &[error])
    })?;
    match stages::report(call, &problems)? {
        Some(strict) => {
            let error = FieldError::invalid("patch", "", strict);
            Err(ApiError::invalid(resource, &call.name, &[error]))
        }
        None => Ok(()),
    }
}
