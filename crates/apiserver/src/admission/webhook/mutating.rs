//! Webhooks that may change an object: asked one after the other, in the order of their names, and
//! once more when somebody after them changed it and they want that.

use std::time::Instant;

use api::status::ApiError;
use serde_json::{Value, json};

use super::call::{self, Refusal, Sort};
use super::matches::{self, Invocation};
use super::review::Answer;
use super::{MUTATING, Reinvocation};
use crate::admission::attributes::Attributes;

/// Asks them; whether any changed the object.
pub(crate) async fn run(
    attributes: &mut Attributes<'_>,
    again: &mut Reinvocation,
) -> Result<bool, ApiError> {
    let state = attributes.call.state.clone();
    let webhooks = state.webhooks.mutating.get(&state, MUTATING);
    let mut any = false;
    if again.round > 0 && again.left != attributes.object {
        // Built-in plugins have changed it.
        again.changed();
    }
    for (index, webhook) in webhooks.iter().enumerate() {
        let Some(invocation) = matches::invocation(webhook, attributes).await? else {
            continue;
        };
        if again.round > 0 && !again.due.contains(&webhook.uid) {
            continue;
        }
        let began = Instant::now();
        let outcome = ask(&invocation, attributes).await;
        let settled = call::settle(&invocation, attributes, Sort::Mutating, began, outcome)?;
        let changed = settled.as_ref().is_some_and(|patched| patched.changed);
        annotate(
            &invocation,
            attributes,
            again.round,
            index,
            settled.as_ref(),
        );
        if let Some(object) = settled.and_then(|patched| patched.object) {
            let taken = attributes.take(object, &invocation.resource).await;
            taken.map_err(ApiError::internal)?;
        }
        if changed {
            any = true;
            again.changed();
        }
        if webhook.reinvocable {
            again.asked.insert(webhook.uid.clone());
        }
    }
    again.left = attributes.object.clone();
    Ok(any)
}

/// What came of a webhook's patch.
struct Patched {
    /// The object with it; absent where there was no patch.
    object: Option<Value>,
    patch: Value,
    changed: bool,
}

async fn ask(invocation: &Invocation<'_>, attributes: &Attributes<'_>) -> Result<Patched, Refusal> {
    let answer = call::ask(invocation, attributes, Sort::Mutating).await?;
    patched(invocation, attributes, &answer)
}

fn patched(
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    answer: &Answer,
) -> Result<Patched, Refusal> {
    let nothing = Patched {
        object: None,
        patch: Value::Null,
        changed: false,
    };
    if answer.patch.is_empty() {
        return Ok(nothing);
    }
    let patch: Value = serde_json::from_slice(&answer.patch).map_err(|error| Refusal::Failed {
        why: format!("received undecodable patch in webhook response: {error}"),
        code: 503,
    })?;
    if patch.as_array().is_some_and(Vec::is_empty) {
        return Ok(nothing);
    }
    let wrong = |error: &dyn std::fmt::Display| Refusal::Wrong(ApiError::internal(error));
    if attributes.object.is_null() {
        return Err(wrong(&format!(
            "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
            invocation.webhook.name
        )));
    }
    if answer.patch_type != "JSONPatch" {
        return Err(Refusal::Failed {
            why: format!("unsupported patch type {:?}", answer.patch_type),
            code: 400,
        });
    }
    let before = attributes.shown(&attributes.object, &invocation.resource);
    let mut object = before.clone();
    api::patch::json(&mut object, &answer.patch).map_err(|error| match error {
        api::patch::PatchError::Malformed(why) => Refusal::Failed {
            why: format!("received undecodable patch in webhook response: {why}"),
            code: 503,
        },
        error => wrong(&error),
    })?;
    Ok(Patched {
        changed: object != before,
        object: Some(object),
        patch,
    })
}

/// Says in the audit log who changed what.
fn annotate(
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    round: usize,
    index: usize,
    patched: Option<&Patched>,
) {
    let (annotations, webhook) = (&attributes.call.annotations, invocation.webhook);
    let place = format!("webhook.admission.k8s.io/round_{round}_index_{index}");
    let changed = patched.is_some_and(|patched| patched.changed);
    let who = json!({"configuration": webhook.configuration, "webhook": webhook.name});
    let mut mutation = who.clone();
    mutation["mutated"] = changed.into();
    annotations.add(format!("mutation.{place}"), mutation.to_string());
    match patched {
        None => annotations.add(format!("failed-open.mutation.{place}"), &webhook.name),
        Some(Patched { patch, object, .. }) if object.is_some() => {
            let mut told = who;
            told["patch"] = patch.clone();
            told["patchType"] = "JSONPatch".into();
            annotations.add_content(format!("patch.{place}"), told.to_string());
        }
        Some(_) => {}
    }
}
