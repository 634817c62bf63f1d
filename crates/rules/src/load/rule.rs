//! Rules as they are once everything is resolved, and what is added to what they say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::item::RuleItem;
use crate::condition::Expr;
use crate::events::EventSet;
use crate::fields::{self, Source};
use crate::graph::NodeId;
use crate::output::Template;
use crate::priority::Priority;

/// A rule.
#[derive(Clone, Debug)]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Where its events come from.
    pub source: Source,
    /// What it is about.
    pub description: String,
    /// Its condition, with lists, macros and exceptions in it.
    pub condition: Arc<Expr>,
    pub(crate) root: NodeId,
    /// The types of events that it can match.
    pub events: EventSet,
    /// What it says, as text.
    pub output: String,
    /// What it says.
    pub template: Template,
    /// Fields that are added to its alerts.
    pub extra_fields: BTreeMap<String, ExtraField>,
    /// The fields that its exceptions name.
    pub exception_fields: BTreeSet<String>,
    /// How grave it is.
    pub priority: Priority,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Whether it is enabled unless the configuration says otherwise.
    pub enabled: bool,
    /// Whether a match starts a capture.
    pub capture: bool,
    /// How long that lasts.
    pub capture_duration_ms: u32,
}

/// A field that is added to alerts.
#[derive(Clone, Debug)]
pub struct ExtraField {
    /// What it says, as text.
    pub format: String,
    /// What it says.
    pub template: Template,
    /// The value as it is, rather than as text.
    pub raw: bool,
}

/// What is added to the outputs of rules: `append_output` of the configuration.
#[derive(Clone, Debug, Default)]
pub struct ExtraOutput {
    /// Only for this source.
    pub source: Option<String>,
    /// Only for rules with all these tags.
    pub tags: BTreeSet<String>,
    /// Only for this rule.
    pub rule: Option<String>,
    /// Templates that are appended.
    pub formats: Vec<String>,
    /// Fields that are added to the JSON as they are.
    pub raw_fields: Vec<String>,
    /// Templates that are added to the JSON.
    pub formatted_fields: Vec<(String, String)>,
}

impl ExtraOutput {
    /// The fields that outputs of the source are well advised to have.
    pub fn suggested(source: Source) -> Self {
        let formats = fields::all()
            .iter()
            .filter(|field| field.suggested() && field.class.serves(source))
            .map(|field| format!("{}=%{}", field.name.replace('.', "_"), field.name))
            .collect();
        Self {
            source: Some(source.name().to_owned()),
            formats,
            ..Self::default()
        }
    }

    pub(super) fn concerns(&self, rule: &RuleItem) -> bool {
        self.source
            .as_ref()
            .is_none_or(|source| *source == rule.source)
            && self.rule.as_ref().is_none_or(|name| *name == rule.name)
            && self.tags.is_subset(&rule.tags)
    }
}
