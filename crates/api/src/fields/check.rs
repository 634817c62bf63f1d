//! What is wrong with an applied object: fields that its type does not have, and values of another
//! type.
//!
//! Invariant: no walk is deeper than [`MAX_DEPTH`].

use serde_json::Value;

use super::element::Element;
use super::form::{Form, TypeError};
use super::node::{At, Node};
use crate::MAX_DEPTH;
use crate::schema::{Schema, Shape, Type};

/// What is wrong with an applied object; upstream's checks of a typed value.
///
/// # Errors
/// With all problems, in upstream's one text.
pub(super) fn check(schema: &Schema, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    match schema {
        Schema::Table(ty) => check_object(ty.get(), value, 0, &mut errors),
        Schema::Custom(custom) => {
            check_node(Node::root(custom.schema()), value, 0, &mut errors);
        }
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.to_string()),
        many => {
            let lines: Vec<String> = many.iter().map(|error| format!("  {error}")).collect();
            Err(format!("errors:\n{}", lines.join("\n")))
        }
    }
}

/// Runs a check below an element and puts the element before what it finds.
fn below(errors: &mut Vec<TypeError>, element: &Element, run: impl FnOnce(&mut Vec<TypeError>)) {
    let mut found = Vec::new();
    run(&mut found);
    errors.extend(found.into_iter().map(|error| error.below(element)));
}

fn check_object(ty: &'static Type, value: &Value, depth: usize, errors: &mut Vec<TypeError>) {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return,
        other => return errors.push(TypeError::new(format!("expected map, got {}", go(other)))),
    };
    for (name, value) in map {
        below(errors, &Element::field(name), |errors| {
            match ty.field(name) {
                Some(field) => {
                    check_value(
                        &field.shape,
                        Form::of_field(field),
                        value,
                        depth + 1,
                        errors,
                    );
                }
                None => errors.push(TypeError::new("field not declared in schema")),
            }
        });
    }
}

fn check_value(
    shape: &'static Shape,
    form: Form<'_>,
    value: &Value,
    depth: usize,
    errors: &mut Vec<TypeError>,
) {
    if depth > MAX_DEPTH {
        return errors.push(TypeError::new("exceeded max depth"));
    }
    match (shape, value) {
        (Shape::Any(_), _) | (_, Value::Null) => {}
        (Shape::Object(ty), _) => check_object(ty.get(), value, depth, errors),
        (Shape::Map(values), Value::Object(map)) => {
            for (name, value) in map {
                below(errors, &Element::field(name), |errors| {
                    check_value(values, Form::of_shape(values), value, depth + 1, errors);
                });
            }
        }
        (Shape::Map(_), other) => {
            errors.push(TypeError::new(format!("expected map, got {}", go(other))));
        }
        (Shape::List(item), Value::Array(items)) => {
            check_items(form, items, errors, |value, errors| {
                check_value(item, Form::of_shape(item), value, depth + 1, errors);
            });
        }
        (Shape::List(_), other) => {
            errors.push(TypeError::new(format!("expected list, got {}", go(other))));
        }
        (scalar, value) => errors.extend(wrong_scalar(scalar, value).map(TypeError::new)),
    }
}

fn check_items(
    form: Form<'_>,
    items: &[Value],
    errors: &mut Vec<TypeError>,
    check: impl Fn(&Value, &mut Vec<TypeError>),
) {
    let mut seen: Vec<Element> = Vec::new();
    for (index, value) in items.iter().enumerate() {
        let element = if matches!(form, Form::Items { .. }) {
            match form.name_of(value) {
                Ok(element) => element,
                Err(error) => {
                    errors.push(TypeError::new(format!("element {index}: {}", error.reason)));
                    return;
                }
            }
        } else {
            Element::Index(i64::try_from(index).unwrap_or(i64::MAX))
        };
        match seen.binary_search(&element) {
            Ok(_) => errors.push(TypeError::new(format!(
                "duplicate entries for key {element}"
            ))),
            Err(at) => seen.insert(at, element.clone()),
        }
        below(errors, &element, |errors| check(value, errors));
    }
}

fn check_node(node: Node<'_>, value: &Value, depth: usize, errors: &mut Vec<TypeError>) {
    if depth > MAX_DEPTH {
        return errors.push(TypeError::new("exceeded max depth"));
    }
    match (node.kind(), value) {
        (_, Value::Null) => {}
        ("object" | "", Value::Object(map)) => {
            for (name, value) in map {
                below(errors, &Element::field(name), |errors| {
                    match node.at(name) {
                        At::Node(below) => check_node(below, value, depth + 1, errors),
                        At::Metadata(ty) => check_object(ty, value, depth + 1, errors),
                        At::Text => {
                            errors.extend(wrong_scalar(&Shape::String, value).map(TypeError::new));
                        }
                        At::Any => {}
                        At::Nothing => errors.push(TypeError::new("field not declared in schema")),
                    }
                });
            }
        }
        ("array", Value::Array(items)) => {
            let item = node.items();
            check_items(node.form(), items, errors, |value, errors| {
                if let Some(item) = item {
                    check_node(item, value, depth + 1, errors);
                }
            });
        }
        ("", _) => {}
        ("object", other) => {
            errors.push(TypeError::new(format!("expected map, got {}", go(other))));
        }
        ("array", other) => {
            errors.push(TypeError::new(format!("expected list, got {}", go(other))));
        }
        (kind, value) => {
            let shape = match kind {
                "integer" | "number" => Shape::Double,
                "boolean" => Shape::Bool,
                "string" if node.is_plain() => Shape::String,
                _ => {
                    if value.is_object() || value.is_array() {
                        let words = format!("expected any scalar, got {}", go(value));
                        errors.push(TypeError::new(words));
                    }
                    return;
                }
            };
            errors.extend(wrong_scalar(&shape, value).map(TypeError::new));
        }
    }
}

fn wrong_scalar(shape: &Shape, value: &Value) -> Option<String> {
    let wanted = match shape {
        Shape::Bool if !value.is_boolean() => format!("expected boolean, got {}", go(value)),
        Shape::Int32 | Shape::Int64 | Shape::Double if !value.is_number() => {
            format!("expected numeric (int or float), got {}", go_type(value))
        }
        Shape::String | Shape::Bytes | Shape::Time | Shape::MicroTime if !value.is_string() => {
            format!(
                "expected string, got &value.valueUnstructured{{Value:{}}}",
                value
            )
        }
        Shape::Quantity | Shape::IntOrString if !value.is_string() && !value.is_number() => {
            format!("expected any scalar, got {}", go(value))
        }
        _ => return None,
    };
    Some(wanted)
}

fn go(value: &Value) -> String {
    match value {
        Value::String(text) => format!("&{{{text}}}"),
        other => format!("&{{{other}}}"),
    }
}

fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}
