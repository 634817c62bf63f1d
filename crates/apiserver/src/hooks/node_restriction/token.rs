//! Tokens for the pods on a node.

use api::status::ApiError;
use serde_json::Value;

use super::{Checked, asking, forbidden, text};
use crate::auth::rbac::Attributes;
use crate::auth::token::strings;
use crate::pipeline::Call;

/// Checks a request for a service account token by a node.
pub(crate) fn token(call: &Call, request: &Value) -> Checked {
    let Some(node) = asking(call)? else {
        return Ok(());
    };
    let bound = |field: &str| text(request, &format!("/spec/boundObjectRef/{field}"));
    if bound("apiVersion") != "v1" || bound("kind") != "Pod" || bound("name").is_empty() {
        return forbidden(call, "node requested token not bound to a pod");
    }
    if bound("uid").is_empty() {
        let words = "node requested token with a pod binding without a uid";
        return forbidden(call, words);
    }
    let Some(pod) = call.state.core("pods").get(&call.namespace, bound("name")) else {
        return Err(ApiError::not_found_named("", "pods", bound("name")));
    };
    if &*pod.uid != bound("uid") {
        let wanted = bound("uid");
        let words = format!(
            "the UID in the bound object reference ({wanted}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return forbidden(call, words);
    }
    if pod.field("spec.nodeName") != Some(node) {
        let words = "node requested token bound to a pod scheduled on a different node";
        return forbidden(call, words);
    }
    let audiences = strings(&request["spec"]["audiences"]);
    let audience = match audiences.as_slice() {
        [] => "",
        [one] => one,
        _ => return forbidden(call, "node may only request 0 or 1 audiences"),
    };
    if wants(call, &pod.value(), audience) || may_ask(call, audience) {
        return Ok(());
    }
    let user = &call.user.name;
    forbidden(
        call,
        format!(
            "audience {audience:?} not found in pod spec volume, {user} is not authorized to request tokens for this audience"
        ),
    )
}

/// Whether a volume of the pod is for a token with this audience; the driver of a volume may need one
/// as well.
fn wants(call: &Call, pod: &Value, audience: &str) -> bool {
    let list = |value: &Value, path: &str| -> Vec<Value> {
        let found = value.pointer(path).and_then(Value::as_array);
        found.cloned().unwrap_or_default()
    };
    let has = |value: &Value| text(value, "/audience") == audience;
    list(pod, "/spec/volumes").iter().any(|volume| {
        let mut projected = list(volume, "/projected/sources").into_iter();
        if projected.any(|source| source.get("serviceAccountToken").is_some_and(has)) {
            return true;
        }
        let driver = driver(call, pod, volume).and_then(|driver| {
            let drivers = call.state.cache.kind("storage.k8s.io", "csidrivers");
            Some(drivers.get("", &driver)?.value())
        });
        driver.is_some_and(|driver| list(&driver, "/spec/tokenRequests").iter().any(has))
    })
}

/// The CSI driver that mounts a volume.
fn driver(call: &Call, pod: &Value, volume: &Value) -> Option<String> {
    let own = text(volume, "/csi/driver");
    if !own.is_empty() {
        return Some(own.to_owned());
    }
    let claim = if volume.pointer("/ephemeral/volumeClaimTemplate").is_some() {
        format!("{}-{}", api::meta::name(pod), text(volume, "/name"))
    } else {
        text(volume, "/persistentVolumeClaim/claimName").to_owned()
    };
    let state = &call.state;
    let claim = state
        .core("persistentvolumeclaims")
        .get(&call.namespace, &claim)?;
    let name = claim.value();
    let bound = state
        .core("persistentvolumes")
        .get("", text(&name, "/spec/volumeName"))?;
    let driver = text(&bound.value(), "/spec/csi/driver").to_owned();
    (!driver.is_empty()).then_some(driver)
}

/// Whether the node may have tokens for an audience that no volume of its pod is for.
fn may_ask(call: &Call, audience: &str) -> bool {
    let attributes = Attributes {
        verb: "request-serviceaccounts-token-audience",
        namespace: &call.namespace,
        version: "v1",
        resource: audience,
        name: &call.name,
        ..Attributes::of(&call.user)
    };
    call.state.authorizer.authorize(&attributes).is_allowed()
}
