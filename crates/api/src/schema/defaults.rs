//! Upstream's defaulting: what it fills in for a type when a field is absent (or is the zero value
//! of a field that is not optional).
//!
//! One walk over the object: at each object the hook of its type, then the defaults that the schema
//! declares, then what is below. Invariant: idempotent.

mod core;
mod other;
mod pod;
mod workloads;

use serde_json::{Map, Value};

use crate::MAX_DEPTH;
use crate::quantity::Quantity;
use crate::resource::Resource;
use crate::schema::{Schema, Shape, Type, TypeRef};

/// Fills in what upstream fills in for an object of `res`. Idempotent.
pub fn apply_defaults(res: &Resource, value: &mut Value) {
    match &res.schema {
        Schema::Table(ty) => apply_type_defaults(*ty, value),
        Schema::Custom(custom) => custom.apply_defaults(value),
    }
}

/// As [`apply_defaults`] for a body that is no resource of its own.
pub fn apply_type_defaults(ty: TypeRef, value: &mut Value) {
    if let Value::Object(map) = value {
        object(ty.get(), map, 0);
    }
}

fn object(ty: &'static Type, map: &mut Map<String, Value>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let name = ty.short_name();
    let package = ty.name.strip_prefix("io.k8s.api.").unwrap_or_default();
    match package.split('.').next().unwrap_or_default() {
        "core" => {
            pod::fill(name, map);
            core::fill(name, map);
        }
        "apps" | "batch" => workloads::fill(name, map),
        _ => other::fill(ty.name, name, map),
    }
    for field in ty.fields {
        if !field.default.is_empty()
            && !ZEROES.contains(&field.default)
            && is_unset(map.get(field.name))
            && let Ok(default) = serde_json::from_str(field.default)
        {
            map.insert(field.name.to_owned(), default);
        }
    }
    for (key, value) in map.iter_mut() {
        if let Some(field) = ty.field(key) {
            below(&field.shape, value, depth + 1);
        }
    }
}

/// Declared defaults that say only that the field is always written.
const ZEROES: &[&str] = &["\"\"", "{}", "0", "false"];

fn below(shape: &Shape, value: &mut Value, depth: usize) {
    match (shape, value) {
        (Shape::Object(ty), Value::Object(map)) => object(ty.get(), map, depth),
        (Shape::List(item), Value::Array(items)) if nests(item) && depth < MAX_DEPTH => {
            items.iter_mut().for_each(|v| below(item, v, depth + 1));
        }
        (Shape::Map(Shape::Quantity), Value::Object(map)) => map.values_mut().for_each(round),
        (Shape::Map(item), Value::Object(map)) if nests(item) && depth < MAX_DEPTH => {
            map.values_mut().for_each(|v| below(item, v, depth + 1));
        }
        _ => {}
    }
}

fn nests(shape: &Shape) -> bool {
    matches!(shape, Shape::Object(_) | Shape::List(_) | Shape::Map(_))
}

/// Amounts of resources are kept in thousandths at the finest.
fn round(value: &mut Value) {
    let quantity = value.as_str().and_then(|text| Quantity::parse(text).ok());
    if let Some(quantity) = quantity.filter(|q| q.round_to_milli() != *q) {
        *value = quantity.round_to_milli().to_string().into();
    }
}

fn is_unset(value: Option<&Value>) -> bool {
    match value {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => text.is_empty(),
        _ => false,
    }
}

/// A string field, `""` when absent.
fn text<'a>(map: &'a Map<String, Value>, key: &str) -> &'a str {
    map.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Sets an optional field that is absent.
fn absent(map: &mut Map<String, Value>, key: &str, default: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), default.into());
    }
}

/// Sets a string field that is absent or empty.
fn empty(map: &mut Map<String, Value>, key: &str, default: &str) {
    if is_unset(map.get(key)) {
        map.insert(key.to_owned(), default.into());
    }
}

/// Sets a number field that is absent or 0.
fn zero(map: &mut Map<String, Value>, key: &str, default: i64) {
    if map
        .get(key)
        .is_none_or(|v| v.is_null() || v.as_i64() == Some(0))
    {
        map.insert(key.to_owned(), default.into());
    }
}

/// The object at `key`, made when absent.
fn child<'a>(map: &'a mut Map<String, Value>, key: &str) -> Option<&'a mut Map<String, Value>> {
    absent(map, key, Map::new());
    map.get_mut(key)?.as_object_mut()
}

/// The objects in the list at `key`.
fn items<'a>(
    map: &'a mut Map<String, Value>,
    key: &str,
) -> impl Iterator<Item = &'a mut Map<String, Value>> {
    map.get_mut(key)
        .and_then(Value::as_array_mut)
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
}

#[cfg(test)]
mod tests;
