//! The beginning of each action: marks it in the state and hands the work to a job.
//!
//! Invariant: after an action has begun, the plan does not ask for it again.

use std::{sync::Arc, time::Duration};

use client::EventType;
use jiff::Timestamp;
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{DEFAULT_GRACE_SECS, Done, KillHandle, Worker, jobs};
use crate::{
    container,
    plan::KillReason,
    pull::Had,
    state::{ImageStep, Run, Step},
    volumes::{self, fetch::Fetch},
};

impl Worker {
    pub(super) fn launch(&mut self) {
        self.state.sandbox = Step::Busy;
        let job = jobs::launch(Arc::clone(&self.shared), (*self.pod).clone());
        self.jobs
            .spawn(async move { Done::Launched(job.await.map_err(|e| stdx::chain(&e))) });
    }

    pub(super) fn prepare_volumes(&mut self, update: bool) {
        if update {
            self.updating_volumes = true;
            self.update_volumes_at = None;
        } else {
            self.state.volumes = Step::Busy;
        }
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let dir = shared.pod_dir(&self.uid).join("volumes");
        let downward = shared.downward(&self.state.ips);
        let tokens = Arc::clone(&self.tokens);
        self.jobs.spawn(async move {
            let begun = Instant::now();
            let made =
                volumes::prepare(&shared.config.client, &pod, &dir, &downward, &tokens).await;
            tracing::debug!(
                pod = crate::identity::pod_words(&pod),
                ready_ms = begun.elapsed().as_millis(),
                update,
                "volumes made"
            );
            Done::Volumes(made, update)
        });
    }

    pub(super) fn pull(&mut self, name: &str) {
        let Some(spec) = container::find(&self.pod, name) else {
            return;
        };
        let record = self.state.containers.entry(name.to_owned()).or_default();
        if let Some(image) = self.shared.puller.present(&spec) {
            record.image = ImageStep::Ready {
                id: image.id.to_string(),
            };
            self.images.insert(name.to_owned(), image);
            let shown = spec.image.unwrap_or_default();
            let text = format!("Container image \"{shown}\" already present on machine");
            self.event(Some(name), EventType::Normal, "Pulled", text);
            return;
        }
        record.image = ImageStep::Busy;
        let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(&self.pod));
        let name = name.to_owned();
        self.jobs.spawn(async move {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
            let fetch = Fetch::new(shared.config.client.clone(), namespace);
            let shown = spec.image.clone().unwrap_or_default();
            let pulling = || {
                let text = format!("Pulling image \"{shown}\"");
                shared.event(&pod, Some(&name), EventType::Normal, "Pulling", text);
            };
            let had = shared.puller.ensure(&pod, &spec, &fetch, pulling).await;
            if let Ok((image, how)) = &had {
                let text = match how {
                    Had::Present => format!("Container image \"{shown}\" already present on machine"),
                    Had::Pulled { took, with_wait } => format!(
                        "Successfully pulled image \"{shown}\" in {} ({} including waiting). Image size: {} bytes.",
                        crate::pull::go_millis(*took),
                        crate::pull::go_millis(*with_wait),
                        image.size_bytes
                    ),
                };
                shared.event(&pod, Some(&name), EventType::Normal, "Pulled", text);
            }
            Done::Pulled(name, had)
        });
    }

    pub(super) fn start(&mut self, name: &str, restart: bool) {
        let found = (
            container::find(&self.pod, name),
            self.images.get(name).cloned(),
            self.shim.clone(),
        );
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        let (Some(spec), Some(image), Some(shim)) = found else {
            // The image is known by its id only, after an adoption.
            record.image = ImageStep::Todo;
            return;
        };
        if let Run::Exited(exit) = std::mem::replace(&mut record.run, Run::Starting) {
            record.last = Some(exit);
        }
        if restart {
            record.backoff = record.backoff.next(Timestamp::now());
        }
        let attempt = record.next_attempt;
        record.next_attempt += 1;
        record.begun = true;
        record.unhealthy = None;
        record.stopping = false;
        record.started = false;
        record.ready = false;
        self.exited
            .insert(name.to_owned(), CancellationToken::new());
        let start = jobs::Start {
            shared: Arc::clone(&self.shared),
            pod: (*self.pod).clone(),
            container: spec,
            image,
            attempt,
            shim,
            ips: self.state.ips.clone(),
            volumes: self.volumes.paths.clone(),
            cancel: self.hooks.clone(),
        };
        let name = name.to_owned();
        self.jobs
            .spawn(async move { Done::Started(name, attempt, start.run().await) });
    }

    pub(super) fn kill(&mut self, name: &str, reason: &KillReason) {
        let spec_grace = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.termination_grace_period_seconds);
        let (Some(spec), Some(shim)) = (container::find(&self.pod, name), self.shim.clone()) else {
            // Not connected yet: the adoption asks again.
            if let Some(record) = self.state.containers.get_mut(name) {
                record.stopping = true;
            }
            return;
        };
        let signal = self.stop_signal(name, &spec);
        let Some(record) = self.state.containers.get_mut(name) else {
            return;
        };
        record.stopping = true;
        let id = record.id.clone();
        let grace = match reason {
            KillReason::Unhealthy(_) => {
                let probes = [&spec.liveness_probe, &spec.startup_probe];
                let own = probes
                    .iter()
                    .find_map(|p| p.as_ref()?.termination_grace_period_seconds);
                own.or(spec_grace)
            }
            KillReason::Stop | KillReason::Done => spec_grace,
        };
        let secs = u64::try_from(grace.unwrap_or(DEFAULT_GRACE_SECS)).unwrap_or(0);
        let deadline = match (reason, self.stop_deadline) {
            (KillReason::Stop, Some(at)) => at,
            _ => Instant::now() + Duration::from_secs(secs),
        };
        let text = match reason {
            KillReason::Unhealthy(words) => words.clone(),
            KillReason::Stop | KillReason::Done => format!("Stopping container {name}"),
        };
        self.event(Some(name), EventType::Normal, "Killing", text);
        let (deadline, receiver) = watch::channel(deadline);
        self.kills.insert(name.to_owned(), KillHandle { deadline });
        let kill = jobs::Kill {
            shared: Arc::clone(&self.shared),
            pod: (*self.pod).clone(),
            container: spec,
            id,
            shim,
            signal,
            ip: self.state.ips.first().copied(),
            deadline: receiver,
            exited: self.exited.entry(name.to_owned()).or_default().clone(),
        };
        let name = name.to_owned();
        self.jobs.spawn(async move {
            kill.run().await;
            Done::Killed(name)
        });
    }

    fn stop_signal(&self, name: &str, spec: &k8s_openapi::api::core::v1::Container) -> i32 {
        let own = spec.lifecycle.as_ref().and_then(|l| l.stop_signal.clone());
        let image = self
            .images
            .get(name)
            .and_then(|i| i.config.config().as_ref()?.stop_signal().clone());
        own.or(image)
            .and_then(|s| parse_signal(&s))
            .unwrap_or(nix::libc::SIGTERM)
    }

    pub(super) fn tear_down(&mut self) {
        self.state.tearing_down = true;
        let names: Vec<String> = self.probers.keys().cloned().collect();
        for name in names {
            self.stop_probing(&name);
        }
        let ids = self
            .state
            .containers
            .values()
            .map(|r| r.id.clone())
            .filter(|id| !id.is_empty());
        let job = jobs::tear_down(
            Arc::clone(&self.shared),
            (*self.pod).clone(),
            self.shim.take(),
            ids.collect(),
        );
        self.shim_events = None;
        if let Some(watch) = self.shim_watch.take() {
            watch.abort();
        }
        self.interest = None;
        self.jobs.spawn(async move { Done::TornDown(job.await) });
    }
}

/// `SIGTERM`, `TERM`, `15`, `RTMIN+3`.
fn parse_signal(text: &str) -> Option<i32> {
    if let Ok(number) = text.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let upper = text.to_uppercase();
    let full = if upper.starts_with("SIG") {
        upper
    } else {
        format!("SIG{upper}")
    };
    if let Some(rest) = full.strip_prefix("SIGRTMIN") {
        let offset = rest.strip_prefix('+').unwrap_or("0").parse::<i32>().ok()?;
        return (0..=30).contains(&offset).then_some(34 + offset);
    }
    full.parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|s| s as i32)
}
