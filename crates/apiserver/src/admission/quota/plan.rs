//! Whether a change fits into quotas, and what it uses of them. The order of the questions is
//! upstream's (`CheckRequest` of `k8s.io/apiserver/pkg/admission/plugin/resourcequota`), because it
//! decides which refusal is told.
//!
//! Invariant: a pure function of the change and the quotas.

use std::collections::{BTreeMap, BTreeSet};

use api::quantity::Quantity;
use api::quota::{self, Amounts, Measure, Scope};
use jiff::Timestamp;
use serde_json::Value;

/// A resource whose use is refused where no quota covers it.
#[derive(Debug, Clone, Default)]
pub struct LimitedResource {
    /// The API group, empty for core.
    pub group: String,
    /// The plural.
    pub plural: String,
    /// Parts of the names of what is limited, such as `.storageclass.storage.k8s.io/`.
    pub match_contains: Vec<String>,
    /// Objects that are limited.
    pub match_scopes: Vec<Scope>,
}

/// Why a change is refused; the words are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("failed quota: {quota}: {missing}")]
    Missing { quota: String, missing: String },
    #[error("status unknown for quota: {quota}, resources: {resources}")]
    Unknown { quota: String, resources: String },
    #[error("quota usage is negative for resource(s): {resources}")]
    Negative { resources: String },
    #[error("insufficient quota to consume: {resources}")]
    Uncovered { resources: String },
    #[error("insufficient quota to match these scopes: [{scopes}]")]
    UncoveredScopes { scopes: String },
    #[error("exceeded quota: {quota}, requested: {requested}, used: {used}, limited: {limited}")]
    Exceeded {
        quota: String,
        requested: String,
        used: String,
        limited: String,
    },
}

/// A write of an object.
pub(super) struct Change<'a> {
    pub(super) group: &'a str,
    pub(super) plural: &'a str,
    pub(super) subresource: &'a str,
    pub(super) measure: Measure,
    /// Absent when the object is created.
    pub(super) old: Option<&'a Value>,
    pub(super) new: &'a Value,
    pub(super) now: Timestamp,
}

impl Change<'_> {
    /// Whether the write can use more than was used before.
    pub(super) fn can_use(&self) -> bool {
        match (self.measure, self.subresource, self.old) {
            (_, "", None) | (Measure::Services, _, _) | (Measure::VolumeClaims, "", _) => true,
            (Measure::Pods, "resize", Some(_)) => true,
            (Measure::Pods, "", Some(old)) => {
                quota::is_terminating(old) != quota::is_terminating(self.new)
            }
            (Measure::VolumeClaims, "status", Some(old)) => {
                let allocated = |claim: &Value| {
                    let amount = claim.pointer("/status/allocatedResources/storage");
                    amount.cloned()
                };
                allocated(old) != allocated(self.new)
                    || quota::attribute_classes(old) != quota::attribute_classes(self.new)
            }
            _ => false,
        }
    }

    fn usage(&self, object: &Value) -> Amounts {
        self.measure
            .usage(self.group, self.plural, object, self.now)
    }

    /// What is used more than before.
    fn delta(&self, usage: &Amounts) -> Amounts {
        let before = self.old.map(|old| self.usage(old)).unwrap_or_default();
        let more = usage.iter().map(|(name, amount)| {
            let before = before.get(name).copied().unwrap_or(Quantity::ZERO);
            let more = amount.sub(before);
            let more = if more.is_negative() {
                Quantity::ZERO
            } else {
                more
            };
            (name.clone(), more)
        });
        more.collect()
    }

    fn tracks(&self, name: &str) -> bool {
        self.measure.tracks(self.group, self.plural, name)
    }
}

/// A quota, read.
struct Quota {
    name: String,
    scopes: Vec<Scope>,
    hard: Amounts,
    used: Amounts,
}

impl Quota {
    fn of(object: &Value) -> Self {
        Self {
            name: api::meta::name(object).to_owned(),
            scopes: quota::scopes(object),
            hard: quota::amounts(object.pointer("/status/hard")),
            used: quota::amounts(object.pointer("/status/used")),
        }
    }

    /// What it limits that the change's objects count for.
    fn tracked(&self, change: &Change<'_>) -> BTreeSet<&str> {
        let names = self.hard.keys().map(String::as_str);
        names.filter(|name| change.tracks(name)).collect()
    }

    fn matches(&self, change: &Change<'_>, object: &Value) -> bool {
        let in_scope = |scope: &Scope| change.measure.in_scope(scope, object);
        !self.tracked(change).is_empty() && self.scopes.iter().all(in_scope)
    }

    /// Refuses what cannot be counted.
    fn check(&self, change: &Change<'_>) -> Result<(), Refused> {
        let tracked = self.tracked(change);
        if let Some(missing) = change.measure.missing(&tracked, change.new) {
            let quota = self.name.clone();
            return Err(Refused::Missing { quota, missing });
        }
        if tracked.iter().any(|name| !self.used.contains_key(*name)) {
            return Err(Refused::Unknown {
                quota: self.name.clone(),
                resources: tracked.into_iter().collect::<Vec<_>>().join(","),
            });
        }
        Ok(())
    }

    /// What is used with more of it; refused when that is too much, unless the change only tells
    /// what has happened.
    fn charged(&self, more: &Amounts, told: bool) -> Result<Amounts, Refused> {
        let mut requested = more.clone();
        requested.retain(|name, _| self.hard.contains_key(name));
        let mut used = self.used.clone();
        quota::add(&mut used, &requested);
        let exceeds = |name: &String| used.get(name) > self.hard.get(name);
        let exceeded: BTreeSet<&String> = requested.keys().filter(|name| exceeds(name)).collect();
        if told || exceeded.is_empty() {
            return Ok(used);
        }
        let only = |amounts: &Amounts| {
            let amounts = amounts.iter().filter(|(name, _)| exceeded.contains(name));
            let words = amounts.map(|(name, amount)| format!("{name}={amount}"));
            words.collect::<Vec<_>>().join(",")
        };
        Err(Refused::Exceeded {
            quota: self.name.clone(),
            requested: only(&requested),
            used: only(&self.used),
            limited: only(&self.hard),
        })
    }
}

/// What the quotas that are charged have used afterwards, by their place among all.
pub(super) fn charge(
    change: &Change<'_>,
    quotas: &[Value],
    limited: &[LimitedResource],
) -> Result<BTreeMap<usize, Amounts>, Refused> {
    let quotas: Vec<Quota> = quotas.iter().map(Quota::of).collect();
    let mut matching = Vec::new();
    for (at, quota) in quotas.iter().enumerate() {
        if quota.matches(change, change.new) {
            quota.check(change)?;
            matching.push(at);
        }
    }
    let usage = change.usage(change.new);
    let negative = usage.iter().filter(|(_, amount)| amount.is_negative());
    let negative: Vec<&str> = negative.map(|(name, _)| name.as_str()).collect();
    if !negative.is_empty() {
        let resources = negative.join(",");
        return Err(Refused::Negative { resources });
    }
    let delta = change.delta(&usage);
    // A quota that was not about the object before is charged for all of it.
    let more = |at: &usize| {
        let known = change
            .old
            .is_none_or(|old| quotas[*at].matches(change, old));
        let mut more = if known { &delta } else { &usage }.clone();
        more.retain(|_, amount| !amount.is_zero());
        (*at, more)
    };
    let more: Vec<(usize, Amounts)> = matching
        .iter()
        .map(more)
        .filter(|(_, more)| !more.is_empty())
        .collect();
    if more.is_empty() && (!matching.is_empty() || delta.values().all(|amount| amount.is_zero())) {
        return Ok(BTreeMap::new());
    }
    covered(change, &usage, &quotas, &matching, limited)?;
    let told = change.subresource == "status";
    more.into_iter()
        .map(|(at, more)| Ok((at, quotas[at].charged(&more, told)?)))
        .collect()
}

/// Refuses the use of limited resources that no quota covers.
fn covered(
    change: &Change<'_>,
    usage: &Amounts,
    quotas: &[Quota],
    matching: &[usize],
    limited: &[LimitedResource],
) -> Result<(), Refused> {
    let of_resource = |limited: &&LimitedResource| {
        limited.group == change.group && limited.plural == change.plural
    };
    let limited: Vec<&LimitedResource> = limited.iter().filter(of_resource).collect();
    let parts = || limited.iter().flat_map(|limited| &limited.match_contains);
    let covers = |name: &str| {
        matching
            .iter()
            .any(|at| quotas[*at].tracked(change).contains(name))
    };
    let uncovered: Vec<&str> = usage
        .iter()
        .filter(|(name, amount)| !amount.is_zero() && parts().any(|part| name.contains(part)))
        .map(|(name, _)| name.as_str())
        .filter(|name| !covers(name))
        .collect();
    if !uncovered.is_empty() {
        let resources = uncovered.join(",");
        return Err(Refused::Uncovered { resources });
    }
    let within = |scope: &&Scope| change.measure.in_scope(scope, change.new);
    let granted: BTreeSet<&str> = quotas
        .iter()
        .flat_map(|quota| quota.scopes.iter().filter(within))
        .map(|scope| scope.name.as_str())
        .collect();
    let scopes = limited.iter().flat_map(|limited| &limited.match_scopes);
    let scopes: Vec<String> = scopes
        .filter(within)
        .filter(|scope| !granted.contains(scope.name.as_str()))
        .map(|scope| {
            format!(
                "{{{} {} [{}]}}",
                scope.name,
                scope.operator,
                scope.values.join(" ")
            )
        })
        .collect();
    if scopes.is_empty() {
        return Ok(());
    }
    let scopes = scopes.join(" ");
    Err(Refused::UncoveredScopes { scopes })
}
