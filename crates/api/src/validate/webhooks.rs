//! MutatingWebhookConfiguration and ValidatingWebhookConfiguration.
//! Facts: `pkg/apis/admissionregistration/validation` and `apiserver/pkg/util/webhook` of 1.36.
//!
//! Invariant: what an older configuration already got wrong does not stop its change.

use serde_json::Value;

use super::at::{At, Errors, get};
use super::names;

const SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun"];
const ALL_SIDE_EFFECTS: &[&str] = &["None", "NoneOnDryRun", "Some", "Unknown"];
pub(super) const REVIEW_VERSIONS: &[&str] = &["v1", "v1beta1"];
const OPERATIONS: &[&str] = &["*", "CONNECT", "CREATE", "DELETE", "UPDATE"];
/// The most conditions of one webhook.
const CONDITIONS: usize = 64;

/// What an update is not held to, because the old configuration did not keep it either.
struct Lenience {
    side_effects: bool,
    review_versions: bool,
    names: bool,
}

impl Lenience {
    fn of(old: Option<&Value>) -> Self {
        let hooks = old.map(|old| get(old, "webhooks"));
        let hooks = hooks
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        let text =
            |hook: &Value, name: &str| get(hook, name).as_str().unwrap_or_default().to_owned();
        let versions = |hook: &Value| {
            let list = get(hook, "admissionReviewVersions").as_array();
            let known = |v: &Value| v.as_str().is_some_and(|v| REVIEW_VERSIONS.contains(&v));
            list.is_none_or(|list| list.is_empty() || list.iter().any(known))
        };
        let mut seen: Vec<String> = hooks.iter().map(|hook| text(hook, "name")).collect();
        seen.sort();
        let count = seen.len();
        seen.dedup();
        Self {
            side_effects: hooks
                .iter()
                .any(|hook| !SIDE_EFFECTS.contains(&text(hook, "sideEffects").as_str())),
            review_versions: !hooks.iter().all(versions),
            names: seen.len() < count,
        }
    }
}

/// A configuration; `mutating` of the sort that may change objects.
pub(super) fn configuration(
    at: &At<'_, '_>,
    old: Option<&Value>,
    mutating: bool,
    out: &mut Errors,
) {
    let lenience = Lenience::of(old);
    let hooks = at.field("webhooks");
    let mut seen: Vec<&str> = Vec::new();
    for hook in hooks.items() {
        webhook(&hook, &lenience, mutating, out);
        review_versions(&hook.field("admissionReviewVersions"), &lenience, out);
        let name = hook.field("name");
        if lenience.names || name.text().is_empty() {
            continue;
        }
        if seen.contains(&name.text()) {
            out.duplicate(&name);
        } else {
            seen.push(name.text());
        }
    }
}

fn webhook(hook: &At<'_, '_>, lenience: &Lenience, mutating: bool, out: &mut Errors) {
    qualified(&hook.field("name"), out);
    for rule in hook.field("rules").items() {
        operations(&rule.field("operations"), out);
        groups_and_versions(&rule, out);
        resources(&rule.field("resources"), out);
        out.any_of(&rule.field("scope"), &["*", "Cluster", "Namespaced"]);
    }
    out.any_of(&hook.field("failurePolicy"), &["Fail", "Ignore"]);
    out.any_of(&hook.field("matchPolicy"), &["Equivalent", "Exact"]);
    let allowed = if lenience.side_effects {
        ALL_SIDE_EFFECTS
    } else {
        SIDE_EFFECTS
    };
    let effects = hook.field("sideEffects");
    if effects.is_set() {
        out.any_of(&effects, allowed);
    } else {
        out.required(
            &effects,
            &format!("must specify one of {}", allowed.join(", ")),
        );
    }
    let timeout = hook.field("timeoutSeconds");
    if timeout.int().is_some_and(|secs| !(1..=30).contains(&secs)) {
        out.invalid(
            &timeout,
            "the timeout value must be between 1 and 30 seconds",
        );
    }
    out.label_selector(&hook.field("namespaceSelector"));
    out.label_selector(&hook.field("objectSelector"));
    if mutating {
        out.any_of(&hook.field("reinvocationPolicy"), &["IfNeeded", "Never"]);
    }
    client_config(&hook.field("clientConfig"), out);
    conditions(&hook.field("matchConditions"), out);
}

fn qualified(name: &At<'_, '_>, out: &mut Errors) {
    if name.text().is_empty() {
        return out.required(name, "");
    }
    let faults = names::dns_subdomain(name.text());
    if !faults.is_empty() {
        out.invalid(name, faults.join(","));
    } else if name.text().split('.').count() < 3 {
        out.invalid(
            name,
            "should be a domain with at least three segments separated by dots",
        );
    }
}

fn has_star(at: &At<'_, '_>) -> bool {
    at.len() > 1 && at.items().any(|item| item.text() == "*")
}

fn operations(at: &At<'_, '_>, out: &mut Errors) {
    out.present(at);
    if has_star(at) {
        out.invalid(at, "if '*' is present, must not specify other operations");
    }
    for operation in at.items() {
        out.any_of(&operation, OPERATIONS);
    }
}

fn groups_and_versions(rule: &At<'_, '_>, out: &mut Errors) {
    let (groups, versions) = (rule.field("apiGroups"), rule.field("apiVersions"));
    out.present(&groups);
    if has_star(&groups) {
        out.invalid(
            &groups,
            "if '*' is present, must not specify other API groups",
        );
    }
    out.present(&versions);
    if has_star(&versions) {
        out.invalid(
            &versions,
            "if '*' is present, must not specify other API versions",
        );
    }
    for version in versions.items().filter(|v| v.text().is_empty()) {
        out.required(&version, "");
    }
}

fn resources(at: &At<'_, '_>, out: &mut Errors) {
    out.present(at);
    let (mut all_of, mut in_all) = (Vec::new(), Vec::new());
    let (mut everything, mut star, mut plain) = (false, false, false);
    for entry in at.items() {
        let text = entry.text();
        if text.is_empty() {
            out.required(&entry, "");
            continue;
        }
        everything |= text == "*/*";
        star |= text == "*";
        let Some((resource, sub)) = text.split_once('/') else {
            plain = text != "*";
            continue;
        };
        if all_of.contains(&resource) {
            out.invalid(
                &entry,
                format!("if '{resource}/*' is present, must not specify {text}"),
            );
        }
        if in_all.contains(&sub) {
            out.invalid(
                &entry,
                format!("if '*/{sub}' is present, must not specify {text}"),
            );
        }
        if sub == "*" {
            all_of.push(resource);
        }
        if resource == "*" {
            in_all.push(sub);
        }
    }
    if at.len() > 1 && everything {
        out.invalid(at, "if '*/*' is present, must not specify other resources");
    }
    if star && plain {
        out.invalid(
            at,
            "if '*' is present, must not specify other resources without subresources",
        );
    }
}

fn review_versions(at: &At<'_, '_>, lenience: &Lenience, out: &mut Errors) {
    let known = REVIEW_VERSIONS.join(", ");
    if at.is_empty() {
        return out.required(at, &format!("must specify one of {known}"));
    }
    let mut seen: Vec<&str> = Vec::new();
    for version in at.items() {
        if seen.contains(&version.text()) {
            out.invalid(&version, "duplicate version");
            continue;
        }
        seen.push(version.text());
        out.form(&version, names::dns_1035_label(version.text()));
    }
    let any = seen.iter().any(|version| REVIEW_VERSIONS.contains(version));
    if !lenience.review_versions && !any {
        out.invalid(at, format!("must include at least one of {known}"));
    }
}

/// A `clientConfig` of a webhook.
pub(super) fn client_config(at: &At<'_, '_>, out: &mut Errors) {
    let (url, service) = (at.field("url"), at.field("service"));
    if url.is_set() == service.is_set() {
        return out.required(at, "exactly one of url or service is required");
    }
    if url.is_set() {
        webhook_url(&url, out);
    } else {
        webhook_service(&service, out);
    }
}

/// The URL of a webhook.
pub(super) fn webhook_url(at: &At<'_, '_>, out: &mut Errors) {
    const FORM: &str = "; desired format: https://host[/path]";
    let url = at.text();
    let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
    let (url, query) = url.split_once('?').unwrap_or((url, ""));
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if scheme != "https" {
        let detail = format!("'https' is the only allowed URL scheme{FORM}");
        out.invalid_value(at, scheme, detail);
    }
    let authority = if scheme.is_empty() {
        ""
    } else {
        rest.split('/').next().unwrap_or_default()
    };
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    if host.is_empty() {
        out.invalid_value(at, "", format!("host must be specified{FORM}"));
    }
    if !user.is_empty() {
        out.invalid_value(at, user, "user information is not permitted in the URL");
    }
    if !fragment.is_empty() {
        out.invalid_value(at, fragment, "fragments are not permitted in the URL");
    }
    if !query.is_empty() {
        out.invalid_value(at, query, "query parameters are not permitted in the URL");
    }
}

/// The Service of a webhook.
pub(super) fn webhook_service(at: &At<'_, '_>, out: &mut Errors) {
    out.present(&at.field("name"));
    out.present(&at.field("namespace"));
    let port = at.field("port");
    let number = port.int().unwrap_or(443);
    let faults = names::port_number(number);
    if !faults.is_empty() {
        out.invalid(&port, format!("port is not valid: {}", faults.join(", ")));
    }
    let path = at.field("path");
    let text = path.text();
    if matches!(text, "" | "/") {
        return;
    }
    if text == "//" {
        return out.invalid(&path, "segment[0] may not be empty");
    }
    if !text.starts_with('/') {
        out.invalid(&path, "must start with a '/'");
    }
    let inner: String = text.chars().skip(1).collect();
    let inner = inner.strip_suffix('/').unwrap_or(&inner);
    for (index, step) in inner.split('/').enumerate() {
        if step.is_empty() {
            out.invalid(&path, format!("segment[{index}] may not be empty"));
            continue;
        }
        for fault in names::dns_subdomain(step) {
            out.invalid(&path, format!("segment[{index}]: {fault}"));
        }
    }
}

/// Match conditions, their expressions apart.
pub(super) fn conditions(at: &At<'_, '_>, out: &mut Errors) {
    if at.len() > CONDITIONS {
        out.too_many(at, at.len(), CONDITIONS);
    }
    let mut seen: Vec<&str> = Vec::new();
    for condition in at.items() {
        let (name, expression) = (condition.field("name"), condition.field("expression"));
        if expression.text().trim().is_empty() {
            out.required(&expression, "");
        }
        out.required_form(&name, names::qualified_name);
        if name.text().is_empty() {
            continue;
        }
        if seen.contains(&name.text()) {
            out.duplicate(&name);
        } else {
            seen.push(name.text());
        }
    }
}
