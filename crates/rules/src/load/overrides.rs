//! `override`: what is appended to or replaced in an item that is there already.

use std::collections::BTreeSet;

use super::context::{Context, Item};
use super::decode::{Thrown, structure};
use crate::yaml::Node;

pub(crate) const OVERRIDE_AND_APPEND: &str = "Keys 'override' and 'append: true' cannot be used together. Add an 'append' entry (e.g. \
     'condition: append') under 'override' instead.";

/// Keys that are appended to, and keys that are replaced.
#[derive(Default)]
pub(crate) struct Overrides {
    pub(crate) append: BTreeSet<String>,
    pub(crate) replace: BTreeSet<String>,
}

impl Overrides {
    pub(crate) fn is_empty(&self) -> bool {
        self.append.is_empty() && self.replace.is_empty()
    }
}

/// The overrides of an item.
pub(crate) fn overrides(
    item: &Node,
    appendable: &[&str],
    replaceable: &[&str],
    context: &Context,
) -> Result<Overrides, Thrown> {
    let mut result = Overrides::default();
    let Some(value) = item.get("override") else {
        return Ok(result);
    };
    let context = context.node(item, Item::Overrides, "");
    for (key, operation) in value.mapping().unwrap_or_default() {
        let (Some(name), Some(text)) = (key.scalar(), operation.scalar()) else {
            return Err(structure("bad conversion", &context));
        };
        let may_append = appendable.contains(&name);
        let may_replace = replaceable.contains(&name);
        let key_context = context.node(key, Item::Overrides, name);
        match text {
            "append" if may_append => {
                result.append.insert(name.to_owned());
            }
            "append" => {
                let message = format!("Key '{name}' cannot be appended to, use 'replace' instead");
                return Err(structure(message, &key_context));
            }
            "replace" if may_replace => {
                result.replace.insert(name.to_owned());
            }
            "replace" => {
                let message = format!("Key '{name}' cannot be replaced");
                return Err(structure(message, &key_context));
            }
            _ => {
                let message = format!(
                    "Invalid override operation for key '{name}': '{text}'. Allowed values are: {}{}",
                    if may_append { "append " } else { "" },
                    if may_replace { "replace " } else { "" },
                );
                let context = context.node(operation, Item::ValueFor, name);
                return Err(structure(message, &context));
            }
        }
    }
    Ok(result)
}

/// Keys that an item has and that overrides must account for.
pub(crate) struct Expected<'a> {
    pub(crate) keys: BTreeSet<&'static str>,
    pub(crate) item: &'a Node,
    pub(crate) context: &'a Context,
}

impl Expected<'_> {
    /// Whether the key is overridden in this way; it must be there then.
    pub(crate) fn take(
        &mut self,
        overridden: &BTreeSet<String>,
        operation: &str,
        key: &str,
    ) -> Result<bool, Thrown> {
        if !overridden.contains(key) {
            return Ok(false);
        }
        if !self.keys.remove(key) {
            let message = format!(
                "An {operation} override for '{key}' was specified but '{key}' is not defined"
            );
            return Err(structure(message, self.context));
        }
        Ok(true)
    }

    /// No key may be left.
    pub(crate) fn finish(self) -> Result<(), Thrown> {
        let Some(key) = self.keys.first() else {
            return Ok(());
        };
        let message =
            format!("Unexpected key '{key}': no corresponding entry under 'override' is defined.");
        let context = match self.item.get(key) {
            Some(value) => self.context.node(value, Item::Overrides, key),
            None => self.context.clone(),
        };
        Err(structure(message, &context))
    }
}
