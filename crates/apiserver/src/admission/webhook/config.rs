//! A webhook as its configuration says.

use std::time::Duration;

use api::meta;
use api::selector::LabelSelector;
use serde_json::Value;

use crate::hooks::text;
use crate::outbound::{Endpoint, EndpointError};

/// The most and the fewest seconds that a webhook may take.
const TIMEOUT_SECS: std::ops::RangeInclusive<u64> = 1..=30;
const DEFAULT_TIMEOUT_SECS: u64 = 10;

/// What a webhook is asked of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    pub(super) operations: Vec<String>,
    pub(super) groups: Vec<String>,
    pub(super) versions: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) scope: Scope,
}

/// Where the objects of a rule live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    All,
    Namespaced,
    Cluster,
}

/// A webhook.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    pub(super) configuration: String,
    pub(super) name: String,
    /// Unique among all webhooks of the sort.
    pub(super) uid: String,
    pub(super) rules: Vec<Rule>,
    pub(super) namespace_selector: Result<LabelSelector, String>,
    pub(super) object_selector: Result<LabelSelector, String>,
    /// Whether rules speak for all versions of what they name.
    pub(super) equivalent: bool,
    /// Whether a write goes on when the webhook cannot be asked.
    pub(super) fail_open: bool,
    pub(super) timeout: Duration,
    /// `None` and `NoneOnDryRun` may be asked in a dry run.
    pub(super) side_effects: String,
    pub(super) reinvocable: bool,
    pub(super) review_versions: Vec<String>,
    #[allow(dead_code, reason = "evaluated where expressions are")]
    pub(super) match_conditions: Vec<(String, String)>,
    pub(super) endpoint: Result<Endpoint, EndpointError>,
}

/// The webhooks of a configuration, in its order.
pub(super) fn webhooks(configuration: &Value) -> Vec<Webhook> {
    let list = configuration.get("webhooks").and_then(Value::as_array);
    let list = list.map_or(&[][..], Vec::as_slice);
    let uid = meta::uid(configuration);
    let of = |(index, hook): (usize, &Value)| {
        webhook(meta::name(configuration), format!("{uid}/{index}"), hook)
    };
    list.iter().enumerate().map(of).collect()
}

fn webhook(configuration: &str, uid: String, hook: &Value) -> Webhook {
    let timeout = hook.get("timeoutSeconds").and_then(Value::as_u64);
    let timeout = timeout.unwrap_or(DEFAULT_TIMEOUT_SECS);
    let timeout = timeout.clamp(*TIMEOUT_SECS.start(), *TIMEOUT_SECS.end());
    let selector = |name: &str| {
        LabelSelector::from_object(hook.get(name).unwrap_or(&Value::Null))
            .map_err(|error| error.to_string())
    };
    let conditions = hook.get("matchConditions").and_then(Value::as_array);
    let conditions = conditions.into_iter().flatten();
    Webhook {
        configuration: configuration.to_owned(),
        name: text(hook, "/name").to_owned(),
        uid,
        rules: rules(hook),
        namespace_selector: selector("namespaceSelector"),
        object_selector: selector("objectSelector"),
        equivalent: text(hook, "/matchPolicy") != "Exact",
        fail_open: text(hook, "/failurePolicy") == "Ignore",
        timeout: Duration::from_secs(timeout),
        side_effects: text(hook, "/sideEffects").to_owned(),
        reinvocable: text(hook, "/reinvocationPolicy") == "IfNeeded",
        review_versions: strings(hook, "admissionReviewVersions"),
        match_conditions: conditions
            .map(|c| {
                (
                    text(c, "/name").to_owned(),
                    text(c, "/expression").to_owned(),
                )
            })
            .collect(),
        endpoint: Endpoint::of_client_config(hook.get("clientConfig").unwrap_or(&Value::Null)),
    }
}

fn rules(hook: &Value) -> Vec<Rule> {
    let list = hook.get("rules").and_then(Value::as_array);
    let rule = |rule: &Value| Rule {
        operations: strings(rule, "operations"),
        groups: strings(rule, "apiGroups"),
        versions: strings(rule, "apiVersions"),
        resources: strings(rule, "resources"),
        scope: match text(rule, "/scope") {
            "Namespaced" => Scope::Namespaced,
            "Cluster" => Scope::Cluster,
            _ => Scope::All,
        },
    };
    list.into_iter().flatten().map(rule).collect()
}

fn strings(object: &Value, name: &str) -> Vec<String> {
    let list = object.get(name).and_then(Value::as_array);
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    list.map(str::to_owned).collect()
}
