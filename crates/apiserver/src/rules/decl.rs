//! From a structural schema to what expressions see of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use cel::{Decl, FieldDecl, ListKind, MAX_REQUEST_SIZE_BYTES, Shape, escape, estimate_list};
use serde_json::{Value, json};

/// The declaration of a schema; none where its data is hidden from expressions.
#[must_use]
pub fn decl(schema: &Value, resource_root: bool) -> Option<Arc<Decl>> {
    declare(schema, resource_root, "selfType", 0)
}

fn declare(schema: &Value, resource_root: bool, name: &str, depth: usize) -> Option<Arc<Decl>> {
    if depth > api::MAX_DEPTH {
        return None;
    }
    if schema["x-kubernetes-int-or-string"] == true {
        let mut decl = Decl::new(Shape::Dyn);
        decl.max_elements = max_length(schema).unwrap_or(MAX_REQUEST_SIZE_BYTES - 2);
        return Some(Arc::new(decl));
    }
    let inner = |schema: &Value, step: &str| {
        let embedded = schema["x-kubernetes-embedded-resource"] == true;
        declare(schema, embedded, &format!("{name}.{step}"), depth + 1)
    };
    let decl = match schema["type"].as_str()? {
        "array" => {
            let element = inner(schema.get("items")?, "@idx")?;
            let max = count(schema, "maxItems").unwrap_or_else(|| estimate_list(element.min_bytes));
            let mut decl = Decl::new(Shape::List(element, list_kind(schema)));
            decl.max_elements = max;
            decl
        }
        "object" => {
            if let Some(additional) = schema.get("additionalProperties").filter(|s| s.is_object()) {
                let mut decl = Decl::new(Shape::Map(inner(additional, "@elem")?));
                if let Some(max) = count(schema, "maxProperties") {
                    decl.max_elements = max;
                }
                decl
            } else {
                object(schema, resource_root, name, &inner)
            }
        }
        "string" => string(schema),
        "boolean" => Decl::new(Shape::Bool),
        "number" => Decl::new(Shape::Double),
        "integer" => Decl::new(Shape::Int),
        _ => return None,
    };
    Some(Arc::new(decl))
}

fn object(
    schema: &Value,
    resource_root: bool,
    name: &str,
    inner: &dyn Fn(&Value, &str) -> Option<Arc<Decl>>,
) -> Decl {
    let mut fields = BTreeMap::new();
    let mut min_bytes = 2;
    let required = schema["required"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default();
    let string = json!({"type": "string"});
    let metadata = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "generateName": {"type": "string"}},
    });
    let own = schema["properties"].as_object();
    let always = [
        ("apiVersion", &string),
        ("kind", &string),
        ("metadata", &metadata),
    ];
    let is_always = |name: &str| resource_root && always.iter().any(|(key, _)| *key == name);
    let own = own.into_iter().flatten().filter(|(key, _)| !is_always(key));
    let own = own.map(|(key, property)| (key.as_str(), property));
    let roots = always.into_iter().filter(|_| resource_root);
    for (key, property) in own.chain(roots) {
        let (Some(escaped), Some(decl)) = (escape(key), inner(property, key)) else {
            continue;
        };
        if required.iter().any(|word| word == key) && property.get("default").is_none() {
            min_bytes += key.len() as u64 + decl.min_bytes + 4;
        }
        let name = key.to_owned();
        fields.insert(escaped, FieldDecl { name, decl });
    }
    let mut decl = Decl::new(Shape::Object(name.into(), fields));
    decl.min_bytes = min_bytes;
    decl
}

fn string(schema: &Value) -> Decl {
    let shape = match schema["format"].as_str().unwrap_or_default() {
        "byte" => Shape::Bytes,
        "duration" => return Decl::new(Shape::Duration),
        "date" => return Decl::new(Shape::Date),
        "date-time" => return Decl::new(Shape::Timestamp),
        _ => Shape::String,
    };
    let bytes = shape == Shape::Bytes;
    let mut decl = Decl::new(shape);
    if let Some(max) = max_length(schema) {
        decl.max_elements = if bytes { max / 4 } else { max };
    } else if let Some(longest) = schema["enum"]
        .as_array()
        .filter(|all| !all.is_empty() && !bytes)
    {
        let lengths = longest.iter().filter_map(Value::as_str).map(str::len);
        decl.max_elements = lengths.max().unwrap_or_default() as u64;
    }
    decl
}

fn list_kind(schema: &Value) -> ListKind {
    match schema["x-kubernetes-list-type"].as_str() {
        Some("set") => ListKind::Set,
        Some("map") => ListKind::Map(super::list_keys(schema).unwrap_or_default()),
        _ => ListKind::Atomic,
    }
}

/// A bound that is written down; one below zero is zero.
pub(super) fn count(schema: &Value, name: &str) -> Option<u64> {
    let bound = schema.get(name)?;
    bound.as_u64().or_else(|| bound.as_i64().map(|_| 0))
}

/// The most bytes of a text whose length in characters is bounded.
fn max_length(schema: &Value) -> Option<u64> {
    Some(count(schema, "maxLength")?.saturating_mul(4))
}
