//! The fields of a value: every leaf and every item.

use serde_json::Value;

use super::element::Element;
use super::form::{Form, TypeError};
use super::set::{Node, Set};

impl Form<'_> {
    /// The set of the fields that a value of this form sets.
    ///
    /// # Errors
    /// When an item of a list has no name.
    pub fn fields(self, value: &Value) -> Result<Set, TypeError> {
        tree(self, value).map(|(_, set)| set)
    }
}

/// Whether the value is a leaf, and the fields below it.
fn tree(form: Form<'_>, value: &Value) -> Result<(bool, Set), TypeError> {
    match (form.seen(value), value) {
        (Form::Leaf, _) => Ok((true, Set::default())),
        (form, Value::Object(map)) => {
            let mut nodes = Vec::with_capacity(map.len());
            for (name, value) in map {
                let (below, declared) = form.member(name);
                let element = Element::field(name);
                let (leaf, set) = tree(below, value).map_err(|e| e.below(&element))?;
                let empty = value.is_null() || value.as_object().is_some_and(|m| m.is_empty());
                nodes.push(Node {
                    element,
                    member: leaf || empty || !declared,
                    below: set,
                });
            }
            Ok((false, Set::from_nodes(nodes)))
        }
        (form @ Form::Items { .. }, Value::Array(items)) => Ok((false, of_items(form, items)?)),
        _ => Ok((false, Set::default())),
    }
}

/// The fields of a list; of items with one name only that name.
fn of_items(form: Form<'_>, items: &[Value]) -> Result<Set, TypeError> {
    let mut named = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        named.push((form.name_of(item).map_err(|e| at(index, e))?, item));
    }
    named.sort_by(|a, b| a.0.cmp(&b.0));
    let mut nodes: Vec<Node> = Vec::with_capacity(named.len());
    for (element, item) in named {
        match nodes.last_mut() {
            Some(last) if last.element == element => last.below = Set::default(),
            _ => {
                let (_, below) = tree(form.item(), item).map_err(|e| e.below(&element))?;
                nodes.push(Node {
                    element,
                    member: true,
                    below,
                });
            }
        }
    }
    Ok(Set::from_nodes(nodes))
}

/// An error of an item that has no name.
pub(super) fn at(index: usize, error: TypeError) -> TypeError {
    TypeError {
        reason: format!("element {index}: {}", error.reason),
        ..error
    }
}
