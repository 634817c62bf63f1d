//! Taking fields out of a value, and what of a merged object goes when an applier gives fields up.

use serde_json::{Map, Value};

use super::apply::ApplyError;
use super::element::Element;
use super::entries::ManagedFields;
use super::form::Form;
use super::own::Target;
use super::set::{Node, Set};

impl Set {
    /// The set where every named member of an object that has something below it is in it too.
    fn with_named(&self, form: Form<'_>) -> Self {
        let nodes = self.nodes().iter().map(|node| {
            let (below, declared) = match &node.element {
                Element::Field(name) => form.member(name),
                Element::Key(_) => (form.item(), false),
                Element::Value(_) | Element::Index(_) => (Form::Leaf, false),
            };
            Node {
                element: node.element.clone(),
                member: node.member || declared,
                below: node.below.with_named(below),
            }
        });
        Self::from_nodes(nodes.collect())
    }

    /// The set after a change of the table: what has become one value is owned as one.
    pub(super) fn conform(&mut self, form: Form<'_>) {
        if self.conforms(form) {
            return;
        }
        let nodes = self.nodes().iter().map(|node| {
            let (below, mut node) = (below(form, &node.element), node.clone());
            if matches!(below, Form::Leaf) && !node.below.is_empty() {
                node.member = true;
                node.below = Self::default();
            } else {
                node.below.conform(below);
            }
            node
        });
        *self = Self::from_nodes(nodes.collect());
    }

    fn conforms(&self, form: Form<'_>) -> bool {
        self.nodes().iter().all(|node| {
            let below = below(form, &node.element);
            node.below.is_empty() || (!matches!(below, Form::Leaf) && node.below.conforms(below))
        })
    }
}

fn below<'f>(form: Form<'f>, element: &Element) -> Form<'f> {
    match element {
        Element::Field(name) => form.member(name).0,
        Element::Key(_) => form.item(),
        Element::Value(_) | Element::Index(_) => Form::Leaf,
    }
}

/// The value without these fields. What is empty afterwards is null, as upstream leaves it.
fn remove(form: Form<'_>, value: &Value, gone: &Set) -> Value {
    match (form.seen(value), value) {
        (Form::Items { .. }, Value::Array(items)) => {
            let kept: Vec<Value> = items
                .iter()
                .filter_map(|item| {
                    // The list has been walked before, so that every item has a name.
                    let node = form.name_of(item).ok().and_then(|name| gone.at(&name));
                    left(form.item(), item, node)
                })
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                kept.into()
            }
        }
        (
            form @ (Form::Object(_) | Form::Map(_) | Form::Node(_) | Form::Free),
            Value::Object(map),
        ) => {
            let kept: Map<String, Value> = map
                .iter()
                .filter_map(|(name, value)| {
                    let left = left(form.member(name).0, value, gone.at_field(name))?;
                    Some((name.clone(), left))
                })
                .collect();
            if kept.is_empty() {
                Value::Null
            } else {
                kept.into()
            }
        }
        // Nothing is left of one value that is to lose a part.
        (Form::Leaf, Value::Array(_) | Value::Object(_)) => Value::Null,
        (_, scalar) => scalar.clone(),
    }
}

fn left(form: Form<'_>, value: &Value, gone: Option<&Node>) -> Option<Value> {
    match gone {
        None => Some(value.clone()),
        Some(node) if node.member => None,
        Some(node) => Some(remove(form, value, &node.below)),
    }
}

/// The merged object without what the applier had applied last (in a version) and applies no more,
/// unless somebody owns it. `managed` has the applier's new fields.
pub(super) fn prune(
    target: &Target<'_>,
    merged: Value,
    managed: &ManagedFields,
    (version, last): (&str, &Set),
) -> Result<Value, ApplyError> {
    let Some((form, at_last)) = target.at(&merged, version)? else {
        return Ok(merged);
    };
    let pruned = remove(form, &at_last, &last.with_named(form));
    let pruned = add_back_owned(target, &at_last, pruned, version, managed)?;
    let pruned = add_back_dangling(form, &at_last, &pruned, last)?;
    let back = target.between(&pruned, version, target.api_version)?;
    Ok(back.map_or(pruned, |(_, value)| value))
}

/// Puts back what somebody owns, version by version.
fn add_back_owned(
    target: &Target<'_>,
    merged: &Value,
    pruned: Value,
    first: &str,
    managed: &ManagedFields,
) -> Result<Value, ApplyError> {
    let mut versions: Vec<&str> = managed.iter().map(|entry| &*entry.api_version).collect();
    versions.sort_unstable_by_key(|version| (*version != first, *version));
    versions.dedup();
    let (mut merged, mut pruned, mut at) = (merged.clone(), pruned, first.to_owned());
    for version in versions {
        let (Some((form, whole)), Some((_, part))) = (
            target.between(&merged, &at, version)?,
            target.between(&pruned, &at, version)?,
        ) else {
            continue;
        };
        let mut owned = Set::default();
        for entry in managed.iter().filter(|e| e.api_version == version) {
            owned.unite(entry.fields.clone());
        }
        let mut gone = form.fields(&whole)?.with_named(form);
        let mut kept = form.fields(&part)?.with_named(form);
        kept.unite(owned.with_named(form));
        gone.subtract(&kept);
        pruned = remove(form, &whole, &gone);
        (merged, at) = (whole, version.to_owned());
    }
    Ok(target
        .between(&pruned, &at, first)?
        .map_or(pruned, |(_, value)| value))
}

/// Puts back what the applier never had: fields of nobody.
fn add_back_dangling(
    form: Form<'_>,
    merged: &Value,
    pruned: &Value,
    last: &Set,
) -> Result<Value, ApplyError> {
    let mut gone = form.fields(merged)?.with_named(form);
    gone.subtract(&form.fields(pruned)?.with_named(form));
    let gone = gone.intersection(&last.with_named(form));
    Ok(remove(form, merged, &gone))
}
