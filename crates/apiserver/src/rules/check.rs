//! What is wrong with the rules of a schema that is about to be stored.

use std::sync::Arc;

use api::validate::{FieldError, FieldErrorKind};
use cel::{Decl, Program, STATIC_COST_LIMIT, STATIC_TOTAL_COST_LIMIT, Type};
use serde_json::Value;

use super::decl::{count, decl};
use super::{env, field_path, is_embedded, rules_of};

const REASONS: &[&str] = &[
    "FieldValueDuplicate",
    "FieldValueForbidden",
    "FieldValueInvalid",
    "FieldValueRequired",
];
/// The rules that are blamed when all of them are too expensive together.
const MOST_BLAMED: usize = 4;

struct Checker<'a> {
    errors: Vec<FieldError>,
    total: u64,
    expensive: Vec<(u64, String)>,
    /// Sources that were stored before: they are not refused for what they cost alone.
    stored: &'a dyn Fn(&str) -> bool,
}

/// Where a schema lies.
#[derive(Clone, Copy)]
struct Place<'a> {
    root: bool,
    /// How often data of it can occur; none when that is unbounded.
    cardinality: Option<u64>,
    /// The list within which elements cannot be matched with their former selves.
    uncorrelatable: Option<&'a str>,
    depth: usize,
}

/// Checks all rules of an `openAPIV3Schema` that lies at `path`. Rules for which `stored` holds were
/// accepted before, and stay whatever they cost.
#[must_use]
pub fn check(schema: &Value, path: &str, stored: &dyn Fn(&str) -> bool) -> Vec<FieldError> {
    let mut checker = Checker {
        errors: Vec::new(),
        total: 0,
        expensive: Vec::new(),
        stored,
    };
    let root = Place {
        root: true,
        cardinality: Some(1),
        uncorrelatable: None,
        depth: 0,
    };
    checker.visit(schema, path, root);
    if checker.total > STATIC_TOTAL_COST_LIMIT {
        checker
            .expensive
            .sort_by_key(|(cost, _)| std::cmp::Reverse(*cost));
        for (_, path) in checker.expensive.iter().take(MOST_BLAMED) {
            checker.errors.push(FieldError::forbidden(
                path,
                "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema",
            ));
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        let message = too_expensive(what, checker.total, STATIC_TOTAL_COST_LIMIT);
        checker.errors.push(FieldError::forbidden(path, message));
    }
    checker.errors
}

impl Checker<'_> {
    fn visit(&mut self, schema: &Value, path: &str, place: Place<'_>) {
        if place.depth > api::MAX_DEPTH {
            return;
        }
        let inside = Place {
            root: false,
            cardinality: place
                .cardinality
                .and_then(|count| Some(count.saturating_mul(most_children(schema)?))),
            depth: place.depth + 1,
            ..place
        };
        if let Some(items) = schema.get("items").filter(|items| items.is_object()) {
            let own = path.to_owned();
            let correlatable = schema["x-kubernetes-list-type"] == "map";
            let uncorrelatable = if correlatable {
                inside.uncorrelatable
            } else {
                inside.uncorrelatable.or(Some(&own))
            };
            let place = Place {
                uncorrelatable,
                ..inside
            };
            self.visit(items, &format!("{path}.items"), place);
        }
        if let Some(values) = schema.get("additionalProperties").filter(|s| s.is_object()) {
            self.visit(values, &format!("{path}.additionalProperties"), inside);
        }
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            self.visit(property, &format!("{path}.properties[{name}]"), inside);
        }
        if !rules_of(schema).is_empty() {
            self.rules(schema, path, place);
        }
    }

    fn rules(&mut self, schema: &Value, path: &str, place: Place<'_>) {
        let before = self.errors.len();
        for (index, rule) in rules_of(schema).iter().enumerate() {
            self.form(
                rule,
                schema,
                &format!("{path}.x-kubernetes-validations[{index}]"),
            );
        }
        if self.errors.len() > before {
            return;
        }
        let Some(declared) = decl(schema, place.root || is_embedded(schema)) else {
            self.errors.push(FieldError {
                path: format!("{path}.x-kubernetes-validations"),
                kind: FieldErrorKind::Internal,
                detail: "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations".into(),
            });
            return;
        };
        for (index, rule) in rules_of(schema).iter().enumerate() {
            let path = format!("{path}.x-kubernetes-validations[{index}]");
            self.expressions(rule, &declared, &path, place);
        }
    }

    fn form(&mut self, rule: &Value, schema: &Value, path: &str) {
        let text = |name: &str| rule[name].as_str().unwrap_or_default();
        let broken = |text: &str| text.contains(['\n', '\r']);
        let (source, message) = (text("rule").trim(), text("message"));
        let mut add = |error: FieldError| self.errors.push(error);
        let at = |name: &str| format!("{path}.{name}");
        if source.is_empty() {
            add(FieldError::required(at("rule"), "rule is not specified"));
        } else if !message.is_empty() && message.trim().is_empty() {
            add(FieldError::invalid(
                at("message"),
                message,
                "must be non-empty if specified",
            ));
        } else if broken(message.trim()) {
            add(FieldError::invalid(
                at("message"),
                message,
                "must not contain line breaks",
            ));
        } else if broken(source) && message.is_empty() {
            let detail = "message must be specified if rule contains line breaks";
            add(FieldError::required(at("message"), detail));
        }
        let expression = text("messageExpression");
        if !expression.is_empty() && expression.trim().is_empty() {
            let detail = "messageExpression must be non-empty if specified";
            add(FieldError::required(at("messageExpression"), detail));
        }
        if let Some(reason) = rule.get("reason").and_then(Value::as_str)
            && !REASONS.contains(&reason)
        {
            add(FieldError::not_supported(at("reason"), reason, REASONS));
        }
        let field = text("fieldPath");
        if !field.is_empty() && field.trim().is_empty() {
            add(FieldError::invalid(
                at("fieldPath"),
                field,
                "must be non-empty if specified",
            ));
        }
        if broken(field) {
            add(FieldError::invalid(
                at("fieldPath"),
                field,
                "must not contain line breaks",
            ));
        }
        if !field.is_empty() && field_path::normalized(field, schema).is_none() {
            add(FieldError::invalid(
                at("fieldPath"),
                field,
                "must be a valid path",
            ));
        }
    }

    fn expressions(&mut self, rule: &Value, declared: &Arc<Decl>, path: &str, place: Place<'_>) {
        let source = rule["rule"].as_str().unwrap_or_default();
        let env = env(declared, rule["optionalOldSelf"] == true);
        let at = format!("{path}.rule");
        let program = match env.compile(source) {
            Ok(program) if *program.ty() == Type::Bool => program,
            Ok(_) => return self.wrong(&at, rule, "cel expression must evaluate to a bool".into()),
            Err(issues) => return self.wrong(&at, rule, format!("compilation failed: {issues}")),
        };
        // Without a bound, data is repeated as often as it fits into a request.
        let cardinality = place
            .cardinality
            .unwrap_or(cel::MAX_REQUEST_SIZE_BYTES / declared.min_bytes.saturating_add(1));
        let cost = program
            .estimate(Some(declared))
            .max
            .saturating_mul(cardinality);
        self.spend(&at, source, "estimated rule cost", cost);
        self.message(rule, &env, declared, path);
        self.old_self(rule, &program, path, place);
    }

    fn message(&mut self, rule: &Value, env: &cel::Env, declared: &Arc<Decl>, path: &str) {
        let Some(source) = rule["messageExpression"]
            .as_str()
            .filter(|text| !text.is_empty())
        else {
            return;
        };
        let at = format!("{path}.messageExpression");
        match env.compile(source) {
            Ok(program) if *program.ty() == Type::String => {
                let cost = program.estimate(Some(declared)).max;
                self.spend(&at, source, "estimated messageExpression cost", cost);
            }
            Ok(_) => self.wrong(
                &at,
                rule,
                "messageExpression must evaluate to a string".into(),
            ),
            Err(issues) => {
                self.wrong(
                    &at,
                    rule,
                    format!("messageExpression compilation failed: {issues}"),
                );
            }
        }
    }

    fn old_self(&mut self, rule: &Value, program: &Program, path: &str, place: Place<'_>) {
        if program.uses("oldSelf") {
            if let Some(within) = place.uncorrelatable {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {within}"
                );
                let error =
                    FieldError::invalid(format!("{path}.rule"), rule["rule"].clone(), detail);
                self.errors.push(error);
            }
        } else if let Some(optional) = rule.get("optionalOldSelf") {
            self.errors.push(FieldError::invalid(
                format!("{path}.optionalOldSelf"),
                optional.clone(),
                "may not be set if oldSelf is not used in rule",
            ));
        }
    }

    fn wrong(&mut self, path: &str, rule: &Value, detail: String) {
        self.errors.push(FieldError {
            path: path.to_owned(),
            kind: FieldErrorKind::InvalidAs(shown(rule)),
            detail,
        });
    }

    fn spend(&mut self, path: &str, source: &str, what: &str, cost: u64) {
        if cost > STATIC_COST_LIMIT && !(self.stored)(source) {
            let message = too_expensive(what, cost, STATIC_COST_LIMIT);
            self.errors.push(FieldError::forbidden(path, message));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= STATIC_TOTAL_COST_LIMIT / 100 {
            self.expensive.push((cost, path.to_owned()));
        }
    }
}

/// How often data below a schema can occur in one piece of data of it.
fn most_children(schema: &Value) -> Option<u64> {
    match schema["type"].as_str() {
        Some("object") if schema["additionalProperties"].is_object() => {
            count(schema, "maxProperties")
        }
        Some("array") => count(schema, "maxItems"),
        _ => Some(1),
    }
}

fn too_expensive(what: &str, cost: u64, limit: u64) -> String {
    let times = cost as f64 / limit as f64;
    let factor = if times > 100.0 {
        "more than 100x".to_owned()
    } else if times < 1.5 {
        format!("{times:.6}x")
    } else {
        format!("{times:.1}x")
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as errors show it.
fn shown(rule: &Value) -> String {
    let text = |name: &str| format!("{:?}", rule[name].as_str().unwrap_or_default());
    let pointer = |name: &str, kind: &str| match rule.get(name) {
        Some(_) => format!("(*{kind})(0xc000000000)"),
        None => format!("(*{kind})(nil)"),
    };
    format!(
        "apiextensions.ValidationRule{{Rule:{}, Message:{}, MessageExpression:{}, Reason:{}, FieldPath:{}, OptionalOldSelf:{}}}",
        text("rule"),
        text("message"),
        text("messageExpression"),
        pointer("reason", "apiextensions.FieldValueErrorReason"),
        text("fieldPath"),
        pointer("optionalOldSelf", "bool"),
    )
}
