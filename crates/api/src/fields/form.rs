//! How server-side apply sees a value: as one leaf, as members, or as items that have names.
//!
//! Invariant: what the table does not say is upstream's default: lists are one value, maps are not.

use serde_json::{Map, Value};

use super::element::Element;
use super::node::Node;
use crate::MAX_DEPTH;
use crate::schema::{Field, ListType, Schema, Shape, Type, TypeRef};
use crate::status::quote;

/// What a value is made of.
#[derive(Debug, Clone, Copy)]
pub enum Form<'a> {
    /// One value: a scalar, or something atomic.
    Leaf,
    /// An object of a type.
    Object(&'static Type),
    /// A map whose values have one shape.
    Map(&'static Shape),
    /// A list whose items are known by their keys, or by their values where there are none.
    Items(Items<'a>),
    /// What a structural schema says of objects, or of anything.
    Node(Node<'a>),
    /// Any JSON: members of objects are apart, lists are one value.
    Free,
}

/// What the items of a list are.
#[derive(Debug, Clone, Copy)]
pub enum Items<'a> {
    /// As the table says.
    Table {
        /// What an item is.
        item: &'static Shape,
        /// Members that make an item's name.
        keys: &'static [&'static str],
    },
    /// As the structural schema of the list says.
    Node(Node<'a>),
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

impl<'a> Form<'a> {
    /// The form of what a schema describes.
    #[must_use]
    pub fn of(schema: &'a Schema) -> Self {
        match schema {
            Schema::Table(ty) => Self::of_type(*ty),
            Schema::Custom(custom) => Node::root(custom.schema()).form(),
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

    pub(super) fn of_shape(shape: &'static Shape) -> Self {
        match shape {
            Shape::Object(ty) => Self::of_type(*ty),
            Shape::Map(values) => Self::Map(values),
            Shape::Any(_) => Self::Free,
            _ => Self::Leaf,
        }
    }

    pub(super) fn of_field(field: &'static Field) -> Self {
        if field.atomic {
            return Self::Leaf;
        }
        let items = |item, keys| Self::Items(Items::Table { item, keys });
        match (&field.shape, field.list) {
            (Shape::List(item), ListType::Set) => items(item, &[]),
            (Shape::List(item), ListType::Map) => items(item, field.keys),
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
            Self::Node(node) => node.member(name),
            Self::Free => (Self::Free, false),
            Self::Leaf | Self::Items { .. } => (Self::Leaf, false),
        }
    }

    /// The form of an item, where items have names.
    pub(super) fn item(self) -> Self {
        match self {
            Self::Items(Items::Table { item, .. }) => Self::of_shape(item),
            Self::Items(Items::Node(node)) => node.item(),
            _ => Self::Leaf,
        }
    }

    /// The form that this value has: [`Form::Free`] is what the value is.
    pub(super) fn seen(self, value: &Value) -> Self {
        match (self, value) {
            (Self::Free | Self::Object(_) | Self::Map(_) | Self::Node(_), Value::Object(_)) => self,
            (Self::Items { .. }, Value::Array(_)) | (_, Value::Null) => self,
            _ => Self::Leaf,
        }
    }

    /// The name of an item among its list.
    pub(super) fn name_of(self, value: &Value) -> Result<Element, TypeError> {
        let Self::Items(items) = self else {
            return Err(TypeError::new("invalid indexing of non-associative list"));
        };
        let named;
        let keys = match items {
            Items::Table { keys, .. } => keys,
            Items::Node(list) => {
                named = list.keys();
                named.as_slice()
            }
        };
        if !keys.is_empty() {
            return keyed(items, keys, value);
        }
        match value {
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
        }
    }
}

fn keyed(items: Items<'_>, keys: &[&str], value: &Value) -> Result<Element, TypeError> {
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
    let default = |key: &str| match items {
        Items::Table {
            item: Shape::Object(ty),
            ..
        } => ty.get().field(key).and_then(default_of),
        Items::Table { .. } => None,
        Items::Node(list) => list.default(key),
    };
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
