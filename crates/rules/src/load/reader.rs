//! From YAML to items.

use super::code::WarningCode;
use super::collector::Collector;
use super::context::{Context, Item};
use super::decode::{self, Thrown, structure};
use super::exceptions;
use super::item::{ListItem, MacroItem, Order, PluginRequirement, RuleItem, RuleUpdate};
use super::overrides::{Expected, OVERRIDE_AND_APPEND, overrides};
use super::result::LoadResult;
use crate::priority::Priority;
use crate::version::{ENGINE, Version};
use crate::yaml::{Mark, Node};

const APPEND: &str = "'append' key is deprecated. Add an 'append' entry (e.g. 'condition: append') under 'override' instead.";
const ENABLED: &str = "The standalone 'enabled' key usage is deprecated. The correct approach requires also a 'replace' entry under the 'override' key (i.e. 'enabled: replace').";

const APPENDABLE: [&str; 5] = ["condition", "output", "desc", "tags", "exceptions"];
const REPLACEABLE: [&str; 11] = [
    "condition",
    "output",
    "desc",
    "priority",
    "capture",
    "capture_duration",
    "tags",
    "exceptions",
    "enabled",
    "warn_evttypes",
    "skip-if-unknown-filter",
];
const RULE_KEYS: [&str; 15] = [
    "rule",
    "condition",
    "output",
    "desc",
    "priority",
    "source",
    "enabled",
    "capture",
    "capture_duration",
    "warn_evttypes",
    "skip-if-unknown-filter",
    "tags",
    "exceptions",
    "override",
    "append",
];

/// Reads one document.
pub(crate) fn document(
    document: &Node,
    collector: &mut Collector,
    result: &mut LoadResult,
) -> Result<(), Thrown> {
    let context = Context::file(&result.name);
    if document.is_null() {
        return Ok(());
    }
    let Some(items) = document.sequence() else {
        let message = if document.mapping().is_some() {
            "Rules content is not yaml array of objects"
        } else {
            "Rules content is not yaml"
        };
        return Err(structure(message, &context));
    };
    items
        .iter()
        .filter(|item| !item.is_null())
        .try_for_each(|node| {
            let mut reader = Reader {
                item: node,
                parent: &context,
                collector: &mut *collector,
                result: &mut *result,
            };
            reader.item()
        })
}

struct Reader<'a> {
    item: &'a Node,
    parent: &'a Context,
    collector: &'a mut Collector,
    result: &'a mut LoadResult,
}

impl Reader<'_> {
    fn context(&self, item: Item, name: &str) -> Context {
        self.parent.node(self.item, item, name)
    }

    fn has(&self, key: &str) -> bool {
        self.item.get(key).is_some()
    }

    /// The context of a key's value.
    fn value(&self, key: &str, item: Item, context: &Context) -> Context {
        let mark = self
            .item
            .get(key)
            .map_or(Mark::default(), |value| value.mark);
        context.mark(mark, item, "")
    }

    fn item(&mut self) -> Result<(), Thrown> {
        if self.item.mapping().is_none() {
            let context = self.context(Item::InContent, "");
            let message =
                "Unexpected element type. Each element should be a yaml associative array.";
            return Err(structure(message, &context));
        }
        if self.has("required_engine_version") {
            self.engine_version()
        } else if self.has("required_plugin_versions") {
            self.plugin_versions()
        } else if self.has("list") {
            self.list()
        } else if self.has("macro") {
            self.definition_of_macro()
        } else if self.has("rule") {
            self.rule()
        } else {
            let context = self.context(Item::InContent, "");
            self.result
                .warn(WarningCode::UnknownItem, "Unknown top level item", &context);
            Ok(())
        }
    }

    fn warn_unknown_keys(&mut self, known: &[&str], context: &Context) {
        for (key, _) in self.item.mapping().unwrap_or_default() {
            let key = key.scalar().unwrap_or_default();
            if !known.contains(&key) {
                let message = format!("Unknown key '{key}'. The key will be ignored.");
                self.result.warn(WarningCode::UnknownKey, &message, context);
            }
        }
    }

    fn engine_version(&mut self) -> Result<(), Thrown> {
        let context = self.context(Item::RequiredEngineVersion, "");
        let text = decode::text(self.item, "required_engine_version", &context)?;
        let version = match decode::number(&text) {
            Some(minor) => Version::new(ENGINE.major, minor, ENGINE.patch),
            None => Version::parse(&text).ok_or_else(|| {
                structure(
                    format!(
                        "Unable to parse engine version '{text}' as a semver string. Expected \"x.y.z\" semver format."
                    ),
                    &context,
                )
            })?,
        };
        self.collector.require_engine(version, &context)?;
        self.warn_unknown_keys(&["required_engine_version"], &context);
        Ok(())
    }

    fn plugin_versions(&mut self) -> Result<(), Thrown> {
        let Some(required) = self.item.get("required_plugin_versions") else {
            return Ok(());
        };
        let context = self.parent.node(required, Item::RequiredPluginVersions, "");
        let Some(plugins) = required.sequence() else {
            let message = "Value of required_plugin_versions must be a sequence";
            return Err(structure(message, &context));
        };
        for plugin in plugins {
            let entry = context.node(plugin, Item::RequiredPluginVersionsEntry, "");
            if plugin.mapping().is_none() {
                return Err(structure("Plugin version must be a mapping", &entry));
            }
            let name = decode::text(plugin, "name", &entry)?;
            let entry = context.node(plugin, Item::RequiredPluginVersionsEntry, &name);
            let version = decode::text(plugin, "version", &entry)?;
            let mut alternatives = vec![PluginRequirement { name, version }];
            if let Some(others) = plugin.get("alternatives") {
                let Some(others) = others.sequence() else {
                    let message = "Value of plugin version alternatives must be a sequence";
                    return Err(structure(message, &entry));
                };
                for other in others {
                    let item = Item::RequiredPluginVersionsAlternative;
                    let context = entry.node(other, item, "");
                    if other.mapping().is_none() {
                        let message = "Plugin version alternative must be a mapping";
                        return Err(structure(message, &context));
                    }
                    let name = decode::text(other, "name", &context)?;
                    let version = decode::text(other, "version", &entry.node(other, item, &name))?;
                    alternatives.push(PluginRequirement { name, version });
                }
            }
            self.collector.require_plugin(alternatives, &entry)?;
        }
        let context = self.context(Item::RequiredPluginVersions, "");
        self.warn_unknown_keys(&["required_plugin_versions"], &context);
        Ok(())
    }

    /// The `append` key, which is deprecated.
    fn append(&mut self, context: &Context) -> Result<bool, Thrown> {
        let append = decode::optional_bool(self.item, "append", context)?.unwrap_or(false);
        if append {
            self.result
                .warn(WarningCode::DeprecatedItem, APPEND, context);
        }
        Ok(append)
    }

    fn list(&mut self) -> Result<(), Thrown> {
        let name = decode::text(self.item, "list", &self.context(Item::List, ""))?;
        let context = self.context(Item::List, &name);
        let bare = |c: char| !"()\"'=, \t\r\n\x0b\x0c".contains(c);
        if !name.chars().all(bare) {
            let message = "List has an invalid name. List names should match a regular expression: ([^()\"'[:space:]=,]+)";
            self.result
                .warn(WarningCode::InvalidListName, message, &context);
        }
        let items = decode::items(self.item, &context)?;
        let mut append = self.append(&context)?;
        let overrides = overrides(self.item, &["items"], &["items"], &context)?;
        if append && !overrides.is_empty() {
            return Err(structure(OVERRIDE_AND_APPEND, &context));
        }
        append |= overrides.append.contains("items");
        let list = ListItem {
            context: context.clone(),
            name,
            items,
            order: Order::default(),
        };
        if append {
            self.collector.append_list(list)?;
        } else {
            self.collector.define_list(list);
        }
        self.warn_unknown_keys(&["list", "items", "append", "override"], &context);
        Ok(())
    }

    fn definition_of_macro(&mut self) -> Result<(), Thrown> {
        let name = decode::text(self.item, "macro", &self.context(Item::Macro, ""))?;
        let context = self.context(Item::Macro, &name);
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if !name.starts_with(|c: char| c.is_ascii_alphabetic()) || !name.chars().all(plain) {
            let message = "Macro has an invalid name. Macro names should match a regular expression: ([a-zA-Z]+[a-zA-Z0-9_]*)";
            self.result
                .warn(WarningCode::InvalidMacroName, message, &context);
        }
        let condition = decode::text(self.item, "condition", &context)?;
        let condition_context = self.value("condition", Item::MacroCondition, &context);
        let mut append = self.append(&context)?;
        let overrides = overrides(self.item, &["condition"], &["condition"], &context)?;
        if append && !overrides.is_empty() {
            return Err(structure(OVERRIDE_AND_APPEND, &context));
        }
        append |= overrides.append.contains("condition");
        let item = MacroItem {
            context: context.clone(),
            condition_context,
            name,
            condition,
            order: Order::default(),
        };
        if append {
            self.collector.append_macro(item)?;
        } else {
            self.collector.define_macro(item);
        }
        self.warn_unknown_keys(&["macro", "condition", "append", "override"], &context);
        Ok(())
    }

    fn rule(&mut self) -> Result<(), Thrown> {
        let name = decode::text(self.item, "rule", &self.context(Item::Rule, ""))?;
        let context = self.context(Item::Rule, &name);
        let source = decode::empty_text(self.item, "source", &context)?;
        let append = self.append(&context)?;
        let overrides = overrides(self.item, &APPENDABLE, &REPLACEABLE, &context)?;
        if append && !overrides.is_empty() {
            return Err(structure(OVERRIDE_AND_APPEND, &context));
        }
        if !overrides.is_empty() {
            self.overridden_rule(&name, &source, &overrides, &context)?;
        } else if append {
            let mut update = RuleUpdate::new(context.clone(), &name, &source);
            if self.has("condition") {
                update.condition = Some(decode::text(self.item, "condition", &context)?);
            }
            if self.has("exceptions") {
                update.exceptions = Some(exceptions::read(self.item, true, &context, self.result)?);
            }
            self.collector.append_rule(update)?;
        } else if ["condition", "output", "desc", "priority"]
            .iter()
            .any(|key| self.has(key))
        {
            let rule = self.whole_rule(&name, &context)?;
            self.collector.define_rule(rule, self.result)?;
        } else {
            let enabled = decode::optional_bool(self.item, "enabled", &context)?
                .ok_or_else(|| structure("Item has no mapping for key 'enabled'", &context))?;
            self.result
                .warn(WarningCode::DeprecatedItem, ENABLED, &context);
            self.collector.enable_rule(&name, enabled, &context)?;
        }
        self.warn_unknown_keys(&RULE_KEYS, &context);
        Ok(())
    }

    fn priority(&self, context: &Context) -> Result<Priority, Thrown> {
        let priority = decode::text(self.item, "priority", context)?;
        Priority::find(&priority).ok_or_else(|| {
            let context = self.value("priority", Item::RulePriority, context);
            structure("Invalid priority", &context)
        })
    }

    fn whole_rule(&mut self, name: &str, context: &Context) -> Result<RuleItem, Thrown> {
        let item = self.item;
        let flag = |key, default| {
            decode::optional_bool(item, key, context).map(|flag| flag.unwrap_or(default))
        };
        let condition = decode::text(item, "condition", context)?;
        let output = decode::text(item, "output", context)?;
        let description = decode::text(item, "desc", context)?;
        let priority = self.priority(context)?;
        let source = decode::optional_text(item, "source", context)?;
        Ok(RuleItem {
            context: context.clone(),
            condition_context: self.value("condition", Item::RuleCondition, context),
            output_context: self.value("output", Item::RuleOutput, context),
            order: Order::default(),
            unknown_source: false,
            name: name.to_owned(),
            condition,
            source: source.unwrap_or_else(|| "syscall".into()),
            description,
            output: output.trim().to_owned(),
            priority,
            enabled: flag("enabled", true)?,
            capture: flag("capture", false)?,
            capture_duration: decode::optional_number(item, "capture_duration", context)?
                .unwrap_or(0),
            warn_evttypes: flag("warn_evttypes", true)?,
            skip_if_unknown_filter: flag("skip-if-unknown-filter", false)?,
            tags: decode::tags(item, context)?,
            exceptions: exceptions::read(item, false, context, self.result)?,
        })
    }

    fn overridden_rule(
        &mut self,
        name: &str,
        source: &str,
        overrides: &super::overrides::Overrides,
        context: &Context,
    ) -> Result<(), Thrown> {
        let item = self.item;
        let mut expected = Expected {
            keys: REPLACEABLE
                .into_iter()
                .filter(|key| item.get(key).is_some())
                .collect(),
            item,
            context,
        };
        for (keys, operation) in [
            (&overrides.append, "append"),
            (&overrides.replace, "replace"),
        ] {
            if keys.is_empty() {
                continue;
            }
            let append = operation == "append";
            let mut update = RuleUpdate::new(context.clone(), name, "");
            let mut take = |key| expected.take(keys, operation, key);
            if take("condition")? {
                update.source = source.to_owned();
                update.condition = Some(decode::text(item, "condition", context)?);
            }
            if take("exceptions")? {
                update.exceptions = Some(exceptions::read(item, append, context, self.result)?);
            }
            if take("output")? {
                update.output = Some(decode::text(item, "output", context)?);
            }
            if take("desc")? {
                update.description = Some(decode::text(item, "desc", context)?);
            }
            if take("tags")? {
                update.tags = Some(decode::tags(item, context)?);
            }
            if take("priority")? {
                update.priority = Some(self.priority(context)?);
            }
            for (key, flag) in [
                ("capture", &mut update.capture),
                ("enabled", &mut update.enabled),
                ("warn_evttypes", &mut update.warn_evttypes),
                ("skip-if-unknown-filter", &mut update.skip_if_unknown_filter),
            ] {
                if take(key)? {
                    *flag = decode::optional_bool(item, key, context)?;
                }
            }
            if take("capture_duration")? {
                update.capture_duration =
                    decode::optional_number(item, "capture_duration", context)?;
            }
            if append {
                self.collector.append_rule(update)?;
            } else {
                self.collector.replace_in_rule(update)?;
            }
        }
        expected.finish()
    }
}
