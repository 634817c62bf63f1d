//! Which objects have to do with which node.
//!
//! Invariant: the graph has what the cache's objects say before anybody can see them there, so that a
//! node that has seen its pod is not refused what the pod needs. It holds what pods on nodes and bound
//! volumes name, each once a node, and nothing else; a change costs what the changed object names.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::Thing;
use super::refs::{Bound, Grant, of_placed, of_pod, of_volume};
use crate::cache::{Cache, Object};

/// What each node may read, by what names it.
#[derive(Debug, Default)]
pub(super) struct Graph(RwLock<Inner>);

#[derive(Debug, Default)]
struct Inner {
    /// Of each node: what its objects name, and how many of them do.
    nodes: HashMap<String, BTreeMap<(Thing, String), u32>>,
    /// Bound volumes by name.
    volumes: HashMap<String, Bound>,
    /// The volumes that say that they are bound to a claim.
    claimed: HashMap<String, Vec<String>>,
}

impl Graph {
    /// A graph of what the cache has, which changes with it. Before the cache follows the store.
    pub(super) fn follow(cache: &Cache) -> Arc<Self> {
        let graph = Arc::new(Self::default());
        let kinds = [
            ("", "pods", Thing::Pod),
            ("storage.k8s.io", "volumeattachments", Thing::Attachment),
            ("resource.k8s.io", "resourceslices", Thing::Slice),
        ];
        for (group, plural, thing) in kinds {
            let kind = cache.kind(group, plural);
            let grant = move |object: &Object| grant(thing, object);
            for object in kind.list(None) {
                graph.change(None, grant(&object));
            }
            let graph = graph.clone();
            kind.observe(Box::new(move |before, after| {
                graph.change(before.and_then(grant), after.and_then(grant));
            }));
        }
        let kind = cache.kind("", "persistentvolumes");
        for object in kind.list(None) {
            graph.bind(object.name(), of_volume(object.json()));
        }
        let volumes = graph.clone();
        kind.observe(Box::new(move |before, after| {
            if let Some(object) = after.or(before) {
                let bound = after.and_then(|after| of_volume(after.json()));
                volumes.bind(object.name(), bound);
            }
        }));
        graph
    }

    /// Puts what an object gives now in the place of what it gave before.
    pub(super) fn change(&self, before: Option<Grant>, after: Option<Grant>) {
        if before == after {
            return;
        }
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        // The new first: what both name is never gone in between.
        if let Some(Grant { node, things }) = after {
            let held = inner.nodes.entry(node).or_default();
            for thing in things {
                *held.entry(thing).or_default() += 1;
            }
        }
        let Some(Grant { node, things }) = before else {
            return;
        };
        let Some(held) = inner.nodes.get_mut(&node) else {
            return;
        };
        for thing in things {
            if let Some(count) = held.get_mut(&thing) {
                *count -= 1;
                if *count == 0 {
                    held.remove(&thing);
                }
            }
        }
        if held.is_empty() {
            inner.nodes.remove(&node);
        }
    }

    /// Says what a volume is bound to now.
    pub(super) fn bind(&self, volume: &str, bound: Option<Bound>) {
        let mut inner = self.0.write().unwrap_or_else(PoisonError::into_inner);
        let before = match &bound {
            Some(bound) => inner.volumes.insert(volume.to_owned(), bound.clone()),
            None => inner.volumes.remove(volume),
        };
        if let Some(before) = before
            && let Some(volumes) = inner.claimed.get_mut(&before.claim)
        {
            volumes.retain(|other| other != volume);
            if volumes.is_empty() {
                inner.claimed.remove(&before.claim);
            }
        }
        if let Some(bound) = bound {
            let volumes = inner.claimed.entry(bound.claim).or_default();
            volumes.push(volume.to_owned());
        }
    }

    /// Whether an object has to do with a node: it is placed there, a pod there names it, or a volume
    /// does whose claim a pod there names.
    pub(super) fn relates(&self, node: &str, thing: Thing, key: &str) -> bool {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = inner.nodes.get(node) else {
            return false;
        };
        let has = |thing, key: &str| held.contains_key(&(thing, key.to_owned()));
        match thing {
            Thing::Volume => {
                let bound = inner.volumes.get(key);
                bound.is_some_and(|bound| has(Thing::Claim, &bound.claim))
            }
            Thing::Secret if !has(thing, key) => {
                // By what the node has: its claims are few, a Secret's volumes may be many.
                let claims = held.range((Thing::Claim, String::new())..);
                let mut volumes = claims
                    .take_while(|((thing, _), _)| *thing == Thing::Claim)
                    .filter_map(|((_, claim), _)| inner.claimed.get(claim))
                    .flatten()
                    .filter_map(|volume| inner.volumes.get(volume));
                volumes.any(|bound| bound.secrets.contains(key))
            }
            _ => has(thing, key),
        }
    }

    /// How many nodes, things of nodes, volumes and claims it holds.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize, usize, usize) {
        let inner = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let things = inner.nodes.values().map(BTreeMap::len).sum();
        (
            inner.nodes.len(),
            things,
            inner.volumes.len(),
            inner.claimed.len(),
        )
    }
}

fn grant(thing: Thing, object: &Object) -> Option<Grant> {
    match thing {
        Thing::Pod => {
            // Not worth a look: a pod that no node has yet.
            object
                .field("spec.nodeName")
                .filter(|node| !node.is_empty())?;
            of_pod(object.json(), object.namespace(), object.name())
        }
        _ => of_placed(object.json(), thing, &object.key),
    }
}
