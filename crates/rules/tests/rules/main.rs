//! The rules through their door: files and events in; alerts, errors and warnings out.

#![allow(clippy::unwrap_used, reason = "tests")]

mod alerts;
mod conditions;
mod described;
mod hostile;
mod loading;
mod programs;
mod upstream;

use std::collections::HashMap;
use std::net::IpAddr;

use rules::events::{self, EventType};
use rules::fields::{self, Argument, FieldId};
use rules::{Event, Values};

/// One value of a field.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Text(Vec<u8>),
    Unsigned(u64),
    Signed(i64),
    Bool(bool),
    Address(IpAddr),
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.as_bytes().to_vec())
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Unsigned(number)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Signed(number)
    }
}

impl From<bool> for Value {
    fn from(truth: bool) -> Self {
        Self::Bool(truth)
    }
}

/// An event made of values by name.
#[derive(Clone, Debug)]
pub(crate) struct Made {
    kind: EventType,
    fields: HashMap<(FieldId, Argument), Vec<Value>>,
}

impl Made {
    pub(crate) fn new(kind: &str) -> Self {
        Self {
            kind: events::find(kind).unwrap(),
            fields: HashMap::new(),
        }
        .with("evt.type", kind)
    }

    /// With a value of a field, such as `proc.aname[2]`; several for several.
    pub(crate) fn with(mut self, field: &str, value: impl Into<Value>) -> Self {
        let (name, argument) = match field.split_once('[') {
            Some((name, rest)) => (name, rest.strip_suffix(']')),
            None => (field, None),
        };
        let field = fields::Source::ALL
            .into_iter()
            .find_map(|source| fields::resolve(source, name, argument).ok())
            .unwrap_or_else(|| panic!("no field {field}"));
        self.fields
            .entry((field.id, field.argument))
            .or_default()
            .push(value.into());
        self
    }
}

impl Event for Made {
    fn kind(&self) -> EventType {
        self.kind
    }

    fn field<'a>(&'a self, field: FieldId, argument: &Argument, out: &mut Values<'a>) {
        let values = self.fields.get(&(field, argument.clone()));
        for value in values.into_iter().flatten() {
            match value {
                Value::Text(text) => out.text(text),
                Value::Unsigned(number) => out.unsigned(*number),
                Value::Signed(number) => out.signed(*number),
                Value::Bool(truth) => out.boolean(*truth),
                Value::Address(address) => out.address(*address),
            }
        }
    }

    fn time_ns(&self) -> u64 {
        1_700_000_000_123_456_789
    }
}
