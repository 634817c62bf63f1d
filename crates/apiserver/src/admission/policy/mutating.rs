//! Policies that change an object: one after the other, in the order of their names, and once more
//! when somebody after them changed it and they want that.

use std::collections::BTreeSet;
use std::time::Instant;

use api::fields::Form;
use api::status::ApiError;
use cel::{Object as CelObject, Value as Cel};
use serde_json::{Value, json};

use super::config::{Binding, Mutation, Policy};
use super::env::Evaluator;
use super::facts::{Asker, Facts, Version};
use super::metrics::Judge;
use super::validating::bound;
use super::{BUDGET, MUTATING, forbidden, namespace_object};
use crate::admission::attributes::{Attributes, GroupVersionResource};
use crate::admission::webhook::Reinvocation;

/// Which policies are asked again.
#[derive(Debug, Default)]
pub(crate) struct PolicyReinvocation {
    /// Asked, and willing to be asked again.
    asked: BTreeSet<String>,
    /// To be asked again.
    due: BTreeSet<String>,
    /// The object as the last round left it.
    left: Value,
}

impl PolicyReinvocation {
    fn changed(&mut self) {
        self.due.append(&mut self.asked);
    }
}

/// A policy that could not do its work.
struct Fault {
    by: String,
    why: String,
}

/// Lets every policy change the object that has to do with it; whether any did.
pub(crate) async fn run(
    attributes: &mut Attributes<'_>,
    again: &mut Reinvocation,
) -> Result<bool, ApiError> {
    // A deletion has nothing that could be changed.
    if attributes.object.is_null() {
        return Ok(false);
    }
    let state = attributes.call.state.clone();
    let policies = state.policies.mutating.get(&state, MUTATING);
    if !again.is_first() && again.policies.left != attributes.object {
        again.policies.changed();
    }
    let mut any = false;
    let mut faults = Vec::new();
    for policy in policies.iter() {
        if !again.is_first() && !again.policies.due.contains(&policy.name) {
            continue;
        }
        let before = attributes.object.clone();
        let mut asked = false;
        if let Err(fault) = ask(policy, attributes, &mut asked).await?
            && !policy.fail_open
        {
            faults.push(fault);
        }
        if attributes.object != before {
            any = true;
            again.policies.changed();
            if !again.is_first() {
                again.changed();
            }
        }
        if asked && policy.reinvocable {
            again.policies.asked.insert(policy.name.clone());
        }
    }
    again.policies.left = attributes.object.clone();
    if faults.is_empty() {
        return Ok(any);
    }
    Err(refused(attributes, &faults))
}

fn refused(attributes: &Attributes<'_>, faults: &[Fault]) -> ApiError {
    let mut error = forbidden(attributes, "admission request denied by policy");
    let words: Vec<String> = faults
        .iter()
        .map(|Fault { by, why }| format!("policy {by} denied request: {why}"))
        .collect();
    if let Some(first) = words.first() {
        error.message.clone_from(first);
    }
    let causes = words.into_iter().map(|message| json!({"message": message}));
    error.details_mut().causes.extend(causes);
    error
}

/// Lets one policy change the object, with each of its bindings.
async fn ask(
    policy: &Policy,
    attributes: &mut Attributes<'_>,
    asked: &mut bool,
) -> Result<Result<(), Fault>, ApiError> {
    let found = match policy.constraints.matches(attributes) {
        Ok(None) => return Ok(Ok(())),
        Ok(Some(found)) => found,
        Err(error) => {
            let why = format!("failed to configure policy: {}", error.message);
            return Ok(Err(Fault {
                by: format!("{:?}", policy.name),
                why,
            }));
        }
    };
    let version = Version {
        resource: &found.0,
        object: &found.0,
        kind: &found.1,
    };
    attributes.prepare(version.object).await?;
    for binding in &policy.bindings {
        let fault = |why| Fault {
            by: format!("'{}' with binding '{}'", policy.name, binding.name),
            why,
        };
        let all = match params_of(policy, binding, attributes, version).await {
            Ok(all) => all,
            Err(why) => return Ok(Err(fault(format!("failed to configure binding: {why}")))),
        };
        for params in all {
            *asked = true;
            let mutated = mutate(policy, &binding.name, attributes, version, params);
            if let Err(why) = mutated.await? {
                return Ok(Err(fault(why)));
            }
        }
    }
    Ok(Ok(()))
}

async fn params_of(
    policy: &Policy,
    binding: &Binding,
    attributes: &Attributes<'_>,
    version: Version<'_>,
) -> Result<Vec<Value>, String> {
    let all = bound(policy, binding, attributes, version).await?;
    Ok(all.into_iter().map(|facts| facts.params).collect())
}

/// Each mutation works on what the one before made.
async fn mutate(
    policy: &Policy,
    binding: &str,
    attributes: &mut Attributes<'_>,
    version: Version<'_>,
    params: Value,
) -> Result<Result<(), String>, ApiError> {
    let namespace = namespace_object(attributes)?;
    for (index, mutation) in policy.mutations.iter().enumerate() {
        attributes.prepare(version.object).await?;
        let facts = Facts {
            params: params.clone(),
            ..Facts::of(attributes, version, namespace.clone())
        };
        if index == 0 {
            match policy
                .conditions
                .hold(&facts, attributes.call, policy.fail_open)
            {
                Ok(true) => {}
                Ok(false) => return Ok(Ok(())),
                Err(why) => return Ok(Err(why)),
            }
        }
        let began = Instant::now();
        let done = change(policy, mutation, &facts, attributes, version).await;
        let judge = Judge {
            state: &attributes.call.state,
            policy: &policy.name,
            binding,
        };
        judge.mutated(done.as_ref().err().map(String::as_str), began.elapsed());
        if done.is_err() {
            return Ok(done);
        }
    }
    Ok(Ok(()))
}

/// One mutation.
async fn change(
    policy: &Policy,
    mutation: &Mutation,
    facts: &Facts,
    attributes: &mut Attributes<'_>,
    version: Version<'_>,
) -> Result<(), String> {
    let live = attributes.shown(&attributes.object, version.object);
    let made = evaluate(policy, mutation, facts, attributes)?;
    let changed = if mutation.json_patch {
        patched(&live, &made)
    } else {
        applied(attributes, version.object, &live, made)
    };
    match changed? {
        Some(object) if object != live => attributes.take(object, version.object).await,
        _ => Ok(()),
    }
}

/// The JSON that a mutation's expression makes.
fn evaluate(
    policy: &Policy,
    mutation: &Mutation,
    facts: &Facts,
    attributes: &Attributes<'_>,
) -> Result<Value, String> {
    let asker = Asker(attributes.call);
    let mut evaluator = Evaluator::new(facts, &asker, &policy.variables, BUDGET)
        .map_err(|error| error.to_string())?;
    let value = evaluator
        .eval(&mutation.source, &mutation.program)
        .map_err(|spent| spent.to_string())??;
    let mut wrong = Vec::new();
    match &value {
        Cel::List(operations) => {
            for operation in operations.iter() {
                let operation = operation.map_err(|error| error.to_string())?;
                if let Cel::Object(CelObject::Built(operation)) = &operation
                    && let Some(value) = operation.fields.get("value")
                {
                    names_match(value, "Object", true, 0, &mut wrong);
                }
            }
        }
        value => names_match(value, "Object", false, 0, &mut wrong),
    }
    if !wrong.is_empty() {
        return Err(format!("type mismatch: {}", wrong.join("\n")));
    }
    value.to_json().map_err(|error| error.to_string())
}

/// Whether objects are named for the fields that they stand in.
fn names_match(value: &Cel<'_>, path: &str, anywhere: bool, depth: usize, wrong: &mut Vec<String>) {
    if depth > api::MAX_DEPTH {
        return;
    }
    match value {
        Cel::Object(CelObject::Built(built)) => {
            // The value of a patch begins wherever its path leads.
            let path = if anywhere { &*built.name } else { path };
            if *built.name != *path {
                wrong.push(format!(
                    "unexpected type name {:?}, expected {path:?}, which matches field name path from root Object type",
                    &*built.name
                ));
            }
            for (name, field) in &built.fields {
                names_match(field, &format!("{path}.{name}"), false, depth + 1, wrong);
            }
        }
        Cel::List(items) => {
            for item in items.iter().flatten() {
                names_match(&item, path, anywhere, depth + 1, wrong);
            }
        }
        Cel::Map(map) => {
            for (_, value) in map.iter().flatten() {
                names_match(&value, path, anywhere, depth + 1, wrong);
            }
        }
        _ => {}
    }
}

fn patched(live: &Value, operations: &Value) -> Result<Option<Value>, String> {
    let mut object = live.clone();
    let bytes = operations.to_string();
    match api::patch::json(&mut object, bytes.as_bytes()) {
        Ok(()) => Ok(Some(object)),
        // A test that fails means that there is nothing to change.
        Err(api::patch::PatchError::TestFailed) => Ok(None),
        Err(error) => Err(format!("JSON Patch: {error}")),
    }
}

fn applied(
    attributes: &Attributes<'_>,
    version: &GroupVersionResource,
    live: &Value,
    mut patch: Value,
) -> Result<Option<Value>, String> {
    for name in ["apiVersion", "kind"] {
        if let (Some(own), Some(patch)) = (live.get(name), patch.as_object_mut()) {
            patch.insert(name.to_owned(), own.clone());
        }
    }
    let schema = attributes.schema(version);
    let form = schema.as_ref().map_or(Form::Free, Form::of);
    match api::fields::overlay(form, live, &patch) {
        Ok(object) => Ok(Some(object)),
        Err(error) => Err(format!("error applying patch: {error}")),
    }
}
