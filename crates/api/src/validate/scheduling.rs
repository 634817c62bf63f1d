//! Where pods may run: tolerations, taints, affinity, topology spread, gates.

use std::collections::HashSet;

use super::at::{At, Errors};
use super::names;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `tolerations` of a pod spec.
pub(super) fn tolerations(at: &At<'_, '_>, out: &mut Errors) {
    for toleration in at.items() {
        let (key, operator) = (toleration.field("key"), toleration.field("operator"));
        let (value, effect) = (toleration.field("value"), toleration.field("effect"));
        if !key.is_empty() {
            out.form(&key, names::qualified_name(key.text()));
        } else if operator.text() != "Exists" {
            out.invalid(
                &operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if toleration.field("tolerationSeconds").is_set() && effect.text() != "NoExecute" {
            out.invalid(
                &effect,
                "effect must be 'NoExecute' when `tolerationSeconds` is set",
            );
        }
        match operator.text() {
            "Equal" | "" => {
                let words = names::label_value(value.text());
                if !words.is_empty() {
                    out.invalid_value(&operator, value.text(), words.join(";"));
                }
            }
            "Exists" => {
                if !value.is_empty() {
                    out.invalid_value(
                        &operator,
                        value.text(),
                        "value must be empty when `operator` is 'Exists'",
                    );
                }
            }
            _ => out.not_supported(&operator, &["Equal", "Exists"]),
        }
        if !effect.is_empty() {
            out.any_of(&effect, EFFECTS);
        }
    }
}

/// `taints` of a node.
pub(super) fn taints(at: &At<'_, '_>, out: &mut Errors) {
    let mut seen = HashSet::new();
    for taint in at.items() {
        let (key, value, effect) = (
            taint.field("key"),
            taint.field("value"),
            taint.field("effect"),
        );
        out.form(&key, names::qualified_name(key.text()));
        let words = names::label_value(value.text());
        if !words.is_empty() {
            out.invalid(&value, words.join(";"));
        }
        out.one_of(&effect, EFFECTS);
        if !seen.insert((key.text(), effect.text())) {
            out.duplicate(&taint);
        }
    }
}

/// `affinity` of a pod spec.
pub(super) fn affinity(at: &At<'_, '_>, out: &mut Errors) {
    let node = at.field("nodeAffinity");
    let required = node.field(REQUIRED);
    if required.is_set() {
        node_selector(&required, out);
    }
    let preferred = node.field(PREFERRED);
    for term in preferred.items() {
        weight(&term, out);
        node_term(&term.field("preference"), false, out);
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let pods = at.field(kind);
        let required = pods.field(REQUIRED);
        for term in required.items() {
            pod_term(&term, out);
        }
        let preferred = pods.field(PREFERRED);
        for term in preferred.items() {
            weight(&term, out);
            pod_term(&term.field("podAffinityTerm"), out);
        }
    }
}

fn weight(term: &At<'_, '_>, out: &mut Errors) {
    let weight = term.field("weight");
    let number = weight.int().unwrap_or_default();
    if !(1..=100).contains(&number) {
        out.invalid_value(&weight, number, "must be in the range 1-100");
    }
}

fn pod_term(term: &At<'_, '_>, out: &mut Errors) {
    out.label_selector(&term.field("labelSelector"));
    out.label_selector(&term.field("namespaceSelector"));
    let key = term.field("topologyKey");
    if key.is_empty() {
        out.required(&key, "can not be empty");
    }
    out.form(&key, names::qualified_name(key.text()));
}

/// A NodeSelector.
pub(super) fn node_selector(at: &At<'_, '_>, out: &mut Errors) {
    let terms = at.field("nodeSelectorTerms");
    if terms.is_empty() {
        out.required(&terms, "must have at least one node selector term");
    }
    for term in terms.items() {
        node_term(&term, true, out);
    }
}

fn node_term(term: &At<'_, '_>, check_values: bool, out: &mut Errors) {
    let expressions = term.field("matchExpressions");
    for expression in expressions.items() {
        let (operator, values) = (expression.field("operator"), expression.field("values"));
        match operator.text() {
            "In" | "NotIn" if values.is_empty() => {
                out.required(
                    &values,
                    "must be specified when `operator` is 'In' or 'NotIn'",
                );
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                out.forbidden(
                    &values,
                    "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                );
            }
            "Gt" | "Lt" if values.len() != 1 => {
                out.required(
                    &values,
                    "must be specified single value when `operator` is 'Lt' or 'Gt'",
                );
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
            _ => out.invalid(&operator, "not a valid selector operator"),
        }
        let key = expression.field("key");
        out.form(&key, names::qualified_name(key.text()));
        for value in values.items().filter(|_| check_values) {
            out.form(&value, names::label_value(value.text()));
        }
    }
    let fields = term.field("matchFields");
    for field in fields.items() {
        let (operator, values, key) = (
            field.field("operator"),
            field.field("values"),
            field.field("key"),
        );
        match operator.text() {
            "In" | "NotIn" => {
                if values.len() != 1 {
                    out.required(
                        &values,
                        "must be only one value when `operator` is 'In' or 'NotIn' for node field selector",
                    );
                }
            }
            _ => out.invalid(&operator, "not a valid selector operator"),
        }
        if key.text() != "metadata.name" {
            out.invalid(&key, "not a valid field selector key");
        }
    }
}

/// `topologySpreadConstraints` of a pod spec.
pub(super) fn topology_spread(at: &At<'_, '_>, out: &mut Errors) {
    let mut seen = HashSet::new();
    for constraint in at.items() {
        let (skew, key, action) = (
            constraint.field("maxSkew"),
            constraint.field("topologyKey"),
            constraint.field("whenUnsatisfiable"),
        );
        let number = skew.int().unwrap_or_default();
        if number <= 0 {
            out.invalid_value(&skew, number, "must be greater than zero");
        }
        if key.is_empty() {
            out.required(&key, "can not be empty");
        } else {
            out.form(&key, names::qualified_name(key.text()));
        }
        out.one_of(&action, &["DoNotSchedule", "ScheduleAnyway"]);
        if !seen.insert((key.text(), action.text())) {
            let pair = format!("{{{}, {}}}", key.text(), action.text());
            out.duplicate_value(&constraint, pair);
        }
        let domains = constraint.field("minDomains");
        if let Some(number) = domains.int() {
            if number <= 0 {
                out.invalid(&domains, "must be greater than zero");
            }
            if action.text() != "DoNotSchedule" {
                let words = format!(
                    "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {}",
                    action.text()
                );
                out.invalid(&domains, words);
            }
        }
        for policy in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            out.any_of(&constraint.field(policy), &["Honor", "Ignore"]);
        }
        out.label_selector(&constraint.field("labelSelector"));
    }
}

/// `schedulingGates` of a pod spec.
pub(super) fn gates(at: &At<'_, '_>, out: &mut Errors) {
    let mut seen = HashSet::new();
    for gate in at.items() {
        let name = gate.field("name").text();
        for detail in names::qualified_name(name) {
            out.invalid_value(&gate, name, detail);
        }
        if !seen.insert(name) {
            out.duplicate_value(&gate, name);
        }
    }
}
