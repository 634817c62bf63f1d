//! The status of a pod as a pure function of its spec, its state and the status before.
//!
//! Invariants: a terminal phase is never left; `lastTransitionTime` changes only
//! with the status of its condition; nothing is said that was not observed.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{
        ContainerState, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting,
        ContainerStatus, ContainerUser, HostIP, LinuxContainerUser, Pod, PodCondition, PodIP,
        PodStatus, ResourceRequirements, VolumeMount, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

pub(crate) mod write;

#[cfg(test)]
mod tests;

use crate::{
    identity::pod_words,
    plan::{self, Desired, Outcome, Role},
    resources,
    state::{ContainerRecord, Exit, ImageStep, PodState, Run, Step},
};

/// The scheme of container ids.
pub(crate) const SCHEME: &str = "knarr://";

/// Computes the status.
pub(crate) fn status(
    pod: &Pod,
    state: &PodState,
    host_ips: &[IpAddr],
    before: &PodStatus,
    now: Timestamp,
) -> PodStatus {
    let Some(spec) = &pod.spec else {
        return before.clone();
    };
    let generation = pod.metadata.generation;
    if let Some((reason, message)) = &state.rejected {
        return rejected(pod, state, before, reason, message, now);
    }
    let desired = plan::desired(pod);
    let phase = phase(&desired, state, before.phase.as_deref());
    let view = View {
        pod,
        state,
        desired: &desired,
        phase,
    };
    let role = |roles: &'static [Role]| {
        desired
            .iter()
            .filter(move |d| roles.contains(&d.role))
            .map(|d| view.container(d))
    };
    let init: Vec<_> = role(&[Role::Init, Role::Sidecar]).collect();
    let mut main: Vec<_> = role(&[Role::Main]).collect();
    main.sort_by(|a, b| a.name.cmp(&b.name));
    let ephemeral: Vec<_> = role(&[Role::Ephemeral]).collect();

    let mut out = PodStatus {
        phase: Some(phase.to_owned()),
        observed_generation: generation,
        qos_class: Some(resources::qos(spec).as_str().to_owned()),
        start_time: state
            .start_time
            .map(Time)
            .or_else(|| before.start_time.clone()),
        host_ip: host_ips.first().map(ToString::to_string),
        host_ips: Some(
            host_ips
                .iter()
                .map(|ip| HostIP { ip: ip.to_string() })
                .collect(),
        ),
        conditions: Some(view.conditions(&init, &main, before, now)),
        nominated_node_name: before.nominated_node_name.clone(),
        ..PodStatus::default()
    };
    if let Some(ip) = state.ips.first() {
        out.pod_ip = Some(ip.to_string());
        out.pod_ips = Some(
            state
                .ips
                .iter()
                .map(|ip| PodIP { ip: ip.to_string() })
                .collect(),
        );
    } else {
        out.pod_ip.clone_from(&before.pod_ip);
        out.pod_ips.clone_from(&before.pod_ips);
    }
    out.init_container_statuses = Some(init).filter(|l| !l.is_empty());
    out.container_statuses = Some(main).filter(|l| !l.is_empty());
    out.ephemeral_container_statuses = Some(ephemeral).filter(|l| !l.is_empty());
    if let Some(stop) = state.stop.as_ref().filter(|_| phase == "Failed") {
        out.reason.clone_from(&stop.reason);
        out.message.clone_from(&stop.message);
    }
    out
}

/// Whether a phase is final.
pub(crate) fn terminal(phase: Option<&str>) -> bool {
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn rejected(
    pod: &Pod,
    state: &PodState,
    before: &PodStatus,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> PodStatus {
    let mut out = before.clone();
    out.phase = Some("Failed".into());
    out.reason = Some(reason.to_owned());
    out.message = Some(message.to_owned());
    out.start_time = state.start_time.map(Time).or(out.start_time);
    out.observed_generation = pod.metadata.generation;
    let _ = now;
    out
}

fn phase(desired: &[Desired], state: &PodState, before: Option<&str>) -> &'static str {
    match before {
        Some("Succeeded") => return "Succeeded",
        Some("Failed") => return "Failed",
        _ => {}
    }
    let alive = state.containers.values().any(ContainerRecord::alive);
    let begun = plan::main_begun(desired, state);
    if !alive {
        match plan::outcome(desired, state) {
            Some(Outcome::Succeeded) if state.stop.as_ref().is_none_or(|s| s.reason.is_none()) => {
                return "Succeeded";
            }
            Some(_) => return "Failed",
            None => {}
        }
        if let Some(stop) = &state.stop {
            if state.sandbox == Step::Busy {
                return if begun { "Running" } else { "Pending" };
            }
            let clean = stop.reason.is_none()
                && desired.iter().filter(|d| d.role == Role::Main).all(|d| {
                    let exit = state
                        .containers
                        .get(&d.name)
                        .and_then(ContainerRecord::exit);
                    exit.is_some_and(|e| e.code == 0)
                });
            return if clean { "Succeeded" } else { "Failed" };
        }
    }
    // A pod runs once each regular container has been started at least once.
    let started = |d: &Desired| {
        state.containers.get(&d.name).is_some_and(|r| {
            matches!(r.run, Run::Running { .. } | Run::Exited(_)) || r.last.is_some()
        })
    };
    let up = plan::initialized(desired, state)
        && desired.iter().filter(|d| d.role == Role::Main).all(started);
    // A pod that has run does not go back.
    if up || before == Some("Running") {
        "Running"
    } else {
        "Pending"
    }
}

struct View<'a> {
    pod: &'a Pod,
    state: &'a PodState,
    desired: &'a [Desired],
    phase: &'static str,
}

impl View<'_> {
    fn container(&self, d: &Desired) -> ContainerStatus {
        let fallback = ContainerRecord::default();
        let r = self.state.containers.get(&d.name).unwrap_or(&fallback);
        let (image, resources, mounts) = self.spec_of(d);
        let (state, last) = self.states(d, r);
        let running = matches!(r.run, Run::Running { .. });
        let ready = match d.role {
            Role::Init => r.exit().is_some_and(|e| e.code == 0),
            Role::Sidecar | Role::Main => running && r.started && r.ready,
            Role::Ephemeral => false,
        };
        let image_id = match &r.image {
            _ if !r.image_id.is_empty() => r.image_id.clone(),
            ImageStep::Ready { id } => id.clone(),
            _ => String::new(),
        };
        ContainerStatus {
            name: d.name.clone(),
            image,
            image_id,
            container_id: Some(format!("{SCHEME}{}", r.id)).filter(|_| !r.id.is_empty()),
            ready,
            started: (d.role != Role::Ephemeral).then_some(running && r.started),
            restart_count: i32::try_from(r.restarts).unwrap_or(i32::MAX),
            state: Some(state),
            last_state: Some(last.unwrap_or_default()),
            allocated_resources: resources.as_ref().and_then(|r| r.requests.clone()),
            resources: resources.filter(|_| running),
            user: r.user.as_ref().map(|(uid, gid, groups)| ContainerUser {
                linux: Some(LinuxContainerUser {
                    uid: *uid,
                    gid: *gid,
                    supplemental_groups: Some(groups.clone()),
                }),
            }),
            volume_mounts: Some(mounts.iter().map(mount_status).collect::<Vec<_>>())
                .filter(|l| !l.is_empty()),
            ..ContainerStatus::default()
        }
    }

    fn spec_of(&self, d: &Desired) -> (String, Option<ResourceRequirements>, Vec<VolumeMount>) {
        let Some(spec) = &self.pod.spec else {
            return Default::default();
        };
        let regular = spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers);
        if let Some(c) = regular.into_iter().find(|c| c.name == d.name) {
            return (
                c.image.clone().unwrap_or_default(),
                c.resources.clone(),
                c.volume_mounts.clone().unwrap_or_default(),
            );
        }
        let ephemeral = spec
            .ephemeral_containers
            .iter()
            .flatten()
            .find(|c| c.name == d.name);
        (
            ephemeral.and_then(|c| c.image.clone()).unwrap_or_default(),
            None,
            Vec::new(),
        )
    }

    fn states(&self, d: &Desired, r: &ContainerRecord) -> (ContainerState, Option<ContainerState>) {
        let last = r.last.as_ref().map(terminated);
        match &r.run {
            Run::Running { started_at } => (
                ContainerState {
                    running: Some(ContainerStateRunning {
                        started_at: Some(Time(*started_at)),
                    }),
                    ..ContainerState::default()
                },
                last,
            ),
            Run::Exited(exit) => {
                let over = self.state.stop.is_some()
                    || plan::outcome(self.desired, self.state).is_some()
                    || !d.restarts(exit);
                if over {
                    return (terminated(exit), last);
                }
                if let ImageStep::Failed {
                    reason, message, ..
                } = &r.image
                {
                    return (waiting(reason, message), Some(terminated(exit)));
                }
                match r.backoff.until(exit.finished_at) {
                    Some(_) => {
                        let text = format!(
                            "back-off {} restarting failed container={} pod={}",
                            go_duration(r.backoff.delay_secs()),
                            d.name,
                            pod_words(self.pod)
                        );
                        (waiting("CrashLoopBackOff", &text), Some(terminated(exit)))
                    }
                    None => (terminated(exit), last),
                }
            }
            Run::Waiting {
                reason, message, ..
            } => (waiting(reason, message), last),
            Run::Never | Run::Starting => {
                if let ImageStep::Failed {
                    reason, message, ..
                } = &r.image
                {
                    return (waiting(reason, message), last);
                }
                let has_init = self
                    .desired
                    .iter()
                    .any(|d| matches!(d.role, Role::Init | Role::Sidecar));
                let first = if has_init {
                    "PodInitializing"
                } else {
                    "ContainerCreating"
                };
                (waiting(first, ""), last)
            }
        }
    }

    fn conditions(
        &self,
        init: &[ContainerStatus],
        main: &[ContainerStatus],
        before: &PodStatus,
        now: Timestamp,
    ) -> Vec<PodCondition> {
        let completed = (self.phase == "Succeeded").then_some("PodCompleted");
        let ended = completed.or((self.phase == "Failed").then_some("PodFailed"));
        let names = |list: &[&str]| format!("[{}]", list.join(" "));

        let initialized = plan::initialized(self.desired, self.state);
        let incomplete: Vec<&str> = init
            .iter()
            .filter(|c| !c.ready)
            .map(|c| c.name.as_str())
            .collect();
        let (init_reason, init_message) = if initialized {
            (completed, None)
        } else {
            (
                Some("ContainersNotInitialized"),
                Some(format!(
                    "containers with incomplete status: {}",
                    names(&incomplete)
                )),
            )
        };
        let sidecar = |c: &&ContainerStatus| {
            self.desired
                .iter()
                .any(|d| d.role == Role::Sidecar && d.name == c.name)
        };
        let unready: Vec<&str> = init
            .iter()
            .filter(sidecar)
            .chain(main)
            .filter(|c| !c.ready)
            .map(|c| c.name.as_str())
            .collect();
        let containers_ready = ended.is_none() && unready.is_empty() && initialized;
        let (ready_reason, ready_message) = if containers_ready {
            (None, None)
        } else if let Some(ended) = ended {
            (Some(ended), None)
        } else {
            (
                Some("ContainersNotReady"),
                Some(format!(
                    "containers with unready status: {}",
                    names(&unready)
                )),
            )
        };
        let gates = self.gates(before);
        let (pod_ready, pod_reason, pod_message) = if !containers_ready || gates.is_empty() {
            (containers_ready, ready_reason, ready_message.clone())
        } else {
            (
                false,
                Some("ReadinessGatesNotReady"),
                Some(gates.join(", ")),
            )
        };
        let sandboxed = self.state.sandbox == Step::Done && !self.state.ips.is_empty();
        let c = |kind, on, reason: Option<&str>, message| {
            self.condition(kind, on, reason, message, before, now)
        };
        vec![
            c(
                "PodReadyToStartContainers",
                sandboxed && !self.state.torn_down,
                None,
                None,
            ),
            c("Initialized", initialized, init_reason, init_message),
            c("Ready", pod_ready, pod_reason, pod_message),
            c(
                "ContainersReady",
                containers_ready,
                ready_reason,
                ready_message,
            ),
            c("PodScheduled", true, None, None),
        ]
    }

    /// What is wrong with the readiness gates.
    fn gates(&self, before: &PodStatus) -> Vec<String> {
        let current = self.pod.status.as_ref().unwrap_or(before);
        let gates = self
            .pod
            .spec
            .as_ref()
            .and_then(|s| s.readiness_gates.as_deref());
        gates
            .unwrap_or_default()
            .iter()
            .filter_map(|gate| {
                let kind = &gate.condition_type;
                let found = current
                    .conditions
                    .iter()
                    .flatten()
                    .find(|c| c.type_ == *kind);
                match found {
                    None => Some(format!(
                        "corresponding condition of pod readiness gate \"{kind}\" does not exist."
                    )),
                    Some(c) if c.status != "True" => Some(format!(
                        "the status of pod readiness gate \"{kind}\" is not \"True\", but {}",
                        c.status
                    )),
                    Some(_) => None,
                }
            })
            .collect()
    }

    fn condition(
        &self,
        kind: &str,
        on: bool,
        reason: Option<&str>,
        message: Option<String>,
        before: &PodStatus,
        now: Timestamp,
    ) -> PodCondition {
        let status = if on { "True" } else { "False" };
        let old = before.conditions.iter().flatten().find(|c| c.type_ == kind);
        let kept = old
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone());
        PodCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message,
            last_transition_time: Some(kept.unwrap_or_else(|| Time(whole_second(now)))),
            observed_generation: self.pod.metadata.generation,
            ..PodCondition::default()
        }
    }
}

/// Times on the wire have whole seconds.
pub(crate) fn whole_second(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second()).unwrap_or(at)
}

fn mount_status(m: &VolumeMount) -> VolumeMountStatus {
    let read_only = m.read_only == Some(true);
    VolumeMountStatus {
        name: m.name.clone(),
        mount_path: m.mount_path.clone(),
        read_only: m.read_only,
        recursive_read_only: read_only.then(|| "Disabled".to_owned()),
        ..VolumeMountStatus::default()
    }
}

fn waiting(reason: &str, message: &str) -> ContainerState {
    ContainerState {
        waiting: Some(ContainerStateWaiting {
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()).filter(|m| !m.is_empty()),
        }),
        ..ContainerState::default()
    }
}

fn terminated(exit: &Exit) -> ContainerState {
    ContainerState {
        terminated: Some(ContainerStateTerminated {
            container_id: Some(format!("{SCHEME}{}", exit.id)).filter(|_| !exit.id.is_empty()),
            exit_code: exit.code,
            reason: Some(exit.reason.clone()).filter(|r| !r.is_empty()),
            message: exit.message.clone(),
            started_at: exit.started_at.map(Time),
            finished_at: Some(Time(exit.finished_at)),
            signal: None,
        }),
        ..ContainerState::default()
    }
}

/// Seconds as Go prints a duration: `10s`, `1m20s`, `5m0s`.
pub(crate) fn go_duration(secs: i64) -> String {
    if secs < 60 {
        format!("{secs}s")
    } else {
        format!("{}m{}s", secs / 60, secs % 60)
    }
}
