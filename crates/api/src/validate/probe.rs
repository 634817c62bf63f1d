//! Probes and lifecycle hooks: exactly one handler, and sane numbers.

use super::at::{At, Errors};
use super::container::Pod;

/// The probes of a container.
pub(super) fn all(container: &At<'_, '_>, out: &mut Errors) {
    for name in ["livenessProbe", "readinessProbe", "startupProbe"] {
        let probe = container.field(name);
        if probe.is_set() {
            one(&probe, name, out);
        }
    }
}

fn one(probe: &At<'_, '_>, name: &str, out: &mut Errors) {
    handler(probe, &["exec", "httpGet", "tcpSocket", "grpc"], None, out);
    for field in [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ] {
        out.non_negative(&probe.field(field));
    }
    let grace = probe.field("terminationGracePeriodSeconds");
    out.positive(&grace);
    let success = probe.field("successThreshold");
    if name == "readinessProbe" {
        if grace.is_set() {
            out.invalid(&grace, "must not be set for readinessProbes");
        }
    } else if success.int().is_some_and(|n| n != 1) {
        out.invalid(&success, "must be 1");
    }
}

/// `lifecycle` of a container.
pub(super) fn lifecycle(at: &At<'_, '_>, pod: &Pod<'_>, out: &mut Errors) {
    for name in ["postStart", "preStop"] {
        let hook = at.field(name);
        if hook.is_set() {
            handler(
                &hook,
                &["exec", "httpGet", "tcpSocket", "sleep"],
                pod.grace_period_secs,
                out,
            );
        }
    }
}

fn handler(at: &At<'_, '_>, kinds: &[&str], grace_period_secs: Option<i64>, out: &mut Errors) {
    let mut found = 0;
    for kind in kinds {
        let handler = at.field(kind);
        if !handler.is_set() {
            continue;
        }
        found += 1;
        if found > 1 {
            out.forbidden(&handler, "may not specify more than 1 handler type");
            continue;
        }
        match *kind {
            "exec" => {
                out.present(&handler.field("command"));
            }
            "httpGet" => {
                out.present(&handler.field("path"));
                out.port(&handler.field("port"));
                out.any_of(&handler.field("scheme"), &["HTTP", "HTTPS"]);
                http_headers(&handler.field("httpHeaders"), out);
            }
            "sleep" => {
                let secs = handler.field("seconds").int().unwrap_or_default();
                if let Some(grace) = grace_period_secs.filter(|grace| secs < 0 || secs > *grace) {
                    let words = format!(
                        "must be non-negative and less than terminationGracePeriodSeconds ({grace})"
                    );
                    out.invalid_value(&handler, secs, words);
                }
            }
            _ => out.port(&handler.field("port")),
        }
    }
    if found == 0 {
        out.required(at, "must specify a handler type");
    }
}

fn http_headers(at: &At<'_, '_>, out: &mut Errors) {
    for header in at.items() {
        let name = header.field("name").text();
        if name.is_empty() || !name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            out.invalid_value(
                at,
                name,
                "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')",
            );
        }
    }
}
