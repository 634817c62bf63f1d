//! Events of the source `k8s_audit`: what an API server writes to its audit log
//! (audit.k8s.io/v1), with the `ka` fields of upstream's k8saudit plugin and the `jevt` fields of its
//! JSON plugin.
//!
//! Invariant: a field that the event has in another form than it should has no value.

mod containers;
mod extract;
#[cfg(test)]
mod tests;

use rules::events::EventType as RuleType;
use rules::fields::{Argument, Class, FieldId as F};
use rules::{Event as RuleEvent, Values};
use serde_json::Value as Json;

/// The most bytes that an event may have, as upstream's plugin has it by default
/// (`maxEventSize`).
pub const MOST_EVENT_BYTES: usize = 262_144;

/// Why something is no audit event.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// It is no JSON.
    #[error("an audit event is no JSON")]
    Json(#[from] serde_json::Error),
    /// It is JSON of another kind.
    #[error("an audit event is of kind {kind:?} instead of Event or EventList")]
    Kind {
        /// What it says it is.
        kind: String,
    },
    /// It has no time.
    #[error("an audit event has no stageTimestamp")]
    Time,
}

/// An event of the audit log.
#[derive(Clone, Debug)]
pub struct AuditEvent {
    json: Json,
    time_ns: u64,
    /// Its number, counted from 1.
    number: u64,
    /// When the first event happened, in nanoseconds since 1970.
    first_ns: u64,
    hostname: String,
}

impl AuditEvent {
    /// An event from its JSON.
    ///
    /// # Errors
    /// When it is no event of audit.k8s.io, or has no time.
    pub fn new(json: Json) -> Result<Self, AuditError> {
        let kind = json.get("kind").and_then(Json::as_str).unwrap_or_default();
        if kind != "Event" {
            return Err(AuditError::Kind {
                kind: kind.to_owned(),
            });
        }
        let time = json
            .get("stageTimestamp")
            .and_then(Json::as_str)
            .and_then(|time| time.parse::<jiff::Timestamp>().ok())
            .ok_or(AuditError::Time)?;
        let time_ns = u64::try_from(time.as_nanosecond()).map_err(|_| AuditError::Time)?;
        Ok(Self {
            json,
            time_ns,
            number: 0,
            first_ns: time_ns,
            hostname: String::new(),
        })
    }

    /// The events in a text: one event, a list of them as a webhook gets it, or an array of both.
    /// What is wrong with one says nothing of the others.
    ///
    /// # Errors
    /// When the text is no JSON, or JSON of another kind.
    pub fn read_all(text: &[u8]) -> Result<Vec<Result<Self, AuditError>>, AuditError> {
        let mut events = Vec::new();
        collect(serde_json::from_slice(text)?, &mut events)?;
        Ok(events)
    }

    /// Says where in the stream it stands, and on which host.
    pub fn place(&mut self, number: u64, first_ns: u64, hostname: &str) {
        self.number = number;
        self.first_ns = first_ns;
        hostname.clone_into(&mut self.hostname);
    }

    /// The event's JSON.
    #[must_use]
    pub fn json(&self) -> &Json {
        &self.json
    }

    fn generic_field<'a>(&'a self, field: F, out: &mut Values<'a>) {
        let since = self.time_ns.saturating_sub(self.first_ns);
        match field {
            F::EvtNum => out.unsigned(self.number),
            F::EvtTime
            | F::EvtTimeS
            | F::EvtTimeIso8601
            | F::EvtDatetime
            | F::EvtDatetimeS
            | F::EvtRawtime => out.unsigned(self.time_ns),
            F::EvtRawtimeS => out.unsigned(self.time_ns / 1_000_000_000),
            F::EvtRawtimeNs => out.unsigned(self.time_ns % 1_000_000_000),
            F::EvtReltime => out.unsigned(since),
            F::EvtReltimeS => out.unsigned(since / 1_000_000_000),
            F::EvtReltimeNs => out.unsigned(since % 1_000_000_000),
            F::EvtPluginname => out.text("k8saudit"),
            F::EvtPlugininfo => {
                let text = |name| self.json.get(name).and_then(Json::as_str).unwrap_or("<NA>");
                let user = self.json.pointer("/user/username").and_then(Json::as_str);
                out.write(|store| {
                    super::put(
                        store,
                        format_args!(
                            "{} {} {} {}",
                            text("auditID"),
                            text("stage"),
                            text("verb"),
                            user.unwrap_or("<NA>"),
                        ),
                    );
                });
            }
            F::EvtSource => out.text("k8s_audit"),
            F::EvtIsAsync => out.boolean(false),
            F::EvtHostname => out.text(&self.hostname),
            _ => {}
        }
    }

    fn json_field(&self, field: F, argument: &Argument, out: &mut Values<'_>) {
        match field {
            F::JsonValue | F::JevtValue => {
                let Argument::Key(pointer) = argument else {
                    return;
                };
                let found = match &**pointer {
                    "" => Some(&self.json),
                    pointer if pointer.starts_with('/') => self.json.pointer(pointer),
                    // The slash in front may be left out.
                    pointer => self.json.pointer(&format!("/{pointer}")),
                };
                if let Some(found) = found {
                    out.write(|store| extract::write_text(found, store));
                }
            }
            F::JsonObj | F::JevtObj => out.write(|store| {
                // Writing to a vector does not fail.
                let _infallible = serde_json::to_writer_pretty(store, &self.json);
            }),
            _ => out.write(|store| super::put(store, format_args!("{}", self.time_ns))),
        }
    }
}

fn collect(json: Json, events: &mut Vec<Result<AuditEvent, AuditError>>) -> Result<(), AuditError> {
    match json {
        Json::Array(items) => {
            for item in items {
                collect(item, events)?;
            }
        }
        Json::Object(mut object) => {
            let kind = object
                .get("kind")
                .and_then(Json::as_str)
                .unwrap_or_default();
            match kind {
                "EventList" => {
                    if let Some(Json::Array(items)) = object.remove("items") {
                        // Items of a list often leave out what kind they are.
                        events.extend(items.into_iter().map(|mut item| {
                            if let Some(item) = item.as_object_mut() {
                                item.entry("kind").or_insert_with(|| "Event".into());
                            }
                            AuditEvent::new(item)
                        }));
                    }
                }
                "Event" => events.push(AuditEvent::new(Json::Object(object))),
                other => {
                    return Err(AuditError::Kind {
                        kind: other.to_owned(),
                    });
                }
            }
        }
        _ => {
            return Err(AuditError::Kind {
                kind: String::new(),
            });
        }
    }
    Ok(())
}

impl RuleEvent for AuditEvent {
    fn kind(&self) -> RuleType {
        RuleType::plugin()
    }

    fn field<'a>(&'a self, field: F, argument: &Argument, out: &mut Values<'a>) {
        match field.info().class {
            Class::Generic => self.generic_field(field, out),
            Class::Json => self.json_field(field, argument, out),
            Class::Audit => {
                extract::field(&self.json, field, argument, out);
            }
            _ => {}
        }
    }

    fn time_ns(&self) -> u64 {
        self.time_ns
    }
}
