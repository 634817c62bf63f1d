//! What the ends of jobs, the events of the shim and the reports of probes change.
//!
//! Invariant: a report about an earlier run than the present one changes nothing.

use std::sync::Arc;

use client::EventType;
use jiff::{SignedDuration, Timestamp};
use runtime::{ContainerState, Shim, State};
use tokio::time::Instant;

use super::{Done, RETRY, WRITE_RETRY, Worker, exit, jobs};
use crate::{
    container,
    identity::pod_words,
    plan,
    probe::{Kind, News, Report},
    pull::Refused,
    state::{Exit, ImageStep, Run, Step},
    status,
};

/// When `ErrImagePull` becomes `ImagePullBackOff`.
const FLIP: SignedDuration = SignedDuration::from_secs(1);

impl Worker {
    pub(super) fn apply(&mut self, done: Done) {
        match done {
            Done::Connected(result) => self.connected(result),
            Done::Launched(Ok((shim, ips))) => {
                self.state.ips = ips;
                self.attach_shim(shim);
                self.state.sandbox = Step::Done;
            }
            Done::Launched(Err(message)) => {
                let text = format!("Failed to create pod sandbox: {message}");
                self.event(None, EventType::Warning, "FailedCreatePodSandBox", text);
                self.state.sandbox = Step::Failed {
                    retry_at: Timestamp::now() + RETRY,
                    message,
                };
            }
            Done::Volumes(result, update) => self.volumes_made(result, update),
            Done::Pulled(name, Ok((image, _))) => {
                if let Some(record) = self.state.containers.get_mut(&name) {
                    record.image = ImageStep::Ready {
                        id: image.id.to_string(),
                    };
                    record.pull_backoff = Default::default();
                }
                self.images.insert(name, image);
            }
            Done::Pulled(name, Err(refused)) => self.pull_failed(&name, refused),
            Done::Started(name, attempt, result) => self.started(&name, attempt, result),
            Done::Reaped(name, exit) => self.reaped(&name, exit),
            Done::Killed(name) => {
                self.kills.remove(&name);
                if let Some(record) = self.state.containers.get_mut(&name) {
                    // Still there: the plan will ask for it again.
                    record.stopping &= !matches!(record.run, Run::Running { .. })
                        || self.reaping.contains(&record.id);
                }
            }
            Done::States(states) => states.into_iter().for_each(|s| self.runtime_event(s)),
            Done::ShimGone => self.shim_lost(),
            Done::TornDown(Ok(())) => {
                self.state.tearing_down = false;
                self.state.torn_down = true;
                self.state.sandbox = Step::Todo;
            }
            Done::TornDown(Err(error)) => {
                tracing::warn!(
                    pod = pod_words(&self.pod),
                    error,
                    "tear-down failed; trying again"
                );
                let again = jobs::tear_down(
                    Arc::clone(&self.shared),
                    (*self.pod).clone(),
                    None,
                    Vec::new(),
                );
                self.jobs.spawn(async move {
                    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
                    Done::TornDown(again.await)
                });
            }
            Done::Written(written) => self.status_written(written),
            Done::Finalised(result) => {
                self.finalising = false;
                match result {
                    Ok(()) => self.finalised = true,
                    Err(error) => {
                        tracing::warn!(
                            pod = pod_words(&self.pod),
                            error,
                            "pod not removed from the API"
                        );
                    }
                }
            }
        }
    }

    fn status_written(&mut self, written: jobs::Written) {
        self.writing = false;
        match written {
            jobs::Written::Done(status) => {
                self.frozen = false;
                self.written = *status;
                if self.state.torn_down && status::terminal(self.written.phase.as_deref()) {
                    tracing::debug!(pod = pod_words(&self.pod), "last status written");
                }
            }
            jobs::Written::Gone => self.lost = true,
            jobs::Written::Failed(error) => {
                tracing::warn!(pod = pod_words(&self.pod), error, "status not written");
                self.write_at = Some(Instant::now() + WRITE_RETRY);
            }
        }
    }

    /// Listens to a shim from now on.
    pub(super) fn attach_shim(&mut self, shim: Shim) {
        self.shim_events = Some(shim.events());
        if let Some(watch) = self.shim_watch.take() {
            watch.abort();
        }
        let watched = shim.clone();
        let watch = self.jobs.spawn(async move {
            watched.closed().await;
            Done::ShimGone
        });
        self.shim_watch = Some(watch);
        self.shim = Some(shim);
    }

    /// The sandbox died under us: everything in it is gone.
    fn shim_lost(&mut self) {
        if self.state.tearing_down || self.state.torn_down || self.shim.is_none() {
            return;
        }
        tracing::warn!(pod = pod_words(&self.pod), "the pod's shim is gone");
        self.shim = None;
        self.shim_events = None;
        self.shim_watch = None;
        self.state.sandbox = Step::Todo;
        self.state.ips.clear();
        let text = "Pod sandbox changed, it will be killed and re-created.".to_owned();
        self.event(None, EventType::Normal, "SandboxChanged", text);
        self.sandbox_is_new();
    }

    /// Containers that were alive are not any more; init containers run again.
    pub(super) fn sandbox_is_new(&mut self) {
        let desired = plan::desired(&self.pod);
        for d in &desired {
            self.stop_probing(&d.name);
            let Some(record) = self.state.containers.get_mut(&d.name) else {
                continue;
            };
            record.begun = false;
            record.stopping = false;
            if matches!(record.run, Run::Running { .. }) {
                record.run = Run::Exited(exit::unknown(record.id.clone()));
                if let Some(exited) = self.exited.get(&d.name) {
                    exited.cancel();
                }
            }
            if d.role == plan::Role::Init
                && let Run::Exited(exit) = std::mem::take(&mut record.run)
            {
                record.last = Some(exit);
            }
        }
    }

    /// Asks the shim for everything after events were missed.
    pub(super) fn resync(&mut self) {
        let Some(shim) = self.shim.clone() else {
            return;
        };
        self.jobs.spawn(async move {
            match shim.states().await {
                Ok(states) => Done::States(states),
                Err(_) => Done::ShimGone,
            }
        });
    }

    fn volumes_made(
        &mut self,
        result: Result<crate::volumes::Volumes, crate::volumes::VolumeError>,
        update: bool,
    ) {
        if update {
            self.updating_volumes = false;
        }
        match result {
            Ok(volumes) => {
                self.volumes = volumes;
                self.state.volumes = Step::Done;
            }
            Err(error) => {
                let retry_at = Timestamp::now() + RETRY;
                // What the pod waits for may appear.
                self.watch_references();
                let message = error.to_string();
                if update {
                    self.update_volumes_at = Some(retry_at + SignedDuration::from_secs(8));
                } else {
                    self.state.volumes = Step::Failed {
                        retry_at,
                        message: message.clone(),
                    };
                }
                self.event(None, EventType::Warning, "FailedMount", message);
            }
        }
    }

    fn pull_failed(&mut self, name: &str, refused: Refused) {
        let now = Timestamp::now();
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        record.pull_backoff = record.pull_backoff.next(now);
        record.image = ImageStep::Failed {
            reason: refused.reason.to_owned(),
            message: refused.message.clone(),
            flip_at: now + FLIP,
            retry_at: now + SignedDuration::from_secs(record.pull_backoff.delay_secs()),
        };
        let image = container::find(&self.pod, name)
            .and_then(|c| c.image)
            .unwrap_or_default();
        let words = match refused.reason {
            "ErrImagePull" => format!("Failed to pull image \"{image}\": {}", refused.message),
            _ => refused.message,
        };
        let kind = if refused.reason == "InvalidImageName" {
            "InspectFailed"
        } else {
            "Failed"
        };
        let kind = if refused.reason == "ErrImageNeverPull" {
            "ErrImageNeverPull"
        } else {
            kind
        };
        self.event(Some(name), EventType::Warning, kind, words);
        self.event(
            Some(name),
            EventType::Warning,
            "Failed",
            format!("Error: {}", refused.reason),
        );
    }

    fn started(&mut self, name: &str, attempt: u32, result: Result<jobs::Up, jobs::StartError>) {
        let id = container::id(&self.uid, name, attempt);
        let image_id = self
            .images
            .get(name)
            .map(image_reference)
            .unwrap_or_default();
        let spec = container::find(&self.pod, name);
        let now = Timestamp::now();
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        match result {
            Ok(up) => {
                let probes = spec
                    .as_ref()
                    .map(|c| (c.startup_probe.is_none(), c.readiness_probe.is_none()));
                let (no_startup, no_readiness) = probes.unwrap_or((true, true));
                record.run = Run::Running {
                    started_at: up.started_at,
                };
                record.id = up.id;
                record.image_id = image_id;
                record.restarts = attempt;
                record.started = no_startup;
                record.ready = no_readiness;
                record.user = Some((
                    i64::from(up.who.uid),
                    i64::from(up.who.gid),
                    up.who.groups.iter().map(|g| i64::from(*g)).collect(),
                ));
                if up.hook_failed {
                    record.unhealthy = Some("FailedPostStartHook".to_owned());
                }
                self.watch_references();
                self.probe(name, Instant::now());
            }
            Err(jobs::StartError::Start(message)) => {
                record.id = id.clone();
                record.image_id = image_id;
                record.restarts = attempt;
                record.image = ImageStep::Todo;
                let exit = Exit {
                    code: 128,
                    reason: "StartError".into(),
                    message: Some(message),
                    started_at: Some(Timestamp::UNIX_EPOCH),
                    finished_at: now,
                    id: id.clone(),
                };
                let images = self.shared.config.images.clone();
                let snapshot = id.clone();
                tokio::task::spawn_blocking(move || images.release(&snapshot));
                self.ended(name, exit);
            }
            Err(error) => {
                // The attempt does not count.
                record.next_attempt = attempt;
                let (reason, message) = match error {
                    jobs::StartError::Config(m) => ("CreateContainerConfigError", m),
                    jobs::StartError::Create(m) | jobs::StartError::Start(m) => {
                        ("CreateContainerError", m)
                    }
                };
                record.begun = attempt > 0;
                record.run = Run::Waiting {
                    reason: reason.to_owned(),
                    message,
                    retry_at: now + SignedDuration::from_secs(5),
                };
                self.watch_references();
            }
        }
        if let Some(state) = self.early_exits.remove(&id) {
            self.runtime_event(state);
        }
    }

    pub(super) fn runtime_event(&mut self, event: ContainerState) {
        if !event.state.is_exited() {
            return;
        }
        let Some(record) = self.state.containers.get(&event.name) else {
            return;
        };
        match &record.run {
            Run::Starting if record.id != event.id => {
                self.early_exits.insert(event.id.clone(), event);
            }
            Run::Running { .. } if record.id == event.id => self.reap(event),
            _ => {}
        }
    }

    pub(super) fn reap(&mut self, event: ContainerState) {
        if !self.reaping.insert(event.id.clone()) {
            return;
        }
        if let Some(exited) = self.exited.get(&event.name) {
            exited.cancel();
        }
        self.stop_probing(&event.name);
        let Some(spec) = container::find(&self.pod, &event.name) else {
            return;
        };
        let name = event.name.clone();
        let job = exit::reap(
            Arc::clone(&self.shared),
            (*self.pod).clone(),
            spec,
            self.shim.clone(),
            event.id,
            event.attempt,
            event.state,
        );
        self.jobs
            .spawn(async move { Done::Reaped(name, job.await) });
    }

    fn reaped(&mut self, name: &str, exit: Exit) {
        self.reaping.remove(&exit.id);
        let current = self
            .state
            .containers
            .get(name)
            .is_some_and(|r| r.id == exit.id);
        if current {
            self.ended(name, exit);
        }
    }

    /// A run is over.
    fn ended(&mut self, name: &str, exit: Exit) {
        self.stop_probing(name);
        if let Some(exited) = self.exited.get(name) {
            exited.cancel();
        }
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        let waits = record.backoff.until(exit.finished_at).is_some();
        let desired = plan::desired(&self.pod);
        let again = self.state.stop.is_none()
            && desired.iter().any(|d| d.name == name && d.restarts(&exit));
        record.run = Run::Exited(exit);
        record.stopping = false;
        record.unhealthy = None;
        record.ready = false;
        record.started = false;
        // A restart looks at the image again: the policy may ask for a newer one.
        record.image = ImageStep::Todo;
        if again && waits && plan::outcome(&desired, &self.state).is_none() {
            let text = format!(
                "Back-off restarting failed container {name} in pod {}",
                pod_words(&self.pod)
            );
            self.event(Some(name), EventType::Warning, "BackOff", text);
        }
    }

    pub(super) fn report(&mut self, report: Report) {
        let name = report.container;
        let Some(record) = self
            .state
            .containers
            .get_mut(&name)
            .filter(|r| r.id == report.id)
        else {
            return;
        };
        match report.news {
            News::Started => record.started = true,
            News::Ready(ready) => record.ready = ready,
            News::Unhealthy(_) if self.state.stop.is_some() => {}
            News::Unhealthy(kind) => {
                let probe = kind.word().to_lowercase();
                record.unhealthy = Some(format!(
                    "Container {name} failed {probe} probe, will be restarted"
                ));
            }
            News::Failure(kind, words) => {
                if self.state.stop.is_some() && kind != Kind::Readiness {
                    return;
                }
                let text = format!("{} probe failed: {words}", kind.word());
                self.event(Some(&name), EventType::Warning, "Unhealthy", text);
            }
        }
    }
}

/// What `imageID` shows: the name with its digest, or else the id.
pub(super) fn image_reference(image: &image::Image) -> String {
    image
        .digests
        .first()
        .cloned()
        .unwrap_or_else(|| image.id.to_string())
}

/// Whether a state of the shim says that the container is there.
pub(super) fn running_since(state: &State) -> Option<Timestamp> {
    match state {
        State::Running { started_at_ns, .. } => Some(exit::time(*started_at_ns)),
        _ => None,
    }
}
