//! Watches on the ConfigMaps and Secrets that pods of this node refer to.
//!
//! Invariant: exactly the referenced objects are watched, each once, for as long
//! as a pod refers to it; only their metadata is transferred.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::Duration,
};

use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, ListParams, WatchEvent, WatchParams};
use stdx::Backoff;
use tokio::{sync::Notify, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Sort of a referenced object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    /// A ConfigMap.
    ConfigMap,
    /// A Secret.
    Secret,
}

/// One referenced object.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ref {
    /// Its sort.
    pub kind: Kind,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

/// The objects that a pod refers to, in volumes and environment.
pub(crate) fn of(pod: &Pod) -> BTreeSet<Ref> {
    let mut out = BTreeSet::new();
    let Some(spec) = &pod.spec else { return out };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let mut add = |kind, name: &str| {
        if !name.is_empty() {
            out.insert(Ref {
                kind,
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
        }
    };
    for v in spec.volumes.iter().flatten() {
        if let Some(c) = &v.config_map {
            add(Kind::ConfigMap, &c.name);
        }
        if let Some(s) = &v.secret {
            add(Kind::Secret, s.secret_name.as_deref().unwrap_or_default());
        }
        for s in v.projected.iter().flat_map(|p| p.sources.iter().flatten()) {
            if let Some(c) = &s.config_map {
                add(Kind::ConfigMap, &c.name);
            }
            if let Some(s) = &s.secret {
                add(Kind::Secret, &s.name);
            }
        }
    }
    for c in spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
    {
        for from in c.env_from.iter().flatten() {
            if let Some(r) = &from.config_map_ref {
                add(Kind::ConfigMap, &r.name);
            }
            if let Some(r) = &from.secret_ref {
                add(Kind::Secret, &r.name);
            }
        }
        for from in c.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
            if let Some(r) = &from.config_map_key_ref {
                add(Kind::ConfigMap, &r.name);
            }
            if let Some(r) = &from.secret_key_ref {
                add(Kind::Secret, &r.name);
            }
        }
    }
    out
}

/// The watches of this node.
#[derive(Clone)]
pub(crate) struct Refs {
    client: client::Client,
    drain: CancellationToken,
    live: Arc<Mutex<HashMap<Ref, Weak<Watch>>>>,
}

struct Watch {
    listeners: Mutex<Vec<Weak<Notify>>>,
    task: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        let task = self.task.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(task) = task.take() {
            task.abort();
        }
    }
}

impl Watch {
    fn tell(&self) {
        let mut listeners = self
            .listeners
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        listeners.retain(|l| l.upgrade().inspect(|n| n.notify_one()).is_some());
    }
}

/// Keeps watches alive; dropping it lets them go.
pub(crate) struct Interest {
    _held: Vec<Arc<Watch>>,
}

impl Refs {
    /// No watch yet.
    pub(crate) fn new(client: client::Client, drain: CancellationToken) -> Self {
        Self {
            client,
            drain,
            live: Arc::default(),
        }
    }

    /// Watches `refs`; each change notifies `listener`.
    pub(crate) fn watch(&self, refs: BTreeSet<Ref>, listener: &Arc<Notify>) -> Interest {
        let mut live = self.live.lock().unwrap_or_else(PoisonError::into_inner);
        live.retain(|_, w| w.strong_count() > 0);
        let held = refs.into_iter().map(|r| {
            let watch = live.get(&r).and_then(Weak::upgrade).unwrap_or_else(|| {
                let watch = Arc::new(Watch {
                    listeners: Mutex::default(),
                    task: Mutex::default(),
                });
                let task = run(self.client.clone(), r.clone(), Arc::downgrade(&watch));
                let drain = self.drain.clone();
                let handle = tokio::spawn(async move {
                    drain.run_until_cancelled(task).await;
                });
                *watch.task.lock().unwrap_or_else(PoisonError::into_inner) = Some(handle);
                live.insert(r, Arc::downgrade(&watch));
                watch
            });
            let mut listeners = watch
                .listeners
                .lock()
                .unwrap_or_else(PoisonError::into_inner);
            listeners.push(Arc::downgrade(listener));
            drop(listeners);
            watch
        });
        Interest {
            _held: held.collect(),
        }
    }
}

async fn run(client: client::Client, r: Ref, watch: Weak<Watch>) {
    match r.kind {
        Kind::ConfigMap => {
            follow(
                Api::<ConfigMap>::namespaced(client, &r.namespace),
                &r,
                &watch,
            )
            .await
        }
        Kind::Secret => follow(Api::<Secret>::namespaced(client, &r.namespace), &r, &watch).await,
    }
}

async fn follow<K>(api: Api<K>, r: &Ref, watch: &Weak<Watch>)
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + kube::Resource,
{
    let fields = format!("metadata.name={}", r.name);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    let mut known: Option<String> = None;
    loop {
        match once(&api, &fields, &mut known, watch).await {
            Ok(()) => backoff.reset(),
            Err(error) => {
                tracing::debug!(
                    name = r.name,
                    error = stdx::chain(&error),
                    "watch of a reference failed"
                );
                tokio::time::sleep(backoff.next()).await;
            }
        }
        if watch.strong_count() == 0 {
            return;
        }
    }
}

/// Lists, then watches until the stream ends.
async fn once<K>(
    api: &Api<K>,
    fields: &str,
    known: &mut Option<String>,
    watch: &Weak<Watch>,
) -> Result<(), kube::Error>
where
    K: Clone + std::fmt::Debug + serde::de::DeserializeOwned + kube::Resource,
{
    let tell = || {
        if let Some(watch) = watch.upgrade() {
            watch.tell();
        }
    };
    let list = api
        .list_metadata(&ListParams::default().fields(fields))
        .await?;
    let current = list
        .items
        .first()
        .and_then(|i| i.metadata.resource_version.clone());
    let current = Some(current.unwrap_or_default());
    if *known != current {
        *known = current;
        tell();
    }
    let from = list.metadata.resource_version.unwrap_or_default();
    let params = WatchParams::default().fields(fields);
    let mut stream = api.watch_metadata(&params, &from).await?.boxed();
    while let Some(event) = stream.next().await {
        match event? {
            WatchEvent::Added(o) | WatchEvent::Modified(o) => {
                *known = Some(o.metadata.resource_version.unwrap_or_default());
                tell();
            }
            WatchEvent::Deleted(_) => {
                *known = Some(String::new());
                tell();
            }
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => return Err(kube::Error::Api(status)),
        }
    }
    Ok(())
}
