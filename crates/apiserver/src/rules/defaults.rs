//! Defaults of a schema, held to the rules of what they stand for.
//! Facts: `apiextensions-apiserver/pkg/apiserver/schema/defaulting` of 1.36.

use api::validate::FieldError;
use cel::RUNTIME_COST_BUDGET;
use serde_json::Value;

use super::run::{Before, Run, Violations};
use super::{is_embedded, node};

/// What rules have against the defaults of a version's `openAPIV3Schema`, which is sound; `path` is the
/// schema's. A default must hold where it takes the place of itself, and where of nothing.
#[must_use]
pub fn defaults(schema: &Value, path: &str) -> Vec<FieldError> {
    let mut run = Run {
        found: Violations::default(),
        budget: RUNTIME_COST_BUDGET,
        over: false,
    };
    walk(schema, path, true, 0, &mut run);
    run.found.errors
}

fn walk(schema: &Value, path: &str, root: bool, depth: usize, run: &mut Run) {
    if depth > api::MAX_DEPTH || run.over {
        return;
    }
    if let Some(default) = schema.get("default").filter(|default| !default.is_null())
        && let Some(rules) = node(schema, schema, root || is_embedded(schema), 0)
    {
        let (path, found) = (format!("{path}.default"), run.found.errors.len());
        run.node(&rules, &path, default, Some(default), Before::NOTHING);
        if run.found.errors.len() == found {
            run.node(&rules, &path, default, None, Before::NOTHING);
        }
    }
    // There are none below additional properties.
    if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
        walk(items, &format!("{path}.items"), false, depth + 1, run);
    }
    for (name, below) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.properties[{name}]");
        walk(below, &path, false, depth + 1, run);
    }
}
