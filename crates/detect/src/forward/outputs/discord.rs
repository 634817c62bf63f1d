//! Discord: a webhook that takes embeds.
//!
//! Upstream sends all fields whatever their number and length; Discord refuses more than 25 fields,
//! names beyond 256 characters, values beyond 1,024 and texts beyond 4,096 (its documentation of
//! embed limits), so here they are cut.

use std::sync::Arc;

use serde::Serialize;

use super::chat::ICON;
use super::{Common, Destination};
use crate::forward::alert::{cut, to_json};
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;
use crate::forward::{Alert, Priority};

const MOST_FIELDS: usize = 25;
const NAME_CHARS: usize = 256;
const VALUE_CHARS: usize = 1024;
/// An embed is at most 6,000 characters in all; the text leaves the fields their part.
const TEXT_CHARS: usize = 2048;
const EMBED_CHARS: usize = 6000;

struct Discord {
    url: String,
    icon: String,
}

pub(super) fn read(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.url("webhookurl")?;
    let icon = section.text_or("icon", ICON)?;
    Ok(url
        .map(|url| Destination::http("discord", common.minimum, common.tls, Discord { url, icon }))
        .into_iter()
        .collect())
}

impl HttpOutput for Discord {
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
    content: &'static str,
    avatar_url: &'a str,
    embeds: [Embed; 1],
}

#[derive(Serialize)]
struct Embed {
    title: &'static str,
    url: &'static str,
    description: String,
    color: &'static str,
    fields: Vec<Field>,
}

#[derive(Serialize)]
struct Field {
    name: String,
    value: String,
    inline: bool,
}

impl Discord {
    fn payload(&self, alert: &Alert) -> Vec<u8> {
        let description = cut(&alert.output, TEXT_CHARS);
        let mut left = EMBED_CHARS.saturating_sub(description.chars().count());
        let mut last = Vec::new();
        if !alert.tags.is_empty() {
            last.push(field("tags", &alert.tags.join(", ")));
        }
        last.push(field("time", &alert.go_time()));
        let mut fields = vec![
            field("rule", &alert.rule),
            field("priority", alert.priority.name()),
            field("source", &alert.source),
        ];
        if !alert.hostname.is_empty() {
            fields.push(field("hostname", &alert.hostname));
        }
        for fixed in fields.iter().chain(&last) {
            left = left.saturating_sub(fixed.chars());
        }
        let room = MOST_FIELDS - fields.len() - last.len();
        for (name, value) in alert.texts().take(room) {
            // The fence would end where the value has one.
            let value = cut(&value.replace("```", "'''"), VALUE_CHARS - 6);
            let field = Field {
                name: cut(name, NAME_CHARS),
                value: format!("```{value}```"),
                inline: true,
            };
            left = match left.checked_sub(field.chars()) {
                Some(left) => left,
                None => break,
            };
            fields.push(field);
        }
        fields.extend(last);
        to_json(&Payload {
            content: "",
            avatar_url: &self.icon,
            embeds: [Embed {
                title: "",
                url: "",
                description,
                color: color(alert.priority),
                fields,
            }],
        })
    }
}

impl Field {
    fn chars(&self) -> usize {
        self.name.chars().count() + self.value.chars().count()
    }
}

fn field(name: &str, value: &str) -> Field {
    Field {
        name: name.into(),
        value: cut(value, NAME_CHARS),
        inline: true,
    }
}

fn color(priority: Priority) -> &'static str {
    match priority {
        Priority::Emergency => "15158332",
        Priority::Alert => "11027200",
        Priority::Critical => "15105570",
        Priority::Error => "15844367",
        Priority::Warning => "12745742",
        Priority::Notice => "3066993",
        Priority::Informational => "3447003",
        Priority::Debug => "12370112",
    }
}
