//! From values to protobuf, in the bytes that upstream would write.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::table::{Content, Member, OWN, Special, content, members};
use super::wire::{put_bytes, put_double, put_nested, put_number};
use super::{EncodeError, MAGIC};
use crate::MAX_DEPTH;
use crate::schema::{Shape, TypeRef};

type Object = Map<String, Value>;

/// Writes an object: the envelope with its `apiVersion` and `kind`, and its message.
///
/// # Errors
/// When its kind has no message, or a value is not of its field's type.
pub fn encode(object: &Value) -> Result<Vec<u8>, EncodeError> {
    let text = |name: &str| object.get(name).and_then(Value::as_str).unwrap_or_default();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let content = known(api_version, kind)?;
    let map = object.as_object();
    envelope(api_version, kind, |out| match content {
        Content::Typed(ty) => message(out, ty, members(ty), map, 0),
        Content::Metadata => metadata(out, map),
        Content::MetadataList => {
            list_metadata(out, map.and_then(|m| m.get("metadata")))?;
            let items = map.and_then(|m| m.get("items")).and_then(Value::as_array);
            for item in items.into_iter().flatten() {
                put_nested(out, 2, |out| metadata(out, item.as_object()))?;
            }
            Ok(())
        }
    })
}

/// Writes a list without having it as one value: `items` are objects of the list kind's items.
///
/// # Errors
/// When the kind has no message, or a value is not of its field's type.
pub fn encode_list(
    api_version: &str,
    list_kind: &str,
    metadata_value: &Value,
    items: impl Iterator<Item = Value>,
) -> Result<Vec<u8>, EncodeError> {
    let item = match known(api_version, list_kind)? {
        Content::MetadataList => None,
        Content::Typed(ty) => match ty.get().field("items").map(|f| f.shape) {
            Some(Shape::List(Shape::Object(item))) => Some(*item),
            _ => return Err(unknown(api_version, list_kind)),
        },
        Content::Metadata => return Err(unknown(api_version, list_kind)),
    };
    envelope(api_version, list_kind, |out| {
        list_metadata(out, Some(metadata_value))?;
        for value in items {
            put_nested(out, 2, |out| match item {
                Some(ty) => message(out, ty, members(ty), value.as_object(), 1),
                None => metadata(out, value.as_object()),
            })?;
        }
        Ok(())
    })
}

/// A frame of a watch: four bytes of length, then the event around the object's envelope.
///
/// # Errors
/// As [`encode`].
pub fn watch_event(kind: &str, object: &Value) -> Result<Vec<u8>, EncodeError> {
    let object = encode(object)?;
    let mut out = vec![0; 4];
    put_bytes(&mut out, 1, kind.as_bytes());
    put_nested(&mut out, 2, |out| {
        put_bytes(out, 1, &object);
        Ok::<(), EncodeError>(())
    })?;
    let length = u32::try_from(out.len() - 4).map_err(|_| EncodeError::TooDeep)?;
    out[..4].copy_from_slice(&length.to_be_bytes());
    Ok(out)
}

fn known(api_version: &str, kind: &str) -> Result<Content, EncodeError> {
    content(api_version, kind).ok_or_else(|| unknown(api_version, kind))
}

fn unknown(api_version: &str, kind: &str) -> EncodeError {
    EncodeError::UnknownKind {
        api_version: api_version.to_owned(),
        kind: kind.to_owned(),
    }
}

fn envelope(
    api_version: &str,
    kind: &str,
    raw: impl FnOnce(&mut Vec<u8>) -> Result<(), EncodeError>,
) -> Result<Vec<u8>, EncodeError> {
    let mut out = Vec::with_capacity(1024);
    out.extend_from_slice(MAGIC);
    put_nested(&mut out, 1, |out| {
        put_bytes(out, 1, api_version.as_bytes());
        put_bytes(out, 2, kind.as_bytes());
        Ok::<(), EncodeError>(())
    })?;
    put_nested(&mut out, 2, raw)?;
    put_bytes(&mut out, 3, b"");
    put_bytes(&mut out, 4, b"");
    Ok(out)
}

/// The message of a `PartialObjectMetadata`.
fn metadata(out: &mut Vec<u8>, map: Option<&Object>) -> Result<(), EncodeError> {
    let Some(own) = &*OWN else { return Ok(()) };
    let inner = map.and_then(|m| m.get("metadata"));
    nested(out, 1, own.object_meta, inner.and_then(Value::as_object), 1)
}

fn list_metadata(out: &mut Vec<u8>, value: Option<&Value>) -> Result<(), EncodeError> {
    let Some(own) = &*OWN else { return Ok(()) };
    nested(out, 1, own.list_meta, value.and_then(Value::as_object), 1)
}

fn nested(
    out: &mut Vec<u8>,
    number: u16,
    ty: TypeRef,
    map: Option<&Object>,
    depth: usize,
) -> Result<(), EncodeError> {
    put_nested(out, number, |out| {
        message(out, ty, members(ty), map, depth + 1)
    })
}

/// Writes the fields of an object; without one, the fields of its zero value.
fn message(
    out: &mut Vec<u8>,
    ty: TypeRef,
    members: &'static [Member],
    map: Option<&Object>,
    depth: usize,
) -> Result<(), EncodeError> {
    if depth > MAX_DEPTH {
        return Err(EncodeError::TooDeep);
    }
    for member in members {
        let (number, name, always, wrapped) = match *member {
            Member::Inline(number, inner) => {
                put_nested(out, number, |out| message(out, ty, inner, map, depth + 1))?;
                continue;
            }
            Member::Kept(number, name) | Member::Omitted(number, name) => {
                (number, name, true, false)
            }
            Member::Pointer(number, name) | Member::Many(number, name) => {
                (number, name, false, false)
            }
            Member::Wrapped(number, name) => (number, name, false, true),
        };
        let found = map.and_then(|m| m.get(name)).filter(|v| !v.is_null());
        if found.is_none() && !always {
            continue;
        }
        let Some(field) = ty.get().field(name) else {
            continue;
        };
        let wrong = || EncodeError::Type { field: name };
        match (&field.shape, found) {
            (shape, None) => zero(out, number, shape, depth)?,
            (Shape::List(item), Some(value)) if wrapped => {
                list(out, number, name, item, value, depth)?;
            }
            (Shape::List(item), Some(Value::Array(items))) => {
                for value in items {
                    one(out, number, name, item, value, depth)?;
                }
            }
            (Shape::Map(item), Some(Value::Object(entries))) => {
                for (key, value) in sorted(entries) {
                    put_nested(out, number, |out| {
                        put_bytes(out, 1, key.as_bytes());
                        match item {
                            Shape::List(item) if wrapped => list(out, 2, name, item, value, depth),
                            item => one(out, 2, name, item, value, depth),
                        }
                    })?;
                }
            }
            (Shape::List(_) | Shape::Map(_), _) => return Err(wrong()),
            (shape, Some(value)) => one(out, number, name, shape, value, depth)?,
        }
    }
    Ok(())
}

/// The entries by key, as upstream's stable encoding has them.
fn sorted(entries: &Object) -> Vec<(&String, &Value)> {
    let mut entries: Vec<_> = entries.iter().collect();
    entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
    entries
}

/// A list that is a message of its own.
fn list(
    out: &mut Vec<u8>,
    number: u16,
    name: &'static str,
    item: &Shape,
    value: &Value,
    depth: usize,
) -> Result<(), EncodeError> {
    let items = value.as_array().ok_or(EncodeError::Type { field: name })?;
    put_nested(out, number, |out| {
        items
            .iter()
            .try_for_each(|value| one(out, 1, name, item, value, depth))
    })
}

/// The zero value of a field that is always written.
fn zero(out: &mut Vec<u8>, number: u16, shape: &Shape, depth: usize) -> Result<(), EncodeError> {
    match shape {
        Shape::String | Shape::Time | Shape::MicroTime => put_bytes(out, number, b""),
        Shape::Bool | Shape::Int32 | Shape::Int64 => put_number(out, number, 0),
        Shape::Double => put_double(out, number, 0.0),
        Shape::Quantity => quantity(out, number, "0")?,
        Shape::IntOrString => int_or_string(out, number, 0, None)?,
        Shape::Any(ty) => match Special::of(*ty) {
            Special::SchemaOrBool => special(out, number, *ty, &Value::Bool(false), "", depth)?,
            _ => put_bytes(out, number, b""),
        },
        Shape::Object(ty) => nested(out, number, *ty, None, depth)?,
        Shape::Bytes | Shape::List(_) | Shape::Map(_) => {}
    }
    Ok(())
}

/// One value of a field.
fn one(
    out: &mut Vec<u8>,
    number: u16,
    name: &'static str,
    shape: &Shape,
    value: &Value,
    depth: usize,
) -> Result<(), EncodeError> {
    let wrong = || EncodeError::Type { field: name };
    match (shape, value) {
        (shape, Value::Null) => zero(out, number, shape, depth)?,
        (Shape::String, Value::String(text)) => put_bytes(out, number, text.as_bytes()),
        (Shape::Bytes, Value::String(text)) => {
            let bytes = STANDARD.decode(text).map_err(|_| wrong())?;
            put_bytes(out, number, &bytes);
        }
        (Shape::Bool, Value::Bool(value)) => put_number(out, number, u64::from(*value)),
        (Shape::Int32 | Shape::Int64, Value::Number(value)) => {
            let value = value.as_i64().ok_or_else(wrong)?;
            put_number(out, number, value.cast_unsigned());
        }
        (Shape::Double, Value::Number(value)) => {
            put_double(out, number, value.as_f64().ok_or_else(wrong)?);
        }
        (Shape::Time | Shape::MicroTime, Value::String(text)) => {
            let at: Timestamp = text.parse().map_err(|_| wrong())?;
            time(out, number, at, matches!(shape, Shape::MicroTime))?;
        }
        (Shape::Quantity, Value::String(text)) => quantity(out, number, text)?,
        (Shape::Quantity, Value::Number(value)) => quantity(out, number, &value.to_string())?,
        (Shape::IntOrString, Value::String(text)) => int_or_string(out, number, 0, Some(text))?,
        (Shape::IntOrString, Value::Number(value)) => {
            let value = value.as_i64().ok_or_else(wrong)?;
            int_or_string(out, number, value, None)?;
        }
        (Shape::Any(ty), value) => special(out, number, *ty, value, name, depth)?,
        (Shape::Object(ty), Value::Object(map)) => nested(out, number, *ty, Some(map), depth)?,
        _ => return Err(wrong()),
    }
    Ok(())
}

fn quantity(out: &mut Vec<u8>, number: u16, text: &str) -> Result<(), EncodeError> {
    put_nested(out, number, |out| {
        put_bytes(out, 1, text.as_bytes());
        Ok(())
    })
}

fn int_or_string(
    out: &mut Vec<u8>,
    number: u16,
    int: i64,
    text: Option<&str>,
) -> Result<(), EncodeError> {
    put_nested(out, number, |out| {
        put_number(out, 1, u64::from(text.is_some()));
        put_number(out, 2, int.cast_unsigned());
        put_bytes(out, 3, text.unwrap_or_default().as_bytes());
        Ok(())
    })
}

fn time(out: &mut Vec<u8>, number: u16, at: Timestamp, micros: bool) -> Result<(), EncodeError> {
    // Seconds are counted down to, the fraction up from them.
    let nanos = at.as_nanosecond().rem_euclid(1_000_000_000);
    let seconds = at.as_nanosecond().div_euclid(1_000_000_000);
    let nanos = if micros { nanos / 1000 * 1000 } else { 0 };
    put_nested(out, number, |out| {
        put_number(
            out,
            1,
            i64::try_from(seconds).unwrap_or_default().cast_unsigned(),
        );
        put_number(out, 2, u64::try_from(nanos).unwrap_or_default());
        Ok(())
    })
}

/// The types whose JSON is not that of their fields.
fn special(
    out: &mut Vec<u8>,
    number: u16,
    ty: TypeRef,
    value: &Value,
    name: &'static str,
    depth: usize,
) -> Result<(), EncodeError> {
    let wrong = || EncodeError::Type { field: name };
    let Some(own) = &*OWN else { return Ok(()) };
    let schema = |out: &mut Vec<u8>, number, value: &Value| {
        let map = value.as_object().ok_or_else(wrong)?;
        nested(out, number, own.json_schema, Some(map), depth + 1)
    };
    put_nested(out, number, |out| match (Special::of(ty), value) {
        (Special::Raw, value) => {
            put_bytes(out, 1, value.to_string().as_bytes());
            Ok(())
        }
        (Special::SchemaOrBool, Value::Bool(allows)) => {
            put_number(out, 1, u64::from(*allows));
            Ok(())
        }
        (Special::SchemaOrBool, value) => {
            put_number(out, 1, 1);
            schema(out, 2, value)
        }
        (Special::SchemaOrArray, Value::Array(schemas)) => {
            schemas.iter().try_for_each(|value| schema(out, 2, value))
        }
        (Special::SchemaOrStrings, Value::Array(texts)) => texts.iter().try_for_each(|text| {
            put_bytes(out, 2, text.as_str().ok_or_else(wrong)?.as_bytes());
            Ok(())
        }),
        (Special::SchemaOrArray | Special::SchemaOrStrings, value) => schema(out, 1, value),
    })
}
