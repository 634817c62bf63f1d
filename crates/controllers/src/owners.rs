//! Which owners to look at again when something changes that they control or could adopt.
//!
//! Invariant: a change of an object reaches the queue of the one who controls it; an orphan's
//! reaches everybody who may want it.

use crate::context::Context;
use crate::expectations::Expectations;
use crate::pods;
use client::{Informer, Key, Queue};
use k8s_openapi::api::core::v1::Pod;
use kube::Resource;

/// Queues each owner that changes; of one that is gone nothing is expected any more.
pub(crate) fn watch<K: Resource + client::Object>(
    owners: &Informer<K>,
    queue: &Queue<Key>,
    expectations: &Expectations,
) {
    let (queue, expectations) = (queue.clone(), expectations.clone());
    owners.on_change(move |old, new| {
        if let (Some(old), None) = (old, new) {
            expectations.forget(old.uid());
        }
        if let Some(owner) = new.or(old) {
            queue.add(owner.key());
        }
    });
}

/// Queues the owner of each pod that changes, and tells `expectations` what the cache shows.
/// `adopts` decides whether an owner may want an orphan.
pub(crate) fn watch_pods<K>(
    context: &Context,
    owners: &Informer<K>,
    queue: &Queue<Key>,
    expectations: &Expectations,
    adopts: impl Fn(&K, &Pod) -> bool + Send + Sync + 'static,
) where
    K: Resource<DynamicType = ()> + client::Object,
{
    let (owners, queue) = (owners.clone(), queue.clone());
    let expectations = expectations.clone();
    context.pods.on_change(move |old, new| {
        expectations.observe(old.map(|p| &**p), new.map(|p| &**p));
        for pod in [old, new].into_iter().flatten() {
            queue_owner(&owners, &queue, &**pod, &adopts);
        }
    });
}

/// Queues who controls `object`, if that is a `K`; for an orphan everybody who `adopts` it.
pub(crate) fn queue_owner<K, C>(
    owners: &Informer<K>,
    queue: &Queue<Key>,
    object: &C,
    adopts: impl Fn(&K, &C) -> bool,
) where
    K: Resource<DynamicType = ()> + client::Object,
    C: Resource,
{
    let namespace = object.meta().namespace.as_deref().unwrap_or_default();
    match pods::controller(object.meta()) {
        Some(owner) if owner.kind == K::kind(&()) => {
            queue.add(Key::new(namespace, owner.name.as_str()));
        }
        Some(_) => {}
        None => {
            for owner in owners.in_namespace(namespace) {
                if adopts(&owner, object) {
                    queue.add(owner.key());
                }
            }
        }
    }
}
