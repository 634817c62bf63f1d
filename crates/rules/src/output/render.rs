//! Values as text and as JSON.

use std::fmt::Display;
use std::io::Write as _;
use std::ops::Range;

use jiff::tz::TimeZone;
use serde_json::{Number, Value as Json};

use crate::event::{Event, Value, Values};
use crate::fields::{FieldId, Format, Several, Type};
use crate::subject::Subject;
use crate::term::Typed;

/// What stands for a field without a value.
pub(super) const NO_VALUE: &[u8] = b"<NA>";

/// How many bytes of a buffer are shown, and how many of a list.
const MAX_BYTES: usize = 1023;

fn put(out: &mut Vec<u8>, value: impl Display) {
    // Writing to a vector does not fail.
    let _infallible = write!(out, "{value}");
}

fn format_of(typed: &Typed) -> Format {
    typed.field.map_or(Format::Dec, |field| field.info().format)
}

fn extract<'a>(
    typed: &'a Typed,
    event: &'a (impl Event + ?Sized),
    zone: &TimeZone,
    values: &mut Values<'a>,
) -> Option<Range<usize>> {
    if let Subject::Field(field) = &typed.subject
        && let Some(text) = super::alert::time_text(field.id, event.time_ns(), zone)
    {
        values.write(|store| store.extend_from_slice(text.as_bytes()));
        return Some(values.len() - 1..values.len());
    }
    let range = typed.subject.extract(event, values)?;
    if range.is_empty() && typed.several != Several::List {
        return None;
    }
    Some(range)
}

/// Appends the values as text; false if there are none.
pub(super) fn text<'a>(
    typed: &'a Typed,
    event: &'a (impl Event + ?Sized),
    zone: &TimeZone,
    values: &mut Values<'a>,
    out: &mut Vec<u8>,
) -> bool {
    let Some(range) = extract(typed, event, zone, values) else {
        return false;
    };
    let format = format_of(typed);
    match typed.several {
        Several::List => {
            out.push(b'(');
            let begin = out.len();
            for at in range.clone() {
                if at > range.start {
                    out.push(b',');
                }
                value(typed.kind, format, &values.items[at], values, out);
            }
            out.truncate(begin + MAX_BYTES);
            out.push(b')');
        }
        Several::Any if typed.field != Some(FieldId::ProcApid) => {
            for at in range.clone() {
                if at > range.start {
                    out.push(b' ');
                }
                value(typed.kind, format, &values.items[at], values, out);
            }
        }
        _ => value(typed.kind, format, &values.items[range.start], values, out),
    }
    true
}

fn value(kind: Type, format: Format, value: &Value<'_>, values: &Values<'_>, out: &mut Vec<u8>) {
    match value {
        Value::Text(_) | Value::Written(..) => {
            let text = values.bytes(value).unwrap_or_default();
            if kind == Type::Bytebuf {
                let printable = |b: &u8| match b {
                    b' '..=b'~' => *b,
                    _ => b'.',
                };
                out.extend(text.iter().take(MAX_BYTES).map(printable));
            } else {
                out.extend_from_slice(text);
            }
        }
        Value::Bool(truth) => put(out, truth),
        Value::Double(number) => put(out, format_args!("{number:.1}")),
        Value::Address(address) => put(out, address),
        Value::Unsigned(number) if kind == Type::Bool => put(out, *number != 0),
        Value::Unsigned(number) => match format {
            Format::Dec => put(out, number),
            Format::Padded => put(out, format_args!("{number:09}")),
            Format::Hex => put(out, format_args!("{number:X}")),
        },
        Value::Signed(number) => match (format, kind) {
            (Format::Dec, _) => put(out, number),
            (Format::Padded, _) => put(out, format_args!("{number:09}")),
            (Format::Hex, Type::I32) => {
                put(out, format_args!("{:X}", number & i64::from(u32::MAX)));
            }
            (Format::Hex, _) => put(out, format_args!("{number:X}")),
        },
    }
}

/// The values as JSON; null if there are none.
pub(super) fn json(typed: &Typed, event: &(impl Event + ?Sized)) -> Json {
    if let Subject::Field(field) = &typed.subject
        && super::alert::is_time(field.id)
    {
        return event.time_ns().into();
    }
    let mut values = Values::new();
    let Some(range) = extract(typed, event, &TimeZone::UTC, &mut values) else {
        return Json::Null;
    };
    let format = format_of(typed);
    match typed.several {
        Several::List => range
            .map(|at| json_value(typed.kind, format, &values.items[at], &values))
            .collect(),
        Several::Any if typed.field != Some(FieldId::ProcApid) => {
            let mut out = Vec::new();
            let mut values = Values::new();
            text(typed, event, &TimeZone::UTC, &mut values, &mut out);
            String::from_utf8_lossy(&out).into_owned().into()
        }
        _ => json_value(typed.kind, format, &values.items[range.start], &values),
    }
}

fn json_value(kind: Type, format: Format, of: &Value<'_>, values: &Values<'_>) -> Json {
    match of {
        Value::Bool(truth) => (*truth).into(),
        Value::Unsigned(number) if kind == Type::Bool => (*number != 0).into(),
        Value::Unsigned(number) if format == Format::Dec => (*number).into(),
        Value::Signed(number) if format == Format::Dec => (*number).into(),
        Value::Double(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        _ => {
            let mut out = Vec::new();
            value(kind, format, of, values, &mut out);
            String::from_utf8_lossy(&out).into_owned().into()
        }
    }
}
