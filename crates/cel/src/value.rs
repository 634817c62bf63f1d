//! Values: those of the data, wrapped where they lie, and those that expressions make.
//!
//! Invariant: wrapping JSON copies nothing but scalars; cloning a value copies no collection.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Deref;
use std::rc::Rc;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value as Json;

use crate::decl::{DYN, Decl, FieldDecl, ListKind, Shape};
use crate::error::EvalError;
use crate::eval::Context;
use crate::extension::Extension;
use crate::functions::time::{parse_date, parse_duration, parse_timestamp};
use crate::types::Type;

/// A string, borrowed from the data or made.
#[derive(Clone)]
pub enum Text<'a> {
    /// Of the data, or of the expression.
    Borrowed(&'a str),
    /// Made.
    Shared(Rc<str>),
}

impl Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Borrowed(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl fmt::Debug for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl Borrow<str> for Text<'_> {
    fn borrow(&self) -> &str {
        self
    }
}

impl PartialEq for Text<'_> {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text<'_> {}

impl PartialOrd for Text<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

/// A list.
#[derive(Clone, Debug)]
pub enum List<'a> {
    /// Of the data.
    Json(&'a [Json], &'a Decl, &'a ListKind),
    /// Made.
    Built(Rc<Vec<Value<'a>>>),
}

/// A key of a map that an expression made. Numbers that are equal are one key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key<'a> {
    /// `false` or `true`.
    Bool(bool),
    /// `int` or `uint`.
    Number(i128),
    /// `string`.
    String(Text<'a>),
}

/// The entries of a map that an expression made; each keeps its key as it was written.
pub type Entries<'a> = BTreeMap<Key<'a>, (Value<'a>, Value<'a>)>;

/// A map.
#[derive(Clone, Debug)]
pub enum Map<'a> {
    /// Of the data; the declaration is that of the values.
    Json(&'a serde_json::Map<String, Json>, &'a Decl),
    /// Made.
    Built(Rc<Entries<'a>>),
}

/// An object whose fields are declared.
#[derive(Clone, Debug)]
pub enum Object<'a> {
    /// Of the data.
    Json {
        /// The data.
        data: &'a serde_json::Map<String, Json>,
        /// The type's name.
        name: &'a Arc<str>,
        /// The fields by the names that expressions use.
        fields: &'a BTreeMap<String, FieldDecl>,
    },
    /// Made by `Name{...}`.
    Built(Rc<Built<'a>>),
}

/// An object that an expression made.
#[derive(Debug)]
pub struct Built<'a> {
    /// The type's name.
    pub name: Arc<str>,
    /// The fields that were set.
    pub fields: BTreeMap<String, Value<'a>>,
}

/// Fields that are computed when they are asked for.
pub trait Fields<'a> {
    /// The value of a field, or nothing when there is none of that name.
    fn get(&self, context: &mut Context<'a>, field: &str) -> Option<Result<Value<'a>, EvalError>>;
}

/// A value.
#[derive(Clone)]
#[non_exhaustive]
pub enum Value<'a> {
    /// `null`.
    Null,
    /// `bool`.
    Bool(bool),
    /// `int`.
    Int(i64),
    /// `uint`.
    Uint(u64),
    /// `double`.
    Double(f64),
    /// `string`.
    String(Text<'a>),
    /// `bytes`.
    Bytes(Rc<[u8]>),
    /// A span of time, in nanoseconds.
    Duration(i64),
    /// A point in time.
    Timestamp(Timestamp),
    /// A list.
    List(List<'a>),
    /// A map.
    Map(Map<'a>),
    /// An object.
    Object(Object<'a>),
    /// An optional.
    Optional(Option<Rc<Value<'a>>>),
    /// A type.
    Type(Type),
    /// What a library brings.
    Extension(Rc<Extension>),
    /// An object whose fields are computed.
    Lazy(Rc<dyn Fields<'a> + 'a>),
}

impl fmt::Debug for Value<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("null"),
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Uint(value) => write!(f, "{value}u"),
            Self::Double(value) => write!(f, "{value:?}"),
            Self::String(value) => write!(f, "{value:?}"),
            Self::Bytes(value) => write!(f, "b{:?}", String::from_utf8_lossy(value)),
            Self::Duration(nanos) => write!(f, "duration({nanos}ns)"),
            Self::Timestamp(value) => write!(f, "timestamp({value})"),
            Self::List(value) => write!(f, "{value:?}"),
            Self::Map(value) => write!(f, "{value:?}"),
            Self::Object(value) => write!(f, "{value:?}"),
            Self::Optional(value) => write!(f, "optional({value:?})"),
            Self::Type(value) => write!(f, "{value}"),
            Self::Extension(value) => write!(f, "{value:?}"),
            Self::Lazy(_) => f.write_str("{...}"),
        }
    }
}

/// What a step has for its value.
pub(crate) type Evaluated<'a> = Result<Value<'a>, EvalError>;

impl<'a> Value<'a> {
    /// JSON of which nothing is declared.
    ///
    /// # Errors
    /// None for JSON without a declaration; the type is that of [`Value::wrap`].
    pub fn json(json: &'a Json) -> Result<Self, EvalError> {
        Self::wrap(json, &DYN)
    }

    /// JSON as its declaration says.
    ///
    /// # Errors
    /// The data is not of the declared type.
    pub fn wrap(json: &'a Json, decl: &'a Decl) -> Result<Self, EvalError> {
        Ok(match (&decl.shape, json) {
            (_, Json::Null) => Self::Null,
            (Shape::Dyn | Shape::Bool, Json::Bool(value)) => Self::Bool(*value),
            (Shape::Double, Json::Number(number)) => {
                Self::Double(number.as_f64().unwrap_or_default())
            }
            (Shape::Int, Json::Number(number)) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Self::Int(whole),
                (None, Some(number)) => Self::Int(crate::number::double_to_int(number)?),
                _ => return Err(mismatch("int")),
            },
            (Shape::Dyn, Json::Number(number)) => match number.as_i64() {
                Some(whole) => Self::Int(whole),
                None => Self::Double(number.as_f64().unwrap_or_default()),
            },
            (Shape::Dyn | Shape::String, Json::String(text)) => Self::text(text),
            (Shape::Bytes, Json::String(text)) => {
                use base64::Engine as _;
                let bytes = base64::engine::general_purpose::STANDARD.decode(text);
                Self::Bytes(bytes.map_err(|_| mismatch("byte"))?.into())
            }
            (Shape::Timestamp, Json::String(text)) => Self::Timestamp(parse_timestamp(text)?),
            (Shape::Date, Json::String(text)) => Self::Timestamp(parse_date(text)?),
            (Shape::Duration, Json::String(text)) => Self::Duration(parse_duration(text)?),
            (Shape::Dyn, Json::Array(items)) => {
                Self::List(List::Json(items, &DYN, &ListKind::Atomic))
            }
            (Shape::List(element, kind), Json::Array(items)) => {
                Self::List(List::Json(items, element, kind))
            }
            (Shape::Dyn, Json::Object(map)) => Self::Map(Map::Json(map, &DYN)),
            (Shape::Map(value), Json::Object(map)) => Self::Map(Map::Json(map, value)),
            (Shape::Object(name, fields), Json::Object(data)) => {
                Self::Object(Object::Json { data, name, fields })
            }
            (Shape::List(..), _) => return Err(mismatch("array")),
            (Shape::Map(..) | Shape::Object(..), _) => return Err(mismatch("object")),
            (Shape::Bool, _) => return Err(mismatch("boolean")),
            (Shape::Int, _) => return Err(mismatch("integer")),
            (Shape::Double, _) => return Err(mismatch("number")),
            _ => return Err(mismatch("string")),
        })
    }

    /// A string of the data.
    #[must_use]
    pub fn text(text: &'a str) -> Self {
        Self::String(Text::Borrowed(text))
    }

    /// A string that was made.
    #[must_use]
    pub fn made(text: impl Into<Rc<str>>) -> Self {
        Self::String(Text::Shared(text.into()))
    }

    pub(crate) fn built_list(items: Vec<Value<'a>>) -> Self {
        Self::List(List::Built(Rc::new(items)))
    }

    pub(crate) fn built_map(entries: Entries<'a>) -> Self {
        Self::Map(Map::Built(Rc::new(entries)))
    }

    pub(crate) fn some(value: Value<'a>) -> Self {
        Self::Optional(Some(Rc::new(value)))
    }

    pub(crate) fn extension(extension: Extension) -> Self {
        Self::Extension(Rc::new(extension))
    }

    /// The bool that it is.
    #[must_use]
    pub fn as_bool(&self) -> Option<bool> {
        match self {
            Self::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// The string that it is.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::String(text) => Some(text),
            _ => None,
        }
    }

    /// The run-time type.
    #[must_use]
    pub fn ty(&self) -> Type {
        match self {
            Self::Null => Type::Null,
            Self::Bool(_) => Type::Bool,
            Self::Int(_) => Type::Int,
            Self::Uint(_) => Type::Uint,
            Self::Double(_) => Type::Double,
            Self::String(_) => Type::String,
            Self::Bytes(_) => Type::Bytes,
            Self::Duration(_) => Type::Duration,
            Self::Timestamp(_) => Type::Timestamp,
            Self::List(_) => Type::list(Type::Dyn),
            Self::Map(_) => Type::map(Type::Dyn, Type::Dyn),
            Self::Object(Object::Json { name, .. }) => Type::Object(Arc::clone(name)),
            Self::Object(Object::Built(built)) => Type::Object(Arc::clone(&built.name)),
            Self::Optional(_) => Type::optional(Type::Dyn),
            Self::Type(_) => Type::Type(None),
            Self::Extension(extension) => extension.ty(),
            Self::Lazy(_) => Type::Dyn,
        }
    }

    /// As a key of a map; also for a double that is whole.
    pub(crate) fn key(&self) -> Option<Key<'a>> {
        Some(match self {
            Self::Bool(value) => Key::Bool(*value),
            Self::Int(value) => Key::Number(i128::from(*value)),
            Self::Uint(value) => Key::Number(i128::from(*value)),
            Self::Double(value) => Key::Number(crate::number::whole(*value)?),
            Self::String(text) => Key::String(text.clone()),
            _ => return None,
        })
    }

    /// Elements, entries, characters or bytes; nothing for what has no size.
    pub(crate) fn size(&self) -> Option<u64> {
        let size = match self {
            Self::String(text) => text.chars().count(),
            Self::Bytes(bytes) => bytes.len(),
            Self::List(list) => list.len(),
            Self::Map(map) => map.len(),
            Self::Extension(extension) => return extension.size(),
            _ => return None,
        };
        Some(size as u64)
    }
}

impl<'a> List<'a> {
    /// How many elements.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(items, ..) => items.len(),
            Self::Built(items) => items.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// One element, or nothing beyond the end.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json(items, element, _) => {
                items.get(index).map(|item| Value::wrap(item, element))
            }
            Self::Built(items) => items.get(index).cloned().map(Ok),
        }
    }

    /// Every element.
    pub fn iter(&self) -> impl Iterator<Item = Result<Value<'a>, EvalError>> + '_ {
        (0..self.len()).filter_map(|index| self.get(index))
    }

    pub(crate) fn kind(&self) -> &ListKind {
        match self {
            Self::Json(_, _, kind) => kind,
            Self::Built(_) => &ListKind::Atomic,
        }
    }
}

impl<'a> Map<'a> {
    /// How many entries.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Json(map, _) => map.len(),
            Self::Built(entries) => entries.len(),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn get(&self, key: &Key<'a>) -> Option<Result<Value<'a>, EvalError>> {
        match (self, key) {
            (Self::Json(map, value), Key::String(name)) => {
                map.get(&**name).map(|json| Value::wrap(json, value))
            }
            (Self::Json(..), _) => None,
            (Self::Built(entries), key) => entries.get(key).map(|(_, value)| Ok(value.clone())),
        }
    }

    /// Every key and value.
    pub fn iter(&self) -> Box<dyn Iterator<Item = Result<(Value<'a>, Value<'a>), EvalError>> + '_> {
        match self {
            Self::Json(map, value) => {
                let (map, value) = (*map, *value);
                Box::new(
                    map.iter()
                        .map(move |(key, json)| Ok((Value::text(key), Value::wrap(json, value)?))),
                )
            }
            Self::Built(entries) => Box::new(entries.values().cloned().map(Ok)),
        }
    }
}

impl<'a> Object<'a> {
    /// The value of a field that is set.
    #[must_use]
    pub fn get(&self, field: &str) -> Option<Result<Value<'a>, EvalError>> {
        match self {
            Self::Json { data, fields, .. } => {
                let field = fields.get(field)?;
                data.get(&field.name)
                    .map(|json| Value::wrap(json, &field.decl))
            }
            Self::Built(built) => built.fields.get(field).cloned().map(Ok),
        }
    }
}

fn mismatch(expected: &str) -> EvalError {
    EvalError::failed(format!("invalid data, expected a value of type={expected}"))
}
