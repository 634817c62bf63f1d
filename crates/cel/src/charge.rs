//! What a call costs when it is made.
//!
//! Invariant: the numbers are upstream's; they are a part of the API.

use crate::extension::Extension;
use crate::number::{scaled, scaled_down};
use crate::value::{Object, Value};

/// Making a list.
pub(crate) const LIST: u64 = 10;
/// Making a map.
pub(crate) const MAP: u64 = 30;
/// Making an object.
pub(crate) const STRUCT: u64 = 40;
/// Reading a string once, for each of its characters.
pub(crate) const STRING_FACTOR: f64 = 0.1;
/// What each character of a pattern multiplies a match by.
pub(crate) const REGEX_FACTOR: f64 = 0.25;
/// A question to the authorizer: two fit into one expression.
pub(crate) const AUTHORIZE: u64 = 350_000;

/// What a selector of this length costs.
pub(crate) fn selector(length: u64) -> u64 {
    let requirements = scaled(length, 0.5);
    let each = scaled(requirements, 50.0);
    LIST.saturating_add(scaled(length, STRING_FACTOR))
        .saturating_add(each)
}

/// The cost of one call.
pub(crate) fn call(name: &str, overload: &str, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, size);
    let read = |index: usize, factor: f64| scaled(size(index), factor * STRING_FACTOR);
    match name {
        "check" => AUTHORIZE,
        "fieldSelector" | "labelSelector" => selector(size(1)),
        "isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf" => {
            args.first().map_or(0, |value| traversal(value, 0))
        }
        "url"
        | "lowerAscii"
        | "upperAscii"
        | "substring"
        | "trim"
        | "jsonpatch.escapeKey"
        | "cidr"
        | "isIP"
        | "isCIDR"
        | "quantity"
        | "isQuantity"
        | "semver"
        | "isSemver" => read(0, 1.0),
        "ip" if overload == "cidr_ip" => 1,
        "ip" => read(0, 1.0),
        "replace" | "split" | "ip.isCanonical" => read(0, 2.0),
        "join" => scaled(self::size(result), 2.0 * STRING_FACTOR),
        "find" | "findAll" => matching(size(0), size(1)),
        "matches" if overload == "matches_string" => matching(size(0), size(1)),
        "containsIP" => {
            let parse = if overload == "cidr_contains_ip_string" {
                read(1, 1.0)
            } else {
                0
            };
            read(0, 2.0).saturating_add(parse)
        }
        "containsCIDR" => {
            let parse = if overload == "cidr_contains_cidr_string" {
                read(1, 1.0)
            } else {
                0
            };
            read(0, 2.0)
                .saturating_add(read(0, 1.0))
                .saturating_add(1)
                .saturating_add(parse)
        }
        "validate" => match args.first() {
            Some(Value::Extension(extension)) => match &**extension {
                Extension::Format(format) => matching(size(1), format.regex_size),
                _ => 1,
            },
            _ => 1,
        },
        "_==_" | "_!=_" => {
            if name == "_==_" && matches!(args.first(), Some(Value::Extension(_))) {
                return 1;
            }
            scaled(size(0).min(size(1)), STRING_FACTOR)
        }
        _ => by_overload(overload, args, result),
    }
}

fn by_overload(overload: &str, args: &[Value<'_>], result: &Value<'_>) -> u64 {
    let size = |index: usize| args.get(index).map_or(1, size);
    match overload {
        "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string"
        | "strings_quote" | "string_format" => scaled(size(0), STRING_FACTOR),
        "in_list" => size(1),
        "less_string"
        | "greater_string"
        | "less_equals_string"
        | "greater_equals_string"
        | "less_bytes"
        | "greater_bytes"
        | "less_equals_bytes"
        | "greater_equals_bytes" => scaled(size(0).min(size(1)), STRING_FACTOR),
        "add_string" | "add_bytes" => scaled(size(0).saturating_add(size(1)), STRING_FACTOR),
        "contains_string" => {
            scaled(size(0), STRING_FACTOR).saturating_mul(scaled(size(1), STRING_FACTOR))
        }
        "list_slice" | "lists_range" | "list_reverse" => listing(1.0, self::size(result)),
        "list_flatten" => listing(1.0, size(0)),
        "list_flatten_int" => match args.get(1) {
            Some(Value::Int(depth)) => listing(*depth as f64, size(0)),
            _ => listing(1.0, size(0)),
        },
        "list_distinct" => comparing(args.first()),
        sort if sort.ends_with("_sort") => comparing(args.first()),
        sort if sort.ends_with("_sortByAssociatedKeys") => comparing(args.get(1)),
        _ => 1,
    }
}

/// Making a list of so many elements.
fn listing(factor: f64, size: u64) -> u64 {
    scaled_down(size, factor.max(0.0)).saturating_add(1 + LIST)
}

/// Comparing every element of a list with every other.
fn comparing(list: Option<&Value<'_>>) -> u64 {
    let Some(Value::List(list)) = list else {
        return 1;
    };
    let factor = match list.get(0) {
        Some(Ok(Value::String(_) | Value::Bytes(_))) => 2.0 + STRING_FACTOR,
        _ => 2.0,
    };
    let size = list.len() as u64;
    listing(factor, size.saturating_mul(size))
}

/// Matching a text of one length against a pattern of another.
pub(crate) fn matching(text: u64, pattern: u64) -> u64 {
    let text = scaled(text.saturating_add(1), STRING_FACTOR);
    text.saturating_mul(scaled(pattern, REGEX_FACTOR))
}

/// The size of a value; of what has none, 1.
pub(crate) fn size(value: &Value<'_>) -> u64 {
    match value {
        Value::Optional(Some(inner)) => size(inner),
        value => value.size().unwrap_or(1),
    }
}

/// What reading all of a value costs.
fn traversal(value: &Value<'_>, depth: usize) -> u64 {
    if depth > api::MAX_DEPTH {
        return 1;
    }
    let within = |value: &Value<'_>| traversal(value, depth + 1);
    match value {
        Value::String(text) => scaled_down(text.len() as u64, STRING_FACTOR),
        Value::Bytes(bytes) => scaled_down(bytes.len() as u64, STRING_FACTOR),
        Value::List(list) => list.iter().flatten().map(|item| within(&item)).sum(),
        Value::Map(map) => map
            .iter()
            .flatten()
            .map(|(key, value)| within(&key) + within(&value))
            .sum(),
        Value::Object(Object::Json { data, fields, .. }) => fields
            .iter()
            .filter_map(|(name, field)| {
                let value = Value::wrap(data.get(&field.name)?, &field.decl).ok()?;
                Some(scaled_down(name.len() as u64, STRING_FACTOR) + within(&value))
            })
            .sum(),
        _ => 1,
    }
}
