//! The selectors that questions to the authorizers carry.
//!
//! Invariant: what cannot be read is left out. Terms only narrow a question, so one without them asks
//! for more, and never gets what was not asked.

use api::selector::{FieldSelector, LabelSelector, Operator, Requirement};
use api::validate::{FieldError, names};
use serde_json::Value;

use super::token::strings;

/// The selectors of a list, a watch or a deletion of many.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selectors {
    /// Which values fields must have.
    pub fields: FieldSelector,
    /// Which labels there must be.
    pub labels: Vec<Requirement>,
}

/// No selectors.
pub static UNSELECTED: Selectors = Selectors {
    fields: FieldSelector { terms: Vec::new() },
    labels: Vec::new(),
};

impl Selectors {
    /// Selectors as they are written in a query; empty is none.
    pub fn parse(fields: &str, labels: &str) -> Self {
        let labels = LabelSelector::parse(labels).map(|all| all.requirements);
        Self {
            fields: FieldSelector::parse(fields).unwrap_or_default(),
            labels: labels.unwrap_or_default(),
        }
    }

    /// The selectors of a review's `resourceAttributes`, and what is to be said of what was left out.
    pub(super) fn of_review(attributes: &Value) -> (Self, Vec<String>) {
        let raw = |selector: &Value| selector["rawSelector"].as_str().unwrap_or("").to_owned();
        let (fields, labels) = (&attributes["fieldSelector"], &attributes["labelSelector"]);
        let mut selectors = Self::parse(&raw(fields), &raw(labels));
        let mut faults = Vec::new();
        let ignored = |which: &str, some: bool| {
            let how = if some { "partially " } else { "" };
            format!("spec.resourceAttributes.{which} {how}ignored due to parse error")
        };
        let mut wrong = FieldSelector::parse(&raw(fields)).is_err();
        for requirement in list(fields) {
            match field_term(requirement) {
                Some(term) => selectors.fields.terms.push(term),
                None => wrong = true,
            }
        }
        if wrong {
            let some = !selectors.fields.terms.is_empty();
            faults.push(ignored("fieldSelector", some));
        }
        let mut wrong = LabelSelector::parse(&raw(labels)).is_err();
        for requirement in list(labels) {
            match label_term(requirement) {
                Some(term) => selectors.labels.push(term),
                None => wrong = true,
            }
        }
        if wrong {
            faults.push(ignored("labelSelector", !selectors.labels.is_empty()));
        }
        (selectors, faults)
    }
}

fn list(selector: &Value) -> impl Iterator<Item = &Value> {
    let all = selector["requirements"].as_array();
    all.into_iter().flatten()
}

fn field_term(requirement: &Value) -> Option<(String, bool, String)> {
    let values = strings(&requirement["values"]);
    let [value] = values.as_slice() else {
        return None;
    };
    let equal = match requirement["operator"].as_str()? {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    Some((
        requirement["key"].as_str()?.to_owned(),
        equal,
        value.clone(),
    ))
}

fn label_term(requirement: &Value) -> Option<Requirement> {
    let operator = match requirement["operator"].as_str()? {
        "In" => Operator::In,
        "NotIn" => Operator::NotIn,
        "Exists" => Operator::Exists,
        "DoesNotExist" => Operator::DoesNotExist,
        _ => return None,
    };
    let key = requirement["key"].as_str()?;
    Requirement::new(key, operator, strings(&requirement["values"])).ok()
}

/// What is wrong with the selectors of a review's `resourceAttributes`, in upstream's words. Operators
/// that are not known here are no mistake: the client may be newer.
pub(super) fn check(attributes: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for which in ["fieldSelector", "labelSelector"] {
        let selector = &attributes[which];
        if selector.is_null() {
            continue;
        }
        let path = format!("spec.resourceAttributes.{which}");
        let raw = selector["rawSelector"].as_str().unwrap_or_default();
        let any = list(selector).next().is_some();
        if !raw.is_empty() && any {
            let words = "may not specified at the same time as requirements";
            errors.push(FieldError::invalid(
                format!("{path}.rawSelector"),
                raw,
                words,
            ));
        }
        if raw.is_empty() && !any {
            let words =
                format!("when {path} is specified, requirements or rawSelector is required");
            errors.push(FieldError::required(format!("{path}.requirements"), words));
        }
        for (index, requirement) in list(selector).enumerate() {
            let path = format!("{path}.requirements[{index}]");
            check_requirement(requirement, &path, which == "labelSelector", &mut errors);
        }
    }
    errors
}

fn check_requirement(requirement: &Value, path: &str, labels: bool, errors: &mut Vec<FieldError>) {
    let key = requirement["key"].as_str().unwrap_or_default();
    if !labels && key.is_empty() {
        errors.push(FieldError::required(
            format!("{path}.key"),
            "must be specified",
        ));
    }
    let values = strings(&requirement["values"]);
    let at = format!("{path}.values");
    match requirement["operator"].as_str().unwrap_or_default() {
        "In" | "NotIn" if values.is_empty() => {
            let words = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(at, words));
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let words = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(at, words));
        }
        _ => {}
    }
    if labels {
        for words in names::qualified_name(key) {
            errors.push(FieldError::invalid(format!("{path}.key"), key, words));
        }
        for (index, value) in values.iter().enumerate() {
            for words in names::label_value(value) {
                let at = format!("{path}.values[{index}]");
                errors.push(FieldError::invalid(at, value.as_str(), words));
            }
        }
    }
}
