//! DaemonSet: one pod on every node that takes it.

mod plan;

use crate::claim;
use crate::context::Context;
use crate::expectations::Expectations;
use crate::owners;
use crate::pods;
use crate::revisions::{self, HASH, Revisions, Subject};
use crate::write::{self, WriteError};
use client::{EventType, Events, Informer, Key, Queue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::DeleteParams;
use plan::{Plan, plan, spec_for};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info};

const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LAST_BACKOFF: Duration = Duration::from_secs(900);
const GENERATION: &str = "deprecated.daemonset.template.generation";

struct Controller {
    context: Context,
    sets: Informer<DaemonSet>,
    nodes: Informer<Node>,
    revisions: Revisions,
    queue: Queue<Key>,
    /// Sets whose pods fail: how often in a row they were replaced, and when last.
    failing: Mutex<HashMap<Key, (u32, Instant)>>,
    expectations: Expectations,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.get::<DaemonSet>(),
        nodes: context.informers.get::<Node>(),
        revisions: Revisions::new(&context.informers),
        queue: Queue::new(),
        failing: Mutex::default(),
        expectations: Expectations::default(),
        events: context.events("daemonset-controller"),
        context,
    });
    controller.listen();
    controller.sets.synced().await;
    controller.nodes.synced().await;
    controller.revisions.cache.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("daemonset", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The template as a revision remembers it.
fn remembered(set: &DaemonSet) -> Value {
    let template = set.spec.as_ref().map(|s| &s.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.sets.on_change(move |old, new| {
            if let (Some(old), None) = (old, new) {
                this.failing().remove(&Key::of(&**old));
            }
        });
        owners::watch(&self.sets, &self.queue, &self.expectations);
        let this = self.clone();
        self.nodes.on_change(move |old, new| {
            // A heartbeat moves no pod.
            let same = matches!((old, new), (Some(old), Some(new))
                if old.spec == new.spec && old.metadata.labels == new.metadata.labels);
            if !same {
                this.sets
                    .list()
                    .iter()
                    .for_each(|set| this.queue.add(Key::of(&**set)));
            }
        });
        owners::watch_pods(
            &self.context,
            &self.sets,
            &self.queue,
            &self.expectations,
            |set, pod| claim::selects(set.spec.as_ref().map(|s| &s.selector), pod),
        );
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(set) = self.sets.get_key(key) else {
            return Ok(());
        };
        let Some(spec) = &set.spec else { return Ok(()) };
        let (client, uid) = (
            &self.context.client,
            set.metadata.uid.clone().unwrap_or_default(),
        );
        let selector = claim::selector(&spec.selector);
        if set.metadata.deletion_timestamp.is_some()
            || selector
                .as_ref()
                .is_none_or(kube::core::Selector::selects_all)
        {
            return Ok(());
        }
        if let Some(wait) = self.expectations.wait(&uid) {
            debug!("waiting for the cache to show our own writes");
            self.queue.add_after(key.clone(), wait);
            return Ok(());
        }
        let subject = Subject {
            owner: &*set,
            selector: &spec.selector,
            labels: spec
                .template
                .metadata
                .as_ref()
                .and_then(|m| m.labels.as_ref()),
            data: remembered(&set),
            collisions: set.status.as_ref().and_then(|s| s.collision_count),
            limit: usize::try_from(spec.revision_history_limit.unwrap_or(10)).unwrap_or(0),
        };
        let Some(history) = self.revisions.sync(client, &subject).await? else {
            return self.name_taken(&set).await;
        };
        let claim = claim::claim(
            false,
            selector.as_ref(),
            self.context.pods_of(&uid),
            self.context.orphans_in(&key.namespace),
        );
        let owned = claim::execute(client, &*set, claim).await?;
        let hash = revisions::hash(&history.current).to_owned();
        let plan = plan(&set, &self.nodes.list(), &owned, &hash, Timestamp::now());
        self.execute(key, &set, plan, &hash).await?;
        let in_use = |revision: &str| {
            owned.iter().any(|p| {
                p.metadata
                    .labels
                    .as_ref()
                    .and_then(|l| l.get(HASH))
                    .is_some_and(|h| h == revision)
            })
        };
        self.revisions
            .prune(client, &subject, &history, &in_use)
            .await
    }

    async fn name_taken(&self, set: &DaemonSet) -> Result<(), WriteError> {
        let mut changed = set.clone();
        let status = changed.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
        write::update_status(&self.context.client, set, &changed)
            .await
            .map(drop)
    }

    async fn execute(
        &self,
        key: &Key,
        set: &DaemonSet,
        mut plan: Plan,
        hash: &str,
    ) -> Result<(), WriteError> {
        let about = client::reference(set);
        if plan.failed.is_empty() {
            if plan.status.number_ready == plan.status.desired_number_scheduled {
                self.failing().remove(key);
            }
        } else if let Some(wait) = self.patience(key) {
            // Failed pods stay a while: their logs tell why.
            let failed: Vec<String> = plan.failed.drain(..).map(|(pod, _)| pod).collect();
            plan.delete
                .retain(|p| !failed.contains(&p.metadata.name.clone().unwrap_or_default()));
            self.queue.add_after(key.clone(), wait);
        }
        for (pod, node) in &plan.failed {
            let message = format!(
                "Found failed daemon pod {}/{pod} on node {node}, will try to kill it",
                key.namespace
            );
            self.events
                .record(&about, EventType::Warning, "FailedDaemonPod", message);
        }
        let mut results = join_all(plan.delete.iter().map(|pod| self.delete(set, pod))).await;
        if !plan.create.is_empty() {
            info!(count = plan.create.len(), "creating pods");
        }
        let creations = plan.create.iter().map(|node| self.create(set, node, hash));
        results.extend(join_all(creations).await);
        let mut changed = set.clone();
        changed.status = Some(plan.status);
        match write::update_status(&self.context.client, set, &changed).await {
            Err(error) if client::is_not_found(&error) => return Ok(()),
            result => result?,
        };
        if let Some(again) = plan.again {
            self.queue
                .add_after(key.clone(), again + Duration::from_millis(10));
        }
        results.into_iter().collect()
    }

    fn failing(&self) -> MutexGuard<'_, HashMap<Key, (u32, Instant)>> {
        self.failing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long failed pods of this set are left alone yet: nothing the first time, then a
    /// second, doubling with each replacement.
    fn patience(&self, key: &Key) -> Option<Duration> {
        let mut failing = self.failing();
        let (times, last) = failing.entry(key.clone()).or_insert((0, Instant::now()));
        let wait = match *times {
            0 => Duration::ZERO,
            times => FIRST_BACKOFF
                .saturating_mul(1 << (times - 1).min(20))
                .min(LAST_BACKOFF),
        };
        let left = wait.saturating_sub(last.elapsed());
        if left.is_zero() {
            (*times, *last) = (times.saturating_add(1), Instant::now());
            return None;
        }
        Some(left)
    }

    async fn create(&self, set: &DaemonSet, node: &str, hash: &str) -> Result<(), WriteError> {
        let Some(spec) = &set.spec else { return Ok(()) };
        let mut pod = pods::from_template(&spec.template, pods::controlled_by(set));
        pod.spec = pod.spec.as_ref().map(|s| spec_for(s, node));
        let labels = pod.metadata.labels.get_or_insert_default();
        labels.insert(HASH.to_owned(), hash.to_owned());
        let generation = set
            .metadata
            .annotations
            .as_ref()
            .and_then(|a| a.get(GENERATION));
        if let Some(generation) = generation {
            labels.insert("pod-template-generation".to_owned(), generation.clone());
        }
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let about = client::reference(set);
        match write::create(&self.context.client, namespace, &pod).await {
            Ok(pod) => {
                let (key, uid) = (Key::of(&pod), pod.metadata.uid.unwrap_or_default());
                let owner = set.metadata.uid.as_deref().unwrap_or_default();
                self.expectations
                    .created(owner, &uid, || self.context.shows_pod(owner, &key, &uid));
                let message = format!("Created pod: {}", key.name);
                self.events
                    .record(&about, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) if client::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let message = format!("Error creating: {}", error.message());
                self.events
                    .record(&about, EventType::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &DaemonSet, pod: &Pod) -> Result<(), WriteError> {
        let owner = set.metadata.uid.as_deref().unwrap_or_default();
        let (key, uid) = (Key::of(pod), pod.metadata.uid.clone().unwrap_or_default());
        self.expectations.deleting(owner, &uid);
        let params = DeleteParams::default();
        let result = write::delete::<Pod>(&self.context.client, &key, Some(&uid), params).await;
        if result.is_err() || !self.context.shows_pod(owner, &key, &uid) {
            self.expectations.observed_deleted(owner, &uid);
        }
        result?;
        let message = format!("Deleted pod: {}", key.name);
        let about = client::reference(set);
        self.events
            .record(&about, EventType::Normal, "SuccessfulDelete", message);
        Ok(())
    }
}
