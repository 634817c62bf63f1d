//! Values of keys, as Falco reads them out of YAML.

use std::collections::BTreeSet;

use super::code::ErrorCode;
use super::context::{Context, Item};
use super::result::LoadError;
use crate::yaml::Node;

/// An error that ends the loading of a file.
pub(crate) type Thrown = Box<LoadError>;

/// Says what is wrong with the structure of a file.
pub(crate) fn structure(message: impl Into<String>, context: &Context) -> Thrown {
    Box::new(LoadError {
        code: ErrorCode::YamlValidate,
        message: message.into(),
        context: context.clone(),
    })
}

/// Says what is wrong with an item.
pub(crate) fn invalid(message: impl Into<String>, context: &Context) -> Thrown {
    Box::new(LoadError {
        code: ErrorCode::Validate,
        message: message.into(),
        context: context.clone(),
    })
}

/// The text of a key that must be there.
pub(crate) fn text(item: &Node, key: &str, context: &Context) -> Result<String, Thrown> {
    let missing = || structure(format!("Item has no mapping for key '{key}'"), context);
    optional_text(item, key, context)?.ok_or_else(missing)
}

/// The text of a key.
pub(crate) fn optional_text(
    item: &Node,
    key: &str,
    context: &Context,
) -> Result<Option<String>, Thrown> {
    let Some(value) = item.get(key) else {
        return Ok(None);
    };
    if value.is_null() {
        return Err(structure(
            format!("Mapping for key '{key}' is empty"),
            context,
        ));
    }
    let context = context.node(value, Item::ValueFor, key);
    match value.scalar() {
        None => Err(structure("Value is not a scalar value", &context)),
        Some("") => Err(structure("Value must be non-empty", &context)),
        Some(text) => Ok(Some(text.to_owned())),
    }
}

/// The text of a key; none, if it is there but empty.
pub(crate) fn empty_text(item: &Node, key: &str, context: &Context) -> Result<String, Thrown> {
    let empty = |value: &Node| value.is_null() || value.scalar() == Some("");
    if item.get(key).is_none_or(empty) {
        return Ok(String::new());
    }
    text(item, key, context)
}

fn decoded<T>(
    item: &Node,
    key: &str,
    context: &Context,
    decode: fn(&str) -> Option<T>,
) -> Result<Option<T>, Thrown> {
    let Some(text) = optional_text(item, key, context)? else {
        return Ok(None);
    };
    let value = item.get(key).map(|value| value.mark).unwrap_or_default();
    let context = context.mark(value, Item::ValueFor, key);
    match decode(&text) {
        Some(value) => Ok(Some(value)),
        None => Err(structure("Can't decode YAML scalar value", &context)),
    }
}

/// Whether a key is set.
pub(crate) fn optional_bool(
    item: &Node,
    key: &str,
    context: &Context,
) -> Result<Option<bool>, Thrown> {
    decoded(item, key, context, boolean)
}

/// The number of a key.
pub(crate) fn optional_number(
    item: &Node,
    key: &str,
    context: &Context,
) -> Result<Option<u32>, Thrown> {
    decoded(item, key, context, number)
}

/// Words for truth, in small letters, in capitals, or with a capital first.
fn boolean(text: &str) -> Option<bool> {
    let lower = text.to_ascii_lowercase();
    let first = text.get(..1)?.to_ascii_uppercase() + lower.get(1..)?;
    if text != lower && text != text.to_ascii_uppercase() && text != first {
        return None;
    }
    match lower.as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        _ => None,
    }
}

/// A number as C has it: decimal, hexadecimal or octal.
pub(crate) fn number(text: &str) -> Option<u32> {
    let text = text.trim();
    let digits = text.strip_prefix('+').unwrap_or(text);
    if let Some(hex) = digits
        .strip_prefix("0x")
        .or_else(|| digits.strip_prefix("0X"))
    {
        return u32::from_str_radix(hex, 16).ok();
    }
    if digits.len() > 1 && digits.starts_with('0') {
        return u32::from_str_radix(digits, 8).ok();
    }
    digits.parse().ok()
}

fn texts(item: &Node, key: &str, context: &Context) -> Result<Option<Vec<String>>, Thrown> {
    let Some(value) = item.get(key) else {
        return Ok(None);
    };
    let context = context.node(value, Item::ValueFor, key);
    let Some(items) = value.sequence() else {
        return Err(structure("Value is not a sequence", &context));
    };
    let mut texts = Vec::with_capacity(items.len());
    for item in items {
        let Some(text) = item.scalar() else {
            let context = context.node(item, Item::InList, "");
            return Err(structure("sequence value is not scalar", &context));
        };
        texts.push(text.to_owned());
    }
    Ok(Some(texts))
}

/// The items of a list.
pub(crate) fn items(item: &Node, context: &Context) -> Result<Vec<String>, Thrown> {
    texts(item, "items", context)?
        .ok_or_else(|| structure("Item has no mapping for key 'items'", context))
}

/// The tags of a rule.
pub(crate) fn tags(item: &Node, context: &Context) -> Result<BTreeSet<String>, Thrown> {
    Ok(texts(item, "tags", context)?
        .unwrap_or_default()
        .into_iter()
        .collect())
}
