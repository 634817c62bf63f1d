//! What a node may write: itself, the pods that are bound to it, its own leases and tokens of its
//! pods. RBAC says which kinds; this says which objects.

use std::fmt::Display;

use api::meta;
use api::status::ApiError;
use serde_json::Value;

use super::pod::MIRROR;
use super::text;
use crate::auth::user::User;
use crate::pipeline::Call;

/// Where nodes keep their heartbeats.
const LEASES: &str = "kube-node-lease";
/// Labels that say where pods may go, and which a node may therefore not give itself.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io/";

/// The name of the node that a user is.
fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

fn forbidden(call: &Call, why: impl Display) -> Result<(), ApiError> {
    Err(ApiError::forbidden(
        &call.resource.group,
        &call.resource.plural,
        &call.name,
        why,
    ))
}

/// Checks a create (without `old`) or an update by a node.
pub(crate) fn write(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    let Some(node) = node_of(&call.user) else {
        return Ok(());
    };
    match (&*call.resource.group, &*call.resource.plural) {
        ("", "nodes") => own_node(call, node, new, old),
        ("", "pods") => match old {
            None => mirror_pod(call, node, new),
            Some(old) => own_pod(call, node, old, "update pod status for"),
        },
        ("coordination.k8s.io", "leases") => own_lease(call, node, meta::name(new)),
        ("storage.k8s.io", "csinodes") => own_named(call, node, meta::name(new)),
        _ => Ok(()),
    }
}

/// Checks a delete (or eviction) by a node.
pub(crate) fn delete(call: &Call, object: &Value) -> Result<(), ApiError> {
    let Some(node) = node_of(&call.user) else {
        return Ok(());
    };
    match (&*call.resource.group, &*call.resource.plural) {
        ("", "nodes") => own_named(call, node, meta::name(object)),
        ("", "pods") => own_pod(call, node, object, "delete"),
        ("coordination.k8s.io", "leases") => own_lease(call, node, meta::name(object)),
        ("storage.k8s.io", "csinodes") => own_named(call, node, meta::name(object)),
        _ => Ok(()),
    }
}

/// Checks a request for a service account token by a node.
pub(crate) fn token(call: &Call, request: &Value) -> Result<(), ApiError> {
    let Some(node) = node_of(&call.user) else {
        return Ok(());
    };
    let bound = |field: &str| text(request, &format!("/spec/boundObjectRef/{field}"));
    if bound("kind") != "Pod" || bound("name").is_empty() {
        return forbidden(call, "node requested token not bound to a pod");
    }
    if bound("uid").is_empty() {
        return forbidden(
            call,
            "node requested token with a pod binding without a uid",
        );
    }
    let Some(pod) = call.state.core("pods").get(&call.namespace, bound("name")) else {
        return Err(ApiError::not_found_named("", "pods", bound("name")));
    };
    if &*pod.uid != bound("uid") {
        let (found, wanted) = (&pod.uid, bound("uid"));
        return forbidden(
            call,
            format!(
                "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated ({found})"
            ),
        );
    }
    if pod.field("spec.nodeName") != Some(node) {
        return forbidden(
            call,
            "node requested token bound to a pod scheduled on a different node",
        );
    }
    Ok(())
}

fn own_named(call: &Call, node: &str, name: &str) -> Result<(), ApiError> {
    if name == node {
        Ok(())
    } else {
        let kind = &call.resource.singular;
        forbidden(
            call,
            format!("node {node:?} is not allowed to modify {kind} {name:?}"),
        )
    }
}

fn own_node(call: &Call, node: &str, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    own_named(call, node, meta::name(new))?;
    let label = |object: &Value, key: &str| meta::label(object, key).map(str::to_owned);
    let restricted = |object: &Value| -> Vec<String> {
        let labels = meta::labels(object).into_iter().flatten();
        labels
            .map(|(key, _)| key)
            .filter(|key| key.contains(RESTRICTED_LABELS))
            .cloned()
            .collect()
    };
    let mut keys = restricted(new);
    keys.extend(old.into_iter().flat_map(restricted));
    keys.retain(|key| label(new, key) != old.and_then(|old| label(old, key)));
    keys.sort();
    keys.dedup();
    if !keys.is_empty() {
        let keys = keys.join(", ");
        return forbidden(call, format!("is not allowed to modify labels: {keys}"));
    }
    let taints = |object: &Value| object.pointer("/spec/taints").cloned();
    if old.is_some_and(|old| taints(old) != taints(new)) {
        return forbidden(
            call,
            format!("node {node:?} is not allowed to modify taints"),
        );
    }
    Ok(())
}

fn own_pod(call: &Call, node: &str, pod: &Value, what: &str) -> Result<(), ApiError> {
    if text(pod, "/spec/nodeName") == node {
        Ok(())
    } else {
        forbidden(
            call,
            format!("node {node:?} can only {what} pods with spec.nodeName set to itself"),
        )
    }
}

fn mirror_pod(call: &Call, node: &str, pod: &Value) -> Result<(), ApiError> {
    if meta::annotation(pod, MIRROR).is_none() {
        return forbidden(
            call,
            format!(
                "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
            ),
        );
    }
    if text(pod, "/spec/nodeName") != node {
        return forbidden(
            call,
            format!("node {node:?} can only create pods with spec.nodeName set to itself"),
        );
    }
    if pod
        .pointer("/spec/serviceAccountName")
        .is_some_and(|name| !name.is_null())
    {
        return forbidden(
            call,
            format!("node {node:?} can not create pods that reference a service account"),
        );
    }
    Ok(())
}

fn own_lease(call: &Call, node: &str, name: &str) -> Result<(), ApiError> {
    if call.namespace != LEASES {
        return forbidden(
            call,
            format!("can only access leases in the {LEASES:?} system namespace"),
        );
    }
    if name != node {
        return forbidden(
            call,
            "can only access node lease with the same name as the requesting node",
        );
    }
    Ok(())
}
