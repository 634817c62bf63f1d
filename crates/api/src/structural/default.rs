//! Defaulting: what a schema fills in where a value is absent, or null where it may not be.
//!
//! Invariant: idempotent.

use serde_json::Value;

use super::{Custom, additional, flag, properties};
use crate::MAX_DEPTH;

impl Custom {
    /// Fills in what the schema says.
    pub fn apply_defaults(&self, object: &mut Value) {
        fill(self.schema(), object, 0);
    }

    /// As [`Custom::apply_defaults`], by the schema of another version of the definition.
    pub fn apply_defaults_in(&self, version: &str, object: &mut Value) {
        if let Some(schema) = self.schema_in(version) {
            fill(schema, object, 0);
        }
    }
}

/// Whether a null stands for an absent value.
fn is_absent(schema: &Value, value: &Value) -> bool {
    value.is_null() && !flag(schema, "nullable") && schema.get("default").is_some()
}

pub(super) fn fill(schema: &Value, value: &mut Value, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    match value {
        Value::Object(map) => {
            for (name, below) in properties(schema).into_iter().flatten() {
                if let Some(default) = below.get("default").filter(|default| !default.is_null())
                    && map.get(name).is_none_or(|value| is_absent(below, value))
                {
                    map.insert(name.clone(), default.clone());
                }
            }
            for (name, member) in map.iter_mut() {
                let known = properties(schema).and_then(|p| p.get(name));
                if let Some(below) = known.or_else(|| additional(schema)) {
                    if is_absent(below, member)
                        && let Some(default) = below.get("default")
                    {
                        *member = default.clone();
                    }
                    fill(below, member, depth + 1);
                }
            }
        }
        Value::Array(items) => {
            if let Some(below) = schema.get("items") {
                for item in items {
                    if is_absent(below, item)
                        && let Some(default) = below.get("default")
                    {
                        *item = default.clone();
                    }
                    fill(below, item, depth + 1);
                }
            }
        }
        _ => {}
    }
}
