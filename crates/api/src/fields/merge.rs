//! Merging an applied object into what is there: nothing is removed, what both set becomes the
//! applied one's.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::form::{Form, TypeError};
use super::tree::at;

/// Merges `new` into `old`.
pub(super) fn merge(form: Form<'_>, old: &Value, new: &Value) -> Result<Value, TypeError> {
    Ok(value(form, Some(old), Some(new))?.unwrap_or(Value::Null))
}

type Side<'a> = Option<&'a Value>;

fn value(form: Form<'_>, old: Side<'_>, new: Side<'_>) -> Result<Option<Value>, TypeError> {
    let Some(first) = new.or(old) else {
        return Ok(None);
    };
    // A null takes the form of what stands against it.
    let form = match (old, new) {
        (Some(old), Some(Value::Null)) => form.seen(old),
        _ => form.seen(first),
    };
    match form {
        Form::Leaf => Ok(Some(first.clone())),
        Form::Items { .. } => {
            let list = |side: Option<&'_ Value>| side.and_then(Value::as_array).map_or(0, Vec::len);
            if list(old) == 0 && list(new) == 0 {
                return Ok(Some(first.clone()));
            }
            items(form, old, new).map(Some)
        }
        Form::Object(_) | Form::Map(_) | Form::Node(_) | Form::Free => {
            let empty = Map::new();
            let old_map = old.and_then(Value::as_object).unwrap_or(&empty);
            let new_map = new.and_then(Value::as_object).unwrap_or(&empty);
            if old_map.is_empty() && new_map.is_empty() {
                return Ok(Some(first.clone()));
            }
            members(form, old_map, new_map).map(Some)
        }
    }
}

fn members(
    form: Form<'_>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
) -> Result<Value, TypeError> {
    let mut out = old.clone();
    for (name, applied) in new {
        let merged = value(form.member(name).0, old.get(name), Some(applied))
            .map_err(|error| error.below(&Element::field(name)))?;
        if let Some(merged) = merged {
            out.insert(name.clone(), merged);
        }
    }
    Ok(Value::Object(out))
}

/// The items of a list with their names; of items with one name only the first counts, unless `many`.
struct Named<'a> {
    order: Vec<(Element, &'a Value)>,
    /// By name; nothing for a name that several items have.
    by_name: BTreeMap<Element, Option<&'a Value>>,
}

impl<'a> Named<'a> {
    fn of(form: Form<'_>, list: Option<&'a Value>, many: bool) -> Result<Self, TypeError> {
        let mut order = Vec::new();
        let mut by_name = BTreeMap::new();
        let items = list.and_then(Value::as_array).into_iter().flatten();
        for (index, item) in items.enumerate() {
            let element = form.name_of(item).map_err(|error| at(index, error))?;
            if by_name.contains_key(&element) {
                if !many {
                    let reason = format!("duplicate entries for key {element}");
                    return Err(TypeError::new(reason));
                }
                by_name.insert(element.clone(), None);
            } else {
                by_name.insert(element.clone(), Some(item));
            }
            order.push((element, item));
        }
        Ok(Self { order, by_name })
    }
}

/// The items of both: in the order of `new` where that says one, the others where they stood.
fn items(form: Form<'_>, old: Side<'_>, new: Side<'_>) -> Result<Value, TypeError> {
    let new = Named::of(form, new, false)?;
    let old = Named::of(form, old, true)?;
    let join = |name: &Element, old: Side<'_>, new: Side<'_>| {
        value(form.item(), old, new).map_err(|error| error.below(name))
    };
    // The names of both, as the applied list orders them.
    let names = new.order.iter().map(|(name, _)| name);
    let mut shared = names.filter(|name| old.by_name.contains_key(name));
    let mut next = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut out = Vec::with_capacity(old.order.len().max(new.order.len()));
    let (mut i, mut j) = (0, 0);
    while i < old.order.len() || j < new.order.len() {
        if let (Some((here, _)), Some((there, applied))) = (old.order.get(i), new.order.get(j)) {
            if here == there {
                done.insert(there);
                let own = old.by_name.get(here).copied().flatten();
                out.extend(join(here, own, Some(applied))?);
                (i, j) = (i + 1, j + 1);
                next = shared.next();
                continue;
            }
            if new.by_name.contains_key(here) && next.is_some_and(|next| next != here) {
                // Its turn comes where the applied list has it.
                i += 1;
                continue;
            }
        }
        if let Some((here, own)) = old.order.get(i) {
            if !new.by_name.contains_key(here) {
                out.extend(join(here, Some(own), None)?);
                i += 1;
                continue;
            }
            if done.contains(here) {
                i += 1;
            }
        }
        if let Some((there, applied)) = new.order.get(j) {
            done.insert(there);
            let own = old.by_name.get(there).copied().flatten();
            out.extend(join(there, own, Some(applied))?);
            j += 1;
            if next == Some(there) {
                next = shared.next();
            }
        }
    }
    Ok(Value::Array(out))
}
