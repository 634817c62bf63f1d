//! Rules of custom resources (`x-kubernetes-validations`): checked when the definition is written,
//! compiled once for a version of it, evaluated on every write of its objects.
//!
//! Invariant: all of it is a function of the schema and the objects; the budget ends every write.

mod check;
mod decl;
mod defaults;
mod field_path;
mod run;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use cel::{Decl, Env, Program, Type};
use serde_json::Value;

pub use check::check;
pub use decl::decl;
pub use defaults::defaults;
pub use run::Violations;

/// The compiled rules of one schema.
#[derive(Debug, Default)]
pub struct Rules {
    root: Option<Node>,
}

/// The rules at one place of a schema, and below.
#[derive(Debug)]
struct Node {
    /// The schema's `type`.
    kind: String,
    decl: Option<Arc<Decl>>,
    rules: Vec<Rule>,
    items: Option<Box<Node>>,
    additional: Option<Box<Node>>,
    properties: BTreeMap<String, Node>,
    all_of: Vec<Node>,
    /// The fields that tell elements of a list apart, if that is how they are told apart.
    list_keys: Option<Vec<String>>,
}

/// One rule.
#[derive(Debug)]
struct Rule {
    program: Result<Program, String>,
    message_expression: Option<Program>,
    message: String,
    source: String,
    reason: String,
    field_path: String,
    optional_old_self: bool,
    uses_old_self: bool,
}

impl Rules {
    /// Compiles the rules of a version's `openAPIV3Schema`.
    #[must_use]
    pub fn compile(schema: &Value) -> Self {
        Self {
            root: node(schema, schema, true, 0),
        }
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }
}

/// The rules of a schema.
fn rules_of(schema: &Value) -> &[Value] {
    schema["x-kubernetes-validations"]
        .as_array()
        .map(Vec::as_slice)
        .unwrap_or_default()
}

/// Notes the expressions of all rules of a schema.
pub(crate) fn sources<'a>(schema: &'a Value, found: &mut HashSet<&'a str>) {
    let mut open = vec![schema];
    while let Some(schema) = open.pop() {
        for rule in rules_of(schema) {
            let texts = ["rule", "messageExpression"].map(|name| rule[name].as_str());
            found.extend(texts.into_iter().flatten());
        }
        for name in ["items", "additionalProperties", "not"] {
            open.extend(schema.get(name).filter(|below| below.is_object()));
        }
        open.extend(
            schema["properties"]
                .as_object()
                .into_iter()
                .flat_map(|map| map.values()),
        );
        for name in ["allOf", "anyOf", "oneOf"] {
            open.extend(schema[name].as_array().into_iter().flatten());
        }
    }
}

fn is_embedded(schema: &Value) -> bool {
    schema["x-kubernetes-embedded-resource"] == true
}

/// What rules at a schema can name.
fn env(decl: &Arc<Decl>, optional_old_self: bool) -> Env {
    let old = match optional_old_self {
        true => Type::Optional(Arc::new(decl.ty())),
        false => decl.ty(),
    };
    Env::new().with_data("self", decl).with("oldSelf", old)
}

/// Rules of `rules_in` on data that `schema` describes; the two differ within `allOf`.
fn node(rules_in: &Value, schema: &Value, root: bool, depth: usize) -> Option<Node> {
    if depth > api::MAX_DEPTH {
        return None;
    }
    let declared = decl(schema, root);
    let rules: Vec<Rule> = rules_of(rules_in)
        .iter()
        .map(|rule| compile(rule, schema, declared.as_ref()))
        .collect();
    let below =
        |rules_in: &Value, schema: &Value| node(rules_in, schema, is_embedded(schema), depth + 1);
    let child = |name: &str| {
        let (rules_in, schema) = (rules_in.get(name)?, schema.get(name)?);
        rules_in
            .is_object()
            .then(|| below(rules_in, schema))
            .flatten()
            .map(Box::new)
    };
    let mut properties = BTreeMap::new();
    for (name, property) in rules_in["properties"].as_object().into_iter().flatten() {
        if let Some(schema) = schema["properties"].get(name)
            && let Some(node) = below(property, schema)
        {
            properties.insert(name.clone(), node);
        }
    }
    let all_of = rules_in["allOf"].as_array().into_iter().flatten();
    let made = Node {
        kind: schema["type"].as_str().unwrap_or_default().to_owned(),
        items: child("items"),
        additional: child("additionalProperties"),
        all_of: all_of
            .filter_map(|part| node(part, schema, root, depth + 1))
            .collect(),
        list_keys: list_keys(schema),
        decl: declared,
        rules,
        properties,
    };
    let empty = made.rules.is_empty()
        && made.items.is_none()
        && made.additional.is_none()
        && made.properties.is_empty()
        && made.all_of.is_empty();
    (!empty).then_some(made)
}

fn list_keys(schema: &Value) -> Option<Vec<String>> {
    if schema["x-kubernetes-list-type"] != "map" {
        return None;
    }
    let keys = schema["x-kubernetes-list-map-keys"].as_array()?;
    Some(
        keys.iter()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
    )
}

fn compile(rule: &Value, schema: &Value, declared: Option<&Arc<Decl>>) -> Rule {
    let text = |name: &str| rule[name].as_str().unwrap_or_default().to_owned();
    let optional_old_self = rule["optionalOldSelf"] == true;
    let source = text("rule");
    let (program, message_expression) = match declared {
        None => (
            Err("failed to convert to declType for CEL validation rules".to_owned()),
            None,
        ),
        Some(declared) => {
            let env = env(declared, optional_old_self);
            let program = env
                .compile(&source)
                .map_err(|issues| format!("compilation failed: {issues}"));
            let message = text("messageExpression");
            (
                program,
                (!message.is_empty())
                    .then(|| env.compile(&message).ok())
                    .flatten(),
            )
        }
    };
    Rule {
        uses_old_self: program
            .as_ref()
            .is_ok_and(|program| program.uses("oldSelf")),
        field_path: field_path::normalized(&text("fieldPath"), schema).unwrap_or_default(),
        program,
        message_expression,
        message: text("message").trim().to_owned(),
        reason: text("reason"),
        source,
        optional_old_self,
    }
}
