//! Rules on an object.

use api::structural::ObjectRules;
use api::validate::{FieldError, FieldErrorKind};
use cel::{EvalError, PER_CALL_LIMIT, Program, RUNTIME_COST_BUDGET, Value as Cel, Variables};
use serde_json::Value;

use super::{Node, Rule, Rules};

/// The most bytes of a message that an expression makes.
const LONGEST_MESSAGE: usize = 5 * 1024;

/// What rules found.
#[derive(Debug, Default)]
pub struct Violations {
    /// What refuses the write.
    pub errors: Vec<FieldError>,
    /// What was wrong before, and stays as it was.
    pub warnings: Vec<FieldError>,
}

/// What the data at a place was before.
#[derive(Clone, Copy)]
pub(super) struct Before<'a> {
    /// The value that this one was, where that can be told.
    own: Option<&'a Value>,
    /// The nearest place above of which it can be told: what it is and was.
    above: Option<(&'a Value, &'a Value)>,
    root: bool,
}

impl<'a> Before<'a> {
    /// Nothing is known of what was.
    pub(super) const NOTHING: Self = Self {
        own: None,
        above: None,
        root: false,
    };

    fn below(self, current: &'a Value, key: &str, old: Option<&'a Value>) -> Self {
        match self.own {
            None => Self {
                own: None,
                root: false,
                ..self
            },
            // Objects of both versions were brought to one: that these are equal says nothing.
            Some(_) if self.root && matches!(key, "apiVersion" | "kind") => Self {
                own: None,
                above: None,
                root: false,
            },
            Some(own) => Self {
                own: old,
                above: Some((current, own)),
                root: false,
            },
        }
    }

    fn is_unchanged(self, current: &Value) -> bool {
        match (self.own, self.above) {
            (Some(own), _) => own == current,
            (None, Some((current, own))) => current == own,
            (None, None) => false,
        }
    }
}

pub(super) struct Run {
    pub(super) found: Violations,
    /// What is left to spend.
    pub(super) budget: u64,
    /// Whether a rule has ended it all.
    pub(super) over: bool,
}

impl Rules {
    /// Evaluates every rule on an object; `old` is what it was.
    #[must_use]
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Violations {
        let mut run = Run {
            found: Violations::default(),
            budget: RUNTIME_COST_BUDGET,
            over: false,
        };
        if let Some(root) = &self.root {
            let before = Before {
                own: old,
                above: None,
                root: true,
            };
            run.node(root, "", object, old, before);
        }
        run.found
    }
}

impl ObjectRules for Rules {
    fn violations(&self, new: &Value, old: Option<&Value>) -> (Vec<FieldError>, Vec<FieldError>) {
        let found = self.validate(new, old);
        (found.errors, found.warnings)
    }
}

fn join(path: &str, child: &str) -> String {
    if path.is_empty() {
        child.to_owned()
    } else {
        format!("{path}.{child}")
    }
}

impl Run {
    /// Evaluates the rules of a node on a value and of those below it; `path` is where errors are.
    pub(super) fn node<'a>(
        &mut self,
        node: &'a Node,
        path: &str,
        value: &'a Value,
        old: Option<&'a Value>,
        before: Before<'a>,
    ) {
        if self.over || value.is_null() {
            return;
        }
        self.expressions(node, path, value, old.filter(|old| !old.is_null()), before);
        for part in &node.all_of {
            // Parts of `allOf` are not ratcheted by themselves.
            let before = Before {
                own: None,
                ..before
            };
            self.node(part, path, value, old, before);
        }
        match value {
            Value::Array(items) => {
                let Some(below) = &node.items else {
                    return;
                };
                for (index, item) in items.iter().enumerate() {
                    let was = node
                        .list_keys
                        .as_ref()
                        .and_then(|keys| former(keys, item, old));
                    let before = before.below(value, "", was);
                    self.node(below, &format!("{path}[{index}]"), item, was, before);
                }
            }
            Value::Object(fields) => {
                for (key, field) in fields {
                    let was = old.and_then(|old| old.get(key));
                    let before = before.below(value, key, was);
                    if let Some(below) = &node.additional {
                        self.node(below, &format!("{path}[{key}]"), field, was, before);
                    }
                    if let Some(below) = node.properties.get(key) {
                        self.node(below, &join(path, key), field, was, before);
                    }
                }
            }
            _ => {}
        }
    }

    fn stop(&mut self, error: FieldError) {
        self.found.errors.push(error);
        self.over = true;
    }

    fn expressions<'a>(
        &mut self,
        node: &'a Node,
        path: &str,
        value: &'a Value,
        old: Option<&'a Value>,
        before: Before<'a>,
    ) {
        let Some(decl) = &node.decl else {
            return;
        };
        if node.rules.is_empty() {
            return;
        }
        let invalid = |detail: String| FieldError::invalid(path, node.kind.as_str(), detail);
        let mut plain = Variables::new();
        match Cel::wrap(value, decl) {
            Ok(value) => plain.set("self", value),
            Err(error) => return self.found.errors.push(invalid(error.to_string())),
        }
        let old_value = old.and_then(|old| Cel::wrap(old, decl).ok());
        let mut optional = plain.clone();
        optional.set("oldSelf", Cel::Optional(old_value.clone().map(Into::into)));
        if let Some(old) = old_value {
            plain.set("oldSelf", old);
        }
        for rule in &node.rules {
            if self.over {
                return;
            }
            let program = match &rule.program {
                Ok(program) => program,
                Err(fault) => {
                    self.found
                        .errors
                        .push(invalid(format!("rule compile error: {fault}")));
                    continue;
                }
            };
            // A transition needs something that it begins from.
            if rule.uses_old_self && old.is_none() && !rule.optional_old_self {
                continue;
            }
            let variables = if rule.optional_old_self {
                &optional
            } else {
                &plain
            };
            self.rule(rule, program, path, (value, &node.kind), variables, before);
        }
    }

    fn rule<'a>(
        &mut self,
        rule: &'a Rule,
        program: &'a Program,
        path: &str,
        (value, kind): (&'a Value, &str),
        variables: &Variables<'a>,
        before: Before<'a>,
    ) {
        let invalid = |detail: String| FieldError::invalid(path, kind, detail);
        let outcome = program.eval(variables, PER_CALL_LIMIT);
        if outcome.cost > self.budget {
            return self.stop(invalid(
                "validation failed due to running out of cost budget, no further validation rules will be run".into(),
            ));
        }
        self.budget -= outcome.cost;
        let named = if rule.message.is_empty() {
            rule.source.trim()
        } else {
            &rule.message
        };
        match outcome.value {
            Ok(Cel::Bool(true)) => return,
            Ok(_) => {}
            Err(error @ EvalError::NoSuchOverload) => {
                return self.found.errors.push(invalid(format!(
                    "'{error}': call arguments did not match a supported operator, function or macro signature for rule: {named}"
                )));
            }
            Err(error @ EvalError::CostExceeded) => {
                return self.stop(invalid(format!(
                    "'{error}': no further validation rules will be run due to call cost exceeds limit for rule: {named}"
                )));
            }
            Err(error) => {
                return self
                    .found
                    .errors
                    .push(invalid(format!("{error} evaluating rule: {named}")));
            }
        }
        let at = match rule.field_path.as_str() {
            "" => path.to_owned(),
            below if below.starts_with('[') => format!("{path}{below}"),
            below => join(path, below),
        };
        let detail = match self.message(rule, variables) {
            Ok(made) => made.unwrap_or_else(|| match rule.message.as_str() {
                "" => format!("failed rule: {named}"),
                message => message.to_owned(),
            }),
            Err(fault) => return self.stop(FieldError::invalid(at, kind, fault)),
        };
        let error = FieldError {
            kind: reported(&rule.reason, value),
            path: at,
            detail,
        };
        if !rule.uses_old_self && before.is_unchanged(value) {
            self.found.warnings.push(error);
        } else {
            self.found.errors.push(error);
        }
    }

    /// The message that an expression makes, if it makes a good one; an error ends the evaluation.
    fn message<'a>(
        &mut self,
        rule: &'a Rule,
        variables: &Variables<'a>,
    ) -> Result<Option<String>, String> {
        let Some(program) = &rule.message_expression else {
            return Ok(None);
        };
        let outcome = program.eval(variables, PER_CALL_LIMIT);
        if outcome.cost > self.budget {
            return Err("messageExpression evaluation failed due to running out of cost budget, no further validation rules will be run".into());
        }
        match outcome.value {
            Err(EvalError::CostExceeded) => {
                Err("no further validation rules will be run due to call cost exceeds limit for messageExpression".into())
            }
            Ok(Cel::String(text)) => {
                let text = text.trim();
                self.budget -= outcome.cost;
                let good =
                    !text.is_empty() && text.len() <= LONGEST_MESSAGE && !text.contains('\n');
                Ok(good.then(|| text.to_owned()))
            }
            _ => {
                self.budget -= outcome.cost;
                Ok(None)
            }
        }
    }
}

fn reported(reason: &str, value: &Value) -> FieldErrorKind {
    let structured = value.is_object() || value.is_array();
    match reason {
        "FieldValueForbidden" => FieldErrorKind::Forbidden,
        "FieldValueRequired" => FieldErrorKind::Required,
        "FieldValueDuplicate" => FieldErrorKind::Duplicate(value.clone()),
        _ if structured => FieldErrorKind::InvalidAs(String::new()),
        _ => FieldErrorKind::Invalid(value.clone()),
    }
}

/// The element of the former list that has the same keys.
fn former<'a>(keys: &[String], item: &Value, old: Option<&'a Value>) -> Option<&'a Value> {
    let old = old?.as_array()?;
    old.iter()
        .find(|other| keys.iter().all(|key| other.get(key) == item.get(key)))
}
