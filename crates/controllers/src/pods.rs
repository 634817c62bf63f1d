//! What controllers ask about pods, and how they make them from a template.

use crate::write::{self, WriteError};
use client::Client;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodCondition, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use std::time::Duration;

/// Neither ended nor ending.
pub(crate) fn is_active(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_none()
}

/// Being deleted, but its containers have not all ended.
pub(crate) fn is_terminating(pod: &Pod) -> bool {
    !is_finished(pod) && pod.metadata.deletion_timestamp.is_some()
}

/// Succeeded or Failed.
pub(crate) fn is_finished(pod: &Pod) -> bool {
    matches!(phase(pod), "Succeeded" | "Failed")
}

pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|s| s.phase.as_deref())
        .unwrap_or_default()
}

pub(crate) fn condition<'a>(pod: &'a Pod, kind: &str) -> Option<&'a PodCondition> {
    pod.status
        .as_ref()?
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == kind)
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    condition(pod, "Ready").is_some_and(|c| c.status == "True")
}

/// How long until the pod counts as available; zero when it does, `None` when it is not ready.
pub(crate) fn available_in(pod: &Pod, min_ready_secs: i32, now: Timestamp) -> Option<Duration> {
    let ready = condition(pod, "Ready").filter(|c| c.status == "True")?;
    if min_ready_secs <= 0 {
        return Some(Duration::ZERO);
    }
    let since = ready.last_transition_time.as_ref()?.0;
    let at = since
        .checked_add(SignedDuration::from_secs(i64::from(min_ready_secs)))
        .ok()?;
    Some(Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO))
}

pub(crate) fn node_name(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|n| !n.is_empty())
}

/// The owner that controls `meta`'s object.
pub(crate) fn controller(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .as_deref()?
        .iter()
        .find(|o| o.controller == Some(true))
}

/// A reference by which `owner` controls what it makes.
pub(crate) fn controlled_by<K: kube::Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.meta().name.clone().unwrap_or_default(),
        uid: owner.meta().uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// A new pod from `template`, named by the server after `owner`.
pub(crate) fn from_template(template: &PodTemplateSpec, owner: OwnerReference) -> Pod {
    let meta = template.metadata.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", owner.name)),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: Some(vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec.clone(),
        status: None,
    }
}

/// The restarts of all containers.
pub(crate) fn restarts(pod: &Pod) -> i64 {
    let Some(status) = &pod.status else { return 0 };
    let sidecars = status.init_container_statuses.iter().flatten();
    status
        .container_statuses
        .iter()
        .flatten()
        .chain(sidecars)
        .map(|c| i64::from(c.restart_count))
        .sum()
}

/// Says in the pod's status that it is deleted because of a disruption.
pub(crate) async fn tell_disruption(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
) -> Result<(), WriteError> {
    disrupt(client, pod, reason, message, false).await
}

/// Like [`tell_disruption`], and the pod has failed: nobody is left to say so.
pub(crate) async fn fail_disrupted(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
) -> Result<(), WriteError> {
    disrupt(client, pod, reason, message, true).await
}

async fn disrupt(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
    failed: bool,
) -> Result<(), WriteError> {
    let mut changed = pod.clone();
    let status = changed.status.get_or_insert_default();
    if failed {
        status.phase = Some("Failed".to_owned());
    }
    let conditions = status.conditions.get_or_insert_default();
    conditions.retain(|c| c.type_ != "DisruptionTarget");
    conditions.push(PodCondition {
        type_: "DisruptionTarget".to_owned(),
        status: "True".to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(Timestamp::now())),
        observed_generation: pod.metadata.generation,
        ..PodCondition::default()
    });
    match write::update_status(client, pod, &changed).await {
        Err(error) if client::is_not_found(&error) => Ok(()),
        result => result.map(drop),
    }
}
