//! ReplicaSet and ReplicationController: as many pods of a template as are asked for.

mod kind;

use self::kind::Replicated;
use crate::claim;
use crate::context::Context;
use crate::expectations::Expectations;
use crate::owners;
use crate::pods;
use crate::write::{self, WriteError};
use client::{EventType, Events, Informer, Key, Queue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSetCondition, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::DeleteParams;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info};

/// Pods made or deleted in one go.
const BURST: usize = 500;
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

struct Controller<S: Replicated> {
    context: Context,
    sets: Informer<S>,
    queue: Queue<Key>,
    expectations: Expectations,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run<S: Replicated>(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.get::<S>(),
        queue: Queue::new(),
        expectations: Expectations::default(),
        events: context.events(S::COMPONENT),
        context,
    });
    controller.listen();
    controller.sets.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run(S::WORKERS, queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// What to do about the number of pods.
#[derive(Debug)]
enum Scale {
    Enough,
    Create(usize),
    Delete(Vec<Arc<Pod>>),
}

/// Decides which of the `active` pods to delete, or how many to create. `related` counts, for
/// each node, the active pods of all sets that share this one's owner.
fn plan<S: Replicated>(
    set: &S,
    mut active: Vec<Arc<Pod>>,
    related: &HashMap<String, usize>,
    now: Timestamp,
) -> Scale {
    let wanted = usize::try_from(set.replicas()).unwrap_or(0);
    match active.len().cmp(&wanted) {
        Ordering::Equal => Scale::Enough,
        Ordering::Less => Scale::Create((wanted - active.len()).min(BURST)),
        Ordering::Greater => {
            let surplus = (active.len() - wanted).min(BURST);
            let doubled = |p: &Pod| {
                pods::node_name(p)
                    .and_then(|n| related.get(n))
                    .copied()
                    .unwrap_or(0)
            };
            active.sort_by(|a, b| deletion_order(a, b, doubled(a), doubled(b), now));
            active.truncate(surplus);
            Scale::Delete(active)
        }
    }
}

/// Who is deleted first comes first: the one that is missed least.
fn deletion_order(
    a: &Pod,
    b: &Pod,
    doubled_a: usize,
    doubled_b: usize,
    now: Timestamp,
) -> Ordering {
    let placed = |p: &Pod| pods::node_name(p).is_some();
    let phase = |p: &Pod| match pods::phase(p) {
        "Pending" | "" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = |p: &Pod| -> i32 {
        let text = p
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(DELETION_COST));
        text.and_then(|t| t.parse().ok()).unwrap_or(0)
    };
    let order = placed(a)
        .cmp(&placed(b))
        .then_with(|| phase(a).cmp(&phase(b)))
        .then_with(|| pods::is_ready(a).cmp(&pods::is_ready(b)))
        .then_with(|| cost(a).cmp(&cost(b)))
        .then_with(|| doubled_b.cmp(&doubled_a));
    if order != Ordering::Equal {
        return order;
    }
    let ready_since = |p: &Pod| {
        pods::condition(p, "Ready")
            .and_then(|c| c.last_transition_time.as_ref())
            .map(|t| t.0)
    };
    let created = |p: &Pod| p.metadata.creation_timestamp.as_ref().map(|t| t.0);
    // Ages are compared by their magnitude, so that not always the same ones are spared.
    let magnitude = |t: Option<Timestamp>| {
        t.map(|t| {
            u64::try_from(now.duration_since(t).as_secs())
                .unwrap_or(0)
                .checked_ilog2()
        })
    };
    let younger_first =
        |a: Option<Timestamp>, b: Option<Timestamp>| magnitude(a).cmp(&magnitude(b));
    let by_ready = if pods::is_ready(a) && pods::is_ready(b) {
        younger_first(ready_since(a), ready_since(b))
    } else {
        Ordering::Equal
    };
    by_ready
        .then_with(|| pods::restarts(b).cmp(&pods::restarts(a)))
        .then_with(|| younger_first(created(a), created(b)))
        .then_with(|| a.metadata.uid.cmp(&b.metadata.uid))
}

/// The status that the pods show.
fn status<S: Replicated>(
    set: &S,
    active: &[Arc<Pod>],
    terminating: usize,
    failure: Option<(&str, String)>,
    now: Timestamp,
) -> ReplicaSetStatus {
    let old = set.status();
    let labels = set
        .template()
        .and_then(|t| t.metadata.as_ref())
        .and_then(|m| m.labels.as_ref());
    let fully_labeled = |p: &Pod| {
        labels
            .into_iter()
            .flatten()
            .all(|(k, v)| p.metadata.labels.as_ref().and_then(|l| l.get(k)) == Some(v))
    };
    let count = |f: &dyn Fn(&Pod) -> bool| int(active.iter().filter(|p| f(p)).count());
    let min_ready = set.min_ready_secs();
    let mut conditions = old.conditions.unwrap_or_default();
    let known = conditions.iter().position(|c| c.type_ == "ReplicaFailure");
    match (failure, known) {
        (Some((reason, message)), None) => conditions.push(ReplicaSetCondition {
            type_: "ReplicaFailure".to_owned(),
            status: "True".to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message),
            last_transition_time: Some(Time(now)),
        }),
        (None, Some(known)) => {
            conditions.remove(known);
        }
        _ => {}
    }
    let available =
        |p: &Pod| pods::available_in(p, min_ready, now).is_some_and(|left| left.is_zero());
    ReplicaSetStatus {
        replicas: int(active.len()),
        fully_labeled_replicas: some(count(&fully_labeled)),
        ready_replicas: some(count(&pods::is_ready)),
        available_replicas: some(count(&available)),
        terminating_replicas: Some(int(terminating)),
        observed_generation: set.meta().generation,
        conditions: (!conditions.is_empty()).then_some(conditions),
    }
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// The API leaves a zero out.
fn some(count: i32) -> Option<i32> {
    (count != 0).then_some(count)
}

impl<S: Replicated> Controller<S> {
    fn listen(self: &Arc<Self>) {
        owners::watch(&self.sets, &self.queue, &self.expectations);
        owners::watch_pods(
            &self.context,
            &self.sets,
            &self.queue,
            &self.expectations,
            |set, pod| set.selector().is_some_and(|s| claim::matches(&s, pod)),
        );
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(set) = self.sets.get_key(key) else {
            return Ok(());
        };
        let uid = set.meta().uid.clone().unwrap_or_default();
        let selector = set.selector();
        let claim = claim::claim(
            set.meta().deletion_timestamp.is_some(),
            selector.as_ref(),
            self.context.pods_of(&uid),
            self.context.orphans_in(&key.namespace),
        );
        let owned = claim::execute(&self.context.client, &*set, claim).await?;
        let terminating = owned.iter().filter(|p| pods::is_terminating(p)).count();
        let active: Vec<Arc<Pod>> = owned.into_iter().filter(|p| pods::is_active(p)).collect();
        let now = Timestamp::now();

        let (mut failure, mut result) = (None, Ok(()));
        if let Some(wait) = self.expectations.wait(&uid) {
            debug!("waiting for the cache to show our own writes");
            self.queue.add_after(key.clone(), wait);
        } else if set.meta().deletion_timestamp.is_none() {
            let related = self.related(&set, &active);
            match plan(&*set, active.clone(), &related, now) {
                Scale::Enough => {}
                Scale::Create(count) => {
                    info!(count, "creating pods");
                    if let Err(error) = self.create(&set, count).await {
                        failure = Some(("FailedCreate", error.message()));
                        result = Err(error);
                    }
                }
                Scale::Delete(surplus) => {
                    info!(count = surplus.len(), "deleting pods");
                    if let Err(error) = self.delete(&set, surplus).await {
                        failure = Some(("FailedDelete", error.message()));
                        result = Err(error);
                    }
                }
            }
        }

        let mut changed = S::clone(&set);
        changed.set_status(status(&*set, &active, terminating, failure, now));
        match write::update_status(&self.context.client, &*set, &changed).await {
            Err(error) if client::is_not_found(&error) => return Ok(()),
            // The failure of the pods is the one to tell.
            Err(error) => result = result.and(Err(error)),
            Ok(_) => {}
        }
        self.watch_availability(key, &set, &active, now);
        result
    }

    /// Comes back when the next pod has been ready for long enough.
    fn watch_availability(&self, key: &Key, set: &S, active: &[Arc<Pod>], now: Timestamp) {
        let next = active
            .iter()
            .filter_map(|p| pods::available_in(p, set.min_ready_secs(), now))
            .filter(|left| !left.is_zero())
            .min();
        if let Some(next) = next {
            self.queue
                .add_after(key.clone(), next + Duration::from_millis(10));
        }
    }

    /// Active pods a node, over all sets with the same owner.
    fn related(&self, set: &S, active: &[Arc<Pod>]) -> HashMap<String, usize> {
        let mut nodes: HashMap<String, usize> = HashMap::new();
        let mut count = |pods: &[Arc<Pod>]| {
            for node in pods
                .iter()
                .filter(|p| pods::is_active(p))
                .filter_map(|p| pods::node_name(p))
            {
                *nodes.entry(node.to_owned()).or_default() += 1;
            }
        };
        let Some(owner) = client::owner_uid(set) else {
            count(active);
            return nodes;
        };
        let namespace = set.meta().namespace.as_deref().unwrap_or_default();
        for sibling in self.sets.in_namespace(namespace) {
            if client::owner_uid(&*sibling) == Some(owner) {
                count(
                    &self
                        .context
                        .pods_of(sibling.meta().uid.as_deref().unwrap_or_default()),
                );
            }
        }
        nodes
    }

    /// Creates pods, first one, then twice as many and so on, so that a set whose pods are all
    /// refused does not flood the server.
    async fn create(&self, set: &S, count: usize) -> Result<(), WriteError> {
        let (mut left, mut batch) = (count, 1);
        while left > 0 {
            let now = batch.min(left);
            let results = join_all((0..now).map(|_| self.create_one(set))).await;
            let mut failed = None;
            for result in results {
                match result {
                    Ok(()) => {}
                    Err(error) if client::is_namespace_terminating(&error) => return Ok(()),
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                return Err(error);
            }
            left -= now;
            batch *= 2;
        }
        Ok(())
    }

    async fn create_one(&self, set: &S) -> Result<(), WriteError> {
        let namespace = set.meta().namespace.as_deref().unwrap_or_default();
        let template = set.template().cloned().unwrap_or_default();
        let pod = pods::from_template(&template, pods::controlled_by(set));
        let about = client::reference(set);
        match write::create(&self.context.client, namespace, &pod).await {
            Ok(pod) => {
                let (key, uid) = (Key::of(&pod), pod.metadata.uid.unwrap_or_default());
                let owner = set.meta().uid.as_deref().unwrap_or_default();
                self.expectations
                    .created(owner, &uid, || self.context.shows_pod(owner, &key, &uid));
                let message = format!("Created pod: {}", key.name);
                self.events
                    .record(&about, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) => {
                if !client::is_namespace_terminating(&error) {
                    let message = format!("Error creating: {}", error.message());
                    self.events
                        .record(&about, EventType::Warning, "FailedCreate", message);
                }
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &S, surplus: Vec<Arc<Pod>>) -> Result<(), WriteError> {
        let owner = set.meta().uid.as_deref().unwrap_or_default();
        let about = client::reference(set);
        for pod in &surplus {
            self.expectations
                .deleting(owner, pod.metadata.uid.as_deref().unwrap_or_default());
        }
        let results = join_all(surplus.iter().map(|pod| async {
            let (key, uid) = (Key::of(&**pod), pod.metadata.uid.as_deref());
            let params = DeleteParams::default();
            let result = write::delete::<Pod>(&self.context.client, &key, uid, params).await;
            match &result {
                Ok(()) => {
                    let message = format!("Deleted pod: {}", key.name);
                    self.events
                        .record(&about, EventType::Normal, "SuccessfulDelete", message);
                    // Gone before we asked: nobody would tell us.
                    if !self.context.shows_pod(owner, &key, uid.unwrap_or_default()) {
                        self.expectations
                            .observed_deleted(owner, uid.unwrap_or_default());
                    }
                }
                Err(error) => {
                    self.expectations
                        .observed_deleted(owner, uid.unwrap_or_default());
                    let message = format!("Error deleting: {}", error.message());
                    self.events
                        .record(&about, EventType::Warning, "FailedDelete", message);
                }
            }
            result
        }))
        .await;
        results.into_iter().collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
