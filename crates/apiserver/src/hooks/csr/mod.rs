//! CertificateSigningRequests: who asks is written down by the server; approval and certificate are
//! subresources, each for those who have the right to it for the request's signer.

mod checks;

use api::status::ApiError;
use api::validate::FieldError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pki::SigningRequest;
use serde_json::{Value, json};

use self::checks::{Allowed, conditions};
use super::{Hook, keep, spec_mut, text};
use crate::auth::rbac::Attributes;
use crate::pipeline::{Call, meta as system};

const CLIENT_SIGNER: &str = "kubernetes.io/kube-apiserver-client";

pub(super) struct Requests;

impl Hook for Requests {
    fn prepare_create(&self, call: &Call, new: &mut Value) -> Result<(), ApiError> {
        if let Some(spec) = spec_mut(new) {
            spec.insert("username".to_owned(), call.user.name.as_str().into());
            spec.insert("groups".to_owned(), call.user.groups.clone().into());
            spec.remove("uid");
            if !call.user.uid.is_empty() {
                spec.insert("uid".to_owned(), call.user.uid.as_str().into());
            }
            spec.remove("extra");
            if !call.user.extra.is_empty() {
                spec.insert("extra".to_owned(), json!(call.user.extra));
            }
        }
        Ok(())
    }

    fn prepare_update(&self, call: &Call, new: &mut Value, old: &Value) -> Result<(), ApiError> {
        keep(new, old, "spec");
        match call.subresource.as_str() {
            "approval" => {
                stamp(new, old);
                let conditions = new.pointer("/status/conditions").cloned();
                keep(new, old, "status");
                if let Some(new) = new.as_object_mut() {
                    let status = new.entry("status").or_insert_with(|| json!({}));
                    match (status.as_object_mut(), conditions) {
                        (Some(status), Some(conditions)) => {
                            status.insert("conditions".to_owned(), conditions);
                        }
                        (Some(status), None) => {
                            status.remove("conditions");
                        }
                        (None, _) => {}
                    }
                }
            }
            "status" => {
                for kind in ["Approved", "Denied"] {
                    restore(new, old, kind);
                }
                stamp(new, old);
            }
            _ => keep(new, old, "status"),
        }
        Ok(())
    }

    fn validate(&self, call: &Call, new: &Value, old: Option<&Value>) -> Vec<FieldError> {
        let allowed = Allowed {
            approval: call.subresource == "approval",
            certificate: call.subresource == "status",
        };
        checks::check(new, old, allowed)
    }

    fn admit(&self, call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
        let signer = text(old.unwrap_or(new), "/spec/signerName");
        let refuse = |words: String| {
            let (group, plural) = (&call.resource.group, &call.resource.plural);
            Err(ApiError::forbidden(group, plural, &call.name, words))
        };
        let certificate = |object: &Value| object.pointer("/status/certificate").cloned();
        match (call.subresource.as_str(), old) {
            ("approval", Some(_)) if !may(call, "approve", signer) => refuse(format!(
                "user not permitted to approve requests with signerName {signer:?}"
            )),
            ("status", Some(old))
                if (certificate(old) != certificate(new) || conditions(old) != conditions(new))
                    && !may(call, "sign", signer) =>
            {
                refuse(format!(
                    "user not permitted to sign requests with signerName {signer:?}"
                ))
            }
            ("", _) if signer == CLIENT_SIGNER && names_masters(new) => refuse(format!(
                "use of {CLIENT_SIGNER} signer with system:masters group is not allowed"
            )),
            _ => Ok(()),
        }
    }
}

/// Whether the caller may approve, sign or attest for a signer: by its name, or for its whole domain.
fn may(call: &Call, verb: &str, signer: &str) -> bool {
    let domain = signer.split('/').next().unwrap_or_default();
    [signer.to_owned(), format!("{domain}/*")]
        .iter()
        .any(|name| {
            let attributes = Attributes {
                verb,
                group: "certificates.k8s.io",
                version: "*",
                resource: "signers",
                name,
                ..Attributes::of(&call.user)
            };
            call.state.authorizer.authorize(&attributes).is_allowed()
        })
}

/// The request itself, if it can be read.
pub(super) fn request(object: &Value) -> Result<SigningRequest, pki::RequestError> {
    let pem = STANDARD.decode(text(object, "/spec/request"));
    SigningRequest::parse(&pem.map_err(|_| pki::RequestError::Pem)?)
}

fn names_masters(object: &Value) -> bool {
    request(object).is_ok_and(|r| r.organizations.iter().any(|o| o == "system:masters"))
}

/// Decisions are not for the signer to write: those that are there stay as they are.
fn restore(new: &mut Value, old: &Value, kind: &str) {
    let is = |condition: &&Value| condition["type"] == kind;
    let before: Vec<Value> = conditions(old).iter().filter(is).cloned().collect();
    if conditions(new).iter().filter(is).count() != before.len() {
        return;
    }
    let all = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut);
    let same = all
        .into_iter()
        .flatten()
        .filter(|condition| condition["type"] == kind);
    for (condition, before) in same.zip(before) {
        *condition = before;
    }
}

/// Fills in the times of conditions that have none.
fn stamp(new: &mut Value, old: &Value) {
    let now = Value::from(system::now());
    let all = new
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut);
    for condition in all.into_iter().flatten() {
        let before = conditions(old).iter().find(|before| {
            before["type"] == condition["type"]
                && before["status"] == condition["status"]
                && !before["lastTransitionTime"].is_null()
        });
        let since = before.map_or(&now, |before| &before["lastTransitionTime"]);
        let Some(condition) = condition.as_object_mut() else {
            continue;
        };
        for (field, value) in [("lastUpdateTime", &now), ("lastTransitionTime", since)] {
            if condition.get(field).is_none_or(Value::is_null) {
                condition.insert(field.to_owned(), value.clone());
            }
        }
    }
}
