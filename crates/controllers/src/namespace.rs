//! Namespace: empties one that is being deleted, and lets it go.
//!
//! Invariants: pods go before anything else, so that they keep what they need until they have
//! ended; a namespace is let go only after the server itself, not a cache, shows it empty.

use crate::collections::{Collection, Collections};
use crate::context::Context;
use crate::write::{self, WriteError};
use client::{Informer, Key, Meta, Queue};
use futures::future::join_all;
use http::HeaderValue;
use http::header::ACCEPT;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, PostParams};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info};

const FINALIZER: &str = "kubernetes";
const TERMINATING: &str = "Terminating";
/// When to look again at content whose changes no cache shows.
const UNWATCHED_AGAIN: Duration = Duration::from_secs(15);
const METADATA_LIST: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1");

#[derive(Debug, thiserror::Error)]
enum NamespaceError {
    #[error(transparent)]
    Write(#[from] WriteError),
    #[error("cannot {verb} {resource} in namespace {namespace}")]
    Call {
        verb: &'static str,
        resource: String,
        namespace: String,
        source: kube::Error,
    },
    #[error("cannot build a request to {verb} {resource} in namespace {namespace}")]
    Build {
        verb: &'static str,
        resource: String,
        namespace: String,
        source: kube::core::request::Error,
    },
    #[error("cannot encode namespace {namespace}")]
    Encode {
        namespace: String,
        source: serde_json::Error,
    },
}

struct Controller {
    context: Context,
    collections: Collections,
    namespaces: Informer<Namespace>,
    queue: Queue<Key>,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, collections: Collections) {
    let controller = Arc::new(Controller {
        namespaces: context.informers.get::<Namespace>(),
        collections,
        queue: Queue::new(),
        context,
    });
    let this = controller.clone();
    controller.namespaces.on_change(move |_, new| {
        if let Some(namespace) = new.filter(|n| n.metadata.deletion_timestamp.is_some()) {
            this.queue.add(Key::of(&**namespace));
        }
    });
    let this = controller.clone();
    controller.collections.on_change(move |_, old, new| {
        // Something went: perhaps the last thing in its namespace.
        if let (Some(old), None) = (old, new)
            && let Some(namespace) = this.namespaces.get("", old.namespace())
            && namespace.metadata.deletion_timestamp.is_some()
        {
            this.queue.add(Key::of(&*namespace));
        }
    });
    controller.namespaces.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("namespace", queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// What is left of one collection in a namespace.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Left {
    resource: String,
    count: usize,
    /// Who keeps how many of them.
    finalizers: BTreeMap<String, usize>,
    /// No cache tells when they go.
    unwatched: bool,
    failure: Option<String>,
}

/// The conditions that tell what is left.
fn conditions(
    old: &[NamespaceCondition],
    left: &[Left],
    now: Timestamp,
) -> Vec<NamespaceCondition> {
    let failures: Vec<&str> = left.iter().filter_map(|l| l.failure.as_deref()).collect();
    let remaining: Vec<String> = left
        .iter()
        .filter(|l| l.count > 0)
        .map(|l| format!("{} has {} resource instances", l.resource, l.count))
        .collect();
    let mut finalizers: BTreeMap<&str, usize> = BTreeMap::new();
    for (finalizer, count) in left.iter().flat_map(|l| &l.finalizers) {
        *finalizers.entry(finalizer).or_default() += count;
    }
    let finalizers: Vec<String> = finalizers
        .iter()
        .map(|(name, count)| format!("{name} in {count} resource instances"))
        .collect();
    let told = |bad: bool, yes: (&str, String), no: (&str, &str)| {
        if bad {
            ("True", yes.0.to_owned(), yes.1)
        } else {
            ("False", no.0.to_owned(), no.1.to_owned())
        }
    };
    let facts = [
        (
            "NamespaceDeletionDiscoveryFailure",
            told(
                false,
                ("DiscoveryFailed", String::new()),
                (
                    "ResourcesDiscovered",
                    "All resources successfully discovered",
                ),
            ),
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            told(
                false,
                ("GroupVersionParsingFailed", String::new()),
                (
                    "ParsedGroupVersions",
                    "All legacy kube types successfully parsed",
                ),
            ),
        ),
        (
            "NamespaceDeletionContentFailure",
            told(
                !failures.is_empty(),
                (
                    "ContentDeletionFailed",
                    format!(
                        "Failed to delete all resource types, {} remaining: {}",
                        failures.len(),
                        failures.join(", ")
                    ),
                ),
                (
                    "ContentDeleted",
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
        ),
        (
            "NamespaceContentRemaining",
            told(
                !remaining.is_empty(),
                (
                    "SomeResourcesRemain",
                    format!("Some resources are remaining: {}", remaining.join(", ")),
                ),
                ("ContentRemoved", "All content successfully removed"),
            ),
        ),
        (
            "NamespaceFinalizersRemaining",
            told(
                !finalizers.is_empty(),
                (
                    "SomeFinalizersRemain",
                    format!(
                        "Some content in the namespace has finalizers remaining: {}",
                        finalizers.join(", ")
                    ),
                ),
                (
                    "ContentHasNoFinalizers",
                    "All content-preserving finalizers finished",
                ),
            ),
        ),
    ];
    let mut all = old.to_vec();
    for (kind, (status, reason, message)) in facts {
        let known = all.iter_mut().find(|c| c.type_ == kind);
        let since = known
            .as_ref()
            .filter(|c| c.status == status)
            .and_then(|c| c.last_transition_time.clone())
            .unwrap_or(Time(now));
        let condition = NamespaceCondition {
            type_: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason),
            message: Some(message),
            last_transition_time: Some(since),
        };
        match known {
            Some(known) => *known = condition,
            None => all.push(condition),
        }
    }
    all
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), NamespaceError> {
        let Some(namespace) = self.namespaces.get_key(key) else {
            return Ok(());
        };
        if namespace.metadata.deletion_timestamp.is_none() || !has_finalizer(&namespace) {
            return Ok(());
        }
        let left = self.empty(&key.name).await?;
        let failed = left.iter().any(|l| l.failure.is_some());
        if left.iter().all(|l| l.count == 0) && !failed {
            info!("empty: letting it go");
            return self.finalize(&namespace).await;
        }
        debug!(?left, "waiting for content to go");
        let mut changed = Namespace::clone(&namespace);
        let status = changed.status.get_or_insert_default();
        status.phase = Some(TERMINATING.to_owned());
        let old = status.conditions.take().unwrap_or_default();
        status.conditions = Some(conditions(&old, &left, Timestamp::now()));
        let result = write::update_status(&self.context.client, &*namespace, &changed).await;
        if failed {
            self.queue.retry(key.clone());
        } else if left.iter().any(|l| l.unwatched && l.count > 0) {
            self.queue.add_after(key.clone(), UNWATCHED_AGAIN);
        }
        match result {
            Err(error) if client::is_not_found(&error) => Ok(()),
            result => Ok(result.map(drop)?),
        }
    }

    /// Deletes what is in the namespace, pods first; answers what is left.
    async fn empty(&self, namespace: &str) -> Result<Vec<Left>, NamespaceError> {
        let (pods, others): (Vec<_>, Vec<_>) = self
            .collections
            .namespaced()
            .into_iter()
            .partition(|c| c.group.is_empty() && c.kind == "Pod");
        for collections in [pods, others] {
            let emptied = join_all(collections.iter().map(|c| self.empty_one(c, namespace))).await;
            let left: Vec<Left> = emptied
                .into_iter()
                .filter(|l| l.count > 0 || l.failure.is_some())
                .collect();
            if !left.is_empty() {
                return Ok(left);
            }
        }
        Ok(Vec::new())
    }

    async fn empty_one(&self, collection: &Collection, namespace: &str) -> Left {
        let mut left = Left {
            resource: collection.qualified(),
            unwatched: collection.cache.is_none(),
            ..Left::default()
        };
        // The status tells the resource with the dot of its group even where that is empty.
        if collection.group.is_empty() {
            left.resource.push('.');
        }
        match self.try_empty(collection, namespace).await {
            Ok(objects) => {
                left.count = objects.len();
                for finalizer in objects.iter().flat_map(Meta::finalizers) {
                    *left.finalizers.entry(finalizer.to_owned()).or_default() += 1;
                }
            }
            Err(error) => left.failure = Some(stdx::chain(&error)),
        }
        left
    }

    async fn try_empty(
        &self,
        collection: &Collection,
        namespace: &str,
    ) -> Result<Vec<Meta>, NamespaceError> {
        let objects = self.list(collection, namespace).await?;
        if objects.iter().all(|o| o.deletion_timestamp().is_some()) {
            return Ok(objects);
        }
        let build = |source| NamespaceError::Build {
            verb: "delete",
            resource: collection.qualified(),
            namespace: namespace.to_owned(),
            source,
        };
        let request = collection
            .request(namespace)
            .delete_collection(&DeleteParams::background(), &ListParams::default())
            .map_err(build)?;
        match self.context.client.request::<IgnoredAny>(request).await {
            Ok(_) => self.list(collection, namespace).await,
            // A custom resource that is no longer served has no objects.
            Err(error) if client::is_not_found(&error) => Ok(Vec::new()),
            Err(source) => Err(call("delete", collection, namespace, source)),
        }
    }

    async fn list(
        &self,
        collection: &Collection,
        namespace: &str,
    ) -> Result<Vec<Meta>, NamespaceError> {
        #[derive(Deserialize)]
        struct List {
            #[serde(default)]
            items: Vec<Meta>,
        }
        let mut request = collection
            .request(namespace)
            .list(&ListParams::default())
            .map_err(|source| NamespaceError::Build {
                verb: "list",
                resource: collection.qualified(),
                namespace: namespace.to_owned(),
                source,
            })?;
        request.headers_mut().insert(ACCEPT, METADATA_LIST);
        match self.context.client.request::<List>(request).await {
            Ok(list) => Ok(list.items),
            Err(error) if client::is_not_found(&error) => Ok(Vec::new()),
            Err(source) => Err(call("list", collection, namespace, source)),
        }
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), NamespaceError> {
        let mut finalized = namespace.clone();
        let name = namespace.metadata.name.clone().unwrap_or_default();
        if let Some(spec) = &mut finalized.spec {
            spec.finalizers
                .iter_mut()
                .for_each(|f| f.retain(|f| f != FINALIZER));
        }
        let data = serde_json::to_vec(&finalized).map_err(|source| NamespaceError::Encode {
            namespace: name.clone(),
            source,
        })?;
        let request = kube::core::Request::new("/api/v1/namespaces")
            .replace_subresource("finalize", &name, &PostParams::default(), data)
            .map_err(|source| NamespaceError::Build {
                verb: "finalize",
                resource: "namespaces".to_owned(),
                namespace: name.clone(),
                source,
            })?;
        match self.context.client.request::<IgnoredAny>(request).await {
            Ok(_) => Ok(()),
            Err(error) if client::is_not_found(&error) => Ok(()),
            Err(source) => Err(NamespaceError::Call {
                verb: "finalize",
                resource: "namespaces".to_owned(),
                namespace: name,
                source,
            }),
        }
    }
}

fn has_finalizer(namespace: &Namespace) -> bool {
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
    finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER))
}

fn call(
    verb: &'static str,
    collection: &Collection,
    namespace: &str,
    source: kube::Error,
) -> NamespaceError {
    let resource = collection.qualified();
    NamespaceError::Call {
        verb,
        resource,
        namespace: namespace.to_owned(),
        source,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn conditions_tell_what_is_left() {
        let now = Timestamp::UNIX_EPOCH;
        let left = [
            Left {
                resource: "pods.".into(),
                count: 2,
                ..Left::default()
            },
            Left {
                resource: "things.x.io".into(),
                count: 1,
                finalizers: BTreeMap::from([("x.io/hold".to_owned(), 1)]),
                failure: Some("no".into()),
                ..Left::default()
            },
        ];
        let told = conditions(&[], &left, now);
        let show = |kind: &str| {
            let c = told.iter().find(|c| c.type_ == kind).unwrap();
            format!("{} {}", c.status, c.message.as_deref().unwrap())
        };
        assert_eq!(
            show("NamespaceContentRemaining"),
            "True Some resources are remaining: pods. has 2 resource instances, \
             things.x.io has 1 resource instances"
        );
        assert_eq!(
            show("NamespaceFinalizersRemaining"),
            "True Some content in the namespace has finalizers remaining: \
             x.io/hold in 1 resource instances"
        );
        assert_eq!(
            show("NamespaceDeletionContentFailure"),
            "True Failed to delete all resource types, 1 remaining: no"
        );
        let later = conditions(&told, &left, Timestamp::now());
        assert_eq!(later, told, "nothing changed, nothing to write");
        let done = conditions(&told, &[], Timestamp::now());
        assert!(done.iter().all(|c| c.status == "False") && done.len() == 5);
    }
}
