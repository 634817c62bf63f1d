//! All pods of the node: makes workers, tells them what changed, and cleans up what
//! belongs to no pod.
//!
//! Invariants: one worker a UID; nothing of a pod that the API does not know stays
//! on the host after a start.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use client::Informer;
use k8s_openapi::api::core::v1::Pod;
use runtime::Shim;
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::{
    admit,
    shared::SharedRef,
    status,
    worker::{Update, View, Worker},
};

/// A worker from the outside.
struct Handle {
    update: watch::Sender<Update>,
    view: watch::Receiver<Arc<View>>,
}

/// The pods.
pub(crate) struct Pods {
    shared: SharedRef,
    /// The pods that the API has bound to this node.
    pub informer: Informer<Pod>,
    workers: Mutex<HashMap<String, Handle>>,
    tasks: TaskTracker,
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

fn terminal(pod: &Pod) -> bool {
    status::terminal(pod.status.as_ref().and_then(|s| s.phase.as_deref()))
}

impl Pods {
    /// No worker yet.
    pub(crate) fn new(shared: SharedRef, informer: Informer<Pod>) -> Arc<Self> {
        Arc::new(Self {
            shared,
            informer,
            workers: Mutex::default(),
            tasks: TaskTracker::new(),
        })
    }

    /// Waits for the API's list, cleans up after pods it does not have, and takes on the others.
    pub(crate) async fn run(self: Arc<Self>) {
        self.informer.synced().await;
        if self.shared.config.drain.is_cancelled() {
            return;
        }
        self.clean().await;
        let pods = Arc::clone(&self);
        self.informer
            .on_change(move |old, new| pods.changed(old, new));
    }

    /// Waits for every worker to return after the drain.
    pub(crate) async fn closed(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// The kubelet API's view of a pod and its changes.
    pub(crate) fn view(&self, uid: &str) -> Option<watch::Receiver<Arc<View>>> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers.get(uid).map(|h| h.view.clone())
    }

    /// Images that some pod uses.
    pub(crate) fn images_in_use(&self) -> HashSet<image::Digest> {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        workers
            .values()
            .flat_map(|h| h.view.borrow().images.clone())
            .collect()
    }

    fn changed(self: &Arc<Self>, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        if let Some(old) = old
            && new.is_none_or(|new| uid(new) != uid(old))
        {
            self.gone(old);
        }
        if let Some(new) = new {
            self.apply(new);
        }
    }

    fn gone(&self, pod: &Arc<Pod>) {
        let workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = workers.get(uid(pod)) {
            handle.update.send_modify(|u| u.gone = true);
        } else {
            let (shared, pod) = (Arc::clone(&self.shared), Arc::clone(pod));
            self.tasks
                .spawn(async move { crate::worker::jobs::remove_logs(&shared, &pod).await });
        }
    }

    fn apply(self: &Arc<Self>, pod: &Arc<Pod>) {
        let mut workers = self.workers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = workers.get(uid(pod)) {
            handle.update.send_modify(|u| u.pod = Arc::clone(pod));
            return;
        }
        let over = terminal(pod) && pod.metadata.deletion_timestamp.is_none();
        let left =
            || self.shared.shim_dir(uid(pod)).exists() || self.shared.pod_dir(uid(pod)).exists();
        if over && !left() {
            return;
        }
        let rejected = self.admit(pod);
        let (update, updates) = watch::channel(Update {
            pod: Arc::clone(pod),
            gone: false,
            rejected,
        });
        let (publish, view) = watch::channel(Arc::default());
        let worker = Worker::new(Arc::clone(&self.shared), updates, publish);
        let key = uid(pod).to_owned();
        workers.insert(key.clone(), Handle { update, view });
        drop(workers);
        let pods = Arc::clone(self);
        self.tasks.spawn(async move {
            worker.run().await;
            let mut workers = pods.workers.lock().unwrap_or_else(PoisonError::into_inner);
            workers.remove(&key);
        });
    }

    /// Checks a pod that has not been started before.
    fn admit(&self, pod: &Pod) -> Option<(String, String)> {
        let begun = pod.status.as_ref().is_some_and(|s| s.start_time.is_some());
        if begun || terminal(pod) || pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let config = &self.shared.config;
        let list = self.informer.list();
        // Only pods that were here before: the newcomer must not count against itself.
        let others = list.iter().filter(|o| {
            let before = o.status.as_ref().is_some_and(|s| s.start_time.is_some());
            uid(o) != uid(pod) && !terminal(o) && before
        });
        let node = self.shared.node.get("", &config.node_name);
        let others = others.map(AsRef::as_ref);
        let refused = admit::check(
            pod,
            others,
            node.as_deref(),
            self.shared.capacity,
            config.max_pods,
        )?;
        self.shared.event(
            pod,
            None,
            client::EventType::Warning,
            &refused.0,
            refused.1.clone(),
        );
        Some(refused)
    }

    /// Removes shims, directories, addresses and snapshots of pods that the API does not have.
    async fn clean(&self) {
        let config = &self.shared.config;
        let known: HashSet<String> = self
            .informer
            .list()
            .iter()
            .map(|p| uid(p).to_owned())
            .collect();
        for orphan in names(&config.run_dir.join("pods")).await {
            if !known.contains(&orphan) {
                let dir = self.shared.shim_dir(&orphan);
                if let Err(error) = Shim::cleanup(&dir).await {
                    tracing::warn!(
                        uid = orphan,
                        error = stdx::chain(&error),
                        "orphaned sandbox not removed"
                    );
                }
            }
        }
        let live: HashSet<String> = self
            .informer
            .list()
            .iter()
            .filter(|p| !terminal(p))
            .map(|p| uid(p).to_owned())
            .collect();
        if let Err(error) = config.network.retain(&live).await {
            tracing::warn!(
                error = stdx::chain(&error),
                "addresses of gone pods not freed"
            );
        }
        for orphan in names(&config.data_dir.join("pods")).await {
            if !known.contains(&orphan) {
                let dir = self.shared.pod_dir(&orphan);
                let removed =
                    tokio::task::spawn_blocking(move || crate::volumes::remove(&dir)).await;
                if let Ok(Err(error)) = removed {
                    tracing::warn!(
                        uid = orphan,
                        error = stdx::chain(&error),
                        "orphaned volumes not removed"
                    );
                }
            }
        }
        self.clean_snapshots(&known).await;
        self.clean_logs(&known).await;
    }

    async fn clean_snapshots(&self, known: &HashSet<String>) {
        let dirs: Vec<_> = known.iter().map(|uid| self.shared.shim_dir(uid)).collect();
        let images = self.shared.config.images.clone();
        let done = tokio::task::spawn_blocking(move || {
            let alive = dirs
                .iter()
                .flat_map(|dir| runtime::read_all(dir).unwrap_or_default());
            let ids = alive
                .filter(|s| !s.state.is_exited())
                .map(|s| s.id)
                .collect();
            images.retain(&ids)
        });
        match done.await {
            Ok(Err(error)) => tracing::warn!(error = stdx::chain(&error), "snapshots not cleaned"),
            Ok(Ok(removed)) if !removed.is_empty() => {
                tracing::info!(
                    count = removed.len(),
                    "removed root file systems of gone containers"
                );
            }
            _ => {}
        }
    }

    async fn clean_logs(&self, known: &HashSet<String>) {
        let root = &self.shared.config.log_dir;
        for name in names(root).await {
            // Only what looks like ours: namespace_name_uid.
            let mut parts = name.rsplitn(3, '_');
            let owner = parts.next().filter(|u| u.len() == 36).map(str::to_owned);
            if let Some(owner) = owner.filter(|u| parts.count() == 2 && !known.contains(u)) {
                tracing::info!(uid = owner, "removing the logs of a gone pod");
                let _ = tokio::fs::remove_dir_all(root.join(&name)).await;
            }
        }
    }
}

async fn names(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(dir).await else {
        return found;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        found.extend(entry.file_name().into_string());
    }
    found
}
