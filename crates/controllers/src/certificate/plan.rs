//! What becomes of a CertificateSigningRequest. Pure.
//!
//! Invariant: a request is signed only if it is approved and its signer's rules hold; approval by
//! itself is only for what the right to it was asked of the server.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest as Request;

use super::Requested;

const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
const LEGACY: &str = "kubernetes.io/legacy-unknown";

/// The longest that a certificate lives: a year.
const LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_secs(10 * 60);

const DECIDED_FOR: SignedDuration = SignedDuration::from_hours(1);
const PENDING_FOR: SignedDuration = SignedDuration::from_hours(24);

/// Whether a condition of a type is there and true.
pub(super) fn has(request: &Request, kind: &str) -> bool {
    conditions(request).any(|(other, status, _)| other == kind && status == "True")
}

fn conditions(request: &Request) -> impl Iterator<Item = (&str, &str, Option<Timestamp>)> {
    let status = request.status.as_ref();
    let all = status.and_then(|status| status.conditions.as_ref());
    all.into_iter().flatten().map(|condition| {
        let updated = condition.last_update_time.as_ref().map(|time| time.0);
        (condition.type_.as_str(), condition.status.as_str(), updated)
    })
}

pub(super) fn is_issued(request: &Request) -> bool {
    let status = request.status.as_ref();
    let certificate = status.and_then(|status| status.certificate.as_ref());
    certificate.is_some_and(|certificate| !certificate.0.is_empty())
}

fn usages(request: &Request) -> Vec<&str> {
    let mut usages: Vec<&str> = request
        .spec
        .usages
        .iter()
        .flatten()
        .map(String::as_str)
        .collect();
    usages.sort_unstable();
    usages.dedup();
    usages
}

/// Whether the request waits for one of our signers.
pub(super) fn is_to_sign(request: &Request) -> bool {
    let ours = [CLIENT, KUBELET_CLIENT, KUBELET_SERVING, LEGACY];
    has(request, "Approved")
        && !has(request, "Denied")
        && !has(request, "Failed")
        && !is_issued(request)
        && ours.contains(&request.spec.signer_name.as_str())
}

/// Checks what the signer asks of a request.
pub(super) fn check(request: &Request, wanted: &Requested) -> Result<(), String> {
    let usages = usages(request);
    match request.spec.signer_name.as_str() {
        CLIENT => {
            let known = ["client auth", "digital signature", "key encipherment"];
            if let Some(usage) = usages.iter().find(|usage| !known.contains(usage)) {
                return Err(format!("invalid usage for client certificate: {usage}"));
            }
            if usages.contains(&"client auth") {
                Ok(())
            } else {
                Err("missing required usage for client certificate: client auth".to_owned())
            }
        }
        KUBELET_CLIENT => check_kubelet(wanted, &usages, "client auth"),
        KUBELET_SERVING => check_kubelet(wanted, &usages, "server auth"),
        _ => Ok(()),
    }
}

fn check_kubelet(wanted: &Requested, usages: &[&str], auth: &str) -> Result<(), String> {
    let refuse = |words: &str| Err(words.to_owned());
    if wanted.organizations != ["system:nodes"] {
        return refuse("subject organization is not system:nodes");
    }
    let serves = auth == "server auth";
    if serves && wanted.dns_names.is_empty() && wanted.addresses.is_empty() {
        return refuse("DNS or IP subjectAltName is required");
    }
    if !serves && !wanted.dns_names.is_empty() {
        return refuse("DNS subjectAltNames are not allowed");
    }
    if !wanted.emails.is_empty() {
        return refuse("Email subjectAltNames are not allowed");
    }
    if !serves && !wanted.addresses.is_empty() {
        return refuse("IP subjectAltNames are not allowed");
    }
    if !wanted.uris.is_empty() {
        return refuse("URI subjectAltNames are not allowed");
    }
    let mut all = [auth, "digital signature", "key encipherment"];
    all.sort_unstable();
    let without_rsa: Vec<&str> = all
        .into_iter()
        .filter(|u| *u != "key encipherment")
        .collect();
    if usages != all && usages != without_rsa {
        return Err(format!("usages did not match [{}]", all.join(" ")));
    }
    if !wanted.common_name.starts_with("system:node:") {
        return refuse("subject common name does not begin with system:node:");
    }
    Ok(())
}

/// How long the certificate lives.
pub(super) fn lifetime(request: &Request) -> Duration {
    let asked = request
        .spec
        .expiration_seconds
        .and_then(|secs| u64::try_from(secs).ok());
    asked.map_or(LIFETIME, |secs| {
        Duration::from_secs(secs).clamp(SHORTEST, LIFETIME)
    })
}

/// A right by which a request approves itself.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct SelfApproval {
    /// The subresource that its maker must have the right to create.
    pub(super) subresource: &'static str,
    pub(super) message: &'static str,
}

/// The rights that approve a request, whichever its maker has.
pub(super) fn approvals(request: &Request, wanted: &Requested) -> Vec<SelfApproval> {
    let undecided = !has(request, "Approved") && !has(request, "Denied") && !is_issued(request);
    let is_node = request.spec.signer_name == KUBELET_CLIENT
        && check_kubelet(wanted, &usages(request), "client auth").is_ok();
    if !undecided || !is_node {
        return Vec::new();
    }
    let mut approvals = Vec::new();
    if request.spec.username.as_ref() == Some(&wanted.common_name) {
        approvals.push(SelfApproval {
            subresource: "selfnodeclient",
            message: "Auto approving self kubelet client certificate after SubjectAccessReview.",
        });
    }
    approvals.push(SelfApproval {
        subresource: "nodeclient",
        message: "Auto approving kubelet client certificate after SubjectAccessReview.",
    });
    approvals
}

/// When a request is to be removed, if anything is known of that.
pub(super) fn ends(request: &Request, expires: Option<Timestamp>) -> Option<Timestamp> {
    let issued = is_issued(request);
    let mut ends: Vec<Timestamp> = Vec::new();
    if conditions(request).next().is_none() {
        let made = request.metadata.creation_timestamp.as_ref();
        ends.extend(made.and_then(|made| made.0.checked_add(PENDING_FOR).ok()));
    }
    for (kind, _, updated) in conditions(request) {
        let kept = match kind {
            "Denied" | "Failed" => DECIDED_FOR,
            "Approved" if issued => DECIDED_FOR,
            "Approved" => PENDING_FOR,
            _ => continue,
        };
        ends.extend(updated.and_then(|updated| updated.checked_add(kept).ok()));
        ends.extend(expires.filter(|_| kind == "Approved" && issued));
    }
    ends.into_iter().min()
}
