//! How server-side apply sees a value: as one leaf, as members, or as items that have names.
//!
//! Invariant: what the table does not say is upstream's default: lists are one value, maps are not.

use serde_json::{Map, Value};

use super::element::Element;
use crate::MAX_DEPTH;
use crate::schema::{Field, ListType, Schema, Shape, Type, TypeRef};
use crate::status::quote;

/// What a value is made of.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    /// One value: a scalar, or something atomic.
    Leaf,
    /// An object of a type.
    Object(&'static Type),
    /// A map whose values have one shape.
    Map(&'static Shape),
    /// A list whose items are known by their keys, or by their values where there are none.
    Items {
        /// What an item is.
        item: &'static Shape,
        /// Members that make an item's name.
        keys: &'static [&'static str],
    },
    /// Any JSON: members of objects are apart, lists are one value.
    Free,
}

/// Why a value is not of its type; in the words of upstream.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}{}{reason}", if path.is_empty() { "" } else { ": " })]
pub struct TypeError {
    /// Where: `.spec.ports[name="a"]`.
    pub path: String,
    /// What is wrong there.
    pub reason: String,
}

impl TypeError {
    pub(super) fn new(reason: impl Into<String>) -> Self {
        Self {
            path: String::new(),
            reason: reason.into(),
        }
    }

    pub(super) fn below(mut self, element: &Element) -> Self {
        self.path.insert_str(0, &element.to_string());
        self
    }
}

impl Form {
    /// The form of what a schema describes.
    #[must_use]
    pub fn of(schema: &Schema) -> Self {
        match schema {
            Schema::Table(ty) => Self::of_type(*ty),
            Schema::Custom(_) => Self::Free,
        }
    }

    /// The form of objects of a type.
    #[must_use]
    pub fn of_type(ty: TypeRef) -> Self {
        let ty = ty.get();
        if ty.atomic {
            Self::Leaf
        } else {
            Self::Object(ty)
        }
    }

    fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object(ty) => Self::of_type(*ty),
            Shape::Map(values) => Self::Map(values),
            Shape::Any(_) => Self::Free,
            _ => Self::Leaf,
        }
    }

    fn of_field(field: &'static Field) -> Self {
        if field.atomic {
            return Self::Leaf;
        }
        match (&field.shape, field.list) {
            (Shape::List(item), ListType::Set) => Self::Items { item, keys: &[] },
            (Shape::List(item), ListType::Map) => Self::Items {
                item,
                keys: field.keys,
            },
            (shape, _) => Self::of_shape(shape),
        }
    }

    /// The form of a member; whether the type names it.
    pub(super) fn member(self, name: &str) -> (Self, bool) {
        match self {
            Self::Object(ty) => ty
                .field(name)
                .map_or((Self::Free, false), |field| (Self::of_field(field), true)),
            Self::Map(values) => (Self::of_shape(values), false),
            Self::Free => (Self::Free, false),
            Self::Leaf | Self::Items { .. } => (Self::Leaf, false),
        }
    }

    /// The form of an item, where items have names.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Items { item, .. } => Self::of_shape(item),
            _ => Self::Leaf,
        }
    }

    /// The form that this value has: [`Form::Free`] is what the value is.
    pub(super) fn seen(self, value: &Value) -> Self {
        match (self, value) {
            (Self::Free, Value::Object(_)) | (Self::Object(_) | Self::Map(_), Value::Object(_)) => {
                self
            }
            (Self::Items { .. }, Value::Array(_)) | (_, Value::Null) => self,
            _ => Self::Leaf,
        }
    }

    /// The name of an item among its list.
    pub(super) fn name_of(self, value: &Value) -> Result<Element, TypeError> {
        match self {
            Self::Items { keys: [], .. } => match value {
                Value::Object(_) => Err(TypeError::new(
                    "associative list without keys has an element that's a map type",
                )),
                Value::Array(_) => Err(TypeError::new(
                    "not supported: associative list with lists as elements",
                )),
                Value::Null => Err(TypeError::new(
                    "associative list without keys has an element that's an explicit null",
                )),
                scalar => Ok(Element::Value(scalar.clone())),
            },
            Self::Items { item, keys } => keyed(item, keys, value),
            _ => Err(TypeError::new("invalid indexing of non-associative list")),
        }
    }
}

fn keyed(item: &Shape, keys: &'static [&'static str], value: &Value) -> Result<Element, TypeError> {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => {
            return Err(TypeError::new(
                "associative list with keys may not have a null element",
            ));
        }
        _ => {
            return Err(TypeError::new(
                "associative list with keys may not have non-map elements",
            ));
        }
    };
    let default = |key: &str| match item {
        Shape::Object(ty) => ty.get().field(key).and_then(default_of),
        _ => None,
    };
    // The table's keys are sorted, as the names of an element must be.
    let mut found: Vec<(Box<str>, Value)> = keys
        .iter()
        .filter_map(|key| {
            let value = map.get(*key).cloned().or_else(|| default(key))?;
            Some(((*key).into(), value))
        })
        .collect();
    found.sort_by(|a, b| a.0.cmp(&b.0));
    if found.is_empty() {
        let names: Vec<String> = keys.iter().map(|key| quote(key)).collect();
        return Err(TypeError::new(format!(
            "associative list with keys has an element that omits all key fields [{}] (and doesn't have default values for any key fields)",
            names.join(" ")
        )));
    }
    Ok(Element::Key(found))
}

fn default_of(field: &Field) -> Option<Value> {
    if field.default.is_empty() {
        return None;
    }
    serde_json::from_str(field.default).ok()
}

/// An object of a type with nothing set: only what upstream's structs always write.
///
/// What is there already is not new to an object that is created, so that nobody is told to have set
/// it: `f:spec` is nobody's, `f:replicas` is.
pub(super) fn zero(schema: &Schema) -> Value {
    match schema {
        Schema::Table(ty) => zero_object(ty.get(), 0),
        Schema::Custom(_) => Value::Object(Map::new()),
    }
}

fn zero_object(ty: &'static Type, depth: usize) -> Value {
    let mut map = Map::new();
    if depth > MAX_DEPTH {
        return Value::Object(map);
    }
    for field in ty.fields {
        let value = match (&field.shape, field.default) {
            (Shape::Object(ty), "{}") => zero_object(ty.get(), depth + 1),
            _ if field.required => default_of(field).unwrap_or(Value::Null),
            _ => continue,
        };
        map.insert(field.name.to_owned(), value);
    }
    Value::Object(map)
}

/// What is wrong with an applied object; upstream's checks of a typed value.
///
/// # Errors
/// With all problems, in upstream's one text.
pub(super) fn check(schema: &Schema, value: &Value) -> Result<(), String> {
    let mut errors = Vec::new();
    match schema {
        Schema::Table(ty) => check_object(ty.get(), value, 0, &mut errors),
        Schema::Custom(_) => {}
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
    form: Form,
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
            check_items(item, form, items, depth, errors);
        }
        (Shape::List(_), other) => {
            errors.push(TypeError::new(format!("expected list, got {}", go(other))));
        }
        (scalar, value) => errors.extend(wrong_scalar(scalar, value).map(TypeError::new)),
    }
}

fn check_items(
    item: &'static Shape,
    form: Form,
    items: &[Value],
    depth: usize,
    errors: &mut Vec<TypeError>,
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
        below(errors, &element, |errors| {
            check_value(item, Form::of_shape(item), value, depth + 1, errors);
        });
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
