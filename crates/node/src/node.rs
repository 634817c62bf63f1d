//! The node as a whole: registers, starts its tasks, and ends them.
//!
//! Invariant: pods keep running when the node stops.

use std::{path::PathBuf, sync::Arc, time::Duration};

use client::{Events, Selector, Source};
use k8s_openapi::api::core::v1::{Pod, Service};
use tokio_util::task::TaskTracker;

use crate::{
    Config, KubeletService, NodeError, host,
    pods::Pods,
    pull::Puller,
    refs::Refs,
    register,
    server::Server,
    shared::{Shared, SharedRef},
};

/// How long registering may be tried again at start.
const REGISTER_PATIENCE: Duration = Duration::from_secs(30);
/// How often images are looked at for removal.
const COLLECT: Duration = Duration::from_secs(300);
/// Disk use in percent above which images are removed, and down to which.
const HIGH_PERCENT: u8 = 85;
const LOW_PERCENT: u8 = 80;

/// A running node.
pub struct Node {
    shared: SharedRef,
    pods: Arc<Pods>,
    tasks: TaskTracker,
}

impl Node {
    /// Registers the node, adopts what runs, and starts to watch for pods.
    ///
    /// # Errors
    /// When the directories cannot be made or the Node object cannot be written.
    pub async fn start(config: Config) -> Result<Arc<Node>, NodeError> {
        for dir in [
            config.data_dir.join("pods"),
            config.data_dir.join("seccomp"),
            config.run_dir.join("pods"),
            config.log_dir.clone(),
        ] {
            make_dir(dir).await?;
        }
        for dir in [
            &config.data_dir.join("pods"),
            &config.run_dir.join("pods"),
            &config.log_dir,
        ] {
            let _only_slower = sys::folder::spread_children(dir);
        }
        let drain = config.drain.clone();
        let source = Source {
            component: "kubelet".into(),
            host: Some(config.node_name.clone()),
        };
        let by_name = Selector::fields(format!("metadata.name={}", config.node_name));
        let by_node = Selector::fields(format!("spec.nodeName={}", config.node_name));
        let informer = config.informers.get_with::<Pod>(by_node);
        let shared = Arc::new(Shared {
            events: Events::start(config.client.clone(), source, drain.clone()),
            services: config.informers.get::<Service>(),
            node: config.informers.get_with(by_name),
            puller: Puller::new(config.images.clone()),
            refs: Refs::new(config.client.clone(), drain.clone()),
            capacity: host::capacity(&config.data_dir),
            config,
        });
        let node = register_patiently(&shared).await?;
        let uid = node.metadata.uid.clone().unwrap_or_default();
        let pods = Pods::new(Arc::clone(&shared), informer);
        let tasks = TaskTracker::new();
        tasks.spawn(register::heartbeat(Arc::clone(&shared), uid));
        tasks.spawn(register::keep_status(Arc::clone(&shared)));
        let watching = Arc::clone(&pods);
        let until = drain.clone();
        tasks.spawn(async move { until.run_until_cancelled(watching.run()).await });
        tasks.spawn(collect_images(Arc::clone(&shared), Arc::clone(&pods)));
        tasks.close();
        Ok(Arc::new(Node {
            shared,
            pods,
            tasks,
        }))
    }

    /// Waits until the drain token is cancelled and every task of the node has ended.
    pub async fn run(self: Arc<Self>) {
        self.shared.config.drain.cancelled().await;
        self.tasks.wait().await;
        self.pods.closed().await;
    }

    /// The kubelet's HTTP API over connections of any sort.
    pub fn kubelet_service(self: &Arc<Self>) -> KubeletService {
        KubeletService::new(Arc::new(Server::new(
            Arc::clone(&self.shared),
            Arc::clone(&self.pods),
        )))
    }
}

async fn make_dir(path: PathBuf) -> Result<(), NodeError> {
    tokio::fs::create_dir_all(&path)
        .await
        .map_err(|source| NodeError::Io { path, source })
}

/// The API server may still be on its way up when it is another process.
async fn register_patiently(
    shared: &SharedRef,
) -> Result<k8s_openapi::api::core::v1::Node, NodeError> {
    let begun = tokio::time::Instant::now();
    let mut backoff = stdx::Backoff::new(Duration::from_millis(20), Duration::from_secs(2));
    loop {
        match register::register(shared).await {
            Ok(node) => return Ok(node),
            Err(error)
                if begun.elapsed() > REGISTER_PATIENCE || shared.config.drain.is_cancelled() =>
            {
                let node = shared.config.node_name.clone();
                return Err(NodeError::Register {
                    node,
                    source: Box::new(error),
                });
            }
            Err(error) => {
                tracing::info!(error = stdx::chain(&error), "node not registered yet");
                tokio::time::sleep(backoff.next()).await;
            }
        }
    }
}

/// Removes images that nobody uses when the disk fills up.
async fn collect_images(shared: SharedRef, pods: Arc<Pods>) {
    let drain = shared.config.drain.clone();
    loop {
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(COLLECT) => {}
        }
        let (images, in_use) = (shared.config.images.clone(), pods.images_in_use());
        let done =
            tokio::task::spawn_blocking(move || images.collect(&in_use, HIGH_PERCENT, LOW_PERCENT));
        if let Ok(Err(error)) = done.await {
            tracing::warn!(error = stdx::chain(&error), "images not collected");
        }
    }
}
