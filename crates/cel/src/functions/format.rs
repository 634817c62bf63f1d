//! `format`: `%s`, `%d`, `%f`, `%e`, `%b`, `%o`, `%x`, `%X`, `%%`.

use super::convert::{double, shown};
use super::{LONGEST_TEXT, affordable, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Context;
use crate::value::{Evaluated, Value};

/// Digits after the point where none are asked for.
const DEFAULT_PRECISION: usize = 6;
/// The most digits that are made.
const MOST_PRECISION: usize = 1_000;

pub(super) fn format<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::String(pattern), Value::List(list)] = args else {
        return no_overload();
    };
    let mut out = String::new();
    let mut next = 0;
    let mut chars = pattern.chars().peekable();
    while let Some(char) = chars.next() {
        affordable(out.len())?;
        if char != '%' {
            out.push(char);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(digit) = chars.next_if(char::is_ascii_digit) {
                digits.push(digit);
            }
            let wanted: usize = digits.parse().unwrap_or(usize::MAX);
            if wanted > MOST_PRECISION {
                return fail("error while parsing precision: it is no number, or too large");
            }
            precision = Some(wanted);
        }
        let Some(clause) = chars.next() else {
            return fail("unexpected end of string");
        };
        let Some(value) = list.get(next) else {
            return fail(format!("index {next} out of range"));
        };
        next += 1;
        one(
            &mut out,
            clause,
            precision.unwrap_or(DEFAULT_PRECISION),
            &value?,
        )?;
    }
    affordable(out.len())?;
    Ok(Value::made(out))
}

fn one(
    out: &mut String,
    clause: char,
    precision: usize,
    value: &Value<'_>,
) -> Result<(), EvalError> {
    let wrong = |takes: &str| {
        let message = format!("error during formatting: {takes}, was given {}", value.ty());
        fail(message)
    };
    match (clause, value) {
        ('s', value) => text(out, value, 0)?,
        ('d', Value::Int(number)) => out.push_str(&number.to_string()),
        ('d', Value::Uint(number)) => out.push_str(&number.to_string()),
        ('d', _) => return wrong("decimal clause can only be used on integers"),
        ('f', Value::Double(number)) if number.is_finite() => {
            out.push_str(&format!("{number:.precision$}"));
        }
        ('e', Value::Double(number)) if number.is_finite() => {
            let made = format!("{number:.precision$e}");
            let (mantissa, exponent) = made.split_once('e').unwrap_or((&made, "0"));
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            out.push_str(&format!("{mantissa}e{sign}{digits:0>2}"));
        }
        ('f' | 'e', Value::Double(number)) => out.push_str(&double(*number)),
        ('f' | 'e', Value::String(word)) if matches!(&**word, "NaN" | "Infinity" | "-Infinity") => {
            out.push_str(word);
        }
        ('f', _) => return wrong("fixed-point clause can only be used on doubles"),
        ('e', _) => return wrong("scientific clause can only be used on doubles"),
        ('b', Value::Int(number)) => out.push_str(&signed(*number, |n| format!("{n:b}"))),
        ('b', Value::Uint(number)) => out.push_str(&format!("{number:b}")),
        ('b', Value::Bool(bit)) => out.push(if *bit { '1' } else { '0' }),
        ('b', _) => return wrong("only integers and bools can be formatted as binary"),
        ('o', Value::Int(number)) => out.push_str(&signed(*number, |n| format!("{n:o}"))),
        ('o', Value::Uint(number)) => out.push_str(&format!("{number:o}")),
        ('o', _) => return wrong("octal clause can only be used on integers"),
        ('x' | 'X', value) => hex(out, clause == 'X', value)?,
        (clause, _) => {
            return fail(format!(
                "could not parse formatting clause: unrecognized formatting clause \"{clause}\""
            ));
        }
    }
    Ok(())
}

fn signed(number: i64, digits: fn(u64) -> String) -> String {
    let sign = if number < 0 { "-" } else { "" };
    format!("{sign}{}", digits(number.unsigned_abs()))
}

fn hex(out: &mut String, upper: bool, value: &Value<'_>) -> Result<(), EvalError> {
    let bytes = |bytes: &[u8]| {
        bytes
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect::<String>()
    };
    let made = match value {
        Value::Int(number) => signed(*number, |n| format!("{n:x}")),
        Value::Uint(number) => format!("{number:x}"),
        Value::String(text) => bytes(text.as_bytes()),
        Value::Bytes(value) => bytes(value),
        other => {
            return fail(format!(
                "error during formatting: only integers, byte buffers, and strings can be formatted as hex, was given {}",
                other.ty()
            ));
        }
    };
    out.push_str(&if upper { made.to_uppercase() } else { made });
    Ok(())
}

fn text(out: &mut String, value: &Value<'_>, depth: usize) -> Result<(), EvalError> {
    if depth > api::MAX_DEPTH || out.len() > LONGEST_TEXT {
        return Err(EvalError::CostExceeded);
    }
    match value {
        Value::List(list) => {
            out.push('[');
            for (index, item) in list.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                inner(out, &item?, depth)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            let mut entries = map.iter().collect::<Result<Vec<_>, _>>()?;
            entries.sort_by_cached_key(|(key, _)| shown(key));
            out.push('{');
            for (index, (key, value)) in entries.iter().enumerate() {
                if index > 0 {
                    out.push_str(", ");
                }
                inner(out, key, depth)?;
                out.push_str(": ");
                inner(out, value, depth)?;
            }
            out.push('}');
        }
        Value::Bytes(bytes) => out.push_str(&String::from_utf8_lossy(bytes)),
        Value::Type(ty) => out.push_str(&bare(ty)),
        Value::Object(_) | Value::Optional(_) | Value::Extension(_) | Value::Lazy(_) => {
            return fail(format!(
                "error during formatting: string clause can only be used on strings, bools, bytes, ints, doubles, maps, lists, types, durations, and timestamps, was given {}",
                value.ty()
            ));
        }
        scalar => out.push_str(&shown(scalar)),
    }
    Ok(())
}

/// A type's name without what it holds.
fn bare(ty: &crate::types::Type) -> String {
    let text = ty.to_string();
    text.split('(').next().unwrap_or_default().to_owned()
}

/// A value within a list or map, as a literal.
fn inner(out: &mut String, value: &Value<'_>, depth: usize) -> Result<(), EvalError> {
    match value {
        Value::String(text) => out.push_str(&format!("{:?}", &**text)),
        Value::Bytes(bytes) => out.push_str(&format!("b{:?}", String::from_utf8_lossy(bytes))),
        Value::Duration(_) => out.push_str(&format!("duration(\"{}\")", shown(value))),
        Value::Timestamp(_) => out.push_str(&format!("timestamp(\"{}\")", shown(value))),
        Value::Double(number) if number.is_finite() => {
            out.push_str(&format!("{number:.DEFAULT_PRECISION$}"));
        }
        Value::Double(number) => out.push_str(&format!("\"{}\"", double(*number))),
        value => text(out, value, depth + 1)?,
    }
    Ok(())
}
