//! Liveness, readiness and startup probes.
//!
//! Invariants: one task a container; liveness and readiness wait for the startup
//! probe; only transitions are reported to the worker, failures also as events.

pub(crate) mod grpc;
pub(crate) mod http;

#[cfg(test)]
mod tests;

use std::{net::IpAddr, time::Duration};

use k8s_openapi::{
    api::core::v1::{Container, HTTPGetAction, Probe},
    apimachinery::pkg::util::intstr::IntOrString,
};
use runtime::Shim;
use tokio::{sync::mpsc, time::Instant};

use crate::exec::{self, Ended};

/// What probes call themselves.
pub(crate) const USER_AGENT: &str = "kube-probe/1.36";

/// Quiet attempts of a program that has just started, before the first one that counts.
const EARLY_MILLIS: [u64; 6] = [10, 30, 70, 150, 300, 600];

/// Which probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Restarts the container.
    Liveness,
    /// Decides over traffic.
    Readiness,
    /// Holds the others back.
    Startup,
}

impl Kind {
    /// As events spell it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Liveness => "Liveness",
            Self::Readiness => "Readiness",
            Self::Startup => "Startup",
        }
    }
}

/// A report to the worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Name of the container.
    pub container: String,
    /// Id of the run that was probed.
    pub id: String,
    /// What is new.
    pub news: News,
}

/// What a probe has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum News {
    /// The startup probe succeeded.
    Started,
    /// Readiness has changed.
    Ready(bool),
    /// A liveness or startup probe failed for good.
    Unhealthy(Kind),
    /// One failure, for the event.
    Failure(Kind, String),
}

/// Counts results against the thresholds.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    success_threshold: i32,
    failure_threshold: i32,
    run: i32,
    last: Option<bool>,
    verdict: Option<bool>,
}

impl Tally {
    /// For a probe's thresholds.
    pub(crate) fn new(probe: &Probe) -> Self {
        Self {
            success_threshold: probe.success_threshold.unwrap_or(1).max(1),
            failure_threshold: probe.failure_threshold.unwrap_or(3).max(1),
            run: 0,
            last: None,
            verdict: None,
        }
    }

    /// Counts one result; returns the verdict if it has changed.
    pub(crate) fn count(&mut self, success: bool) -> Option<bool> {
        if self.last == Some(success) {
            self.run += 1;
        } else {
            self.last = Some(success);
            self.run = 1;
        }
        let threshold = if success {
            self.success_threshold
        } else {
            self.failure_threshold
        };
        if self.run < threshold || self.verdict == Some(success) {
            return None;
        }
        self.verdict = Some(success);
        self.verdict
    }
}

/// What is probed.
#[derive(Clone)]
pub(crate) struct Probed {
    /// The container's spec.
    pub container: Container,
    /// Id of its run.
    pub id: String,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// How commands are run in it.
    pub shim: Shim,
    /// When it was started.
    pub started: Instant,
}

/// Runs all probes of one container run until dropped.
pub(crate) async fn run(probed: Probed, reports: mpsc::Sender<Report>) {
    let c = &probed.container;
    if let Some(probe) = &c.startup_probe {
        let probing = Probing {
            probed: &probed,
            kind: Kind::Startup,
            probe,
            reports: &reports,
        };
        if !probing.run().await {
            return;
        }
    }
    let one = |kind, probe: &Option<Probe>| {
        let probe = probe.clone();
        let (probed, reports) = (&probed, &reports);
        async move {
            if let Some(probe) = probe {
                Probing {
                    probed,
                    kind,
                    probe: &probe,
                    reports,
                }
                .run()
                .await;
            }
        }
    };
    tokio::join!(
        one(Kind::Liveness, &c.liveness_probe),
        one(Kind::Readiness, &c.readiness_probe)
    );
}

struct Probing<'a> {
    probed: &'a Probed,
    kind: Kind,
    probe: &'a Probe,
    reports: &'a mpsc::Sender<Report>,
}

fn seconds(value: Option<i32>, default: u64) -> Duration {
    let secs = value
        .and_then(|v| u64::try_from(v).ok())
        .filter(|v| *v > 0)
        .unwrap_or(default);
    Duration::from_secs(secs)
}

impl Probing<'_> {
    /// Probes until there is nothing more to say: true when a startup probe has succeeded.
    async fn run(&self) -> bool {
        let period = seconds(self.probe.period_seconds, 10);
        let delay = seconds(self.probe.initial_delay_seconds, 0);
        tokio::time::sleep_until(self.probed.started + delay).await;
        let mut tally = Tally::new(self.probe);
        let begun = Instant::now();
        if self.early(&mut tally, begun, period, delay).await && self.kind == Kind::Startup {
            return true;
        }
        let mut ticks = tokio::time::interval_at(begun + period, period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        if !self.quick() || !delay.is_zero() {
            // Nothing was tried early.
            ticks.reset_immediately();
        }
        loop {
            ticks.tick().await;
            let result = self.once().await;
            if let Err(words) = &result {
                self.report(News::Failure(self.kind, words.clone())).await;
            }
            if let Some(verdict) = tally.count(result.is_ok()) {
                match (self.kind, verdict) {
                    (Kind::Readiness, ready) => self.report(News::Ready(ready)).await,
                    (Kind::Startup, true) => {
                        self.report(News::Started).await;
                        return true;
                    }
                    (Kind::Liveness, true) => {}
                    (Kind::Startup | Kind::Liveness, false) => {
                        self.report(News::Unhealthy(self.kind)).await;
                        return false;
                    }
                }
            }
        }
    }

    /// Whether early attempts make sense: cheap, and one success is enough.
    fn quick(&self) -> bool {
        self.kind != Kind::Liveness
            && self.probe.exec.is_none()
            && self.probe.success_threshold.unwrap_or(1) <= 1
    }

    /// Catches the moment in which a program begins to serve. Failures do not count yet.
    async fn early(
        &self,
        tally: &mut Tally,
        begun: Instant,
        period: Duration,
        delay: Duration,
    ) -> bool {
        if !self.quick() || !delay.is_zero() {
            return false;
        }
        for millis in EARLY_MILLIS {
            let at = begun + Duration::from_millis(millis);
            if Duration::from_millis(millis) >= period {
                break;
            }
            tokio::time::sleep_until(at).await;
            if self.once().await.is_ok() {
                tally.count(true);
                let news = if self.kind == Kind::Startup {
                    News::Started
                } else {
                    News::Ready(true)
                };
                self.report(news).await;
                return true;
            }
        }
        false
    }

    async fn report(&self, news: News) {
        let report = Report {
            container: self.probed.container.name.clone(),
            id: self.probed.id.clone(),
            news,
        };
        // The worker is gone when this fails, and with it the reason to probe.
        let _ = self.reports.send(report).await;
    }

    async fn once(&self) -> Result<(), String> {
        let timeout = seconds(self.probe.timeout_seconds, 1);
        let (c, host) = (
            &self.probed.container,
            self.probed.ip.map(|ip| ip.to_string()).unwrap_or_default(),
        );
        if let Some(action) = &self.probe.exec {
            let argv = action.command.clone().unwrap_or_default();
            let shown = argv.join(" ");
            return match exec::run(&self.probed.shim, &self.probed.id, argv, Some(timeout)).await {
                Ok(Ended::Exited(0, _)) => Ok(()),
                Ok(Ended::Exited(_, output)) => Err(output),
                Ok(Ended::TimedOut) => Err(format!(
                    "command timed out: {shown:?} timed out after {}s",
                    timeout.as_secs()
                )),
                Err(e) => Err(stdx::chain(&e)),
            };
        }
        if let Some(action) = &self.probe.http_get {
            let target = http_target(action, c, &host)?;
            let url = target.url();
            let answer = tokio::time::timeout(timeout, http::get(&target, USER_AGENT)).await;
            return match answer {
                Err(_) => Err(format!(
                    "Get \"{url}\": context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
                )),
                Ok(Err(e)) => Err(e.to_string()),
                Ok(Ok(http::Answer::Status(200..400, _) | http::Answer::Elsewhere(_))) => Ok(()),
                Ok(Ok(http::Answer::Status(code, _))) => {
                    Err(format!("HTTP probe failed with statuscode: {code}"))
                }
            };
        }
        if let Some(action) = &self.probe.tcp_socket {
            let port = resolve_port(&action.port, c)?;
            let host = action
                .host
                .as_deref()
                .filter(|h| !h.is_empty())
                .unwrap_or(&host);
            return match tokio::time::timeout(timeout, http::connect(host, port)).await {
                Ok(result) => result.map(drop),
                Err(_) => Err(format!("dial tcp {host}:{port}: i/o timeout")),
            };
        }
        if let Some(action) = &self.probe.grpc {
            let port = u16::try_from(action.port)
                .map_err(|_| format!("invalid port number: {}", action.port))?;
            let service = action.service.as_deref().unwrap_or_default();
            return match tokio::time::timeout(
                timeout,
                grpc::check(&host, port, service, USER_AGENT),
            )
            .await
            {
                Ok(result) => result,
                Err(_) => Err(format!(
                    "timeout: failed to connect service \"{host}:{port}\" within {}s: context deadline exceeded",
                    timeout.as_secs()
                )),
            };
        }
        Err("missing probe handler".into())
    }
}

/// The target of an HTTP action.
///
/// # Errors
/// When the port's name is not known.
pub(crate) fn http_target(
    action: &HTTPGetAction,
    container: &Container,
    pod_ip: &str,
) -> Result<http::Target, String> {
    let port = resolve_port(&action.port, container)?;
    let host = action
        .host
        .as_deref()
        .filter(|h| !h.is_empty())
        .unwrap_or(pod_ip);
    let path = action.path.as_deref().unwrap_or_default();
    let headers = action.http_headers.iter().flatten();
    Ok(http::Target {
        https: action
            .scheme
            .as_deref()
            .is_some_and(|s| s.eq_ignore_ascii_case("https")),
        host: host.to_owned(),
        port,
        path: if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("/{path}")
        },
        headers: headers.map(|h| (h.name.clone(), h.value.clone())).collect(),
    })
}

/// A port by number or by name.
///
/// # Errors
/// When it is out of range or unknown.
pub(crate) fn resolve_port(port: &IntOrString, container: &Container) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(n) => Some(*n),
        IntOrString::String(name) => container
            .ports
            .iter()
            .flatten()
            .find(|p| p.name.as_deref() == Some(name))
            .map(|p| p.container_port)
            .or_else(|| name.parse().ok()),
    };
    match (number, port) {
        (Some(n), _) => u16::try_from(n)
            .ok()
            .filter(|p| *p > 0)
            .ok_or_else(|| format!("invalid port number: {n}")),
        (None, IntOrString::String(name)) => Err(format!("couldn't find port: {name}")),
        (None, IntOrString::Int(n)) => Err(format!("invalid port number: {n}")),
    }
}
