//! One pod: a single task that observes, plans and begins what the plan says.
//!
//! Invariants: one worker a pod UID; it sleeps until something happens (the spec, a
//! job, the shim, a probe, a reference, a time); at most one status write is on its
//! way; what it knows can be rebuilt from the shim, the disk and the API.

mod act;
mod adopt;
mod apply;
pub(crate) mod exit;
pub(crate) mod jobs;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use client::EventType;
use image::Image;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use runtime::{ContainerState, Shim};
use tokio::{
    sync::{Notify, broadcast, mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;

use crate::{
    identity::pod_words,
    plan::{self, Action},
    probe::{self, Report},
    pull::{Had, Refused},
    refs::{self, Interest},
    shared::SharedRef,
    state::{Exit, ImageStep, PodState, Run, Step, Stop},
    status,
    volumes::{VolumeError, Volumes, fetch::Tokens},
};

/// How long a status may wait for a start that is under way, so that one write says it all.
const COALESCE: Duration = Duration::from_millis(150);
/// Pause after a failed preparation.
const RETRY: SignedDuration = SignedDuration::from_secs(2);
/// Pause after a failed status write.
const WRITE_RETRY: Duration = Duration::from_secs(1);
/// The grace period of pods that do not say.
const DEFAULT_GRACE_SECS: i64 = 30;

/// What a worker is told.
#[derive(Clone, Debug)]
pub(crate) struct Update {
    /// The newest version of the pod.
    pub pod: Arc<Pod>,
    /// The API no longer has it.
    pub gone: bool,
    /// Refused by the node's admission.
    pub rejected: Option<(String, String)>,
}

/// One container as the kubelet API sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ContainerView {
    /// Id of its present or last run.
    pub id: String,
    /// Number of that run.
    pub attempt: u32,
    /// Whether it is running.
    pub running: bool,
}

/// A pod as the kubelet API sees it.
#[derive(Clone, Default)]
pub(crate) struct View {
    /// Its sandbox.
    pub shim: Option<Shim>,
    /// Its containers.
    pub containers: BTreeMap<String, ContainerView>,
    /// Images in use.
    pub images: Vec<image::Digest>,
}

/// The end of a job.
enum Done {
    Connected(Result<(Shim, Vec<ContainerState>), String>),
    Launched(Result<(Shim, Vec<std::net::IpAddr>), String>),
    Volumes(Result<Volumes, VolumeError>, bool),
    Pulled(String, Result<(Image, Had), Refused>),
    Started(String, u32, Result<jobs::Up, jobs::StartError>),
    Reaped(String, Exit),
    Killed(String),
    States(Vec<ContainerState>),
    ShimGone,
    TornDown(Result<(), String>),
    Written(jobs::Written),
    Finalised(Result<(), String>),
}

struct KillHandle {
    deadline: watch::Sender<Instant>,
}

/// The worker.
pub(crate) struct Worker {
    shared: SharedRef,
    uid: String,
    pod: Arc<Pod>,
    gone: bool,
    state: PodState,
    shim: Option<Shim>,
    shim_events: Option<broadcast::Receiver<ContainerState>>,
    shim_watch: Option<AbortHandle>,
    volumes: Volumes,
    tokens: Arc<Tokens>,
    updating_volumes: bool,
    update_volumes_at: Option<Timestamp>,
    images: HashMap<String, Image>,
    jobs: JoinSet<Done>,
    updates: watch::Receiver<Update>,
    reports: (mpsc::Sender<Report>, mpsc::Receiver<Report>),
    probers: HashMap<String, AbortHandle>,
    kills: HashMap<String, KillHandle>,
    exited: HashMap<String, CancellationToken>,
    early_exits: HashMap<String, ContainerState>,
    reaping: HashSet<String>,
    hooks: CancellationToken,
    stop_deadline: Option<Instant>,
    written: PodStatus,
    frozen: bool,
    writing: bool,
    write_at: Option<Instant>,
    lost: bool,
    finalising: bool,
    finalised: bool,
    ref_changes: Arc<Notify>,
    interest: Option<Interest>,
    view: watch::Sender<Arc<View>>,
}

impl Worker {
    /// For a pod that the API has bound to this node.
    pub(crate) fn new(
        shared: SharedRef,
        updates: watch::Receiver<Update>,
        view: watch::Sender<Arc<View>>,
    ) -> Self {
        let first = updates.borrow().clone();
        let pod = first.pod;
        let written = pod.status.clone().unwrap_or_default();
        Self {
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            gone: first.gone,
            state: PodState {
                rejected: first.rejected,
                ..PodState::default()
            },
            shim: None,
            shim_events: None,
            shim_watch: None,
            volumes: Volumes::default(),
            tokens: Arc::default(),
            updating_volumes: false,
            update_volumes_at: None,
            images: HashMap::new(),
            jobs: JoinSet::new(),
            updates,
            reports: mpsc::channel(16),
            probers: HashMap::new(),
            kills: HashMap::new(),
            exited: HashMap::new(),
            early_exits: HashMap::new(),
            reaping: HashSet::new(),
            hooks: CancellationToken::new(),
            stop_deadline: None,
            frozen: status::terminal(written.phase.as_deref()),
            written,
            writing: false,
            write_at: None,
            lost: false,
            finalising: false,
            finalised: false,
            ref_changes: Arc::default(),
            interest: None,
            view,
            shared,
            pod,
        }
    }

    /// Works until the pod is gone from the API and the host, or the node drains.
    pub(crate) async fn run(mut self) {
        let drain = self.shared.config.drain.clone();
        self.begin();
        loop {
            let wake = self.advance();
            if self.gone && self.state.torn_down {
                jobs::remove_logs(&self.shared, &self.pod).await;
                return;
            }
            tokio::select! {
                () = drain.cancelled() => return,
                Some(done) = self.jobs.join_next() => match done {
                    Ok(done) => self.apply(done),
                    Err(error) if error.is_panic() => {
                        tracing::error!(pod = pod_words(&self.pod), %error, "a job of the pod panicked");
                    }
                    Err(_) => {}
                },
                changed = self.updates.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let update = self.updates.borrow_and_update().clone();
                    self.update(update);
                }
                event = next_event(&mut self.shim_events) => match event {
                    Ok(event) => self.runtime_event(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => self.resync(),
                    Err(broadcast::error::RecvError::Closed) => self.shim_events = None,
                },
                Some(report) = self.reports.1.recv() => self.report(report),
                () = self.ref_changes.notified() => self.references_changed(),
                () = sleep_until(wake) => {}
            }
        }
    }

    /// Observes, plans and begins until there is nothing more to begin; returns when to wake.
    fn advance(&mut self) -> Option<Instant> {
        let mut wake = self.observe();
        // Each round marks what it begins; the bound only guards against a mistake in that.
        for _ in 0..16 {
            let plan = plan::plan(&self.pod, &self.state, Timestamp::now());
            wake = earliest(wake, plan.wake_at);
            if plan.actions.is_empty() {
                break;
            }
            for action in plan.actions {
                match action {
                    Action::LaunchSandbox => self.launch(),
                    Action::PrepareVolumes => self.prepare_volumes(false),
                    Action::Pull(name) => self.pull(&name),
                    Action::Start(name, restart) => self.start(&name, restart),
                    Action::Kill(name, reason) => self.kill(&name, &reason),
                    Action::TearDown => self.tear_down(),
                }
            }
        }
        self.publish_view();
        let status_wake = self.publish_status();
        self.finalise();
        let wake = wake.map(instant);
        [wake, status_wake].into_iter().flatten().min()
    }

    /// Turns facts outside of the state into state; returns when to look again.
    fn observe(&mut self) -> Option<Timestamp> {
        let now = Timestamp::now();
        self.observe_stop(now);
        let mut wake = None;
        let names: Vec<String> = self.state.containers.keys().cloned().collect();
        for name in names {
            self.flip_image_reason(&name, now);
        }
        if self.state.stop.is_none() && self.state.volumes == Step::Done && !self.updating_volumes {
            let due = [self.volumes.refresh_at, self.update_volumes_at]
                .into_iter()
                .flatten()
                .min();
            match due {
                Some(at) if at <= now => self.prepare_volumes(true),
                at => wake = earliest(wake, at),
            }
        }
        wake
    }

    fn observe_stop(&mut self, now: Timestamp) {
        let meta = &self.pod.metadata;
        let deleted = meta.deletion_timestamp.is_some() || self.gone;
        let spec_grace = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds);
        let grace = meta
            .deletion_grace_period_seconds
            .or(spec_grace)
            .unwrap_or(DEFAULT_GRACE_SECS)
            .max(0);
        if deleted {
            match &mut self.state.stop {
                None => {
                    self.state.stop = Some(Stop {
                        grace_secs: grace,
                        reason: None,
                        message: None,
                    });
                    self.stop_begins(grace);
                }
                Some(stop) if grace < stop.grace_secs => {
                    stop.grace_secs = grace;
                    self.stop_begins(grace);
                }
                Some(_) => {}
            }
            return;
        }
        let over = plan::active_deadline(&self.pod, &self.state).is_some_and(|at| at <= now);
        let running =
            !self.frozen && plan::outcome(&plan::desired(&self.pod), &self.state).is_none();
        if over && running && self.state.stop.is_none() && self.state.rejected.is_none() {
            let message = "Pod was active on the node longer than the specified deadline";
            let grace = spec_grace.unwrap_or(DEFAULT_GRACE_SECS);
            self.state.stop = Some(Stop {
                grace_secs: grace,
                reason: Some("DeadlineExceeded".into()),
                message: Some(message.into()),
            });
            self.stop_begins(grace);
            self.event(
                None,
                EventType::Normal,
                "DeadlineExceeded",
                message.to_owned(),
            );
        }
    }

    fn stop_begins(&mut self, grace_secs: i64) {
        let deadline = Instant::now() + Duration::from_secs(u64::try_from(grace_secs).unwrap_or(0));
        let deadline = self.stop_deadline.map_or(deadline, |d| d.min(deadline));
        self.stop_deadline = Some(deadline);
        self.hooks.cancel();
        for kill in self.kills.values() {
            kill.deadline.send_if_modified(|d| {
                let sooner = deadline < *d;
                *d = (*d).min(deadline);
                sooner
            });
        }
    }

    fn flip_image_reason(&mut self, name: &str, now: Timestamp) {
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        let ImageStep::Failed {
            reason,
            message,
            flip_at,
            ..
        } = &mut record.image
        else {
            return;
        };
        if reason != "ErrImagePull" || *flip_at > now {
            return;
        }
        let image = crate::container::find(&self.pod, name)
            .and_then(|c| c.image)
            .unwrap_or_default();
        let text = format!("Back-off pulling image \"{image}\"");
        *message = format!("{text}: {reason}: {message}");
        *reason = "ImagePullBackOff".to_owned();
        self.event(Some(name), EventType::Normal, "BackOff", text);
        let text = "Error: ImagePullBackOff".to_owned();
        self.event(Some(name), EventType::Warning, "Failed", text);
    }

    fn update(&mut self, update: Update) {
        self.gone |= update.gone;
        let old = std::mem::replace(&mut self.pod, update.pod);
        if update.rejected.is_some() && self.state.rejected.is_none() {
            self.state.rejected = update.rejected;
        }
        let shown = |p: &Pod| (p.metadata.labels.clone(), p.metadata.annotations.clone());
        if shown(&old) != shown(&self.pod) && self.shows_metadata() {
            self.references_changed();
        }
        if old.metadata.generation != self.pod.metadata.generation {
            self.images_changed(&old);
        }
    }

    /// A container whose image was changed in place is restarted.
    fn images_changed(&mut self, old: &Pod) {
        let names: Vec<String> = self.state.containers.keys().cloned().collect();
        for name in names {
            let image = |p: &Pod| crate::container::find(p, &name).and_then(|c| c.image);
            if image(old) == image(&self.pod) {
                continue;
            }
            if let Some(record) = self.state.containers.get_mut(&name) {
                if matches!(record.run, Run::Running { .. }) {
                    record.unhealthy = Some(format!(
                        "Container {name} definition changed, will be restarted"
                    ));
                }
                record.image = ImageStep::Todo;
            }
        }
    }

    fn shows_metadata(&self) -> bool {
        let Some(spec) = &self.pod.spec else {
            return false;
        };
        spec.volumes
            .iter()
            .flatten()
            .any(|v| v.downward_api.is_some() || v.projected.is_some())
    }

    /// A referenced object (or the pod's own metadata) has changed: update what shows it.
    fn references_changed(&mut self) {
        let now = Timestamp::now();
        if let Step::Failed { retry_at, .. } = &mut self.state.volumes {
            *retry_at = now;
        } else {
            self.update_volumes_at = Some(now);
        }
        for record in self.state.containers.values_mut() {
            if let Run::Waiting { retry_at, .. } = &mut record.run {
                *retry_at = now;
            }
        }
    }

    fn event(&self, container: Option<&str>, kind: EventType, reason: &str, message: String) {
        self.shared
            .event(&self.pod, container, kind, reason, message);
    }

    fn publish_view(&self) {
        let mut view = View {
            shim: self.shim.clone(),
            ..View::default()
        };
        view.images = self.images.values().map(|i| i.id).collect();
        for (name, record) in &self.state.containers {
            if record.id.is_empty() {
                continue;
            }
            let running = matches!(record.run, Run::Running { .. });
            let attempt = record.restarts;
            let one = ContainerView {
                id: record.id.clone(),
                attempt,
                running,
            };
            view.containers.insert(name.clone(), one);
        }
        self.view.send_if_modified(|old| {
            let changed = old.containers != view.containers
                || old.shim.is_some() != view.shim.is_some()
                || old.images != view.images;
            if changed {
                *old = Arc::new(view);
            }
            changed
        });
    }

    /// Begins a status write if one is due; returns when to look again.
    fn publish_status(&mut self) -> Option<Instant> {
        if self.writing || self.gone || self.lost || self.frozen {
            return None;
        }
        let now = Instant::now();
        let next = status::status(
            &self.pod,
            &self.state,
            &self.shared.config.node_ips,
            &self.written,
            Timestamp::now(),
        );
        if next == self.written {
            self.write_at = None;
            return None;
        }
        let starting = self.state.stop.is_none()
            && (self.state.sandbox == Step::Busy
                || self.state.volumes == Step::Busy
                || self
                    .state
                    .containers
                    .values()
                    .any(|r| r.run == Run::Starting));
        let at = *self
            .write_at
            .get_or_insert(if starting { now + COALESCE } else { now });
        if starting && at > now {
            return Some(at);
        }
        if at > now + COALESCE {
            // A failed write waits for its retry.
            return Some(at);
        }
        self.write_at = None;
        self.writing = true;
        let job = jobs::write_status(
            Arc::clone(&self.shared),
            (*self.pod).clone(),
            self.written.clone(),
            next,
        );
        self.jobs.spawn(async move { Done::Written(job.await) });
        None
    }

    /// Removes a deleted pod from the API once all is gone and its last status is written.
    fn finalise(&mut self) {
        let due = self.state.torn_down
            && self.pod.metadata.deletion_timestamp.is_some()
            && !(self.writing || self.gone || self.finalising || self.finalised)
            && self.write_at.is_none();
        if !due {
            return;
        }
        self.finalising = true;
        let job = jobs::finalise(Arc::clone(&self.shared), (*self.pod).clone());
        self.jobs.spawn(async move {
            let result = job.await;
            if result.is_err() {
                tokio::time::sleep(WRITE_RETRY).await;
            }
            Done::Finalised(result)
        });
    }

    /// Watches referenced objects from now on.
    fn watch_references(&mut self) {
        if self.interest.is_none() {
            let refs = refs::of(&self.pod);
            self.interest = Some(self.shared.refs.watch(refs, &self.ref_changes));
        }
    }

    fn stop_probing(&mut self, name: &str) {
        if let Some(prober) = self.probers.remove(name) {
            prober.abort();
        }
    }

    fn probe(&mut self, name: &str, started: Instant) {
        self.stop_probing(name);
        let (Some(container), Some(shim)) =
            (crate::container::find(&self.pod, name), self.shim.clone())
        else {
            return;
        };
        let none = container.startup_probe.is_none()
            && container.liveness_probe.is_none()
            && container.readiness_probe.is_none();
        let Some(record) = self.state.containers.get(name).filter(|_| !none) else {
            return;
        };
        let probed = probe::Probed {
            id: record.id.clone(),
            ip: self.state.ips.first().copied(),
            container,
            shim,
            started,
        };
        let reports = self.reports.0.clone();
        let task = tokio::spawn(probe::run(probed, reports));
        self.probers.insert(name.to_owned(), task.abort_handle());
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        for prober in self.probers.values() {
            prober.abort();
        }
        if let Some(watch) = &self.shim_watch {
            watch.abort();
        }
    }
}

fn earliest(a: Option<Timestamp>, b: Option<Timestamp>) -> Option<Timestamp> {
    [a, b].into_iter().flatten().min()
}

fn instant(at: Timestamp) -> Instant {
    let left = at.duration_since(Timestamp::now());
    // A little late rather than a little early, or the plan would find nothing to do.
    Instant::now() + Duration::try_from(left).unwrap_or_default() + Duration::from_millis(1)
}

async fn next_event(
    events: &mut Option<broadcast::Receiver<ContainerState>>,
) -> Result<ContainerState, broadcast::error::RecvError> {
    match events {
        Some(events) => events.recv().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
