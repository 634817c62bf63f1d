//! Which rules are enabled: `rules` of the configuration, and the lowest priority that counts.

use std::collections::BTreeSet;

use crate::load::Rule;
use crate::priority::Priority;

/// How many rules an event may match.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Matching {
    /// The first.
    #[default]
    First,
    /// All.
    All,
}

impl Matching {
    /// What the configuration calls so, in capitals or not.
    pub fn find(name: &str) -> Option<Self> {
        match name.to_ascii_lowercase().as_str() {
            "first" => Some(Self::First),
            "all" => Some(Self::All),
            _ => None,
        }
    }
}

/// Which rules are enabled or disabled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Rules whose name is this, in which `*` stands for anything.
    Name(bool, String),
    /// Rules whose name holds this.
    Substring(bool, String),
    /// Rules with this tag.
    Tag(bool, String),
}

/// What is enabled, beyond what rules say of themselves.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// What is done, in this order.
    pub actions: Vec<Action>,
    /// The lowest priority that counts.
    pub lowest: Option<Priority>,
}

impl Selection {
    /// Whether each rule is enabled.
    pub fn enabled(&self, rules: &[Rule]) -> Vec<bool> {
        rules
            .iter()
            .map(|rule| {
                if self.lowest.is_some_and(|lowest| rule.priority > lowest) {
                    return false;
                }
                let mut enabled = rule.enabled;
                for action in &self.actions {
                    let (concerns, enable) = match action {
                        Action::Name(enable, pattern) => {
                            (matches_wildcard(pattern, &rule.name), enable)
                        }
                        Action::Substring(enable, part) => (rule.name.contains(part), enable),
                        Action::Tag(enable, tag) => (rule.tags.contains(tag), enable),
                    };
                    if concerns {
                        enabled = *enable;
                    }
                }
                enabled
            })
            .collect()
    }

    /// Enables or disables rules with any of these tags.
    pub fn tags(mut self, enable: bool, tags: &BTreeSet<String>) -> Self {
        let actions = tags.iter().map(|tag| Action::Tag(enable, tag.clone()));
        self.actions.extend(actions);
        self
    }
}

/// Whether a name is what a pattern says, in which `*` stands for anything. As upstream, what is
/// between stars is found where it comes first, and what is behind the last star must follow.
fn matches_wildcard(pattern: &str, name: &str) -> bool {
    let Some((before, rest)) = pattern.split_once('*') else {
        return pattern == name;
    };
    let Some(mut name) = name.strip_prefix(before) else {
        return false;
    };
    let mut rest = rest.trim_start_matches('*');
    loop {
        if rest.is_empty() {
            return true;
        }
        let part = rest.split('*').next().unwrap_or_default();
        let Some(at) = name.find(part) else {
            return false;
        };
        name = &name[at + part.len()..];
        rest = &rest[part.len()..];
        if rest.is_empty() {
            return name.is_empty();
        }
        rest = rest.trim_start_matches('*');
    }
}
