//! Who owns whom: a graph over uids that turns changes into things to look at. Pure.
//!
//! Invariant: whether an owner is gone is never concluded from the graph alone: what comes out
//! are questions, which the server answers.

use crate::collections::Collection;
use client::{Meta, Object};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;

pub(super) const FOREGROUND: &str = "foregroundDeletion";
pub(super) const ORPHAN: &str = "orphan";
/// Uids of deleted objects that are remembered.
const REMEMBERED: usize = 2000;

/// Something to look at.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) enum Task {
    /// May it stay, or must it go?
    Check(String),
    /// An owner that has not been seen: is there one?
    Verify(String),
    /// Its dependents lose it as their owner, then its finalizer goes.
    Orphan(String),
}

/// An object as it was seen, or an owner that was only heard of.
#[derive(Clone)]
pub(super) enum Seen {
    Object {
        collection: Arc<Collection>,
        meta: Arc<Meta>,
    },
    /// The reference and the namespace of the dependent that told of it.
    Rumour {
        reference: OwnerReference,
        namespace: String,
    },
}

pub(super) struct Node {
    pub(super) seen: Seen,
    pub(super) dependents: BTreeSet<String>,
}

#[derive(Default)]
pub(super) struct Graph {
    nodes: HashMap<String, Node>,
    absent: HashSet<String>,
    absent_order: VecDeque<String>,
}

/// Whether the object waits for its dependents to go first.
pub(super) fn is_foreground(meta: &Meta) -> bool {
    meta.deletion_timestamp().is_some() && meta.has_finalizer(FOREGROUND)
}

fn is_orphaning(meta: &Meta) -> bool {
    meta.deletion_timestamp().is_some() && meta.has_finalizer(ORPHAN)
}

impl Graph {
    pub(super) fn node(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Whether the object with this uid is known to be gone. A uid never comes back.
    pub(super) fn is_absent(&self, uid: &str) -> bool {
        self.absent.contains(uid)
    }

    fn waits_for_dependents(&self, uid: &str) -> bool {
        matches!(self.nodes.get(uid).map(|n| &n.seen),
            Some(Seen::Object { meta, .. }) if is_foreground(meta))
    }

    /// The object is there, new or changed.
    pub(super) fn put(&mut self, collection: &Arc<Collection>, meta: &Arc<Meta>) -> Vec<Task> {
        let uid = meta.uid().to_owned();
        let seen = Seen::Object {
            collection: collection.clone(),
            meta: meta.clone(),
        };
        let before = match self.nodes.get_mut(&uid) {
            Some(node) => match std::mem::replace(&mut node.seen, seen) {
                Seen::Object { meta, .. } => Some(meta),
                Seen::Rumour { .. } => None,
            },
            None => {
                self.nodes.insert(
                    uid.clone(),
                    Node {
                        seen,
                        dependents: BTreeSet::new(),
                    },
                );
                None
            }
        };
        let mut tasks = Vec::new();
        let old = before
            .as_deref()
            .map(Meta::owner_references)
            .unwrap_or_default();
        self.link(&uid, meta, old, &mut tasks);
        for owner in old
            .iter()
            .filter(|o| !meta.owner_references().iter().any(|n| n.uid == o.uid))
        {
            if let Some(node) = self.nodes.get_mut(&owner.uid) {
                node.dependents.remove(&uid);
            }
            if self.waits_for_dependents(&owner.uid) {
                tasks.push(Task::Check(owner.uid.clone()));
            }
        }
        if is_foreground(meta) && !before.as_deref().is_some_and(is_foreground) {
            let dependents = self
                .nodes
                .get(&uid)
                .map(|n| n.dependents.clone())
                .unwrap_or_default();
            tasks.extend(dependents.into_iter().map(Task::Check));
            tasks.push(Task::Check(uid.clone()));
        }
        if is_orphaning(meta) && !before.as_deref().is_some_and(is_orphaning) {
            tasks.push(Task::Orphan(uid));
        }
        tasks
    }

    /// Enters an object below its owners.
    fn link(&mut self, uid: &str, meta: &Meta, old: &[OwnerReference], tasks: &mut Vec<Task>) {
        for owner in meta.owner_references() {
            let known = old.iter().find(|o| o.uid == owner.uid);
            if known.is_none() && self.is_absent(&owner.uid) {
                tasks.push(Task::Check(uid.to_owned()));
                continue;
            }
            match self.nodes.get_mut(&owner.uid) {
                Some(node) => {
                    node.dependents.insert(uid.to_owned());
                }
                None => {
                    let namespace = meta.namespace().to_owned();
                    let seen = Seen::Rumour {
                        reference: owner.clone(),
                        namespace,
                    };
                    let dependents = BTreeSet::from([uid.to_owned()]);
                    self.nodes
                        .insert(owner.uid.clone(), Node { seen, dependents });
                    tasks.push(Task::Verify(owner.uid.clone()));
                }
            }
            if self.waits_for_dependents(&owner.uid) {
                // A dependent that came late goes as well; one that blocks no longer is told.
                if known.is_none() {
                    tasks.push(Task::Check(uid.to_owned()));
                } else if known.and_then(|o| o.block_owner_deletion) == Some(true)
                    && owner.block_owner_deletion != Some(true)
                {
                    tasks.push(Task::Check(owner.uid.clone()));
                }
            }
        }
    }

    /// The object is gone.
    pub(super) fn remove(&mut self, uid: &str) -> Vec<Task> {
        if self.absent.insert(uid.to_owned()) {
            self.absent_order.push_back(uid.to_owned());
            if self.absent_order.len() > REMEMBERED
                && let Some(oldest) = self.absent_order.pop_front()
            {
                self.absent.remove(&oldest);
            }
        }
        let Some(node) = self.nodes.remove(uid) else {
            return Vec::new();
        };
        let mut tasks: Vec<Task> = node.dependents.into_iter().map(Task::Check).collect();
        if let Seen::Object { meta, .. } = node.seen {
            for owner in meta.owner_references() {
                if let Some(above) = self.nodes.get_mut(&owner.uid) {
                    above.dependents.remove(uid);
                    let rumour = matches!(above.seen, Seen::Rumour { .. });
                    if rumour && above.dependents.is_empty() {
                        self.nodes.remove(&owner.uid);
                    }
                }
                if self.waits_for_dependents(&owner.uid) {
                    tasks.push(Task::Check(owner.uid.clone()));
                }
            }
        }
        tasks
    }

    /// Whether a dependent waits for its own dependents to go.
    pub(super) fn has_waiting_dependent(&self, uid: &str) -> bool {
        let node = self.nodes.get(uid);
        node.is_some_and(|n| n.dependents.iter().any(|d| self.waits_for_dependents(d)))
    }

    /// The dependents that keep their owner from going, and whether each is on its way already.
    pub(super) fn blocking(&self, uid: &str) -> Vec<(String, bool)> {
        let Some(node) = self.nodes.get(uid) else {
            return Vec::new();
        };
        let blocks = |dependent: &&String| {
            matches!(self.nodes.get(*dependent).map(|n| &n.seen),
                Some(Seen::Object { meta, .. }) if meta.owner_references().iter().any(|o|
                    o.uid == uid && o.block_owner_deletion == Some(true)))
        };
        node.dependents
            .iter()
            .filter(blocks)
            .map(|d| (d.clone(), self.waits_for_dependents(d)))
            .collect()
    }
}

/// What the server says about an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Owner {
    /// It is there.
    Solid,
    /// It is gone, or another object has its name now.
    Dangling,
    /// It is there and waits for its dependents to go.
    Waiting,
}

/// What becomes of an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Keep,
    /// It stays, without these owners.
    DropOwners(Vec<String>),
    Delete(Policy),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Policy {
    Background,
    Foreground,
    Orphan,
}

/// Judges an object by its owners.
pub(super) fn judge(meta: &Meta, owners: &[(String, Owner)], has_dependents: bool) -> Verdict {
    if owners.is_empty() {
        return Verdict::Keep;
    }
    let lost: Vec<String> = owners
        .iter()
        .filter(|(_, o)| *o != Owner::Solid)
        .map(|(uid, _)| uid.clone())
        .collect();
    if lost.len() < owners.len() {
        return if lost.is_empty() {
            Verdict::Keep
        } else {
            Verdict::DropOwners(lost)
        };
    }
    if owners.iter().any(|(_, o)| *o == Owner::Waiting) && has_dependents {
        return Verdict::Delete(Policy::Foreground);
    }
    Verdict::Delete(if meta.has_finalizer(ORPHAN) {
        Policy::Orphan
    } else if meta.has_finalizer(FOREGROUND) {
        Policy::Foreground
    } else {
        Policy::Background
    })
}

#[cfg(test)]
#[path = "tests.rs"]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
