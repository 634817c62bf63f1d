//! What differs between two states of an object.
//!
//! Invariant: no field is in two of the three sets; all empty means that the states are equal.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::{Element, same};
use super::form::{Form, TypeError};
use super::reset::Reset;
use super::set::Set;
use super::tree::at;

/// The fields that one state has and the other has not, or has otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Comparison {
    pub(super) added: Set,
    pub(super) modified: Set,
    pub(super) removed: Set,
}

impl Comparison {
    /// Compares two values of a form.
    pub(super) fn of(form: Form<'_>, old: &Value, new: &Value) -> Result<Self, TypeError> {
        let mut walk = Walk::default();
        walk.value(form, Some(old), Some(new))?;
        Ok(walk.found)
    }

    /// Without what a write cannot set.
    pub(super) fn without(mut self, reset: &Reset) -> Self {
        reset.apply(&mut self.added);
        reset.apply(&mut self.modified);
        reset.apply(&mut self.removed);
        self
    }

    /// What the new state says anew.
    pub(super) fn set(&self) -> Set {
        let mut set = self.modified.clone();
        set.unite(self.added.clone());
        set
    }
}

#[derive(Default)]
struct Walk {
    path: Vec<Element>,
    found: Comparison,
}

type Side<'a> = Option<&'a Value>;

impl Walk {
    fn value(&mut self, form: Form<'_>, old: Side<'_>, new: Side<'_>) -> Result<(), TypeError> {
        let (Some(a), Some(b)) = (old, new) else {
            let Some(one) = old.or(new) else {
                return Ok(());
            };
            return self.seen(form.seen(one), old, new);
        };
        if a == b {
            return Ok(());
        }
        let (of_old, of_new) = (form.seen(a), form.seen(b));
        let alike = std::mem::discriminant(&of_old) == std::mem::discriminant(&of_new);
        if b.is_null() {
            self.seen(of_old, old, new)
        } else if a.is_null() || alike {
            self.seen(of_new, old, new)
        } else {
            // Only where any JSON may stand: what was below goes, what is below comes.
            self.seen(of_old, old, new)?;
            self.seen(of_new, old, new)
        }
    }

    fn seen(&mut self, form: Form<'_>, old: Side<'_>, new: Side<'_>) -> Result<(), TypeError> {
        match form {
            Form::Leaf => {
                self.leaf(old, new);
                return Ok(());
            }
            Form::Items { .. } => {
                let list = |side: Side<'_>| side.and_then(Value::as_array).map_or(0, Vec::len);
                if list(old) == 0 && list(new) == 0 {
                    self.leaf(old, new);
                    return Ok(());
                }
                self.items(form, old, new)?;
            }
            Form::Object(_) | Form::Map(_) | Form::Node(_) | Form::Free => {
                let empty = Map::new();
                let old_map = old.and_then(Value::as_object).unwrap_or(&empty);
                let new_map = new.and_then(Value::as_object).unwrap_or(&empty);
                if old_map.is_empty() && new_map.is_empty() {
                    self.leaf(old, new);
                    return Ok(());
                }
                self.members(form, old_map, new_map)?;
            }
        }
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            _ => {}
        }
        Ok(())
    }

    fn leaf(&mut self, old: Side<'_>, new: Side<'_>) {
        match (old, new) {
            (None, _) => self.found.added.insert(&self.path),
            (_, None) => self.found.removed.insert(&self.path),
            (Some(a), Some(b)) if !same(a, b) => self.found.modified.insert(&self.path),
            _ => {}
        }
    }

    fn members(
        &mut self,
        form: Form<'_>,
        old: &Map<String, Value>,
        new: &Map<String, Value>,
    ) -> Result<(), TypeError> {
        for (name, value) in old {
            self.member(form, name, Some(value), new.get(name))?;
        }
        for (name, value) in new {
            if !old.contains_key(name) {
                self.member(form, name, None, Some(value))?;
            }
        }
        Ok(())
    }

    fn member(
        &mut self,
        form: Form<'_>,
        name: &str,
        old: Side<'_>,
        new: Side<'_>,
    ) -> Result<(), TypeError> {
        if old == new {
            return Ok(());
        }
        self.below(Element::field(name), form.member(name).0, old, new)
    }

    fn below(
        &mut self,
        element: Element,
        form: Form<'_>,
        old: Side<'_>,
        new: Side<'_>,
    ) -> Result<(), TypeError> {
        self.path.push(element);
        let done = self.value(form, old, new);
        let element = self.path.pop();
        done.map_err(|error| match &element {
            Some(element) => error.below(element),
            None => error,
        })
    }

    fn items(&mut self, form: Form<'_>, old: Side<'_>, new: Side<'_>) -> Result<(), TypeError> {
        let mut named: BTreeMap<Element, [Vec<&Value>; 2]> = BTreeMap::new();
        for (side, list) in [old, new].into_iter().enumerate() {
            let list = list.and_then(Value::as_array).into_iter().flatten();
            for (index, item) in list.enumerate() {
                let element = form.name_of(item).map_err(|error| at(index, error))?;
                named.entry(element).or_default()[side].push(item);
            }
        }
        for (element, [old, new]) in named {
            match (old.as_slice(), new.as_slice()) {
                ([] | [_], [] | [_]) => {
                    let (old, new) = (old.first().copied(), new.first().copied());
                    self.below(element, form.item(), old, new)?;
                }
                // Items with one name are compared together.
                ([_, _, ..], [_, _, ..]) => {
                    let equal =
                        old.len() == new.len() && old.iter().zip(&new).all(|(a, b)| same(a, b));
                    if !equal {
                        self.mark(element, |found| &mut found.modified);
                    }
                }
                ([_, _, ..], _) => {
                    if let Some(new) = new.first() {
                        self.below(element.clone(), form.item(), None, Some(new))?;
                    }
                    self.mark(element, |found| &mut found.removed);
                }
                (_, _) => {
                    if let Some(old) = old.first() {
                        self.below(element.clone(), form.item(), Some(old), None)?;
                    }
                    self.mark(element, |found| &mut found.added);
                }
            }
        }
        Ok(())
    }

    fn mark(&mut self, element: Element, set: impl Fn(&mut Comparison) -> &mut Set) {
        self.path.push(element);
        set(&mut self.found).insert(&self.path);
        self.path.pop();
    }
}
