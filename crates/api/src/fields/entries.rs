//! `metadata.managedFields`: who set what, by which operation, in which version, through which part.
//!
//! Invariant: one entry an identity; written in upstream's order.

use serde_json::{Map, Value};

use super::set::Set;
use crate::status::quote;

/// The most entries of updates; the oldest are merged beyond.
const UPDATERS_LIMIT: usize = 10;
/// Who the merged oldest updates belong to.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Whose an entry is. Applies of one manager are one entry, whatever their version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Id {
    pub(super) manager: String,
    pub(super) operation: Operation,
    /// Empty for applies.
    pub(super) version: String,
    pub(super) subresource: String,
}

/// Fields of one manager.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub manager: String,
    /// How.
    pub operation: Operation,
    /// Through which subresource; empty for the object itself.
    pub subresource: String,
    /// In which version the fields are named.
    pub api_version: String,
    /// When, RFC 3339 in whole seconds; empty when not known.
    pub time: String,
    /// What.
    pub fields: Set,
}

impl Entry {
    pub(super) fn id(&self) -> Id {
        let version = match self.operation {
            Operation::Apply => String::new(),
            Operation::Update => self.api_version.clone(),
        };
        Id {
            manager: self.manager.clone(),
            operation: self.operation,
            version,
            subresource: self.subresource.clone(),
        }
    }

    fn is(&self, id: &Id) -> bool {
        self.manager == id.manager
            && self.operation == id.operation
            && self.subresource == id.subresource
            && (self.operation == Operation::Apply || self.api_version == id.version)
    }

    fn read(value: &Value) -> Option<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str).unwrap_or_default();
        let operation = match text("operation") {
            "Apply" => Operation::Apply,
            "Update" => Operation::Update,
            _ => return None,
        };
        if text("apiVersion").is_empty() || text("fieldsType") != "FieldsV1" {
            return None;
        }
        let fields = match value.get("fieldsV1") {
            None => Set::default(),
            Some(fields) => Set::from_fields_v1(fields).ok()?,
        };
        Some(Self {
            manager: text("manager").to_owned(),
            operation,
            subresource: text("subresource").to_owned(),
            api_version: text("apiVersion").to_owned(),
            time: text("time").to_owned(),
            fields,
        })
    }

    fn write(&self) -> Value {
        let mut map = Map::new();
        let mut put = |name: &str, text: &str| {
            if !text.is_empty() {
                map.insert(name.to_owned(), text.into());
            }
        };
        put("manager", &self.manager);
        put("operation", self.operation.name());
        put("apiVersion", &self.api_version);
        put("time", &self.time);
        put("fieldsType", "FieldsV1");
        put("subresource", &self.subresource);
        map.insert("fieldsV1".to_owned(), self.fields.to_fields_v1());
        Value::Object(map)
    }
}

/// The entries of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManagedFields(Vec<Entry>);

impl ManagedFields {
    /// Reads an object's entries; nothing when one of them is malformed.
    #[must_use]
    pub fn of(object: &Value) -> Option<Self> {
        let Some(list) = list(object) else {
            return Some(Self::default());
        };
        let mut managed = Self::default();
        for value in list {
            let entry = Entry::read(value)?;
            managed.remove(&entry.id());
            managed.0.push(entry);
        }
        Some(managed)
    }

    /// Whether an object asks for its entries to be forgotten: its list is empty, or has one empty
    /// entry.
    #[must_use]
    pub fn is_reset(object: &Value) -> bool {
        match list(object) {
            None => false,
            Some([]) => true,
            Some([one]) => one.as_object().is_some_and(Map::is_empty),
            Some(_) => false,
        }
    }

    /// Writes the entries into an object.
    pub fn put(mut self, object: &mut Value) {
        if self.0.is_empty() {
            crate::meta::remove(object, "managedFields");
            return;
        }
        self.0.sort_by(|a, b| {
            (a.operation.cmp(&b.operation))
                .then_with(|| a.time.cmp(&b.time))
                .then_with(|| a.manager.cmp(&b.manager))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let list: Vec<Value> = self.0.iter().map(Entry::write).collect();
        crate::meta::set(object, "managedFields", list);
    }

    /// The entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    /// Whether nobody owns anything.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &Id) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.is(id))
    }

    pub(super) fn get_mut(&mut self, id: &Id) -> Option<&mut Entry> {
        self.0.iter_mut().find(|entry| entry.is(id))
    }

    pub(super) fn remove(&mut self, id: &Id) -> Option<Entry> {
        let at = self.0.iter().position(|entry| entry.is(id))?;
        Some(self.0.remove(at))
    }

    pub(super) fn push(&mut self, entry: Entry) {
        self.0.push(entry);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.0.retain(keep);
    }

    /// Merges the oldest updates of a version into one entry while there are too many.
    pub(super) fn cap(&mut self) {
        let is_update = |entry: &&Entry| entry.operation == Operation::Update;
        let mut count = self.0.iter().filter(is_update).count();
        if count <= UPDATERS_LIMIT {
            return;
        }
        let mut oldest: Vec<(String, Id)> = self
            .0
            .iter()
            .filter(is_update)
            .map(|entry| (entry.time.clone(), entry.id()))
            .collect();
        oldest.sort_by(|(a_time, a), (b_time, b)| {
            let key = |id: &Id| {
                (
                    id.manager.clone(),
                    id.version.clone(),
                    id.subresource.clone(),
                )
            };
            a_time.cmp(b_time).then_with(|| key(a).cmp(&key(b)))
        });
        let mut first_of: Vec<Id> = Vec::new();
        for (time, id) in oldest {
            if count <= UPDATERS_LIMIT {
                return;
            }
            let Some(first) = first_of.iter().find(|first| first.version == id.version) else {
                first_of.push(id);
                continue;
            };
            let bucket = Id {
                manager: ANCIENT.to_owned(),
                subresource: String::new(),
                ..id.clone()
            };
            if bucket == id {
                continue;
            }
            if self.get(&bucket).is_none()
                && let Some(entry) = self.get_mut(first)
            {
                entry.manager = ANCIENT.to_owned();
                entry.subresource = String::new();
            }
            let Some(merged) = self.remove(&id) else {
                continue;
            };
            count -= 1;
            if let Some(entry) = self.get_mut(&bucket) {
                entry.fields.unite(merged.fields);
                entry.time = time;
            }
        }
    }
}

fn list(object: &Value) -> Option<&[Value]> {
    let list = object.get("metadata")?.get("managedFields")?.as_array()?;
    Some(list)
}

/// Whose an entry is, as conflicts tell it: `"kubectl" with subresource "status" using v1`.
pub(super) fn show(entry: &Entry) -> String {
    let mut shown = quote(&entry.manager);
    if !entry.subresource.is_empty() {
        shown.push_str(&format!(" with subresource {}", quote(&entry.subresource)));
    }
    if entry.operation == Operation::Update {
        shown.push_str(&format!(" using {}", entry.api_version));
    }
    shown
}
