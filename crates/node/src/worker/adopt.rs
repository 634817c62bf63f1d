//! The beginning of a worker: a new pod, or one that outlived the node's last run.
//!
//! Invariant: what the shim says counts more than what the API remembers; what the
//! API remembers counts more than nothing.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStateTerminated, ContainerStatus};
use runtime::{ContainerState, Shim};
use tokio::time::Instant;

use super::{Done, Worker, apply::running_since, exit};
use crate::{
    container, plan,
    state::{ContainerRecord, CrashBackoff, Exit, Run, Step},
    status::SCHEME,
};

impl Worker {
    /// Decides between a start from nothing, an adoption, and a pod that is over.
    pub(super) fn begin(&mut self) {
        let status = self.pod.status.clone().unwrap_or_default();
        let now = Timestamp::now();
        let since = status
            .start_time
            .as_ref()
            .map_or(super::status::whole_second(now), |t| t.0);
        self.state.start_time = Some(since);
        for d in plan::desired(&self.pod) {
            self.state.containers.entry(d.name).or_default();
        }
        let all = [
            &status.init_container_statuses,
            &status.container_statuses,
            &status.ephemeral_container_statuses,
        ];
        for s in all.into_iter().flat_map(|l| l.iter().flatten()) {
            if let Some(record) = self.state.containers.get_mut(&s.name) {
                recall(record, s, now);
            }
        }
        let dir = self.shared.shim_dir(&self.uid);
        let left = dir.exists() || self.shared.pod_dir(&self.uid).exists();
        if self.frozen || self.state.rejected.is_some() {
            // Over before: only what is left on the host has to go.
            if left {
                self.tear_down();
            } else {
                self.state.torn_down = true;
            }
            return;
        }
        if dir.exists() {
            self.state.sandbox = Step::Busy;
            self.jobs
                .spawn(async move { Done::Connected(connect(&dir).await) });
        } else {
            self.sandbox_is_new();
        }
    }

    pub(super) fn connected(&mut self, result: Result<(Shim, Vec<ContainerState>), String>) {
        let (shim, states) = match result {
            Ok(found) => found,
            Err(error) => {
                tracing::warn!(pod = self.uid, error, "the pod's shim cannot be reached");
                self.state.sandbox = Step::Todo;
                self.sandbox_is_new();
                return;
            }
        };
        self.state.ips = if super::jobs::host_network(&self.pod) {
            self.shared.config.node_ips.clone()
        } else {
            self.shared
                .config
                .network
                .address(&self.uid)
                .unwrap_or_default()
        };
        if self.state.ips.is_empty() {
            // Launched, but its network was not attached: begin again.
            self.state.sandbox = Step::Todo;
            self.sandbox_is_new();
            return;
        }
        self.attach_shim(shim);
        self.state.sandbox = Step::Done;
        let mut newest: std::collections::BTreeMap<String, ContainerState> = Default::default();
        for s in states {
            let slot = newest.entry(s.name.clone()).or_insert_with(|| s.clone());
            if s.attempt > slot.attempt {
                *slot = s;
            }
        }
        for (name, record) in &mut self.state.containers {
            if matches!(record.run, Run::Running { .. }) && !newest.contains_key(name) {
                record.run = Run::Exited(exit::unknown(record.id.clone()));
            }
            record.begun = newest.contains_key(name);
        }
        for (name, s) in newest {
            self.adopt_container(&name, s);
        }
        self.watch_references();
    }

    fn adopt_container(&mut self, name: &str, s: ContainerState) {
        let spec = container::find(&self.pod, name);
        let image = spec
            .as_ref()
            .and_then(|c| image::Reference::parse(c.image.as_deref()?).ok())
            .and_then(|r| self.shared.config.images.get(&r.name()));
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        let known = record.id == s.id;
        let ended_before = known && matches!(record.run, Run::Exited(_));
        if !known && let Run::Exited(exit) = &record.run {
            record.last = Some(exit.clone());
        }
        record.stopping = false;
        record.restarts = s.attempt;
        record.next_attempt = s.attempt + 1;
        record.id = s.id.clone();
        record.backoff = CrashBackoff::after_restarts(s.attempt, Timestamp::now());
        if let Some(image) = image {
            record.image_id = super::apply::image_reference(&image);
            self.images.insert(name.to_owned(), image);
        }
        if ended_before {
            return;
        }
        let exited = s.state.is_exited();
        let since = running_since(&s.state).unwrap_or_else(Timestamp::now);
        let quiet = |probe: bool, before: bool| !probe || before;
        let (startup, readiness) = spec.as_ref().map_or((false, false), |c| {
            (c.startup_probe.is_some(), c.readiness_probe.is_some())
        });
        record.run = Run::Running { started_at: since };
        record.started = quiet(startup, known && record.started);
        record.ready = quiet(readiness, known && record.ready);
        self.exited.insert(name.to_owned(), Default::default());
        if exited {
            self.reap(s);
        } else {
            self.probe(name, Instant::now());
        }
    }
}

async fn connect(dir: &std::path::Path) -> Result<(Shim, Vec<ContainerState>), String> {
    let shim = Shim::connect(dir).await.map_err(|e| stdx::chain(&e))?;
    let states = shim.states().await.map_err(|e| stdx::chain(&e))?;
    Ok((shim, states))
}

/// What the API remembers of a container.
fn recall(record: &mut ContainerRecord, s: &ContainerStatus, now: Timestamp) {
    let id = |text: &Option<String>| {
        text.as_deref()
            .and_then(|t| t.strip_prefix(SCHEME))
            .unwrap_or_default()
            .to_owned()
    };
    let ended = |t: &ContainerStateTerminated| Exit {
        code: t.exit_code,
        reason: t.reason.clone().unwrap_or_default(),
        message: t.message.clone(),
        started_at: t.started_at.as_ref().map(|t| t.0),
        finished_at: t.finished_at.as_ref().map_or(now, |t| t.0),
        id: id(&t.container_id),
    };
    record.id = id(&s.container_id);
    record.image_id.clone_from(&s.image_id);
    record.restarts = u32::try_from(s.restart_count).unwrap_or(0);
    record.last = s
        .last_state
        .as_ref()
        .and_then(|l| l.terminated.as_ref())
        .map(ended);
    let state = s.state.clone().unwrap_or_default();
    if let Some(t) = &state.terminated {
        record.run = Run::Exited(ended(t));
    } else if let Some(r) = &state.running {
        // Until the shim says otherwise.
        record.run = Run::Running {
            started_at: r.started_at.as_ref().map_or(now, |t| t.0),
        };
    } else if let Some(last) = record.last.take_if(|_| !record.id.is_empty()) {
        // It was waiting for a restart.
        record.run = Run::Exited(last);
    }
    if !record.id.is_empty() {
        record.next_attempt = record.restarts + 1;
        record.backoff = CrashBackoff::after_restarts(record.restarts, now);
    }
    record.started = s.started == Some(true);
    record.ready = s.ready;
}
