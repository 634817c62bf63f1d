//! How server-side apply sees what a structural schema describes.
//!
//! Invariant: what a schema leaves open has the form that its values have.

use serde_json::Value;

use super::form::{Form, Items};
use crate::schema::{Type, type_by_name};
use crate::structural::{
    self, EMBEDDED, LIST_TYPE, MAP_TYPE, OBJECT_META, PRESERVE, flag, properties, text,
};

/// A structural schema, with what it inherits.
#[derive(Debug, Clone, Copy)]
pub struct Node<'a> {
    schema: &'a Value,
    /// Whether it, or what it is part of, keeps fields that it does not name.
    open: bool,
    /// Whether its objects have metadata, a kind and a version of their own.
    resource: bool,
}

/// What stands at a member of an object.
pub(super) enum At<'a> {
    /// What a schema describes.
    Node(Node<'a>),
    /// Metadata.
    Metadata(&'static Type),
    /// The kind or the version.
    Text,
    /// Anything.
    Any,
    /// Nothing may be there.
    Nothing,
}

impl<'a> Node<'a> {
    /// Of whole objects.
    pub(super) fn root(schema: &'a Value) -> Self {
        Self {
            schema,
            open: flag(schema, PRESERVE),
            resource: true,
        }
    }

    fn below(self, schema: &'a Value) -> Self {
        Self {
            schema,
            open: self.open || flag(schema, PRESERVE),
            resource: flag(schema, EMBEDDED),
        }
    }

    /// Its `type`; empty for anything.
    pub(super) fn kind(self) -> &'a str {
        text(self.schema, "type")
    }

    /// Whether it has no format, so that a text must be a text.
    pub(super) fn is_plain(self) -> bool {
        matches!(text(self.schema, "format"), "" | "byte")
    }

    /// Its form.
    pub(super) fn form(self) -> Form<'a> {
        match (self.kind(), text(self.schema, LIST_TYPE)) {
            ("" | "object", _) if text(self.schema, MAP_TYPE) == "atomic" => Form::Leaf,
            ("" | "object", _) => Form::Node(self),
            ("array", "map" | "set") => Form::Items(Items::Node(self)),
            _ => Form::Leaf,
        }
    }

    /// What stands at a member.
    pub(super) fn at(self, name: &str) -> At<'a> {
        if self.resource {
            match name {
                "apiVersion" | "kind" => return At::Text,
                "metadata" => {
                    return type_by_name(OBJECT_META).map_or(At::Any, |ty| At::Metadata(ty.get()));
                }
                _ => {}
            }
        }
        let named = properties(self.schema);
        if let Some(schema) = named.and_then(|all| all.get(name)) {
            return At::Node(self.below(schema));
        }
        match self.schema.get("additionalProperties") {
            Some(schema @ Value::Object(_)) => At::Node(self.below(schema)),
            Some(Value::Bool(true)) => At::Any,
            Some(_) => At::Nothing,
            None if self.open => At::Any,
            None if !self.resource && named.is_none_or(serde_json::Map::is_empty) => At::Any,
            None => At::Nothing,
        }
    }

    /// The form of a member; whether the schema names it.
    pub(super) fn member(self, name: &str) -> (Form<'a>, bool) {
        match self.at(name) {
            At::Node(below) => {
                let named = properties(self.schema).is_some_and(|all| all.contains_key(name));
                (below.form(), named)
            }
            At::Metadata(ty) => (Form::Object(ty), true),
            At::Text => (Form::Leaf, true),
            At::Any | At::Nothing => (Form::Free, false),
        }
    }

    /// The schema of an item.
    pub(super) fn items(self) -> Option<Self> {
        let schema = self.schema.get("items")?;
        Some(self.below(schema))
    }

    /// The form of an item.
    pub(super) fn item(self) -> Form<'a> {
        self.items().map_or(Form::Leaf, Self::form)
    }

    /// The members that name an item; none where its value does.
    pub(super) fn keys(self) -> Vec<&'a str> {
        structural::list_keys(self.schema)
    }

    /// The default of an item's key.
    pub(super) fn default(self, key: &str) -> Option<Value> {
        let items = properties(self.schema.get("items")?)?;
        items.get(key)?.get("default").cloned()
    }
}
