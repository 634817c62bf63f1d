//! What to do about a Job: a pure function of it, its pods and the time.
//!
//! Invariant: a pod is counted exactly once. Its uid is first written into the status, then its
//! finalizer goes, and only a uid whose pod has no finalizer any more moves into the counts.

use super::indexes;
use super::policy::{self, Failure};
use crate::pods;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::batch::v1::{Job, JobCondition, JobSpec, JobStatus};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;
use std::time::Duration;

pub(super) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(super) const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// Pods made or counted in one go.
const BURST: usize = 500;

/// Writes that bring a Job one step further.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) status: JobStatus,
    /// Pods that are counted once the status is written.
    pub(super) untrack: Vec<Arc<Pod>>,
    /// Pods to delete; whether each is to be uncounted first.
    pub(super) delete: Vec<Arc<Pod>>,
    pub(super) uncount: bool,
    /// New pods: the index and how often it failed, or neither.
    pub(super) create: Vec<Option<(u32, u32)>>,
    /// Type (true: normal), reason and message.
    pub(super) events: Vec<(bool, &'static str, String)>,
    pub(super) again: Option<Duration>,
}

/// Pods by what they are to their Job.
#[derive(Default)]
struct Census {
    active: Vec<Arc<Pod>>,
    ready: usize,
    terminating: usize,
    /// All failures and successes so far.
    succeeded: usize,
    failed: usize,
    completed: BTreeSet<u32>,
    failed_indexes: BTreeSet<u32>,
    /// How often each index has failed.
    failures: BTreeMap<u32, u32>,
    fails_job: Option<String>,
}

/// Whether a condition of the Job says that it has ended.
pub(super) fn is_finished(job: &Job) -> bool {
    has_condition(job.status.as_ref(), "Complete") || has_condition(job.status.as_ref(), "Failed")
}

fn has_condition(status: Option<&JobStatus>, kind: &str) -> bool {
    let conditions = status.and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|c| c.iter().any(|c| c.type_ == kind && c.status == "True"))
}

/// Decides the next step. `backoff` tells how long no new pod may be made after failures.
pub(super) fn plan(job: &Job, pods: &[Arc<Pod>], backoff: Duration, now: Timestamp) -> Plan {
    let empty = JobSpec::default();
    let spec = job.spec.as_ref().unwrap_or(&empty);
    let mut plan = Plan {
        status: job.status.clone().unwrap_or_default(),
        ..Plan::default()
    };
    if is_finished(job) {
        plan.untrack = pods.iter().filter(|p| is_tracked(p)).cloned().collect();
        return plan;
    }
    let suspended = spec.suspend == Some(true);
    if plan.status.start_time.is_none() && !suspended {
        plan.status.start_time = Some(Time(now));
    }
    let census = count(job, spec, pods, &mut plan);
    plan.status.active = positive(census.active.len());
    plan.status.ready = Some(int(census.ready));
    plan.status.terminating = Some(int(census.terminating));

    let verdict = verdict(job, spec, &census, &plan.status, now);
    if let Some((success, reason, message)) = verdict {
        end(&mut plan, &census, success, &reason, &message, now);
        return plan;
    }
    suspend(&mut plan, suspended, now);
    if suspended {
        plan.delete = census.active;
        plan.uncount = true;
        return plan;
    }
    if let (Some(secs), Some(start)) = (spec.active_deadline_seconds, &plan.status.start_time) {
        plan.again = left(start.0, secs, now);
    }
    if job.metadata.deletion_timestamp.is_none() {
        fill(spec, &census, &mut plan, backoff);
    }
    plan
}

fn is_tracked(pod: &Pod) -> bool {
    pod.metadata
        .finalizers
        .as_ref()
        .is_some_and(|f| f.iter().any(|f| f == FINALIZER))
}

fn is_indexed(spec: &JobSpec) -> bool {
    spec.completion_mode.as_deref() == Some("Indexed")
}

fn completions(spec: &JobSpec) -> Option<u32> {
    spec.completions.map(|c| u32::try_from(c).unwrap_or(0))
}

/// Whether the pod counts as failed: with the default policy one that is being deleted does.
fn has_failed(spec: &JobSpec, pod: &Pod) -> bool {
    match pods::phase(pod) {
        "Failed" => true,
        "Succeeded" => false,
        _ => {
            pod.metadata.deletion_timestamp.is_some()
                && spec.pod_replacement_policy.as_deref() != Some("Failed")
        }
    }
}

/// Counts the pods into the status, and sorts out what each of them is.
fn count(job: &Job, spec: &JobSpec, pods: &[Arc<Pod>], plan: &mut Plan) -> Census {
    let limit = completions(spec).unwrap_or(0);
    let old = plan.status.clone();
    let read = |t: &Option<String>| indexes::parse(t.as_deref().unwrap_or_default(), limit);
    let mut census = Census {
        completed: read(&old.completed_indexes),
        failed_indexes: read(&old.failed_indexes),
        ..Census::default()
    };

    let tracked: HashSet<&str> = pods
        .iter()
        .filter(|p| is_tracked(p))
        .filter_map(|p| p.metadata.uid.as_deref())
        .collect();
    let uncounted = old.uncounted_terminated_pods.clone().unwrap_or_default();
    let settle = |uids: Option<Vec<String>>, counted: Option<i32>| {
        let (open, done): (Vec<String>, Vec<String>) = uids
            .unwrap_or_default()
            .into_iter()
            .partition(|uid| tracked.contains(uid.as_str()));
        (open, counted.unwrap_or(0).saturating_add(int(done.len())))
    };
    let (mut succeeded, mut succeeded_count) = settle(uncounted.succeeded, old.succeeded);
    let (mut failed, failed_count) = settle(uncounted.failed, old.failed);

    for pod in pods {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let index = indexes::of(pod).filter(|i| is_indexed(spec) && *i < limit);
        let ok = pods::phase(pod) == "Succeeded";
        let bad = has_failed(spec, pod);
        if pods::is_terminating(pod) {
            census.terminating += 1;
        }
        if !ok && !bad && pods::is_active(pod) {
            census.ready += usize::from(pods::is_ready(pod));
            census.active.push(pod.clone());
        }
        if !(ok || bad) || (is_indexed(spec) && index.is_none()) {
            continue;
        }
        let judged = if bad {
            policy::judge(job, pod)
        } else {
            Failure::Count
        };
        note(&mut census, spec, pod, index, ok, &judged);
        if !is_tracked(pod) {
            continue;
        }
        let known = succeeded.contains(&uid) || failed.contains(&uid);
        if !known && plan.untrack.len() < BURST {
            match (ok, &judged) {
                // An index is enough not to count a success twice.
                (true, _) if index.is_some() => {}
                (true, _) => succeeded.push(uid),
                (false, Failure::Ignore) => {}
                (false, _) => failed.push(uid),
            }
        }
        plan.untrack.push(pod.clone());
    }
    if is_indexed(spec) {
        succeeded_count = int(census.completed.len());
        plan.status.completed_indexes =
            Some(indexes::write(&census.completed)).filter(|t| !t.is_empty());
        if spec.backoff_limit_per_index.is_some() {
            plan.status.failed_indexes = Some(indexes::write(&census.failed_indexes));
        }
    }
    census.succeeded = usize::try_from(succeeded_count).unwrap_or(0) + succeeded.len();
    census.failed = usize::try_from(failed_count).unwrap_or(0) + failed.len();
    plan.status.succeeded = (succeeded_count > 0).then_some(succeeded_count);
    plan.status.failed = (failed_count > 0).then_some(failed_count);
    let list = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
    let uncounted = plan
        .status
        .uncounted_terminated_pods
        .get_or_insert_default();
    uncounted.succeeded = list(succeeded);
    uncounted.failed = list(failed);
    census
}

/// Notes what an ended pod means to its index and its Job.
fn note(
    census: &mut Census,
    spec: &JobSpec,
    pod: &Pod,
    index: Option<u32>,
    ok: bool,
    judged: &Failure,
) {
    if let (false, Failure::FailJob(why)) = (ok, judged) {
        census.fails_job.get_or_insert_with(|| why.clone());
    }
    let Some(index) = index else { return };
    if ok {
        census.completed.insert(index);
        return;
    }
    let Some(limit) = spec.backoff_limit_per_index else {
        return;
    };
    let annotations = pod.metadata.annotations.as_ref();
    let before: u32 = annotations
        .and_then(|a| a.get(FAILURES)?.parse().ok())
        .unwrap_or(0);
    let failures = if *judged == Failure::Ignore {
        before
    } else {
        before.saturating_add(1)
    };
    let most = census.failures.entry(index).or_default();
    *most = failures.max(*most);
    let exhausted = failures > u32::try_from(limit).unwrap_or(0);
    if *judged == Failure::FailIndex || exhausted {
        census.failed_indexes.insert(index);
    }
}

/// Whether the Job has ended, and how: success, reason, message.
fn verdict(
    job: &Job,
    spec: &JobSpec,
    census: &Census,
    status: &JobStatus,
    now: Timestamp,
) -> Option<(bool, String, String)> {
    // What was decided before stays.
    for (kind, success) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
        let conditions = status.conditions.as_ref();
        let known =
            conditions.and_then(|c| c.iter().find(|c| c.type_ == kind && c.status == "True"));
        if let Some(known) = known {
            let text = |t: &Option<String>| t.clone().unwrap_or_default();
            return Some((success, text(&known.reason), text(&known.message)));
        }
    }
    let told = |success, reason: &str, message: &str| {
        Some((success, reason.to_owned(), message.to_owned()))
    };
    if let Some(why) = &census.fails_job {
        return told(false, "PodFailurePolicy", why);
    }
    let total = completions(spec);
    if let Some(rule) = policy::succeeded(job, &census.completed, total.unwrap_or(0)) {
        return told(
            true,
            "SuccessPolicy",
            &format!("Matched rules at index {rule}"),
        );
    }
    if past_backoff(spec, census) {
        let message = "Job has reached the specified backoff limit";
        return told(false, "BackoffLimitExceeded", message);
    }
    if let (Some(secs), Some(start), false) = (
        spec.active_deadline_seconds,
        &status.start_time,
        spec.suspend == Some(true),
    ) && left(start.0, secs, now) == Some(Duration::ZERO)
    {
        let message = "Job was active longer than specified deadline";
        return told(false, "DeadlineExceeded", message);
    }
    let failed_indexes = census.failed_indexes.len();
    if let Some(most) = spec.max_failed_indexes
        && failed_indexes > usize::try_from(most).unwrap_or(0)
    {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return told(false, "MaxFailedIndexesExceeded", message);
    }
    let reached = "Reached expected number of succeeded pods";
    match total.map(|t| usize::try_from(t).unwrap_or(usize::MAX)) {
        None if census.succeeded > 0 && census.active.is_empty() => {
            told(true, "CompletionsReached", reached)
        }
        Some(total) if is_indexed(spec) && failed_indexes > 0 => {
            let done = census.completed.union(&census.failed_indexes).count() >= total;
            if done && census.active.is_empty() {
                return told(false, "FailedIndexes", "Job has failed indexes");
            }
            None
        }
        Some(total) if census.succeeded >= total => told(true, "CompletionsReached", reached),
        _ => None,
    }
}

fn past_backoff(spec: &JobSpec, census: &Census) -> bool {
    // With a limit for each index there is by default none for all together.
    let default = if spec.backoff_limit_per_index.is_some() {
        i32::MAX
    } else {
        6
    };
    let limit = spec.backoff_limit.unwrap_or(default);
    if census.failed > usize::try_from(limit).unwrap_or(0) {
        return true;
    }
    let restart = spec
        .template
        .spec
        .as_ref()
        .and_then(|s| s.restart_policy.as_deref());
    if restart != Some("OnFailure") {
        return false;
    }
    let running = census
        .active
        .iter()
        .filter(|p| matches!(pods::phase(p), "Running" | "Pending"));
    let restarts: i64 = running.map(|p| pods::restarts(p)).sum();
    if limit == 0 {
        restarts > 0
    } else {
        restarts >= i64::from(limit)
    }
}

/// Ends the Job: first what is still running goes, then the last condition is set.
fn end(
    plan: &mut Plan,
    census: &Census,
    success: bool,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let (first, last) = if success {
        ("SuccessCriteriaMet", "Complete")
    } else {
        ("FailureTarget", "Failed")
    };
    set(&mut plan.status, first, "True", reason, message, now);
    plan.delete = census.active.clone();
    let uncounted = plan.status.uncounted_terminated_pods.as_ref();
    let open = uncounted.is_some_and(|u| u.succeeded.is_some() || u.failed.is_some());
    if !census.active.is_empty() || census.terminating > 0 || open {
        return;
    }
    set(&mut plan.status, last, "True", reason, message, now);
    if success {
        plan.status.completion_time = Some(Time(now));
        plan.events
            .push((true, "Completed", "Job completed".to_owned()));
    } else {
        plan.events.push((false, leak(reason), message.to_owned()));
    }
}

/// The reason as the event has it.
fn leak(reason: &str) -> &'static str {
    match reason {
        "BackoffLimitExceeded" => "BackoffLimitExceeded",
        "DeadlineExceeded" => "DeadlineExceeded",
        "PodFailurePolicy" => "PodFailurePolicy",
        "FailedIndexes" => "FailedIndexes",
        "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
        _ => "Failed",
    }
}

fn suspend(plan: &mut Plan, suspended: bool, now: Timestamp) {
    let known = has_condition(Some(&plan.status), "Suspended");
    if suspended && !known {
        set(
            &mut plan.status,
            "Suspended",
            "True",
            "JobSuspended",
            "Job suspended",
            now,
        );
        plan.events
            .push((true, "Suspended", "Job suspended".to_owned()));
        plan.status.start_time = None;
    } else if !suspended && known {
        set(
            &mut plan.status,
            "Suspended",
            "False",
            "JobResumed",
            "Job resumed",
            now,
        );
        plan.events
            .push((true, "Resumed", "Job resumed".to_owned()));
        plan.status.start_time = Some(Time(now));
    }
}

/// Makes or deletes pods until there are as many as are wanted.
fn fill(spec: &JobSpec, census: &Census, plan: &mut Plan, backoff: Duration) {
    let parallelism = usize::try_from(spec.parallelism.unwrap_or(1)).unwrap_or(0);
    let active = census.active.len();
    let total = completions(spec).map(|t| usize::try_from(t).unwrap_or(usize::MAX));
    let done = if is_indexed(spec) {
        census.completed.union(&census.failed_indexes).count()
    } else {
        census.succeeded
    };
    let wanted = match total {
        None if census.succeeded > 0 => active,
        None => parallelism,
        Some(total) => parallelism.min(total.saturating_sub(done)),
    };
    if active > wanted {
        let mut surplus = census.active.clone();
        // Those that have not come far go first; of indexes, the highest.
        surplus.sort_by_key(|p| {
            let index = indexes::of(p).map_or(0, |i| u32::MAX - i);
            (pods::is_ready(p), pods::phase(p) == "Running", index)
        });
        surplus.truncate(active - wanted);
        plan.delete = surplus;
        plan.uncount = true;
        return;
    }
    let waits = spec.pod_replacement_policy.as_deref() == Some("Failed");
    let here = active + if waits { census.terminating } else { 0 };
    let missing = wanted.saturating_sub(here).min(BURST);
    if missing == 0 {
        return;
    }
    if !backoff.is_zero() {
        plan.again = Some(plan.again.map_or(backoff, |again| again.min(backoff)));
        return;
    }
    if !is_indexed(spec) {
        plan.create = vec![None; missing];
        return;
    }
    let busy: BTreeSet<u32> = census
        .active
        .iter()
        .filter_map(|p| indexes::of(p))
        .collect();
    plan.create = (0..completions(spec).unwrap_or(0))
        .filter(|i| {
            !busy.contains(i) && !census.completed.contains(i) && !census.failed_indexes.contains(i)
        })
        .take(missing)
        .map(|i| Some((i, census.failures.get(&i).copied().unwrap_or(0))))
        .collect();
}

fn left(start: Timestamp, secs: i64, now: Timestamp) -> Option<Duration> {
    let until = start.checked_add(SignedDuration::from_secs(secs)).ok()?;
    Some(Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO))
}

fn int(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

fn positive(count: usize) -> Option<i32> {
    (count > 0).then(|| int(count))
}

fn set(
    status: &mut JobStatus,
    kind: &str,
    value: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) {
    let conditions = status.conditions.get_or_insert_default();
    let known = conditions.iter().position(|c| c.type_ == kind);
    if known.is_some_and(|i| conditions[i].status == value) {
        return;
    }
    let condition = JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    };
    match known {
        Some(i) => conditions[i] = condition,
        None => conditions.push(condition),
    }
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
