//! From items to rules: lists and macros resolved, exceptions written out, everything checked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::code::{ErrorCode, WarningCode};
use super::collector::Collector;
use super::context::Context;
use super::decode::{Thrown, invalid};
use super::exceptions;
use super::item::{Items, Named, RuleItem};
use super::lists::{self, List, MAX_CONDITION};
use super::macros::{self, Resolved};
use super::result::{LoadError, LoadResult};
use super::{ExtraField, ExtraOutput, Rule, warnings};
use crate::condition::{Expr, Pos, parse};
use crate::events::EventSet;
use crate::fields::Source;
use crate::graph::{Graph, Lowering, event_types};
use crate::output::Template;

/// With more codes than these, a rule looks at too many events.
const MANY_CODES: usize = 100;

const CONTAINER_INFO: &str = "%container.info is deprecated and no more useful, and will be dropped by Falco 1.0.0. The container plugin will automatically add required fields to the output message.";

/// A macro with all that it names put in.
#[derive(Clone, Debug)]
pub(crate) struct Macro {
    pub(crate) name: String,
    pub(crate) resolved: Resolved,
    pub(crate) used: bool,
}

impl Named for Macro {
    fn name(&self) -> &str {
        &self.name
    }
}

/// What came of all files so far.
#[derive(Debug, Default)]
pub(crate) struct Compiled {
    pub(crate) lists: Items<List>,
    pub(crate) macros: Items<Macro>,
    pub(crate) rules: Vec<Rule>,
    /// One graph a source.
    pub(crate) graphs: BTreeMap<Source, Graph>,
}

/// Compiles all that was collected.
pub(crate) fn compile(
    collector: &Collector,
    extra: &[ExtraOutput],
    result: &mut LoadResult,
) -> Compiled {
    let mut compiled = Compiled {
        lists: lists::resolve(&collector.lists),
        ..Compiled::default()
    };
    let mut compiler = Compiler {
        collector,
        extra,
        result,
        compiled: &mut compiled,
    };
    if let Err(error) = compiler.macros().and_then(|()| compiler.rules()) {
        result.errors.push(*error);
        return compiled;
    }
    for item in compiled.macros.iter().filter(|item| !item.used) {
        if let Some(defined) = collector.macros.get(&item.name) {
            let message = "Macro not referred to by any other rule/macro";
            result.warn(WarningCode::UnusedMacro, message, &defined.context);
        }
    }
    for list in compiled.lists.iter().filter(|list| !list.used) {
        if let Some(defined) = collector.lists.get(&list.name) {
            let message = "List not referred to by any other rule/macro";
            result.warn(WarningCode::UnusedList, message, &defined.context);
        }
    }
    compiled
}

struct Compiler<'a> {
    collector: &'a Collector,
    extra: &'a [ExtraOutput],
    result: &'a mut LoadResult,
    compiled: &'a mut Compiled,
}

fn condition_error(message: String, context: &Context) -> Thrown {
    Box::new(LoadError {
        code: ErrorCode::CompileCondition,
        message,
        context: context.clone(),
    })
}

impl Compiler<'_> {
    /// Puts lists into a condition and parses it.
    fn parse(&mut self, condition: &str, context: &Context) -> Result<Arc<Expr>, Thrown> {
        let mut text = condition.to_owned();
        let names: Vec<String> = self
            .compiled
            .lists
            .iter()
            .filter_map(|list| {
                if text.len() <= MAX_CONDITION {
                    text = lists::substitute(&text, list)?;
                }
                Some(list.name.clone())
            })
            .collect();
        for name in names {
            if let Some(list) = self.compiled.lists.get_mut(&name) {
                list.used = true;
            }
        }
        if text.len() > MAX_CONDITION {
            let message = format!("condition longer than {MAX_CONDITION} bytes");
            return Err(condition_error(message, context));
        }
        parse(&text).map_err(|(error, pos)| {
            condition_error(error.to_string(), &context.expression(pos, &text))
        })
    }

    fn macros(&mut self) -> Result<(), Thrown> {
        for item in self.collector.macros.iter() {
            let expr = self.parse(&item.condition, &item.condition_context)?;
            self.compiled.macros.put(Macro {
                name: item.name.clone(),
                resolved: Resolved { expr, depth: 0 },
                used: false,
            });
        }
        for item in self.collector.macros.iter() {
            let Some(known) = self.compiled.macros.get(&item.name) else {
                continue;
            };
            let expr = known.resolved.expr.clone();
            let visibility = item.order.visibility;
            let resolved = self.resolve(&expr, visibility, &item.condition, &item.context)?;
            if let Some(known) = self.compiled.macros.get_mut(&item.name) {
                known.resolved = resolved;
            }
        }
        Ok(())
    }

    /// Puts macros into a condition, those that were defined before.
    fn resolve(
        &mut self,
        expr: &Arc<Expr>,
        visibility: u32,
        condition: &str,
        context: &Context,
    ) -> Result<Resolved, Thrown> {
        let find = |name: &str| {
            let defined = self.collector.macros.get(name)?;
            let visible = defined.order.index < visibility;
            let known = visible.then(|| self.compiled.macros.get(name))??;
            Some(known.resolved.clone())
        };
        let resolution = macros::resolve(expr, &find)
            .map_err(|(message, pos)| invalid(message, &context.expression(pos, condition)))?;
        for name in &resolution.used {
            if let Some(known) = self.compiled.macros.get_mut(name) {
                known.used = true;
            }
        }
        Ok(Resolved {
            expr: resolution.expr,
            depth: resolution.depth,
        })
    }

    fn rules(&mut self) -> Result<(), Thrown> {
        for item in self.collector.rules.iter() {
            if let Some(source) = Source::find(&item.source).filter(|_| !item.unknown_source)
                && let Some(rule) = self.rule(item, source)?
            {
                self.compiled.rules.push(rule);
            }
        }
        Ok(())
    }

    /// What the rule says, with all that was asked to be added.
    fn output(&mut self, item: &RuleItem) -> (String, BTreeMap<String, (String, bool)>) {
        let mut output = item.output.clone();
        let mut fields = BTreeMap::new();
        for extra in self.extra.iter().filter(|extra| extra.concerns(item)) {
            for format in &extra.formats {
                output.push(' ');
                output.push_str(format);
            }
            for (key, format) in &extra.formatted_fields {
                fields.insert(key.clone(), (format.clone(), false));
            }
            for key in &extra.raw_fields {
                fields.insert(key.clone(), (format!("%{key}"), true));
            }
        }
        if output.contains("%container.info") {
            self.result
                .warn(WarningCode::DeprecatedItem, CONTAINER_INFO, &item.context);
            output = output.replace("%container.info", "");
        }
        (output, fields)
    }

    fn rule(&mut self, item: &RuleItem, source: Source) -> Result<Option<Rule>, Thrown> {
        let (condition, exception_fields) = if item.exceptions.is_empty() {
            (item.condition.clone(), BTreeSet::new())
        } else {
            exceptions::condition(&item.condition, &item.exceptions)?
        };
        let (output, extra) = self.output(item);
        let output_error = |message: String| {
            Box::new(LoadError {
                code: ErrorCode::CompileOutput,
                message,
                context: item.output_context.clone(),
            })
        };
        let template = match Template::parse(source, &output) {
            Ok(template) => template.lenient(),
            Err(error) => {
                let message = error.to_string();
                if item.skip_if_unknown_filter && unknown_field(&message) {
                    let code = WarningCode::UnknownFilter;
                    self.result.warn(code, &message, &item.output_context);
                    return Ok(None);
                }
                return Err(output_error(message));
            }
        };
        warnings::output(&output, &item.output_context, self.result);
        let mut extra_fields = BTreeMap::new();
        for (key, (format, raw)) in extra {
            let template = Template::parse(source, &format)
                .map_err(|error| output_error(error.to_string()))?;
            warnings::output(&format, &item.output_context, self.result);
            let template = template.lenient();
            let field = ExtraField {
                format,
                template,
                raw,
            };
            extra_fields.insert(key, field);
        }
        let Some((expr, root)) = self.condition(item, source, &condition)? else {
            return Ok(None);
        };
        let events = if source == Source::Syscall {
            let events = event_types(&expr)
                .map_err(|error| condition_error(error.to_string(), &item.condition_context))?;
            if events.codes() > MANY_CODES && item.warn_evttypes {
                let message = "Rule matches too many evt.type values. This has a significant performance penalty.";
                self.result
                    .warn(WarningCode::NoEvttype, message, &item.context);
            }
            events
        } else {
            [crate::events::EventType::plugin()]
                .into_iter()
                .collect::<EventSet>()
        };
        Ok(Some(Rule {
            name: item.name.clone(),
            source,
            description: item.description.clone(),
            condition: expr,
            root,
            events,
            output,
            template,
            extra_fields,
            exception_fields,
            priority: item.priority,
            tags: item.tags.clone(),
            enabled: item.enabled,
            capture: item.capture,
            capture_duration_ms: item.capture_duration,
        }))
    }

    /// The tree of a condition and its place in the graph; nothing if the rule is to be left out.
    fn condition(
        &mut self,
        item: &RuleItem,
        source: Source,
        condition: &str,
    ) -> Result<Option<(Arc<Expr>, crate::graph::NodeId)>, Thrown> {
        let expr = self.parse(condition, &item.condition_context)?;
        let resolved = self.resolve(&expr, u32::MAX, condition, &item.context)?;
        let expr = resolved.expr;
        let nowhere = Pos {
            offset: 0,
            line: 0,
            column: 0,
        };
        let whole = item.condition_context.expression(nowhere, condition);
        warnings::condition(&expr, &whole, self.result);
        let graph = self.compiled.graphs.entry(source).or_default();
        match Lowering::new(source, graph).run(&expr) {
            Ok(lowered) => {
                for (message, pos) in lowered.warnings {
                    let context = item.condition_context.expression(pos, condition);
                    let code = WarningCode::CompileCondition;
                    self.result.warn(code, &message, &context);
                }
                Ok(Some((expr, lowered.root)))
            }
            Err((error, pos)) => {
                let message = error.to_string();
                let context = item.condition_context.expression(pos, condition);
                if item.skip_if_unknown_filter && unknown_field(&message) {
                    let code = WarningCode::UnknownFilter;
                    self.result.warn(code, &message, &context);
                    return Ok(None);
                }
                Err(condition_error(message, &context))
            }
        }
    }
}

/// Whether a message says that a field or a type of events is not known.
fn unknown_field(message: &str) -> bool {
    [
        "nonexistent field",
        "invalid formatting token",
        "unknown event type",
        "unknown filter:",
    ]
    .iter()
    .any(|part| message.contains(part))
}
