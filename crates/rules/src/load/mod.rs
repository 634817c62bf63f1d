//! Loading: rule files in their order become a set of rules, with errors and warnings as Falco has them.
//!
//! Invariant: files are hostile. Whatever they hold, loading ends, in bounded memory, and says what is
//! wrong and where.

mod code;
mod collector;
mod compiler;
mod context;
mod decode;
mod describe;
mod exceptions;
mod item;
mod lists;
mod macros;
mod overrides;
mod reader;
mod result;
mod rule;
mod warnings;

pub use code::{ErrorCode, WarningCode};
pub use context::Context;
pub use describe::event_names;
pub use item::{PluginRequirement, Requirements};
pub use result::{LoadError, LoadResult, Warning, results_json};
pub use rule::{ExtraField, ExtraOutput, Rule};

use std::collections::BTreeMap;
use std::sync::Arc;

use collector::Collector;
use compiler::Compiled;

use crate::fields::Source;
use crate::graph::Graph;
use crate::version::Version;
use crate::yaml;

/// The largest file that is read.
const MAX_FILE: usize = 64 << 20;

/// Takes rule files, one after the other; later ones may change what earlier ones define.
#[derive(Debug, Default)]
pub struct Loader {
    collector: Collector,
    extra: Vec<ExtraOutput>,
    compiled: Compiled,
    /// The files so far.
    contents: Vec<(String, Arc<str>)>,
}

/// What all files say together.
#[derive(Debug)]
pub struct RuleSet {
    collector: Collector,
    compiled: Compiled,
}

impl Loader {
    /// A loader without rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// A loader that adds to what rules say.
    pub fn with_extra_output(extra: Vec<ExtraOutput>) -> Self {
        Self {
            extra,
            ..Self::default()
        }
    }

    /// Takes one more file. After an error, no other should follow.
    pub fn load(&mut self, name: &str, content: &str) -> LoadResult {
        let mut result = LoadResult::new(name, content);
        self.contents.append(&mut result.contents);
        result.contents.clone_from(&self.contents);
        if self.read(content, &mut result) {
            let compiled = compiler::compile(&self.collector, &self.extra, &mut result);
            if result.successful() {
                self.compiled = compiled;
            }
        }
        result
    }

    fn read(&mut self, content: &str, result: &mut LoadResult) -> bool {
        let context = Context::file(&result.name);
        let error = |message: String, context: Context| LoadError {
            code: ErrorCode::YamlParse,
            message,
            context,
        };
        if content.len() > MAX_FILE {
            let message = format!("larger than {MAX_FILE} bytes");
            result.errors.push(error(message, context));
            return false;
        }
        let documents = match yaml::parse(content) {
            Ok(documents) => documents,
            Err(yaml::YamlError { message, mark }) => {
                let context = match mark {
                    Some(mark) => context.mark(mark, context::Item::ValueFor, ""),
                    None => context,
                };
                result.errors.push(error(message, context));
                return false;
            }
        };
        for document in documents {
            if let Err(error) = reader::document(&document, &mut self.collector, result) {
                result.errors.push(*error);
                return false;
            }
        }
        true
    }

    /// The rules of all files.
    pub fn finish(self) -> RuleSet {
        RuleSet {
            collector: self.collector,
            compiled: self.compiled,
        }
    }

    /// Checks that the plugins that rules need are there; what is missing, if any is.
    pub fn check_plugins(&self, plugins: &[(&str, Version)]) -> Result<(), String> {
        let satisfied = |requirement: &PluginRequirement| {
            let (_, version) = plugins.iter().find(|(name, _)| *name == requirement.name)?;
            let required = Version::parse(&requirement.version)?;
            Some(if version.satisfies(required) {
                Ok(())
            } else {
                Err(format!(
                    "Plugin '{}' version '{version}' is not compatible with required plugin version '{}'",
                    requirement.name, requirement.version
                ))
            })
        };
        for alternatives in &self.collector.requirements.plugins {
            match alternatives.iter().find_map(satisfied) {
                Some(result) => result?,
                None => {
                    let names: Vec<_> = alternatives
                        .iter()
                        .map(|one| format!("{} (>= {})", one.name, one.version))
                        .collect();
                    return Err(format!(
                        "Plugin requirement not satisfied, must load one of: {}",
                        names.join(", ")
                    ));
                }
            }
        }
        Ok(())
    }
}

impl RuleSet {
    /// The rules, in the order of their definition.
    pub fn rules(&self) -> &[Rule] {
        &self.compiled.rules
    }

    pub(crate) fn graphs(&self) -> &BTreeMap<Source, Graph> {
        &self.compiled.graphs
    }

    /// The rule of that name.
    pub fn rule(&self, name: &str) -> Option<&Rule> {
        self.rules().iter().find(|rule| rule.name == name)
    }

    /// What the rules need.
    pub fn requirements(&self) -> &Requirements {
        &self.collector.requirements
    }
}
