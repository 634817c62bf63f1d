//! APIService.
//! Facts: `kube-aggregator/pkg/apis/apiregistration/validation` of 1.36.

use super::at::{At, Errors};
use super::names;

/// Its spec, and that its name says what it serves.
pub(super) fn check(at: &At<'_, '_>, out: &mut Errors) {
    let metadata = at.field("metadata");
    let name = metadata.field("name");
    let spec = at.field("spec");
    let (group, version) = (spec.field("group"), spec.field("version"));
    let wanted = format!("{}.{}", version.text(), group.text());
    if name.text() != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: {wanted:?}");
        out.invalid(&name, detail);
    }
    if group.text().is_empty() {
        if version.text() != "v1" {
            out.required(
                &group,
                "only v1 may have an empty group and it better be legacy kube",
            );
        }
    } else {
        out.form(&group, names::dns_subdomain(group.text()));
    }
    out.form(&version, names::dns_1035_label(version.text()));
    let within = |at: &At<'_, '_>, most: i64, out: &mut Errors| {
        let number = at.int().unwrap_or_default();
        if !(1..=most).contains(&number) {
            let detail = format!("must be positive and less than {most}");
            out.invalid_value(at, number, detail);
        }
    };
    within(&spec.field("groupPriorityMinimum"), 20_000, out);
    within(&spec.field("versionPriority"), 1000, out);
    service(&spec, out);
}

fn service(spec: &At<'_, '_>, out: &mut Errors) {
    let (service, bundle) = (spec.field("service"), spec.field("caBundle"));
    let insecure = spec.field("insecureSkipTLSVerify");
    if !service.is_set() {
        if !bundle.is_empty() {
            // Four letters of base64 are three bytes.
            let padding = bundle
                .text()
                .bytes()
                .rev()
                .take_while(|b| *b == b'=')
                .count();
            let bytes = (bundle.text().len() / 4 * 3).saturating_sub(padding);
            let detail = "local APIServices may not have a caBundle";
            out.invalid_value(&bundle, format!("{bytes} bytes"), detail);
        }
        if insecure.flag() {
            out.invalid(
                &insecure,
                "local APIServices may not have insecureSkipTLSVerify",
            );
        }
        return;
    }
    out.present(&service.field("namespace"));
    out.present(&service.field("name"));
    let port = service.field("port");
    let faults = names::port_number(port.int().unwrap_or(443));
    if !faults.is_empty() {
        out.invalid(&port, format!("port is not valid: {}", faults.join(", ")));
    }
    if insecure.flag() && !bundle.is_empty() {
        out.invalid(&insecure, "may not be true if caBundle is present");
    }
}

/// The status that somebody writes.
pub(super) fn status(at: &At<'_, '_>, out: &mut Errors) {
    for condition in at.field("status").field("conditions").items() {
        out.any_of(&condition.field("status"), &["True", "False", "Unknown"]);
    }
}
