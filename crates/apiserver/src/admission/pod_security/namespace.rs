//! What a namespace's labels may be, and which of its pods a stricter level would refuse.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::meta;
use api::status::ApiError;
use serde_json::{Value, json};

use super::checks::{self, Pod};
use super::policy::{Level, LevelVersion, Policy};
use crate::cache::Object;
use crate::pipeline::Call;

/// The most pods that are looked at for the warnings of a new level, and for how long.
const PODS_LIMIT: usize = 3000;
const TIME_LIMIT: Duration = Duration::from_secs(1);

/// Admits a new or changed namespace; what pods of it violate a new level is warned of.
pub(super) fn admit(call: &Call, new: &Value, old: Option<&Value>) -> Result<(), ApiError> {
    if !call.subresource.is_empty() {
        return Ok(());
    }
    let config = &call.state.admission.pod_security;
    let (policy, errors) = Policy::of(meta::labels(new), &config.defaults);
    let before = old.map(|old| Policy::of(meta::labels(old), &config.defaults));
    let known = before.as_ref().is_some_and(|(_, before)| *before == errors);
    if !errors.is_empty() && !known {
        return Err(ApiError::invalid(&call.resource, meta::name(new), &errors));
    }
    if let Some((before, _)) = &before {
        let relaxed = policy.enforce.version == before.enforce.version
            && policy.enforce.level <= before.enforce.level;
        if relaxed || policy.enforce.level == Level::Privileged {
            return Ok(());
        }
    }
    let name = meta::name(new);
    if config.exempts_namespace(name) {
        let labels = meta::labels(new).cloned().unwrap_or_default();
        if !policy.is_privileged() && !policy.equivalent(&config.defaults) {
            call.warn(format!(
                "namespace {name:?} is exempt from Pod Security, and the policy ({}) will be ignored",
                policy.explicit(&labels)
            ));
        }
    } else if before.is_some() {
        warn_of_pods(call, name, policy.enforce);
    }
    Ok(())
}

/// Warns of the pods that a new level would refuse, one line for each set of reasons.
fn warn_of_pods(call: &Call, namespace: &str, enforce: LevelVersion) {
    let began = Instant::now();
    let config = &call.state.admission.pod_security;
    let pods = in_order(call, namespace);
    let mut by_reason: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    let mut checked = 0;
    for object in pods.iter().take(PODS_LIMIT) {
        checked += 1;
        let value = object.value();
        let pod = Pod::of(&value).filter(|pod| !config.exempts_class_of(pod.spec));
        if let Some(found) = pod.and_then(|pod| checks::evaluate(enforce, &pod)) {
            let names = by_reason.entry(found.reasons()).or_default();
            names.push(object.name());
        }
        if began.elapsed() > TIME_LIMIT {
            break;
        }
    }
    if checked < pods.len() {
        call.warn(format!(
            "new PodSecurity enforce level only checked against the first {checked} of {} existing pods",
            pods.len()
        ));
    }
    if !by_reason.is_empty() {
        call.warn(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{enforce}\""
        ));
    }
    let mut lines: Vec<String> = by_reason
        .iter()
        .filter_map(|(reason, names)| {
            let first = names.iter().min()?;
            Some(match names.len() - 1 {
                0 => format!("{first}: {reason}"),
                1 => format!("{first} (and 1 other pod): {reason}"),
                more => format!("{first} (and {more} other pods): {reason}"),
            })
        })
        .collect();
    lines.sort();
    for line in lines {
        call.warn(line);
    }
}

/// The namespace's pods; those of whose controller another one comes first are last.
fn in_order(call: &Call, namespace: &str) -> Vec<Arc<Object>> {
    let mut controllers = HashSet::new();
    let all = call.state.core("pods").list(Some(namespace)).into_iter();
    let (mut first, rest): (Vec<_>, Vec<_>) = all.partition(|pod| {
        // The bytes were parsed when the object was made.
        let metadata: Value = serde_json::from_slice(pod.metadata_json()).unwrap_or_default();
        let pod = json!({"metadata": metadata});
        let controller = meta::controller(&pod).map(|owner| owner.uid.to_owned());
        controller.is_none_or(|uid| controllers.insert(uid))
    });
    first.extend(rest);
    first
}
