//! PagerDuty: incidents by its Events API v2.
//!
//! As upstream's, every event is critical and carries the fields alone. The uuid is its
//! deduplication key, so that an alert that comes again is no second incident (ours), and the
//! summary is cut to the 1,024 characters that the API takes.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::{cut, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;

const SUMMARY_CHARS: usize = 1024;

struct Pagerduty {
    url: &'static str,
    routing_key: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = match section.choice("region", &["us", "eu"])? {
        "eu" => "https://events.eu.pagerduty.com/v2/enqueue",
        _ => "https://events.pagerduty.com/v2/enqueue",
    };
    Ok(section
        .text("routingkey")?
        .map(|routing_key| {
            let output = Pagerduty { url, routing_key };
            Destination::http("pagerduty", common.minimum, common.tls, output)
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Event<'a> {
    routing_key: &'a str,
    event_action: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    dedup_key: &'a str,
    payload: Payload<'a>,
}

#[derive(Serialize)]
struct Payload<'a> {
    summary: String,
    source: &'static str,
    severity: &'static str,
    timestamp: String,
    custom_details: BTreeMap<&'a str, Value>,
}

impl HttpOutput for Pagerduty {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let body = alerts
            .first()
            .map_or_else(Vec::new, |alert| self.event(alert));
        Request::post(self.url, body)
    }
}

impl Pagerduty {
    fn event(&self, alert: &Alert) -> Vec<u8> {
        let mut custom_details: BTreeMap<&str, Value> = alert
            .output_fields
            .iter()
            .map(|(name, value)| (name.as_str(), value.clone()))
            .collect();
        if !alert.hostname.is_empty() {
            custom_details.insert("hostname", Value::String(alert.hostname.clone()));
        }
        to_json(&Event {
            routing_key: &self.routing_key,
            event_action: "trigger",
            dedup_key: &alert.uuid,
            payload: Payload {
                summary: cut(&alert.output, SUMMARY_CHARS),
                source: "falco",
                severity: "critical",
                timestamp: alert.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
                custom_details,
            },
        })
    }
}
