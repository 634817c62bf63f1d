//! What is done to every alert before it is queued: custom fields and tags, templated fields,
//! brackets in names, the form of the output, and a bound on its size.
//!
//! Invariant: afterwards the alert's JSON is at most [`LONGEST_ALERT_BYTES`] long.

use std::collections::BTreeMap;

use serde_json::Value;

use super::alert::Alert;
use super::template::Template;

/// Alerts longer than this have their long fields cut (Falcosidekick's bound, in bytes).
const LONG_ALERT_BYTES: usize = 4096;
/// Fields longer than this are long (Falcosidekick's bound, in bytes).
const LONG_FIELD_BYTES: usize = 512;
/// The longest alert that is sent on, in bytes of JSON. What is longer loses fields, the last by
/// name first, then the end of its output. Ours: upstream has no such bound.
pub(crate) const LONGEST_ALERT_BYTES: usize = 128 * 1024;
const CUT: &str = "[...]";

/// The part of the configuration that concerns every alert.
#[derive(Debug, Clone, Default)]
pub struct Enrichment {
    /// `customfields`: fields that every alert gets.
    pub custom_fields: BTreeMap<String, String>,
    /// `templatedfields`: fields made from the other fields.
    pub templated_fields: BTreeMap<String, Template>,
    /// `customtags`: tags that every alert gets.
    pub custom_tags: Vec<String>,
    /// `bracketreplacer`: what `[` in names of fields becomes; `]` goes.
    pub bracket_replacer: Option<String>,
    /// `outputfieldformat`: the form of the output.
    pub output_format: Option<String>,
}

impl Enrichment {
    /// Applies all of it, in upstream's order.
    pub fn apply(&self, alert: &mut Alert) {
        for (name, value) in &self.custom_fields {
            alert
                .output_fields
                .insert(name.clone(), Value::String(value.clone()));
        }
        alert.tags.extend(self.custom_tags.iter().cloned());
        alert.tags.sort();
        for (name, template) in &self.templated_fields {
            let value = template.render(alert);
            alert
                .output_fields
                .insert(name.clone(), Value::String(value));
        }
        if let Some(replacer) = &self.bracket_replacer {
            replace_brackets(alert, replacer);
        }
        if let Some(format) = &self.output_format {
            self.format_output(alert, format);
        }
        bound(alert);
    }

    /// Upstream recognises an output by its time and priority; what has another form stays.
    fn format_output(&self, alert: &mut Alert, format: &str) {
        let mut words = alert.output.splitn(3, ' ');
        let (Some(time), Some(priority), Some(rest)) = (words.next(), words.next(), words.next())
        else {
            return;
        };
        let Some(time) = time.strip_suffix(':').filter(|time| is_time(time)) else {
            return;
        };
        if super::Priority::parse(priority).is_none() {
            return;
        }
        let custom: Vec<String> = self
            .custom_fields
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let templated: Vec<String> = self
            .templated_fields
            .keys()
            .map(|name| format!("{name}={}", alert.text(name).unwrap_or_default()))
            .collect();
        // The output is filled in last, so that what a process is called is no placeholder.
        let text = format
            .replace("<timestamp>", time)
            .replace("<priority>", alert.priority.name())
            .replace("<custom_fields>", &custom.join(" "))
            .replace("<templated_fields>", &templated.join(" "))
            .replace("<tags>", &alert.tags.join(","))
            .replace("<output>", rest);
        let text = text.trim_end_matches(' ');
        let text = text.strip_suffix("( )").unwrap_or(text);
        let text = text.strip_suffix("()").unwrap_or(text);
        alert.output = text.trim_end_matches(' ').into();
    }
}

/// `15:04:05.000000000`, or a time of ISO 8601.
fn is_time(text: &str) -> bool {
    text.len() >= 8
        && text.starts_with(|c: char| c.is_ascii_digit())
        && text
            .chars()
            .all(|c| c.is_ascii_digit() || matches!(c, ':' | '.' | '-' | '+' | 'T' | 'Z'))
}

fn replace_brackets(alert: &mut Alert, replacer: &str) {
    let named: Vec<String> = alert
        .output_fields
        .keys()
        .filter(|name| name.contains('['))
        .cloned()
        .collect();
    for name in named {
        if let Some(value) = alert.output_fields.remove(&name) {
            let name = name.replace(']', "").replace('[', replacer);
            alert.output_fields.insert(name, value);
        }
    }
}

fn bound(alert: &mut Alert) {
    if alert.to_json().len() <= LONG_ALERT_BYTES {
        return;
    }
    for value in alert.output_fields.values_mut() {
        let Value::String(text) = value else { continue };
        if text.len() > LONG_FIELD_BYTES {
            let short = shorten(text, LONG_FIELD_BYTES);
            alert.output = alert.output.replace(text.as_str(), &short);
            *text = short;
        }
    }
    let mut json_bytes = alert.to_json().len();
    while json_bytes > LONGEST_ALERT_BYTES
        && let Some((name, value)) = alert.output_fields.pop_last()
    {
        let member = super::alert::to_json(&BTreeMap::from([(name, value)])).len();
        json_bytes = json_bytes.saturating_sub(member.saturating_sub(1));
    }
    // A character is at most six bytes of JSON, and an ordinary one is one.
    let texts = LONGEST_ALERT_BYTES / 32;
    if alert.to_json().len() > LONGEST_ALERT_BYTES {
        for text in [
            &mut alert.output,
            &mut alert.rule,
            &mut alert.source,
            &mut alert.hostname,
        ] {
            *text = shorten(text, texts);
        }
        alert.uuid = shorten(&alert.uuid, 64);
        for tag in &mut alert.tags {
            *tag = shorten(tag, 64);
        }
        alert.tags.truncate(64);
    }
}

/// At most `bytes` bytes of a text, with a mark where it was cut, and never half a character.
fn shorten(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.into();
    }
    let end = text.floor_char_boundary(bytes.saturating_sub(CUT.len()));
    format!("{}{CUT}", &text[..end])
}
