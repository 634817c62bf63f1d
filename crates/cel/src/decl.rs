//! What the data behind a variable looks like: the types of its fields, and how large each can be.
//!
//! Invariant: a declaration is a tree; its depth is that of the schema that it was made from.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::types::Type;

/// The size of the largest request, in bytes; nothing is larger.
pub const MAX_REQUEST_SIZE_BYTES: u64 = 3 * 1024 * 1024;

/// How two lists are compared and added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListKind {
    /// In their order.
    Atomic,
    /// As sets.
    Set,
    /// By the values of these fields of each element.
    Map(Vec<String>),
}

/// What a JSON value stands for.
#[derive(Debug, Clone, PartialEq)]
pub enum Shape {
    /// Whatever it is.
    Dyn,
    /// `bool`.
    Bool,
    /// `int`.
    Int,
    /// `double`, also when it is written as an integer.
    Double,
    /// `string`.
    String,
    /// `bytes`, in base64.
    Bytes,
    /// A point in time, by RFC 3339.
    Timestamp,
    /// A point in time that is a date alone.
    Date,
    /// A span of time, as `1h30m`.
    Duration,
    /// A list.
    List(Arc<Decl>, ListKind),
    /// A map from strings.
    Map(Arc<Decl>),
    /// Fields that are known, by the names that expressions use.
    Object(Arc<str>, BTreeMap<String, FieldDecl>),
}

/// A field of an object.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldDecl {
    /// The key in the data.
    pub name: String,
    /// What its value is.
    pub decl: Arc<Decl>,
}

/// A declaration: the shape, and bounds on its size.
#[derive(Debug, Clone, PartialEq)]
pub struct Decl {
    /// What it stands for.
    pub shape: Shape,
    /// The most elements, entries, or characters.
    pub max_elements: u64,
    /// The fewest bytes of its JSON.
    pub min_bytes: u64,
}

/// What is not declared.
pub(crate) static DYN: Decl = Decl {
    shape: Shape::Dyn,
    max_elements: 0,
    min_bytes: 1,
};

impl Decl {
    /// Of a shape, with bounds that follow from it alone.
    #[must_use]
    pub fn new(shape: Shape) -> Self {
        let limit = MAX_REQUEST_SIZE_BYTES;
        let (max_elements, min_bytes) = match &shape {
            Shape::Dyn => (0, 1),
            Shape::Bool => (0, 4),
            Shape::Int | Shape::Double => (0, 1),
            Shape::String | Shape::Bytes => (limit - 2, 2),
            Shape::Timestamp => (32, 21),
            Shape::Date => (12, 12),
            Shape::Duration => (32, 3),
            Shape::List(element, _) => (estimate_list(element.min_bytes), 2),
            // A key with quotes, colon and comma belong to each value.
            Shape::Map(value) => ((limit - 2) / (value.min_bytes + 6), 2),
            Shape::Object(_, _) => (i64::MAX.unsigned_abs(), 2),
        };
        Self {
            shape,
            max_elements,
            min_bytes,
        }
    }

    /// A declared object.
    #[must_use]
    pub fn object<'a>(name: &str, fields: impl IntoIterator<Item = (&'a str, Arc<Decl>)>) -> Self {
        let fields = fields.into_iter().map(|(name, decl)| {
            let field = FieldDecl {
                name: name.to_owned(),
                decl,
            };
            (name.to_owned(), field)
        });
        Self::new(Shape::Object(name.into(), fields.collect()))
    }

    /// The static type.
    #[must_use]
    pub fn ty(&self) -> Type {
        match &self.shape {
            Shape::Dyn => Type::Dyn,
            Shape::Bool => Type::Bool,
            Shape::Int => Type::Int,
            Shape::Double => Type::Double,
            Shape::String => Type::String,
            Shape::Bytes => Type::Bytes,
            Shape::Timestamp | Shape::Date => Type::Timestamp,
            Shape::Duration => Type::Duration,
            Shape::List(element, _) => Type::list(element.ty()),
            Shape::Map(value) => Type::map(Type::String, value.ty()),
            Shape::Object(name, _) => Type::Object(name.clone()),
        }
    }

    /// What a step of a path leads to: a field, `@items`, `@keys`, `@values`.
    pub(crate) fn step(&self, step: &str) -> Option<&Decl> {
        match (&self.shape, step) {
            (Shape::List(element, _), "@items") => Some(element),
            (Shape::Map(value), "@values") => Some(value),
            (Shape::Map(_), "@keys") => Some(&KEY),
            (Shape::Object(_, fields), name) => fields.get(name).map(|field| &*field.decl),
            _ => None,
        }
    }

    /// Every object declared here or below, by its name.
    pub(crate) fn objects(self: &Arc<Self>, found: &mut BTreeMap<Arc<str>, Arc<Decl>>) {
        match &self.shape {
            Shape::List(inner, _) | Shape::Map(inner) => inner.objects(found),
            Shape::Object(name, fields) if !found.contains_key(name) => {
                found.insert(name.clone(), self.clone());
                for field in fields.values() {
                    field.decl.objects(found);
                }
            }
            _ => {}
        }
    }
}

static KEY: Decl = Decl {
    shape: Shape::String,
    max_elements: MAX_REQUEST_SIZE_BYTES - 2,
    min_bytes: 2,
};

/// The most elements of a list in the largest request.
#[must_use]
pub fn estimate_list(element_bytes: u64) -> u64 {
    (MAX_REQUEST_SIZE_BYTES - 2) / (element_bytes + 1)
}

/// Words that cannot be the name of a field in an expression.
const RESERVED: &[&str] = &[
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name by which expressions reach a property; none when they cannot.
#[must_use]
pub fn escape(property: &str) -> Option<String> {
    let first = property.chars().next()?;
    if first.is_ascii_digit() {
        return None;
    }
    if RESERVED.contains(&property) {
        return Some(format!("__{property}__"));
    }
    let mut escaped = String::with_capacity(property.len());
    let mut rest = property;
    while let Some(char) = rest.chars().next() {
        let (piece, taken) = match char {
            '_' if rest.starts_with("__") => ("__underscores__", 2),
            '.' => ("__dot__", 1),
            '-' => ("__dash__", 1),
            '/' => ("__slash__", 1),
            char if char.is_ascii_alphanumeric() || char == '_' => (rest.get(..1)?, 1),
            _ => return None,
        };
        escaped.push_str(piece);
        rest = rest.get(taken..)?;
    }
    Some(escaped)
}
