//! What a CertificateSigningRequest must be, in upstream's words. Pure.

use api::validate::FieldError;
use api::validate::names::{dns_label, dns_subdomain};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::{request, text};

const USAGES: &[&str] = &[
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";
const SHORTEST_SECS: i64 = 600;
const DOMAIN_LIMIT_BYTES: usize = 253;
const NAME_LIMIT_BYTES: usize = 571;

/// What a request may change.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    /// The conditions Approved and Denied.
    pub(super) approval: bool,
    /// The certificate.
    pub(super) certificate: bool,
}

/// The conditions of a request.
pub(super) fn conditions(object: &Value) -> &[Value] {
    let conditions = object.pointer("/status/conditions");
    conditions
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

fn of_kind<'a>(object: &'a Value, kind: &str) -> Vec<&'a Value> {
    conditions(object)
        .iter()
        .filter(|c| c["type"] == kind)
        .collect()
}

/// Checks a request; what was wrong before may stay wrong.
pub(super) fn check(new: &Value, old: Option<&Value>, allowed: Allowed) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if old.is_none() {
        errors.extend(check_spec(new));
    }
    errors.extend(check_conditions(new, old));
    let certificate = text(new, "/status/certificate");
    if old.is_none_or(|old| text(old, "/status/certificate") != certificate)
        && let Err(fault) = check_certificate(certificate)
    {
        let (path, shown) = ("status.certificate", "<certificate data>");
        errors.push(FieldError::invalid(path, shown, fault));
    }
    if let Some(old) = old {
        errors.extend(check_update(new, old, allowed));
    }
    errors
}

fn check_spec(new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if let Err(error) = request(new) {
        let given = new["spec"]["request"].clone();
        errors.push(FieldError::invalid(
            "spec.request",
            given,
            error.to_string(),
        ));
    }
    let usages = new.pointer("/spec/usages").and_then(Value::as_array);
    let usages = usages.map_or(&[][..], Vec::as_slice);
    if usages.is_empty() {
        errors.push(FieldError::required("spec.usages", ""));
    }
    for (index, usage) in usages.iter().enumerate() {
        let path = format!("spec.usages[{index}]");
        let name = usage.as_str().unwrap_or_default();
        if !USAGES.contains(&name) {
            errors.push(FieldError::not_supported(path.clone(), name, USAGES));
        }
        if usages[..index].contains(usage) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
    errors.extend(check_signer(text(new, "/spec/signerName")));
    let seconds = &new["spec"]["expirationSeconds"];
    if seconds
        .as_i64()
        .is_some_and(|seconds| seconds < SHORTEST_SECS)
    {
        let words = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.push(FieldError::invalid(
            "spec.expirationSeconds",
            seconds.clone(),
            words,
        ));
    }
    errors
}

fn check_signer(name: &str) -> Vec<FieldError> {
    let path = "spec.signerName";
    if name.is_empty() {
        return vec![FieldError::required(path, "")];
    }
    if name == LEGACY_SIGNER {
        let words = "the legacy signerName is not allowed via this API version";
        return vec![FieldError::invalid(path, name, words)];
    }
    let parts: Vec<&str> = name.split('/').collect();
    let [domain, rest] = parts.as_slice() else {
        let words =
            "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return vec![FieldError::invalid(path, name, words)];
    };
    let mut errors = Vec::new();
    if domain.len() > DOMAIN_LIMIT_BYTES {
        errors.push(FieldError::too_long(path, DOMAIN_LIMIT_BYTES));
    }
    let wrong = |part: &str, words: fn(&str) -> Vec<String>| {
        let mut labels = part.split('.').map(|label| (label, words(label)));
        let found = labels.find(|(_, words)| !words.is_empty());
        let (label, words) = found.unwrap_or_default();
        let say = |word: &String| format!("validating label {label:?}: {word}");
        words.iter().map(say).collect::<Vec<_>>()
    };
    for words in wrong(domain, dns_label) {
        errors.push(FieldError::invalid(path, *domain, words));
    }
    if !domain.contains('.') {
        let words = "should be a domain with at least two segments separated by dots";
        errors.push(FieldError::invalid(path, *domain, words));
    }
    for words in wrong(rest, dns_subdomain) {
        errors.push(FieldError::invalid(path, *rest, words));
    }
    if name.len() > NAME_LIMIT_BYTES {
        errors.push(FieldError::too_long(path, NAME_LIMIT_BYTES));
    }
    errors
}

fn check_conditions(new: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let mut seen: Vec<&str> = Vec::new();
    let was_both = old.is_some_and(|old| {
        !of_kind(old, "Approved").is_empty() && !of_kind(old, "Denied").is_empty()
    });
    for (index, condition) in conditions(new).iter().enumerate() {
        let path = format!("status.conditions[{index}]");
        let kind = text(condition, "/type");
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        }
        let known: &[&str] = match kind {
            "Approved" | "Denied" | "Failed" => &["True"],
            _ => &["False", "True", "Unknown"],
        };
        match text(condition, "/status") {
            "" => errors.push(FieldError::required(format!("{path}.status"), "")),
            status if !known.contains(&status) => {
                errors.push(FieldError::not_supported(
                    format!("{path}.status"),
                    status,
                    known,
                ));
            }
            _ => {}
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !was_both && !other.is_empty() && seen.contains(&other) {
            let words = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid("status.conditions", kind, words));
        }
        if seen.contains(&kind) {
            errors.push(FieldError::duplicate(format!("{path}.type"), kind));
        }
        seen.push(kind);
    }
    errors
}

fn check_update(new: &Value, old: &Value, allowed: Allowed) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let forbid = |words: String| FieldError::forbidden("status.conditions", words);
    for kind in ["Approved", "Denied", "Failed"] {
        let (now, before) = (of_kind(new, kind), of_kind(old, kind));
        if now.len() < before.len() {
            errors.push(forbid(format!(
                "updates may not remove a condition of type {kind:?}"
            )));
        } else if allowed.approval || kind == "Failed" {
        } else if now.len() > before.len() {
            errors.push(forbid(format!(
                "updates may not add a condition of type {kind:?}"
            )));
        } else if now != before {
            errors.push(forbid(format!(
                "updates may not modify a condition of type {kind:?}"
            )));
        }
    }
    let (now, before) = (
        text(new, "/status/certificate"),
        text(old, "/status/certificate"),
    );
    if now != before {
        let words = if !allowed.certificate {
            Some("updates may not set certificate content")
        } else if !before.is_empty() {
            Some("updates may not modify existing certificate content")
        } else {
            None
        };
        errors.extend(words.map(|words| FieldError::forbidden("status.certificate", words)));
    }
    errors
}

/// A chain of certificates and nothing else.
fn check_certificate(encoded: &str) -> Result<(), &'static str> {
    if encoded.is_empty() {
        return Ok(());
    }
    let pem = STANDARD.decode(encoded).unwrap_or_default();
    let pem = String::from_utf8(pem).unwrap_or_default();
    let begins = pem.matches("-----BEGIN ").count();
    if begins == 0 {
        return Err("must contain at least one CERTIFICATE PEM block");
    }
    if pem.matches("-----BEGIN CERTIFICATE-----").count() != begins {
        return Err("only CERTIFICATE PEM blocks are allowed");
    }
    if pki::is_certificate_bundle(&pem) {
        Ok(())
    } else {
        Err("x509: malformed certificate")
    }
}
