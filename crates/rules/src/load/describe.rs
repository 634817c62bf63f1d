//! What was loaded, as `falco -L -o json_output=true` and `falco -l` tell it.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use serde_json::{Value, json};

use super::item::{Entry, ListItem, MacroItem, RuleItem};
use super::{Rule, RuleSet};
use crate::condition::{Expr, Operator, Right, Term, parse, print};
use crate::events::{EventSet, EventType, Sort};
use crate::fields::{Class, Source, find};
use crate::graph::event_types;

/// What a condition is made of.
#[derive(Default)]
struct Details {
    fields: BTreeSet<String>,
    macros: BTreeSet<String>,
    lists: BTreeSet<String>,
    operators: BTreeSet<String>,
}

struct Search<'a> {
    set: &'a RuleSet,
    seen: HashSet<*const Expr>,
    details: Details,
}

impl Search<'_> {
    fn expr(&mut self, expr: &Arc<Expr>) {
        if !self.seen.insert(Arc::as_ptr(expr)) {
            return;
        }
        match &**expr {
            Expr::And(children, _) | Expr::Or(children, _) => {
                children.iter().for_each(|child| self.expr(child));
            }
            Expr::Not(child, _) => self.expr(child),
            Expr::Macro(name, _) => {
                if self.set.collector.macros.get(name).is_some() {
                    self.details.macros.insert(name.clone());
                }
            }
            Expr::Exists(term, _) => {
                self.term(term);
                let exists = Operator::Exists.text().to_owned();
                self.details.operators.insert(exists);
            }
            Expr::Check {
                left,
                operator,
                modifier,
                right,
                ..
            } => {
                self.term(left);
                let operator = match modifier {
                    Some(modifier) => format!("{operator} {}", modifier.text()),
                    None => operator.to_string(),
                };
                self.details.operators.insert(operator);
                match right {
                    Right::List(values, _) => {
                        for value in values {
                            let Ok(name) = std::str::from_utf8(value) else {
                                continue;
                            };
                            if self.set.collector.lists.get(name).is_some() {
                                self.details.lists.insert(name.to_owned());
                            }
                        }
                    }
                    Right::Value(..) => {}
                    Right::Term(term) => self.term(term),
                }
            }
        }
    }

    fn term(&mut self, term: &Term) {
        match term {
            Term::Field { name, argument, .. } => {
                self.details.fields.insert(match argument {
                    Some(argument) if !argument.is_empty() => format!("{name}[{argument}]"),
                    _ => name.clone(),
                });
            }
            Term::Transformer { values, .. } | Term::List(values, _) => {
                values.iter().for_each(|value| self.term(value));
            }
            Term::Value(..) => {}
        }
    }
}

/// The names of types of events; generic system calls go by their own.
fn names(events: &EventSet) -> Vec<&'static str> {
    let mut names: BTreeSet<&str> = events
        .iter()
        .filter(|event| event.name() != "syscall")
        .map(EventType::name)
        .collect();
    names.insert(EventType::asynchronous().name());
    names.into_iter().collect()
}

fn operators(entry: &Entry, out: &mut BTreeSet<String>) {
    match entry {
        Entry::One(text) => {
            out.insert(text.clone());
        }
        Entry::Many(entries) => entries.iter().for_each(|entry| operators(entry, out)),
    }
}

impl RuleSet {
    fn details(&self, expr: &Arc<Expr>) -> Details {
        let mut search = Search {
            set: self,
            seen: HashSet::new(),
            details: Details::default(),
        };
        search.expr(expr);
        search.details
    }

    /// The details of a condition as it was written.
    fn written(&self, condition: &str) -> Details {
        parse(condition)
            .map(|expr| self.details(&expr))
            .unwrap_or_default()
    }

    /// Everything that was loaded.
    pub fn describe(&self) -> Value {
        let plugins: Vec<_> = self
            .collector
            .requirements
            .plugins
            .iter()
            .filter_map(|alternatives| {
                let (first, others) = alternatives.split_first()?;
                let others: Vec<_> = others
                    .iter()
                    .map(|one| json!({"name": one.name, "version": one.version}))
                    .collect();
                Some(json!({
                    "name": first.name, "version": first.version, "alternatives": others,
                }))
            })
            .collect();
        let rules: Vec<_> = self
            .rules()
            .iter()
            .filter_map(|rule| {
                let item = self.collector.rules.get(&rule.name)?;
                Some(self.rule_details(rule, item))
            })
            .collect();
        let macros: Vec<_> = self
            .collector
            .macros
            .iter()
            .map(|item| self.macro_details(item))
            .collect();
        let lists: Vec<_> = self
            .collector
            .lists
            .iter()
            .map(|item| self.list_details(item))
            .collect();
        json!({
            "required_engine_version": self.collector.requirements.engine.to_string(),
            "required_plugin_versions": plugins,
            "rules": rules,
            "macros": macros,
            "lists": lists,
        })
    }

    /// One rule.
    pub fn describe_rule(&self, name: &str) -> Option<Value> {
        let rule = self.rule(name)?;
        let item = self.collector.rules.get(name)?;
        Some(json!({"rules": [self.rule_details(rule, item)]}))
    }

    fn rule_details(&self, rule: &Rule, item: &RuleItem) -> Value {
        let written = self.written(&item.condition);
        let compiled = self.details(&rule.condition);
        let mut output_fields: BTreeSet<&str> = rule.template.names().collect();
        let mut formatted = serde_json::Map::new();
        for (key, extra) in &rule.extra_fields {
            if extra.raw {
                output_fields.insert(key);
            } else {
                output_fields.insert(&extra.format);
                formatted.insert(key.clone(), extra.format.as_str().into());
            }
        }
        let exceptions: BTreeSet<&str> = item
            .exceptions
            .iter()
            .map(|exception| exception.name.as_str())
            .collect();
        let mut exception_operators = BTreeSet::new();
        for exception in &item.exceptions {
            operators(&exception.comps, &mut exception_operators);
        }
        let events = match rule.source {
            Source::Syscall => names(&rule.events),
            Source::K8sAudit => names(&[EventType::plugin()].into_iter().collect()),
        };
        let plugins = plugins(rule.source, compiled.fields.iter().map(String::as_str));
        let plugins: BTreeSet<_> = plugins
            .into_iter()
            .chain(self::plugins(rule.source, output_fields.iter().copied()))
            .collect();
        let mut details = json!({
            "macros": written.macros,
            "lists": written.lists,
            "condition_operators": compiled.operators,
            "condition_fields": compiled.fields,
            "output_fields": output_fields,
            "exception_fields": rule.exception_fields,
            "exception_names": exceptions,
            "exception_operators": exception_operators,
            "events": events,
            "condition_compiled": print(&rule.condition),
            "output_compiled": rule.output,
            "plugins": plugins,
        });
        if let (false, Some(details)) = (formatted.is_empty(), details.as_object_mut()) {
            let formatted = Value::Object(formatted);
            details.insert("extra_output_formatted_fields".into(), formatted);
        }
        json!({
            "info": {
                "name": rule.name,
                "condition": item.condition,
                "priority": rule.priority.name(),
                "output": item.output,
                "description": rule.description,
                "enabled": item.enabled,
                "source": rule.source.name(),
                "capture": rule.capture,
                "capture_duration": rule.capture_duration_ms,
                "tags": item.tags,
            },
            "details": details,
        })
    }

    fn macro_details(&self, item: &MacroItem) -> Value {
        let written = self.written(&item.condition);
        let Some(known) = self.compiled.macros.get(&item.name) else {
            return Value::Null;
        };
        let expr = &known.resolved.expr;
        let compiled = self.details(expr);
        let events = event_types(expr).unwrap_or_else(|_| EventSet::full());
        json!({
            "info": {"name": item.name, "condition": item.condition},
            "details": {
                "used": known.used,
                "macros": written.macros,
                "lists": written.lists,
                "condition_operators": compiled.operators,
                "condition_fields": compiled.fields,
                "events": names(&events),
                "condition_compiled": print(expr),
                "plugins": [],
            },
        })
    }

    fn list_details(&self, item: &ListItem) -> Value {
        let Some(known) = self.compiled.lists.get(&item.name) else {
            return Value::Null;
        };
        // What is gone from the list is a list that was put in.
        let (items, lists): (Vec<_>, Vec<_>) = item
            .items
            .iter()
            .partition(|item| known.items.contains(item));
        json!({
            "info": {"name": item.name, "items": items},
            "details": {
                "used": known.used,
                "lists": lists.into_iter().collect::<BTreeSet<_>>(),
                "items_compiled": known.items,
                "plugins": [],
            },
        })
    }

    /// Names and descriptions, two columns.
    pub fn list(&self) -> String {
        let mut out = format!(
            "{:<50} {}\n{:<50} {}\n",
            "Rule", "Description", "----", "-----------"
        );
        for rule in self.rules() {
            let words: Vec<_> = rule.description.split_whitespace().collect();
            out.push_str(&format!("{:<50} {}\n", rule.name, words.join(" ")));
        }
        out
    }
}

/// The plugins of upstream that have such a source or such fields.
fn plugins<'a>(source: Source, fields: impl Iterator<Item = &'a str>) -> BTreeSet<&'static str> {
    let mut plugins = BTreeSet::new();
    if source == Source::K8sAudit {
        plugins.insert("k8saudit");
    }
    for field in fields {
        let name = field.split('[').next().unwrap_or_default();
        match find(name).map(|field| field.class) {
            Some(Class::Container) => plugins.insert("container"),
            Some(Class::Audit) => plugins.insert("k8saudit"),
            Some(Class::Json) => plugins.insert("json"),
            _ => false,
        };
    }
    plugins
}

/// The types of events that conditions may name, with what sort they are.
pub fn event_names() -> impl Iterator<Item = (&'static str, Sort)> {
    crate::events::all().map(|event| (event.name(), event.info().sort))
}
