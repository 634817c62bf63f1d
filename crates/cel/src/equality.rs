//! When two values are equal, and which comes first.
//!
//! Invariant: the work of one evaluation is bounded, however large what it compares.

use std::cmp::Ordering;

use crate::decl::ListKind;
use crate::error::EvalError;
use crate::eval::Context;
use crate::number;
use crate::value::{List, Map, Object, Value};

/// Whether two values are equal. Values of different types are not; NaN equals nothing.
pub(crate) fn equal<'a>(
    context: &mut Context<'a>,
    one: &Value<'a>,
    other: &Value<'a>,
) -> Result<bool, EvalError> {
    context.work(1)?;
    Ok(match (one, other) {
        (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::String(a), Value::String(b)) => a == b,
        (Value::Bytes(a), Value::Bytes(b)) => a == b,
        (Value::Duration(a), Value::Duration(b)) => a == b,
        (Value::Timestamp(a), Value::Timestamp(b)) => a == b,
        (Value::Type(a), Value::Type(b)) => same_type(a, b),
        (Value::List(a), Value::List(b)) => lists(context, a, b)?,
        (Value::Map(a), Value::Map(b)) => maps(context, a, b)?,
        (Value::Object(a), Value::Object(b)) => objects(context, a, b)?,
        (Value::Optional(None), Value::Optional(None)) => true,
        (Value::Optional(Some(a)), Value::Optional(Some(b))) => equal(context, a, b)?,
        (Value::Extension(a), Value::Extension(b)) => a == b,
        (a, b) => number::compare(a, b) == Some(Ordering::Equal),
    })
}

/// Types are compared without their parameters.
fn same_type(one: &crate::types::Type, other: &crate::types::Type) -> bool {
    use crate::types::Type;
    match (one, other) {
        (Type::List(_), Type::List(_))
        | (Type::Map(..), Type::Map(..))
        | (Type::Optional(_), Type::Optional(_))
        | (Type::Type(_), Type::Type(_)) => true,
        (one, other) => one == other,
    }
}

fn lists<'a>(
    context: &mut Context<'a>,
    one: &List<'a>,
    other: &List<'a>,
) -> Result<bool, EvalError> {
    if one.len() != other.len() {
        return Ok(false);
    }
    let (kind, flipped) = match (one.kind(), other.kind()) {
        (ListKind::Atomic, kind) => (kind, true),
        (kind, _) => (kind, false),
    };
    let (one, other) = if flipped { (other, one) } else { (one, other) };
    match kind.clone() {
        ListKind::Atomic => {
            for (a, b) in one.iter().zip(other.iter()) {
                if !equal(context, &a?, &b?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Set => {
            for a in one.iter() {
                if !contains(context, other, &a?)? {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        ListKind::Map(keys) => {
            for a in one.iter() {
                let a = a?;
                match find(context, other, &a, &keys)? {
                    Some(b) if equal(context, &a, &b)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
    }
}

/// Whether a list has an element that equals this.
pub(crate) fn contains<'a>(
    context: &mut Context<'a>,
    list: &List<'a>,
    wanted: &Value<'a>,
) -> Result<bool, EvalError> {
    for element in list.iter() {
        if equal(context, &element?, wanted)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The element of a list whose key fields are those of another.
pub(crate) fn find<'a>(
    context: &mut Context<'a>,
    list: &List<'a>,
    wanted: &Value<'a>,
    keys: &[String],
) -> Result<Option<Value<'a>>, EvalError> {
    for element in list.iter() {
        let element = element?;
        let mut same = true;
        for key in keys {
            same &= match (field(&element, key), field(wanted, key)) {
                (Some(a), Some(b)) => equal(context, &a?, &b?)?,
                (None, None) => true,
                _ => false,
            };
        }
        if same {
            return Ok(Some(element));
        }
    }
    Ok(None)
}

fn field<'a>(value: &Value<'a>, name: &str) -> Option<Result<Value<'a>, EvalError>> {
    match value {
        Value::Object(object) => object.get(&crate::decl::escape(name)?),
        Value::Map(map) => map.get(&Value::made(name).key()?),
        _ => None,
    }
}

fn maps<'a>(context: &mut Context<'a>, one: &Map<'a>, other: &Map<'a>) -> Result<bool, EvalError> {
    if one.len() != other.len() {
        return Ok(false);
    }
    for entry in one.iter() {
        let (key, value) = entry?;
        let Some(found) = key.key().and_then(|key| other.get(&key)) else {
            return Ok(false);
        };
        if !equal(context, &value, &found?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn objects<'a>(
    context: &mut Context<'a>,
    one: &Object<'a>,
    other: &Object<'a>,
) -> Result<bool, EvalError> {
    match (one, other) {
        (
            Object::Json {
                data: a, fields, ..
            },
            Object::Json { data: b, .. },
        ) => {
            // What is not declared counts as well, as it is.
            if a.len() != b.len() {
                return Ok(false);
            }
            for (name, left) in *a {
                let Some(right) = b.get(name) else {
                    return Ok(false);
                };
                let decl = crate::decl::escape(name).and_then(|name| fields.get(&name));
                let same = match decl {
                    Some(field) => {
                        let left = Value::wrap(left, &field.decl)?;
                        equal(context, &left, &Value::wrap(right, &field.decl)?)?
                    }
                    None => left == right,
                };
                if !same {
                    return Ok(false);
                }
            }
            Ok(true)
        }
        (Object::Built(a), Object::Built(b)) => {
            if a.name != b.name || a.fields.len() != b.fields.len() {
                return Ok(false);
            }
            for (name, left) in &a.fields {
                match b.fields.get(name) {
                    Some(right) if equal(context, left, right)? => {}
                    _ => return Ok(false),
                }
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Which of two comes first.
pub(crate) fn order(one: &Value<'_>, other: &Value<'_>) -> Result<Ordering, EvalError> {
    match (one, other) {
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bytes(a), Value::Bytes(b)) => Ok(a.cmp(b)),
        (Value::Duration(a), Value::Duration(b)) => Ok(a.cmp(b)),
        (Value::Timestamp(a), Value::Timestamp(b)) => Ok(a.cmp(b)),
        (Value::Double(a), _) if a.is_nan() => Err(nan()),
        (_, Value::Double(b)) if b.is_nan() => Err(nan()),
        (a, b) => number::compare(a, b).ok_or(EvalError::NoSuchOverload),
    }
}

fn nan() -> EvalError {
    EvalError::failed("NaN values cannot be ordered")
}
