//! Alerts: a rule that matched an event, as a line of text or as JSON in Falco's shape.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::{Value as Json, json};

use super::render;
use super::template::Template;
use crate::event::Event;
use crate::fields::FieldId;
use crate::load::{ExtraField, Rule};
use crate::priority::Priority;

/// How alerts are written.
#[derive(Clone, Debug)]
pub struct AlertOptions {
    /// The zone of the time in front of a line.
    pub time_zone: TimeZone,
    /// That time in ISO 8601, in UTC.
    pub time_iso8601: bool,
    /// The host's name in JSON.
    pub hostname: String,
    /// Whether JSON has the whole line.
    pub output: bool,
    /// Whether JSON has the rule's tags.
    pub tags: bool,
    /// Whether JSON has the rule's own text.
    pub message: bool,
    /// Whether JSON has the fields.
    pub output_fields: bool,
}

impl Default for AlertOptions {
    fn default() -> Self {
        Self {
            time_zone: TimeZone::UTC,
            time_iso8601: false,
            hostname: String::new(),
            output: true,
            tags: true,
            message: false,
            output_fields: true,
        }
    }
}

/// What an alert is made of, beside the event.
#[derive(Clone, Copy, Debug)]
pub struct Alert<'a> {
    /// The rule's name.
    pub rule: &'a str,
    /// Where the event came from.
    pub source: &'a str,
    /// How grave it is.
    pub priority: Priority,
    /// The rule's tags.
    pub tags: &'a BTreeSet<String>,
    /// What the rule says.
    pub template: &'a Template,
    /// Fields that are added to the JSON.
    pub extra_fields: &'a BTreeMap<String, ExtraField>,
}

fn timestamp(time_ns: u64) -> Timestamp {
    Timestamp::from_nanosecond(i128::from(time_ns)).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// What a field of time says, where it depends on nothing but the time.
pub(super) fn time_text(field: FieldId, time_ns: u64, zone: &TimeZone) -> Option<String> {
    let (format, zone) = match field {
        FieldId::EvtTime => ("%H:%M:%S.%9f", zone),
        FieldId::EvtTimeS => ("%H:%M:%S", zone),
        FieldId::EvtTimeIso8601 => ("%Y-%m-%dT%H:%M:%S.%9f+0000", &TimeZone::UTC),
        FieldId::EvtDatetime => ("%Y-%m-%d %H:%M:%S.%9f", zone),
        FieldId::EvtDatetimeS => ("%Y-%m-%d %H:%M:%S", zone),
        _ => return None,
    };
    let time = timestamp(time_ns).to_zoned(zone.clone());
    Some(time.strftime(format).to_string())
}

/// Whether [`time_text`] says something of the field.
pub(super) fn is_time(field: FieldId) -> bool {
    matches!(
        field,
        FieldId::EvtTime
            | FieldId::EvtTimeS
            | FieldId::EvtTimeIso8601
            | FieldId::EvtDatetime
            | FieldId::EvtDatetimeS
    )
}

impl<'a> Alert<'a> {
    /// The alert of a rule.
    pub fn of(rule: &'a Rule) -> Self {
        Self {
            rule: &rule.name,
            source: rule.source.name(),
            priority: rule.priority,
            tags: &rule.tags,
            template: &rule.template,
            extra_fields: &rule.extra_fields,
        }
    }
}

impl Alert<'_> {
    fn line(&self, event: &(impl Event + ?Sized), options: &AlertOptions) -> (String, String) {
        let message = self.template.render(event, &options.time_zone);
        let message = String::from_utf8_lossy(&message.unwrap_or_default()).into_owned();
        let field = if options.time_iso8601 {
            FieldId::EvtTimeIso8601
        } else {
            FieldId::EvtTime
        };
        let time = time_text(field, event.time_ns(), &options.time_zone).unwrap_or_default();
        let line = format!("{time}: {} {message}", self.priority.name());
        (line, message)
    }

    /// One line; control characters are escaped as JSON does.
    pub fn text(&self, event: &(impl Event + ?Sized), options: &AlertOptions) -> String {
        let (line, _) = self.line(event, options);
        let quoted = Json::String(line).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    }

    /// One line of JSON.
    pub fn json(&self, event: &(impl Event + ?Sized), options: &AlertOptions) -> String {
        let (line, message) = self.line(event, options);
        let mut alert: BTreeMap<&str, Json> = BTreeMap::new();
        let time = timestamp(event.time_ns()).strftime("%Y-%m-%dT%H:%M:%S.%9fZ");
        alert.insert("time", time.to_string().into());
        alert.insert("rule", self.rule.into());
        alert.insert("priority", self.priority.name().into());
        alert.insert("source", self.source.into());
        alert.insert("hostname", options.hostname.as_str().into());
        if options.output {
            alert.insert("output", line.into());
        }
        if options.tags {
            alert.insert("tags", json!(self.tags));
        }
        if options.message {
            alert.insert("message", message.into());
        }
        if options.output_fields {
            alert.insert("output_fields", json!(self.fields(event, options)));
        }
        json!(alert).to_string()
    }

    /// The fields of an alert, by name.
    pub fn fields(
        &self,
        event: &(impl Event + ?Sized),
        options: &AlertOptions,
    ) -> BTreeMap<String, Json> {
        let mut fields = BTreeMap::new();
        for field in self
            .template
            .fields
            .iter()
            .filter(|field| !field.transformed)
        {
            fields.insert(field.name.clone(), render::json(&field.typed, event));
        }
        let time = if options.time_iso8601 {
            "evt.time.iso8601"
        } else {
            "evt.time"
        };
        fields.insert(time.into(), event.time_ns().into());
        for (key, extra) in self.extra_fields {
            let named = extra.template.fields.first().filter(|_| extra.raw);
            let value = match named {
                Some(field) => render::json(&field.typed, event),
                None => {
                    let text = extra.template.render(event, &options.time_zone);
                    String::from_utf8_lossy(&text.unwrap_or_default())
                        .into_owned()
                        .into()
                }
            };
            fields.insert(key.clone(), value);
        }
        fields
    }
}
