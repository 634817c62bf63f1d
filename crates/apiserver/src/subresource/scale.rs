//! `scale`: the replicas of a workload as `autoscaling/v1` Scale.

use std::sync::Arc;

use api::fields::{self, Target};
use api::meta;
use api::schema::{self, Schema};
use api::selector::LabelSelector;
use api::status::ApiError;
use api::validate::FieldError;
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Map, Value, json};

use crate::admission::attributes::BodyKind;
use crate::cache::Object;
use crate::conversion;
use crate::http::Body;
use crate::negotiate::media_type;
use crate::pipeline::patch::{Patch, refusal};
use crate::pipeline::stages::Face;
use crate::pipeline::{Call, apply, managed, meta as system, stages, update};

const VERSION: &str = "autoscaling/v1";

/// Serves GET, PUT and PATCH.
pub(super) async fn serve(
    call: &Call,
    verb: &str,
    body: &Bytes,
) -> Result<Response<Body>, ApiError> {
    let ty = schema::type_of("autoscaling", "v1", "Scale").ok_or_else(ApiError::no_such_path)?;
    let form = Schema::from(ty);
    let object = match verb {
        "get" => update::current(call, None)?,
        "update" => {
            managed::check_options(call, "UpdateOptions", false)?;
            let scale = stages::decode(call, body, VERSION, "Scale", &form)?;
            if meta::name(&scale) != call.name {
                return Err(ApiError::bad_request(format!(
                    "the name of the object ({}) does not match the name on the URL ({})",
                    meta::name(&scale),
                    call.name
                )));
            }
            let face: Option<&dyn Face> = Some(&Shown(Paths::of(call)));
            update::change_as(call, face, |old| written(call, old, scale.clone())).await?
        }
        "patch" => {
            let media = media_type(&call.headers);
            if media == apply::YAML {
                return apply_to(call, body).await;
            }
            managed::check_options(call, "PatchOptions", false)?;
            let patch = Patch::parse(&media, body)?;
            update::change_as(call, Some(&Shown(Paths::of(call))), |old| {
                let mut scale = of(call, old);
                patch
                    .apply(&form, &mut scale)
                    .map_err(|error| refusal(&error))?;
                schema::decode_type(ty, &mut scale)
                    .map_err(|error| ApiError::bad_request(error.to_string()))?;
                written(call, old, scale)
            })
            .await?
        }
        _ => return Err(ApiError::method_not_allowed()),
    };
    answer(call, object).await
}

async fn answer(call: &Call, object: Arc<Object>) -> Result<Response<Body>, ApiError> {
    let object = conversion::bring_one(&call.state, &call.resource, object).await?;
    Ok(call.answer(StatusCode::OK, &of(call, &object.value())))
}

/// Serves server-side apply: who applies the replicas owns those of the workload.
async fn apply_to(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let target = Target::scale().ok_or_else(ApiError::no_such_path)?;
    let config = apply::parse(call, body)?;
    let object = update::change_as(call, Some(&Shown(Paths::of(call))), |old| {
        let scale = apply::merged(call, &target, Some(&managed_scale(call, old)), &config)?;
        rescaled(call, old, &scale)
    })
    .await?;
    answer(call, object).await
}

/// What admission is shown of the workload.
struct Shown(Paths);

impl Face for Shown {
    fn kind(&self) -> Option<BodyKind> {
        BodyKind::of("autoscaling", "v1", "Scale")
    }

    fn show(&self, object: &Value) -> Value {
        scale_of(&self.0, object)
    }

    fn put(&self, call: &Call, object: &mut Value, shown: &Value) -> Result<(), ApiError> {
        *object = rescaled(call, object, shown)?;
        Ok(())
    }
}

/// The scale of a workload, with who owns it.
fn managed_scale(call: &Call, workload: &Value) -> Value {
    let mut scale = of(call, workload);
    managed::to_scale(call, workload, &mut scale);
    scale
}

/// The workload after a write of its scale that is no apply.
fn written(call: &Call, workload: &Value, mut scale: Value) -> Result<Value, ApiError> {
    let target = Target::scale().ok_or_else(ApiError::no_such_path)?;
    let before = managed_scale(call, workload);
    let (manager, now) = (managed::manager(call), system::now());
    fields::update(&target, Some(&before), &mut scale, &manager, &now);
    rescaled(call, workload, &scale)
}

/// Where a workload keeps what its scale shows, as JSON pointers.
struct Paths {
    spec: String,
    status: String,
    selector: Option<String>,
    custom: bool,
}

impl Paths {
    fn of(call: &Call) -> Self {
        let pointer = |path: &str| path.replace('.', "/");
        let custom = call.resource.schema.custom().and_then(|c| c.scale());
        match custom {
            Some((spec, status, selector)) => Self {
                spec: pointer(spec),
                status: pointer(status),
                selector: selector.map(pointer),
                custom: true,
            },
            None => Self {
                spec: "/spec/replicas".to_owned(),
                status: "/status/replicas".to_owned(),
                selector: None,
                custom: false,
            },
        }
    }
}

/// Sets a number at a pointer; objects on the way are made.
fn set_at(object: &mut Value, pointer: &str, number: i64) {
    let mut at = object;
    let mut names = pointer.split('/').skip(1).peekable();
    while let Some(name) = names.next() {
        let Some(map) = at.as_object_mut() else {
            return;
        };
        if names.peek().is_none() {
            map.insert(name.to_owned(), number.into());
            return;
        }
        at = map.entry(name).or_insert_with(|| Value::Object(Map::new()));
    }
}

/// The scale of a workload.
fn of(call: &Call, workload: &Value) -> Value {
    scale_of(&Paths::of(call), workload)
}

fn scale_of(paths: &Paths, workload: &Value) -> Value {
    let number = |pointer: &str| {
        workload
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or(0)
    };
    let mut metadata = Map::new();
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "creationTimestamp",
    ] {
        if let Some(value) = workload.get("metadata").and_then(|m| m.get(field)) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    let mut status = json!({"replicas": number(&paths.status)});
    if paths.custom {
        let text = paths.selector.as_deref();
        let text = text.and_then(|path| workload.pointer(path)?.as_str());
        if let Some(text) = text {
            status["selector"] = text.into();
        }
    } else if let Some(selector) = workload.pointer("/spec/selector") {
        status["selector"] = selector_text(selector).into();
    }
    let mut spec = Map::new();
    if number(&paths.spec) != 0 {
        spec.insert("replicas".to_owned(), number(&paths.spec).into());
    }
    json!({
        "kind": "Scale", "apiVersion": VERSION, "metadata": metadata, "spec": spec, "status": status,
    })
}

/// A selector as the `labelSelector` parameter has it.
fn selector_text(selector: &Value) -> String {
    let wrapped =
        selector.get("matchLabels").is_some() || selector.get("matchExpressions").is_some();
    let parsed = if wrapped {
        LabelSelector::from_object(selector).ok()
    } else {
        selector.as_object().map(LabelSelector::from_map)
    };
    parsed
        .map(|selector| selector.to_string())
        .unwrap_or_default()
}

/// The workload with the replicas of a scale.
fn rescaled(call: &Call, workload: &Value, scale: &Value) -> Result<Value, ApiError> {
    let replicas = scale
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    if replicas < 0 {
        let error = FieldError::invalid(
            "spec.replicas",
            replicas,
            "must be greater than or equal to 0",
        );
        return Err(ApiError::invalid_kind(
            "autoscaling",
            "Scale",
            &call.name,
            &[error],
        ));
    }
    let mut new = workload.clone();
    set_at(&mut new, &Paths::of(call).spec, replicas);
    managed::from_scale(call, scale, &mut new);
    meta::remove(&mut new, "resourceVersion");
    if let Some(revision) = system::claimed_revision(scale)? {
        meta::set(&mut new, "resourceVersion", revision.to_string());
    }
    Ok(new)
}
