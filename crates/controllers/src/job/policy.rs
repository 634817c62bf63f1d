//! What a failed pod means to its Job, and when a part of the indexes is enough.

use super::indexes;
use k8s_openapi::api::batch::v1::{Job, PodFailurePolicyRule};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use std::collections::BTreeSet;

/// What the Job's failure policy says about a failed pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Failure {
    /// It counts towards the backoff limit.
    Count,
    /// It does not count.
    Ignore,
    /// Its index fails, however many tries are left.
    FailIndex,
    /// The Job fails; why.
    FailJob(String),
}

/// Reads the failure policy: the first rule that matches decides.
pub(super) fn judge(job: &Job, pod: &Pod) -> Failure {
    let policy = job
        .spec
        .as_ref()
        .and_then(|s| s.pod_failure_policy.as_ref());
    for (number, rule) in policy.iter().flat_map(|p| p.rules.iter()).enumerate() {
        let Some(why) = matching(rule, pod) else {
            continue;
        };
        return match rule.action.as_str() {
            "Ignore" => Failure::Ignore,
            "FailIndex" => Failure::FailIndex,
            "FailJob" => {
                let message = format!("{why} matching FailJob rule at index {number}");
                Failure::FailJob(message)
            }
            _ => Failure::Count,
        };
    }
    Failure::Count
}

/// Why the rule matches, in words.
fn matching(rule: &PodFailurePolicyRule, pod: &Pod) -> Option<String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let status = pod.status.as_ref()?;
    if let Some(wanted) = &rule.on_exit_codes {
        let none = Vec::new();
        let containers = status.container_statuses.as_ref().unwrap_or(&none);
        let init = status.init_container_statuses.as_ref().unwrap_or(&none);
        let matches = |c: &&ContainerStatus| {
            let ended = c.state.as_ref().and_then(|s| s.terminated.as_ref());
            let Some(code) = ended.map(|t| t.exit_code).filter(|code| *code != 0) else {
                return false;
            };
            let listed = wanted.values.contains(&code);
            wanted.container_name.as_ref().is_none_or(|n| *n == c.name)
                && match wanted.operator.as_str() {
                    "In" => listed,
                    "NotIn" => !listed,
                    _ => false,
                }
        };
        let container = containers.iter().chain(init).find(matches)?;
        let code = container.state.as_ref()?.terminated.as_ref()?.exit_code;
        return Some(format!(
            "Container {} for pod {namespace}/{name} failed with exit code {code}",
            container.name
        ));
    }
    for pattern in rule.on_pod_conditions.iter().flatten() {
        let wanted = pattern.status.as_deref().unwrap_or("True");
        let conditions = status.conditions.iter().flatten();
        if conditions
            .into_iter()
            .any(|c| c.type_ == pattern.type_ && c.status == wanted)
        {
            return Some(format!(
                "Pod {namespace}/{name} has condition {}",
                pattern.type_
            ));
        }
    }
    None
}

/// The number of the success rule that the completed indexes fulfil.
pub(super) fn succeeded(job: &Job, completed: &BTreeSet<u32>, completions: u32) -> Option<usize> {
    let rules = &job.spec.as_ref()?.success_policy.as_ref()?.rules;
    rules.iter().position(|rule| {
        let wanted = rule
            .succeeded_indexes
            .as_deref()
            .map(|t| indexes::parse(t, completions));
        let counted = match &wanted {
            Some(wanted) => completed.intersection(wanted).count(),
            None => completed.len(),
        };
        let enough = match (rule.succeeded_count, &wanted) {
            (Some(count), _) => usize::try_from(count).unwrap_or(usize::MAX),
            (None, Some(wanted)) => wanted.len(),
            (None, None) => return false,
        };
        counted >= enough
    })
}
