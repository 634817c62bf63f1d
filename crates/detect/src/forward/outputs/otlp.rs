//! OpenTelemetry: alerts as log records, by OTLP over HTTP in JSON, in batches.
//!
//! Upstream writes every record with severity INFO. Here the severity is what OpenTelemetry's data
//! model gives for syslog's levels, which Falco's priorities are; and the fields are attributes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::Destination;
use crate::forward::alert::{go_text, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::publish::BatchLimits;
use crate::forward::request::Request;
use crate::forward::{Alert, Priority};

struct OtlpLogs {
    url: String,
    headers: BTreeMap<String, String>,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    for other in ["traces", "metrics"] {
        let mut ignored = section.section(other)?;
        if ignored
            .text("endpoint")
            .is_ok_and(|endpoint| endpoint.is_some())
        {
            notices.push(format!("{}: not supported, ignored", section.at(other)));
        }
    }
    let mut logs = section.section("logs")?;
    let minimum = logs.priority("minimumpriority")?;
    let tls = globals.tls(&mut logs)?;
    logs.ignore(&["synced", "tls", "extraenvvars", "timeout"], notices);
    let url = logs.url("endpoint")?;
    let protocol = logs.text("protocol")?.unwrap_or_default();
    match protocol.as_str() {
        "" | "http/json" => {}
        // Receivers of the one take the other, at the same address.
        "http/protobuf" => {
            notices.push(format!("{}: spoken as http/json", logs.at("protocol")));
        }
        _ => return Err(logs.bad("protocol", "only http/json is spoken here")),
    }
    // As the environment variable of the OpenTelemetry SDKs has them: `name=value,name=value`.
    let mut headers = BTreeMap::new();
    for pair in logs.list("headers")? {
        let fine = pair.split_once('=').and_then(|(name, value)| {
            let (name, value) = (name.trim(), value.trim());
            reqwest::header::HeaderName::from_bytes(name.as_bytes()).ok()?;
            reqwest::header::HeaderValue::from_str(value).ok()?;
            Some((name.to_owned(), value.to_owned()))
        });
        let (name, value) =
            fine.ok_or_else(|| logs.bad("headers", "must be name=value,name=value"))?;
        headers.insert(name, value);
    }
    logs.finish(notices);
    Ok(url
        .map(|url| {
            Destination::http("otlplogs", minimum, tls, OtlpLogs { url, headers }).in_batches(
                BatchLimits {
                    linger: Duration::from_secs(1),
                    ..BatchLimits::WAITING
                },
            )
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Export {
    resource_logs: [ResourceLogs; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResourceLogs {
    resource: Resource,
    scope_logs: [ScopeLogs; 1],
}

#[derive(Serialize)]
struct Resource {
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ScopeLogs {
    scope: Scope,
    log_records: Vec<Record>,
}

#[derive(Serialize)]
struct Scope {
    name: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    time_unix_nano: String,
    observed_time_unix_nano: String,
    severity_number: u8,
    severity_text: &'static str,
    body: Text,
    attributes: Vec<Attribute>,
}

#[derive(Serialize)]
struct Attribute {
    key: String,
    value: Text,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Text {
    string_value: String,
}

impl HttpOutput for OtlpLogs {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let export = Export {
            resource_logs: [ResourceLogs {
                resource: Resource {
                    attributes: vec![
                        attribute("service.name", "falco"),
                        attribute("service.version", env!("CARGO_PKG_VERSION")),
                    ],
                },
                scope_logs: [ScopeLogs {
                    scope: Scope { name: "falco" },
                    log_records: alerts.iter().map(|alert| record(alert)).collect(),
                }],
            }],
        };
        Request::post(&self.url, to_json(&export))
            .header("Content-Type", "application/json")
            .headers(&self.headers)
    }
}

fn record(alert: &Alert) -> Record {
    let time = alert.time.as_nanosecond().max(0).to_string();
    let mut attributes = vec![
        attribute("priority", alert.priority.name()),
        attribute("source", &alert.source),
        attribute("rule", &alert.rule),
        attribute("hostname", &alert.hostname),
        attribute("tags", &alert.tags.join(",")),
        attribute("timestamp", &alert.go_time()),
    ];
    let fields = alert
        .output_fields
        .iter()
        .filter(|(_, value)| !value.is_null());
    attributes.extend(fields.map(|(name, value)| attribute(name, &go_text(value))));
    Record {
        time_unix_nano: time.clone(),
        observed_time_unix_nano: time,
        severity_number: severity(alert.priority),
        severity_text: alert.priority.name(),
        body: Text {
            string_value: alert.output.clone(),
        },
        attributes,
    }
}

fn attribute(key: &str, value: &str) -> Attribute {
    Attribute {
        key: key.into(),
        value: Text {
            string_value: value.into(),
        },
    }
}

/// The severity numbers that OpenTelemetry's logs data model (appendix B) gives for syslog.
fn severity(priority: Priority) -> u8 {
    match priority {
        Priority::Emergency => 21,
        Priority::Alert => 19,
        Priority::Critical => 18,
        Priority::Error => 17,
        Priority::Warning => 13,
        Priority::Notice => 10,
        Priority::Informational => 9,
        Priority::Debug => 5,
    }
}
