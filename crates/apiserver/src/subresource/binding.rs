//! Binding of a pod to a node.

use api::status::ApiError;
use api::validate::FieldError;
use api::{meta, resource};
use bytes::Bytes;
use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::admission::attributes::{BodyKind, Operation};
use crate::admission::chain;
use crate::hooks::{spec_mut, text};
use crate::http::Body;
use crate::pipeline::{Call, meta as system, stages, update};

/// Serves POST of `pods/binding` and `bindings`.
pub(super) async fn serve(call: &Call, body: &Bytes) -> Result<Response<Body>, ApiError> {
    let pods = resource::find("", "v1", "pods").ok_or_else(ApiError::no_such_path)?;
    let bindings = resource::find("", "v1", "bindings").ok_or_else(ApiError::no_such_path)?;
    let binding = stages::decode(call, body, "v1", "Binding", &bindings.schema)?;
    let kind = BodyKind::of("", "v1", "Binding");
    let binding = chain::body(call, Operation::Create, kind, binding).await?;
    let name = if call.name.is_empty() {
        meta::name(&binding)
    } else {
        &call.name
    };
    if name != meta::name(&binding) && !meta::name(&binding).is_empty() {
        return Err(ApiError::bad_request(format!(
            "name in URL does not match name in Binding object: {name}"
        )));
    }
    let mut pod = Call::internal(&call.state, pods, &call.namespace, name);
    pod.user = call.user.clone();
    pod.dry_run = call.dry_run || call.query.dry_run()?;
    pod.subresource = "binding".to_owned();
    check(&pod, &binding)?;
    update::change(&pod, |old| bound(&pod, old, &binding)).await?;
    let status = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
    });
    Ok(call.answer(StatusCode::CREATED, &status))
}

fn check(pod: &Call, binding: &Value) -> Result<(), ApiError> {
    let mut errors = Vec::new();
    let kind = text(binding, "/target/kind");
    if !matches!(kind, "" | "Node" | "Minion") {
        errors.push(FieldError::not_supported(
            "target.kind",
            kind,
            &["Node", "<empty>"],
        ));
    }
    if text(binding, "/target/name").is_empty() {
        errors.push(FieldError::required("target.name", ""));
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(ApiError::invalid_kind("", "Binding", &pod.name, &errors))
    }
}

/// The pod, bound.
fn bound(call: &Call, pod: &Value, binding: &Value) -> Result<Value, ApiError> {
    let conflict = |why: String| {
        let mut error = ApiError::conflict(&call.resource, &call.name, &why);
        error.message = format!(
            "Operation cannot be fulfilled on pods/binding {:?}: {why}",
            call.name
        );
        error.details_mut().kind = "pods/binding".to_owned();
        Err(error)
    };
    let (uid, wanted) = (meta::uid(pod), meta::uid(binding));
    if !wanted.is_empty() && uid != wanted {
        return conflict(format!(
            "Precondition failed: UID in precondition: {wanted}, UID in object meta: {uid}"
        ));
    }
    let (revision, wanted) = (meta::resource_version(pod), meta::resource_version(binding));
    if !wanted.is_empty() && revision != wanted {
        return conflict(format!(
            "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
        ));
    }
    if meta::deletion_timestamp(pod).is_some() {
        return conflict(format!(
            "pod {} is being deleted, cannot be assigned to a host",
            call.name
        ));
    }
    let node = text(pod, "/spec/nodeName");
    if !node.is_empty() {
        return conflict(format!(
            "pod {} is already assigned to node {node:?}",
            call.name
        ));
    }
    let gates = pod
        .pointer("/spec/schedulingGates")
        .and_then(Value::as_array);
    if gates.is_some_and(|gates| !gates.is_empty()) {
        return conflict(format!(
            "pod {} has non-empty .spec.schedulingGates",
            call.name
        ));
    }
    let mut new = pod.clone();
    if let Some(spec) = spec_mut(&mut new) {
        spec.insert("nodeName".to_owned(), text(binding, "/target/name").into());
    }
    for (field, values) in [
        ("annotations", meta::annotations(binding)),
        ("labels", meta::labels(binding)),
    ] {
        let Some(values) = values.filter(|values| !values.is_empty()) else {
            continue;
        };
        if let Some(metadata) = meta::metadata_mut(&mut new) {
            let all = metadata.entry(field).or_insert_with(|| json!({}));
            if let Some(all) = all.as_object_mut() {
                all.extend(values.iter().map(|(k, v)| (k.clone(), v.clone())));
            }
        }
    }
    condition(
        &mut new,
        json!({"type": "PodScheduled", "status": "True", "lastProbeTime": null,
            "lastTransitionTime": system::now()}),
    );
    Ok(new)
}

/// Sets a condition of an object's status by its type; the transition time stays when the status
/// stays.
pub(super) fn condition(object: &mut Value, mut condition: Value) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    let status = map.entry("status").or_insert_with(|| json!({}));
    let Some(status) = status.as_object_mut() else {
        return;
    };
    let list = status.entry("conditions").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    match list
        .iter_mut()
        .find(|c| c.get("type") == condition.get("type"))
    {
        Some(found) => {
            if found.get("status") == condition.get("status")
                && let Some(time) = found.get("lastTransitionTime")
            {
                condition["lastTransitionTime"] = time.clone();
            }
            *found = condition;
        }
        None => list.push(condition),
    }
}
