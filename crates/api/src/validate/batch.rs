//! Jobs and CronJobs.

use serde_json::Value;

use super::at::{At, Errors, get, same, selector};
use super::{cron, pod};

/// A name gets eleven characters more for each Job.
const CRON_NAME_LIMIT: usize = 52;
const MAX_INDEXED: i64 = 100_000;

/// A Job.
pub(super) fn job(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    job_spec(&spec, out);
    let (selector_at, labels) = (
        spec.field("selector"),
        spec.field("template.metadata.labels"),
    );
    if selector_at.is_set() {
        out.label_selector(&selector_at);
        if !selector(selector_at.value).matches(labels.value.as_object()) {
            out.invalid(&labels, "`selector` does not match template `labels`");
        }
    } else {
        out.required(&selector_at, "");
    }
    let Some(old) = old else { return };
    let before = get(old, "spec");
    for field in [
        "selector",
        "completionMode",
        "podFailurePolicy",
        "backoffLimitPerIndex",
        "managedBy",
        "successPolicy",
    ] {
        out.immutable(&spec.field(field), get(before, field));
    }
    let elastic = spec.field("completionMode").text() == "Indexed"
        && spec.field("completions").is_set()
        && spec.field("completions").value == spec.field("parallelism").value
        && get(before, "completions") == get(before, "parallelism");
    if !elastic {
        out.immutable(&spec.field("completions"), get(before, "completions"));
    }
    template_kept(&spec, old, out);
}

/// The template never changes, but for where its pods run while the Job has not started.
fn template_kept(spec: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let template = spec.field("template");
    let was = get(old, "spec.template");
    let waiting =
        get(old, "spec.suspend") == &Value::Bool(true) && get(old, "status.startTime").is_null();
    if !waiting {
        out.immutable(&template, was);
        return;
    }
    let open = |value: &Value| {
        let mut value = value.clone();
        if let Some(meta) = value.get_mut("metadata").and_then(Value::as_object_mut) {
            meta.remove("labels");
            meta.remove("annotations");
        }
        if let Some(spec) = value.get_mut("spec").and_then(Value::as_object_mut) {
            for field in ["nodeSelector", "affinity", "tolerations", "schedulingGates"] {
                spec.remove(field);
            }
            for list in ["containers", "initContainers"] {
                for container in spec
                    .get_mut(list)
                    .and_then(Value::as_array_mut)
                    .into_iter()
                    .flatten()
                {
                    if let Some(container) = container.as_object_mut() {
                        container.remove("resources");
                    }
                }
            }
        }
        value
    };
    if !same(&open(template.value), &open(was)) {
        out.immutable(&template, was);
    }
}

fn job_spec(spec: &At<'_, '_>, out: &mut Errors) {
    for field in [
        "parallelism",
        "completions",
        "activeDeadlineSeconds",
        "backoffLimit",
        "ttlSecondsAfterFinished",
        "backoffLimitPerIndex",
        "maxFailedIndexes",
    ] {
        out.non_negative(&spec.field(field));
    }
    let mode = spec.field("completionMode");
    out.any_of(&mode, &["Indexed", "NonIndexed"]);
    if mode.text() == "Indexed" {
        let completions = spec.field("completions");
        match completions.int() {
            None => out.required(&completions, "when completion mode is Indexed"),
            Some(n) if n > MAX_INDEXED && spec.field("backoffLimitPerIndex").is_set() => {
                out.invalid(&completions, format!("must be less than or equal to {MAX_INDEXED} when backoffLimitPerIndex is set"));
            }
            Some(_) => {}
        }
        if spec
            .field("parallelism")
            .int()
            .is_some_and(|n| n > MAX_INDEXED)
        {
            let parallelism = spec.field("parallelism");
            out.invalid(
                &parallelism,
                format!(
                    "must be less than or equal to {MAX_INDEXED} when completion mode is Indexed"
                ),
            );
        }
    } else if spec.field("backoffLimitPerIndex").is_set() {
        out.invalid(
            &spec.field("backoffLimitPerIndex"),
            "requires indexed completion mode",
        );
    }
    out.any_of(
        &spec.field("podReplacementPolicy"),
        &["Failed", "TerminatingOrFailed"],
    );
    let template = spec.field("template");
    if !template.is_set() {
        out.required(&template, "");
        return;
    }
    pod::template(&template, &[], out);
    let policy = template.field("spec.restartPolicy");
    if !matches!(policy.text(), "OnFailure" | "Never") {
        if policy.text().is_empty() || policy.text() == "Always" {
            out.required(&policy, "valid values: \"OnFailure\", \"Never\"");
        } else {
            out.not_supported(&policy, &["OnFailure", "Never"]);
        }
    }
    if spec.field("podFailurePolicy").is_set() && policy.text() != "Never" {
        out.invalid(
            &policy,
            "only \"Never\" is supported when podFailurePolicy is specified",
        );
    }
}

/// A CronJob.
pub(super) fn cron_job(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let name = at.field("metadata.name");
    if old.is_none() && name.text().len() > CRON_NAME_LIMIT {
        out.invalid(
            &name,
            format!("must be no more than {CRON_NAME_LIMIT} characters"),
        );
    }
    let spec = at.field("spec");
    let (schedule, zone) = (spec.field("schedule"), spec.field("timeZone"));
    if out.present(&schedule) {
        if schedule.text().contains("TZ") {
            out.invalid(
                &schedule,
                "cannot use TZ or CRON_TZ in schedule, use timeZone field instead",
            );
        } else if let Err(error) = cron::check(schedule.text()) {
            out.invalid(&schedule, error);
        }
    }
    if zone.is_set() {
        if zone.text().is_empty() {
            out.invalid(&zone, "timeZone must be nil or non-empty string");
        } else if zone.text().eq_ignore_ascii_case("local") {
            out.invalid(&zone, "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones");
        } else if !zone
            .text()
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"/_+-".contains(&b))
        {
            out.invalid(&zone, format!("unknown time zone {}", zone.text()));
        }
    }
    for field in [
        "startingDeadlineSeconds",
        "successfulJobsHistoryLimit",
        "failedJobsHistoryLimit",
    ] {
        out.non_negative(&spec.field(field));
    }
    out.one_of(
        &spec.field("concurrencyPolicy"),
        &["Allow", "Forbid", "Replace"],
    );
    let job = spec.field("jobTemplate.spec");
    job_spec(&job, out);
    let selector = job.field("selector");
    if selector.is_set() {
        out.invalid(&selector, "`selector` will be auto-generated");
    }
    let manual = job.field("manualSelector");
    if manual.flag() {
        out.not_supported(&manual, &["nil", "false"]);
    }
}
