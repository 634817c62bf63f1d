//! Decoding: fields that a schema does not name are found and pruned, and so are nulls that nothing
//! stands for; metadata has its own type.

use serde_json::Value;

use super::{Custom, EMBEDDED, OBJECT_META, additional, flag, is_open, properties};
use crate::MAX_DEPTH;
use crate::schema::{DecodeError, MAX_PROBLEMS, Problem, decode_type, type_by_name};

impl Custom {
    /// Prunes what the schema does not name and says so.
    ///
    /// # Errors
    /// When the object is none, its metadata have the wrong type, or it is too deep.
    pub fn decode(&self, object: &mut Value) -> Result<Vec<Problem>, DecodeError> {
        let mut walk = Walk::default();
        if !object.is_object() {
            return Err(DecodeError::Document {
                found: "array".to_owned(),
                wanted: "map[string]interface {}".to_owned(),
            });
        }
        walk.root(object)?;
        walk.value(self.schema(), object, true, 0)?;
        Ok(walk.problems)
    }

    /// Prunes an object of what the schema of a version of the definition does not name; its metadata
    /// are left alone, and so is all of it where there is no such version.
    ///
    /// # Errors
    /// When it is too deep, or metadata of an object in it have the wrong type.
    pub fn prune_in(&self, version: &str, object: &mut Value) -> Result<(), DecodeError> {
        match self.schema_in(version) {
            Some(schema) => Walk::default().value(schema, object, true, 0),
            None => Ok(()),
        }
    }

    /// As [`Custom::decode`] of values of the server's own.
    pub(super) fn prune(schema: &Value, value: &mut Value) -> Vec<Problem> {
        let mut walk = Walk::default();
        // What is too deep was refused when it was parsed.
        let _ = walk.value(schema, value, false, 0);
        walk.problems
    }
}

#[derive(Default)]
struct Walk {
    path: String,
    problems: Vec<Problem>,
}

impl Walk {
    /// What every object has: its metadata.
    fn root(&mut self, object: &mut Value) -> Result<(), DecodeError> {
        let Some(ty) = type_by_name(OBJECT_META) else {
            return Ok(());
        };
        let Some(metadata) = object.get_mut("metadata").filter(|m| !m.is_null()) else {
            return Ok(());
        };
        for problem in decode_type(ty, metadata)? {
            let dot = if self.path.is_empty() { "" } else { "." };
            let below = |path: String| format!("{}{dot}metadata.{path}", self.path);
            self.problems.push(match problem {
                Problem::Unknown(path) => Problem::Unknown(below(path)),
                Problem::Duplicate(path) => Problem::Duplicate(below(path)),
                repeated @ Problem::Repeated { .. } => repeated,
            });
        }
        Ok(())
    }

    fn value(
        &mut self,
        schema: &Value,
        value: &mut Value,
        resource: bool,
        depth: usize,
    ) -> Result<(), DecodeError> {
        if depth > MAX_DEPTH {
            return Err(DecodeError::TooDeep);
        }
        let length = self.path.len();
        match value {
            Value::Object(map) => {
                let mut dropped = Vec::new();
                for (name, member) in map.iter_mut() {
                    if resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                        continue;
                    }
                    if length > 0 {
                        self.path.push('.');
                    }
                    self.path.push_str(name);
                    let known = properties(schema).and_then(|p| p.get(name));
                    match known.or_else(|| additional(schema)) {
                        Some(below) if is_nothing(below, member) => dropped.push(name.clone()),
                        Some(below) => {
                            let embedded = flag(below, EMBEDDED);
                            if embedded && member.is_object() {
                                self.root(member)?;
                            }
                            self.value(below, member, embedded, depth + 1)?;
                        }
                        None if is_open(schema) => limit(member, depth + 1)?,
                        None => {
                            if self.problems.len() < MAX_PROBLEMS {
                                self.problems.push(Problem::Unknown(self.path.clone()));
                            }
                            dropped.push(name.clone());
                        }
                    }
                    self.path.truncate(length);
                }
                for name in dropped {
                    map.remove(&name);
                }
            }
            Value::Array(items) => {
                for (index, item) in items.iter_mut().enumerate() {
                    self.path.push_str(&format!("[{index}]"));
                    match schema.get("items").filter(|below| below.is_object()) {
                        Some(below) => {
                            let embedded = flag(below, EMBEDDED);
                            if embedded && item.is_object() {
                                self.root(item)?;
                            }
                            self.value(below, item, embedded, depth + 1)?;
                        }
                        None => limit(item, depth + 1)?,
                    }
                    self.path.truncate(length);
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Whether a member is a null that may not be, and that no default takes the place of.
fn is_nothing(schema: &Value, value: &Value) -> bool {
    let has_default = schema.get("default").is_some_and(|d| !d.is_null());
    value.is_null() && !flag(schema, "nullable") && !has_default
}

fn limit(value: &Value, depth: usize) -> Result<(), DecodeError> {
    if depth > MAX_DEPTH {
        return Err(DecodeError::TooDeep);
    }
    match value {
        Value::Object(map) => map.values().try_for_each(|v| limit(v, depth + 1)),
        Value::Array(items) => items.iter().try_for_each(|v| limit(v, depth + 1)),
        _ => Ok(()),
    }
}
