//! Every collection of objects that can be deleted, built in or custom, with a metadata-only
//! cache of each: what garbage collection and the deletion of namespaces look at.
//!
//! Invariant: each object is in one collection only, whatever number of versions serve it.

use crate::context::Context;
use client::{Informer, Informers, Key, Meta, Object, Selector};
use kube::core::Request;
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
/// How long deletions wait for the first list of a collection that cannot be listed.
const PATIENCE: Duration = Duration::from_secs(30);

/// One collection of objects.
pub(crate) struct Collection {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) plural: String,
    pub(crate) kind: String,
    pub(crate) namespaced: bool,
    /// Its cache; `None` for a collection that takes no part in ownership.
    pub(crate) cache: Option<Informer<Meta>>,
    /// Ends the cache of a custom resource.
    end: Option<CancellationToken>,
}

impl Collection {
    fn path(&self, namespace: &str) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        if namespace.is_empty() {
            format!("{root}/{}", self.plural)
        } else {
            format!("{root}/namespaces/{namespace}/{}", self.plural)
        }
    }

    /// Requests on the objects of a namespace, or of all.
    pub(crate) fn request(&self, namespace: &str) -> Request {
        Request::new(self.path(namespace))
    }

    /// `deployments.apps`, or `pods` for the core group.
    pub(crate) fn qualified(&self) -> String {
        if self.group.is_empty() {
            self.plural.clone()
        } else {
            format!("{}.{}", self.plural, self.group)
        }
    }
}

type Listener = Arc<dyn Fn(&Arc<Collection>, Option<&Arc<Meta>>, Option<&Arc<Meta>>) + Send + Sync>;

#[derive(Default)]
struct State {
    /// By group and kind.
    known: HashMap<(String, String), Arc<Collection>>,
    listeners: Vec<Listener>,
}

/// All collections. Cloning shares them.
#[derive(Clone)]
pub(crate) struct Collections {
    informers: Informers,
    drain: CancellationToken,
    crds: Informer<Crd>,
    state: Arc<Mutex<State>>,
}

impl Collections {
    /// The built-in collections at once, custom ones as they come and go.
    pub(crate) fn new(context: &Context) -> Self {
        let this = Self {
            informers: context.informers.clone(),
            drain: context.drain.clone(),
            crds: context.informers.at(CRDS, Selector::all()),
            state: Arc::default(),
        };
        for resource in api::resource::all() {
            let stored = resource.group == resource.storage_group
                && resource.version == resource.storage_version;
            if !stored || !resource.has_verb("delete") || !resource.has_verb("list") {
                continue;
            }
            let mut collection = Collection {
                group: resource.group.to_string(),
                version: resource.version.to_string(),
                plural: resource.plural.to_string(),
                kind: resource.kind.to_string(),
                namespaced: resource.namespaced,
                cache: None,
                end: None,
            };
            if resource.has_verb("watch") && resource.plural != "events" {
                collection.cache = Some(this.informers.at(&collection.path(""), Selector::all()));
            }
            this.add(collection);
        }
        let writer = this.clone();
        this.crds
            .on_change(move |old, new| writer.crd_changed(old.map(|c| &**c), new.map(|c| &**c)));
        this
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn add(&self, collection: Collection) {
        let collection = Arc::new(collection);
        let id = (collection.group.clone(), collection.kind.clone());
        let listeners = {
            let mut state = self.state();
            state.known.insert(id, collection.clone());
            state.listeners.clone()
        };
        for listener in listeners {
            listen(&collection, listener);
        }
    }

    fn remove(&self, group: &str, kind: &str) {
        let (removed, listeners) = {
            let mut state = self.state();
            let removed = state.known.remove(&(group.to_owned(), kind.to_owned()));
            (removed, state.listeners.clone())
        };
        let Some(collection) = removed else { return };
        info!(resource = collection.qualified(), "no longer served");
        if let Some(end) = &collection.end {
            end.cancel();
        }
        for object in collection.cache.iter().flat_map(Informer::list) {
            for listener in &listeners {
                listener(&collection, Some(&object), None);
            }
        }
    }

    fn crd_changed(&self, old: Option<&Crd>, new: Option<&Crd>) {
        let Some(spec) = new.or(old).map(|c| &c.spec) else {
            return;
        };
        let served = new.filter(|c| c.is_established()).and_then(Crd::version);
        let known = self.find(&spec.group, &spec.names.kind);
        if known.as_ref().map(|k| k.version.as_str()) == served {
            return;
        }
        self.remove(&spec.group, &spec.names.kind);
        let Some(version) = served else { return };
        let end = self.drain.child_token();
        let mut collection = Collection {
            group: spec.group.clone(),
            version: version.to_owned(),
            plural: spec.names.plural.clone(),
            kind: spec.names.kind.clone(),
            namespaced: spec.scope == "Namespaced",
            cache: None,
            end: Some(end.clone()),
        };
        let informers = Informers::new(self.informers.client(), end);
        collection.cache = Some(informers.at(&collection.path(""), Selector::all()));
        info!(resource = collection.qualified(), version, "served");
        self.add(collection);
    }

    /// Calls `listener(collection, old, new)` for every change of any object.
    pub(crate) fn on_change(
        &self,
        listener: impl Fn(&Arc<Collection>, Option<&Arc<Meta>>, Option<&Arc<Meta>>)
        + Send
        + Sync
        + 'static,
    ) {
        let listener: Listener = Arc::new(listener);
        let known: Vec<Arc<Collection>> = {
            let mut state = self.state();
            state.listeners.push(listener.clone());
            state.known.values().cloned().collect()
        };
        for collection in known {
            listen(&collection, listener.clone());
        }
    }

    /// The collection of objects of this kind, in whichever version.
    pub(crate) fn find(&self, group: &str, kind: &str) -> Option<Arc<Collection>> {
        self.state()
            .known
            .get(&(group.to_owned(), kind.to_owned()))
            .cloned()
    }

    /// Every collection of namespaced objects, by name.
    pub(crate) fn namespaced(&self) -> Vec<Arc<Collection>> {
        let mut all: Vec<_> = self
            .state()
            .known
            .values()
            .filter(|c| c.namespaced)
            .cloned()
            .collect();
        all.sort_by_key(|c| c.qualified());
        all
    }

    /// Waits until every cache holds its first list; one that fails is not waited for for ever.
    pub(crate) async fn synced(&self) {
        self.crds.synced().await;
        let known: Vec<Arc<Collection>> = self.state().known.values().cloned().collect();
        let all = async {
            for cache in known.iter().filter_map(|c| c.cache.as_ref()) {
                cache.synced().await;
            }
        };
        if tokio::time::timeout(PATIENCE, all).await.is_err() {
            let missing: Vec<String> = known
                .iter()
                .filter(|c| c.cache.as_ref().is_some_and(|cache| !cache.is_synced()))
                .map(|c| c.qualified())
                .collect();
            warn!(
                ?missing,
                "going on without the collections that cannot be listed"
            );
        }
    }
}

fn listen(collection: &Arc<Collection>, listener: Listener) {
    if let Some(cache) = &collection.cache {
        let collection = collection.clone();
        cache.on_change(move |old, new| listener(&collection, old, new));
    }
}

/// What matters of a custom resource definition: not its schemas, which are large.
#[derive(Deserialize)]
struct Crd {
    metadata: CrdMeta,
    spec: CrdSpec,
    #[serde(default)]
    status: CrdStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct CrdMeta {
    name: String,
    uid: String,
    resource_version: String,
}

#[derive(Deserialize)]
struct CrdSpec {
    group: String,
    scope: String,
    names: CrdNames,
    #[serde(default)]
    versions: Vec<CrdVersion>,
}

#[derive(Deserialize)]
struct CrdNames {
    plural: String,
    kind: String,
}

#[derive(Deserialize)]
struct CrdVersion {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
}

#[derive(Deserialize, Default)]
struct CrdStatus {
    #[serde(default)]
    conditions: Vec<CrdCondition>,
}

#[derive(Deserialize)]
struct CrdCondition {
    #[serde(rename = "type")]
    kind: String,
    status: String,
}

impl Crd {
    fn is_established(&self) -> bool {
        self.status
            .conditions
            .iter()
            .any(|c| c.kind == "Established" && c.status == "True")
    }

    /// The stored version if it is served, else any that is.
    fn version(&self) -> Option<&str> {
        let served = || self.spec.versions.iter().filter(|v| v.served);
        served()
            .find(|v| v.storage)
            .or_else(|| served().next())
            .map(|v| v.name.as_str())
    }
}

impl Object for Crd {
    fn key(&self) -> Key {
        Key::new("", self.metadata.name.as_str())
    }
    fn uid(&self) -> &str {
        &self.metadata.uid
    }
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
    fn compact(&mut self) {}
}

#[cfg(test)]
impl Collection {
    /// A collection without a cache.
    pub(crate) fn for_tests(kind: &str) -> Self {
        Self {
            group: String::new(),
            version: "v1".to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            kind: kind.to_owned(),
            namespaced: true,
            cache: None,
            end: None,
        }
    }
}
