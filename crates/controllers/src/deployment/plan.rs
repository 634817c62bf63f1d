//! What to do about a Deployment: a pure function of it, its sets and the time.

use super::scale::Scaling;
use super::sets::{REVISION, Set, is_rolling, new_set, same_template};
use super::status;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};
use std::sync::Arc;
use std::time::Duration;

/// Writes that bring a Deployment one step further.
#[derive(Default)]
pub(super) struct Plan {
    pub(super) create: Option<ReplicaSet>,
    pub(super) updates: Vec<(Arc<ReplicaSet>, ReplicaSet)>,
    pub(super) delete: Vec<Arc<ReplicaSet>>,
    /// The Deployment's revision, where it changes.
    pub(super) revision: Option<String>,
    /// What was scaled, in words.
    pub(super) scaled: Vec<String>,
    pub(super) status: DeploymentStatus,
    /// When to look again at the deadline.
    pub(super) again: Option<Duration>,
}

/// Decides the next step. `running` tells whether a set has pods that have not ended.
pub(super) fn plan(
    deployment: &Deployment,
    sets: &[Arc<ReplicaSet>],
    running: &dyn Fn(&ReplicaSet) -> bool,
    now: Timestamp,
) -> Plan {
    let before = deployment.status.clone().unwrap_or_default();
    let mut scaling = Scaling {
        deployment,
        sets: sets.iter().map(Set::seen).collect(),
        new: None,
        told: Vec::new(),
    };
    scaling.new = find_new(deployment, &scaling.sets);
    let mut plan = Plan::default();
    let mut conditions = before.clone();
    let deleted = deployment.metadata.deletion_timestamp.is_some();
    let paused = deployment.spec.as_ref().and_then(|s| s.paused) == Some(true);
    let mut judged = false;
    if !deleted {
        status::pause(deployment, &mut conditions, now);
        let resized = scaling.was_resized();
        if scaling.new.is_some() || !(paused || resized) {
            let may_create = !paused && !resized;
            settle_new(&mut scaling, may_create, running, &mut conditions, now);
        }
        if paused || resized {
            scaling.resize();
            if paused {
                plan.delete = too_old(&scaling);
            }
        } else {
            judged = true;
            if is_rolling(deployment) {
                scaling.roll();
            } else if !scaling.empty_old() && !old_pods_run(&scaling, running) {
                scaling.fill_new();
            }
        }
    }

    let counted = status::count(deployment, &conditions, &scaling.sets, scaling.new, now);
    plan.status = counted;
    if judged {
        let new = scaling.new.map(|i| &scaling.sets[i]);
        if status::is_complete(deployment, &plan.status) {
            plan.delete = too_old(&scaling);
        }
        plan.again = status::judge(
            deployment,
            &before,
            &mut plan.status,
            new,
            &scaling.sets,
            now,
        );
    }
    plan.revision = new_revision(deployment, &scaling);
    plan.scaled = scaling.told;
    for set in scaling.sets {
        match set.seen {
            None => plan.create = Some(set.set),
            Some(seen) if *seen != set.set => plan.updates.push((seen, set.set)),
            Some(_) => {}
        }
    }
    plan
}

/// The oldest set that runs the current template.
fn find_new(deployment: &Deployment, sets: &[Set]) -> Option<usize> {
    (0..sets.len())
        .filter(|i| same_template(deployment, &sets[*i].set))
        .min_by(|a, b| sets[*a].age().cmp(&sets[*b].age()))
}

/// Makes the new set, or brings its annotations up to date.
fn settle_new(
    scaling: &mut Scaling<'_>,
    may_create: bool,
    running: &dyn Fn(&ReplicaSet) -> bool,
    conditions: &mut DeploymentStatus,
    now: Timestamp,
) {
    let deployment = scaling.deployment;
    let old = scaling.old();
    let revision = old
        .iter()
        .map(|i| scaling.sets[*i].revision())
        .max()
        .unwrap_or(0)
        + 1;
    let has_deadline = status::deadline(deployment).is_some();
    if let Some(new) = scaling.new {
        let set = &mut scaling.sets[new];
        set.annotate_new(deployment, revision);
        let wanted = deployment
            .spec
            .as_ref()
            .and_then(|s| s.min_ready_seconds)
            .unwrap_or(0);
        let spec = set.set.spec.get_or_insert_default();
        if spec.min_ready_seconds.unwrap_or(0) != wanted {
            spec.min_ready_seconds = Some(wanted);
        }
        if has_deadline && status::progressing(conditions).is_none() {
            let message = format!("Found new replica set \"{}\"", set.name());
            status::set_progressing(conditions, "True", "FoundNewReplicaSet", &message, now);
        }
        return;
    }
    if !may_create {
        return;
    }
    // Who recreates does not start before the last old pod has ended.
    let emptied = old.iter().all(|i| scaling.sets[*i].replicas() == 0);
    if !is_rolling(deployment) && (!emptied || old_pods_run(scaling, running)) {
        return;
    }
    let set = new_set(deployment, revision, scaling.new_size());
    if set.replicas() > 0 {
        let (name, size) = (set.name(), set.replicas());
        scaling
            .told
            .push(format!("Scaled up replica set {name} from 0 to {size}"));
    }
    if has_deadline {
        let message = format!("Created new replica set \"{}\"", set.name());
        status::set_progressing(conditions, "True", "NewReplicaSetCreated", &message, now);
    }
    scaling.new = Some(scaling.sets.len());
    scaling.sets.push(set);
}

fn old_pods_run(scaling: &Scaling<'_>, running: &dyn Fn(&ReplicaSet) -> bool) -> bool {
    scaling
        .old()
        .into_iter()
        .any(|i| running(&scaling.sets[i].set))
}

/// The revision that the Deployment must show, unless it does.
fn new_revision(deployment: &Deployment, scaling: &Scaling<'_>) -> Option<String> {
    let revision = scaling.sets[scaling.new?].revision().to_string();
    let shown = deployment
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(REVISION));
    (revision != "0" && shown != Some(&revision)).then_some(revision)
}

/// Old, empty sets beyond the history limit, oldest first.
fn too_old(scaling: &Scaling<'_>) -> Vec<Arc<ReplicaSet>> {
    let limit = scaling
        .deployment
        .spec
        .as_ref()
        .and_then(|s| s.revision_history_limit);
    let Some(limit) = limit
        .filter(|l| *l != i32::MAX)
        .and_then(|l| usize::try_from(l).ok())
    else {
        return Vec::new();
    };
    let mut old: Vec<&Set> = scaling
        .old()
        .into_iter()
        .map(|i| &scaling.sets[i])
        .filter(|s| s.set.metadata.deletion_timestamp.is_none())
        .collect();
    let surplus = old.len().saturating_sub(limit);
    old.sort_by_key(|s| s.revision());
    old.into_iter()
        .take(surplus)
        .filter(|s| {
            let status = s.set.status.clone().unwrap_or_default();
            status.replicas == 0
                && s.replicas() == 0
                && s.set.metadata.generation <= status.observed_generation
        })
        .filter_map(|s| s.seen.clone())
        .collect()
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
