//! What `/metrics` shows of PodSecurity, under upstream's names.

use super::policy::{Level, LevelVersion, Version};
use crate::metrics::{Counter, quoted};
use crate::pipeline::Call;

static EVALUATIONS: Counter = Counter {
    name: "pod_security_evaluations_total",
    help: "Number of policy evaluations that occurred, not counting ignored or exempt requests.",
};
static EXEMPTIONS: Counter = Counter {
    name: "pod_security_exemptions_total",
    help: "Number of exempt requests, not counting ignored or out of scope requests.",
};
static ERRORS: Counter = Counter {
    name: "pod_security_errors_total",
    help: "Number of errors preventing normal evaluation. Non-fatal errors may result in the latest restricted profile being used for evaluation.",
};

/// The newest minor version whose rules are known.
const KNOWN_MINOR: u32 = 36;

/// A write that is looked at.
#[derive(Clone, Copy)]
pub(super) struct Request<'a> {
    pub(super) call: &'a Call,
    pub(super) is_update: bool,
}

impl Request<'_> {
    /// Counts an evaluation in one of the modes `enforce`, `audit` and `warn`.
    pub(super) fn evaluated(self, allowed: bool, by: LevelVersion, mode: &str) {
        let version = match by.version {
            Version::Latest => "latest".to_owned(),
            Version::Minor(_) if by.level == Level::Privileged => "latest".to_owned(),
            Version::Minor(minor) if minor > KNOWN_MINOR => "future".to_owned(),
            Version::Minor(minor) => format!("v1.{minor}"),
        };
        let namespace = &self.call.namespace;
        // Names of namespaces are users', and may be many.
        let is_own = namespace == "default" || namespace.starts_with("kube-");
        let namespace = if is_own { namespace } else { "" };
        let decision = if allowed { "allow" } else { "deny" };
        let labels = format!(
            "decision=\"{decision}\",mode=\"{mode}\",ocp_namespace={},policy_level=\"{}\",policy_version=\"{version}\",{}",
            quoted(namespace),
            by.level.name(),
            self.labels(),
        );
        self.call.state.metrics.count(&EVALUATIONS, labels);
    }

    /// Counts a request that is exempt.
    pub(super) fn exempted(self) {
        self.call.state.metrics.count(&EXEMPTIONS, self.labels());
    }

    /// Counts what kept a request from being evaluated as it should be.
    pub(super) fn failed(self, fatal: bool) {
        let labels = format!("fatal=\"{fatal}\",{}", self.labels());
        self.call.state.metrics.count(&ERRORS, labels);
    }

    fn labels(self) -> String {
        let operation = if self.is_update { "update" } else { "create" };
        let resource = match &*self.call.resource.plural {
            "pods" => "pod",
            _ => "controller",
        };
        let sub = quoted(&self.call.subresource);
        format!("request_operation=\"{operation}\",resource=\"{resource}\",subresource={sub}")
    }
}
