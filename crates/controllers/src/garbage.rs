//! Garbage collection: what has lost all its owners goes; owners wait for their dependents
//! where that was asked for; orphans are let go.

mod graph;

use crate::collections::{Collection, Collections};
use crate::context::Context;
use client::{Key, Meta, Object, Queue};
use graph::{FOREGROUND, Graph, ORPHAN, Owner, Policy, Seen, Task, Verdict, is_foreground, judge};
use http::HeaderValue;
use http::header::ACCEPT;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, GetParams, Patch, PatchParams, Preconditions, PropagationPolicy};
use serde::de::IgnoredAny;
use serde_json::{Value, json};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tracing::{debug, info, warn};

/// An owner's own watch may be a little behind its dependent's.
const RUMOUR_WAIT: Duration = Duration::from_millis(500);
const METADATA: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1");

#[derive(Debug, thiserror::Error)]
enum GarbageError {
    #[error("cannot {verb} {resource} {key}")]
    Call {
        verb: &'static str,
        resource: String,
        key: Key,
        source: kube::Error,
    },
    #[error("cannot build a request to {verb} {resource} {key}")]
    Build {
        verb: &'static str,
        resource: String,
        key: Key,
        source: kube::core::request::Error,
    },
    #[error("no resource is known for owner kind {kind} of {api_version}")]
    UnknownKind { api_version: String, kind: String },
}

struct Controller {
    context: Context,
    collections: Collections,
    graph: Mutex<Graph>,
    queue: Queue<Task>,
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (verb, uid) = match self {
            Self::Check(uid) => ("check", uid),
            Self::Verify(uid) => ("verify", uid),
            Self::Orphan(uid) => ("orphan", uid),
        };
        write!(f, "{verb} {uid}")
    }
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, collections: Collections) {
    let controller = Arc::new(Controller {
        context,
        collections,
        graph: Mutex::default(),
        queue: Queue::new(),
    });
    let this = controller.clone();
    controller
        .collections
        .on_change(move |collection, old, new| this.observe(collection, old, new));
    let drain = controller.context.drain.clone();
    if drain
        .run_until_cancelled(controller.collections.synced())
        .await
        .is_none()
    {
        return;
    }
    let queue = controller.queue.clone();
    client::run("garbage", queue, 8, drain, move |task| {
        let controller = controller.clone();
        async move { controller.work(&task).await }
    })
    .await;
}

impl Controller {
    fn graph(&self) -> MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn queue_all(&self, tasks: Vec<Task>) {
        for task in tasks {
            match task {
                Task::Verify(_) => self.queue.add_after(task, RUMOUR_WAIT),
                task => self.queue.add(task),
            }
        }
    }

    fn observe(
        &self,
        collection: &Arc<Collection>,
        old: Option<&Arc<Meta>>,
        new: Option<&Arc<Meta>>,
    ) {
        let tasks = match (old, new) {
            (_, Some(new)) => self.graph().put(collection, new),
            (Some(old), None) => self.graph().remove(old.uid()),
            (None, None) => return,
        };
        self.queue_all(tasks);
    }

    async fn work(&self, task: &Task) -> Result<(), GarbageError> {
        let (Task::Check(uid) | Task::Verify(uid) | Task::Orphan(uid)) = task;
        let Some((seen, has_dependents)) = self
            .graph()
            .node(uid)
            .map(|n| (n.seen.clone(), !n.dependents.is_empty()))
        else {
            return Ok(());
        };
        match (task, seen) {
            (
                _,
                Seen::Rumour {
                    reference,
                    namespace,
                },
            ) => self.verify(&reference, &namespace).await,
            (Task::Verify(_), Seen::Object { .. }) => Ok(()),
            (Task::Check(_), Seen::Object { collection, meta }) => {
                self.check(&collection, &meta, has_dependents).await
            }
            (Task::Orphan(_), Seen::Object { collection, meta }) => {
                self.collections.synced().await;
                self.orphan(&collection, &meta).await
            }
        }
    }

    /// An owner that nobody has seen: if there is none, its dependents are looked at.
    async fn verify(
        &self,
        reference: &OwnerReference,
        namespace: &str,
    ) -> Result<(), GarbageError> {
        if self.owner(reference, namespace).await? == Owner::Dangling {
            let tasks = self.graph().remove(&reference.uid);
            self.queue_all(tasks);
        }
        Ok(())
    }

    async fn check(
        &self,
        collection: &Arc<Collection>,
        seen: &Arc<Meta>,
        has_dependents: bool,
    ) -> Result<(), GarbageError> {
        if seen.deletion_timestamp().is_some() && !is_foreground(seen) {
            return Ok(());
        }
        let key = seen.key();
        let live = self
            .read(collection, &key)
            .await?
            .filter(|live| live.uid() == seen.uid());
        let Some(live) = live else {
            let tasks = self.graph().remove(seen.uid());
            self.queue_all(tasks);
            return Ok(());
        };
        if is_foreground(&live) {
            return self.release(collection, &live).await;
        }
        let mut owners = Vec::new();
        for reference in live.owner_references() {
            let state = self.owner(reference, live.namespace()).await?;
            owners.push((reference.uid.clone(), state));
        }
        match judge(&live, &owners, has_dependents) {
            Verdict::Keep => Ok(()),
            Verdict::DropOwners(lost) => self.drop_owners(collection, &live, &lost).await,
            Verdict::Delete(Policy::Foreground) if self.closes_circle(&live) => {
                self.unblock(collection, &live).await?;
                self.queue.add(Task::Check(live.uid().to_owned()));
                Ok(())
            }
            Verdict::Delete(policy) => self.delete(collection, &live, policy).await,
        }
    }

    /// Whether the object blocks an owner and waits, once deleted, for a dependent that itself
    /// waits: in a circle each would wait for the next for ever.
    fn closes_circle(&self, live: &Meta) -> bool {
        live.owner_references()
            .iter()
            .any(|o| o.block_owner_deletion == Some(true))
            && self.graph().has_waiting_dependent(live.uid())
    }

    /// The object's owners need not wait for it any more.
    async fn unblock(&self, collection: &Collection, live: &Meta) -> Result<(), GarbageError> {
        let mut owners = live.owner_references().to_vec();
        for owner in &mut owners {
            owner.block_owner_deletion = Some(false);
        }
        info!(resource = collection.qualified(), key = %live.key(), "breaking a circle of owners");
        self.patch(collection, live, json!({"ownerReferences": owners}))
            .await
    }

    /// Asks the server whether an owner is there.
    async fn owner(
        &self,
        reference: &OwnerReference,
        namespace: &str,
    ) -> Result<Owner, GarbageError> {
        if self.graph().is_absent(&reference.uid) {
            return Ok(Owner::Dangling);
        }
        let (group, _) = api::resource::split_api_version(&reference.api_version);
        let Some(collection) = self.collections.find(group, &reference.kind) else {
            // Deleting on such grounds would be rash: the kind may be served again.
            return Err(GarbageError::UnknownKind {
                api_version: reference.api_version.clone(),
                kind: reference.kind.clone(),
            });
        };
        let namespace = if collection.namespaced { namespace } else { "" };
        if collection.namespaced && namespace.is_empty() {
            warn!(
                owner = reference.name,
                "a cluster-scoped object cannot have a namespaced owner"
            );
            return Ok(Owner::Solid);
        }
        let live = self
            .read(&collection, &Key::new(namespace, reference.name.as_str()))
            .await?;
        Ok(match live {
            Some(live) if live.uid() == reference.uid && is_foreground(&live) => Owner::Waiting,
            Some(live) if live.uid() == reference.uid => Owner::Solid,
            _ => Owner::Dangling,
        })
    }

    /// A foreground deletion goes on when no dependent blocks it any more.
    async fn release(&self, collection: &Collection, live: &Meta) -> Result<(), GarbageError> {
        self.collections.synced().await;
        let blocking = self.graph().blocking(live.uid());
        if blocking.is_empty() {
            return self.remove_finalizer(collection, live, FOREGROUND).await;
        }
        debug!(waiting_for = blocking.len(), "dependents go first");
        for (dependent, _) in blocking.into_iter().filter(|(_, on_its_way)| !on_its_way) {
            self.queue.add(Task::Check(dependent));
        }
        Ok(())
    }

    async fn orphan(&self, collection: &Collection, owner: &Meta) -> Result<(), GarbageError> {
        let dependents: Vec<(Arc<Collection>, Key)> = {
            let graph = self.graph();
            let uids = graph
                .node(owner.uid())
                .map(|n| n.dependents.clone())
                .unwrap_or_default();
            uids.iter()
                .filter_map(|uid| match &graph.node(uid)?.seen {
                    Seen::Object { collection, meta } => Some((collection.clone(), meta.key())),
                    Seen::Rumour { .. } => None,
                })
                .collect()
        };
        for (collection, key) in dependents {
            if let Some(live) = self.read(&collection, &key).await? {
                self.drop_owners(&collection, &live, &[owner.uid().to_owned()])
                    .await?;
            }
        }
        let live = self.read(collection, &owner.key()).await?;
        match live.filter(|live| live.uid() == owner.uid()) {
            Some(live) => self.remove_finalizer(collection, &live, ORPHAN).await,
            None => Ok(()),
        }
    }

    async fn drop_owners(
        &self,
        collection: &Collection,
        live: &Meta,
        lost: &[String],
    ) -> Result<(), GarbageError> {
        let kept: Vec<&OwnerReference> = live
            .owner_references()
            .iter()
            .filter(|o| !lost.contains(&o.uid))
            .collect();
        if kept.len() == live.owner_references().len() {
            return Ok(());
        }
        info!(resource = collection.qualified(), key = %live.key(), "dropping owners");
        self.patch(collection, live, json!({"ownerReferences": kept}))
            .await
    }

    async fn remove_finalizer(
        &self,
        collection: &Collection,
        live: &Meta,
        finalizer: &str,
    ) -> Result<(), GarbageError> {
        if !live.has_finalizer(finalizer) {
            return Ok(());
        }
        let kept: Vec<&str> = live.finalizers().filter(|f| *f != finalizer).collect();
        self.patch(collection, live, json!({"finalizers": kept}))
            .await
    }

    /// Patches metadata of the very version that was read.
    async fn patch(
        &self,
        collection: &Collection,
        live: &Meta,
        mut metadata: Value,
    ) -> Result<(), GarbageError> {
        let key = live.key();
        metadata["uid"] = json!(live.uid());
        metadata["resourceVersion"] = json!(live.resource_version());
        let patch = Patch::Merge(json!({"metadata": metadata}));
        let request = collection
            .request(&key.namespace)
            .patch(&key.name, &PatchParams::default(), &patch)
            .map_err(|e| build("patch", collection, &key, e))?;
        self.send("patch", collection, &key, request).await
    }

    async fn delete(
        &self,
        collection: &Collection,
        live: &Meta,
        policy: Policy,
    ) -> Result<(), GarbageError> {
        let key = live.key();
        let params = DeleteParams {
            propagation_policy: Some(match policy {
                Policy::Background => PropagationPolicy::Background,
                Policy::Foreground => PropagationPolicy::Foreground,
                Policy::Orphan => PropagationPolicy::Orphan,
            }),
            preconditions: Some(Preconditions {
                uid: Some(live.uid().to_owned()),
                resource_version: Some(live.resource_version().to_owned()),
            }),
            ..DeleteParams::default()
        };
        info!(resource = collection.qualified(), %key, ?policy, "deleting: no owner is left");
        let request = collection
            .request(&key.namespace)
            .delete(&key.name, &params)
            .map_err(|e| build("delete", collection, &key, e))?;
        self.send("delete", collection, &key, request).await
    }

    async fn send(
        &self,
        verb: &'static str,
        collection: &Collection,
        key: &Key,
        request: http::Request<Vec<u8>>,
    ) -> Result<(), GarbageError> {
        match self.context.client.request::<IgnoredAny>(request).await {
            Ok(_) => Ok(()),
            Err(error) if client::is_not_found(&error) => Ok(()),
            Err(source) => Err(call(verb, collection, key, source)),
        }
    }

    /// The object as it is now, not as the cache has it.
    async fn read(&self, collection: &Collection, key: &Key) -> Result<Option<Meta>, GarbageError> {
        let mut request = collection
            .request(&key.namespace)
            .get(&key.name, &GetParams::default())
            .map_err(|e| build("read", collection, key, e))?;
        request.headers_mut().insert(ACCEPT, METADATA);
        match self.context.client.request(request).await {
            Ok(meta) => Ok(Some(meta)),
            Err(error) if client::is_not_found(&error) => Ok(None),
            Err(source) => Err(call("read", collection, key, source)),
        }
    }
}

fn call(
    verb: &'static str,
    collection: &Collection,
    key: &Key,
    source: kube::Error,
) -> GarbageError {
    GarbageError::Call {
        verb,
        resource: collection.qualified(),
        key: key.clone(),
        source,
    }
}

fn build(
    verb: &'static str,
    collection: &Collection,
    key: &Key,
    source: kube::core::request::Error,
) -> GarbageError {
    GarbageError::Build {
        verb,
        resource: collection.qualified(),
        key: key.clone(),
        source,
    }
}
