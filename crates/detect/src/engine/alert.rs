//! From a rule that matched to what is written.

use rules::{Alert, AlertOptions, Priority};
use serde_json::{Map, Value as Json, json};

use super::load::Loaded;
use crate::fields::Host;
use crate::outputs::Message;

/// How alerts are written.
#[derive(Clone, Debug, Default)]
pub struct Format {
    /// Whether lines are JSON.
    pub json: bool,
    /// Whether some output wants the fields, whatever lines are.
    pub fields: bool,
    /// What is in them.
    pub options: AlertOptions,
}

impl Format {
    /// What is written of a rule and the event that it matched.
    pub(super) fn message(
        &self,
        rules: &Loaded,
        rule: usize,
        event: &impl rules::Event,
        host: &Host,
    ) -> Option<Message> {
        let rule = rules.program.rules().get(rule)?;
        let alert = Alert::of(rule);
        let options = AlertOptions {
            hostname: host.hostname().to_owned(),
            ..self.options.clone()
        };
        let json = match self.json || self.fields {
            true => alert.json(event, &options),
            false => String::new(),
        };
        let line = match self.json {
            true => json.clone(),
            false => alert.text(event, &options),
        };
        Some(Message {
            time_ns: event.time_ns(),
            priority: rule.priority,
            rule: rule.name.clone(),
            source: rule.source.name(),
            tags: rule.tags.iter().cloned().collect(),
            line,
            json,
        })
    }

    /// What the engine says of itself, in the form of an alert of the source `internal`.
    pub(super) fn internal(
        &self,
        time_ns: u64,
        priority: Priority,
        rule: &str,
        text: &str,
        fields: Map<String, Json>,
        host: &Host,
    ) -> Message {
        let time = jiff::Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or_default();
        let json = json!({
            "hostname": host.hostname(),
            "output": text,
            "output_fields": fields,
            "priority": priority.name(),
            "rule": rule,
            "source": "internal",
            "time": time.strftime("%Y-%m-%dT%H:%M:%S.%9fZ").to_string(),
        })
        .to_string();
        let line = match self.json {
            true => json.clone(),
            false => {
                let said: Vec<_> = fields
                    .iter()
                    .map(|(name, value)| format!("{name}={value}"))
                    .collect();
                let time = time.to_zoned(self.options.time_zone.clone());
                format!(
                    "{}: {} {text} ({})",
                    time.strftime("%H:%M:%S.%9f"),
                    priority.name(),
                    said.join(" "),
                )
            }
        };
        Message {
            time_ns,
            priority,
            rule: rule.to_owned(),
            source: "internal",
            tags: Vec::new(),
            line,
            json,
        }
    }
}
