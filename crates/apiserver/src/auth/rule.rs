//! Rules of roles: what each allows, and whether some cover others. Pure.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use super::rbac::Attributes;

/// `rbac.authorization.k8s.io` PolicyRule.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rule {
    /// What may be done; `*` is everything.
    #[serde(default, deserialize_with = "nullable")]
    pub verbs: Vec<String>,
    /// In which groups; `*` is all.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub api_groups: Vec<String>,
    /// To which resources: `pods`, `pods/log`, `*/scale`, `*`.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resources: Vec<String>,
    /// To objects of which names; none is all.
    #[serde(
        default,
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub resource_names: Vec<String>,
    /// To which URL paths; a `*` at the end is any rest.
    #[serde(
        default,
        rename = "nonResourceURLs",
        deserialize_with = "nullable",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub urls: Vec<String>,
}

/// `null` is an empty list.
pub(super) fn nullable<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Vec<T>, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Rule {
    /// A rule out of an object; what is not of the right form allows nothing.
    pub fn from_value(value: &Value) -> Self {
        Self::deserialize(value).unwrap_or_default()
    }

    /// The rule as it is in an object.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// Whether this rule allows a request.
    pub fn allows(&self, attributes: &Attributes<'_>) -> bool {
        if !has(&self.verbs, attributes.verb) {
            return false;
        }
        if attributes.is_resource() {
            has(&self.api_groups, attributes.group)
                && self.names_resource(attributes.resource, attributes.subresource)
                && (self.resource_names.is_empty()
                    || self
                        .resource_names
                        .iter()
                        .any(|name| name == attributes.name))
        } else {
            self.urls.iter().any(|url| url_covers(url, attributes.path))
        }
    }

    fn names_resource(&self, resource: &str, subresource: &str) -> bool {
        self.resources.iter().any(|named| {
            if named == "*" {
                return true;
            }
            match named.split_once('/') {
                None => subresource.is_empty() && named == resource,
                Some((parent, sub)) => {
                    !subresource.is_empty()
                        && sub == subresource
                        && (parent == resource || parent == "*")
                }
            }
        })
    }

    /// Whether whoever has this rule has all that the other one gives.
    fn covers(&self, other: &Self) -> bool {
        has_all(&self.verbs, &other.verbs)
            && has_all(&self.api_groups, &other.api_groups)
            && other
                .resources
                .iter()
                .all(|resource| self.covers_resource(resource))
            && (self.resource_names.is_empty()
                || (!other.resource_names.is_empty()
                    && other
                        .resource_names
                        .iter()
                        .all(|name| self.resource_names.contains(name))))
            && other
                .urls
                .iter()
                .all(|url| self.urls.iter().any(|own| url_covers(own, url)))
    }

    fn covers_resource(&self, resource: &str) -> bool {
        let sub = resource.split_once('/').map(|(_, sub)| sub);
        self.resources.iter().any(|own| {
            own == "*"
                || own == resource
                || sub.is_some_and(|sub| own.strip_prefix("*/") == Some(sub))
        })
    }

    /// In how many rules of one verb for one thing this one falls apart.
    fn size(&self) -> usize {
        let resources = self
            .api_groups
            .len()
            .saturating_mul(self.resources.len())
            .saturating_mul(self.resource_names.len().max(1));
        self.verbs
            .len()
            .saturating_mul(resources.saturating_add(self.urls.len()))
    }

    fn split(&self) -> Vec<Self> {
        let mut rules = Vec::new();
        for verb in &self.verbs {
            let verbs = vec![verb.clone()];
            for group in &self.api_groups {
                for resource in &self.resources {
                    let one = Self {
                        verbs: verbs.clone(),
                        api_groups: vec![group.clone()],
                        resources: vec![resource.clone()],
                        ..Self::default()
                    };
                    if self.resource_names.is_empty() {
                        rules.push(one);
                        continue;
                    }
                    for name in &self.resource_names {
                        rules.push(Self {
                            resource_names: vec![name.clone()],
                            ..one.clone()
                        });
                    }
                }
            }
            for url in &self.urls {
                let urls = vec![url.clone()];
                rules.push(Self {
                    verbs: verbs.clone(),
                    urls,
                    ..Self::default()
                });
            }
        }
        rules
    }
}

/// What is not taken apart: such a rule is either covered as a whole, or missing as a whole.
const SPLIT_LIMIT: usize = 20_000;

/// What `wanted` gives and `held` does not, in the fewest words: rules that differ only in their
/// verbs are put together.
pub fn missing(held: &[Rule], wanted: &[Rule]) -> Vec<Rule> {
    let mut missing: Vec<Rule> = Vec::new();
    let mut left = SPLIT_LIMIT;
    for rule in wanted {
        if held.iter().any(|own| own.covers(rule)) {
            continue;
        }
        if rule.size() > left {
            missing.push(rule.clone());
            continue;
        }
        left -= rule.size();
        for mut part in rule.split() {
            if held.iter().any(|own| own.covers(&part)) {
                continue;
            }
            let same = missing.iter_mut().find(|other| {
                other.api_groups == part.api_groups
                    && other.resources == part.resources
                    && other.resource_names == part.resource_names
                    && other.urls == part.urls
            });
            match same {
                Some(other) if other.verbs.contains(&part.verbs[0]) => {}
                Some(other) => other.verbs.append(&mut part.verbs),
                None => missing.push(part),
            }
        }
    }
    missing
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|own| own == "*" || own == wanted)
}

fn has_all(list: &[String], wanted: &[String]) -> bool {
    wanted.iter().all(|wanted| has(list, wanted))
}

fn url_covers(own: &str, wanted: &str) -> bool {
    own == wanted || own.ends_with('*') && wanted.starts_with(own.trim_end_matches('*'))
}
