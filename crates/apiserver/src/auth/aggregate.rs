//! ClusterRoles that are made of others by label. Pure.

use std::collections::{BTreeMap, HashSet};

use api::selector::LabelSelector;
use serde_json::{Map, Value};

use super::rule::Rule;

/// A ClusterRole as aggregation sees it.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) labels: Map<String, Value>,
    /// Its own rules; those of an aggregated role do not count.
    pub(super) rules: Vec<Rule>,
    /// Which roles make it up; `None` where it is not aggregated.
    pub(super) selectors: Option<Vec<LabelSelector>>,
}

impl Part {
    pub(super) fn from_value(role: &Value) -> Self {
        let rules = role["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Rule::from_value)
            .collect();
        let selectors = role
            .get("aggregationRule")
            .filter(|rule| !rule.is_null())
            .map(|rule| {
                let selectors = rule["clusterRoleSelectors"]
                    .as_array()
                    .into_iter()
                    .flatten();
                // One that cannot be read selects nothing.
                selectors
                    .filter_map(|selector| LabelSelector::from_object(selector).ok())
                    .collect()
            });
        let labels = role["metadata"]["labels"]
            .as_object()
            .cloned()
            .unwrap_or_default();
        Self {
            labels,
            rules,
            selectors,
        }
    }
}

/// The rules of each aggregated ClusterRole among `objects`, by its name; other kinds are skipped.
/// This is what upstream's controller writes into `rules`.
pub fn aggregate(objects: &[Value]) -> BTreeMap<String, Vec<Rule>> {
    let roles = objects
        .iter()
        .filter(|object| object["kind"] == "ClusterRole");
    let parts: BTreeMap<String, Part> = roles
        .filter_map(|role| {
            Some((
                role["metadata"]["name"].as_str()?.to_owned(),
                Part::from_value(role),
            ))
        })
        .collect();
    let aggregated = parts.iter().filter(|(_, part)| part.selectors.is_some());
    aggregated
        .map(|(name, _)| (name.clone(), gather(name, |n| parts.get(n), &parts)))
        .collect()
}

/// The rules of one aggregated role: those of the roles that it selects, and of those that these
/// select, each role once.
pub(super) fn gather<'a, B>(
    name: &'a str,
    find: impl Fn(&str) -> Option<&'a Part>,
    all: &'a BTreeMap<String, B>,
) -> Vec<Rule>
where
    B: std::borrow::Borrow<Part>,
{
    let mut rules: Vec<Rule> = Vec::new();
    let mut seen = HashSet::from([name]);
    let mut open: Vec<&Part> = find(name).into_iter().collect();
    while let Some(part) = open.pop() {
        let Some(selectors) = &part.selectors else {
            continue;
        };
        for (name, other) in all {
            let other = other.borrow();
            let selected = selectors
                .iter()
                .any(|selector| selector.matches(Some(&other.labels)));
            if !selected || !seen.insert(name) {
                continue;
            }
            if other.selectors.is_some() {
                open.push(other);
                continue;
            }
            for rule in &other.rules {
                if !rules.contains(rule) {
                    rules.push(rule.clone());
                }
            }
        }
    }
    rules
}
