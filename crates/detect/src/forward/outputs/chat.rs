//! Slack, Mattermost and Rocket.Chat: incoming webhooks that take attachments in Slack's form.
//!
//! Upstream's three differ in the order of the fields, and in what
//! `outputformat: text` leaves of the attachment.

use std::sync::Arc;

use serde::Serialize;

use super::{Common, Destination};
use crate::forward::alert::to_json;
use crate::forward::config::{ConfigError, Globals, Section};
use crate::forward::http::HttpOutput;
use crate::forward::request::Request;
use crate::forward::template::{Root, Template};
use crate::forward::{Alert, Priority};

/// Falcosidekick's footer and icon, so that what watches for them finds them.
pub(super) const FOOTER: &str = "https://github.com/falcosecurity/falcosidekick";
pub(super) const ICON: &str = "https://raw.githubusercontent.com/falcosecurity/falcosidekick/master/imgs/falcosidekick_color.png";
/// Values shorter than this, in characters, stand beside each other.
const SHORT_CHARS: usize = 36;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flavour {
    Slack,
    Mattermost,
    Rocketchat,
}

/// An incoming webhook of a chat.
struct Chat {
    flavour: Flavour,
    url: String,
    channel: Option<String>,
    footer: String,
    icon: String,
    username: String,
    format: &'static str,
    message: Option<Template>,
}

pub(super) fn read_slack(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    read(Flavour::Slack, "slack", section, globals, notices)
}

pub(super) fn read_mattermost(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    read(Flavour::Mattermost, "mattermost", section, globals, notices)
}

pub(super) fn read_rocketchat(
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    read(Flavour::Rocketchat, "rocketchat", section, globals, notices)
}

fn read(
    flavour: Flavour,
    name: &str,
    section: &mut Section,
    globals: &Globals,
    notices: &mut Vec<String>,
) -> Result<Vec<Destination>, ConfigError> {
    let common = Common::read(section, globals, notices)?;
    let url = section.url("webhookurl")?;
    let chat = Chat {
        flavour,
        url: url.clone().unwrap_or_default(),
        channel: if flavour == Flavour::Slack {
            section.text("channel")?
        } else {
            None
        },
        footer: section.text_or("footer", FOOTER)?,
        icon: section.text_or("icon", ICON)?,
        username: section.text_or("username", "Falcosidekick")?,
        format: section.choice("outputformat", &["all", "text", "fields"])?,
        message: section.template("messageformat", Root::Alert)?,
    };
    Ok(url
        .map(|_| Destination::http(name, common.minimum, common.tls, chat))
        .into_iter()
        .collect())
}

impl HttpOutput for Chat {
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
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    username: &'a str,
    icon_url: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    attachments: Vec<Attachment<'a>>,
}

#[derive(Serialize)]
struct Attachment<'a> {
    fallback: &'a str,
    color: &'static str,
    #[serde(skip_serializing_if = "str::is_empty")]
    text: &'a str,
    fields: Option<Vec<Field<'a>>>,
    #[serde(skip_serializing_if = "str::is_empty")]
    footer: &'a str,
}

#[derive(Serialize)]
struct Field<'a> {
    title: &'a str,
    value: String,
    short: bool,
}

impl Chat {
    fn payload(&self, alert: &Alert) -> Vec<u8> {
        let with_fields = self.format != "text";
        let attachment = Attachment {
            fallback: &alert.output,
            color: color(alert.priority),
            text: if self.format == "fields" {
                ""
            } else {
                &alert.output
            },
            fields: with_fields.then(|| self.fields(alert)),
            footer: if with_fields { &self.footer } else { "" },
        };
        let message = self.message.as_ref().map(|template| template.render(alert));
        // Rocket.Chat shows an attachment only with fields; its text would else be said nowhere.
        let lone_text = self.flavour == Flavour::Rocketchat && !with_fields;
        let text = match (&message, lone_text) {
            (Some(message), _) => message,
            (None, true) => &alert.output,
            (None, false) => "",
        };
        to_json(&Payload {
            text,
            username: &self.username,
            icon_url: &self.icon,
            channel: self.channel.as_deref(),
            attachments: if lone_text {
                Vec::new()
            } else {
                vec![attachment]
            },
        })
    }

    fn fields<'a>(&self, alert: &'a Alert) -> Vec<Field<'a>> {
        let short = |title, value: &str| Field {
            title,
            value: value.into(),
            short: true,
        };
        let hostname = (!alert.hostname.is_empty()).then(|| short("hostname", &alert.hostname));
        let mut fields = vec![
            short("rule", &alert.rule),
            short("priority", alert.priority.name()),
            short("source", &alert.source),
        ];
        let place = match self.flavour {
            Flavour::Mattermost => Some(1),
            Flavour::Slack => Some(3),
            Flavour::Rocketchat => None,
        };
        let last = match place {
            Some(place) => {
                fields.splice(place..place, hostname);
                None
            }
            None => hostname,
        };
        if !alert.tags.is_empty() {
            fields.push(short("tags", &alert.tags.join(", ")));
        }
        fields.extend(alert.texts().map(|(title, value)| Field {
            title,
            value: value.into(),
            short: value.chars().nth(SHORT_CHARS - 1).is_none(),
        }));
        fields.push(Field {
            title: "time",
            value: alert.go_time(),
            short: false,
        });
        fields.extend(last);
        fields
    }
}

/// Upstream's colours of attachments.
fn color(priority: Priority) -> &'static str {
    match priority {
        Priority::Emergency | Priority::Error => "#e20b0b",
        Priority::Alert | Priority::Critical => "#ff5400",
        Priority::Warning => "#ffc700",
        Priority::Notice => "#5bffb5",
        Priority::Informational => "#68c2ff",
        Priority::Debug => "#ccfff2",
    }
}
