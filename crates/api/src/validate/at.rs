//! A place in an object: the value there and the path to it.
//!
//! Invariant: walking makes no string; a path is written out only for an error.

use serde_json::Value;

use super::{FieldError, names};
use crate::quantity::Quantity;
use crate::selector::LabelSelector;

static NULL: Value = Value::Null;

/// The most errors of one object; what is beyond that is not told.
const MAX_ERRORS: usize = 100;

/// A value and how it was reached.
#[derive(Clone, Copy)]
pub(super) struct At<'v, 'p> {
    pub(super) value: &'v Value,
    parent: Option<&'p At<'v, 'p>>,
    part: Part<'p>,
}

#[derive(Clone, Copy)]
enum Part<'a> {
    Root,
    /// One or several names with dots between.
    Field(&'a str),
    Index(usize),
    Key(&'a str),
}

/// The value below `value` at names with dots between; null where there is none.
pub(super) fn get<'a>(value: &'a Value, names: &str) -> &'a Value {
    names
        .split('.')
        .try_fold(value, |v, name| v.get(name))
        .unwrap_or(&NULL)
}

impl<'v, 'p> At<'v, 'p> {
    /// The object itself.
    pub(super) fn root(value: &'v Value) -> Self {
        At {
            value,
            parent: None,
            part: Part::Root,
        }
    }

    /// The member at `name`, or below it where the name has dots.
    pub(super) fn field<'q>(&'q self, name: &'q str) -> At<'v, 'q> {
        At {
            value: get(self.value, name),
            parent: Some(self),
            part: Part::Field(name),
        }
    }

    /// The member of a map: its key stands in brackets.
    pub(super) fn key<'q>(&'q self, key: &'q str) -> At<'v, 'q> {
        At {
            value: self.value.get(key).unwrap_or(&NULL),
            parent: Some(self),
            part: Part::Key(key),
        }
    }

    /// The items of a list.
    pub(super) fn items<'q>(&'q self) -> impl Iterator<Item = At<'v, 'q>> + use<'v, 'q, 'p> {
        let list = self.value.as_array().map_or(&[][..], Vec::as_slice);
        list.iter().enumerate().map(move |(i, value)| At {
            value,
            parent: Some(self),
            part: Part::Index(i),
        })
    }

    /// The entries of a map.
    pub(super) fn entries<'q>(
        &'q self,
    ) -> impl Iterator<Item = (&'v str, At<'v, 'q>)> + use<'v, 'q, 'p>
    where
        'v: 'q,
    {
        let map = self.value.as_object();
        map.into_iter().flatten().map(move |(key, value)| {
            (
                key.as_str(),
                At {
                    value,
                    parent: Some(self),
                    part: Part::Key(key),
                },
            )
        })
    }

    /// Whether something is there.
    pub(super) fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether nothing is there, or something empty.
    pub(super) fn is_empty(&self) -> bool {
        is_empty(self.value)
    }

    /// How many items or entries there are.
    pub(super) fn len(&self) -> usize {
        match self.value {
            Value::Array(items) => items.len(),
            Value::Object(map) => map.len(),
            _ => 0,
        }
    }

    /// The string, empty where there is none.
    pub(super) fn text(&self) -> &'v str {
        self.value.as_str().unwrap_or_default()
    }

    /// The integer.
    pub(super) fn int(&self) -> Option<i64> {
        self.value.as_i64()
    }

    /// Whether it is `true`.
    pub(super) fn flag(&self) -> bool {
        self.value.as_bool().unwrap_or_default()
    }

    /// The quantity.
    pub(super) fn quantity(&self) -> Option<Quantity> {
        self.value
            .as_str()
            .and_then(|text| Quantity::parse(text).ok())
    }

    /// `spec.containers[0].name`.
    pub(super) fn path(&self) -> String {
        let mut text = self.parent.map(At::path).unwrap_or_default();
        match self.part {
            Part::Root => {}
            Part::Field(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
            Part::Index(i) => text.push_str(&format!("[{i}]")),
            Part::Key(key) => text.push_str(&format!("[{key}]")),
        }
        text
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Whether two values mean the same: what is absent is as what is empty.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            x.iter()
                .all(|(key, v)| same(v, y.get(key).unwrap_or(&NULL)))
                && y.iter()
                    .all(|(key, v)| x.contains_key(key) || same(&NULL, v))
        }
        (Value::Array(x), Value::Array(y)) => {
            x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y))
        }
        _ => a == b || (unset(a) && unset(b)),
    }
}

/// What Go writes as nothing: the zero values.
fn unset(value: &Value) -> bool {
    match value {
        Value::Object(map) => map.values().all(unset),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_i64() == Some(0),
        other => is_empty(other),
    }
}

/// The errors found so far.
#[derive(Default)]
pub(super) struct Errors(Vec<FieldError>);

impl Errors {
    /// All of them.
    pub(super) fn into_vec(self) -> Vec<FieldError> {
        self.0
    }

    fn add(&mut self, error: impl FnOnce() -> FieldError) {
        if self.0.len() < MAX_ERRORS {
            self.0.push(error());
        }
    }

    pub(super) fn required(&mut self, at: &At<'_, '_>, detail: &str) {
        self.add(|| FieldError::required(at.path(), detail));
    }

    /// Of the value that is there.
    pub(super) fn invalid(&mut self, at: &At<'_, '_>, detail: impl Into<String>) {
        // A string that is not there is shown as an empty one.
        let value = if at.value.is_null() {
            Value::from("")
        } else {
            at.value.clone()
        };
        self.add(|| FieldError::invalid(at.path(), value, detail));
    }

    /// Of another value than the one that is there.
    pub(super) fn invalid_value(
        &mut self,
        at: &At<'_, '_>,
        value: impl Into<Value>,
        detail: impl Into<String>,
    ) {
        self.add(|| FieldError::invalid(at.path(), value, detail));
    }

    pub(super) fn forbidden(&mut self, at: &At<'_, '_>, detail: impl Into<String>) {
        self.add(|| FieldError::forbidden(at.path(), detail));
    }

    pub(super) fn duplicate(&mut self, at: &At<'_, '_>) {
        self.add(|| FieldError::duplicate(at.path(), at.value.clone()));
    }

    pub(super) fn duplicate_value(&mut self, at: &At<'_, '_>, value: impl Into<Value>) {
        self.add(|| FieldError::duplicate(at.path(), value));
    }

    pub(super) fn not_found(&mut self, at: &At<'_, '_>) {
        self.add(|| FieldError::not_found(at.path(), at.text()));
    }

    pub(super) fn not_supported(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        let value = if at.value.is_null() {
            Value::from("")
        } else {
            at.value.clone()
        };
        self.add(|| FieldError::not_supported(at.path(), value, supported));
    }

    pub(super) fn too_long(&mut self, at: &At<'_, '_>, limit_bytes: usize) {
        self.add(|| FieldError::too_long(at.path(), limit_bytes));
    }

    pub(super) fn too_many(&mut self, at: &At<'_, '_>, found: usize, limit: usize) {
        self.add(|| FieldError::too_many(at.path(), found, limit));
    }

    /// A string of a form: one error for each of `words`.
    pub(super) fn form(&mut self, at: &At<'_, '_>, words: Vec<String>) {
        for detail in words {
            self.invalid(at, detail);
        }
    }

    /// Required when empty, else of a form.
    pub(super) fn required_form(&mut self, at: &At<'_, '_>, form: fn(&str) -> Vec<String>) {
        if at.text().is_empty() {
            self.required(at, "");
        } else {
            self.form(at, form(at.text()));
        }
    }

    /// Required when empty; whether it was there.
    pub(super) fn present(&mut self, at: &At<'_, '_>) -> bool {
        if at.is_empty() {
            self.required(at, "");
        }
        !at.is_empty()
    }

    /// Required when empty, else one of these.
    pub(super) fn one_of(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        if self.present(at) {
            self.any_of(at, supported);
        }
    }

    /// One of these where it is set.
    pub(super) fn any_of(&mut self, at: &At<'_, '_>, supported: &[&str]) {
        if at.is_set() && !supported.contains(&at.text()) {
            self.not_supported(at, supported);
        }
    }

    /// Not negative where it is set.
    pub(super) fn non_negative(&mut self, at: &At<'_, '_>) {
        if at.int().is_some_and(|n| n < 0) {
            self.invalid(at, "must be greater than or equal to 0");
        }
    }

    /// Greater than zero where it is set.
    pub(super) fn positive(&mut self, at: &At<'_, '_>) {
        if at.int().is_some_and(|n| n <= 0) {
            self.invalid(at, "must be greater than 0");
        }
    }

    /// Within these where it is set, both inclusive.
    pub(super) fn range(&mut self, at: &At<'_, '_>, low: i64, high: i64) {
        if at.int().is_some_and(|n| n < low || n > high) {
            self.invalid(at, format!("must be between {low} and {high}, inclusive"));
        }
    }

    /// The number or the name of a port.
    pub(super) fn port(&mut self, at: &At<'_, '_>) {
        match at.value {
            Value::String(name) => self.form(at, names::port_name(name)),
            Value::Number(_) => self.form(at, names::port_number(at.int().unwrap_or_default())),
            _ => self.invalid_value(at, 0, "must be between 1 and 65535, inclusive"),
        }
    }

    /// As it was.
    pub(super) fn immutable(&mut self, at: &At<'_, '_>, old: &Value) {
        if !same(at.value, old) {
            self.invalid(at, "field is immutable");
        }
    }

    /// A LabelSelector, or a NodeSelectorRequirement's cousin: its keys, values and operators.
    pub(super) fn label_selector(&mut self, at: &At<'_, '_>) {
        let labels = at.field("matchLabels");
        self.labels(&labels);
        let expressions = at.field("matchExpressions");
        for expression in expressions.items() {
            self.requirement(&expression);
        }
    }

    fn requirement(&mut self, at: &At<'_, '_>) {
        let (operator, values) = (at.field("operator"), at.field("values"));
        match operator.text() {
            "In" | "NotIn" => {
                if values.is_empty() {
                    self.required(
                        &values,
                        "must be specified when `operator` is 'In' or 'NotIn'",
                    );
                }
            }
            "Exists" | "DoesNotExist" => {
                if !values.is_empty() {
                    self.forbidden(
                        &values,
                        "may not be specified when `operator` is 'Exists' or 'DoesNotExist'",
                    );
                }
            }
            _ => self.invalid(&operator, "not a valid selector operator"),
        }
        let key = at.field("key");
        self.form(&key, names::qualified_name(key.text()));
        for value in values.items() {
            self.form(&value, names::label_value(value.text()));
        }
    }

    /// A map of labels.
    pub(super) fn labels(&mut self, at: &At<'_, '_>) {
        for (key, value) in at.entries() {
            for detail in names::qualified_name(key) {
                self.invalid_value(at, key, detail);
            }
            for detail in names::label_value(value.text()) {
                self.invalid_value(at, value.text(), detail);
            }
        }
    }
}

/// What a LabelSelector selects; nothing where it is malformed.
pub(super) fn selector(value: &Value) -> LabelSelector {
    LabelSelector::from_object(value).unwrap_or_else(|_| LabelSelector::nothing())
}
