//! An alert as Falco writes it in JSON, and as Falcosidekick passes it on.
//!
//! Invariant: whatever bytes come in, an [`Alert`] is valid UTF-8, its tags are sorted and its
//! JSON is bounded once [`super::enrich`] has seen it.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::Value;
use thiserror::Error;

/// How bad an alert is, in the order of badness (Falco's eight priorities, syslog's levels).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Priority {
    /// Of use to those who write rules.
    Debug,
    /// Nothing wrong.
    Informational,
    /// Normal, yet worth a look.
    Notice,
    /// May be wrong.
    Warning,
    /// Is wrong.
    Error,
    /// Is wrong and urgent.
    Critical,
    /// Somebody has to act.
    Alert,
    /// Nothing works any more.
    Emergency,
}

impl Priority {
    /// Reads a priority in any case; `info` is short for `informational`.
    pub fn parse(text: &str) -> Option<Priority> {
        Some(match text.to_ascii_lowercase().as_str() {
            "debug" => Priority::Debug,
            "informational" | "info" => Priority::Informational,
            "notice" => Priority::Notice,
            "warning" => Priority::Warning,
            "error" => Priority::Error,
            "critical" => Priority::Critical,
            "alert" => Priority::Alert,
            "emergency" => Priority::Emergency,
            _ => return None,
        })
    }

    /// The name as Falco writes it.
    pub fn name(self) -> &'static str {
        match self {
            Priority::Debug => "Debug",
            Priority::Informational => "Informational",
            Priority::Notice => "Notice",
            Priority::Warning => "Warning",
            Priority::Error => "Error",
            Priority::Critical => "Critical",
            Priority::Alert => "Alert",
            Priority::Emergency => "Emergency",
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why bytes are no alert.
#[derive(Debug, Error)]
pub enum AlertError {
    /// Not JSON, or not an object of this form.
    #[error("not an alert in Falco's JSON form")]
    Json(#[from] serde_json::Error),
    /// The priority is none of Falco's.
    #[error("priority {0:?} is none of Falco's")]
    Priority(String),
    /// The time is not in RFC 3339.
    #[error("time {text:?} is not in RFC 3339")]
    Time {
        /// What was there instead.
        text: String,
        /// What the parser said.
        source: jiff::Error,
    },
}

/// One alert, with the names of Falco's JSON output.
#[derive(Debug, Clone, PartialEq)]
pub struct Alert {
    /// Names this alert, and no other.
    pub uuid: String,
    /// The rule's output, its fields filled in.
    pub output: String,
    /// How bad it is.
    pub priority: Priority,
    /// The name of the rule.
    pub rule: String,
    /// When the event happened.
    pub time: Timestamp,
    /// The fields of the output, by name.
    pub output_fields: BTreeMap<String, Value>,
    /// Where the event came from: `syscall`, `k8s_audit`, a plugin's source.
    pub source: String,
    /// The tags of the rule, sorted.
    pub tags: Vec<String>,
    /// The host that saw it; may be empty.
    pub hostname: String,
}

#[derive(Deserialize)]
struct Wire {
    uuid: Option<String>,
    output: String,
    priority: String,
    rule: String,
    time: String,
    output_fields: Option<BTreeMap<String, Value>>,
    source: Option<String>,
    tags: Option<Vec<String>>,
    hostname: Option<String>,
}

impl Alert {
    /// Reads Falco's JSON. Bytes that are no UTF-8 are replaced by U+FFFD, control characters that
    /// JSON forbids by spaces. Without a uuid the alert is given one; an empty source is
    /// `syscalls`, as Falcosidekick has it.
    pub fn from_json(json: &[u8]) -> Result<Alert, AlertError> {
        let text = String::from_utf8_lossy(json);
        let wire: Wire = match serde_json::from_str(&text) {
            Ok(wire) => wire,
            Err(_) if text.contains(|c: char| c < ' ') => {
                serde_json::from_str(&text.replace(|c: char| c < ' ', " "))?
            }
            Err(error) => return Err(error.into()),
        };
        let priority =
            Priority::parse(&wire.priority).ok_or(AlertError::Priority(wire.priority))?;
        let time = wire.time.parse().map_err(|source| AlertError::Time {
            text: wire.time,
            source,
        })?;
        let mut tags = wire.tags.unwrap_or_default();
        tags.sort();
        Ok(Alert {
            uuid: wire
                .uuid
                .filter(|uuid| !uuid.is_empty())
                .unwrap_or_else(|| uuid::Uuid::new_v4().to_string()),
            output: wire.output,
            priority,
            rule: wire.rule,
            time,
            output_fields: wire.output_fields.unwrap_or_default(),
            source: wire
                .source
                .filter(|source| !source.is_empty())
                .unwrap_or_else(|| "syscalls".into()),
            tags,
            hostname: wire.hostname.unwrap_or_default(),
        })
    }

    /// The alert in Falco's JSON, members in the order that Falcosidekick writes them in.
    pub fn to_json(&self) -> Vec<u8> {
        to_json(self)
    }

    /// The fields that are texts, sorted by name: what services show.
    pub(crate) fn texts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.output_fields
            .iter()
            .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// A field that is a text.
    pub(crate) fn text(&self, field: &str) -> Option<&str> {
        self.output_fields.get(field)?.as_str()
    }

    /// The time as Go prints one (`2023-03-03 03:03:03.000000003 +0000 UTC`), which is what chats
    /// are sent.
    pub(crate) fn go_time(&self) -> String {
        let text = self.time.to_string();
        let bare = text.strip_suffix('Z').unwrap_or(&text);
        format!("{} +0000 UTC", bare.replace('T', " "))
    }
}

impl Serialize for Alert {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        AlertWire::from(self).serialize(serializer)
    }
}

/// The members of an alert in the order of the wire.
#[derive(Serialize)]
pub(crate) struct AlertWire<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    uuid: &'a str,
    output: &'a str,
    priority: &'static str,
    rule: &'a str,
    time: Timestamp,
    output_fields: &'a BTreeMap<String, Value>,
    source: &'a str,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    tags: &'a [String],
    #[serde(skip_serializing_if = "str::is_empty")]
    hostname: &'a str,
}

impl<'a> From<&'a Alert> for AlertWire<'a> {
    fn from(alert: &'a Alert) -> AlertWire<'a> {
        AlertWire {
            uuid: &alert.uuid,
            output: &alert.output,
            priority: alert.priority.name(),
            rule: &alert.rule,
            time: alert.time,
            output_fields: &alert.output_fields,
            source: &alert.source,
            tags: &alert.tags,
            hostname: &alert.hostname,
        }
    }
}

/// JSON of a payload.
pub(crate) fn to_json(payload: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(payload).expect("payloads are structs, and maps with keys that are texts")
}

/// A field's value as Go prints it: texts bare, nothing as `<nil>`, the rest as JSON.
pub(crate) fn go_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".into(),
        other => other.to_string(),
    }
}

/// At most `chars` characters of a text, the last one an ellipsis if it was longer.
pub(crate) fn cut(text: &str, chars: usize) -> String {
    match text.char_indices().nth(chars) {
        None => text.into(),
        Some(_) => {
            let mut short: String = text.chars().take(chars.saturating_sub(1)).collect();
            short.push('…');
            short
        }
    }
}
