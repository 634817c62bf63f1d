//! The fields of a pod that the downward API shows, in environment and files.

use std::{fmt::Write as _, net::IpAddr};

use k8s_openapi::api::core::v1::Pod;

use crate::env::Downward;

/// The value at a field path, or `None` for a path that is not offered.
pub(crate) fn field(pod: &Pod, path: &str, downward: &Downward) -> Option<String> {
    let meta = &pod.metadata;
    let spec = pod.spec.as_ref();
    let text = |value: Option<&String>| Some(value.cloned().unwrap_or_default());
    let join = |ips: &[IpAddr]| {
        ips.iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join(",")
    };
    let first = |ips: &[IpAddr]| ips.first().map(ToString::to_string).unwrap_or_default();
    match path {
        "metadata.name" => text(meta.name.as_ref()),
        "metadata.namespace" => text(meta.namespace.as_ref()),
        "metadata.uid" => text(meta.uid.as_ref()),
        "metadata.labels" => Some(map(meta.labels.iter().flatten())),
        "metadata.annotations" => Some(map(meta.annotations.iter().flatten())),
        "spec.nodeName" => text(spec?.node_name.as_ref()),
        "spec.serviceAccountName" => text(spec?.service_account_name.as_ref()),
        "status.podIP" => Some(first(&downward.pod_ips)),
        "status.podIPs" => Some(join(&downward.pod_ips)),
        "status.hostIP" => Some(first(&downward.host_ips)),
        "status.hostIPs" => Some(join(&downward.host_ips)),
        _ => {
            let (base, key) = path.split_once("['")?;
            let key = key.strip_suffix("']")?;
            match base {
                "metadata.labels" => text(
                    meta.labels
                        .iter()
                        .flatten()
                        .find(|(k, _)| *k == key)
                        .map(|(_, v)| v),
                ),
                "metadata.annotations" => text(
                    meta.annotations
                        .iter()
                        .flatten()
                        .find(|(k, _)| *k == key)
                        .map(|(_, v)| v),
                ),
                _ => None,
            }
        }
    }
}

/// `key="escaped value"`, one a line, in order of the keys.
fn map<'a>(entries: impl Iterator<Item = (&'a String, &'a String)>) -> String {
    let mut out = String::new();
    for (i, (key, value)) in entries.enumerate() {
        if i > 0 {
            out.push('\n');
        }
        let _ = write!(out, "{key}={}", quote(value));
    }
    out
}

/// Go's `%q`.
fn quote(value: &str) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    out.push('"');
    for c in value.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\x{:02x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
