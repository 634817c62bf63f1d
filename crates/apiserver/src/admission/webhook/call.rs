//! One call of one webhook, and what is counted and said of it.

use std::time::{Duration, Instant};

use api::status::ApiError;
use serde_json::Value;

use super::config::Webhook;
use super::matches::Invocation;
use super::metrics::Asked;
use super::review::{self, Answer};
use crate::admission::attributes::Attributes;
use crate::outbound::{Endpoint, Limits, Unanswered};

/// The largest answer that is read: a patch may hold a whole object, in base64.
const ANSWER_LIMIT_BYTES: usize = 8 << 20;
/// How long all webhooks of one request may take together, as upstream limits a request.
const REQUEST_LIMIT: Duration = Duration::from_secs(34);

/// Why a call did not end in a yes.
#[derive(Debug)]
pub(super) enum Refusal {
    /// The webhook could not be asked. The code is the one that is counted.
    Failed { why: String, code: u16 },
    /// It said no.
    Denied(ApiError),
    /// The write cannot be right, whatever the webhook's policy for failures.
    Wrong(ApiError),
}

impl Refusal {
    fn failed(why: impl Into<String>, code: u16) -> Self {
        let why = why.into();
        Self::Failed { why, code }
    }
}

/// Whether a webhook is of the sort that may change objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Mutating,
    Validating,
}

/// Asks.
pub(super) async fn ask(
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    sort: Sort,
) -> Result<Answer, Refusal> {
    let webhook = invocation.webhook;
    if attributes.dry_run && !matches!(webhook.side_effects.as_str(), "None" | "NoneOnDryRun") {
        return Err(Refusal::Wrong(ApiError::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            webhook.name
        ))));
    }
    let version = review::version(&webhook.review_versions).ok_or_else(|| {
        Refusal::failed(
            "could not create admission objects: webhook does not accept known AdmissionReview versions (v1, v1beta1)",
            400,
        )
    })?;
    let endpoint = webhook
        .endpoint
        .as_ref()
        .map_err(|error| Refusal::failed(format!("could not get REST client: {error}"), 500))?;
    let uid = uuid::Uuid::new_v4().to_string();
    let request = review::request(version, &uid, invocation, attributes);
    let answer = post(webhook, endpoint, attributes, &request).await?;
    let answer = review::verify(version, &uid, sort == Sort::Mutating, &answer)
        .map_err(|why| Refusal::failed(format!("received invalid webhook response: {why}"), 503))?;
    let call = attributes.call;
    for (key, value) in &answer.annotations {
        call.annotations
            .add(format!("{}/{key}", webhook.name), value);
    }
    for warning in &answer.warnings {
        call.warn(warning);
    }
    if answer.allowed {
        Ok(answer)
    } else {
        Err(Refusal::Denied(review::denial(
            &webhook.name,
            &answer.result,
        )))
    }
}

async fn post(
    webhook: &Webhook,
    endpoint: &Endpoint,
    attributes: &Attributes<'_>,
    request: &Value,
) -> Result<Value, Refusal> {
    let call = attributes.call;
    let left = REQUEST_LIMIT.saturating_sub(call.started.elapsed());
    let limits = Limits {
        time: webhook.timeout.min(left),
        answer_bytes: ANSWER_LIMIT_BYTES,
    };
    let query = format!("timeout={}s", limits.time.as_millis().div_ceil(1000));
    let asked = call
        .state
        .outbound
        .review(endpoint, &query, request.to_string(), limits)
        .await;
    asked.map_err(|Unanswered { why, code }| {
        Refusal::failed(format!("failed to call webhook: {why}"), code)
    })
}

/// Counts a call that has ended, and says what comes of it: `Ok(None)` when a failure is let pass.
pub(super) fn settle<T>(
    invocation: &Invocation<'_>,
    attributes: &Attributes<'_>,
    sort: Sort,
    began: Instant,
    outcome: Result<T, Refusal>,
) -> Result<Option<T>, ApiError> {
    let webhook = invocation.webhook;
    let metrics = &attributes.call.state.webhooks.metrics;
    let asked = Asked {
        name: webhook.name.clone(),
        sort: match sort {
            Sort::Mutating => "admit",
            Sort::Validating => "validating",
        },
        operation: attributes.operation.name(),
    };
    let took = began.elapsed();
    match outcome {
        Ok(outcome) => {
            metrics.asked(&asked, took, false, 200);
            Ok(Some(outcome))
        }
        Err(Refusal::Failed { why, code }) => {
            let words = format!("failed calling webhook {:?}: {why}", webhook.name);
            metrics.asked(&asked, took, !webhook.fail_open, code);
            if webhook.fail_open {
                tracing::warn!("failing open: {words}");
                metrics.failed_open(&asked);
                return Ok(None);
            }
            metrics.rejected(&asked, "calling_webhook_error", code);
            Err(ApiError::internal(words))
        }
        Err(Refusal::Denied(status)) => {
            metrics.asked(&asked, took, true, status.code);
            metrics.rejected(&asked, "no_error", status.code);
            Err(status)
        }
        Err(Refusal::Wrong(error)) => {
            metrics.asked(&asked, took, true, 0);
            metrics.rejected(&asked, "apiserver_internal_error", 0);
            Err(error)
        }
    }
}
