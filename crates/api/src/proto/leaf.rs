//! Reading the values that have a form of their own: numbers, times, quantities.

use jiff::Timestamp;
use serde_json::{Number, Value};

use super::ProtoError;
use super::wire::Fields;

/// What a Go struct does not show with `omitempty` (or `omitzero`).
pub(super) fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
    }
}

pub(super) fn low_32(value: u64) -> i32 {
    let [a, b, c, d, ..] = value.to_le_bytes();
    i32::from_le_bytes([a, b, c, d])
}

/// A number as Go shows it: without a fraction where it has none.
#[allow(clippy::cast_possible_truncation, reason = "integral and below 2^53")]
pub(super) fn double(value: f64) -> Option<Value> {
    if value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0 {
        return Some((value as i64).into());
    }
    Number::from_f64(value).map(Value::Number)
}

/// `{1: seconds, 2: nanos}`; nothing for the zero time.
pub(super) fn time(data: &[u8], micros: bool) -> Result<Option<Value>, ProtoError> {
    if data.is_empty() {
        return Ok(None);
    }
    let (mut seconds, mut nanos) = (0_i64, 0_i32);
    let mut fields = Fields(data);
    while let Some((number, wire)) = fields.next()? {
        match number {
            1 => seconds = wire.varint()?.cast_signed(),
            2 => nanos = low_32(wire.varint()?),
            _ => {}
        }
    }
    let kept = if micros { nanos } else { 0 };
    let (at, form) = match Timestamp::new(seconds, kept) {
        Ok(at) if micros => (at, "%Y-%m-%dT%H:%M:%S.%6fZ"),
        Ok(at) => (at, "%Y-%m-%dT%H:%M:%SZ"),
        Err(_) => return Err(ProtoError::Time { seconds, nanos }),
    };
    Ok(Some(at.strftime(form).to_string().into()))
}

/// `{1: string}`.
pub(super) fn text_of(data: &[u8]) -> Result<&str, ProtoError> {
    let mut text = "";
    let mut fields = Fields(data);
    while let Some((number, wire)) = fields.next()? {
        if number == 1 {
            text = wire.text()?;
        }
    }
    Ok(text)
}

/// `{1: type, 2: intVal, 3: strVal}`.
pub(super) fn int_or_string(data: &[u8]) -> Result<Value, ProtoError> {
    let (mut is_string, mut int, mut text) = (false, 0, "");
    let mut fields = Fields(data);
    while let Some((number, wire)) = fields.next()? {
        match number {
            1 => is_string = wire.varint()? == 1,
            2 => int = low_32(wire.varint()?),
            3 => text = wire.text()?,
            _ => {}
        }
    }
    Ok(if is_string { text.into() } else { int.into() })
}
