//! What to do about a StatefulSet: a pure function of it, its pods and its revisions.
//!
//! Invariant: unless pods are managed in parallel, a step touches one pod only, and none as long
//! as one before it is not available.

use super::identity::ordinal;
use crate::pods;
use crate::revisions::HASH;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use std::time::Duration;

/// Writes that bring a StatefulSet one step further.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// Ordinals to create, and whether from the new revision.
    pub(super) create: Vec<(i32, bool)>,
    pub(super) delete: Vec<Arc<Pod>>,
    /// Pods among `delete` that had ended by themselves.
    pub(super) ended: Vec<Arc<Pod>>,
    pub(super) status: StatefulSetStatus,
    /// When the next pod has been ready for long enough.
    pub(super) again: Option<Duration>,
}

/// The names of the two revisions that pods may have.
pub(super) struct Names<'a> {
    pub(super) current: &'a str,
    pub(super) update: &'a str,
}

struct Observed<'a> {
    set: &'a StatefulSet,
    names: &'a Names<'a>,
    /// By ordinal, from the first to the last that is wanted.
    wanted: Vec<(i32, Option<Arc<Pod>>)>,
    /// Beyond the wanted number, highest first.
    surplus: Vec<Arc<Pod>>,
    one_by_one: bool,
    min_ready: i32,
    now: Timestamp,
}

/// Decides the next step.
pub(super) fn plan(
    set: &StatefulSet,
    owned: &[Arc<Pod>],
    names: &Names<'_>,
    now: Timestamp,
) -> Plan {
    let spec = set.spec.as_ref();
    let replicas = spec.and_then(|s| s.replicas).unwrap_or(1).max(0);
    let first = spec
        .and_then(|s| s.ordinals.as_ref())
        .and_then(|o| o.start)
        .unwrap_or(0)
        .max(0);
    let end = first.saturating_add(replicas);
    let find = |n: i32| owned.iter().find(|p| ordinal(set, p) == Some(n)).cloned();
    let mut surplus: Vec<Arc<Pod>> = owned
        .iter()
        .filter(|p| ordinal(set, p).is_some_and(|n| n < first || n >= end))
        .cloned()
        .collect();
    surplus.sort_by_key(|p| std::cmp::Reverse(ordinal(set, p)));
    let observed = Observed {
        set,
        names,
        wanted: (first..end).map(|n| (n, find(n))).collect(),
        surplus,
        one_by_one: spec.and_then(|s| s.pod_management_policy.as_deref()) != Some("Parallel"),
        min_ready: spec.and_then(|s| s.min_ready_seconds).unwrap_or(0),
        now,
    };
    let mut plan = Plan {
        status: observed.status(owned),
        ..Plan::default()
    };
    plan.again = owned
        .iter()
        .filter_map(|p| pods::available_in(p, observed.min_ready, now))
        .filter(|left| !left.is_zero())
        .min();
    if set.metadata.deletion_timestamp.is_none()
        && observed.fill(&mut plan)
        && observed.shrink(&mut plan)
    {
        observed.roll(&mut plan);
    }
    plan
}

fn going(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

fn revision(pod: &Pod) -> &str {
    let labels = pod.metadata.labels.as_ref();
    labels
        .and_then(|l| l.get(HASH))
        .map(String::as_str)
        .unwrap_or_default()
}

impl Observed<'_> {
    fn is_available(&self, pod: &Pod) -> bool {
        pods::phase(pod) == "Running"
            && pods::available_in(pod, self.min_ready, self.now).is_some_and(|left| left.is_zero())
    }

    fn is_healthy(&self, pod: &Pod) -> bool {
        !going(pod) && self.is_available(pod)
    }

    fn partition(&self) -> Option<i32> {
        let strategy = self.set.spec.as_ref()?.update_strategy.as_ref()?;
        strategy.rolling_update.as_ref()?.partition
    }

    fn is_rolling(&self) -> bool {
        let strategy = self
            .set
            .spec
            .as_ref()
            .and_then(|s| s.update_strategy.as_ref());
        strategy.and_then(|s| s.type_.as_deref()) != Some("OnDelete")
    }

    fn status(&self, owned: &[Arc<Pod>]) -> StatefulSetStatus {
        let count = |f: &dyn Fn(&Pod) -> bool| {
            i32::try_from(owned.iter().filter(|p| f(p)).count()).unwrap_or(i32::MAX)
        };
        let created = |p: &Pod| !pods::phase(p).is_empty();
        let ready = |p: &Pod| pods::phase(p) == "Running" && pods::is_ready(p);
        let of = |name: &str| count(&|p| created(p) && !going(p) && revision(p) == name);
        let some = |n: i32| (n > 0).then_some(n);
        let old = self.set.status.clone().unwrap_or_default();
        let mut status = StatefulSetStatus {
            replicas: count(&created),
            ready_replicas: some(count(&ready)),
            available_replicas: Some(count(&|p| self.is_available(p))),
            current_replicas: some(of(self.names.current)),
            updated_replicas: some(of(self.names.update)),
            current_revision: Some(self.names.current.to_owned()),
            update_revision: Some(self.names.update.to_owned()),
            observed_generation: self.set.metadata.generation,
            collision_count: old.collision_count.or(Some(0)),
            conditions: old.conditions,
        };
        let wanted = i32::try_from(self.wanted.len()).unwrap_or(i32::MAX);
        let done = status.updated_replicas.unwrap_or(0) == wanted
            && status.replicas == wanted
            && status.ready_replicas.unwrap_or(0) == wanted;
        if self.is_rolling() && done {
            status.current_replicas = status.updated_replicas;
            status.current_revision = status.update_revision.clone();
        }
        status
    }

    /// Whether a missing pod is made from the new revision.
    fn is_new(&self, n: i32) -> bool {
        let first = self.wanted.first().map_or(0, |(n, _)| *n);
        let kept = match self.partition() {
            Some(partition) if partition > 0 => partition,
            _ => {
                let status = self.set.status.as_ref();
                let same =
                    status.and_then(|s| s.current_revision.as_deref()) == Some(self.names.current);
                status
                    .and_then(|s| s.current_replicas)
                    .filter(|_| same)
                    .unwrap_or(0)
            }
        };
        self.names.current == self.names.update || n >= first.saturating_add(kept)
    }

    /// Makes what is missing; answers whether to go on.
    fn fill(&self, plan: &mut Plan) -> bool {
        for (n, pod) in &self.wanted {
            match pod {
                Some(pod) if pods::is_finished(pod) => {
                    if !going(pod) {
                        plan.ended.push(pod.clone());
                        plan.delete.push(pod.clone());
                    }
                }
                None => plan.create.push((*n, self.is_new(*n))),
                Some(pod) if self.is_healthy(pod) => continue,
                Some(_) => {}
            }
            if self.one_by_one {
                return false;
            }
        }
        true
    }

    /// Takes away what is too much; answers whether to go on.
    fn shrink(&self, plan: &mut Plan) -> bool {
        let mut all_ready = self
            .wanted
            .iter()
            .flat_map(|(_, p)| p)
            .all(|p| self.is_healthy(p));
        for pod in &self.surplus {
            if !self.one_by_one {
                if !going(pod) {
                    plan.delete.push(pod.clone());
                }
                continue;
            }
            if going(pod) {
                return false;
            }
            // An unhealthy pod before it holds up the others, but not its own removal.
            all_ready &= self.is_healthy(pod);
            let first_unhealthy = self.first_unhealthy();
            let is_it = first_unhealthy.as_deref() == pod.metadata.name.as_deref();
            if all_ready || first_unhealthy.is_none() || is_it {
                plan.delete.push(pod.clone());
            }
            return false;
        }
        true
    }

    /// The name of the first pod, in the order of ordinals, that is not healthy.
    fn first_unhealthy(&self) -> Option<String> {
        let wanted = self.wanted.iter().flat_map(|(_, p)| p);
        wanted
            .chain(self.surplus.iter().rev())
            .find(|p| !self.is_healthy(p))
            .and_then(|p| p.metadata.name.clone())
    }

    /// Replaces one pod of the former revision, the last first.
    fn roll(&self, plan: &mut Plan) {
        if !self.is_rolling() || !plan.create.is_empty() || !plan.delete.is_empty() {
            return;
        }
        let first = self.wanted.first().map_or(0, |(n, _)| *n);
        let from = self.partition().unwrap_or(0).max(0).saturating_add(first);
        for (n, pod) in self.wanted.iter().rev() {
            let Some(pod) = pod.as_ref().filter(|_| *n >= from) else {
                return;
            };
            if revision(pod) != self.names.update && !going(pod) {
                plan.delete.push(pod.clone());
                return;
            }
            if !self.is_healthy(pod) {
                return;
            }
        }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
