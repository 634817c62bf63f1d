//! Laying an object over another without owning anything: what policies do to what they admit.

use serde_json::Value;

use super::form::{Form, TypeError};
use super::merge::merge;
use crate::MAX_DEPTH;

/// Why an object cannot be laid over another.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OverlayError {
    /// It sets a list or map that would lose what it does not name.
    #[error("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: {0}")]
    Atomic(String),
    /// One of them is not of its type.
    #[error("failed to merge patch: {0}")]
    Type(#[from] TypeError),
}

/// `live` with everything that `patch` sets.
///
/// # Errors
/// `patch` sets something atomic, or something is not of its type.
pub fn overlay(form: Form<'_>, live: &Value, patch: &Value) -> Result<Value, OverlayError> {
    let mut atomic = Vec::new();
    find_atomic(form, patch, "", 0, &mut atomic);
    if !atomic.is_empty() {
        return Err(OverlayError::Atomic(atomic.join(", ")));
    }
    Ok(merge(form, live, patch)?)
}

fn find_atomic(form: Form<'_>, value: &Value, path: &str, depth: usize, found: &mut Vec<String>) {
    if depth > MAX_DEPTH {
        return;
    }
    match (form.seen(value), value) {
        (Form::Leaf, Value::Array(_) | Value::Object(_)) => found.push(path.to_owned()),
        (form @ Form::Items { .. }, Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                find_atomic(
                    form.item(),
                    item,
                    &format!("{path}[{index}]"),
                    depth + 1,
                    found,
                );
            }
        }
        (form, Value::Object(members)) => {
            for (name, member) in members {
                let below = form.member(name).0;
                find_atomic(below, member, &format!("{path}.{name}"), depth + 1, found);
            }
        }
        _ => {}
    }
}
