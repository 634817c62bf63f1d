//! Printer columns: cells by JSON paths.

use std::borrow::Cow;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Custom, text};
use crate::jsonpath::{JsonPath, shown};
use crate::{duration, meta};

fn said(version: &Value) -> impl Iterator<Item = &Value> {
    let columns = version.get("additionalPrinterColumns");
    columns.and_then(Value::as_array).into_iter().flatten()
}

/// The paths of a version's columns, as far as they are paths: what follows one that is none is not
/// printed.
pub(super) fn paths(version: &Value) -> Vec<JsonPath> {
    let paths = said(version).map(|column| JsonPath::parse(text(column, "jsonPath")));
    paths.map_while(Result::ok).collect()
}

impl Custom {
    /// The columns that are printed, and whether the definition says any.
    fn printed(&self) -> (impl Iterator<Item = (&Value, &JsonPath)>, bool) {
        let any = said(self.version()).next().is_some();
        (said(self.version()).zip(&self.columns), any)
    }

    /// The `columnDefinitions` of a Table.
    #[must_use]
    pub fn column_definitions(&self) -> Value {
        let mut all = vec![json!({"name": "Name", "type": "string", "format": "name",
            "description": "Name of the object, unique among its kind in its namespace.", "priority": 0})];
        let (printed, any) = self.printed();
        if !any {
            all.push(json!({"name": "Age", "type": "date", "format": "",
                "description": "How long ago the object was created.", "priority": 0}));
        }
        for (column, _) in printed {
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
        let (printed, any) = self.printed();
        if !any {
            let age = duration::since(meta::creation_timestamp(object), now);
            cells.push(age.into());
        }
        for (column, path) in printed {
            let value: Option<Cow<'_, Value>> = path.first(object);
            let cell = value.map(|value| cell(&value, text(column, "type"), now));
            cells.push(cell.unwrap_or_default());
        }
        cells
    }
}

fn cell(value: &Value, kind: &str, now: Timestamp) -> Value {
    match (kind, value) {
        ("string", value) => shown(value).into(),
        ("integer", Value::Number(n)) if n.is_i64() => value.clone(),
        ("integer", Value::Number(n)) => {
            let whole = n.as_f64().map(|n| n.trunc().to_string());
            whole.and_then(|n| n.parse::<i64>().ok()).into()
        }
        ("number", Value::Number(_)) | ("boolean", Value::Bool(_)) => value.clone(),
        ("date", Value::String(time)) if time.is_empty() => "<unknown>".into(),
        ("date", Value::String(time)) if time.parse::<Timestamp>().is_ok() => {
            duration::since(time, now).into()
        }
        ("date", Value::String(_)) => "<invalid>".into(),
        _ => Value::Null,
    }
}
