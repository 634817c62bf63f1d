//! Job: runs pods until enough of them have succeeded, and lets a finished Job go after its time.

mod indexes;
mod plan;
mod policy;

use crate::claim;
use crate::context::Context;
use crate::expectations::Expectations;
use crate::owners;
use crate::pods;
use crate::write::{self, WriteError};
use client::{Client, EventType, Events, Informer, Key, Queue};
use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector, Pod, PodTemplateSpec};
use kube::api::DeleteParams;
use plan::{FAILURES, FINALIZER, Plan, plan};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{debug, info};

const KIND: &str = "Job";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// New pods wait after a failure: this long, doubling with each more in a row.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
const LAST_BACKOFF: Duration = Duration::from_secs(600);

/// Failures of a Job in a row.
#[derive(Default)]
struct Failing {
    succeeded: i32,
    failed: i32,
    in_a_row: u32,
    since: Option<Instant>,
}

struct Controller {
    context: Context,
    /// Deletes Jobs whose time after finishing is over.
    expiry: Client,
    jobs: Informer<Job>,
    queue: Queue<Key>,
    expectations: Expectations,
    failing: Mutex<HashMap<String, Failing>>,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, expiry: Client) {
    let controller = Arc::new(Controller {
        jobs: context.informers.get::<Job>(),
        queue: Queue::new(),
        expectations: Expectations::default(),
        failing: Mutex::default(),
        events: context.events("job-controller"),
        context,
        expiry,
    });
    controller.listen();
    controller.jobs.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("job", queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// A pod of the Job, for an index if it has one.
fn new_pod(job: &Job, index: Option<(u32, u32)>) -> Pod {
    let template: PodTemplateSpec = job
        .spec
        .as_ref()
        .map(|s| s.template.clone())
        .unwrap_or_default();
    let mut pod = pods::from_template(&template, pods::controlled_by(job));
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(FINALIZER.to_owned());
    let Some((index, failures)) = index else {
        return pod;
    };
    let name = job.metadata.name.as_deref().unwrap_or_default();
    pod.metadata.generate_name = Some(format!("{name}-{index}-"));
    let meta = &mut pod.metadata;
    meta.annotations
        .get_or_insert_default()
        .insert(INDEX.to_owned(), index.to_string());
    meta.labels
        .get_or_insert_default()
        .insert(INDEX.to_owned(), index.to_string());
    if job
        .spec
        .as_ref()
        .is_some_and(|s| s.backoff_limit_per_index.is_some())
    {
        let annotations = meta.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), failures.to_string());
    }
    let spec = pod.spec.get_or_insert_default();
    spec.hostname = spec
        .hostname
        .take()
        .or_else(|| Some(format!("{name}-{index}")));
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        let env = container.env.get_or_insert_default();
        if env.iter().any(|e| e.name == "JOB_COMPLETION_INDEX") {
            continue;
        }
        env.push(EnvVar {
            name: "JOB_COMPLETION_INDEX".to_owned(),
            value: None,
            value_from: Some(EnvVarSource {
                field_ref: Some(ObjectFieldSelector {
                    api_version: None,
                    field_path: format!("metadata.labels['{INDEX}']"),
                }),
                ..EnvVarSource::default()
            }),
        });
    }
    pod
}

/// How long a finished Job is kept yet; `None` for ever.
fn kept_for(job: &Job, now: Timestamp) -> Option<Duration> {
    let secs = job.spec.as_ref()?.ttl_seconds_after_finished?;
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?
        .last_transition_time
        .as_ref()?;
    let until = ended
        .0
        .checked_add(SignedDuration::from_secs(i64::from(secs)))
        .ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.jobs.on_change(move |old, new| {
            if let (Some(old), None) = (old, new) {
                let uid = old.metadata.uid.as_deref().unwrap_or_default();
                this.expectations.forget(uid);
                this.failing
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(uid);
                // Pods that outlive their Job must not keep its finalizer.
                for pod in this.context.pods_of(uid) {
                    this.queue.add(Key::new(
                        pod.metadata.namespace.clone().unwrap_or_default(),
                        old.metadata.name.clone().unwrap_or_default(),
                    ));
                }
            }
            if let Some(job) = new {
                this.queue.add(Key::of(&**job));
            }
        });
        owners::watch_pods(
            &self.context,
            &self.jobs,
            &self.queue,
            &self.expectations,
            |job, pod| claim::selects(job.spec.as_ref().and_then(|s| s.selector.as_ref()), pod),
        );
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(job) = self.jobs.get_key(key) else {
            return self.untrack_orphans(key).await;
        };
        let managed = job.spec.as_ref().and_then(|s| s.managed_by.as_deref());
        if managed.is_some_and(|m| m != "kubernetes.io/job-controller") {
            return Ok(());
        }
        let uid = job.metadata.uid.clone().unwrap_or_default();
        let selector = job.spec.as_ref().and_then(|s| s.selector.as_ref());
        let claim = claim::claim(
            job.metadata.deletion_timestamp.is_some() || plan::is_finished(&job),
            selector.and_then(claim::selector).as_ref(),
            self.context.pods_of(&uid),
            self.context.orphans_in(&key.namespace),
        );
        let owned = claim::execute(&self.context.client, &*job, claim).await?;
        let now = Timestamp::now();
        let backoff = self.backoff(&job);
        let mut plan = plan(&job, &owned, backoff, now);
        if let Some(wait) = self.expectations.wait(&uid) {
            debug!("waiting for the cache to show our own writes");
            plan.create.clear();
            plan.delete.clear();
            self.queue.add_after(key.clone(), wait);
        }
        if let Some(again) = plan.again {
            self.queue.add_after(key.clone(), again);
        }
        self.execute(&job, plan).await?;
        self.expire(key, &job, now).await
    }

    /// A pod whose Job is gone is nobody's to count.
    async fn untrack_orphans(&self, key: &Key) -> Result<(), WriteError> {
        for pod in self.context.pods.in_namespace(&key.namespace) {
            let ours = pods::controller(&pod.metadata)
                .is_some_and(|o| o.kind == KIND && o.name == key.name);
            if ours {
                self.untrack(&pod).await?;
            }
        }
        Ok(())
    }

    /// How long no new pod may be made.
    fn backoff(&self, job: &Job) -> Duration {
        let status = job.status.clone().unwrap_or_default();
        let uncounted = status.uncounted_terminated_pods.unwrap_or_default();
        let sum = |counted: Option<i32>, open: Option<Vec<String>>| {
            let open = i32::try_from(open.map_or(0, |o| o.len())).unwrap_or(i32::MAX);
            counted.unwrap_or(0).saturating_add(open)
        };
        let succeeded = sum(status.succeeded, uncounted.succeeded);
        let failed = sum(status.failed, uncounted.failed);
        let mut all = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        let failing = all
            .entry(job.metadata.uid.clone().unwrap_or_default())
            .or_default();
        if succeeded > failing.succeeded {
            failing.in_a_row = 0;
        }
        if failed > failing.failed {
            failing.in_a_row = failing
                .in_a_row
                .saturating_add(failed.abs_diff(failing.failed));
            failing.since = Some(Instant::now());
        }
        (failing.succeeded, failing.failed) = (succeeded, failed);
        match (failing.in_a_row, failing.since) {
            (0, _) | (_, None) => Duration::ZERO,
            (in_a_row, Some(since)) => {
                let doubled = FIRST_BACKOFF.saturating_mul(1 << (in_a_row - 1).min(10));
                doubled.min(LAST_BACKOFF).saturating_sub(since.elapsed())
            }
        }
    }

    async fn execute(&self, job: &Job, plan: Plan) -> Result<(), WriteError> {
        let client = &self.context.client;
        let mut changed = job.clone();
        changed.status = Some(plan.status);
        match write::update_status(client, job, &changed).await {
            Err(error) if client::is_not_found(&error) => return Ok(()),
            result => result?,
        };
        let about = client::reference(job);
        for (normal, reason, message) in plan.events {
            let kind = if normal {
                EventType::Normal
            } else {
                EventType::Warning
            };
            self.events.record(&about, kind, reason, message);
        }
        for result in join_all(plan.untrack.iter().map(|pod| self.untrack(pod))).await {
            result?;
        }
        let deleted = plan
            .delete
            .iter()
            .map(|pod| self.delete(job, pod, plan.uncount));
        for result in join_all(deleted).await {
            result?;
        }
        if !plan.create.is_empty() {
            info!(count = plan.create.len(), "creating pods");
        }
        let (mut left, mut batch) = (plan.create.as_slice(), 1);
        while !left.is_empty() {
            let (now, later) = left.split_at(batch.min(left.len()));
            for result in join_all(now.iter().map(|index| self.create(job, *index))).await {
                match result {
                    Err(error) if client::is_namespace_terminating(&error) => return Ok(()),
                    result => result?,
                }
            }
            left = later;
            batch *= 2;
        }
        Ok(())
    }

    async fn create(&self, job: &Job, index: Option<(u32, u32)>) -> Result<(), WriteError> {
        let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
        let about = client::reference(job);
        match write::create(&self.context.client, namespace, &new_pod(job, index)).await {
            Ok(pod) => {
                let (key, uid) = (Key::of(&pod), pod.metadata.uid.unwrap_or_default());
                let owner = job.metadata.uid.as_deref().unwrap_or_default();
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

    async fn delete(&self, job: &Job, pod: &Arc<Pod>, uncount: bool) -> Result<(), WriteError> {
        if uncount {
            self.untrack(pod).await?;
        }
        let (key, uid) = (Key::of(&**pod), pod.metadata.uid.as_deref());
        let params = DeleteParams::default();
        write::delete::<Pod>(&self.context.client, &key, uid, params).await?;
        let message = format!("Deleted pod: {}", key.name);
        let about = client::reference(job);
        self.events
            .record(&about, EventType::Normal, "SuccessfulDelete", message);
        Ok(())
    }

    /// Takes our finalizer away.
    async fn untrack(&self, pod: &Pod) -> Result<(), WriteError> {
        let mut changed = pod.clone();
        changed
            .metadata
            .finalizers
            .iter_mut()
            .for_each(|f| f.retain(|f| f != FINALIZER));
        if changed.metadata.finalizers == pod.metadata.finalizers {
            return Ok(());
        }
        match write::update(&self.context.client, pod, &changed).await {
            Err(error) if client::is_not_found(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Deletes a finished Job when its time is over.
    async fn expire(&self, key: &Key, job: &Job, now: Timestamp) -> Result<(), WriteError> {
        match kept_for(job, now) {
            None => Ok(()),
            Some(left) if !left.is_zero() => {
                self.queue.add_after(key.clone(), left);
                Ok(())
            }
            Some(_) if job.metadata.deletion_timestamp.is_some() => Ok(()),
            Some(_) => {
                info!("its time after finishing is over: deleting");
                let uid = job.metadata.uid.as_deref();
                let params = DeleteParams::foreground();
                write::delete::<Job>(&self.expiry, key, uid, params).await
            }
        }
    }
}
