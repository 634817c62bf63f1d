//! Conversions between types.

use super::{Table, affordable, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Context;
use crate::extension::Extension;
use crate::functions::{net, time};
use crate::number::{double_to_int, double_to_uint, overflow, unsigned_overflow};
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("bool", to_bool),
    ("bytes", to_bytes),
    ("double", to_double),
    ("dyn", to_dyn),
    ("int", to_int),
    ("string", to_string),
    ("type", to_type),
    ("uint", to_uint),
];

fn to_dyn<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    args.first().cloned().ok_or(EvalError::NoSuchOverload)
}

fn to_type<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    args.first()
        .map(|value| Value::Type(value.ty()))
        .ok_or(EvalError::NoSuchOverload)
}

fn to_bool<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(*value)),
        [Value::String(text)] => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(Value::Bool(true)),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(Value::Bool(false)),
            text => fail(format!(
                "strconv.ParseBool: parsing {text:?}: invalid syntax"
            )),
        },
        _ => no_overload(),
    }
}

fn to_bytes<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [value @ Value::Bytes(_)] => Ok(value.clone()),
        [Value::String(text)] => Ok(Value::Bytes(text.as_bytes().into())),
        _ => no_overload(),
    }
}

fn to_double<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Double(match args {
        [Value::Double(value)] => *value,
        [Value::Int(value)] => *value as f64,
        [Value::Uint(value)] => *value as f64,
        [Value::String(text)] => match text.parse() {
            Ok(value) => value,
            Err(_) => {
                let text = &**text;
                return fail(format!(
                    "strconv.ParseFloat: parsing {text:?}: invalid syntax"
                ));
            }
        },
        _ => return no_overload(),
    }))
}

fn parse_fault(function: &str, text: &str, fault: &std::num::ParseIntError) -> EvalError {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let why = match fault.kind() {
        PosOverflow | NegOverflow => "value out of range",
        _ => "invalid syntax",
    };
    EvalError::failed(format!("strconv.{function}: parsing {text:?}: {why}"))
}

fn to_int<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Int(match args {
        [Value::Int(value)] => *value,
        [Value::Uint(value)] => i64::try_from(*value).map_err(|_| overflow())?,
        [Value::Double(value)] => double_to_int(*value)?,
        [Value::Duration(nanos)] => *nanos,
        [Value::Timestamp(at)] => at.as_second(),
        [Value::String(text)] => text
            .parse()
            .map_err(|fault| parse_fault("ParseInt", text, &fault))?,
        _ => return no_overload(),
    }))
}

fn to_uint<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Uint(match args {
        [Value::Uint(value)] => *value,
        [Value::Int(value)] => u64::try_from(*value).map_err(|_| unsigned_overflow())?,
        [Value::Double(value)] => double_to_uint(*value)?,
        [Value::String(text)] if !text.starts_with('+') => text
            .parse()
            .map_err(|fault| parse_fault("ParseUint", text, &fault))?,
        _ => return no_overload(),
    }))
}

fn to_string<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [value @ Value::String(_)] => Ok(value.clone()),
        [Value::Bytes(bytes)] => match std::str::from_utf8(bytes) {
            Ok(text) => {
                affordable(text.len())?;
                Ok(Value::made(text))
            }
            Err(_) => fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        [
            value @ (Value::Bool(_)
            | Value::Double(_)
            | Value::Duration(_)
            | Value::Int(_)
            | Value::Uint(_)
            | Value::Timestamp(_)),
        ] => Ok(Value::made(shown(value))),
        [Value::Extension(extension)] => match &**extension {
            Extension::Ip(address) => Ok(Value::made(address.to_string())),
            Extension::Cidr(address, bits) => Ok(Value::made(net::cidr_text(*address, *bits))),
            _ => no_overload(),
        },
        _ => no_overload(),
    }
}

/// A scalar as a string.
pub(crate) fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => value.to_string(),
        Value::Double(value) => double(*value),
        Value::String(text) => (**text).to_owned(),
        Value::Duration(nanos) => time::duration_text(*nanos),
        Value::Timestamp(at) => time::timestamp_text(*at),
        other => format!("{other:?}"),
    }
}

/// A double in its shortest form, with an exponent where it is very large or small.
pub(crate) fn double(value: f64) -> String {
    if value.is_nan() {
        return "NaN".to_owned();
    }
    if value.is_infinite() {
        return if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned();
    }
    if value != 0.0 && (value.abs() < 1e-4 || value.abs() >= 1e21) {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        return format!("{mantissa}e{sign}{digits:0>2}");
    }
    value.to_string()
}
