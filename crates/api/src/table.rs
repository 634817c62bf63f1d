//! What `kubectl get` prints: columns and cells of each kind.
//!
//! Invariant: a row has as many cells as its resource has columns.

mod cluster;
mod network;
mod other;
mod pod;
mod policy;
mod storage;
mod workloads;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use crate::duration;
use crate::meta;
use crate::resource::Resource;
use crate::selector::LabelSelector;

/// A column of a Table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// Heading.
    pub name: &'static str,
    /// OpenAPI type: `string`, `integer`, `boolean` or `date`.
    pub kind: &'static str,
    /// OpenAPI format: `name` for the name column.
    pub format: &'static str,
    /// What the column means; may be empty.
    pub description: &'static str,
    /// 0: always shown; 1: with `-o wide`.
    pub priority: i32,
}

/// How one kind is printed.
struct Printer {
    columns: &'static [Column],
    cells: fn(&Row<'_>) -> Vec<Value>,
}

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "Name of the object, unique among its kind in its namespace.",
    priority: 0,
};
const AGE: Column = Column {
    name: "Age",
    description: "How long ago the object was created.",
    ..text("")
};
const CREATED: Column = Column {
    name: "Created At",
    kind: "date",
    description: "When the object was created.",
    ..text("")
};
const CONTAINERS: Column = wide("Containers");
const IMAGES: Column = wide("Images");
const SELECTOR: Column = wide("Selector");

/// A column of text.
const fn text(name: &'static str) -> Column {
    Column {
        name,
        kind: "string",
        format: "",
        description: "",
        priority: 0,
    }
}

/// A column of whole numbers.
const fn number(name: &'static str) -> Column {
    Column {
        kind: "integer",
        ..text(name)
    }
}

/// A column that only `-o wide` shows.
const fn wide(name: &'static str) -> Column {
    Column {
        priority: 1,
        ..text(name)
    }
}

const DEFAULT: Printer = Printer {
    columns: &[NAME, AGE],
    cells: |row| vec![row.name(), row.age()],
};

fn printer(res: &Resource) -> &'static Printer {
    let found = match &*res.group {
        "" => pod::printer(&res.plural)
            .or_else(|| workloads::printer(&res.plural))
            .or_else(|| network::core(&res.plural))
            .or_else(|| storage::printer(&res.plural))
            .or_else(|| cluster::printer(&res.plural)),
        "apps" | "batch" => workloads::printer(&res.plural),
        "networking.k8s.io" | "discovery.k8s.io" => network::printer(&res.plural),
        "storage.k8s.io" => storage::printer(&res.plural),
        "events.k8s.io" => cluster::new_events(&res.plural),
        "rbac.authorization.k8s.io"
        | "policy"
        | "autoscaling"
        | "scheduling.k8s.io"
        | "certificates.k8s.io" => policy::printer(&res.plural, &res.version),
        _ => other::printer(&res.plural),
    };
    found.unwrap_or(&DEFAULT)
}

/// The columns of a resource.
#[must_use]
pub fn columns(res: &Resource) -> &'static [Column] {
    printer(res).columns
}

/// The cells of one object, as many as there are columns. `now` is what ages are counted to.
#[must_use]
pub fn cells(res: &Resource, object: &Value, now: Timestamp) -> Vec<Value> {
    if let Some(custom) = res.schema.custom() {
        return custom.cells(object, now);
    }
    let printer = printer(res);
    let mut cells = (printer.cells)(&Row { object, now });
    cells.resize(printer.columns.len(), Value::Null);
    cells
}

/// The `columnDefinitions` of a `meta.k8s.io/v1` Table.
#[must_use]
pub fn column_definitions(res: &Resource) -> Value {
    match res.schema.custom() {
        Some(custom) => custom.column_definitions(),
        None => definitions(columns(res)),
    }
}

/// Columns as `columnDefinitions`.
#[must_use]
pub fn definitions(columns: &[Column]) -> Value {
    let one = |c: &Column| json!({"name": c.name, "type": c.kind, "format": c.format, "description": c.description, "priority": c.priority});
    columns.iter().map(one).collect()
}

/// An object about to be printed.
struct Row<'a> {
    object: &'a Value,
    now: Timestamp,
}

impl<'a> Row<'a> {
    fn name(&self) -> Value {
        meta::name(self.object).into()
    }

    fn age(&self) -> Value {
        self.since(meta::creation_timestamp(self.object)).into()
    }

    fn created(&self) -> Value {
        meta::creation_timestamp(self.object).into()
    }

    fn since(&self, time: &str) -> String {
        duration::since(time, self.now)
    }

    fn deleting(&self) -> bool {
        meta::deletion_timestamp(self.object).is_some()
    }

    /// The value at a JSON pointer.
    fn at(&self, pointer: &str) -> Option<&'a Value> {
        self.object.pointer(pointer)
    }

    fn text(&self, pointer: &str) -> &'a str {
        self.at(pointer).and_then(Value::as_str).unwrap_or_default()
    }

    /// The text at a pointer, or a stand-in for none.
    fn text_or(&self, pointer: &str, none: &str) -> Value {
        match self.text(pointer) {
            "" => none.into(),
            text => text.into(),
        }
    }

    fn int(&self, pointer: &str) -> i64 {
        self.at(pointer).and_then(Value::as_i64).unwrap_or_default()
    }

    fn flag(&self, pointer: &str) -> bool {
        self.at(pointer)
            .and_then(Value::as_bool)
            .unwrap_or_default()
    }

    fn list(&self, pointer: &str) -> &'a [Value] {
        self.at(pointer)
            .and_then(Value::as_array)
            .map_or(&[], Vec::as_slice)
    }

    fn count(&self, pointer: &str) -> usize {
        match self.at(pointer) {
            Some(Value::Array(items)) => items.len(),
            Some(Value::Object(map)) => map.len(),
            _ => 0,
        }
    }

    /// Status of a condition.
    fn condition(&self, kind: &str) -> Option<&'a str> {
        condition(self.list("/status/conditions"), kind)
    }

    /// Names and images of the containers of a pod spec.
    fn containers(&self, pod_spec: &str) -> [Value; 2] {
        let containers = self.list(&format!("{pod_spec}/containers"));
        [
            joined(containers, "name").into(),
            joined(containers, "image").into(),
        ]
    }

    /// A `LabelSelector` object as text.
    fn selector(&self, pointer: &str) -> String {
        let selector = self
            .at(pointer)
            .and_then(|s| LabelSelector::from_object(s).ok());
        or_none(selector.map(|s| s.to_string()).unwrap_or_default())
    }

    /// A map of labels as text.
    fn labels(&self, pointer: &str) -> String {
        let map = self.at(pointer).and_then(Value::as_object);
        or_none(
            map.map(|m| LabelSelector::from_map(m).to_string())
                .unwrap_or_default(),
        )
    }
}

fn condition<'a>(conditions: &'a [Value], kind: &str) -> Option<&'a str> {
    conditions
        .iter()
        .find(|c| field(c, "type") == kind)
        .map(|c| field(c, "status"))
}

fn field<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

fn joined(items: &[Value], key: &str) -> String {
    items
        .iter()
        .map(|item| field(item, key))
        .collect::<Vec<_>>()
        .join(",")
}

fn or_none(text: String) -> String {
    if text.is_empty() {
        "<none>".to_owned()
    } else {
        text
    }
}

/// At most three items, then how many more there are.
fn first_three(items: &[String], none: &str) -> String {
    match items.len() {
        0 => none.to_owned(),
        1..=3 => items.join(","),
        more => format!("{} + {} more...", items[..3].join(","), more - 3),
    }
}

fn map_len(map: Option<&Map<String, Value>>) -> usize {
    map.map_or(0, Map::len)
}

#[cfg(test)]
mod tests;
