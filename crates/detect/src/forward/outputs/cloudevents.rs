//! CloudEvents 1.0 over HTTP, in binary mode as upstream sends them, or in structured mode.
//!
//! `mode: structured` is a key of ours.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Serialize;

use super::{Common, Destination};
use crate::forward::Alert;
use crate::forward::alert::{AlertWire, to_json};
use crate::forward::config::{ConfigError, Globals, Section, bad};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;

const SOURCE: &str = "https://falco.org";
const TYPE: &str = "falco.rule.output.v1";
/// Attributes that the specification, or upstream, has a meaning for.
const TAKEN: [&str; 12] = [
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "datacontenttype",
    "dataschema",
    "subject",
    "data",
    "priority",
    "rule",
    "eventsource",
];

struct CloudEvents {
    url: String,
    structured: bool,
    extensions: BTreeMap<String, String>,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.url("address")?;
    let structured = section.choice("mode", &["binary", "structured"])? == "structured";
    let extensions = section.pairs("extensions")?;
    for name in extensions.keys() {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
        if name.is_empty() || !name.chars().all(plain) || TAKEN.contains(&name.as_str()) {
            return Err(bad(
                &format!("{}.{name}", section.at("extensions")),
                "names of extensions are lower-case letters and digits, and not taken",
            ));
        }
    }
    Ok(url
        .map(|url| {
            let output = CloudEvents {
                url,
                structured,
                extensions,
            };
            Destination::http("cloudevents", common.minimum, common.tls, output)
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Event<'a> {
    specversion: &'static str,
    id: &'a str,
    source: &'static str,
    r#type: &'static str,
    datacontenttype: &'static str,
    time: Timestamp,
    #[serde(flatten)]
    extensions: BTreeMap<&'a str, &'a str>,
    data: AlertWire<'a>,
}

impl CloudEvents {
    fn attributes<'a>(&'a self, alert: &'a Alert) -> BTreeMap<&'a str, &'a str> {
        let mut attributes = BTreeMap::from([
            ("priority", alert.priority.name()),
            ("rule", alert.rule.as_str()),
            ("eventsource", alert.source.as_str()),
        ]);
        if !alert.hostname.is_empty() {
            attributes.insert("hostname", &alert.hostname);
        }
        let own = self.extensions.iter();
        attributes.extend(own.map(|(name, value)| (name.as_str(), value.as_str())));
        attributes
    }
}

impl HttpOutput for CloudEvents {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let Some(alert) = alerts.first() else {
            return Request::post(&self.url, Vec::new());
        };
        if self.structured {
            let event = Event {
                specversion: "1.0",
                id: &alert.uuid,
                source: SOURCE,
                r#type: TYPE,
                datacontenttype: "application/json",
                time: alert.time,
                extensions: self.attributes(alert),
                data: alert.as_ref().into(),
            };
            return Request::post(&self.url, to_json(&event))
                .header("Content-Type", "application/cloudevents+json");
        }
        let mut request = Request::post(&self.url, alert.to_json())
            .header("Content-Type", "application/json")
            .header("ce-specversion", "1.0")
            .header("ce-id", header_value(&alert.uuid))
            .header("ce-source", SOURCE)
            .header("ce-type", TYPE)
            .header("ce-time", alert.time.to_string());
        for (name, value) in self.attributes(alert) {
            request = request.header(&format!("ce-{name}"), header_value(value));
        }
        request
    }
}

/// A value as the HTTP binding wants it in a header: what is not printable ASCII, and spaces,
/// quotes and percent signs, percent-encoded.
fn header_value(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'"' | b'%' => format!("%{byte:02X}"),
            0x21..=0x7e => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
