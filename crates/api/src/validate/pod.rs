//! Pods, and the templates of pods.

use serde_json::{Map, Value};

use super::at::{At, Errors, get, same};
use super::container::{self, Pod};
use super::{meta, names, resources, scheduling, security, volume};
use crate::meta::MIRROR;

const MAX_DEADLINE_SECS: i64 = 2_147_483_647;
const UPDATABLE: &str = "pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// A new pod.
pub(super) fn create(pod: &At<'_, '_>, out: &mut Errors) {
    let at = pod.field("spec");
    spec(&at, true, &[], out);
    let ephemeral = at.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        out.forbidden(&ephemeral, "cannot be set on create");
    }
    let node = at.field("nodeName");
    if !node.is_empty() && !at.field("schedulingGates").is_empty() {
        out.forbidden(
            &node,
            "cannot be set until all schedulingGates have been cleared",
        );
    }
    annotations(pod, out);
}

fn annotations(pod: &At<'_, '_>, out: &mut Errors) {
    let all = pod.field("metadata.annotations");
    let mirror = all.key(MIRROR);
    if mirror.is_set() && pod.field("spec.nodeName").is_empty() {
        out.invalid(
            &mirror,
            "must set spec.nodeName if mirror pod annotation is set",
        );
    }
    let cost = all.key("controller.kubernetes.io/pod-deletion-cost");
    if cost.is_set() && cost.text().parse::<i32>().is_err() {
        out.invalid(&cost, "must be a 32bit integer");
    }
}

/// The template of pods; `claims` are volumes that it may name without having them.
pub(super) fn template(at: &At<'_, '_>, claims: &[&Value], out: &mut Errors) {
    meta::template(&at.field("metadata"), out);
    let spec_at = at.field("spec");
    spec(&spec_at, false, claims, out);
    let ephemeral = spec_at.field("ephemeralContainers");
    if !ephemeral.is_empty() {
        out.forbidden(
            &ephemeral,
            "ephemeral containers not allowed in pod template",
        );
    }
}

/// A pod spec.
fn spec(at: &At<'_, '_>, is_pod: bool, claims: &[&Value], out: &mut Errors) {
    let list = at.field("volumes");
    let mut volumes = volume::all(&list, out);
    let from_claim = serde_json::json!({"persistentVolumeClaim": {}});
    for claim in claims {
        volumes.insert(
            get(claim, "metadata.name").as_str().unwrap_or_default(),
            &from_claim,
        );
    }
    let pod = Pod {
        is_pod,
        volumes,
        restart_policy: at.field("restartPolicy").text(),
        grace_period_secs: at.field("terminationGracePeriodSeconds").int(),
        host_network: at.field("hostNetwork").flag(),
    };
    container::all(at, &pod, out);
    out.one_of(
        &at.field("restartPolicy"),
        &["Always", "OnFailure", "Never"],
    );
    out.one_of(
        &at.field("dnsPolicy"),
        &["ClusterFirstWithHostNet", "ClusterFirst", "Default", "None"],
    );
    out.labels(&at.field("nodeSelector"));
    security::pod(at, out);
    scheduling::affinity(&at.field("affinity"), out);
    dns(at, out);
    let gates = at.field("readinessGates");
    for gate in gates.items() {
        let kind = gate.field("conditionType");
        out.form(&kind, names::qualified_name(kind.text()));
    }
    scheduling::gates(&at.field("schedulingGates"), out);
    scheduling::topology_spread(&at.field("topologySpreadConstraints"), out);
    scheduling::tolerations(&at.field("tolerations"), out);
    resources::requirements(&at.field("resources"), out);
    for name in [
        "serviceAccountName",
        "nodeName",
        "priorityClassName",
        "runtimeClassName",
    ] {
        let field = at.field(name);
        if !field.is_empty() {
            out.form(&field, names::dns_subdomain(field.text()));
        }
    }
    for name in ["hostname", "subdomain"] {
        let field = at.field(name);
        if !field.is_empty() {
            out.form(&field, names::dns_label(field.text()));
        }
    }
    let deadline = at.field("activeDeadlineSeconds");
    out.range(&deadline, 1, MAX_DEADLINE_SECS);
    let grace = at.field("terminationGracePeriodSeconds");
    if !grace.is_set() {
        out.required(&grace, "");
    } else if !is_pod {
        out.non_negative(&grace);
    }
    aliases(&at.field("hostAliases"), out);
    out.any_of(
        &at.field("preemptionPolicy"),
        &["PreemptLowerPriority", "Never"],
    );
    let os = at.field("os");
    if os.is_set() {
        out.one_of(&os.field("name"), &["linux", "windows"]);
    }
    let overhead = at.field("overhead");
    for (key, entry) in overhead.entries() {
        resources::amount(&entry, key, out);
    }
}

fn dns(spec: &At<'_, '_>, out: &mut Errors) {
    let config = spec.field("dnsConfig");
    let servers = config.field("nameservers");
    if spec.field("dnsPolicy").text() == "None" {
        if !config.is_set() {
            out.required(&config, "must provide `dnsConfig` when `dnsPolicy` is None");
            return;
        }
        if servers.is_empty() {
            out.required(
                &servers,
                "must provide at least one DNS nameserver when `dnsPolicy` is None",
            );
            return;
        }
    }
    if servers.len() > 3 {
        out.invalid(&servers, "must not have more than 3 nameservers");
    }
    for server in servers.items() {
        ip(&server, out);
    }
    let searches = config.field("searches");
    if searches.len() > 32 {
        out.invalid(&searches, "must not have more than 32 search paths");
    }
    if searches.items().map(|s| s.text().len() + 1).sum::<usize>() > 2049 {
        out.invalid(
            &searches,
            "must not have more than 2048 characters (including spaces) in the search list",
        );
    }
    for search in searches.items().filter(|s| s.text() != ".") {
        let text = search.text();
        let plain = text.strip_suffix('.').unwrap_or(text).replace('_', "x");
        out.form(&search, names::dns_subdomain(&plain));
    }
    let options = config.field("options");
    for option in options.items() {
        if option.field("name").is_empty() {
            out.required(&option, "must not be empty");
        }
    }
}

/// An IP address.
pub(super) fn ip(at: &At<'_, '_>, out: &mut Errors) {
    if at.text().parse::<std::net::IpAddr>().is_err() {
        out.invalid(
            at,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
}

fn aliases(at: &At<'_, '_>, out: &mut Errors) {
    for alias in at.items() {
        ip(&alias.field("ip"), out);
        let hostnames = alias.field("hostnames");
        for name in hostnames.items() {
            out.form(&name, names::dns_subdomain(name.text()));
        }
    }
}

/// A changed pod.
pub(super) fn update(pod: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let at = pod.field("spec");
    let before = get(old, "spec");
    spec(&at, true, &[], out);
    annotations(pod, out);
    mirror(pod, old, out);
    for list in ["containers", "initContainers"] {
        let containers = at.field(list);
        if containers.len() != get(before, list).as_array().map_or(0, Vec::len) {
            out.forbidden(&containers, "pod updates may not add or remove containers");
            return;
        }
    }
    let deadline = at.field("activeDeadlineSeconds");
    match (
        get(before, "activeDeadlineSeconds").as_i64(),
        deadline.int(),
    ) {
        (Some(_), None) => {
            out.invalid_value(
                &deadline,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
        }
        (Some(was), Some(is)) if is > was => {
            out.invalid(&deadline, "must be less than or equal to previous value");
        }
        _ => {}
    }
    added_tolerations(&at.field("tolerations"), get(before, "tolerations"), out);
    removed_gates(
        &at.field("schedulingGates"),
        get(before, "schedulingGates"),
        out,
    );
    rest(&at, before, out);
}

fn mirror(pod: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let annotations = pod.field("metadata.annotations");
    let is = annotations.key(MIRROR);
    let was = get(old, "metadata.annotations").get(MIRROR);
    match (was, is.is_set()) {
        (None, true) => out.forbidden(&is, "may not add mirror pod annotation"),
        (Some(was), _) if was != is.value => {
            out.forbidden(&is, "may not remove or update mirror pod annotation")
        }
        _ => {}
    }
}

fn added_tolerations(at: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let without_secs = |toleration: &Value| {
        let mut toleration = toleration.clone();
        if let Some(map) = toleration.as_object_mut() {
            map.remove("tolerationSeconds");
        }
        toleration
    };
    for was in old.as_array().into_iter().flatten().map(without_secs) {
        if !at.items().any(|is| same(&without_secs(is.value), &was)) {
            out.forbidden(
                at,
                "existing toleration can not be modified except its tolerationSeconds",
            );
            return;
        }
    }
}

fn removed_gates(at: &At<'_, '_>, old: &Value, out: &mut Errors) {
    for gate in at.items() {
        let name = gate.field("name");
        let known = old
            .as_array()
            .into_iter()
            .flatten()
            .any(|g| get(g, "name").as_str() == Some(name.text()));
        if !known {
            out.forbidden(
                &name,
                format!(
                    "only deletion is allowed, but found new scheduling gate '{}'",
                    name.text()
                ),
            );
        }
    }
}

/// All that has no rule of its own stays as it is.
fn rest(at: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let (Some(new), Some(old)) = (at.value.as_object(), old.as_object()) else {
        return;
    };
    let gated = old
        .get("schedulingGates")
        .and_then(Value::as_array)
        .is_some_and(|g| !g.is_empty());
    let mut changed = Vec::new();
    let names: std::collections::BTreeSet<&String> = new.keys().chain(old.keys()).collect();
    for name in names {
        let (is, was) = (
            new.get(name).unwrap_or(&Value::Null),
            old.get(name).unwrap_or(&Value::Null),
        );
        if same(is, was) {
            continue;
        }
        let allowed = match name.as_str() {
            "activeDeadlineSeconds" | "tolerations" | "schedulingGates" => true,
            "terminationGracePeriodSeconds" => {
                was.as_i64().is_some_and(|n| n < 0) && is.as_i64() == Some(1)
            }
            "containers" | "initContainers" => same(&without_images(is), &without_images(was)),
            "nodeSelector" if gated => {
                let kept = |is: &Map<String, Value>, was: &Map<String, Value>| {
                    was.iter().all(|(k, v)| is.get(k) == Some(v))
                };
                if !was
                    .as_object()
                    .is_none_or(|was| is.as_object().is_some_and(|is| kept(is, was)))
                {
                    out.invalid(&at.field("nodeSelector"), "only additions to spec.nodeSelector are allowed (no mutations or deletions)");
                }
                true
            }
            "affinity" if gated => ["podAffinity", "podAntiAffinity"]
                .iter()
                .all(|kind| same(get(is, kind), get(was, kind))),
            // The old name of the account follows the new one.
            "serviceAccount" => true,
            _ => false,
        };
        if !allowed {
            changed.push(name.as_str());
        }
    }
    if !changed.is_empty() {
        let mut lines = String::new();
        for name in changed {
            let side = |map: &Map<String, Value>| map.get(name).cloned().unwrap_or_default();
            differences(name, &side(old), &side(new), &mut lines);
        }
        out.forbidden(at, format!("{UPDATABLE}\n{lines}"));
    }
}

/// Lines that tell where two values differ, as far down as both go.
fn differences(path: &str, old: &Value, new: &Value, lines: &mut String) {
    const LIMIT_BYTES: usize = 4096;
    if same(old, new) || lines.len() > LIMIT_BYTES {
        return;
    }
    match (old, new) {
        (Value::Object(was), Value::Object(is)) => {
            let names: std::collections::BTreeSet<&String> = was.keys().chain(is.keys()).collect();
            for name in names {
                let (a, b) = (
                    was.get(name).unwrap_or(&Value::Null),
                    is.get(name).unwrap_or(&Value::Null),
                );
                differences(&format!("{path}.{name}"), a, b, lines);
            }
        }
        (Value::Array(was), Value::Array(is)) if was.len() == is.len() => {
            for (i, (was, is)) in was.iter().zip(is).enumerate() {
                differences(&format!("{path}[{i}]"), was, is, lines);
            }
        }
        _ => lines.push_str(&format!("-\t{path}: {old}\n+\t{path}: {new}\n")),
    }
}

fn without_images(list: &Value) -> Value {
    let mut list = list.clone();
    for container in list
        .as_array_mut()
        .into_iter()
        .flatten()
        .filter_map(Value::as_object_mut)
    {
        container.remove("image");
    }
    list
}

/// `status` of a pod: what ended does not begin again.
pub(super) fn status(pod: &At<'_, '_>, old: &Value, out: &mut Errors) {
    mirror(pod, old, out);
    let node = pod.field("spec.nodeName");
    out.immutable(&node, get(old, "spec.nodeName"));
    let policy = pod.field("spec.restartPolicy").text();
    if policy != "Always" {
        let statuses = pod.field("status.containerStatuses");
        ended(&statuses, get(old, "status.containerStatuses"), policy, out);
    }
    for list in ["podIPs", "hostIPs"] {
        let addresses = pod.field("status");
        let addresses = addresses.field(list);
        for address in addresses.items() {
            ip(&address.field("ip"), out);
        }
    }
}

fn ended(statuses: &At<'_, '_>, old: &Value, policy: &str, out: &mut Errors) {
    let name_of = |status: &Value| get(status, "name").as_str().unwrap_or_default().to_owned();
    for was in old.as_array().into_iter().flatten() {
        let terminated = get(was, "state.terminated");
        let failed = get(terminated, "exitCode").as_i64().unwrap_or_default() != 0;
        if terminated.is_null() || (failed && policy == "OnFailure") {
            continue;
        }
        let name = name_of(was);
        for is in statuses.items().filter(|s| s.field("name").text() == name) {
            if get(is.value, "state.terminated").is_null() {
                out.forbidden(
                    &is.field("state"),
                    "may not be transitioned to non-terminated state",
                );
            }
        }
    }
}

/// `ephemeralcontainers` of a pod: those that are there stay as they are.
pub(super) fn ephemeral(pod: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let at = pod.field("spec");
    spec(&at, true, &[], out);
    let list = at.field("ephemeralContainers");
    for was in get(old, "spec.ephemeralContainers")
        .as_array()
        .into_iter()
        .flatten()
    {
        let name = get(was, "name").as_str().unwrap_or_default();
        match list.items().find(|c| c.field("name").text() == name) {
            None => out.forbidden(
                &list,
                format!("existing ephemeral containers {name:?} may not be removed\n"),
            ),
            Some(is) if !same(is.value, was) => {
                out.forbidden(
                    &list,
                    format!("existing ephemeral containers {name:?} may not be changed\n"),
                );
            }
            Some(_) => {}
        }
    }
}
