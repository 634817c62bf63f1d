//! Opsgenie: alerts by its API v2.
//!
//! A message may be 130 characters there; a longer one is cut, and then said in full in the
//! description (ours: upstream's description is the rule).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Common, Destination};
use crate::forward::alert::{cut, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;
use crate::forward::{Alert, Priority};

const MESSAGE_CHARS: usize = 130;
const DESCRIPTION_CHARS: usize = 15_000;

struct Opsgenie {
    url: &'static str,
    key: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = match section.choice("region", &["us", "eu"])? {
        "eu" => "https://api.eu.opsgenie.com/v2/alerts",
        _ => "https://api.opsgenie.com/v2/alerts",
    };
    Ok(section
        .header_text("apikey")?
        .map(|key| {
            Destination::http(
                "opsgenie",
                common.minimum,
                common.tls,
                Opsgenie { url, key },
            )
        })
        .into_iter()
        .collect())
}

#[derive(Serialize)]
struct Payload {
    message: String,
    entity: &'static str,
    description: String,
    details: BTreeMap<String, String>,
    priority: &'static str,
}

impl HttpOutput for Opsgenie {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        let body = alerts.first().map_or_else(Vec::new, |alert| payload(alert));
        Request::post(self.url, body).header("Authorization", format!("GenieKey {}", self.key))
    }
}

fn payload(alert: &Alert) -> Vec<u8> {
    let mut details: BTreeMap<String, String> = alert
        .texts()
        .map(|(name, value)| (name.replace('.', "_"), value.to_owned()))
        .collect();
    let mut set = |name: &str, value: &str| details.insert(name.into(), value.into());
    set("source", &alert.source);
    set("rule", &alert.rule);
    set("priority", alert.priority.name());
    if !alert.hostname.is_empty() {
        set("hostname", &alert.hostname);
    }
    if !alert.tags.is_empty() {
        set("tags", &alert.tags.join(", "));
    }
    let message = cut(&alert.output, MESSAGE_CHARS);
    let description = if message == alert.output {
        alert.rule.clone()
    } else {
        cut(
            &format!("{}: {}", alert.rule, alert.output),
            DESCRIPTION_CHARS,
        )
    };
    to_json(&Payload {
        message,
        entity: "Falcosidekick",
        description,
        details,
        priority: match alert.priority {
            Priority::Emergency | Priority::Alert => "P1",
            Priority::Critical => "P2",
            Priority::Error => "P3",
            Priority::Warning => "P4",
            Priority::Notice | Priority::Informational | Priority::Debug => "P5",
        },
    })
}
