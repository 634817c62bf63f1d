//! A webhook as its configuration says.

use std::sync::Arc;
use std::time::Duration;

use api::meta;
use serde_json::Value;

use crate::admission::constraints::Constraints;
use crate::admission::policy::Conditions;
use crate::hooks::text;
use crate::outbound::{Endpoint, EndpointError};

/// The most and the fewest seconds that a webhook may take.
const TIMEOUT_SECS: std::ops::RangeInclusive<u64> = 1..=30;
const DEFAULT_TIMEOUT_SECS: u64 = 10;

/// A webhook.
#[derive(Debug, Clone)]
pub(super) struct Webhook {
    pub(super) configuration: String,
    pub(super) name: String,
    /// Unique among all webhooks of the sort.
    pub(super) uid: String,
    pub(super) constraints: Constraints,
    /// Whether a write goes on when the webhook cannot be asked.
    pub(super) fail_open: bool,
    pub(super) timeout: Duration,
    /// `None` and `NoneOnDryRun` may be asked in a dry run.
    pub(super) side_effects: String,
    pub(super) reinvocable: bool,
    pub(super) review_versions: Vec<String>,
    pub(super) conditions: Arc<Conditions>,
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
    Webhook {
        configuration: configuration.to_owned(),
        name: text(hook, "/name").to_owned(),
        uid,
        constraints: Constraints::of_webhook(hook),
        fail_open: text(hook, "/failurePolicy") == "Ignore",
        timeout: Duration::from_secs(timeout),
        side_effects: text(hook, "/sideEffects").to_owned(),
        reinvocable: text(hook, "/reinvocationPolicy") == "IfNeeded",
        review_versions: strings(hook, "admissionReviewVersions"),
        conditions: Arc::new(Conditions::compile(hook, false)),
        endpoint: Endpoint::of_client_config(hook.get("clientConfig").unwrap_or(&Value::Null)),
    }
}

fn strings(object: &Value, name: &str) -> Vec<String> {
    let list = object.get(name).and_then(Value::as_array);
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    list.map(str::to_owned).collect()
}
