//! Deployment, ReplicaSet, DaemonSet, StatefulSet, ReplicationController, ControllerRevision.

use serde_json::{Map, Value};

use super::at::{At, Errors, get, same, selector};
use super::{names, pod};
use crate::selector::LabelSelector;

const MISMATCH: &str = "`selector` does not match template `labels`";

/// One of the kinds of `apps`, or a ReplicationController.
pub(super) fn check(kind: &str, at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    match kind {
        "Deployment" => {
            replicas(&spec, out);
            selected(&spec, "deployment", &[], out);
            deployment(&spec, out);
        }
        "ReplicaSet" => {
            replicas(&spec, out);
            selected(&spec, "deployment", &[], out);
        }
        "DaemonSet" => {
            selected(&spec, "daemonset", &[], out);
            daemon_set(&spec, out);
        }
        "StatefulSet" => {
            replicas(&spec, out);
            let claims: Vec<&Value> = get(spec.value, "volumeClaimTemplates")
                .as_array()
                .into_iter()
                .flatten()
                .collect();
            selected(&spec, "statefulset", &claims, out);
            stateful_set(&spec, old, out);
        }
        "ReplicationController" => replication_controller(&spec, out),
        _ => {
            out.non_negative(&at.field("revision"));
            if let Some(old) = old {
                out.immutable(&at.field("data"), get(old, "data"));
            }
        }
    }
    if let (Some(old), "Deployment" | "ReplicaSet" | "DaemonSet") = (old, kind) {
        out.immutable(&spec.field("selector"), get(old, "spec.selector"));
    }
}

fn replicas(spec: &At<'_, '_>, out: &mut Errors) {
    for field in ["replicas", "minReadySeconds", "revisionHistoryLimit"] {
        out.non_negative(&spec.field(field));
    }
}

/// The selector, the template, and that they fit.
fn selected(spec: &At<'_, '_>, kind: &str, claims: &[&Value], out: &mut Errors) {
    let (at, template) = (spec.field("selector"), spec.field("template"));
    if at.is_set() {
        out.label_selector(&at);
        if at.field("matchLabels").is_empty() && at.field("matchExpressions").is_empty() {
            out.invalid(&at, format!("empty selector is invalid for {kind}"));
        }
    } else {
        out.required(&at, "");
    }
    if !template.is_set() {
        out.required(&template, "");
        return;
    }
    matches(&template, &selector(at.value), out);
    pod::template(&template, claims, out);
    let owner = match kind {
        "daemonset" => "DaemonSet",
        "statefulset" => "StatefulSet",
        _ => "ReplicaSet",
    };
    only_always(&template, owner, out);
}

fn matches(template: &At<'_, '_>, selector: &LabelSelector, out: &mut Errors) {
    let labels = template.field("metadata.labels");
    if !selector.is_everything() && !selector.matches(labels.value.as_object()) {
        let shown = if labels.is_set() {
            labels.value.clone()
        } else {
            Map::new().into()
        };
        out.invalid_value(&labels, shown, MISMATCH);
    }
}

fn only_always(template: &At<'_, '_>, owner: &str, out: &mut Errors) {
    let (policy, deadline) = (
        template.field("spec.restartPolicy"),
        template.field("spec.activeDeadlineSeconds"),
    );
    out.any_of(&policy, &["Always"]);
    if deadline.is_set() {
        out.forbidden(
            &deadline,
            format!("activeDeadlineSeconds in {owner} is not Supported"),
        );
    }
}

/// A number that is not negative, or a percentage.
pub(super) fn int_or_percent(at: &At<'_, '_>, out: &mut Errors) {
    match at.value {
        Value::String(text) => {
            let digits = text
                .strip_suffix('%')
                .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
            if !digits {
                out.invalid(
                    at,
                    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                );
            }
        }
        _ => out.non_negative(at),
    }
}

fn is_zero(value: &Value) -> bool {
    match value {
        Value::String(text) => text
            .strip_suffix('%')
            .is_some_and(|n| n.parse::<u64>() == Ok(0)),
        other => other.as_i64().unwrap_or_default() == 0,
    }
}

fn not_above_100(at: &At<'_, '_>, out: &mut Errors) {
    let percent = at
        .text()
        .strip_suffix('%')
        .and_then(|n| n.parse::<u64>().ok());
    if percent.is_some_and(|n| n > 100) {
        out.invalid(at, "must not be greater than 100%");
    }
}

fn deployment(spec: &At<'_, '_>, out: &mut Errors) {
    let strategy = spec.field("strategy");
    let rolling = strategy.field("rollingUpdate");
    out.any_of(&strategy.field("type"), &["Recreate", "RollingUpdate"]);
    match strategy.field("type").text() {
        "Recreate" if rolling.is_set() => {
            out.forbidden(
                &rolling,
                "may not be specified when strategy `type` is 'Recreate'",
            );
        }
        "RollingUpdate" => rolling_update(&rolling, out),
        _ => {}
    }
    let (deadline, ready) = (
        spec.field("progressDeadlineSeconds"),
        spec.field("minReadySeconds"),
    );
    if let Some(secs) = deadline.int() {
        out.non_negative(&deadline);
        if secs <= ready.int().unwrap_or_default() {
            out.invalid(&deadline, "must be greater than minReadySeconds");
        }
    }
}

/// How many pods may be missing or be too many.
fn rolling_update(at: &At<'_, '_>, out: &mut Errors) {
    let (missing, extra) = (at.field("maxUnavailable"), at.field("maxSurge"));
    int_or_percent(&missing, out);
    int_or_percent(&extra, out);
    if is_zero(missing.value) && is_zero(extra.value) {
        out.invalid(&missing, "may not be 0 when `maxSurge` is 0");
    }
    not_above_100(&missing, out);
}

fn daemon_set(spec: &At<'_, '_>, out: &mut Errors) {
    for field in ["minReadySeconds", "revisionHistoryLimit"] {
        out.non_negative(&spec.field(field));
    }
    let strategy = spec.field("updateStrategy");
    out.any_of(&strategy.field("type"), &["RollingUpdate", "OnDelete"]);
    if strategy.field("type").text() != "RollingUpdate" {
        return;
    }
    let rolling = strategy.field("rollingUpdate");
    if !rolling.is_set() {
        out.required(&rolling, "");
        return;
    }
    let (missing, extra) = (rolling.field("maxUnavailable"), rolling.field("maxSurge"));
    int_or_percent(&missing, out);
    not_above_100(&missing, out);
    int_or_percent(&extra, out);
    not_above_100(&extra, out);
    match (is_zero(missing.value), is_zero(extra.value)) {
        (true, true) => out.required(
            &rolling.field("maxUnavailable"),
            "cannot be 0 when maxSurge is 0",
        ),
        (false, false) => out.invalid(&extra, "may not be set when maxUnavailable is non-zero"),
        _ => {}
    }
}

fn stateful_set(spec: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    const OPEN: &[&str] = &[
        "replicas",
        "ordinals",
        "template",
        "updateStrategy",
        "revisionHistoryLimit",
        "persistentVolumeClaimRetentionPolicy",
        "minReadySeconds",
    ];
    let (management, strategy) = (
        spec.field("podManagementPolicy"),
        spec.field("updateStrategy"),
    );
    match management.text() {
        "OrderedReady" | "Parallel" => {}
        "" => out.required(&management, ""),
        _ => out.invalid(&management, "must be 'OrderedReady' or 'Parallel'"),
    }
    let rolling = strategy.field("rollingUpdate");
    match strategy.field("type").text() {
        "" => out.required(&strategy, ""),
        "OnDelete" if rolling.is_set() => {
            out.invalid(&rolling, "only allowed for updateStrategy 'RollingUpdate'");
        }
        "OnDelete" => {}
        "RollingUpdate" => {
            out.non_negative(&rolling.field("partition"));
            int_or_percent(&rolling.field("maxUnavailable"), out);
        }
        _ => out.invalid(&strategy, "must be 'RollingUpdate' or 'OnDelete'"),
    }
    out.non_negative(&spec.field("ordinals.start"));
    let service = spec.field("serviceName");
    if old.is_none() && !service.is_empty() {
        out.form(&service, names::dns_subdomain(service.text()));
    }
    let before = old.map(|old| get(old, "spec"));
    let (Some(new), Some(old)) = (spec.value.as_object(), before.and_then(Value::as_object)) else {
        return;
    };
    let closed = |(name, _): &(&String, &Value)| !OPEN.contains(&name.as_str());
    let pick = |map: &Map<String, Value>| {
        let picked: Map<String, Value> = map
            .iter()
            .filter(closed)
            .map(|(k, v)| (k.clone(), without_status(k, v)))
            .collect();
        Value::Object(picked)
    };
    if !same(&pick(new), &pick(old)) {
        out.forbidden(
            spec,
            "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
        );
    }
}

/// Claim templates carry a status that is not looked at.
fn without_status(name: &str, value: &Value) -> Value {
    let mut value = value.clone();
    if name == "volumeClaimTemplates" {
        for claim in value
            .as_array_mut()
            .into_iter()
            .flatten()
            .filter_map(Value::as_object_mut)
        {
            claim.remove("status");
        }
    }
    value
}

fn replication_controller(spec: &At<'_, '_>, out: &mut Errors) {
    replicas(spec, out);
    let (at, template) = (spec.field("selector"), spec.field("template"));
    out.labels(&at);
    if at.is_empty() {
        out.required(&at, "");
    }
    if !template.is_set() {
        out.required(&template, "");
        return;
    }
    if let Some(labels) = at.value.as_object() {
        matches(&template, &LabelSelector::from_map(labels), out);
    }
    pod::template(&template, &[], out);
    only_always(&template, "ReplicationController", out);
}

/// `status` of a workload: counts that are not negative, and not above the whole.
pub(super) fn status(kind: &str, at: &At<'_, '_>, out: &mut Errors) {
    let status = at.field("status");
    let all = status.field("replicas").int().unwrap_or_default();
    for (name, value) in status
        .value
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(_, v)| v.is_i64())
    {
        let field = status.field(name);
        out.non_negative(&field);
        let part = match kind {
            "ReplicaSet" | "ReplicationController" => {
                matches!(
                    name.as_str(),
                    "fullyLabeledReplicas" | "readyReplicas" | "availableReplicas"
                )
            }
            "Deployment" => matches!(
                name.as_str(),
                "updatedReplicas" | "readyReplicas" | "availableReplicas"
            ),
            "StatefulSet" => {
                matches!(
                    name.as_str(),
                    "readyReplicas" | "currentReplicas" | "updatedReplicas" | "availableReplicas"
                )
            }
            _ => false,
        };
        if part && value.as_i64().is_some_and(|n| n > all) {
            out.invalid(&field, "cannot be greater than status.replicas");
        }
    }
}
