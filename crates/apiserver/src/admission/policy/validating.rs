//! Policies that refuse, warn, or are noted.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use api::status::ApiError;
use cel::Value as Cel;
use serde_json::{Value, json};

use super::config::{Binding, Policy, Validation};
use super::env::Evaluator;
use super::facts::{Asker, Facts, Version};
use super::metrics::Judge;
use super::{BUDGET, VALIDATING, forbidden, namespace_object, params};
use crate::admission::attributes::Attributes;

/// The most bytes of a message that an expression makes.
const LONGEST_MESSAGE: usize = 5 * 1024;
/// The most bytes of an audit annotation's value.
const LONGEST_ANNOTATION: usize = 10 * 1024;

/// What is held against a write.
struct Denial {
    message: String,
    /// How long it took to find.
    took: Duration,
    /// Empty where the validation says none.
    reason: String,
}

impl Denial {
    /// What could not be evaluated.
    fn failure(message: String, took: Duration) -> Self {
        Self {
            message,
            took,
            reason: String::new(),
        }
    }
}

/// A refusal, and by whom.
struct Refusal<'p> {
    policy: &'p Policy,
    binding: Option<&'p Binding>,
    denial: Denial,
}

/// Evaluates every policy that has to do with a write. The first refusal is the answer.
pub(crate) async fn run(attributes: &Attributes<'_>) -> Result<(), ApiError> {
    let state = &attributes.call.state;
    let policies = state.policies.validating.get(state, VALIDATING);
    let mut refusals = Vec::new();
    for policy in policies.iter() {
        let found = match policy.constraints.matches(attributes) {
            Ok(None) => continue,
            Ok(Some(found)) => found,
            Err(error) => {
                let why = format!("failed to configure policy: {}", error.message);
                refusals.extend(misconfigured(policy, None, why));
                continue;
            }
        };
        let version = Version {
            resource: &found.0,
            object: &found.0,
            kind: &found.1,
        };
        attributes.prepare(version.object).await?;
        let mut noted = BTreeMap::new();
        for binding in &policy.bindings {
            let facts = match bound(policy, binding, attributes, version).await {
                Ok(facts) => facts,
                Err(why) => {
                    let why = format!("failed to configure binding: {why}");
                    refusals.extend(misconfigured(policy, Some(binding), why));
                    continue;
                }
            };
            for mut facts in facts {
                facts.namespace = namespace_object(attributes)?;
                let judged = judge(policy, binding, &facts, attributes, &mut noted);
                act(policy, binding, attributes, judged, &mut refusals);
            }
        }
        for (key, values) in noted {
            let key = format!("{}/{key}", policy.name);
            attributes.call.annotations.add(key, values.join(", "));
        }
    }
    match refusals.first() {
        None => Ok(()),
        Some(first) => Err(refused(attributes, first)),
    }
}

fn misconfigured<'p>(
    policy: &'p Policy,
    binding: Option<&'p Binding>,
    message: String,
) -> Option<Refusal<'p>> {
    let denial = Denial::failure(message, Duration::ZERO);
    let refusal = Refusal {
        policy,
        binding,
        denial,
    };
    (!policy.fail_open).then_some(refusal)
}

/// What a binding puts before the policy: a set of facts for each of its params.
pub(super) async fn bound(
    policy: &Policy,
    binding: &Binding,
    attributes: &Attributes<'_>,
    version: Version<'_>,
) -> Result<Vec<Facts>, String> {
    if let Some(constraints) = &binding.constraints {
        let found = constraints
            .matches(attributes)
            .map_err(|error| error.message)?;
        if found.is_none() {
            return Ok(Vec::new());
        }
    }
    let params = params::collect(policy, binding, attributes).await?;
    if params.is_empty() {
        return Ok(Vec::new());
    }
    let facts = Facts::of(attributes, version, Value::Null);
    let with = |params| Facts {
        params,
        ..facts.clone()
    };
    Ok(params.into_iter().map(with).collect())
}

/// What of the validations does not hold, by their index; a second list is refused whatever the
/// binding's actions.
type Judged = (Vec<(usize, Denial)>, Vec<Denial>);

fn judge(
    policy: &Policy,
    binding: &Binding,
    facts: &Facts,
    attributes: &Attributes<'_>,
    noted: &mut BTreeMap<String, Vec<String>>,
) -> Judged {
    let failed = |message: String| -> Judged {
        if policy.fail_open {
            return Judged::default();
        }
        let denial = Denial::failure(message, Duration::ZERO);
        (vec![(0, denial)], Vec::new())
    };
    match policy
        .conditions
        .hold(facts, attributes.call, policy.fail_open)
    {
        Ok(true) => {}
        Ok(false) => return Judged::default(),
        Err(why) => return failed(why),
    }
    let asker = Asker(attributes.call);
    let mut evaluator = match Evaluator::new(facts, &asker, &policy.variables, BUDGET) {
        Ok(evaluator) => evaluator,
        Err(error) => return failed(error.to_string()),
    };
    let mut denials = Vec::new();
    for (index, validation) in policy.validations.iter().enumerate() {
        let began = Instant::now();
        let denial = match evaluator.eval(&validation.source, &validation.program) {
            Err(spent) => return failed(spent.to_string()),
            Ok(Ok(Cel::Bool(true))) => continue,
            Ok(Err(fault)) if policy.fail_open => {
                let by = by(policy, binding, attributes);
                by.validated(&fault, "allow", began.elapsed());
                continue;
            }
            Ok(Err(message)) => Denial::failure(message, began.elapsed()),
            Ok(Ok(_)) => Denial {
                message: message(validation, &mut evaluator),
                took: began.elapsed(),
                reason: validation.reason.clone(),
            },
        };
        denials.push((index, denial));
    }
    let mut refused = Vec::new();
    let Ok(mut evaluator) = Evaluator::new(facts, &asker, &policy.variables, BUDGET) else {
        return (denials, refused);
    };
    for annotation in &policy.annotations {
        let began = Instant::now();
        let fault = match evaluator.eval(&annotation.source, &annotation.program) {
            Err(spent) => return failed(spent.to_string()),
            Ok(Ok(Cel::String(value))) => {
                note(noted, &annotation.key, value.trim());
                continue;
            }
            Ok(Ok(Cel::Null)) => continue,
            Ok(Ok(other)) => format!(
                "valueExpression '{}' resulted in unsupported return type: {}. Return type must be either string or null.",
                annotation.source,
                other.ty()
            ),
            Ok(Err(_)) if policy.fail_open => continue,
            Ok(Err(fault)) => fault,
        };
        refused.push(Denial::failure(fault, began.elapsed()));
    }
    (denials, refused)
}

fn note(noted: &mut BTreeMap<String, Vec<String>>, key: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let mut end = value.len().min(LONGEST_ANNOTATION);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    let value = value[..end].to_owned();
    let values = noted.entry(key.to_owned()).or_default();
    if !values.contains(&value) {
        values.push(value);
    }
}

/// The validation's own words, or words for it.
fn message<'a>(validation: &'a Validation, evaluator: &mut Evaluator<'a>) -> String {
    if let Some((source, program)) = &validation.message_expression {
        match evaluator.eval(source, program) {
            Ok(Ok(Cel::String(made))) => {
                let made = made.trim();
                if !made.is_empty() && made.len() <= LONGEST_MESSAGE && !made.contains('\n') {
                    return made.to_owned();
                }
            }
            Ok(Ok(_)) => {}
            Ok(Err(fault)) => tracing::debug!(fault, "a messageExpression failed"),
            Err(spent) => return format!("failed messageExpression: {spent}"),
        }
    }
    if validation.message.is_empty() {
        return format!("failed expression: {}", validation.source);
    }
    validation.message.clone()
}

fn by<'a>(policy: &'a Policy, binding: &'a Binding, attributes: &Attributes<'a>) -> Judge<'a> {
    Judge {
        state: &attributes.call.state,
        policy: &policy.name,
        binding: &binding.name,
    }
}

/// Does with what was found what the binding says.
fn act<'p>(
    policy: &'p Policy,
    binding: &'p Binding,
    attributes: &Attributes<'_>,
    (denials, refused): Judged,
    refusals: &mut Vec<Refusal<'p>>,
) {
    let refusal = |denial| Refusal {
        policy,
        binding: Some(binding),
        denial,
    };
    let counted = by(policy, binding, attributes);
    for denial in &refused {
        counted.validated(&denial.message, "deny", denial.took);
    }
    for (index, denial) in denials {
        let does = |action: &str| binding.actions.iter().any(|own| own == action);
        for action in &binding.actions {
            let action = action.to_ascii_lowercase();
            counted.validated(&denial.message, &action, denial.took);
        }
        if does("Audit") {
            let failure = json!([{
                "message": denial.message,
                "policy": policy.name,
                "binding": binding.name,
                "expressionIndex": index,
                "validationActions": binding.actions,
            }]);
            let key = "validation.policy.admission.k8s.io/validation_failure";
            attributes.call.annotations.add(key, failure.to_string());
        }
        if does("Warn") {
            attributes.call.warn(format!(
                "Validation failed for ValidatingAdmissionPolicy '{}' with binding '{}': {}",
                policy.name, binding.name, denial.message
            ));
        }
        if does("Deny") {
            refusals.push(refusal(denial));
        }
    }
    refusals.extend(refused.into_iter().map(refusal));
}

fn refused(attributes: &Attributes<'_>, refusal: &Refusal<'_>) -> ApiError {
    let name = &refusal.policy.name;
    let by = match refusal.binding {
        Some(binding) => format!("'{name}' with binding '{}'", binding.name),
        None => format!("'{name}'"),
    };
    let message = format!(
        "ValidatingAdmissionPolicy {by} denied request: {}",
        refusal.denial.message
    );
    let mut error = forbidden(attributes, &message);
    let (code, reason) = match refusal.denial.reason.as_str() {
        "Forbidden" => (403, "Forbidden"),
        "Unauthorized" => (401, "Unauthorized"),
        "RequestEntityTooLarge" => (413, "RequestEntityTooLarge"),
        _ => (422, "Invalid"),
    };
    error.code = code;
    error.reason = reason.into();
    error.details_mut().causes.push(json!({"message": message}));
    error
}
