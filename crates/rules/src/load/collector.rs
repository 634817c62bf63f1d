//! What files have defined so far: definitions, redefinitions, what is appended and replaced.

use std::collections::HashSet;

use super::code::WarningCode;
use super::context::Context;
use super::decode::{Thrown, invalid};
use super::exceptions;
use super::item::{
    Items, ListItem, MacroItem, Named, Order, PluginRequirement, Requirements, RuleItem, RuleUpdate,
};
use super::result::LoadResult;
use crate::fields::Source;
use crate::term;
use crate::version::{ENGINE, Version};

/// All items.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    next: u32,
    pub(crate) requirements: Requirements,
    pub(crate) lists: Items<ListItem>,
    pub(crate) macros: Items<MacroItem>,
    pub(crate) rules: Items<RuleItem>,
}

trait Ordered: Named {
    fn order(&mut self) -> &mut Order;
}

impl Ordered for ListItem {
    fn order(&mut self) -> &mut Order {
        &mut self.order
    }
}

impl Ordered for MacroItem {
    fn order(&mut self) -> &mut Order {
        &mut self.order
    }
}

impl Ordered for RuleItem {
    fn order(&mut self) -> &mut Order {
        &mut self.order
    }
}

fn define<T: Ordered>(items: &mut Items<T>, mut item: T, next: u32) {
    let index = items
        .get_mut(item.name())
        .map_or(next, |known| known.order().index);
    *item.order() = Order {
        index,
        visibility: next,
    };
    items.put(item);
}

/// Whether a text names a field of the source, perhaps in transformers.
fn known_field(source: &str) -> Option<impl Fn(&str) -> bool + use<>> {
    let source = Source::find(source)?;
    Some(move |text: &str| term::is_valid(source, text))
}

impl Collector {
    fn next(&mut self) -> u32 {
        let next = self.next;
        self.next += 1;
        next
    }

    pub(crate) fn require_engine(
        &mut self,
        version: Version,
        context: &Context,
    ) -> Result<(), Thrown> {
        if !ENGINE.satisfies(version) {
            let message =
                format!("Rules require engine version {version}, but engine version is {ENGINE}");
            return Err(invalid(message, context));
        }
        self.requirements.engine = self.requirements.engine.max(version);
        Ok(())
    }

    pub(crate) fn require_plugin(
        &mut self,
        alternatives: Vec<PluginRequirement>,
        context: &Context,
    ) -> Result<(), Thrown> {
        let mut names = HashSet::new();
        for PluginRequirement { name, version } in &alternatives {
            if Version::parse(version).is_none() {
                let message = format!("Invalid required version '{version}' for plugin '{name}'");
                return Err(invalid(message, context));
            }
            if !names.insert(name) {
                let message = format!(
                    "Defined multiple alternative version requirements for plugin '{name}'"
                );
                return Err(invalid(message, context));
            }
        }
        self.requirements.plugins.push(alternatives);
        Ok(())
    }

    pub(crate) fn define_list(&mut self, list: ListItem) {
        let next = self.next();
        define(&mut self.lists, list, next);
    }

    pub(crate) fn append_list(&mut self, list: ListItem) -> Result<(), Thrown> {
        let next = self.next();
        let Some(known) = self.lists.get_mut(&list.name) else {
            return Err(invalid(
                "List uses 'append' or 'override.items: append' but no list by that name already exists",
                &list.context,
            ));
        };
        known.items.extend(list.items);
        known.order.visibility = next;
        Ok(())
    }

    pub(crate) fn define_macro(&mut self, item: MacroItem) {
        let next = self.next();
        define(&mut self.macros, item, next);
    }

    pub(crate) fn append_macro(&mut self, item: MacroItem) -> Result<(), Thrown> {
        let next = self.next();
        let Some(known) = self.macros.get_mut(&item.name) else {
            return Err(invalid(
                "Macro uses 'append' or 'override.condition: append' but no macro by that name already exists",
                &item.context,
            ));
        };
        known.condition.push(' ');
        known.condition.push_str(&item.condition);
        known.order.visibility = next;
        Ok(())
    }

    fn same_source(&self, name: &str, source: &str, context: &Context) -> Result<(), Thrown> {
        let differs = |known: &RuleItem| {
            !known.source.is_empty() && !source.is_empty() && known.source != source
        };
        if self.rules.get(name).is_some_and(differs) {
            return Err(invalid(
                "Rule has been re-defined with a different source",
                context,
            ));
        }
        Ok(())
    }

    pub(crate) fn define_rule(
        &mut self,
        mut rule: RuleItem,
        result: &mut LoadResult,
    ) -> Result<(), Thrown> {
        self.same_source(&rule.name, &rule.source, &rule.context)?;
        let known = known_field(&rule.source);
        if known.is_none() {
            rule.unknown_source = true;
            let message = format!("Unknown source {}, skipping", rule.source);
            result.warn(WarningCode::UnknownSource, &message, &rule.context);
        }
        for exception in &mut rule.exceptions {
            if !exception.fields.is_valid() {
                return Err(invalid(
                    "Rule exception item must have fields property with a list of fields",
                    &exception.context,
                ));
            }
            exceptions::validate(exception, known.as_ref().map(|known| known as _))?;
        }
        let next = self.next();
        define(&mut self.rules, rule, next);
        Ok(())
    }

    pub(crate) fn append_rule(&mut self, update: RuleUpdate) -> Result<(), Thrown> {
        self.same_source(&update.name, &update.source, &update.context)?;
        let next = self.next();
        let has_any_value = update.has_any_value();
        let Some(rule) = self.rules.get_mut(&update.name) else {
            return Err(invalid(
                "Rule uses 'append' or 'override.<key>: append' but no rule by that name already exists",
                &update.context,
            ));
        };
        if !has_any_value {
            return Err(invalid(
                "Appended rule must have exceptions or condition property",
                &update.context,
            ));
        }
        for (text, more) in [
            (&mut rule.condition, &update.condition),
            (&mut rule.output, &update.output),
            (&mut rule.description, &update.description),
        ] {
            if let Some(more) = more {
                text.push(' ');
                text.push_str(more);
            }
        }
        rule.tags.extend(update.tags.unwrap_or_default());
        let known = known_field(&rule.source);
        for mut exception in update.exceptions.unwrap_or_default() {
            let same = |known: &&mut super::item::ExceptionItem| known.name == exception.name;
            let Some(before) = rule.exceptions.iter_mut().find(same) else {
                if !exception.fields.is_valid() {
                    return Err(invalid(
                        "Rule exception must have fields property with a list of fields",
                        &exception.context,
                    ));
                }
                if exception.values.is_empty() {
                    return Err(invalid(
                        "Rule exception must have values property with a list of values",
                        &exception.context,
                    ));
                }
                exceptions::validate(&mut exception, known.as_ref().map(|known| known as _))?;
                rule.exceptions.push(exception);
                continue;
            };
            for (entry, word) in [(&exception.fields, "fields"), (&exception.comps, "comps")] {
                if entry.is_valid() {
                    let message = format!(
                        "Can not append exception {word} to existing exception, only values"
                    );
                    return Err(invalid(message, &exception.context));
                }
            }
            before.values.extend(exception.values);
        }
        rule.order.visibility = next;
        Ok(())
    }

    pub(crate) fn replace_in_rule(&mut self, update: RuleUpdate) -> Result<(), Thrown> {
        self.same_source(&update.name, &update.source, &update.context)?;
        let next = self.next();
        let has_any_value = update.has_any_value();
        let Some(rule) = self.rules.get_mut(&update.name) else {
            return Err(invalid(
                "An 'override.<key>: replace' to a rule was requested but no rule by that name already exists",
                &update.context,
            ));
        };
        if !has_any_value {
            return Err(invalid(
                "The rule must have at least one field that can be replaced",
                &update.context,
            ));
        }
        fn set<T>(place: &mut T, value: Option<T>) {
            if let Some(value) = value {
                *place = value;
            }
        }
        let known = known_field(&rule.source);
        let mut exceptions = update.exceptions;
        for exception in exceptions.iter_mut().flatten() {
            exceptions::validate(exception, known.as_ref().map(|known| known as _))?;
        }
        set(&mut rule.condition, update.condition);
        set(&mut rule.output, update.output);
        set(&mut rule.description, update.description);
        set(&mut rule.tags, update.tags);
        set(&mut rule.exceptions, exceptions);
        set(&mut rule.priority, update.priority);
        set(&mut rule.capture, update.capture);
        set(&mut rule.capture_duration, update.capture_duration);
        set(&mut rule.enabled, update.enabled);
        set(&mut rule.warn_evttypes, update.warn_evttypes);
        set(
            &mut rule.skip_if_unknown_filter,
            update.skip_if_unknown_filter,
        );
        rule.order.visibility = next;
        Ok(())
    }

    pub(crate) fn enable_rule(
        &mut self,
        name: &str,
        enabled: bool,
        context: &Context,
    ) -> Result<(), Thrown> {
        match self.rules.get_mut(name) {
            Some(rule) => {
                rule.enabled = enabled;
                Ok(())
            }
            None => Err(invalid(
                "Rule has 'enabled' key but no rule by that name already exists",
                context,
            )),
        }
    }
}
