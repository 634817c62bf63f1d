//! Protection of volumes and claims: what is deleted stays until nobody uses it, a claim until no pod
//! on a node names it, a volume until no claim has it.
//!
//! Invariant: the finalizer of a claim goes only after the API server itself, not a cache, has shown
//! no pod that uses it.

use crate::context::Context;
use crate::write::{self, WriteError};
use client::{Index, Informer, Key, Queue};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::Resource;
use kube::api::{ListParams, ObjectList};
use kube::core::Request;
use std::sync::Arc;
use tracing::info;

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";

#[derive(Debug, thiserror::Error)]
enum ProtectionError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot list the pods of namespace {namespace}")]
    List {
        namespace: String,
        source: kube::Error,
    },
    #[error("cannot build a request to list the pods of namespace {namespace}")]
    Build {
        namespace: String,
        source: kube::core::request::Error,
    },
}

/// What to do about the finalizer of an object.
#[derive(Debug, PartialEq, Eq)]
enum Wanted {
    /// It is there as it should be.
    Nothing,
    /// It is missing: the object is older than its protection.
    Add,
    /// It goes, if nobody uses the object.
    Remove,
}

fn wanted<K: Resource>(object: &K, finalizer: &str) -> Wanted {
    let meta = object.meta();
    let mut finalizers = meta.finalizers.iter().flatten();
    match (
        meta.deletion_timestamp.is_some(),
        finalizers.any(|own| own == finalizer),
    ) {
        (false, false) => Wanted::Add,
        (true, true) => Wanted::Remove,
        _ => Wanted::Nothing,
    }
}

/// The object with or without a finalizer.
fn changed<K: Resource + Clone>(object: &K, finalizer: &str, add: bool) -> K {
    let mut new = object.clone();
    let all = new.meta_mut().finalizers.get_or_insert_default();
    all.retain(|own| own != finalizer);
    if add {
        all.push(finalizer.to_owned());
    }
    new
}

/// The names of the claims that a pod names, made for it or not.
fn claims_of(pod: &Pod) -> Vec<String> {
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod
        .spec
        .iter()
        .flat_map(|spec| spec.volumes.iter().flatten());
    let claim = |volume: &k8s_openapi::api::core::v1::Volume| {
        let made = volume.ephemeral.as_ref();
        let made = made.map(|_| format!("{name}-{}", volume.name));
        let named = volume.persistent_volume_claim.as_ref();
        named.map(|claim| claim.claim_name.clone()).or(made)
    };
    volumes.filter_map(claim).collect()
}

/// Whether the node is done with a pod, or was told not to wait for it.
fn is_shut_down(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
        && pod.metadata.deletion_grace_period_seconds == Some(0)
}

/// Whether a pod on a node uses a claim.
fn uses(pod: &Pod, claim: &PersistentVolumeClaim) -> bool {
    let Some(spec) = pod.spec.as_ref() else {
        return false;
    };
    let name = claim.metadata.name.as_deref().unwrap_or_default();
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let owned = client::owner_uid(claim) == pod.metadata.uid.as_deref();
    spec.node_name
        .as_deref()
        .is_some_and(|node| !node.is_empty())
        && spec.volumes.iter().flatten().any(|volume| {
            let named = volume.persistent_volume_claim.as_ref();
            let made = volume.ephemeral.is_some() && format!("{pod_name}-{}", volume.name) == name;
            named.is_some_and(|named| named.claim_name == name)
                || (made && owned && !is_shut_down(pod))
        })
}

struct Claims {
    context: Context,
    claims: Informer<PersistentVolumeClaim>,
    users: Index<Pod>,
    queue: Queue<Key>,
}

/// Protects claims until the drain.
pub(crate) async fn run_claims(context: Context) {
    let users = context.pods.index(|pod| {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let claims = claims_of(pod).into_iter();
        claims.map(|claim| format!("{namespace}/{claim}")).collect()
    });
    let controller = Arc::new(Claims {
        claims: context.informers.get::<PersistentVolumeClaim>(),
        users,
        queue: Queue::new(),
        context,
    });
    let this = controller.clone();
    controller.claims.on_change(move |_, new| {
        if let Some(new) = new.filter(|new| wanted(&***new, CLAIM) != Wanted::Nothing) {
            this.queue.add(Key::of(&**new));
        }
    });
    let this = controller.clone();
    controller.context.pods.on_change(move |old, new| {
        let Some(old) = old else { return };
        let other = new.is_none_or(|new| new.metadata.uid != old.metadata.uid);
        if other || new.is_some_and(|new| is_shut_down(new)) {
            let namespace = old.metadata.namespace.as_deref().unwrap_or_default();
            for claim in claims_of(old) {
                this.queue.add(Key::new(namespace, claim));
            }
        }
    });
    controller.claims.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("pvc-protection", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Claims {
    async fn reconcile(&self, key: &Key) -> Result<(), ProtectionError> {
        let Some(claim) = self.claims.get_key(key) else {
            return Ok(());
        };
        let add = match wanted(&*claim, CLAIM) {
            Wanted::Nothing => return Ok(()),
            Wanted::Add => true,
            Wanted::Remove if self.is_used(key, &claim).await? => return Ok(()),
            Wanted::Remove => false,
        };
        info!(add, "changing the protection");
        let new = changed(&*claim, CLAIM, add);
        settle(write::update(&self.context.client, &*claim, &new).await)
    }

    async fn is_used(
        &self,
        key: &Key,
        claim: &PersistentVolumeClaim,
    ) -> Result<bool, ProtectionError> {
        let known = self.users.get(&format!("{}/{}", key.namespace, key.name));
        if known.iter().any(|pod| uses(pod, claim)) {
            return Ok(true);
        }
        let namespace = key.namespace.clone();
        let path = Pod::url_path(&(), Some(&namespace));
        let request = match Request::new(path).list(&ListParams::default()) {
            Ok(request) => request,
            Err(source) => return Err(ProtectionError::Build { namespace, source }),
        };
        let pods = self
            .context
            .client
            .request::<ObjectList<Pod>>(request)
            .await;
        let pods = pods.map_err(|source| ProtectionError::List { namespace, source })?;
        Ok(pods.items.iter().any(|pod| uses(pod, claim)))
    }
}

/// Protects volumes until the drain.
pub(crate) async fn run_volumes(context: Context) {
    let volumes = context.informers.get::<PersistentVolume>();
    let queue: Queue<Key> = Queue::new();
    let adds = queue.clone();
    volumes.on_change(move |_, new| {
        if let Some(new) = new.filter(|new| wanted(&***new, VOLUME) != Wanted::Nothing) {
            adds.add(Key::of(&**new));
        }
    });
    volumes.synced().await;
    let drain = context.drain.clone();
    client::run("pv-protection", queue, 2, drain, move |key| {
        let (context, volumes) = (context.clone(), volumes.clone());
        async move {
            let Some(volume) = volumes.get_key(&key) else {
                return Ok(());
            };
            let phase = volume.status.as_ref().and_then(|s| s.phase.as_deref());
            let add = match wanted(&*volume, VOLUME) {
                Wanted::Add => true,
                Wanted::Remove if phase != Some("Bound") => false,
                _ => return Ok(()),
            };
            info!(add, "changing the protection");
            let new = changed(&*volume, VOLUME, add);
            settle(write::update(&context.client, &*volume, &new).await)
        }
    })
    .await;
}

fn settle(result: Result<bool, WriteError>) -> Result<(), ProtectionError> {
    match result {
        Err(error) if client::is_not_found(&error) => Ok(()),
        result => Ok(result.map(drop)?),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn finalizers_that_are_wanted() {
        for (meta, expected) in [
            (json!({}), Wanted::Add),
            (json!({"finalizers": [CLAIM]}), Wanted::Nothing),
            (
                json!({"finalizers": [CLAIM, "x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}),
                Wanted::Remove,
            ),
            (
                json!({"finalizers": ["x/y"], "deletionTimestamp": "2026-01-01T00:00:00Z"}),
                Wanted::Nothing,
            ),
        ] {
            let claim: PersistentVolumeClaim =
                serde_json::from_value(json!({"metadata": meta})).unwrap();
            assert_eq!(wanted(&claim, CLAIM), expected, "{meta}");
        }
    }

    #[test]
    fn who_uses_a_claim() {
        let claim: PersistentVolumeClaim = serde_json::from_value(json!({"metadata": {"name": "p-v",
            "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "1", "controller": true}]}}))
        .unwrap();
        let pod = |uid: &str, node: Value, volume: Value, dying: bool| {
            let mut pod = json!({"metadata": {"name": "p", "uid": uid}, "spec": {"nodeName": node,
                "containers": [], "volumes": [volume]}});
            if dying {
                pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                pod["metadata"]["deletionGracePeriodSeconds"] = json!(0);
            }
            serde_json::from_value::<Pod>(pod).unwrap()
        };
        let named = || json!({"name": "x", "persistentVolumeClaim": {"claimName": "p-v"}});
        let made = || json!({"name": "v", "ephemeral": {}});
        for (pod, expected) in [
            (pod("2", json!("n"), named(), false), true),
            (pod("2", json!("n"), named(), true), true),
            (pod("2", json!(null), named(), false), false),
            (
                pod("2", json!("n"), json!({"name": "x", "emptyDir": {}}), false),
                false,
            ),
            (pod("1", json!("n"), made(), false), true),
            (pod("1", json!("n"), made(), true), false),
            (pod("2", json!("n"), made(), false), false),
        ] {
            assert_eq!(uses(&pod, &claim), expected, "{pod:?}");
        }
    }
}
