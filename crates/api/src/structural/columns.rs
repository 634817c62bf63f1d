//! Printer columns: cells by simple JSON paths.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Custom, text};
use crate::{duration, meta};

/// The value at a path such as `.spec.list[0].name` or `.metadata.labels['a\.b']`; nothing for
/// paths of other sorts.
#[must_use]
pub(super) fn at_path<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    steps(path)?
        .iter()
        .try_fold(object, |value, step| match value {
            Value::Array(items) => items.get(step.parse::<usize>().ok()?),
            value => value.get(step),
        })
}

/// The names and indices of a path.
#[must_use]
pub(super) fn steps(path: &str) -> Option<Vec<String>> {
    let mut steps = Vec::new();
    let mut rest = path.strip_prefix('$').unwrap_or(path).chars().peekable();
    while let Some(next) = rest.next() {
        let mut name = String::new();
        match next {
            '.' => {
                while let Some(c) = rest.next_if(|c| !matches!(c, '.' | '[')) {
                    match c {
                        '\\' => name.extend(rest.next()),
                        c => name.push(c),
                    }
                }
            }
            '[' => {
                let quote = rest.next_if(|c| matches!(c, '\'' | '"'));
                loop {
                    match (rest.next()?, quote) {
                        ('\\', _) => name.push(rest.next()?),
                        (c, Some(quote)) if c == quote => {
                            (rest.next()? == ']').then_some(())?;
                            break;
                        }
                        (']', None) => break,
                        (c, _) => name.push(c),
                    }
                }
            }
            _ => return None,
        }
        if name.is_empty() || name == "*" {
            return None;
        }
        steps.push(name);
    }
    Some(steps)
}

impl Custom {
    fn printed(&self) -> Vec<&Value> {
        let columns = self.version().get("additionalPrinterColumns");
        columns
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .collect()
    }

    /// The `columnDefinitions` of a Table.
    #[must_use]
    pub fn column_definitions(&self) -> Value {
        let mut all = vec![json!({"name": "Name", "type": "string", "format": "name",
            "description": "Name of the object, unique among its kind in its namespace.", "priority": 0})];
        let printed = self.printed();
        if printed.is_empty() {
            all.push(json!({"name": "Age", "type": "date", "format": "",
                "description": "How long ago the object was created.", "priority": 0}));
        }
        for column in printed {
            let path = text(column, "jsonPath");
            let description = match text(column, "description") {
                "" => format!("Custom resource definition column (in JSONPath format): {path}"),
                words => words.to_owned(),
            };
            all.push(json!({"name": column["name"], "type": column["type"],
                "format": text(column, "format"), "description": description,
                "priority": column.get("priority").and_then(Value::as_i64).unwrap_or_default()}));
        }
        Value::Array(all)
    }

    /// The cells of an object.
    #[must_use]
    pub fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let mut cells = vec![meta::name(object).into()];
        let printed = self.printed();
        if printed.is_empty() {
            let age = duration::since(meta::creation_timestamp(object), now);
            cells.push(age.into());
        }
        for column in printed {
            let value = at_path(object, text(column, "jsonPath"));
            cells.push(value.map_or(Value::Null, |value| cell(value, text(column, "type"), now)));
        }
        cells
    }
}

fn cell(value: &Value, kind: &str, now: Timestamp) -> Value {
    match (kind, value) {
        (_, Value::Null) => Value::Null,
        ("integer", Value::Number(n)) if n.is_i64() => value.clone(),
        ("integer", Value::Number(n)) => n.as_f64().map_or(Value::Null, |n| n.trunc().into()),
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("integer" | "number" | "boolean", _) => Value::Null,
        ("date", Value::String(time)) if time.parse::<Timestamp>().is_ok() => {
            duration::since(time, now).into()
        }
        ("date", _) => "<invalid>".into(),
        (_, Value::String(_)) => value.clone(),
        (_, other) => other.to_string().into(),
    }
}
