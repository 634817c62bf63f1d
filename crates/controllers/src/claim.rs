//! Which objects belong to an owner by its selector: adoption and release.

use crate::pods::controlled_by;
use crate::write::{self, WriteError, Written};
use client::{Client, Key};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::info;

/// A selector that nothing matches where the API's cannot be read.
pub(crate) fn selector(selector: &LabelSelector) -> Option<Selector> {
    Selector::try_from(selector.clone()).ok()
}

/// Whether `selector` matches the labels of `object`.
pub(crate) fn matches<K: kube::Resource>(selector: &Selector, object: &K) -> bool {
    let none = BTreeMap::new();
    selector.matches(object.meta().labels.as_ref().unwrap_or(&none))
}

/// Whether a selector as the API has it, if there is one, matches the labels of `object`.
pub(crate) fn selects<K: kube::Resource>(by: Option<&LabelSelector>, object: &K) -> bool {
    by.and_then(selector).is_some_and(|s| matches(&s, object))
}

/// What becomes of the candidates.
pub(crate) struct Claim<C> {
    /// Owned now or in a moment.
    pub(crate) owned: Vec<Arc<C>>,
    adopt: Vec<Arc<C>>,
    release: Vec<Arc<C>>,
}

/// Decides: who is owned and matches stays, who is owned and does not match is released, who is
/// an orphan and matches is adopted. An owner that is being deleted changes nothing.
pub(crate) fn claim<C: kube::Resource>(
    owner_deleted: bool,
    selector: Option<&Selector>,
    owned: Vec<Arc<C>>,
    orphans: Vec<Arc<C>>,
) -> Claim<C> {
    if owner_deleted {
        return Claim {
            owned,
            adopt: Vec::new(),
            release: Vec::new(),
        };
    }
    let Some(selector) = selector else {
        return Claim {
            owned,
            adopt: Vec::new(),
            release: Vec::new(),
        };
    };
    let alive = |c: &Arc<C>| c.meta().deletion_timestamp.is_none();
    let (mut owned, release): (Vec<_>, Vec<_>) =
        owned.into_iter().partition(|c| matches(selector, &**c));
    let adopt: Vec<_> = orphans
        .into_iter()
        .filter(|c| alive(c) && matches(selector, &**c))
        .collect();
    owned.extend(adopt.iter().cloned());
    Claim {
        owned,
        adopt,
        release: release.into_iter().filter(alive).collect(),
    }
}

/// Writes the adoptions and releases of `claim` and answers what is owned.
pub(crate) async fn execute<O: Written, C: Written + Clone>(
    client: &Client,
    owner: &O,
    claim: Claim<C>,
) -> Result<Vec<Arc<C>>, WriteError> {
    let owner_uid = owner.meta().uid.as_deref().unwrap_or_default();
    for child in &claim.release {
        let mut changed = C::clone(child);
        changed
            .meta_mut()
            .owner_references
            .iter_mut()
            .for_each(|o| o.retain(|o| o.uid != owner_uid));
        info!(child = %Key::of(&**child), "releasing: its labels no longer match");
        ignore_gone(write::update(client, &**child, &changed).await)?;
    }
    if claim.adopt.is_empty() {
        return Ok(claim.owned);
    }
    // The cache may not know yet that the owner is going: never adopt for a dead owner.
    let live: Option<O> = write::read(client, &Key::of(owner)).await?;
    let alive = live.is_some_and(|o| {
        o.meta().uid.as_deref() == Some(owner_uid) && o.meta().deletion_timestamp.is_none()
    });
    if !alive {
        let adopted: Vec<Key> = claim.adopt.iter().map(|c| Key::of(&**c)).collect();
        return Ok(claim
            .owned
            .into_iter()
            .filter(|c| !adopted.contains(&Key::of(&**c)))
            .collect());
    }
    for child in &claim.adopt {
        let mut changed = C::clone(child);
        changed
            .meta_mut()
            .owner_references
            .get_or_insert_default()
            .push(controlled_by(owner));
        info!(child = %Key::of(&**child), "adopting");
        ignore_gone(write::update(client, &**child, &changed).await)?;
    }
    Ok(claim.owned)
}

fn ignore_gone(result: Result<bool, WriteError>) -> Result<(), WriteError> {
    match result {
        Err(error) if client::is_not_found(&error) => Ok(()),
        result => result.map(drop),
    }
}
