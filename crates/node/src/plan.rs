//! What to do next for one pod: a pure function of its spec, its state and the time.
//!
//! Invariant: calling it twice without a change in between gives the same answer,
//! and once every action is marked as begun it asks for nothing more.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Container, ContainerRestartRule, Pod};

use crate::state::{ContainerRecord, Exit, ImageStep, PodState, Run, Step};

#[cfg(test)]
mod tests;

/// When an ended container is started again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RestartPolicy {
    /// Always.
    Always,
    /// Unless it ended with 0.
    OnFailure,
    /// Never.
    Never,
}

impl RestartPolicy {
    fn parse(text: Option<&str>) -> Option<Self> {
        match text? {
            "Always" => Some(Self::Always),
            "OnFailure" => Some(Self::OnFailure),
            "Never" => Some(Self::Never),
            _ => None,
        }
    }
}

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Runs to its end before the next one.
    Init,
    /// An init container with `restartPolicy: Always`.
    Sidecar,
    /// A regular container.
    Main,
    /// An ephemeral (debug) container.
    Ephemeral,
}

/// The part of a container's spec that decides over its life.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Desired {
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// Its effective restart policy.
    pub policy: RestartPolicy,
    /// Rules that come before the policy.
    pub rules: Vec<ContainerRestartRule>,
    /// It has a postStart hook, which holds up the containers behind it.
    pub holds_next: bool,
}

impl Desired {
    /// Whether a container that ended thus is started again.
    pub(crate) fn restarts(&self, exit: &Exit) -> bool {
        for rule in &self.rules {
            let Some(codes) = &rule.exit_codes else {
                continue;
            };
            let listed = codes
                .values
                .as_ref()
                .is_some_and(|v| v.contains(&exit.code));
            let hit = if codes.operator == "NotIn" {
                !listed
            } else {
                listed
            };
            if hit && rule.action == "Restart" {
                return true;
            }
        }
        match self.policy {
            RestartPolicy::Always => true,
            RestartPolicy::OnFailure => exit.code != 0,
            RestartPolicy::Never => false,
        }
    }
}

/// The containers of a pod in the order in which they come up.
pub(crate) fn desired(pod: &Pod) -> Vec<Desired> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let pod_policy =
        RestartPolicy::parse(spec.restart_policy.as_deref()).unwrap_or(RestartPolicy::Always);
    let make = |c: &Container, role, policy| Desired {
        name: c.name.clone(),
        role,
        policy,
        rules: c.restart_policy_rules.clone().unwrap_or_default(),
        holds_next: c.lifecycle.as_ref().is_some_and(|l| l.post_start.is_some()),
    };
    let mut all = Vec::new();
    for c in spec.init_containers.iter().flatten() {
        let own = RestartPolicy::parse(c.restart_policy.as_deref());
        all.push(match own {
            Some(RestartPolicy::Always) => make(c, Role::Sidecar, RestartPolicy::Always),
            Some(policy) => make(c, Role::Init, policy),
            // An init container that succeeded is done even under Always.
            None if pod_policy == RestartPolicy::Never => make(c, Role::Init, pod_policy),
            None => make(c, Role::Init, RestartPolicy::OnFailure),
        });
    }
    for c in &spec.containers {
        let policy = RestartPolicy::parse(c.restart_policy.as_deref()).unwrap_or(pod_policy);
        all.push(make(c, Role::Main, policy));
    }
    for c in spec.ephemeral_containers.iter().flatten() {
        all.push(Desired {
            name: c.name.clone(),
            role: Role::Ephemeral,
            policy: RestartPolicy::Never,
            rules: Vec::new(),
            holds_next: false,
        });
    }
    all
}

/// Why a container is killed; the event says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum KillReason {
    /// The pod is stopped.
    Stop,
    /// A liveness or startup probe failed; the words.
    Unhealthy(String),
    /// Every regular container has ended, so the sidecars follow.
    Done,
}

/// One thing to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the sandbox and its network.
    LaunchSandbox,
    /// Make the volumes.
    PrepareVolumes,
    /// Have the container's image.
    Pull(String),
    /// Start the container; true if it is a restart.
    Start(String, bool),
    /// Stop the container.
    Kill(String, KillReason),
    /// Remove sandbox, network, volumes.
    TearDown,
}

/// What to do now, and when to look again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    /// To begin now, in this order.
    pub actions: Vec<Action>,
    /// Nothing to do before this time, unless something happens.
    pub wake_at: Option<Timestamp>,
}

impl Plan {
    fn wake(&mut self, at: Timestamp) {
        self.wake_at = Some(self.wake_at.map_or(at, |w| w.min(at)));
    }
}

/// How a pod's work has ended, whatever may still be running beside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Every container ended well.
    Succeeded,
    /// One did not.
    Failed,
}

/// Whether the regular (and init) containers have come to their end.
pub(crate) fn outcome(desired: &[Desired], state: &PodState) -> Option<Outcome> {
    let exit = |d: &Desired| {
        state
            .containers
            .get(&d.name)
            .and_then(ContainerRecord::exit)
    };
    let begun = main_begun(desired, state);
    if !begun {
        for d in desired.iter().filter(|d| d.role == Role::Init) {
            if exit(d).is_some_and(|e| e.code != 0 && !d.restarts(e)) {
                return Some(Outcome::Failed);
            }
        }
    }
    let mut failed = false;
    for d in desired.iter().filter(|d| d.role == Role::Main) {
        let e = exit(d)?;
        if d.restarts(e) {
            return None;
        }
        failed |= e.code != 0;
    }
    Some(if failed {
        Outcome::Failed
    } else {
        Outcome::Succeeded
    })
}

/// Whether a regular container was started in this sandbox, which ends the init phase.
pub(crate) fn main_begun(desired: &[Desired], state: &PodState) -> bool {
    desired.iter().any(|d| {
        d.role == Role::Main
            && state
                .containers
                .get(&d.name)
                .is_some_and(|r| r.begun || r.alive())
    })
}

/// Whether the init phase is over: each init container succeeded, each sidecar is up.
pub(crate) fn initialized(desired: &[Desired], state: &PodState) -> bool {
    main_begun(desired, state)
        || desired.iter().all(|d| {
            let record = state.containers.get(&d.name);
            match d.role {
                Role::Init => record.and_then(|r| r.exit()).is_some_and(|e| e.code == 0),
                Role::Sidecar => {
                    record.is_some_and(|r| r.started && matches!(r.run, Run::Running { .. }))
                }
                Role::Main | Role::Ephemeral => true,
            }
        })
}

/// The plan.
pub(crate) fn plan(pod: &Pod, state: &PodState, now: Timestamp) -> Plan {
    let desired = desired(pod);
    let mut plan = Plan::default();
    if state.torn_down || state.tearing_down {
        return plan;
    }
    if state.rejected.is_some() {
        plan.actions.push(Action::TearDown);
        return plan;
    }
    if state.stop.is_some() {
        wind_down(&mut plan, &desired, state, &KillReason::Stop);
        return plan;
    }
    if outcome(&desired, state).is_some() {
        wind_down(&mut plan, &desired, state, &KillReason::Done);
        return plan;
    }
    if let Some(at) = active_deadline(pod, state) {
        // The worker turns a passed deadline into a stop.
        plan.wake(at);
    }
    step(&mut plan, &state.sandbox, Action::LaunchSandbox, now);
    step(&mut plan, &state.volumes, Action::PrepareVolumes, now);
    let prepared = state.sandbox == Step::Done && state.volumes == Step::Done;

    let begun = main_begun(&desired, state);
    let mut held = false;
    for d in &desired {
        let fallback = ContainerRecord::default();
        let record = state.containers.get(&d.name).unwrap_or(&fallback);
        match d.role {
            Role::Init if begun || held => continue,
            Role::Main | Role::Sidecar if held => continue,
            Role::Ephemeral if !prepared => continue,
            _ => {}
        }
        container(&mut plan, d, record, prepared, now);
        match d.role {
            Role::Init => held |= record.exit().is_none_or(|e| e.code != 0),
            Role::Sidecar => {
                let up = record.started && matches!(record.run, Run::Running { .. });
                held |= !begun && !up;
            }
            Role::Main => held |= d.holds_next && matches!(record.run, Run::Never | Run::Starting),
            Role::Ephemeral => {}
        }
    }
    plan
}

/// When the pod's `activeDeadlineSeconds` is over.
pub(crate) fn active_deadline(pod: &Pod, state: &PodState) -> Option<Timestamp> {
    let secs = pod.spec.as_ref()?.active_deadline_seconds?;
    state
        .start_time?
        .checked_add(SignedDuration::from_secs(secs))
        .ok()
}

fn step(plan: &mut Plan, step: &Step, action: Action, now: Timestamp) {
    match step {
        Step::Todo => plan.actions.push(action),
        Step::Failed { retry_at, .. } if *retry_at <= now => plan.actions.push(action),
        Step::Failed { retry_at, .. } => plan.wake(*retry_at),
        Step::Busy | Step::Done => {}
    }
}

fn container(plan: &mut Plan, d: &Desired, r: &ContainerRecord, prepared: bool, now: Timestamp) {
    let mut restart = false;
    match &r.run {
        Run::Starting => return,
        Run::Running { .. } => {
            if let (Some(words), false) = (&r.unhealthy, r.stopping) {
                plan.actions.push(Action::Kill(
                    d.name.clone(),
                    KillReason::Unhealthy(words.clone()),
                ));
            }
            return;
        }
        Run::Exited(exit) => {
            if !d.restarts(exit) {
                return;
            }
            if let Some(at) = r.backoff.until(exit.finished_at).filter(|at| *at > now) {
                plan.wake(at);
                return;
            }
            restart = true;
        }
        Run::Waiting { retry_at, .. } if *retry_at > now => {
            plan.wake(*retry_at);
            return;
        }
        Run::Waiting { .. } => restart = r.next_attempt > 0,
        Run::Never => {}
    }
    match &r.image {
        ImageStep::Todo => plan.actions.push(Action::Pull(d.name.clone())),
        ImageStep::Failed { retry_at, .. } if *retry_at <= now => {
            plan.actions.push(Action::Pull(d.name.clone()));
        }
        ImageStep::Failed {
            reason,
            flip_at,
            retry_at,
            ..
        } => {
            plan.wake(*retry_at);
            if reason == "ErrImagePull" && *flip_at > now {
                plan.wake(*flip_at);
            }
        }
        ImageStep::Busy => {}
        ImageStep::Ready { .. } if prepared => {
            plan.actions.push(Action::Start(d.name.clone(), restart));
        }
        ImageStep::Ready { .. } => {}
    }
}

/// Ends a pod: regular containers at once, then the sidecars in reverse order, then the rest.
fn wind_down(plan: &mut Plan, desired: &[Desired], state: &PodState, reason: &KillReason) {
    let alive = |d: &&Desired| {
        state
            .containers
            .get(&d.name)
            .is_some_and(ContainerRecord::alive)
    };
    let mut kill = |d: &Desired| {
        let killable = state
            .containers
            .get(&d.name)
            .is_some_and(|r| !r.stopping && matches!(r.run, Run::Running { .. }));
        if killable {
            plan.actions
                .push(Action::Kill(d.name.clone(), reason.clone()));
        }
    };
    let mut waiting = false;
    for d in desired
        .iter()
        .filter(|d| d.role != Role::Sidecar)
        .filter(alive)
    {
        waiting = true;
        kill(d);
    }
    if waiting {
        return;
    }
    if let Some(d) = desired
        .iter()
        .rev()
        .filter(|d| d.role == Role::Sidecar)
        .find(alive)
    {
        kill(d);
        return;
    }
    let busy = state.sandbox == Step::Busy
        || state.volumes == Step::Busy
        || state.containers.values().any(ContainerRecord::alive);
    if !busy {
        plan.actions.push(Action::TearDown);
    }
}
