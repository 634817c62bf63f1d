//! The ReplicaSets of a Deployment: which is the new one, its name, its revision.

use crate::pods::controlled_by;
use crate::revisions::short_hash;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, ReplicaSetSpec};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAX: &str = "deployment.kubernetes.io/max-replicas";
const HASH: &str = "pod-template-hash";
/// Annotations of a Deployment that its sets do not take over.
const OWN_ANNOTATIONS: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    REVISION,
    REVISION_HISTORY,
    DESIRED,
    MAX,
    "deprecated.deployment.rollback.to",
];
/// Longest revision history, in bytes.
const HISTORY_LIMIT: usize = 2000;

/// A set as it was seen and as it shall be.
#[derive(Clone)]
pub(super) struct Set {
    /// `None` for one that is to be created.
    pub(super) seen: Option<Arc<ReplicaSet>>,
    pub(super) set: ReplicaSet,
}

impl Set {
    pub(super) fn seen(set: &Arc<ReplicaSet>) -> Self {
        Self {
            seen: Some(set.clone()),
            set: ReplicaSet::clone(set),
        }
    }
    pub(super) fn name(&self) -> &str {
        self.set.metadata.name.as_deref().unwrap_or_default()
    }
    pub(super) fn replicas(&self) -> i32 {
        self.set.spec.as_ref().and_then(|s| s.replicas).unwrap_or(1)
    }
    pub(super) fn set_replicas(&mut self, replicas: i32) {
        self.set.spec.get_or_insert_default().replicas = Some(replicas);
    }
    pub(super) fn available(&self) -> i32 {
        self.set
            .status
            .as_ref()
            .and_then(|s| s.available_replicas)
            .unwrap_or(0)
    }
    /// Oldest first; equal times by name.
    pub(super) fn age(&self) -> (Option<jiff::Timestamp>, &str) {
        (
            self.set.metadata.creation_timestamp.as_ref().map(|t| t.0),
            self.name(),
        )
    }
    pub(super) fn revision(&self) -> i64 {
        revision(&self.set)
    }
    fn annotation(&self, name: &str) -> Option<&str> {
        self.set
            .metadata
            .annotations
            .as_ref()?
            .get(name)
            .map(String::as_str)
    }
    fn annotate(&mut self, name: &str, value: String) {
        self.set
            .metadata
            .annotations
            .get_or_insert_default()
            .insert(name.to_owned(), value);
    }
    /// The size of the Deployment when this set was scaled last.
    pub(super) fn desired(&self) -> Option<i32> {
        self.annotation(DESIRED)?.parse().ok()
    }
    /// The largest number of pods that was allowed then.
    pub(super) fn max(&self) -> Option<i32> {
        self.annotation(MAX)?.parse().ok()
    }
    pub(super) fn annotate_size(&mut self, deployment: &Deployment) {
        let desired = replicas(deployment);
        self.annotate(DESIRED, desired.to_string());
        self.annotate(
            MAX,
            desired.saturating_add(max_surge(deployment)).to_string(),
        );
    }
    /// Takes over the Deployment's annotations and notes the revision.
    pub(super) fn annotate_new(&mut self, deployment: &Deployment, revision: i64) {
        for (name, value) in deployment.metadata.annotations.iter().flatten() {
            if !OWN_ANNOTATIONS.contains(&name.as_str()) {
                self.annotate(name, value.clone());
            }
        }
        let old = self.annotation(REVISION).map(str::to_owned);
        if self.revision() >= revision {
            return;
        }
        self.annotate(REVISION, revision.to_string());
        if let (Some(_), Some(old)) = (&self.seen, old) {
            let mut history = self
                .annotation(REVISION_HISTORY)
                .unwrap_or_default()
                .to_owned();
            if !history.is_empty() {
                history.push(',');
            }
            history.push_str(&old);
            while history.len() > HISTORY_LIMIT {
                let Some((_, rest)) = history.split_once(',') else {
                    break;
                };
                history = rest.to_owned();
            }
            self.annotate(REVISION_HISTORY, history);
        }
    }
}

pub(super) fn replicas(deployment: &Deployment) -> i32 {
    deployment
        .spec
        .as_ref()
        .and_then(|s| s.replicas)
        .unwrap_or(1)
}

fn revision(set: &ReplicaSet) -> i64 {
    let text = set
        .metadata
        .annotations
        .as_ref()
        .and_then(|a| a.get(REVISION));
    text.and_then(|t| t.parse().ok()).unwrap_or(0)
}

pub(super) fn is_rolling(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|s| s.strategy.as_ref());
    strategy.and_then(|s| s.type_.as_deref()) != Some("Recreate")
}

/// How many pods there may be above, and may be missing below, the wanted number.
fn limits(deployment: &Deployment) -> (i32, i32) {
    if !is_rolling(deployment) {
        return (0, 0);
    }
    let rolling = deployment
        .spec
        .as_ref()
        .and_then(|s| s.strategy.as_ref())
        .and_then(|s| s.rolling_update.as_ref());
    let total = replicas(deployment);
    let surge = scaled(rolling.and_then(|r| r.max_surge.as_ref()), total, true);
    let missing = scaled(
        rolling.and_then(|r| r.max_unavailable.as_ref()),
        total,
        false,
    );
    // Rounding must not leave a rollout that can never move.
    if surge == 0 && missing == 0 {
        (0, 1)
    } else {
        (surge, missing)
    }
}

pub(super) fn max_surge(deployment: &Deployment) -> i32 {
    limits(deployment).0
}

pub(super) fn max_unavailable(deployment: &Deployment) -> i32 {
    let total = replicas(deployment);
    if total == 0 {
        0
    } else {
        limits(deployment).1.min(total)
    }
}

fn scaled(value: Option<&IntOrString>, total: i32, up: bool) -> i32 {
    match value {
        None => 0,
        Some(IntOrString::Int(number)) => (*number).max(0),
        Some(IntOrString::String(text)) => {
            let percent: i64 = text
                .strip_suffix('%')
                .and_then(|t| t.parse().ok())
                .unwrap_or(0);
            let hundredfold = percent.max(0).saturating_mul(i64::from(total));
            let whole = if up {
                hundredfold.saturating_add(99) / 100
            } else {
                hundredfold / 100
            };
            i32::try_from(whole).unwrap_or(i32::MAX)
        }
    }
}

/// Whether the set runs the Deployment's template; the hash label does not count.
pub(super) fn same_template(deployment: &Deployment, set: &ReplicaSet) -> bool {
    let wanted = deployment.spec.as_ref().map(|s| &s.template);
    let has = set.spec.as_ref().and_then(|s| s.template.as_ref());
    match (wanted, has) {
        (Some(wanted), Some(has)) => without_hash(wanted) == without_hash(has),
        _ => false,
    }
}

fn without_hash(template: &PodTemplateSpec) -> PodTemplateSpec {
    let mut template = template.clone();
    let meta = template.metadata.get_or_insert_default();
    if let Some(labels) = &mut meta.labels {
        labels.remove(HASH);
    }
    meta.labels = meta.labels.take().filter(|l| !l.is_empty());
    meta.annotations = meta.annotations.take().filter(|a| !a.is_empty());
    template
}

/// The set that the Deployment's template makes.
pub(super) fn new_set(deployment: &Deployment, revision: i64, replicas: i32) -> Set {
    let spec = deployment.spec.clone().unwrap_or_default();
    let collisions = deployment.status.as_ref().and_then(|s| s.collision_count);
    let hash = template_hash(&spec.template, collisions);
    let mut template = spec.template;
    let labels = template
        .metadata
        .get_or_insert_default()
        .labels
        .get_or_insert_default();
    labels.insert(HASH.to_owned(), hash.clone());
    let labels = labels.clone();
    let mut selector = spec.selector;
    selector
        .match_labels
        .get_or_insert_default()
        .insert(HASH.to_owned(), hash.clone());
    let name = deployment.metadata.name.as_deref().unwrap_or_default();
    let set = ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{hash}")),
            namespace: deployment.metadata.namespace.clone(),
            labels: Some(labels),
            annotations: Some(BTreeMap::new()),
            owner_references: Some(vec![controlled_by(deployment)]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            replicas: Some(replicas),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    };
    let mut set = Set { seen: None, set };
    set.annotate_new(deployment, revision);
    set.annotate_size(deployment);
    set
}

/// A short name for a template; `collisions` makes another one.
pub(super) fn template_hash(template: &PodTemplateSpec, collisions: Option<i32>) -> String {
    short_hash(template, collisions)
}
