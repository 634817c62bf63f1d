//! Validation of values by a schema, in the words of upstream's validator.
//!
//! Invariant: what an update does not change is not complained of.

use serde_json::Value;

use super::format::has_format;
use super::{Custom, INT_OR_STRING, additional, flag, list_keys, properties, text};
use crate::MAX_DEPTH;
use crate::validate::{FieldError, FieldErrorKind};

/// No more errors than this are told.
const MAX_ERRORS: usize = 100;

impl Custom {
    /// What is wrong with an object by its schema's constraints; `old` is what it replaces.
    #[must_use]
    pub fn validate(&self, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        self.errors(self.schema(), new, old, "")
    }

    pub(super) fn errors(
        &self,
        schema: &Value,
        new: &Value,
        old: Option<&Value>,
        path: &str,
    ) -> Vec<FieldError> {
        let mut walk = Walk {
            custom: self,
            errors: Vec::new(),
        };
        walk.value(schema, new, old, path, 0);
        walk.errors.truncate(MAX_ERRORS);
        walk.errors
    }
}

struct Walk<'a> {
    custom: &'a Custom,
    errors: Vec<FieldError>,
}

fn below(path: &str, name: &str) -> String {
    if path.is_empty() {
        name.to_owned()
    } else {
        format!("{path}.{name}")
    }
}

/// The name of a value's type.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(n) if n.is_i64() || n.is_u64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn is_of(value: &Value, wanted: &str) -> bool {
    let found = kind(value);
    found == wanted
        || (wanted == "number" && found == "integer")
        || (wanted == "integer" && value.as_f64().is_some_and(|n| n.fract() == 0.0))
}

impl Walk<'_> {
    fn invalid(&mut self, path: &str, value: &Value, words: String) {
        if self.errors.len() < MAX_ERRORS {
            self.errors
                .push(FieldError::invalid(path, value.clone(), words));
        }
    }

    fn value(
        &mut self,
        schema: &Value,
        new: &Value,
        old: Option<&Value>,
        path: &str,
        depth: usize,
    ) {
        if depth > MAX_DEPTH || self.errors.len() >= MAX_ERRORS || old == Some(new) {
            return;
        }
        if new.is_null() && flag(schema, "nullable") {
            return;
        }
        if !self.typed(schema, new, path) {
            return;
        }
        self.constants(schema, new, path);
        match new {
            Value::String(value) => self.string(schema, new, value, path),
            Value::Number(_) => self.number(schema, new, path),
            Value::Array(items) => self.array(schema, new, items, old, path, depth),
            Value::Object(_) => self.object(schema, new, old, path, depth),
            _ => {}
        }
        self.composed(schema, new, old, path, depth);
    }

    /// Whether the value has the schema's type.
    fn typed(&mut self, schema: &Value, new: &Value, path: &str) -> bool {
        let wanted = text(schema, "type");
        let words = if flag(schema, INT_OR_STRING) {
            if matches!(kind(new), "integer" | "string") {
                return true;
            }
            "integer,string"
        } else if wanted.is_empty() || is_of(new, wanted) {
            return true;
        } else {
            wanted
        };
        let found = kind(new);
        if self.errors.len() < MAX_ERRORS {
            self.errors.push(FieldError {
                path: path.to_owned(),
                kind: FieldErrorKind::TypeInvalid(found.into()),
                detail: format!("{path} in body must be of type {words}: {found:?}"),
            });
        }
        false
    }

    fn constants(&mut self, schema: &Value, new: &Value, path: &str) {
        let Some(values) = schema.get("enum").and_then(Value::as_array) else {
            return;
        };
        if !values.contains(new) {
            let texts: Vec<String> = values
                .iter()
                .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                .collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            self.errors
                .push(FieldError::not_supported(path, new.clone(), &texts));
        }
    }

    fn string(&mut self, schema: &Value, new: &Value, value: &str, path: &str) {
        let length = value.chars().count();
        if let Some(limit) = size(schema, "maxLength").filter(|limit| length > *limit) {
            self.errors.push(FieldError::too_long(path, limit));
        }
        if let Some(limit) = size(schema, "minLength").filter(|limit| length < *limit) {
            self.invalid(
                path,
                new,
                format!("{path} in body should be at least {limit} chars long"),
            );
        }
        let pattern = text(schema, "pattern");
        if let Some(Some(compiled)) = self.custom.patterns.get(pattern)
            && !pattern.is_empty()
            && !compiled.is_match(value)
        {
            self.invalid(
                path,
                new,
                format!("{path} in body should match '{pattern}'"),
            );
        }
        let format = text(schema, "format");
        if !has_format(format, value) {
            self.invalid(
                path,
                new,
                format!("{path} in body must be of type {format}: {value:?}"),
            );
        }
    }

    fn number(&mut self, schema: &Value, new: &Value, path: &str) {
        let Some(value) = new.as_f64() else { return };
        let limit = |name: &str| schema.get(name).filter(|limit| limit.is_number());
        if let Some(limit) = limit("minimum") {
            let low = limit.as_f64().unwrap_or_default();
            if flag(schema, "exclusiveMinimum") && value <= low {
                self.invalid(
                    path,
                    new,
                    format!("{path} in body should be greater than {limit}"),
                );
            } else if value < low {
                let words = format!("{path} in body should be greater than or equal to {limit}");
                self.invalid(path, new, words);
            }
        }
        if let Some(limit) = limit("maximum") {
            let high = limit.as_f64().unwrap_or_default();
            if flag(schema, "exclusiveMaximum") && value >= high {
                self.invalid(
                    path,
                    new,
                    format!("{path} in body should be less than {limit}"),
                );
            } else if value > high {
                let words = format!("{path} in body should be less than or equal to {limit}");
                self.invalid(path, new, words);
            }
        }
        if let Some(factor) = limit("multipleOf") {
            let times = value / factor.as_f64().unwrap_or(1.0);
            if (times - times.round()).abs() > 1e-9 {
                self.invalid(
                    path,
                    new,
                    format!("{path} in body should be a multiple of {factor}"),
                );
            }
        }
        let fits = match text(schema, "format") {
            "int32" => new.as_i64().is_some_and(|n| i32::try_from(n).is_ok()),
            "int64" => new.is_i64(),
            _ => true,
        };
        if !fits {
            let format = text(schema, "format");
            let words = format!(
                "Checked value must be of type {} with format {format} in body",
                text(schema, "type")
            );
            self.invalid(path, new, words);
        }
    }

    fn array(
        &mut self,
        schema: &Value,
        new: &Value,
        items: &[Value],
        old: Option<&Value>,
        path: &str,
        depth: usize,
    ) {
        if let Some(limit) = size(schema, "maxItems").filter(|limit| items.len() > *limit) {
            self.errors
                .push(FieldError::too_many(path, items.len(), limit));
        }
        if let Some(limit) = size(schema, "minItems").filter(|limit| items.len() < *limit) {
            self.invalid(
                path,
                new,
                format!("{path} in body should have at least {limit} items"),
            );
        }
        let keys = list_keys(schema);
        let set = text(schema, super::LIST_TYPE) == "set";
        let name = |item: &Value| -> Value {
            if set {
                return item.clone();
            }
            keys.iter()
                .map(|key| item.get(*key).cloned().unwrap_or_default())
                .collect()
        };
        let mut seen = std::collections::HashSet::new();
        for (index, item) in items.iter().enumerate() {
            let at = format!("{path}[{index}]");
            let named = set || !keys.is_empty();
            if named && !seen.insert(name(item).to_string()) {
                let shown = if set {
                    item.clone()
                } else {
                    let pairs = keys.iter().map(|k| ((*k).to_owned(), item[*k].clone()));
                    Value::Object(pairs.collect())
                };
                self.errors.push(FieldError::duplicate(at.as_str(), shown));
            }
            let before = old.and_then(Value::as_array).filter(|_| named);
            let before = before.and_then(|all| all.iter().find(|old| name(old) == name(item)));
            if let Some(below) = schema.get("items") {
                self.value(below, item, before, &at, depth + 1);
            }
        }
    }

    fn object(
        &mut self,
        schema: &Value,
        new: &Value,
        old: Option<&Value>,
        path: &str,
        depth: usize,
    ) {
        let Some(map) = new.as_object() else { return };
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if !map.contains_key(name) {
                self.errors
                    .push(FieldError::required(below(path, name), ""));
            }
        }
        if let Some(limit) = size(schema, "maxProperties").filter(|limit| map.len() > *limit) {
            self.errors
                .push(FieldError::too_many(path, map.len(), limit));
        }
        if let Some(limit) = size(schema, "minProperties").filter(|limit| map.len() < *limit) {
            let words = format!("{path} in body should have at least {limit} properties");
            self.invalid(path, new, words);
        }
        for (name, member) in map {
            let known = properties(schema).and_then(|p| p.get(name));
            if let Some(found) = known.or_else(|| additional(schema)) {
                let before = old.and_then(|old| old.get(name));
                self.value(found, member, before, &below(path, name), depth + 1);
            }
        }
    }

    /// `allOf`, `anyOf`, `oneOf` and `not`.
    fn composed(
        &mut self,
        schema: &Value,
        new: &Value,
        old: Option<&Value>,
        path: &str,
        depth: usize,
    ) {
        let list = |name: &str| schema.get(name).and_then(Value::as_array);
        for part in list("allOf").into_iter().flatten() {
            self.value(part, new, old, path, depth + 1);
        }
        let fits = |part: &Value| {
            let mut walk = Walk {
                custom: self.custom,
                errors: Vec::new(),
            };
            walk.value(part, new, None, path, depth + 1);
            walk.errors.is_empty()
        };
        let mut words = Vec::new();
        if let Some(parts) = list("anyOf").filter(|parts| !parts.is_empty())
            && !parts.iter().any(fits)
        {
            words.push(format!(
                "{path:?} must validate at least one schema (anyOf)"
            ));
        }
        if let Some(parts) = list("oneOf").filter(|parts| !parts.is_empty()) {
            match parts.iter().filter(|part| fits(part)).count() {
                0 => words.push(format!(
                    "{path:?} must validate one and only one schema (oneOf). Found none valid"
                )),
                1 => {}
                found => words.push(format!(
                    "{path:?} must validate one and only one schema (oneOf). Found {found} valid alternatives"
                )),
            }
        }
        if schema.get("not").is_some_and(fits) {
            words.push(format!("{path:?} must not validate the schema (not)"));
        }
        for words in words {
            self.errors.push(FieldError::invalid("<nil>", "", words));
        }
    }
}

fn size(schema: &Value, name: &str) -> Option<usize> {
    schema.get(name)?.as_u64()?.try_into().ok()
}
