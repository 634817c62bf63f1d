//! The form of the generated table of field numbers, and what of it is found by type.

use std::sync::LazyLock;

use crate::facts::proto::MESSAGES;
use crate::schema::{TypeRef, type_by_name, types};

/// The message of a type.
#[derive(Debug)]
pub(crate) struct Message {
    /// The type's OpenAPI name.
    pub(crate) name: &'static str,
    /// Its fields by ascending number.
    pub(crate) members: &'static [Member],
}

/// A field of a message: its number and its JSON name.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Member {
    /// Absent and zero differ (a pointer, or bytes).
    Pointer(u16, &'static str),
    /// Always written; its zero value is shown in JSON.
    Kept(u16, &'static str),
    /// Always written; its zero value is not shown in JSON.
    Omitted(u16, &'static str),
    /// A list or a map.
    Many(u16, &'static str),
    /// A list (or a map of lists) whose lists are messages of their own on the wire.
    Wrapped(u16, &'static str),
    /// A message whose fields are the outer object's own in JSON.
    Inline(u16, &'static [Member]),
}

impl Member {
    pub(crate) fn number(&self) -> u16 {
        match self {
            Self::Pointer(number, _)
            | Self::Kept(number, _)
            | Self::Omitted(number, _)
            | Self::Many(number, _)
            | Self::Wrapped(number, _)
            | Self::Inline(number, _) => *number,
        }
    }
}

/// The members of each type, by the type's place in the table of types.
static BY_TYPE: LazyLock<Vec<&'static [Member]>> = LazyLock::new(|| {
    let of = |name: &str| {
        let found = MESSAGES.binary_search_by(|m| m.name.cmp(name));
        found.map_or(&[][..], |at| MESSAGES[at].members)
    };
    types().iter().map(|ty| of(ty.name)).collect()
});

/// The members of a type's message; none for types that have no message.
pub(crate) fn members(ty: TypeRef) -> &'static [Member] {
    BY_TYPE.get(usize::from(ty.0)).copied().unwrap_or_default()
}

/// Types that the codec names itself.
pub(crate) struct Own {
    pub(crate) object_meta: TypeRef,
    pub(crate) list_meta: TypeRef,
    pub(crate) json_schema: TypeRef,
}

/// Those types; none only if the generated table lacks them.
pub(crate) static OWN: LazyLock<Option<Own>> = LazyLock::new(|| {
    Some(Own {
        object_meta: type_by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")?,
        list_meta: type_by_name("io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta")?,
        json_schema: type_by_name(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps",
        )?,
    })
});

/// What an envelope of a kind holds.
#[derive(Clone, Copy)]
pub(crate) enum Content {
    /// A type of the table.
    Typed(TypeRef),
    /// `PartialObjectMetadata`.
    Metadata,
    /// `PartialObjectMetadataList`.
    MetadataList,
}

/// What the envelope of `kind` in `api_version` holds, if it is known and has a message.
pub(crate) fn content(api_version: &str, kind: &str) -> Option<Content> {
    let (group, version) = crate::resource::split_api_version(api_version);
    if group == "meta.k8s.io" {
        return match kind {
            "PartialObjectMetadata" => Some(Content::Metadata),
            "PartialObjectMetadataList" => Some(Content::MetadataList),
            _ => None,
        };
    }
    let found = crate::schema::type_of(group, version, kind).or_else(|| {
        // These are registered in every group version.
        matches!(kind, "DeleteOptions" | "Status" | "WatchEvent")
            .then(|| crate::schema::type_of("", "v1", kind))
            .flatten()
    })?;
    (!members(found).is_empty()).then_some(Content::Typed(found))
}

/// The types whose JSON is not that of their fields.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Special {
    /// JSON in one bytes field (`RawExtension`, `FieldsV1`, `JSON`).
    Raw,
    /// A schema or a list of schemas.
    SchemaOrArray,
    /// A schema or a boolean.
    SchemaOrBool,
    /// A schema or a list of strings.
    SchemaOrStrings,
}

impl Special {
    pub(crate) fn of(ty: TypeRef) -> Self {
        match ty.get().short_name() {
            "JSONSchemaPropsOrArray" => Self::SchemaOrArray,
            "JSONSchemaPropsOrBool" => Self::SchemaOrBool,
            "JSONSchemaPropsOrStringArray" => Self::SchemaOrStrings,
            _ => Self::Raw,
        }
    }
}
