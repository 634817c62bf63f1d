//! AdmissionReview: what a webhook is sent, and what its answer must be. Pure.

use api::status::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Map, Value, json};

use super::matches::Invocation;
use crate::admission::attributes::Attributes;
use crate::hooks::text;

const GROUP: &str = "admission.k8s.io";
const KIND: &str = "AdmissionReview";

/// What a webhook answered.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Answer {
    pub(super) allowed: bool,
    /// The patch, decoded; empty when there is none.
    pub(super) patch: Vec<u8>,
    pub(super) patch_type: String,
    /// The Status of a refusal.
    pub(super) result: Value,
    pub(super) warnings: Vec<String>,
    pub(super) annotations: Vec<(String, String)>,
}

/// The version of the review to speak with a webhook.
pub(super) fn version(accepted: &[String]) -> Option<&'static str> {
    accepted.iter().find_map(|version| match version.as_str() {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    })
}

/// The request to a webhook.
pub(super) fn request(
    version: &str,
    uid: &str,
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
) -> Value {
    let mut request = Map::new();
    let mut put = |name: &str, value: Value| {
        if !matches!(&value, Value::String(text) if text.is_empty()) {
            request.insert(name.to_owned(), value);
        }
    };
    put("uid", uid.into());
    put("kind", invocation.kind.to_value());
    put("resource", invocation.resource.to_value());
    put("subResource", attributes.subresource().into());
    put("requestKind", attributes.kind.to_value());
    put("requestResource", attributes.resource.to_value());
    put("requestSubResource", attributes.subresource().into());
    put("name", attributes.name.as_str().into());
    put("namespace", attributes.namespace.as_str().into());
    put("operation", attributes.operation.name().into());
    put("userInfo", attributes.call.user.to_value());
    let shown = |object: &Value| attributes.shown(object, &invocation.resource);
    put("object", shown(&attributes.object));
    put("oldObject", shown(&attributes.old_object));
    put("dryRun", attributes.dry_run.into());
    put("options", attributes.options.clone());
    json!({"kind": KIND, "apiVersion": format!("{GROUP}/{version}"), "request": request})
}

/// Checks an answer.
///
/// # Errors
/// What is wrong with it, in upstream's words.
pub(super) fn verify(
    version: &str,
    uid: &str,
    mutating: bool,
    review: &Value,
) -> Result<Answer, String> {
    let response = review.get("response").filter(|r| r.is_object());
    let response = response.ok_or("webhook response was absent")?;
    let patch_type = response.get("patchType").and_then(Value::as_str);
    let patch = text(response, "/patch");
    let patch = STANDARD
        .decode(patch)
        .map_err(|_| "response.patch is no base64".to_owned())?;
    if version == "v1" {
        check_v1(uid, mutating, review, response, !patch.is_empty())?;
    }
    let (patch, patch_type) = match (mutating, version) {
        (false, _) => (Vec::new(), String::new()),
        // It was not looked at in that version.
        (true, "v1beta1") if !patch.is_empty() => (patch, "JSONPatch".to_owned()),
        (true, _) => (patch, patch_type.unwrap_or_default().to_owned()),
    };
    let warnings = response.get("warnings").and_then(Value::as_array);
    let warnings = warnings.into_iter().flatten().filter_map(Value::as_str);
    let annotations = response.get("auditAnnotations").and_then(Value::as_object);
    let annotations = annotations.into_iter().flatten();
    Ok(Answer {
        allowed: response.get("allowed").and_then(Value::as_bool) == Some(true),
        patch,
        patch_type,
        result: response.get("status").cloned().unwrap_or_default(),
        warnings: warnings.map(str::to_owned).collect(),
        annotations: annotations
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect(),
    })
}

fn check_v1(
    uid: &str,
    mutating: bool,
    review: &Value,
    response: &Value,
    has_patch: bool,
) -> Result<(), String> {
    let answered = text(response, "/uid");
    if answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    let (api_version, kind) = (text(review, "/apiVersion"), text(review, "/kind"));
    if api_version != "admission.k8s.io/v1" || kind != KIND {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        return Err(format!(
            "expected webhook response of {GROUP}/v1, Kind={KIND}, got {group}/{version}, Kind={kind}"
        ));
    }
    let patch_type = response.get("patchType").filter(|t| !t.is_null());
    match (mutating, has_patch, patch_type) {
        (true, true, None) => {
            Err("webhook returned response.patch but not response.patchType".to_owned())
        }
        (true, false, Some(_)) => {
            Err("webhook returned response.patchType but not response.patch".to_owned())
        }
        (true, true, Some(kind)) if kind == "" => {
            Err("webhook returned invalid response.patchType of \"\"".to_owned())
        }
        (false, true, _) => Err("validating webhook may not return response.patch".to_owned()),
        (false, false, Some(_)) => {
            Err("validating webhook may not return response.patchType".to_owned())
        }
        _ => Ok(()),
    }
}

/// What a client is told of a refusal: the webhook's own Status, under its name.
pub(super) fn denial(webhook: &str, result: &Value) -> ApiError {
    let denied = format!("admission webhook {webhook:?} denied the request");
    let (message, reason) = (text(result, "/message"), text(result, "/reason"));
    let message = match (message, reason) {
        ("", "") => format!("{denied} without explanation"),
        ("", why) | (why, _) => format!("{denied}: {why}"),
    };
    let code = result.get("code").and_then(Value::as_u64);
    let code = code.and_then(|code| u16::try_from(code).ok());
    let code = code.filter(|code| (400..600).contains(code)).unwrap_or(400);
    ApiError::of_status(code, message, result)
}
