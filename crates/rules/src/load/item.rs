//! Rules, macros and lists as files define them, before anything is resolved.

use std::collections::{BTreeSet, HashMap};

use super::context::Context;
use crate::priority::Priority;
use crate::version::Version;

/// A named item.
pub(crate) trait Named {
    fn name(&self) -> &str;
}

/// Items in the order of their first definition.
#[derive(Debug)]
pub(crate) struct Items<T> {
    items: Vec<T>,
    by_name: HashMap<String, usize>,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self {
            items: Vec::new(),
            by_name: HashMap::new(),
        }
    }
}

impl<T: Named> Items<T> {
    pub(crate) fn get(&self, name: &str) -> Option<&T> {
        self.by_name.get(name).map(|at| &self.items[*at])
    }

    pub(crate) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        self.by_name.get(name).map(|at| &mut self.items[*at])
    }

    /// Takes the place of the item of that name, if there is one.
    pub(crate) fn put(&mut self, item: T) {
        match self.by_name.get(item.name()) {
            Some(at) => self.items[*at] = item,
            None => {
                self.by_name
                    .insert(item.name().to_owned(), self.items.len());
                self.items.push(item);
            }
        }
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.items.iter()
    }
}

/// When an item was defined first, and when last; what is between sees what came before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Order {
    pub(crate) index: u32,
    pub(crate) visibility: u32,
}

#[derive(Clone, Debug)]
pub(crate) struct ListItem {
    pub(crate) context: Context,
    pub(crate) name: String,
    pub(crate) items: Vec<String>,
    pub(crate) order: Order,
}

#[derive(Clone, Debug)]
pub(crate) struct MacroItem {
    pub(crate) context: Context,
    pub(crate) condition_context: Context,
    pub(crate) name: String,
    pub(crate) condition: String,
    pub(crate) order: Order,
}

/// One value of an exception, or several.
#[derive(Clone, Debug)]
pub(crate) enum Entry {
    One(String),
    Many(Vec<Entry>),
}

impl Entry {
    pub(crate) fn none() -> Self {
        Self::One(String::new())
    }

    pub(crate) fn is_valid(&self) -> bool {
        match self {
            Self::One(item) => !item.is_empty(),
            Self::Many(items) => !items.is_empty(),
        }
    }

    /// The text, which lists do not have.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::One(item) => item,
            Self::Many(_) => "",
        }
    }

    /// The items, which single values do not have.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::One(_) => &[],
            Self::Many(items) => items,
        }
    }

    pub(crate) fn is_list(&self) -> bool {
        matches!(self, Self::Many(_))
    }
}

#[derive(Clone, Debug)]
pub(crate) struct ExceptionItem {
    pub(crate) context: Context,
    pub(crate) name: String,
    pub(crate) fields: Entry,
    pub(crate) comps: Entry,
    pub(crate) values: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleItem {
    pub(crate) context: Context,
    pub(crate) condition_context: Context,
    pub(crate) output_context: Context,
    pub(crate) order: Order,
    pub(crate) unknown_source: bool,
    pub(crate) name: String,
    pub(crate) condition: String,
    pub(crate) source: String,
    pub(crate) description: String,
    pub(crate) output: String,
    pub(crate) tags: BTreeSet<String>,
    pub(crate) exceptions: Vec<ExceptionItem>,
    pub(crate) priority: Priority,
    pub(crate) capture: bool,
    pub(crate) capture_duration: u32,
    pub(crate) enabled: bool,
    pub(crate) warn_evttypes: bool,
    pub(crate) skip_if_unknown_filter: bool,
}

/// What changes in a rule that is there already.
#[derive(Clone, Debug)]
pub(crate) struct RuleUpdate {
    pub(crate) context: Context,
    pub(crate) name: String,
    pub(crate) source: String,
    pub(crate) condition: Option<String>,
    pub(crate) output: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) tags: Option<BTreeSet<String>>,
    pub(crate) exceptions: Option<Vec<ExceptionItem>>,
    pub(crate) priority: Option<Priority>,
    pub(crate) capture: Option<bool>,
    pub(crate) capture_duration: Option<u32>,
    pub(crate) enabled: Option<bool>,
    pub(crate) warn_evttypes: Option<bool>,
    pub(crate) skip_if_unknown_filter: Option<bool>,
}

impl RuleUpdate {
    pub(crate) fn new(context: Context, name: &str, source: &str) -> Self {
        Self {
            context,
            name: name.to_owned(),
            source: source.to_owned(),
            condition: None,
            output: None,
            description: None,
            tags: None,
            exceptions: None,
            priority: None,
            capture: None,
            capture_duration: None,
            enabled: None,
            warn_evttypes: None,
            skip_if_unknown_filter: None,
        }
    }

    pub(crate) fn has_any_value(&self) -> bool {
        self.condition.is_some()
            || self.output.is_some()
            || self.description.is_some()
            || self.tags.is_some()
            || self.exceptions.is_some()
            || self.priority.is_some()
            || self.capture.is_some()
            || self.capture_duration.is_some()
            || self.enabled.is_some()
            || self.warn_evttypes.is_some()
            || self.skip_if_unknown_filter.is_some()
    }
}

/// A plugin in a version, one of which must be there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRequirement {
    /// The plugin's name.
    pub name: String,
    /// The version.
    pub version: String,
}

/// What rules need.
#[derive(Clone, Debug, Default)]
pub struct Requirements {
    /// The highest version of the engine that is asked for.
    pub engine: Version,
    /// Plugins; of each entry, one will do.
    pub plugins: Vec<Vec<PluginRequirement>>,
}

impl Named for ListItem {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for MacroItem {
    fn name(&self) -> &str {
        &self.name
    }
}

impl Named for RuleItem {
    fn name(&self) -> &str {
        &self.name
    }
}
