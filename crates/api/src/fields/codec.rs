//! `FieldsV1`: a set of fields as JSON, one object a level.
//!
//! `f:name` is a member, `k:{…}` an item by its keys, `v:…` one by its value, `i:…` one by its index;
//! `.` is the field of the level itself.

use serde_json::{Map, Value};

use super::element::Element;
use super::set::{Node, Set};
use crate::MAX_DEPTH;

/// Why a value is no `FieldsV1`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// A level is no object.
    #[error("a set of fields must be an object")]
    NoObject,
    /// A key that is no path element.
    #[error("{0:?} is no path element")]
    Element(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("exceeded max depth")]
    TooDeep,
}

impl Set {
    /// Reads a set.
    ///
    /// # Errors
    /// When the value is no set of fields; path elements of unknown types are left out.
    pub fn from_fields_v1(value: &Value) -> Result<Self, FieldsError> {
        read(value, 0).map(|(_, set)| set)
    }

    /// Writes a set.
    #[must_use]
    pub fn to_fields_v1(&self) -> Value {
        write(self, false)
    }
}

fn read(value: &Value, depth: usize) -> Result<(bool, Set), FieldsError> {
    let map = match value {
        Value::Object(map) => map,
        Value::Null => return Ok((true, Set::default())),
        _ => return Err(FieldsError::NoObject),
    };
    if depth > MAX_DEPTH {
        return Err(FieldsError::TooDeep);
    }
    let mut member = false;
    let mut nodes = Vec::with_capacity(map.len());
    for (key, value) in map {
        if key == "." {
            member = true;
        } else if let Some(element) = read_element(key)? {
            let (member, below) = read(value, depth + 1)?;
            nodes.push(Node {
                element,
                member,
                below,
            });
        }
    }
    let set = Set::from_nodes(nodes);
    Ok((member || set.is_empty(), set))
}

/// A path element; nothing for types that are not known (a later version may know them).
fn read_element(key: &str) -> Result<Option<Element>, FieldsError> {
    let malformed = || FieldsError::Element(key.to_owned());
    let (kind, text) = key.split_once(':').ok_or_else(malformed)?;
    Ok(Some(match kind {
        "f" => Element::field(text),
        "v" => Element::Value(serde_json::from_str(text).map_err(|_| malformed())?),
        "i" => Element::Index(text.parse().map_err(|_| malformed())?),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(text).map_err(|_| malformed())?;
            let keys = keys.into_iter().map(|(name, value)| (name.into(), value));
            Element::Key(keys.collect())
        }
        _ if kind.len() == 1 => return Ok(None),
        _ => return Err(malformed()),
    }))
}

fn write(set: &Set, member: bool) -> Value {
    let mut map = Map::new();
    if member && !set.is_empty() {
        map.insert(".".to_owned(), Value::Object(Map::new()));
    }
    for node in set.nodes() {
        map.insert(
            write_element(&node.element),
            write(&node.below, node.member),
        );
    }
    Value::Object(map)
}

fn write_element(element: &Element) -> String {
    match element {
        Element::Field(name) => ["f:", name].concat(),
        Element::Value(value) => format!("v:{value}"),
        Element::Index(index) => format!("i:{index}"),
        Element::Key(keys) => {
            let mut out = String::from("k:{");
            for (i, (name, value)) in keys.iter().enumerate() {
                if i > 0 {
                    out.push(',');
                }
                out.push_str(&Value::from(&**name).to_string());
                out.push(':');
                out.push_str(&value.to_string());
            }
            out.push('}');
            out
        }
    }
}
