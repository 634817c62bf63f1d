//! Schemas of types, in the dialect of OpenAPI v2 or v3, with upstream's extensions.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ListMeta, ObjectMeta};
use k8s_openapi::schemars::generate::SchemaGenerator;
use serde_json::{Map, Value, json};

use super::custom;
use crate::facts::described::describe;
use crate::resource::{Resource, all};
use crate::schema::{Field, Gvk, ListType, Shape, Type, TypeRef, type_by_name};

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";
const INT_OR_STRING: &str = "io.k8s.apimachinery.pkg.util.intstr.IntOrString";

/// Version of OpenAPI.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    /// `definitions`, no `oneOf`, no defaults.
    V2,
    /// `components/schemas`.
    V3,
}

impl Dialect {
    /// A reference to a type.
    pub(super) fn reference(self, name: &str) -> Value {
        let place = if self == Self::V2 {
            "#/definitions/"
        } else {
            "#/components/schemas/"
        };
        json!({"$ref": format!("{place}{name}")})
    }
}

/// The schemas of a document, and what describes them.
pub(super) struct Schemas {
    dialect: Dialect,
    generator: SchemaGenerator,
    types: BTreeSet<&'static str>,
    leaves: BTreeSet<&'static str>,
    custom: Map<String, Value>,
}

impl Schemas {
    pub(super) fn new(dialect: Dialect) -> Self {
        let types = BTreeSet::new();
        Self {
            dialect,
            generator: SchemaGenerator::default(),
            types,
            leaves: BTreeSet::new(),
            custom: Map::new(),
        }
    }

    /// Loads the descriptions of a group version's kinds.
    pub(super) fn describe(&mut self, group: &str, version: &str) {
        describe(group, version, &mut self.generator);
    }

    /// Adds the types of a resource, its list, its subresources, and of every request's options.
    pub(super) fn add_resource(&mut self, resource: &Resource) {
        resource
            .schema
            .table()
            .into_iter()
            .for_each(|t| self.add(t));
        resource.list_schema.into_iter().for_each(|t| self.add(t));
        resource
            .subresources
            .iter()
            .filter_map(|s| s.schema)
            .for_each(|t| self.add(t));
        let custom = custom::schemas(resource, self.dialect);
        if !custom.is_empty() {
            // Their words come with those of a built-in kind else.
            let _described = self.generator.subschema_for::<ObjectMeta>();
            let _described = self.generator.subschema_for::<ListMeta>();
            for name in ["ObjectMeta", "ListMeta"] {
                let ty = type_by_name(&format!("{META}{name}"));
                ty.into_iter().for_each(|t| self.add(t));
            }
            if resource.subresource("scale").is_some() {
                let ty = type_by_name(super::SCALE);
                ty.into_iter().for_each(|t| self.add(t));
            }
        }
        self.custom.extend(custom);
        for name in [
            "DeleteOptions",
            "Status",
            "Patch",
            "WatchEvent",
            "APIResourceList",
        ] {
            type_by_name(&format!("{META}{name}"))
                .into_iter()
                .for_each(|t| self.add(t));
        }
    }

    fn add(&mut self, ty: TypeRef) {
        let ty = ty.get();
        if self.types.insert(ty.name) {
            ty.fields
                .iter()
                .for_each(|field| self.add_shape(&field.shape));
        }
    }

    fn add_shape(&mut self, shape: &Shape) {
        match shape {
            Shape::Object(ty) | Shape::Any(ty) => self.add(*ty),
            Shape::List(item) | Shape::Map(item) => self.add_shape(item),
            other => self.leaves.extend(leaf_name(other)),
        }
    }

    /// All schemas by name.
    pub(super) fn finish(mut self) -> Map<String, Value> {
        let described = self.generator.take_definitions(false);
        let text = |name: &str, field: Option<&str>| -> Option<String> {
            let mut schema = described.get(name)?;
            if let Some(field) = field {
                schema = schema.get("properties")?.get(field)?;
            }
            schema.get("description")?.as_str().map(str::to_owned)
        };
        let mut out = std::mem::take(&mut self.custom);
        for name in &self.leaves {
            let mut schema = leaf(name, self.dialect);
            put_text(&mut schema, text(name, None));
            out.insert((*name).to_owned(), schema.into());
        }
        for name in &self.types {
            if let Some(ty) = type_by_name(name) {
                let schema = self.object(ty.get(), &text);
                out.insert((*name).to_owned(), schema);
            }
        }
        out
    }

    fn object(
        &self,
        ty: &'static Type,
        text: &dyn Fn(&str, Option<&str>) -> Option<String>,
    ) -> Value {
        let mut schema = Map::new();
        put_text(&mut schema, text(ty.name, None));
        let any_json = ty.fields.is_empty()
            && ty.name.starts_with("io.k8s.apiextensions-apiserver")
            && ty.name.contains("JSON");
        if !any_json {
            schema.insert("type".to_owned(), "object".into());
        }
        if !ty.fields.is_empty() {
            let describe =
                |f: &'static Field| text(ty.name, Some(f.name)).or_else(|| stand_in(ty, f.name));
            let property = |f: &'static Field| (f.name.to_owned(), self.property(f, describe(f)));
            let properties: Map<String, Value> = ty.fields.iter().map(property).collect();
            schema.insert("properties".to_owned(), properties.into());
        }
        let required: Vec<&str> = ty
            .fields
            .iter()
            .filter(|f| f.required)
            .map(|f| f.name)
            .collect();
        if !required.is_empty() {
            schema.insert("required".to_owned(), required.into());
        }
        if ty.atomic {
            schema.insert("x-kubernetes-map-type".to_owned(), "atomic".into());
        }
        let kinds = kinds(ty);
        if !kinds.is_empty() {
            schema.insert("x-kubernetes-group-version-kind".to_owned(), kinds.into());
        }
        schema.into()
    }

    fn property(&self, field: &Field, description: Option<String>) -> Value {
        let mut schema = self.shape(&field.shape);
        put_text(&mut schema, description);
        if self.dialect == Dialect::V3 && !field.default.is_empty() {
            let default = serde_json::from_str(field.default).unwrap_or_default();
            schema.insert("default".to_owned(), default);
        }
        match field.list {
            ListType::Unspecified => {}
            ListType::Atomic => put(&mut schema, "list-type", "atomic"),
            ListType::Set => put(&mut schema, "list-type", "set"),
            ListType::Map => {
                put(&mut schema, "list-type", "map");
                schema.insert("x-kubernetes-list-map-keys".to_owned(), field.keys.into());
            }
        }
        match (field.merge, field.retain_keys) {
            (true, true) => put(&mut schema, "patch-strategy", "merge,retainKeys"),
            (true, false) => put(&mut schema, "patch-strategy", "merge"),
            (false, true) => put(&mut schema, "patch-strategy", "retainKeys"),
            (false, false) if field.replace => put(&mut schema, "patch-strategy", "replace"),
            (false, false) => {}
        }
        if !field.merge_key.is_empty() {
            put(&mut schema, "patch-merge-key", field.merge_key);
        }
        if field.atomic {
            put(&mut schema, "map-type", "atomic");
        }
        // In v3 nothing may stand beside a reference.
        if self.dialect == Dialect::V3
            && schema.len() > 1
            && let Some(reference) = schema.remove("$ref")
        {
            schema.insert("allOf".to_owned(), json!([{"$ref": reference}]));
        }
        schema.into()
    }

    fn shape(&self, shape: &Shape) -> Map<String, Value> {
        let value = match shape {
            Shape::String => json!({"type": "string"}),
            Shape::Bytes => json!({"type": "string", "format": "byte"}),
            Shape::Bool => json!({"type": "boolean"}),
            Shape::Int32 => json!({"type": "integer", "format": "int32"}),
            Shape::Int64 => json!({"type": "integer", "format": "int64"}),
            Shape::Double => json!({"type": "number", "format": "double"}),
            Shape::Object(ty) | Shape::Any(ty) => self.dialect.reference(ty.get().name),
            Shape::List(item) => json!({"type": "array", "items": self.shape(item)}),
            Shape::Map(item) => json!({"type": "object", "additionalProperties": self.shape(item)}),
            Shape::Time | Shape::MicroTime | Shape::Quantity | Shape::IntOrString => {
                self.dialect.reference(leaf_name(shape).unwrap_or_default())
            }
        };
        match value {
            Value::Object(map) => map,
            _ => Map::new(),
        }
    }
}

fn put(schema: &mut Map<String, Value>, extension: &str, value: &str) {
    schema.insert(format!("x-kubernetes-{extension}"), value.into());
}

fn put_text(schema: &mut Map<String, Value>, text: Option<String>) {
    if let Some(text) = text {
        schema.insert("description".to_owned(), text.into());
    }
}

/// Words for the fields that every kind and every list has, where the dependency has none.
fn stand_in(ty: &Type, field: &str) -> Option<String> {
    if ty.kinds.is_empty() {
        return None;
    }
    let words = match field {
        "apiVersion" => {
            "APIVersion defines in which version of which API group the object is written."
        }
        "kind" => "Kind says what the object is.",
        "metadata" => "Standard object's metadata.",
        "items" => "The objects of the list.",
        _ => return None,
    };
    Some(words.to_owned())
}

/// Options and watch events belong to every group version.
fn kinds(ty: &Type) -> Vec<Value> {
    let own = |k: &Gvk| json!({"group": k.group, "version": k.version, "kind": k.kind});
    let everywhere = ["DeleteOptions", "WatchEvent"]
        .iter()
        .find(|k| ty.name == format!("{META}{k}"));
    let Some(kind) = everywhere else {
        return ty.kinds.iter().map(own).collect();
    };
    let mut versions: Vec<_> = all().iter().map(|r| (&*r.group, &*r.version)).collect();
    versions.sort_unstable();
    versions.dedup();
    versions
        .iter()
        .map(|(group, version)| json!({"group": group, "version": version, "kind": kind}))
        .collect()
}

fn leaf_name(shape: &Shape) -> Option<&'static str> {
    Some(match shape {
        Shape::Time => "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
        Shape::MicroTime => "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
        Shape::Quantity => QUANTITY,
        Shape::IntOrString => INT_OR_STRING,
        _ => return None,
    })
}

fn leaf(name: &str, dialect: Dialect) -> Map<String, Value> {
    let value = match (name, dialect) {
        (QUANTITY, Dialect::V2) => json!({"type": "string"}),
        (QUANTITY, Dialect::V3) => json!({"oneOf": [{"type": "string"}, {"type": "number"}]}),
        (INT_OR_STRING, Dialect::V2) => json!({"type": "string", "format": "int-or-string"}),
        (INT_OR_STRING, Dialect::V3) => {
            json!({"format": "int-or-string", "oneOf": [{"type": "integer"}, {"type": "string"}]})
        }
        _ => json!({"type": "string", "format": "date-time"}),
    };
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}
