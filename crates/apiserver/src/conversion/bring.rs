//! Objects of the cache in the form in which they are read: pruned and defaulted by the schema of the
//! version that they are stored in, then converted to the one that was asked for.
//!
//! Invariant: an object that reads as it is stored is shared, never copied; how an object of the cache
//! reads is found out once for as long as its definition stays as it is.

use std::borrow::Cow;
use std::sync::Arc;

use api::meta;
use api::resource::{Resource, split_api_version};
use api::status::ApiError;
use serde_json::Value;

use super::{REVIEW_OBJECTS, convert_all};
use crate::cache::Object;
use crate::codec;
use crate::state::State;

/// Objects of a resource as it reads them, in their order.
///
/// # Errors
/// When one cannot be converted.
pub(crate) async fn bring(
    state: &State,
    resource: &Resource,
    objects: Vec<Arc<Object>>,
) -> Result<Vec<Arc<Object>>, ApiError> {
    if resource.schema.custom().is_none() {
        return Ok(objects);
    }
    let mut brought = objects;
    for some in brought.chunks_mut(REVIEW_OBJECTS) {
        Box::pin(custom(state, resource, some)).await?;
    }
    Ok(brought)
}

/// One object of a resource as it reads it.
///
/// # Errors
/// When it cannot be converted.
pub(crate) async fn bring_one(
    state: &State,
    resource: &Resource,
    mut object: Arc<Object>,
) -> Result<Arc<Object>, ApiError> {
    if resource.schema.custom().is_some() {
        let one = std::slice::from_mut(&mut object);
        Box::pin(custom(state, resource, one)).await?;
    }
    Ok(object)
}

/// Puts each object's form in its place.
async fn custom(
    state: &State,
    resource: &Resource,
    objects: &mut [Arc<Object>],
) -> Result<(), ApiError> {
    let Some(schema) = resource.schema.custom() else {
        return Ok(());
    };
    // Those of another version, by their places.
    let mut others: Vec<(usize, Value)> = Vec::new();
    for (place, object) in objects.iter_mut().enumerate() {
        if let Some(form) = object.form(schema.id()) {
            *object = form.unwrap_or_else(|| object.clone());
            continue;
        }
        let mut value = object.value();
        let version = value["apiVersion"].as_str().unwrap_or_default().to_owned();
        let (_, version) = split_api_version(&version);
        // An unknown version is told where it is to be converted; what is too deep was never stored.
        let _ = schema.prune_in(version, &mut value);
        schema.apply_defaults_in(version, &mut value);
        if object.is_in(&resource.api_version) {
            *object = kept(schema.id(), object, &value)?;
        } else {
            meta::remove(&mut value, "resourceVersion");
            others.push((place, value));
        }
    }
    if others.is_empty() {
        return Ok(());
    }
    let flying: Vec<_> = others
        .iter()
        .map(|(place, _)| objects[*place].clone())
        .collect();
    let (flight, ends) = state.flights.begin(schema.id(), &flying);
    let (mut own, mut waited) = (Vec::new(), Vec::new());
    for (other, end) in others.into_iter().zip(ends) {
        match end {
            None => own.push(other),
            Some(end) => waited.push((other, end)),
        }
    }
    convert(state, resource, schema.id(), objects, own).await?;
    drop(flight);
    let mut left = Vec::new();
    for ((place, value), mut end) in waited {
        // It ends by being closed.
        while end.changed().await.is_ok() {}
        match objects[place].form(schema.id()) {
            Some(Some(form)) => objects[place] = form,
            Some(None) => {}
            // Whoever converted it failed.
            None => left.push((place, value)),
        }
    }
    convert(state, resource, schema.id(), objects, left).await
}

/// Converts these values of objects, and puts what they become in the objects' places.
async fn convert(
    state: &State,
    resource: &Resource,
    schema: u64,
    objects: &mut [Arc<Object>],
    others: Vec<(usize, Value)>,
) -> Result<(), ApiError> {
    if others.is_empty() {
        return Ok(());
    }
    let (places, values): (Vec<usize>, Vec<Value>) = others.into_iter().unzip();
    let converted = convert_all(state, resource, values, &resource.api_version).await?;
    for (place, value) in places.into_iter().zip(converted) {
        objects[place] = kept(schema, &objects[place], &value)?;
    }
    Ok(())
}

/// The form of an object, remembered with it.
fn kept(of: u64, object: &Arc<Object>, value: &Value) -> Result<Arc<Object>, ApiError> {
    let stored = codec::encode(value);
    if stored == object.stored() {
        object.keep_form(of, None);
        return Ok(object.clone());
    }
    let form = object
        .with_content(&stored)
        .map_err(|broken| ApiError::internal(stdx::chain::chain(&broken)))?;
    form.keep_form(of, None);
    let form = Arc::new(form);
    object.keep_form(of, Some(form.clone()));
    Ok(form)
}

/// An object of a resource in another version of its definition; one of a built-in kind as it is.
///
/// # Errors
/// When it cannot be converted.
pub(crate) async fn to_version(
    state: &State,
    resource: &Resource,
    object: Value,
    to: &Resource,
) -> Result<Value, ApiError> {
    if resource.schema.custom().is_none() || object["apiVersion"] == *to.api_version {
        return Ok(object);
    }
    let converting = convert_all(state, resource, vec![object], &to.api_version);
    let mut converted = Box::pin(converting).await?;
    // As many come back as went in.
    Ok(converted.pop().unwrap_or_default())
}

/// An object of a resource as it is to be stored.
///
/// # Errors
/// When it cannot be converted.
pub(crate) async fn to_storage<'v>(
    state: &State,
    resource: &Resource,
    object: &'v Value,
) -> Result<Cow<'v, Value>, ApiError> {
    let storage = resource.storage();
    if resource.hub().api_version == storage.api_version {
        return Ok(Cow::Borrowed(object));
    }
    let mut object = object.clone();
    meta::remove(&mut object, "resourceVersion");
    let stored = to_version(state, resource, object, storage).await?;
    Ok(Cow::Owned(stored))
}
