//! How objects of a custom resource become those of another of its versions: by another `apiVersion`
//! alone, or by the webhook that its definition names.
//! Facts: `apiextensions-apiserver/pkg/apiserver/conversion` and `customresource_handler.go` of 1.36.
//!
//! Invariants: built-in kinds never come here; nothing is locked while a webhook is asked; what a
//! webhook answers is taken whole or not at all.

mod bring;
mod flights;
mod memo;
mod metrics;
mod review;

use std::time::{Duration, Instant};

use api::resource::{Resource, split_api_version};
use api::status::ApiError;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

pub(crate) use self::bring::{bring, bring_one, to_storage, to_version};
pub(crate) use self::flights::Flights;
pub(crate) use self::memo::Memo;
pub(crate) use self::metrics::ConversionMetrics;
use crate::hooks::text;
use crate::outbound::{Endpoint, EndpointError, Limits, Outbound, trust_bundle};
use crate::state::State;

/// How long a webhook may take for one review.
const TIME_LIMIT: Duration = Duration::from_secs(30);
/// The most objects of one review, and about how large it becomes.
const REVIEW_OBJECTS: usize = 500;
const REVIEW_BYTES: usize = 8 << 20;
/// How much larger than its request an answer may be.
const ANSWER_TIMES: usize = 4;
const ANSWER_LEAST_BYTES: usize = 8 << 20;

/// The webhook that converts the objects of a definition.
#[derive(Debug)]
pub(crate) struct Conversion {
    endpoint: Result<Endpoint, EndpointError>,
    review_versions: Vec<String>,
}

/// Whether the authorities that a definition's webhook shall have hold no certificate.
pub(crate) fn has_bad_bundle(definition: &Value) -> bool {
    let bundle = text(definition, "/spec/conversion/webhook/clientConfig/caBundle");
    !bundle.is_empty()
        && trust_bundle(bundle).map_or(true, |trust| pki::client_tls(&trust, None).is_err())
}

impl Conversion {
    /// What a definition says; nothing where its versions differ in name alone.
    pub(crate) fn of(definition: &Value) -> Option<Self> {
        if text(definition, "/spec/conversion/strategy") != "Webhook" {
            return None;
        }
        let webhook = definition.pointer("/spec/conversion/webhook");
        let config = webhook.and_then(|webhook| webhook.get("clientConfig"));
        let mut config = config.cloned().unwrap_or_default();
        // Blank is as good as absent.
        let bundle = STANDARD.decode(text(&config, "/caBundle"));
        if bundle.is_ok_and(|pem| pem.trim_ascii().is_empty())
            && let Some(map) = config.as_object_mut()
        {
            map.remove("caBundle");
        }
        let versions = webhook.and_then(|webhook| webhook.get("conversionReviewVersions"));
        let versions = versions.and_then(Value::as_array).into_iter().flatten();
        let versions = versions.filter_map(Value::as_str).map(str::to_owned);
        Some(Self {
            endpoint: Endpoint::of_client_config(&config),
            review_versions: versions.collect(),
        })
    }

    /// Brings objects of one definition to the version `to`, an `apiVersion` that none of them has.
    ///
    /// # Errors
    /// What went wrong, in upstream's words.
    async fn convert(
        &self,
        state: &State,
        objects: Vec<Value>,
        to: &str,
    ) -> Result<Vec<Value>, String> {
        let mut converted = Vec::with_capacity(objects.len());
        let mut rest = objects.into_iter().peekable();
        while rest.peek().is_some() {
            let (mut batch, mut shown, mut bytes) = (Vec::new(), Vec::new(), 0);
            while batch.len() < REVIEW_OBJECTS && bytes < REVIEW_BYTES {
                let Some(object) = rest.next() else { break };
                let json = object.to_string();
                bytes += json.len();
                shown.push(json);
                batch.push(object);
            }
            let began = Instant::now();
            let shown = shown.join(",");
            let answered = self.review(&state.outbound, &batch, &shown, to).await;
            let failure = answered.as_ref().err().map_or("", |(_, failure)| *failure);
            state.conversion_metrics.asked(began.elapsed(), failure);
            converted.append(&mut answered.map_err(|(why, _)| why)?);
        }
        Ok(converted)
    }

    async fn review(
        &self,
        outbound: &Outbound,
        objects: &[Value],
        shown: &str,
        to: &str,
    ) -> Result<Vec<Value>, (String, &'static str)> {
        let kind = objects.first().map(review::kind).unwrap_or_default();
        let failed = |why: String| format!("conversion webhook for {kind} failed: {why}");
        let uncalled = |why| (failed(why), "conversion_webhook_call_failure");
        let version = review::version(&self.review_versions)
            .ok_or_else(|| uncalled("no supported conversion review versions".to_owned()))?;
        let endpoint = self.endpoint.as_ref();
        let endpoint = endpoint.map_err(|error| uncalled(error.to_string()))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let request = review::request(version, &uid, to, shown);
        let limits = Limits {
            time: TIME_LIMIT,
            answer_bytes: ANSWER_LEAST_BYTES.max(request.len().saturating_mul(ANSWER_TIMES)),
        };
        let query = format!("timeout={}s", TIME_LIMIT.as_secs());
        tracing::debug!(%kind, to, objects = objects.len(), "asking a conversion webhook");
        let answer = outbound.review(endpoint, &query, request, limits).await;
        let answer = answer.map_err(|unanswered| uncalled(unanswered.why))?;
        let converted = review::verify(version, &uid, &answer)
            .map_err(|why| (failed(why), "conversion_webhook_malformed_response_failure"))?;
        let failure = match converted.len() == objects.len() {
            true => "conversion_webhook_invalid_converted_object_failure",
            false => "conversion_webhook_partial_response_failure",
        };
        review::accept(&kind, objects, converted, to).map_err(|why| (why, failure))
    }
}

/// Brings objects of a resource to another version of its definition, `to` an `apiVersion`; those that
/// have it stay as they are. What that version's schema does not name is pruned.
///
/// # Errors
/// What a client is told: 500.
async fn convert_all(
    state: &State,
    resource: &Resource,
    mut objects: Vec<Value>,
    to: &str,
) -> Result<Vec<Value>, ApiError> {
    let told = |why: String| ApiError::new(500, "", why);
    let Some(custom) = resource.schema.custom() else {
        return Ok(objects);
    };
    let (group, version) = split_api_version(to);
    if *resource.group != *group || custom.schema_in(version).is_none() {
        return Err(told(format!(
            "request to convert CR to an invalid group/version: {to}"
        )));
    }
    let others: Vec<usize> = (0..objects.len())
        .filter(|at| text(&objects[*at], "/apiVersion") != to)
        .collect();
    for at in &others {
        let from = text(&objects[*at], "/apiVersion");
        let (group, version) = split_api_version(from);
        if *resource.group != *group || custom.schema_in(version).is_none() {
            return Err(told(format!(
                "request to convert CR from an invalid group/version: {from}"
            )));
        }
    }
    if others.is_empty() {
        return Ok(objects);
    }
    // Nobody knows how, once the definition has gone.
    let served = state.resources.served(&resource.qualified());
    let served = served.ok_or_else(ApiError::no_such_path)?;
    match &served.conversion {
        None => {
            for at in &others {
                objects[*at]["apiVersion"] = to.into();
            }
        }
        Some(conversion) => {
            let asked: Vec<Value> = others.iter().map(|at| objects[*at].take()).collect();
            let converted = conversion.convert(state, asked, to).await;
            let converted = converted.map_err(told)?;
            for (at, object) in others.iter().zip(converted) {
                objects[*at] = object;
            }
        }
    }
    for at in others {
        let pruned = custom.prune_in(version, &mut objects[at]);
        pruned.map_err(|error| told(format!("converting to {to}: {error}")))?;
    }
    Ok(objects)
}
