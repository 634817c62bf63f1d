//! Schemas of the built-in types, and what the generic pipeline does with them: decode and default.
//!
//! Invariant: an object that leaves [`decode`] has only fields that its type knows, each of the
//! right JSON type.

mod decode;
mod defaults;
mod duplicates;

use std::sync::Arc;

use crate::facts::types::TYPES;
use crate::structural::Custom;

pub(crate) use decode::MAX_PROBLEMS;
pub use decode::{
    DecodeError, Problem, cannot_be_handled, decode, decode_schema, decode_type, strict_error,
};
pub use defaults::{apply_defaults, apply_type_defaults};
pub use duplicates::duplicates;

/// A reference into the table of types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TypeRef(pub(crate) u16);

impl TypeRef {
    /// The type itself.
    #[must_use]
    pub fn get(self) -> &'static Type {
        &TYPES[usize::from(self.0)]
    }
}

/// What describes the objects of a resource.
#[derive(Debug, Clone)]
pub enum Schema {
    /// A type of the table.
    Table(TypeRef),
    /// Of a custom resource.
    Custom(Arc<Custom>),
}

impl Schema {
    /// The type of the table, for what only built-in resources have.
    #[must_use]
    pub fn table(&self) -> Option<TypeRef> {
        match self {
            Self::Table(ty) => Some(*ty),
            Self::Custom(_) => None,
        }
    }
}

impl Schema {
    /// What describes a custom resource.
    #[must_use]
    pub fn custom(&self) -> Option<&Arc<Custom>> {
        match self {
            Self::Table(_) => None,
            Self::Custom(custom) => Some(custom),
        }
    }
}

impl From<TypeRef> for Schema {
    fn from(ty: TypeRef) -> Self {
        Self::Table(ty)
    }
}

/// A type of the API: its fields and what patches and apply must know of it.
#[derive(Debug)]
pub struct Type {
    /// Upstream's OpenAPI name, for example `io.k8s.api.core.v1.Pod`.
    pub name: &'static str,
    /// Fields, sorted by JSON name.
    pub fields: &'static [Field],
    /// Group, version and kind, where the type is the body of a request.
    pub kinds: &'static [Gvk],
    /// Whether server-side apply treats the whole object as one value.
    pub atomic: bool,
}

/// Group, version and kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gvk {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version.
    pub version: &'static str,
    /// Kind.
    pub kind: &'static str,
}

/// A field of a type.
#[derive(Debug, Clone, Copy)]
pub struct Field {
    /// JSON name.
    pub name: &'static str,
    /// What it holds.
    pub shape: Shape,
    /// Whether the OpenAPI document marks it as required.
    pub required: bool,
    /// How server-side apply merges it.
    pub list: ListType,
    /// Keys of a [`ListType::Map`].
    pub keys: &'static [&'static str],
    /// Whether a strategic merge patch merges the list instead of replacing it.
    pub merge: bool,
    /// Whether a strategic merge patch replaces the object instead of merging it.
    pub replace: bool,
    /// Whether a strategic merge patch keeps only the keys it is told to (`retainKeys`).
    pub retain_keys: bool,
    /// Merge key of a strategic merge patch; empty for lists of primitives.
    pub merge_key: &'static str,
    /// Whether server-side apply treats a map or object at this field as one value.
    pub atomic: bool,
    /// Declared default as JSON text; empty where there is none (or it is the zero value).
    pub default: &'static str,
}

impl Field {
    /// What the generated table's entries start from.
    pub(crate) const PLAIN: Self = Self {
        name: "",
        shape: Shape::String,
        required: false,
        list: ListType::Unspecified,
        keys: &[],
        merge: false,
        replace: false,
        retain_keys: false,
        merge_key: "",
        atomic: false,
        default: "",
    };
}

/// What a field, a list's item or a map's value holds.
#[derive(Debug, Clone, Copy)]
pub enum Shape {
    /// A string.
    String,
    /// Bytes as base64.
    Bytes,
    /// A boolean.
    Bool,
    /// A 32-bit integer.
    Int32,
    /// A 64-bit integer.
    Int64,
    /// A floating point number.
    Double,
    /// RFC 3339 in whole seconds.
    Time,
    /// RFC 3339 in microseconds.
    MicroTime,
    /// A resource quantity: a string, or a number that becomes one.
    Quantity,
    /// An integer or a string.
    IntOrString,
    /// Any JSON value (`RawExtension`, `FieldsV1`, `JSON`).
    Any(TypeRef),
    /// An object of a type of the table.
    Object(TypeRef),
    /// A list.
    List(&'static Shape),
    /// A map from strings.
    Map(&'static Shape),
}

/// `x-kubernetes-list-type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListType {
    /// Not a list, or a list without the extension: one value.
    Unspecified,
    /// One value.
    Atomic,
    /// A set of scalars.
    Set,
    /// An associative list.
    Map,
}

impl Type {
    /// The last part of its name: `PodSpec`.
    #[must_use]
    pub fn short_name(&self) -> &'static str {
        self.name
            .rsplit_once('.')
            .map_or(self.name, |(_, name)| name)
    }

    /// The field called `name`.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields
            .binary_search_by(|f| f.name.cmp(name))
            .ok()
            .map(|i| &self.fields[i])
    }
}

/// All types of the table.
#[must_use]
pub fn types() -> &'static [Type] {
    TYPES
}

/// The type called `name` (upstream's OpenAPI name).
#[must_use]
pub fn type_by_name(name: &str) -> Option<TypeRef> {
    let index = TYPES.binary_search_by(|t| t.name.cmp(name)).ok()?;
    u16::try_from(index).ok().map(TypeRef)
}

/// The type that is the body of `group`/`version`/`kind`: resources, lists, and bodies such as
/// `DeleteOptions`, `Scale` or `Eviction`.
#[must_use]
pub fn type_of(group: &str, version: &str, kind: &str) -> Option<TypeRef> {
    let index = TYPES.iter().position(|t| {
        t.kinds
            .iter()
            .any(|k| k.kind == kind && k.version == version && k.group == group)
    })?;
    u16::try_from(index).ok().map(TypeRef)
}
