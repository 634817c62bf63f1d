//! What `/metrics` shows of policies, under upstream's names.

use std::time::Duration;

use crate::metrics::{Counter, Timer, quoted};
use crate::state::State;

const BOUNDS: &[f64] = &[0.000_000_5, 0.001, 0.01, 0.1, 1.0];

static VALIDATED: Counter = Counter {
    name: "apiserver_validating_admission_policy_check_total",
    help: "Validation admission policy check total, labeled by policy and further identified by binding and enforcement action taken.",
};
static VALIDATION: Timer = Timer {
    name: "apiserver_validating_admission_policy_check_duration_seconds",
    help: "Validation admission latency for individual validation expressions in seconds, labeled by policy and further including binding and enforcement action taken.",
    bounds: BOUNDS,
};
static MUTATED: Counter = Counter {
    name: "apiserver_mutating_admission_policy_check_total",
    help: "Mutation admission policy check total, labeled by policy and further identified by binding.",
};
static MUTATION: Timer = Timer {
    name: "apiserver_mutating_admission_policy_check_duration_seconds",
    help: "Mutation admission latency for individual mutation expressions in seconds, labeled by policy and binding.",
    bounds: BOUNDS,
};

/// Who judged: a policy by one of its bindings.
#[derive(Clone, Copy)]
pub(super) struct Judge<'a> {
    pub(super) state: &'a State,
    pub(super) policy: &'a str,
    pub(super) binding: &'a str,
}

impl Judge<'_> {
    /// Counts a validation that did not simply hold: what was said, and what was done about it
    /// (`allow`, `deny`, `audit`, `warn`).
    pub(super) fn validated(self, said: &str, action: &str, took: Duration) {
        let labels = |action| {
            format!(
                "enforcement_action={},{}",
                quoted(action),
                self.labels(said)
            )
        };
        let metrics = &self.state.metrics;
        metrics.count(&VALIDATED, labels(action));
        metrics.time(&VALIDATION, labels(action), took);
    }

    /// Counts a mutation; without a fault where it was made.
    pub(super) fn mutated(self, fault: Option<&str>, took: Duration) {
        let labels = match fault {
            Some(fault) => self.labels(fault),
            None => self.labelled("no_error"),
        };
        self.state.metrics.count(&MUTATED, labels.clone());
        self.state.metrics.time(&MUTATION, labels, took);
    }

    fn labels(self, said: &str) -> String {
        let spent = "validation failed due to running out of cost budget";
        self.labelled(if said.starts_with("compilation") {
            "compile_error"
        } else if said.starts_with(spent) {
            "out_of_budget"
        } else {
            "invalid_error"
        })
    }

    fn labelled(self, error: &str) -> String {
        let (policy, binding) = (quoted(self.policy), quoted(self.binding));
        format!("error_type=\"{error}\",policy={policy},policy_binding={binding}")
    }
}
