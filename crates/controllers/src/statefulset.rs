//! StatefulSet: pods with an identity that outlives them, made and replaced in order.

mod identity;
mod plan;

use crate::claim;
use crate::context::Context;
use crate::expectations::Expectations;
use crate::owners;
use crate::revisions::{History, Revisions, Subject};
use crate::write::{self, WriteError};
use client::{EventType, Events, Informer, Key, Queue};
use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use kube::api::DeleteParams;
use plan::{Names, Plan, plan};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info};

struct Controller {
    context: Context,
    sets: Informer<StatefulSet>,
    revisions: Revisions,
    queue: Queue<Key>,
    expectations: Expectations,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        sets: context.informers.get::<StatefulSet>(),
        revisions: Revisions::new(&context.informers),
        queue: Queue::new(),
        expectations: Expectations::default(),
        events: context.events("statefulset-controller"),
        context,
    });
    controller.listen();
    controller.sets.synced().await;
    controller.revisions.cache.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("statefulset", queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The template as a revision remembers it.
fn remembered(set: &StatefulSet) -> Value {
    let template = set.spec.as_ref().map(|s| &s.template);
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision remembers.
fn template(revision: &ControllerRevision) -> PodTemplateSpec {
    let data = revision
        .data
        .as_ref()
        .map(|d| d.0["spec"]["template"].clone());
    data.and_then(|d| serde_json::from_value(d).ok())
        .unwrap_or_default()
}

fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        owners::watch(&self.sets, &self.queue, &self.expectations);
        owners::watch_pods(
            &self.context,
            &self.sets,
            &self.queue,
            &self.expectations,
            |set, pod| {
                identity::ordinal(set, pod).is_some()
                    && claim::selects(set.spec.as_ref().map(|s| &s.selector), pod)
            },
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
        let Some(selector) = claim::selector(&spec.selector) else {
            return Ok(());
        };
        let adoptable = |p: &Arc<Pod>| identity::ordinal(&set, p).is_some();
        let orphans = self
            .context
            .orphans_in(&key.namespace)
            .into_iter()
            .filter(adoptable)
            .collect();
        let claim = claim::claim(
            set.metadata.deletion_timestamp.is_some(),
            Some(&selector),
            self.context.pods_of(&uid),
            orphans,
        );
        let owned = claim::execute(client, &*set, claim).await?;
        if let Some(wait) = self.expectations.wait(&uid) {
            debug!("waiting for the cache to show our own writes");
            self.queue.add_after(key.clone(), wait);
            return Ok(());
        }
        if set.metadata.deletion_timestamp.is_some() {
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
            let mut changed = StatefulSet::clone(&set);
            let status = changed.status.get_or_insert_default();
            status.collision_count = Some(status.collision_count.unwrap_or(0).saturating_add(1));
            return write::update_status(client, &*set, &changed)
                .await
                .map(drop);
        };
        let current = current(&set, &history);
        let names = Names {
            current: name(&current),
            update: name(&history.current),
        };
        let plan = plan(&set, &owned, &names, Timestamp::now());
        let kept = [
            plan.status.current_revision.clone(),
            plan.status.update_revision.clone(),
        ];
        self.execute(key, &set, plan, &current, &history.current)
            .await?;
        let in_use = |revision: &str| {
            kept.iter().flatten().any(|k| k == revision)
                || owned.iter().any(|p| {
                    let labels = p.metadata.labels.as_ref();
                    labels
                        .and_then(|l| l.get(crate::revisions::HASH))
                        .is_some_and(|h| h == revision)
                })
        };
        self.revisions
            .prune(client, &subject, &history, &in_use)
            .await
    }

    async fn execute(
        &self,
        key: &Key,
        set: &StatefulSet,
        plan: Plan,
        current: &ControllerRevision,
        update: &ControllerRevision,
    ) -> Result<(), WriteError> {
        let about = client::reference(set);
        for pod in &plan.ended {
            let message = format!(
                "StatefulSet {key} is recreating terminated Pod {}",
                pod.metadata.name.as_deref().unwrap_or_default()
            );
            self.events.record(
                &about,
                EventType::Normal,
                "RecreatingTerminatedPod",
                message,
            );
        }
        let mut results = join_all(plan.delete.iter().map(|pod| self.delete(set, pod))).await;
        let creations = plan
            .create
            .iter()
            .map(|(ordinal, new)| self.create(set, if *new { update } else { current }, *ordinal));
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

    async fn create(
        &self,
        set: &StatefulSet,
        revision: &ControllerRevision,
        ordinal: i32,
    ) -> Result<(), WriteError> {
        let client = &self.context.client;
        let namespace = set.metadata.namespace.as_deref().unwrap_or_default();
        let about = client::reference(set);
        let pod = identity::pod(set, &template(revision), name(revision), ordinal);
        let pod_name = pod.metadata.name.clone().unwrap_or_default();
        let set_name = set.metadata.name.as_deref().unwrap_or_default();
        let result = async {
            for volume in identity::claims(set, ordinal) {
                match write::create::<PersistentVolumeClaim>(client, namespace, &volume).await {
                    Err(error) if !client::is_already_exists(&error) => return Err(error),
                    _ => {}
                }
            }
            write::create(client, namespace, &pod).await
        }
        .await;
        match result {
            Ok(pod) => {
                info!(pod = pod_name, "created");
                let (key, uid) = (Key::of(&pod), pod.metadata.uid.unwrap_or_default());
                let owner = set.metadata.uid.as_deref().unwrap_or_default();
                self.expectations
                    .created(owner, &uid, || self.context.shows_pod(owner, &key, &uid));
                let message = format!("create Pod {pod_name} in StatefulSet {set_name} successful");
                self.events
                    .record(&about, EventType::Normal, "SuccessfulCreate", message);
                Ok(())
            }
            Err(error) if client::is_namespace_terminating(&error) => Ok(()),
            Err(error) => {
                let message = format!(
                    "create Pod {pod_name} in StatefulSet {set_name} failed error: {}",
                    error.message()
                );
                self.events
                    .record(&about, EventType::Warning, "FailedCreate", message);
                Err(error)
            }
        }
    }

    async fn delete(&self, set: &StatefulSet, pod: &Pod) -> Result<(), WriteError> {
        let owner = set.metadata.uid.as_deref().unwrap_or_default();
        let (key, uid) = (Key::of(pod), pod.metadata.uid.clone().unwrap_or_default());
        self.expectations.deleting(owner, &uid);
        let params = DeleteParams::default();
        let result = write::delete::<Pod>(&self.context.client, &key, Some(&uid), params).await;
        if result.is_err() || !self.context.shows_pod(owner, &key, &uid) {
            self.expectations.observed_deleted(owner, &uid);
        }
        result?;
        info!(pod = key.name, "deleted");
        let message = format!(
            "delete Pod {} in StatefulSet {} successful",
            key.name,
            set.metadata.name.as_deref().unwrap_or_default()
        );
        let about = client::reference(set);
        self.events
            .record(&about, EventType::Normal, "SuccessfulDelete", message);
        Ok(())
    }
}

/// The revision that pods before the update have.
fn current(set: &StatefulSet, history: &History) -> Arc<ControllerRevision> {
    let known = set
        .status
        .as_ref()
        .and_then(|s| s.current_revision.as_deref());
    let found = known.and_then(|known| history.all.iter().find(|r| name(r) == known));
    found.unwrap_or(&history.current).clone()
}
