//! `knarr detect list` and `describe`: fields, events and rules, as Falco tells them.

use rules::fields::{self, Source};
use rules::load::{RuleSet, event_names};

/// Which fields, and how.
#[derive(Clone, Copy, Debug, Default)]
pub struct ListOptions {
    /// Of which source; all without one (`--list=<source>`).
    pub source: Option<Source>,
    /// Names only (`-N`).
    pub names_only: bool,
    /// As JSON.
    pub json: bool,
    /// As tables in Markdown (`--markdown`).
    pub markdown: bool,
}

/// The fields that rules may use (`falco --list`).
#[must_use]
pub fn list_fields(options: ListOptions) -> String {
    if options.json {
        return fields::list::json(options.source).to_string();
    }
    if options.markdown {
        return fields::list::markdown(options.source);
    }
    let mut out = String::new();
    let mut class = None;
    for field in fields::all() {
        let wanted = options
            .source
            .is_none_or(|source| field.class.serves(source));
        if !wanted || field.hidden() || (field.deprecated() && !options.names_only) {
            continue;
        }
        if options.names_only {
            out.push_str(field.name);
            out.push('\n');
            continue;
        }
        if class != Some(field.class) {
            class = Some(field.class);
            out.push_str("-------------------------------\n");
            out.push_str(&format!(
                "Field Class:                  {}\n\n",
                field.class.name()
            ));
        }
        out.push_str(&format!("{:<29} {}\n", field.name, field.about));
    }
    out
}

/// The events that rules may name (`falco --list-events`): names, one a line.
#[must_use]
pub fn list_events() -> String {
    let mut names: Vec<_> = event_names().map(|(name, _)| name).collect();
    names.sort_unstable();
    names.dedup();
    names.join("\n") + "\n"
}

/// Names and descriptions of rules (`falco -L`), or of one (`-l`).
#[must_use]
pub fn list_rules(set: &RuleSet, rule: Option<&str>) -> Option<String> {
    match rule {
        None => Some(set.list()),
        Some(name) => {
            let rule = set.rule(name)?;
            let about = rule
                .description
                .split_whitespace()
                .collect::<Vec<_>>()
                .join(" ");
            Some(format!(
                "{:<50} {}\n{:<50} {}\n{:<50} {about}\n",
                "Rule", "Description", "----", "-----------", rule.name
            ))
        }
    }
}

/// Rules, macros and lists as JSON (`falco -L -o json_output=true`), or one rule.
#[must_use]
pub fn describe(set: &RuleSet, rule: Option<&str>) -> Option<String> {
    match rule {
        None => Some(set.describe().to_string()),
        Some(name) => Some(set.describe_rule(name)?.to_string()),
    }
}
