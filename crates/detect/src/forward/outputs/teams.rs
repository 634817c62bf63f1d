//! Microsoft Teams: an incoming webhook that takes message cards.

use std::sync::Arc;

use serde::Serialize;

use super::{Common, Destination};
use crate::forward::alert::to_json;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;
use crate::forward::{Alert, Priority};

struct Teams {
    url: String,
    image: Option<String>,
    format: &'static str,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.url("webhookurl")?;
    let image = section.text("activityimage")?;
    let format = section.choice("outputformat", &["all", "text", "facts"])?;
    Ok(url
        .map(|url| {
            Destination::http(
                "teams",
                common.minimum,
                common.tls,
                Teams { url, image, format },
            )
        })
        .into_iter()
        .collect())
}

impl HttpOutput for Teams {
    fn request(&self, alerts: &[Arc<Alert>]) -> Request {
        Request::post(
            &self.url,
            alerts
                .first()
                .map_or_else(Vec::new, |alert| self.payload(alert)),
        )
    }
}

#[derive(Serialize)]
struct Payload<'a> {
    #[serde(rename = "@type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    summary: &'a str,
    #[serde(rename = "themeColor")]
    theme_color: &'static str,
    sections: [CardSection<'a>; 1],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CardSection<'a> {
    activity_title: &'static str,
    activity_subtitle: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    activity_image: Option<&'a str>,
    text: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<Fact<'a>>,
}

#[derive(Serialize)]
struct Fact<'a> {
    name: &'a str,
    value: String,
}

impl Teams {
    fn payload(&self, alert: &Alert) -> Vec<u8> {
        let facts = if self.format == "text" {
            Vec::new()
        } else {
            facts(alert)
        };
        to_json(&Payload {
            kind: "MessageCard",
            summary: &alert.output,
            theme_color: color(alert.priority),
            sections: [CardSection {
                activity_title: "Falcosidekick",
                activity_subtitle: alert.go_time(),
                activity_image: self.image.as_deref(),
                text: if self.format == "facts" {
                    ""
                } else {
                    &alert.output
                },
                facts,
            }],
        })
    }
}

fn facts(alert: &Alert) -> Vec<Fact<'_>> {
    let fact = |name, value: &str| Fact {
        name,
        value: value.into(),
    };
    let mut facts = vec![
        fact("rule", &alert.rule),
        fact("priority", alert.priority.name()),
        fact("source", &alert.source),
    ];
    if !alert.hostname.is_empty() {
        facts.push(fact("hostname", &alert.hostname));
    }
    facts.extend(alert.texts().map(|(name, value)| fact(name, value)));
    if !alert.tags.is_empty() {
        facts.push(fact("tags", &alert.tags.join(", ")));
    }
    facts
}

fn color(priority: Priority) -> &'static str {
    match priority {
        Priority::Emergency => "e20b0b",
        Priority::Alert => "ff5400",
        Priority::Critical => "ff9000",
        Priority::Error => "ffc700",
        Priority::Warning => "ffff00",
        Priority::Notice => "5bffb5",
        Priority::Informational => "68c2ff",
        Priority::Debug => "ccfff2",
    }
}
