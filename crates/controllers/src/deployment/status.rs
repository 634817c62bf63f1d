//! What a Deployment says about itself: counts, and the conditions Available and Progressing.

use super::sets::{Set, max_unavailable, replicas};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::apps::v1::{Deployment, DeploymentCondition, DeploymentStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::time::Duration;

pub(super) const AVAILABLE: &str = "NewReplicaSetAvailable";
pub(super) const TIMED_OUT: &str = "ProgressDeadlineExceeded";

/// Counts over all sets, with the conditions that follow from the counts alone.
pub(super) fn count(
    deployment: &Deployment,
    before: &DeploymentStatus,
    sets: &[Set],
    new: Option<usize>,
    now: Timestamp,
) -> DeploymentStatus {
    let sum = |f: &dyn Fn(&Set) -> i32| sets.iter().map(f).fold(0, i32::saturating_add);
    let of = |set: &Set| set.set.status.clone().unwrap_or_default();
    let available = sum(&Set::available);
    let wanted_pods = sum(&Set::replicas);
    let positive = |n: i32| (n > 0).then_some(n);
    let mut status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: positive(sum(&|s| of(s).replicas)),
        updated_replicas: new.and_then(|i| positive(of(&sets[i]).replicas)),
        ready_replicas: positive(sum(&|s| of(s).ready_replicas.unwrap_or(0))),
        available_replicas: positive(available),
        unavailable_replicas: positive(wanted_pods - available),
        terminating_replicas: Some(sum(&|s| of(s).terminating_replicas.unwrap_or(0))),
        collision_count: before.collision_count,
        conditions: before.conditions.clone(),
    };
    if available >= replicas(deployment) - max_unavailable(deployment) {
        let message = "Deployment has minimum availability.";
        set(
            &mut status,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            message,
            now,
        );
    } else {
        let message = "Deployment does not have minimum availability.";
        set(
            &mut status,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            message,
            now,
        );
    }
    status
}

/// How the rollout goes; answers when to look at its deadline.
pub(super) fn judge(
    deployment: &Deployment,
    before: &DeploymentStatus,
    status: &mut DeploymentStatus,
    new: Option<&Set>,
    sets: &[Set],
    now: Timestamp,
) -> Option<Duration> {
    let whose = match new {
        Some(set) => format!("ReplicaSet \"{}\"", set.name()),
        None => {
            format!(
                "Deployment \"{}\"",
                deployment.metadata.name.as_deref().unwrap_or_default()
            )
        }
    };
    fail(status, sets);
    let Some(deadline) = deadline(deployment) else {
        status
            .conditions
            .iter_mut()
            .for_each(|c| c.retain(|c| c.type_ != "Progressing"));
        return None;
    };
    let known = progressing(status).cloned();
    let reason = known.as_ref().and_then(|c| c.reason.as_deref());
    let idle = status.replicas == status.updated_replicas && reason == Some(AVAILABLE);
    if !idle {
        if is_complete(deployment, status) {
            let message = format!("{whose} has successfully progressed.");
            set_progressing(status, "True", AVAILABLE, &message, now);
        } else if has_moved(before, status) {
            let message = format!("{whose} is progressing.");
            let since = known
                .as_ref()
                .filter(|c| c.status == "True")
                .and_then(|c| c.last_transition_time.clone());
            status
                .conditions
                .iter_mut()
                .for_each(|c| c.retain(|c| c.type_ != "Progressing"));
            set_progressing(status, "True", "ReplicaSetUpdated", &message, now);
            if let (Some(since), Some(condition)) = (since, progressing_mut(status)) {
                condition.last_transition_time = Some(since);
            }
        } else if left(known.as_ref(), deadline, now) == Some(Duration::ZERO)
            || reason == Some(TIMED_OUT)
        {
            let message = format!("{whose} has timed out progressing.");
            set_progressing(status, "False", TIMED_OUT, &message, now);
        }
    }
    let condition = progressing(status);
    let settled =
        condition.is_some_and(|c| matches!(c.reason.as_deref(), Some(AVAILABLE | TIMED_OUT)));
    if settled || is_complete(deployment, status) {
        return None;
    }
    // A second late, as the condition's time has whole seconds.
    left(condition, deadline, now).map(|left| left + Duration::from_secs(1))
}

/// Says that the rollout is paused or goes on again.
pub(super) fn pause(deployment: &Deployment, status: &mut DeploymentStatus, now: Timestamp) {
    if deadline(deployment).is_none() {
        return;
    }
    let reason = progressing(status)
        .and_then(|c| c.reason.as_deref())
        .unwrap_or_default();
    let paused = deployment.spec.as_ref().and_then(|s| s.paused) == Some(true);
    match (paused, reason) {
        (_, TIMED_OUT) | (true, "DeploymentPaused") => {}
        (true, _) => {
            set_progressing(
                status,
                "Unknown",
                "DeploymentPaused",
                "Deployment is paused",
                now,
            );
        }
        (false, "DeploymentPaused") => {
            set_progressing(
                status,
                "Unknown",
                "DeploymentResumed",
                "Deployment is resumed",
                now,
            );
        }
        (false, _) => {}
    }
}

/// Seconds in which a rollout must move; `None` for ever.
pub(super) fn deadline(deployment: &Deployment) -> Option<i32> {
    deployment
        .spec
        .as_ref()?
        .progress_deadline_seconds
        .filter(|s| *s != i32::MAX)
}

pub(super) fn progressing(status: &DeploymentStatus) -> Option<&DeploymentCondition> {
    status
        .conditions
        .as_ref()?
        .iter()
        .find(|c| c.type_ == "Progressing")
}

fn progressing_mut(status: &mut DeploymentStatus) -> Option<&mut DeploymentCondition> {
    status
        .conditions
        .as_mut()?
        .iter_mut()
        .find(|c| c.type_ == "Progressing")
}

/// Whether every pod is of the new template and available.
pub(super) fn is_complete(deployment: &Deployment, status: &DeploymentStatus) -> bool {
    let wanted = replicas(deployment);
    let all = [
        status.updated_replicas,
        status.replicas,
        status.available_replicas,
    ];
    all.iter().all(|count| count.unwrap_or(0) == wanted)
        && status.observed_generation >= deployment.metadata.generation
}

fn has_moved(before: &DeploymentStatus, now: &DeploymentStatus) -> bool {
    let n = |count: Option<i32>| count.unwrap_or(0);
    let old = |s: &DeploymentStatus| n(s.replicas) - n(s.updated_replicas);
    n(now.updated_replicas) > n(before.updated_replicas)
        || old(now) < old(before)
        || n(now.ready_replicas) > n(before.ready_replicas)
        || n(now.available_replicas) > n(before.available_replicas)
}

/// Time left until the deadline.
fn left(
    condition: Option<&DeploymentCondition>,
    deadline_secs: i32,
    now: Timestamp,
) -> Option<Duration> {
    let from = condition?.last_update_time.as_ref()?.0;
    let until = from
        .checked_add(SignedDuration::from_secs(i64::from(deadline_secs)))
        .ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

/// Shows a set's failure to make pods as the Deployment's.
fn fail(status: &mut DeploymentStatus, sets: &[Set]) {
    let failure = sets
        .iter()
        .flat_map(|s| {
            s.set
                .status
                .iter()
                .flat_map(|s| s.conditions.iter().flatten())
        })
        .find(|c| c.type_ == "ReplicaFailure");
    let conditions = status.conditions.get_or_insert_default();
    match failure {
        None => conditions.retain(|c| c.type_ != "ReplicaFailure"),
        Some(failure) => {
            let condition = DeploymentCondition {
                type_: failure.type_.clone(),
                status: failure.status.clone(),
                reason: failure.reason.clone(),
                message: failure.message.clone(),
                last_transition_time: failure.last_transition_time.clone(),
                last_update_time: failure.last_transition_time.clone(),
            };
            match conditions.iter_mut().find(|c| c.type_ == "ReplicaFailure") {
                Some(known) => *known = condition,
                None => conditions.push(condition),
            }
        }
    }
}

pub(super) fn set_progressing(
    status: &mut DeploymentStatus,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    set(status, "Progressing", value, reason, message, now);
}

/// Sets a condition; one with the same status and reason stays as it is.
fn set(
    status: &mut DeploymentStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let mut condition = DeploymentCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_transition_time: Some(Time(now)),
        last_update_time: Some(Time(now)),
    };
    match conditions.iter().position(|c| c.type_ == kind) {
        None => conditions.push(condition),
        Some(at) => {
            let known = &conditions[at];
            if known.status == value {
                if known.reason.as_deref() == Some(reason) {
                    return;
                }
                condition.last_transition_time = known.last_transition_time.clone();
            }
            conditions.remove(at);
            conditions.push(condition);
        }
    }
}
