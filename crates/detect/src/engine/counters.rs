//! What was counted: events, and alerts by rule and by priority.

use rules::Priority;

use super::load::Loaded;

/// Counts since the engine began.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Events that the engine took.
    pub events: u64,
    /// Alerts, by the rule's place.
    pub by_rule: Vec<u64>,
}

impl Counters {
    pub(super) fn new(rules: &Loaded) -> Self {
        Self {
            events: 0,
            by_rule: vec![0; rules.program.rules().len()],
        }
    }

    pub(super) fn matched(&mut self, rule: usize) {
        if let Some(count) = self.by_rule.get_mut(rule) {
            *count += 1;
        }
    }

    /// Keeps counts for other rules of the same names.
    pub(super) fn follow(&mut self, old: &Loaded, new: &Loaded) {
        let counted = |name: &str| {
            let place = old
                .program
                .rules()
                .iter()
                .position(|rule| rule.name == name)?;
            self.by_rule.get(place).copied()
        };
        let by_rule = new
            .program
            .rules()
            .iter()
            .map(|rule| counted(&rule.name).unwrap_or(0))
            .collect();
        self.by_rule = by_rule;
    }

    /// Alerts in all.
    #[must_use]
    pub fn alerts(&self) -> u64 {
        self.by_rule.iter().sum()
    }

    /// Counts of the rules that matched, with name and priority.
    pub fn matched_rules<'a>(
        &'a self,
        rules: &'a Loaded,
    ) -> impl Iterator<Item = (&'a rules::load::Rule, u64)> {
        rules
            .program
            .rules()
            .iter()
            .zip(&self.by_rule)
            .filter(|(_, count)| **count > 0)
            .map(|(rule, count)| (rule, *count))
    }

    /// The summary that Falco prints at its end.
    #[must_use]
    pub fn summary(&self, rules: &Loaded) -> String {
        use std::fmt::Write as _;
        let mut out = format!(
            "Events detected: {}\nRule counts by severity:\n",
            self.alerts()
        );
        for priority in Priority::ALL {
            let count: u64 = self
                .matched_rules(rules)
                .filter(|(rule, _)| rule.priority == priority)
                .map(|(_, count)| count)
                .sum();
            if count > 0 {
                let name = priority.short_name().to_uppercase();
                let _infallible = writeln!(out, "   {name}: {count}");
            }
        }
        out.push_str("Triggered rules by rule name:\n");
        for (rule, count) in self.matched_rules(rules) {
            let _infallible = writeln!(out, "   {}: {count}", rule.name);
        }
        out
    }
}
