//! Structural schemas of custom resources: what fields their objects may have, which values are
//! filled in, and what is wrong with them.
//!
//! Invariant: a [`Custom`] was made of a definition that passed [`check`]; its patterns are compiled
//! once, and none of its walks is deeper than [`crate::MAX_DEPTH`].

mod check;
mod columns;
mod default;
mod format;
mod prune;
#[cfg(test)]
mod tests;
mod validate;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use regex::Regex;
use serde_json::{Map, Value};

pub use check::check;

use crate::MAX_DEPTH;
use crate::jsonpath::JsonPath;
use crate::validate::FieldError;

pub(crate) const PRESERVE: &str = "x-kubernetes-preserve-unknown-fields";
pub(crate) const EMBEDDED: &str = "x-kubernetes-embedded-resource";
pub(crate) const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const INT_OR_STRING: &str = "x-kubernetes-int-or-string";
pub(crate) const LIST_TYPE: &str = "x-kubernetes-list-type";
pub(crate) const MAP_TYPE: &str = "x-kubernetes-map-type";
const LIST_KEYS: &str = "x-kubernetes-list-map-keys";

const NONE: &Value = &Value::Null;

/// How large a compiled pattern may become.
const PATTERN_LIMIT_BYTES: usize = 1 << 20;

/// The rules that a schema carries beside its constraints (`x-kubernetes-validations`), compiled.
pub trait ObjectRules: std::fmt::Debug + Send + Sync {
    /// What refuses an object that replaces `old`, and what was wrong before and stays so.
    fn violations(&self, new: &Value, old: Option<&Value>) -> (Vec<FieldError>, Vec<FieldError>);
}

/// What describes the objects of one version of a custom resource.
#[derive(Debug)]
pub struct Custom {
    /// All versions of the definition.
    versions: Arc<[Value]>,
    /// The one that this is.
    at: usize,
    patterns: HashMap<String, Option<Regex>>,
    rules: Option<Box<dyn ObjectRules>>,
    id: u64,
    /// The paths of the printed columns.
    columns: Vec<JsonPath>,
}

impl Custom {
    /// Of an entry of a definition's `spec.versions`.
    #[must_use]
    pub fn new(version: &Value) -> Arc<Self> {
        Self::among(&[version.clone()].into(), 0, None)
    }

    /// Of the entry of a definition's `spec.versions` that stands at `at`, with the rules of its
    /// schema.
    #[must_use]
    pub fn among(
        versions: &Arc<[Value]>,
        at: usize,
        rules: Option<Box<dyn ObjectRules>>,
    ) -> Arc<Self> {
        static MADE: AtomicU64 = AtomicU64::new(0);
        let mut patterns = HashMap::new();
        let schema = versions.get(at).map_or(NONE, schema_of);
        collect(schema, &mut patterns, 0);
        Arc::new(Self {
            versions: versions.clone(),
            at,
            patterns,
            rules,
            columns: versions.get(at).map(columns::paths).unwrap_or_default(),
            id: MADE.fetch_add(1, Ordering::Relaxed),
        })
    }

    /// The rules of its schema, if it has any.
    #[must_use]
    pub fn rules(&self) -> Option<&dyn ObjectRules> {
        self.rules.as_deref()
    }

    /// Its `openAPIV3Schema`.
    #[must_use]
    pub fn schema(&self) -> &Value {
        schema_of(self.version())
    }

    /// Its entry in the definition.
    #[must_use]
    pub fn version(&self) -> &Value {
        self.versions.get(self.at).unwrap_or(NONE)
    }

    /// All versions of its definition, as that has them.
    #[must_use]
    pub fn versions(&self) -> &[Value] {
        &self.versions
    }

    /// Tells it from all others: of other versions, and of this one before its definition changed.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The `openAPIV3Schema` of another version of the definition, by its name.
    #[must_use]
    pub fn schema_in(&self, name: &str) -> Option<&Value> {
        let mut versions = self.versions.iter();
        versions.find(|v| text(v, "name") == name).map(schema_of)
    }

    /// The paths of its scale: of the spec's replicas, the status' replicas, and the selector.
    #[must_use]
    pub fn scale(&self) -> Option<(&str, &str, Option<&str>)> {
        scale_of(self.version())
    }

    /// The paths of the scale of another version of the definition, by its name.
    #[must_use]
    pub fn scale_in(&self, name: &str) -> Option<(&str, &str, Option<&str>)> {
        let mut versions = self.versions.iter();
        versions
            .find(|v| text(v, "name") == name)
            .and_then(scale_of)
    }

    /// The fields that can be selected on, as `spec.color`.
    pub fn selectable(&self) -> impl Iterator<Item = &str> {
        let fields = self.version().get("selectableFields");
        let paths = fields.and_then(Value::as_array).into_iter().flatten();
        paths
            .filter_map(|field| field.get("jsonPath")?.as_str())
            .map(|path| path.trim_start_matches('.'))
    }
}

fn scale_of(version: &Value) -> Option<(&str, &str, Option<&str>)> {
    let scale = version.get("subresources")?.get("scale")?;
    let path = |name: &str| scale.get(name).and_then(Value::as_str);
    Some((
        path("specReplicasPath")?,
        path("statusReplicasPath")?,
        path("labelSelectorPath").filter(|path| !path.is_empty()),
    ))
}

fn schema_of(version: &Value) -> &Value {
    version
        .get("schema")
        .and_then(|schema| schema.get("openAPIV3Schema"))
        .unwrap_or(NONE)
}

/// A compiled pattern, if it is one.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    regex::RegexBuilder::new(pattern)
        .size_limit(PATTERN_LIMIT_BYTES)
        .dfa_size_limit(PATTERN_LIMIT_BYTES)
        .build()
}

fn collect(schema: &Value, patterns: &mut HashMap<String, Option<Regex>>, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && !patterns.contains_key(pattern)
    {
        patterns.insert(pattern.to_owned(), compile(pattern).ok());
    }
    for below in children(schema) {
        collect(below, patterns, depth + 1);
    }
}

/// All schemas right below one.
fn children(schema: &Value) -> Vec<&Value> {
    let mut found = Vec::new();
    for name in ["properties", "items", "additionalProperties", "not"] {
        match (name, schema.get(name)) {
            ("properties", Some(Value::Object(map))) => found.extend(map.values()),
            (_, Some(below @ Value::Object(_))) => found.push(below),
            _ => {}
        }
    }
    for name in ["allOf", "anyOf", "oneOf"] {
        found.extend(
            schema
                .get(name)
                .and_then(Value::as_array)
                .into_iter()
                .flatten(),
        );
    }
    found
}

pub(crate) fn flag(schema: &Value, name: &str) -> bool {
    schema
        .get(name)
        .and_then(Value::as_bool)
        .unwrap_or_default()
}

pub(crate) fn text<'a>(schema: &'a Value, name: &str) -> &'a str {
    schema.get(name).and_then(Value::as_str).unwrap_or_default()
}

pub(crate) fn properties(schema: &Value) -> Option<&Map<String, Value>> {
    schema.get("properties").and_then(Value::as_object)
}

/// The schema of the value at a property that a schema does not name.
fn additional(schema: &Value) -> Option<&Value> {
    schema
        .get("additionalProperties")
        .filter(|below| below.is_object())
}

/// Whether properties that a schema does not name may hold anything.
fn is_open(schema: &Value) -> bool {
    flag(schema, PRESERVE) || schema.get("additionalProperties") == Some(&Value::Bool(true))
}

/// The members that name an item of an associative list.
pub(crate) fn list_keys(schema: &Value) -> Vec<&str> {
    if text(schema, LIST_TYPE) != "map" {
        return Vec::new();
    }
    let keys = schema.get(LIST_KEYS).and_then(Value::as_array);
    keys.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}
