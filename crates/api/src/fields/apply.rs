//! One apply: merge, prune, and the settling of who owns what.

use serde_json::Value;

use super::check;
use super::compare::Comparison;
use super::element::{Element, same};
use super::entries::{self, Entry, Id, ManagedFields, Operation};
use super::form::TypeError;
use super::last_applied;
use super::merge::merge;
use super::own::{Target, strip};
use super::prune::prune;
use super::set::{Set, show};
use crate::resource::split_api_version;

/// A field that is applied otherwise than its owner has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Whose it is: `"m" with subresource "status" using v1`.
    pub manager: String,
    /// The field.
    pub path: Vec<Element>,
}

impl Conflict {
    /// The field as conflicts show it: `.spec.replicas`.
    #[must_use]
    pub fn field(&self) -> String {
        show(&self.path)
    }
}

/// Why an object cannot be applied; the words are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// It is of another type than the path: 400.
    #[error("invalid object type: {0}")]
    Kind(String),
    /// It says itself who owns what: 400.
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// It has fields that its type does not know, or of the wrong type: 500, as upstream answers.
    #[error("failed to create typed patch object ({object}): {reason}")]
    Untyped {
        /// `namespace/name; group/version, Kind=kind`.
        object: String,
        /// What is wrong.
        reason: String,
    },
    /// A list of what is there, or of what would be, has items without names.
    #[error("failed to merge config: {0}")]
    Type(#[from] TypeError),
    /// What is there, or would be, cannot be had in the version of somebody's fields: 500.
    #[error("{0}")]
    Convert(String),
    /// Others own what it says otherwise: 409.
    #[error("{}", conflict_text(.0))]
    Conflict(Vec<Conflict>),
}

fn conflict_text(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!(
            "Apply failed with 1 conflict: conflict with {}: {}",
            one.manager,
            one.field()
        );
    }
    let mut lines: Vec<String> = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.manager));
            last = Some(&conflict.manager);
        }
        lines.push(format!("- {}", conflict.field()));
    }
    format!(
        "Apply failed with {} conflicts: {}",
        conflicts.len(),
        lines.join("\n")
    )
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whether an object may be applied at all.
pub(super) fn check(target: &Target<'_>, config: &Value) -> Result<(), ApplyError> {
    let (version, kind) = (text(config, "apiVersion"), text(config, "kind"));
    let (group, short) = split_api_version(version);
    let shown = format!("{group}/{short}, Kind={kind}");
    if version != target.api_version || kind != target.kind {
        return Err(ApplyError::Kind(shown));
    }
    let managed = config.get("metadata").and_then(|m| m.get("managedFields"));
    if managed.is_some_and(|managed| !managed.is_null()) {
        return Err(ApplyError::ManagedFields);
    }
    check::check(&target.schema, config).map_err(|reason| ApplyError::Untyped {
        object: format!(
            "{}/{}; {shown}",
            crate::meta::namespace(config),
            crate::meta::name(config)
        ),
        reason,
    })
}

/// Brings the entries in line with the table of today.
pub(super) fn conform(target: &Target<'_>, managed: &mut ManagedFields) {
    for entry in managed.iter_mut() {
        if let Some(form) = target.form_at(&entry.api_version) {
            entry.fields.conform(form);
        }
    }
}

/// Settles a change from `old` to `new` among the entries: the fields that it changes are taken from
/// all but `own`, which is refused unless `force` is set; the fields that it removes are nobody's.
pub(super) fn settle(
    target: &Target<'_>,
    old: &Value,
    new: &Value,
    managed: &mut ManagedFields,
    own: Option<&Id>,
    force: bool,
) -> Result<Comparison, ApplyError> {
    let compared = target.compare(target.form(), old, new)?;
    // By version: what changed there; nothing for versions that are no more.
    let mut versions: Vec<(String, Changed)> = vec![(
        target.api_version.to_owned(),
        Changed::To(compared.set(), compared.removed.clone()),
    )];
    let mut conflicts: Vec<(Entry, Set)> = Vec::new();
    for entry in managed.iter() {
        if own.is_some_and(|own| entry.id() == *own) {
            continue;
        }
        if !versions
            .iter()
            .any(|(version, _)| *version == entry.api_version)
        {
            // Both are asked for before either is missed.
            let there = target.at(old, &entry.api_version);
            let then = target.at(new, &entry.api_version);
            let changed = match (there, then) {
                (Ok(Some((form, old))), Ok(Some((_, new)))) => {
                    let compared = target.compare(form, &old, &new)?;
                    Changed::To(compared.set(), compared.removed)
                }
                // An apply has to know whom it takes from.
                (Err(error), _) | (_, Err(error)) if own.is_some() => {
                    return Err(unconverted(error));
                }
                (Err(_), _) | (_, Err(_)) => Changed::Unknown,
                _ => Changed::Gone,
            };
            versions.push((entry.api_version.clone(), changed));
        }
        let Some(Changed::To(set, _)) = changed_in(&versions, entry) else {
            continue;
        };
        let taken = entry.fields.intersection(set);
        if !force && !taken.is_empty() {
            conflicts.push((entry.clone(), taken));
        }
    }
    if !conflicts.is_empty() {
        return Err(ApplyError::Conflict(told(conflicts)));
    }
    let is_own = |entry: &Entry| own.is_some_and(|own| entry.id() == *own);
    for entry in managed.iter_mut() {
        if is_own(entry) {
            continue;
        }
        match changed_in(&versions, entry) {
            Some(Changed::To(set, removed)) => {
                entry.fields.subtract(set);
                entry.fields.subtract(removed);
            }
            Some(Changed::Unknown) => {}
            Some(Changed::Gone) | None => entry.fields = Set::default(),
        }
    }
    managed.retain(|entry| is_own(entry) || !entry.fields.is_empty());
    Ok(compared)
}

/// What a change is in a version.
enum Changed {
    /// The fields that it sets or changes, and those that it removes.
    To(Set, Set),
    /// There is no such version any more: its fields are nobody's.
    Gone,
    /// The object cannot be had in that version: its fields stay whose they are.
    Unknown,
}

fn unconverted(error: ApplyError) -> ApplyError {
    match error {
        ApplyError::Convert(why) => {
            ApplyError::Convert(format!("failed to convert old object: {why}"))
        }
        other => other,
    }
}

fn changed_in<'a>(versions: &'a [(String, Changed)], entry: &Entry) -> Option<&'a Changed> {
    let (_, changed) = versions
        .iter()
        .find(|(version, _)| *version == entry.api_version)?;
    Some(changed)
}

/// Conflicts in the order in which they are told: by manager.
fn told(mut conflicts: Vec<(Entry, Set)>) -> Vec<Conflict> {
    conflicts.sort_by(|(a, _), (b, _)| {
        let key = |e: &Entry| {
            let id = e.id();
            (id.manager, id.operation, id.version, id.subresource)
        };
        key(a).cmp(&key(b))
    });
    let each = conflicts.into_iter().flat_map(|(entry, set)| {
        let manager = entries::show(&entry);
        set.paths().into_iter().map(move |path| Conflict {
            manager: manager.clone(),
            path,
        })
    });
    each.collect()
}

/// Applies an object that fits its type; what `kubectl apply` had said on the client's side is no
/// conflict for kubectl.
pub(super) fn apply(
    target: &Target<'_>,
    live: &Value,
    config: &Value,
    managed: ManagedFields,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<(Value, ManagedFields), ApplyError> {
    let by_kubectl = manager == last_applied::KUBECTL;
    let applied = match once(target, live, config, managed.clone(), manager, force, now) {
        Err(ApplyError::Conflict(conflicts)) if by_kubectl => {
            let Some(allowed) = last_applied::unchanged(target, live) else {
                return Err(ApplyError::Conflict(conflicts));
            };
            let others: Vec<Conflict> = conflicts
                .into_iter()
                .filter(|conflict| !allowed.has(&conflict.path))
                .collect();
            if !others.is_empty() {
                return Err(ApplyError::Conflict(others));
            }
            once(target, live, config, managed, manager, true, now)
        }
        done => done,
    };
    let (mut new, managed) = applied?;
    if by_kubectl {
        last_applied::renew(&mut new, config);
    }
    Ok((new, managed))
}

fn once(
    target: &Target<'_>,
    live: &Value,
    config: &Value,
    mut managed: ManagedFields,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<(Value, ManagedFields), ApplyError> {
    conform(target, &mut managed);
    let mut new = merge(target.form(), live, config)?;
    let id = target.id(manager, Operation::Apply);
    let last = managed.remove(&id);
    let time = last.as_ref().map(|last| last.time.clone());
    managed.push(Entry {
        manager: id.manager.clone(),
        operation: Operation::Apply,
        subresource: id.subresource.clone(),
        api_version: target.api_version.to_owned(),
        time: time.unwrap_or_else(|| now.to_owned()),
        fields: target.fields(config)?,
    });
    if let Some(last) = last.filter(|last| !last.fields.is_empty()) {
        let last = (&*last.api_version, &last.fields);
        new = prune(target, new, &managed, last).map_err(|error| match error {
            ApplyError::Convert(why) => ApplyError::Convert(format!(
                "failed to prune fields: failed to convert merged object to last applied version: {why}"
            )),
            other => other,
        })?;
    }
    settle(target, live, &new, &mut managed, Some(&id), force)?;
    if let Some(entry) = managed.get_mut(&id) {
        strip(&mut entry.fields);
        if !same(live, &new) {
            now.clone_into(&mut entry.time);
        }
    }
    managed.retain(|entry| !entry.fields.is_empty());
    Ok((new, managed))
}
