//! CronJob: makes a Job whenever its schedule is due, and forgets old ones.

mod schedule;

use crate::context::{Context, by_owner};
use crate::pods::{controlled_by, controller};
use crate::write::{self, WriteError};
use client::{EventType, Events, Index, Informer, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::DeleteParams;
use schedule::Schedule;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

const KIND: &str = "CronJob";
const SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// Missed times that are looked back at.
const MISSED_LIMIT: usize = 100;
/// A timer that fires a little early would find nothing due.
const LATE: Duration = Duration::from_millis(100);

struct Controller {
    context: Context,
    cronjobs: Informer<CronJob>,
    jobs: Informer<Job>,
    owned: Index<Job>,
    queue: Queue<Key>,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let jobs = context.informers.get::<Job>();
    let this = Arc::new(Controller {
        cronjobs: context.informers.get::<CronJob>(),
        owned: jobs.index(by_owner),
        jobs,
        queue: Queue::new(),
        events: context.events("cronjob-controller"),
        context,
    });
    let listener = this.clone();
    this.cronjobs.on_change(move |old, new| {
        if let Some(cronjob) = new.or(old) {
            listener.queue.add(Key::of(&**cronjob));
        }
    });
    let listener = this.clone();
    this.jobs.on_change(move |old, new| {
        for job in [old, new].into_iter().flatten() {
            if let Some(owner) = controller(&job.metadata).filter(|o| o.kind == KIND) {
                let namespace = job.metadata.namespace.as_deref().unwrap_or_default();
                listener.queue.add(Key::new(namespace, owner.name.as_str()));
            }
        }
    });
    this.cronjobs.synced().await;
    this.jobs.synced().await;
    let (queue, drain) = (this.queue.clone(), this.context.drain.clone());
    client::run("cronjob", queue, 2, drain, move |key| {
        let this = this.clone();
        async move { this.reconcile(&key).await }
    })
    .await;
}

/// How a Job ended: `Some(true)` well.
fn ended(job: &Job) -> Option<bool> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions
        .iter()
        .find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    Some(ended.type_ == "Complete")
}

/// What is due.
#[derive(Debug, PartialEq, Eq)]
enum Due {
    /// Nothing until then.
    Later(Option<Timestamp>),
    /// A Job for this time, unless that is too late by now.
    Now {
        time: Timestamp,
        too_late: bool,
        many_missed: bool,
    },
}

/// The latest time that is due and has not been served.
fn due(cronjob: &CronJob, schedule: &Schedule, now: Timestamp) -> Due {
    let status = cronjob.status.as_ref();
    let created = cronjob
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |t| t.0);
    let mut from = status
        .and_then(|s| s.last_schedule_time.as_ref())
        .map_or(created, |t| t.0);
    let deadline = cronjob.spec.starting_deadline_seconds;
    let deadline = deadline.map(SignedDuration::from_secs);
    if let Some(earliest) = deadline.and_then(|d| now.checked_sub(d).ok())
        && earliest > from
    {
        from = earliest;
    }
    let (mut latest, mut missed) = (None, 0);
    let mut next = schedule.next(from);
    while let Some(time) = next.filter(|t| *t <= now) {
        latest = Some(time);
        missed += 1;
        if missed > MISSED_LIMIT {
            // Too many to go through one by one: what counts is the last minutes.
            let recent = now.checked_sub(SignedDuration::from_mins(2)).unwrap_or(now);
            next = schedule.next(time.max(recent));
            if next.is_none_or(|t| t > now) {
                break;
            }
            continue;
        }
        next = schedule.next(time);
    }
    match latest {
        None => Due::Later(schedule.next(now)),
        Some(time) => {
            let late = now.duration_since(time);
            let too_late = deadline.is_some_and(|d| late > d);
            Due::Now {
                time,
                too_late,
                many_missed: missed > MISSED_LIMIT,
            }
        }
    }
}

/// The Job for a time.
fn job_for(cronjob: &CronJob, time: Timestamp) -> Job {
    let template = cronjob.spec.job_template.clone();
    let meta = template.metadata.unwrap_or_default();
    let mut annotations = meta.annotations.unwrap_or_default();
    annotations.insert(
        SCHEDULED.to_owned(),
        time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    );
    let name = cronjob.metadata.name.as_deref().unwrap_or_default();
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{name}-{}", time.as_second() / 60)),
            namespace: cronjob.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![controlled_by(cronjob)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(cronjob) = self.cronjobs.get_key(key) else {
            return Ok(());
        };
        let jobs = self
            .owned
            .get(cronjob.metadata.uid.as_deref().unwrap_or_default());
        let mut status = cronjob.status.clone().unwrap_or_default();
        self.note_ended(&cronjob, &mut status, &jobs);
        let again = if cronjob.metadata.deletion_timestamp.is_none() {
            self.forget_old(&cronjob, &jobs).await?;
            self.start(&cronjob, &mut status, &jobs).await?
        } else {
            None
        };
        let mut changed = CronJob::clone(&cronjob);
        status.active = status.active.filter(|a| !a.is_empty());
        changed.status = Some(status);
        match write::update_status(&self.context.client, &*cronjob, &changed).await {
            Err(error) if client::is_not_found(&error) => return Ok(()),
            result => result?,
        };
        if let Some(again) = again {
            let now = Timestamp::now();
            let wait = Duration::try_from(again.duration_since(now)).unwrap_or(Duration::ZERO);
            self.queue.add_after(key.clone(), wait + LATE);
        }
        Ok(())
    }

    /// Ended and vanished Jobs are active no more.
    fn note_ended(&self, cronjob: &CronJob, status: &mut CronJobStatus, jobs: &[Arc<Job>]) {
        let about = client::reference(cronjob);
        for job in jobs {
            let (uid, name) = (
                &job.metadata.uid,
                job.metadata.name.as_deref().unwrap_or_default(),
            );
            let active = status.active.get_or_insert_default();
            let known = active.iter().any(|a| a.uid == *uid);
            match ended(job) {
                Some(well) if known => {
                    active.retain(|a| a.uid != *uid);
                    let how = if well { "Complete" } else { "Failed" };
                    let message = format!("Saw completed job: {name}, condition: {how}");
                    self.events
                        .record(&about, EventType::Normal, "SawCompletedJob", message);
                }
                None if !known => active.push(client::reference(&**job)),
                _ => {}
            }
            let completed = job.status.as_ref().and_then(|s| s.completion_time.clone());
            if completed > status.last_successful_time {
                status.last_successful_time = completed;
            }
        }
        let alive = |a: &ObjectReference| jobs.iter().any(|j| j.metadata.uid == a.uid);
        status
            .active
            .iter_mut()
            .for_each(|active| active.retain(alive));
    }

    async fn forget_old(&self, cronjob: &CronJob, jobs: &[Arc<Job>]) -> Result<(), WriteError> {
        let spec = &cronjob.spec;
        let limits = [
            (true, spec.successful_jobs_history_limit.unwrap_or(3)),
            (false, spec.failed_jobs_history_limit.unwrap_or(1)),
        ];
        for (well, limit) in limits {
            let mut old: Vec<&Arc<Job>> = jobs
                .iter()
                .filter(|j| ended(j) == Some(well) && j.metadata.deletion_timestamp.is_none())
                .collect();
            old.sort_by_key(|j| j.status.as_ref().and_then(|s| s.start_time.clone()));
            let surplus = old
                .len()
                .saturating_sub(usize::try_from(limit).unwrap_or(0));
            for job in old.into_iter().take(surplus) {
                self.delete(cronjob, job).await?;
            }
        }
        Ok(())
    }

    async fn delete(&self, cronjob: &CronJob, job: &Job) -> Result<(), WriteError> {
        let (key, uid) = (Key::of(job), job.metadata.uid.as_deref());
        let params = DeleteParams::background();
        write::delete::<Job>(&self.context.client, &key, uid, params).await?;
        let about = client::reference(cronjob);
        let message = format!("Deleted job {}", key.name);
        self.events
            .record(&about, EventType::Normal, "SuccessfulDelete", message);
        Ok(())
    }

    /// Makes the Job that is due; answers when the next one is.
    async fn start(
        &self,
        cronjob: &CronJob,
        status: &mut CronJobStatus,
        jobs: &[Arc<Job>],
    ) -> Result<Option<Timestamp>, WriteError> {
        let spec = &cronjob.spec;
        if spec.suspend == Some(true) {
            return Ok(None);
        }
        let (about, now) = (client::reference(cronjob), Timestamp::now());
        let warn = |reason: &str, message: String| {
            self.events
                .record(&about, EventType::Warning, reason, message);
        };
        let schedule = match Schedule::parse(&spec.schedule, spec.time_zone.as_deref()) {
            Ok(schedule) => schedule,
            Err(error) => {
                warn(
                    "UnparseableSchedule",
                    format!("unparseable schedule {:?} : {error}", spec.schedule),
                );
                return Ok(None);
            }
        };
        let (time, next) = match due(cronjob, &schedule, now) {
            Due::Later(next) => return Ok(next),
            Due::Now {
                time,
                too_late: true,
                ..
            } => {
                warn(
                    "MissSchedule",
                    format!("Missed scheduled time to start a job: {time}"),
                );
                return Ok(schedule.next(now));
            }
            Due::Now {
                time, many_missed, ..
            } => {
                if many_missed {
                    let message = "too many missed start times. Set or decrease \
                        .spec.startingDeadlineSeconds or check clock skew";
                    warn("TooManyMissedTimes", message.to_owned());
                }
                (time, schedule.next(now))
            }
        };
        let policy = spec.concurrency_policy.as_deref().unwrap_or("Allow");
        let active: Vec<&Arc<Job>> = jobs.iter().filter(|j| ended(j).is_none()).collect();
        if policy == "Forbid" && !active.is_empty() {
            let message = "Not starting job because prior execution is running and concurrency \
                policy is Forbid";
            self.events
                .record(&about, EventType::Normal, "JobAlreadyActive", message);
            return Ok(next);
        }
        if policy == "Replace" {
            for job in active {
                self.delete(cronjob, job).await?;
                status
                    .active
                    .iter_mut()
                    .for_each(|a| a.retain(|a| a.uid != job.metadata.uid));
            }
        }
        let namespace = cronjob.metadata.namespace.as_deref().unwrap_or_default();
        match write::create(&self.context.client, namespace, &job_for(cronjob, time)).await {
            Ok(job) => {
                let name = job.metadata.name.as_deref().unwrap_or_default();
                info!(job = name, "created");
                let message = format!("Created job {name}");
                self.events
                    .record(&about, EventType::Normal, "SuccessfulCreate", message);
                status
                    .active
                    .get_or_insert_default()
                    .push(client::reference(&job));
            }
            // Made before, but the status was not written.
            Err(error) if client::is_already_exists(&error) => {}
            Err(error) if client::is_namespace_terminating(&error) => return Ok(None),
            Err(error) => {
                warn(
                    "FailedCreate",
                    format!("Error creating job: {}", error.message()),
                );
                return Err(error);
            }
        }
        status.last_schedule_time = Some(Time(time));
        Ok(next)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn cronjob(deadline: Value, last: Value) -> CronJob {
        serde_json::from_value(json!({
            "metadata": {"name": "c", "creationTimestamp": "2020-01-01T00:00:00Z"},
            "spec": {"schedule": "*/10 * * * *", "startingDeadlineSeconds": deadline,
                "jobTemplate": {}},
            "status": {"lastScheduleTime": last},
        }))
        .unwrap()
    }

    #[test]
    fn the_latest_missed_time_is_due() {
        let schedule = Schedule::parse("*/10 * * * *", None).unwrap();
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let none = Value::Null;
        let now = |time: &str, too_late, many_missed| Due::Now {
            time: at(time),
            too_late,
            many_missed,
        };
        let table = [
            (
                none.clone(),
                none.clone(),
                "2020-01-01T00:05:00Z",
                Due::Later(Some(at("2020-01-01T00:10:00Z"))),
            ),
            (
                none.clone(),
                none.clone(),
                "2020-01-01T00:35:00Z",
                now("2020-01-01T00:30:00Z", false, false),
            ),
            (
                none.clone(),
                json!("2020-01-01T00:30:00Z"),
                "2020-01-01T00:35:00Z",
                Due::Later(Some(at("2020-01-01T00:40:00Z"))),
            ),
            (
                json!(60),
                none.clone(),
                "2020-01-01T00:35:00Z",
                Due::Later(Some(at("2020-01-01T00:40:00Z"))),
            ),
            (
                none.clone(),
                none,
                "2020-02-01T00:00:30Z",
                now("2020-02-01T00:00:00Z", false, true),
            ),
        ];
        for (deadline, last, time, expected) in table {
            let cronjob = cronjob(deadline.clone(), last.clone());
            assert_eq!(
                due(&cronjob, &schedule, at(time)),
                expected,
                "{deadline} {last} {time}"
            );
        }
        let job = job_for(
            &cronjob(Value::Null, Value::Null),
            at("2020-01-01T00:30:00Z"),
        );
        assert_eq!(job.metadata.name.as_deref(), Some("c-26297310"));
    }
}
