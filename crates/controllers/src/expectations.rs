//! What a controller has written but its cache has not shown yet.
//!
//! Invariant: as long as something is expected, the cache is behind our own writes, and a plan
//! made from it would write the same again.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// After this long a lost expectation is given up.
const PATIENCE: Duration = Duration::from_secs(300);

#[derive(Default)]
struct Pending {
    created: HashSet<String>,
    deleted: HashSet<String>,
    since: Option<Instant>,
}

/// Expectations by the owner's uid. Cloning shares them.
#[derive(Clone, Default)]
pub(crate) struct Expectations {
    owners: Arc<Mutex<HashMap<String, Pending>>>,
}

impl Expectations {
    fn owners(&self) -> MutexGuard<'_, HashMap<String, Pending>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cache shows everything that was written for `owner`; else how long to wait
    /// at most.
    pub(crate) fn wait(&self, owner: &str) -> Option<Duration> {
        let mut owners = self.owners();
        let since = owners.get(owner)?.since?;
        let left = PATIENCE.saturating_sub(since.elapsed());
        if left.is_zero() {
            owners.remove(owner);
            return None;
        }
        Some(left)
    }

    /// The object `uid` was created; `seen` tells whether the cache shows it already.
    pub(crate) fn created(&self, owner: &str, uid: &str, seen: impl FnOnce() -> bool) {
        let mut owners = self.owners();
        let pending = owners.entry(owner.to_owned()).or_default();
        pending.created.insert(uid.to_owned());
        pending.since = Some(Instant::now());
        // The informer updates its cache before it calls `observed_created`, which waits for
        // this lock: either the cache shows it now, or the call comes after.
        if seen() {
            pending.created.remove(uid);
        }
        settle(&mut owners, owner);
    }

    /// The object `uid` is about to be deleted.
    pub(crate) fn deleting(&self, owner: &str, uid: &str) {
        let mut owners = self.owners();
        let pending = owners.entry(owner.to_owned()).or_default();
        pending.deleted.insert(uid.to_owned());
        pending.since = Some(Instant::now());
    }

    /// The cache shows `uid`.
    pub(crate) fn observed_created(&self, owner: &str, uid: &str) {
        let mut owners = self.owners();
        if let Some(pending) = owners.get_mut(owner) {
            pending.created.remove(uid);
            settle(&mut owners, owner);
        }
    }

    /// The cache shows that `uid` is going or gone, or its deletion failed.
    pub(crate) fn observed_deleted(&self, owner: &str, uid: &str) {
        let mut owners = self.owners();
        if let Some(pending) = owners.get_mut(owner) {
            pending.created.remove(uid);
            pending.deleted.remove(uid);
            settle(&mut owners, owner);
        }
    }

    /// Reads a pod's change for its owner.
    pub(crate) fn observe(
        &self,
        old: Option<&k8s_openapi::api::core::v1::Pod>,
        new: Option<&k8s_openapi::api::core::v1::Pod>,
    ) {
        let Some(pod) = new.or(old) else { return };
        let Some(owner) = client::owner_uid(pod) else {
            return;
        };
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        if new.is_none() || pod.metadata.deletion_timestamp.is_some() {
            self.observed_deleted(owner, uid);
        } else {
            self.observed_created(owner, uid);
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &str) {
        self.owners().remove(owner);
    }
}

fn settle(owners: &mut HashMap<String, Pending>, owner: &str) {
    if owners
        .get(owner)
        .is_some_and(|p| p.created.is_empty() && p.deleted.is_empty())
    {
        owners.remove(owner);
    }
}
