//! Defaults of the apps and batch groups.

use serde_json::{Map, Value};

use super::{absent, child, empty, items, text};

pub(super) fn fill(name: &str, map: &mut Map<String, Value>) {
    match name {
        "Deployment" => {
            let Some(spec) = child(map, "spec") else {
                return;
            };
            absent(spec, "replicas", 1);
            if let Some(strategy) = child(spec, "strategy") {
                rolling(strategy, "25%".into(), "25%".into());
            }
            absent(spec, "revisionHistoryLimit", 10);
            absent(spec, "progressDeadlineSeconds", 600);
        }
        "DaemonSet" => {
            let Some(spec) = child(map, "spec") else {
                return;
            };
            if let Some(strategy) = child(spec, "updateStrategy") {
                rolling(strategy, 1.into(), 0.into());
            }
            absent(spec, "revisionHistoryLimit", 10);
        }
        "StatefulSet" => stateful_set(map),
        "ReplicaSet" => {
            if let Some(spec) = child(map, "spec") {
                absent(spec, "replicas", 1);
            }
        }
        "Job" => job(map),
        "CronJob" => {
            let Some(spec) = child(map, "spec") else {
                return;
            };
            empty(spec, "concurrencyPolicy", "Allow");
            absent(spec, "suspend", false);
            absent(spec, "successfulJobsHistoryLimit", 3);
            absent(spec, "failedJobsHistoryLimit", 1);
        }
        _ => {}
    }
}

fn rolling(strategy: &mut Map<String, Value>, max_unavailable: Value, max_surge: Value) {
    empty(strategy, "type", "RollingUpdate");
    if text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = child(strategy, "rollingUpdate")
    {
        absent(rolling, "maxUnavailable", max_unavailable);
        absent(rolling, "maxSurge", max_surge);
    }
}

fn stateful_set(map: &mut Map<String, Value>) {
    let Some(spec) = child(map, "spec") else {
        return;
    };
    empty(spec, "podManagementPolicy", "OrderedReady");
    if let Some(strategy) = child(spec, "updateStrategy") {
        if text(strategy, "type").is_empty() {
            empty(strategy, "type", "RollingUpdate");
            absent(strategy, "rollingUpdate", Map::new());
        }
        let rolling = text(strategy, "type") == "RollingUpdate";
        if let (true, Some(Value::Object(update))) = (rolling, strategy.get_mut("rollingUpdate")) {
            absent(update, "partition", 0);
        }
    }
    if let Some(policy) = child(spec, "persistentVolumeClaimRetentionPolicy") {
        empty(policy, "whenDeleted", "Retain");
        empty(policy, "whenScaled", "Retain");
    }
    absent(spec, "replicas", 1);
    absent(spec, "revisionHistoryLimit", 10);
}

fn job(map: &mut Map<String, Value>) {
    let Some(spec) = child(map, "spec") else {
        return;
    };
    let set = |spec: &Map<String, Value>, key: &str| spec.get(key).is_some_and(|v| !v.is_null());
    if !set(spec, "completions") && !set(spec, "parallelism") {
        absent(spec, "completions", 1);
    }
    absent(spec, "parallelism", 1);
    let limit = if set(spec, "backoffLimitPerIndex") {
        i32::MAX
    } else {
        6
    };
    absent(spec, "backoffLimit", limit);
    absent(spec, "completionMode", "NonIndexed");
    absent(spec, "suspend", false);
    let mut replacement = "TerminatingOrFailed";
    if let Some(Value::Object(policy)) = spec.get_mut("podFailurePolicy") {
        replacement = "Failed";
        for rule in items(policy, "rules") {
            for condition in items(rule, "onPodConditions") {
                empty(condition, "status", "True");
            }
        }
    }
    absent(spec, "podReplacementPolicy", replacement);
    absent(spec, "manualSelector", false);
    let labels = spec
        .get("template")
        .and_then(|t| t.pointer("/metadata/labels"))
        .cloned();
    if let Some(labels) = labels.filter(Value::is_object)
        && let Some(metadata) = child(map, "metadata")
        && metadata
            .get("labels")
            .and_then(Value::as_object)
            .is_none_or(Map::is_empty)
    {
        metadata.insert("labels".to_owned(), labels);
    }
}
