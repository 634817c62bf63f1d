//! What is wrong with the schema of a definition: whether it is structural, and sound.

use serde_json::Value;

use super::{
    Custom, EMBEDDED, INT_OR_STRING, LIST_KEYS, LIST_TYPE, MAP_TYPE, PRESERVE, compile, default,
    flag, list_keys, properties, text,
};
use crate::MAX_DEPTH;
use crate::validate::FieldError;

/// Where a schema stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Root,
    Field,
    Item,
}

/// What is wrong with the schema of an entry of `spec.versions`; `path` is the schema's.
#[must_use]
pub fn check(version: &Value, path: &str) -> Vec<FieldError> {
    let custom = Custom::new(version);
    let mut walk = Walk {
        custom: &custom,
        errors: Vec::new(),
    };
    walk.root(path);
    walk.schema(custom.schema(), path, Place::Root, 0);
    walk.errors
}

/// Keywords that may stand at the root of a schema whose status is a subresource: there the status is
/// checked by its own schema alone, and what others say of it would not hold.
const BESIDE_STATUS: &[&str] = &[
    "description",
    "type",
    "format",
    "title",
    "maximum",
    "exclusiveMaximum",
    "minimum",
    "exclusiveMinimum",
    "maxLength",
    "minLength",
    "pattern",
    "maxItems",
    "minItems",
    "uniqueItems",
    "multipleOf",
    "required",
    "items",
    "properties",
    "externalDocs",
    "example",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

/// As messages list them.
const BESIDE_STATUS_SHOWN: &str = "[Description Type Format Title Maximum ExclusiveMaximum Minimum ExclusiveMinimum MaxLength MinLength Pattern MaxItems MinItems UniqueItems MultipleOf Required Items Properties ExternalDocs Example XPreserveUnknownFields XValidations]";

/// Whether a keyword says nothing.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(flag) => !flag,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) | Value::Number(_) => false,
    }
}

/// Whether a schema of metadata says something of names only.
fn is_bare(metadata: &Value) -> bool {
    let members = metadata.as_object().into_iter().flatten();
    members
        .into_iter()
        .all(|(name, value)| match name.as_str() {
            "type" | "default" => true,
            "properties" => value.as_object().is_some_and(|all| {
                all.keys()
                    .all(|name| name == "name" || name == "generateName")
            }),
            _ => false,
        })
}

struct Walk<'a> {
    custom: &'a Custom,
    errors: Vec<FieldError>,
}

impl Walk<'_> {
    fn forbidden(&mut self, path: String, words: &str) {
        self.errors.push(FieldError::forbidden(path, words));
    }

    /// What holds for the root alone.
    fn root(&mut self, path: &str) {
        let custom = self.custom;
        let schema = custom.schema();
        let subresources = custom.version().get("subresources");
        let has_status = subresources
            .and_then(|all| all.get("status"))
            .is_some_and(Value::is_object);
        let mut said = schema.as_object().into_iter().flatten();
        let others =
            said.any(|(name, value)| !is_zero(value) && !BESIDE_STATUS.contains(&name.as_str()));
        if has_status && others {
            let words = format!(
                "only {BESIDE_STATUS_SHOWN} fields are allowed at the root of the schema if the status subresource is enabled"
            );
            self.errors
                .push(FieldError::invalid(path, schema.clone(), words));
        }
    }

    fn schema(&mut self, schema: &Value, path: &str, place: Place, depth: usize) {
        if depth > MAX_DEPTH {
            return self.forbidden(path.to_owned(), "exceeded max depth");
        }
        self.kind(schema, path, place);
        self.keywords(schema, path);
        self.lists(schema, path);
        self.maps(schema, path);
        self.resources(schema, path, place);
        self.default(schema, path);
        if properties(schema).is_some() && schema.get("additionalProperties").is_some() {
            let words = "additionalProperties and properties are mutual exclusive";
            self.forbidden(format!("{path}.additionalProperties"), words);
        }
        for (name, below) in properties(schema).into_iter().flatten() {
            self.schema(
                below,
                &format!("{path}.properties[{name}]"),
                Place::Field,
                depth + 1,
            );
        }
        if let Some(below) = super::additional(schema) {
            if place == Place::Root {
                let at = format!("{path}.additionalProperties");
                self.forbidden(at, "must not be used at the root");
            }
            let at = format!("{path}.additionalProperties");
            self.schema(below, &at, Place::Field, depth + 1);
        }
        match schema.get("items") {
            Some(Value::Array(_)) => self.forbidden(
                format!("{path}.items"),
                "items must be a schema object and not an array",
            ),
            Some(below) => self.schema(below, &format!("{path}.items"), Place::Item, depth + 1),
            None if text(schema, "type") == "array" => {
                let at = format!("{path}.items");
                self.errors
                    .push(FieldError::required(at, "must be specified"));
            }
            None => {}
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            let parts = schema.get(name).and_then(Value::as_array);
            for (index, part) in parts.into_iter().flatten().enumerate() {
                // The two forms in which integers or strings are spelled out.
                if flag(schema, INT_OR_STRING) {
                    continue;
                }
                self.constraint(part, &format!("{path}.{name}[{index}]"), depth + 1);
            }
        }
        if let Some(part) = schema.get("not") {
            self.constraint(part, &format!("{path}.not"), depth + 1);
        }
    }

    fn kind(&mut self, schema: &Value, path: &str, place: Place) {
        let kind = text(schema, "type");
        let at = format!("{path}.type");
        if flag(schema, EMBEDDED) && kind != "object" {
            let words = "must be object if x-kubernetes-embedded-resource is true";
            self.errors.push(match kind {
                "" => FieldError::required(at.as_str(), words),
                kind => FieldError::invalid(at.as_str(), kind, words),
            });
        } else if kind.is_empty() && !flag(schema, INT_OR_STRING) && !flag(schema, PRESERVE) {
            let words = match place {
                Place::Root => "must not be empty at the root",
                Place::Field => "must not be empty for specified object fields",
                Place::Item => "must not be empty for specified array items",
            };
            self.errors.push(FieldError::required(at.as_str(), words));
        }
        let known = ["array", "boolean", "integer", "number", "object", "string"];
        if place == Place::Root && !kind.is_empty() && kind != "object" {
            self.errors
                .push(FieldError::invalid(at, kind, "must be object at the root"));
        } else if !kind.is_empty() && !known.contains(&kind) {
            self.errors
                .push(FieldError::not_supported(at, kind, &known));
        }
    }

    fn keywords(&mut self, schema: &Value, path: &str) {
        for name in [
            "definitions",
            "dependencies",
            "deprecated",
            "discriminator",
            "id",
            "patternProperties",
            "readOnly",
            "writeOnly",
            "xml",
            "$ref",
            "additionalItems",
        ] {
            if schema.get(name).is_some() {
                self.forbidden(
                    format!("{path}.{name}"),
                    &format!("{name} is not supported"),
                );
            }
        }
        if flag(schema, "uniqueItems") {
            let words =
                "uniqueItems cannot be set to true since the runtime complexity becomes quadratic";
            self.forbidden(format!("{path}.uniqueItems"), words);
        }
        if schema.get(PRESERVE) == Some(&Value::Bool(false)) {
            let words = "must be true or undefined";
            let at = format!("{path}.{PRESERVE}");
            self.errors.push(FieldError::invalid(at, false, words));
        }
        let pattern = text(schema, "pattern");
        if let Err(error) = compile(pattern) {
            let words = format!("must be a valid regular expression, but isn't: {error}");
            self.errors.push(FieldError::invalid(
                format!("{path}.pattern"),
                pattern,
                words,
            ));
        }
    }

    fn lists(&mut self, schema: &Value, path: &str) {
        let (list, kind) = (text(schema, LIST_TYPE), text(schema, "type"));
        let at = format!("{path}.{LIST_TYPE}");
        if !list.is_empty() {
            self.needs_type(kind, "array", LIST_TYPE, path);
        }
        if !["", "atomic", "set", "map"].contains(&list) {
            self.errors.push(FieldError::not_supported(
                at,
                list,
                &["atomic", "map", "set"],
            ));
        }
        let items = schema.get("items").unwrap_or(&Value::Null);
        if list == "set" || list == "map" {
            self.items(items, list, path);
        }
        let named = schema
            .get(LIST_KEYS)
            .and_then(Value::as_array)
            .is_some_and(|k| !k.is_empty());
        if list == "map" && !named {
            let words = "must not be empty if x-kubernetes-list-type is map";
            self.errors
                .push(FieldError::required(format!("{path}.{LIST_KEYS}"), words));
        } else if list != "map" && named {
            let words = "must be map if x-kubernetes-list-map-keys is non-empty";
            let at = format!("{path}.{LIST_TYPE}");
            self.errors.push(match list {
                "" => FieldError::required(at, words),
                list => FieldError::invalid(at, list, words),
            });
        }
        for key in list_keys(schema) {
            let required = items.get("required").and_then(Value::as_array);
            let required = required.is_some_and(|names| names.iter().any(|name| name == key));
            let Some(property) = properties(items).and_then(|p| p.get(key)) else {
                let at = format!("{path}.{LIST_KEYS}");
                let words = "entries must all be names of item properties";
                self.errors.push(FieldError::invalid(at, key, words));
                continue;
            };
            if matches!(text(property, "type"), "array" | "object") {
                let at = format!("{path}.items.properties[{key}].type");
                let words = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                let kind = text(items, "type");
                self.errors.push(FieldError::invalid(at, kind, words));
            }
            if flag(property, "nullable") {
                let at = format!("{path}.items.properties[{key}].nullable");
                let words =
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
                self.forbidden(at, words);
            }
            if !required && property.get("default").is_none() {
                let at = format!("{path}.items.properties[{key}].default");
                let words = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
                self.errors.push(FieldError::required(at, words));
            }
        }
    }

    /// An extension that only one type has.
    fn needs_type(&mut self, kind: &str, wanted: &str, extension: &str, path: &str) {
        if kind == wanted {
            return;
        }
        let at = format!("{path}.type");
        let words = format!("must be {wanted} if {extension} is specified");
        self.errors.push(match kind {
            "" => FieldError::required(at, words),
            kind => FieldError::invalid(at, kind, words),
        });
    }

    /// The items of a list in which each has a name.
    fn items(&mut self, items: &Value, list: &str, path: &str) {
        if flag(items, "nullable") {
            let words = format!("cannot be nullable when x-kubernetes-list-type is {list}");
            self.forbidden(format!("{path}.items.nullable"), &words);
        }
        let kind = text(items, "type");
        if list == "map" {
            if items.is_object() && kind != "object" {
                let words = "must be object if parent array's x-kubernetes-list-type is map";
                let at = format!("{path}.items.type");
                self.errors.push(FieldError::invalid(at, kind, words));
            }
            return;
        }
        let words = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let (extension, fits) = match kind {
            "array" => (LIST_TYPE, matches!(text(items, LIST_TYPE), "" | "atomic")),
            "object" => (MAP_TYPE, text(items, MAP_TYPE) == "atomic"),
            _ => return,
        };
        if !fits {
            let at = format!("{path}.items.{extension}");
            let found = items.get(LIST_TYPE).cloned().unwrap_or_default();
            self.errors.push(FieldError::invalid(at, found, words));
        }
    }

    fn maps(&mut self, schema: &Value, path: &str) {
        let Some(map) = schema.get(MAP_TYPE).and_then(Value::as_str) else {
            return;
        };
        self.needs_type(text(schema, "type"), "object", MAP_TYPE, path);
        let known = ["atomic", "granular"];
        if !known.contains(&map) {
            let at = format!("{path}.{MAP_TYPE}");
            self.errors.push(FieldError::not_supported(at, map, &known));
        }
    }

    /// What a schema may say of whole objects, at its root or embedded.
    fn resources(&mut self, schema: &Value, path: &str, place: Place) {
        let (embedded, open) = (flag(schema, EMBEDDED), flag(schema, PRESERVE));
        if flag(schema, INT_OR_STRING) {
            let words = "must be false if x-kubernetes-int-or-string is true";
            for (name, set) in [(PRESERVE, open), (EMBEDDED, embedded)] {
                if set {
                    let at = format!("{path}.{name}");
                    self.errors.push(FieldError::invalid(at, true, words));
                }
            }
        }
        if embedded && schema.get("additionalProperties").is_some() {
            let at = format!("{path}.additionalProperties");
            self.forbidden(
                at,
                "must not be used if x-kubernetes-embedded-resource is set",
            );
        }
        let named = properties(schema);
        if embedded && !open && named.is_none_or(serde_json::Map::is_empty) {
            let words = "must not be empty if x-kubernetes-embedded-resource is true without x-kubernetes-preserve-unknown-fields";
            let at = format!("{path}.properties");
            self.errors.push(FieldError::required(at, words));
        }
        if place == Place::Root && flag(schema, "nullable") {
            let at = format!("{path}.nullable");
            self.forbidden(at, "nullable cannot be true at the root");
        }
        if place != Place::Root && !embedded {
            return;
        }
        for (name, wanted) in [
            ("kind", "string"),
            ("apiVersion", "string"),
            ("metadata", "object"),
        ] {
            let Some(below) = named.and_then(|all| all.get(name)) else {
                continue;
            };
            let at = format!("{path}.properties[{name}]");
            let kind = text(below, "type");
            if kind != wanted {
                let words = format!("must be {wanted}");
                let at = format!("{at}.type");
                self.errors.push(FieldError::invalid(at, kind, words));
            }
            if name == "metadata" && place == Place::Root && !is_bare(below) {
                let words = "must not specify anything other than name and generateName, but metadata is implicitly specified";
                self.forbidden(at, words);
            }
        }
    }

    /// A default must be what the schema admits, and whole.
    fn default(&mut self, schema: &Value, path: &str) {
        let Some(given) = schema.get("default").filter(|default| !default.is_null()) else {
            return;
        };
        let at = format!("{path}.default");
        let mut pruned = given.clone();
        if !Custom::prune(schema, &mut pruned).is_empty() {
            let words = "must not have unknown fields";
            self.errors
                .push(FieldError::invalid(at.as_str(), given.clone(), words));
        }
        default::fill(schema, &mut pruned, 0);
        self.errors
            .extend(self.custom.errors(schema, &pruned, None, &at));
    }

    /// Below `allOf` and its kin only values are constrained.
    fn constraint(&mut self, schema: &Value, path: &str, depth: usize) {
        if depth > MAX_DEPTH {
            return self.forbidden(path.to_owned(), "exceeded max depth");
        }
        let undefined = "must be undefined to be structural";
        let empty = "must be empty to be structural";
        let off = "must be false to be structural";
        for (name, words) in [
            ("type", empty),
            ("additionalProperties", undefined),
            ("default", undefined),
            ("title", empty),
            ("description", empty),
            ("nullable", off),
            (PRESERVE, off),
            (EMBEDDED, off),
            (INT_OR_STRING, off),
            (LIST_KEYS, empty),
            (LIST_TYPE, undefined),
            (MAP_TYPE, undefined),
        ] {
            if schema.get(name).is_some() {
                self.forbidden(format!("{path}.{name}"), words);
            }
        }
        self.keywords(schema, path);
        for (name, below) in properties(schema).into_iter().flatten() {
            self.constraint(below, &format!("{path}.properties[{name}]"), depth + 1);
        }
        for name in ["items", "not"] {
            if let Some(below) = schema.get(name).filter(|below| below.is_object()) {
                self.constraint(below, &format!("{path}.{name}"), depth + 1);
            }
        }
        for name in ["allOf", "anyOf", "oneOf"] {
            let parts = schema.get(name).and_then(Value::as_array);
            for (index, part) in parts.into_iter().flatten().enumerate() {
                self.constraint(part, &format!("{path}.{name}[{index}]"), depth + 1);
            }
        }
    }
}
