//! Eviction: a delete that asks the PodDisruptionBudgets first.

use std::sync::Arc;

use api::selector::LabelSelector;
use api::status::ApiError;
use api::{meta, resource, schema};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use super::binding::condition;
use crate::admission::attributes::{BodyKind, Operation};
use crate::admission::chain;
use crate::cache::Object;
use crate::hooks::text;
use crate::http::Body;
use crate::pipeline::delete::{self, DeleteOptions};
use crate::pipeline::{Call, meta as system, stages, update};

/// The most pods that a budget may wait for.
const DISRUPTED_LIMIT: usize = 2000;

/// Serves POST of `pods/eviction`.
pub(super) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let ty = schema::type_of("policy", "v1", "Eviction").ok_or_else(ApiError::no_such_path)?;
    let eviction = stages::decode(call, body, "policy/v1", "Eviction", &ty.into())?;
    let name = meta::name(&eviction);
    if !name.is_empty() && name != call.name {
        return Err(ApiError::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    let kind = BodyKind::of("policy", "v1", "Eviction");
    let eviction = chain::body(call, Operation::Create, kind, eviction).await?;
    let mut options =
        DeleteOptions::from_value(eviction.get("deleteOptions").unwrap_or(&Value::Null))?;
    options.dry_run |= call.query.dry_run()?;
    let mut pod_call = Call::internal(&call.state, &call.resource, &call.namespace, &call.name);
    pod_call.user = call.user.clone();
    pod_call.dry_run = options.dry_run;
    let object = update::current(&pod_call, None)?;
    let pod = object.value();
    if !ignores_budgets(&pod) {
        spend(&pod_call, &object, &pod).await?;
    }
    mark(&pod_call, &object).await?;
    options.uid.get_or_insert_with(|| object.uid.to_string());
    delete::delete(&pod_call, &options).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(call.answer(StatusCode::CREATED, &status))
}

/// Pods that do not count as available anyhow.
fn ignores_budgets(pod: &Value) -> bool {
    matches!(
        text(pod, "/status/phase"),
        "Succeeded" | "Failed" | "Pending"
    ) || meta::deletion_timestamp(pod).is_some()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions
        .into_iter()
        .flatten()
        .any(|c| text(c, "/type") == "Ready" && text(c, "/status") == "True")
}

/// Takes the eviction off the budget that the pod is under.
async fn spend(call: &Call, object: &Object, pod: &Value) -> Result<(), ApiError> {
    let budgets: Vec<Arc<Object>> = call
        .state
        .cache
        .kind("policy", "poddisruptionbudgets")
        .list(Some(&call.namespace))
        .into_iter()
        .filter(|budget| {
            let selector = budget
                .value()
                .pointer("/spec/selector")
                .cloned()
                .unwrap_or_default();
            LabelSelector::from_object(&selector)
                .is_ok_and(|selector| selector.matches(object.labels.as_deref()))
        })
        .collect();
    let budget = match budgets.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            return Err(ApiError::internal(
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
            ));
        }
    };
    let value = budget.value();
    if !is_ready(pod) {
        let always = text(&value, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow";
        let number = |pointer| {
            value
                .pointer(pointer)
                .and_then(Value::as_i64)
                .unwrap_or_default()
        };
        let healthy = number("/status/currentHealthy") >= number("/status/desiredHealthy")
            && number("/status/desiredHealthy") > 0;
        if always || healthy {
            return Ok(());
        }
    }
    let budgets = resource::find("policy", "v1", "poddisruptionbudgets")
        .ok_or_else(ApiError::no_such_path)?;
    let mut change = Call::internal(&call.state, budgets, &call.namespace, budget.name());
    change.subresource = "status".to_owned();
    change.dry_run = call.dry_run;
    update::change(&change, |old| spent(old, &call.name))
        .await
        .map(|_| ())
}

/// The budget with one disruption fewer.
fn spent(budget: &Value, pod: &str) -> Result<Value, ApiError> {
    let refuse = |message: String| {
        let mut error = ApiError::too_many(
            "Cannot evict pod as it would violate the pod's disruption budget.",
            0,
        );
        let details = error.details_mut();
        details.retry_after_seconds = None;
        details.causes = vec![json!({"reason": "DisruptionBudget", "message": message})];
        Err(error)
    };
    let name = meta::name(budget);
    let number = |pointer| {
        budget
            .pointer(pointer)
            .and_then(Value::as_i64)
            .unwrap_or_default()
    };
    if number("/status/observedGeneration") < meta::generation(budget) {
        return refuse(format!(
            "The disruption budget {name} is still being processed by the server."
        ));
    }
    let allowed = number("/status/disruptionsAllowed");
    if allowed <= 0 {
        return refuse(format!(
            "The disruption budget {name} needs {} healthy pods and has {} currently",
            number("/status/desiredHealthy"),
            number("/status/currentHealthy"),
        ));
    }
    let waiting = budget
        .pointer("/status/disruptedPods")
        .and_then(Value::as_object);
    if waiting.is_some_and(|pods| pods.len() > DISRUPTED_LIMIT) {
        return refuse(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller".into(),
        );
    }
    let mut new = budget.clone();
    new["status"]["disruptionsAllowed"] = (allowed - 1).into();
    let mut pods = waiting.cloned().unwrap_or_default();
    pods.insert(pod.to_owned(), system::now().into());
    new["status"]["disruptedPods"] = Value::Object(pods);
    Ok(new)
}

/// Says on the pod why it goes.
async fn mark(call: &Call, object: &Object) -> Result<(), ApiError> {
    if text(&object.value(), "/spec/nodeName").is_empty() {
        return Ok(());
    }
    let mut status = Call::internal(&call.state, &call.resource, &call.namespace, &call.name);
    status.subresource = "status".to_owned();
    status.dry_run = call.dry_run;
    let uid = object.uid.clone();
    update::change(&status, |old| {
        let mut new = old.clone();
        if meta::uid(old) == &*uid {
            condition(
                &mut new,
                json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                    "message": "Eviction API: evicting", "lastProbeTime": null,
                    "lastTransitionTime": system::now()}),
            );
        }
        Ok(new)
    })
    .await
    .map(|_| ())
}
