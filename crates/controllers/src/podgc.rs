//! Pod garbage collection: pods whose node is gone, pods that were deleted before they had a
//! node, and the oldest ended pods when there are too many.

use crate::context::Context;
use crate::pods;
use crate::write::{self, WriteError};
use client::{Informer, Key, Queue};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::api::DeleteParams;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

/// Ended pods that are kept.
const ENDED_LIMIT: usize = 12_500;
/// A node that has gone may come back; so long its pods are left alone.
const QUARANTINE: Duration = Duration::from_secs(40);

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    queue: Queue<Key>,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        nodes: context.informers.get::<Node>(),
        queue: Queue::new(),
        context,
    });
    controller.nodes.synced().await;
    let this = controller.clone();
    controller.nodes.on_change(move |old, new| {
        if let (Some(node), None) = (old, new) {
            for pod in this
                .context
                .pods_on(node.metadata.name.as_deref().unwrap_or_default())
            {
                this.queue.add_after(Key::of(&*pod), QUARANTINE);
            }
        }
    });
    let this = controller.clone();
    let mut ended = 0usize;
    controller.context.pods.on_change(move |old, new| {
        let counts = |p: Option<&Arc<Pod>>| usize::from(p.is_some_and(|p| pods::is_finished(p)));
        ended = (ended + counts(new)).saturating_sub(counts(old));
        if ended > ENDED_LIMIT && counts(new) > counts(old) {
            this.queue_oldest(ended - ENDED_LIMIT);
        }
        let Some(pod) = new else { return };
        match pods::node_name(pod) {
            None if pod.metadata.deletion_timestamp.is_some() => this.queue.add(Key::of(&**pod)),
            Some(node) if this.nodes.get("", node).is_none() => {
                this.queue.add_after(Key::of(&**pod), QUARANTINE);
            }
            _ => {}
        }
    });
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("podgc", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

impl Controller {
    fn queue_oldest(&self, surplus: usize) {
        let mut ended: Vec<Arc<Pod>> = self
            .context
            .pods
            .list()
            .into_iter()
            .filter(|p| pods::is_finished(p))
            .collect();
        ended.sort_by_key(|p| p.metadata.creation_timestamp.as_ref().map(|t| t.0));
        for pod in ended.into_iter().take(surplus) {
            self.queue.add(Key::of(&*pod));
        }
    }

    /// Why the pod must go, if it must.
    async fn reason(&self, pod: &Pod) -> Result<Option<&'static str>, WriteError> {
        let Some(node) = pods::node_name(pod) else {
            let deleted = pod.metadata.deletion_timestamp.is_some();
            return Ok(deleted.then_some("it was deleted before it had a node"));
        };
        if self.nodes.get("", node).is_none() {
            // The cache may be late: the server decides.
            let live: Option<Node> = write::read(&self.context.client, &Key::new("", node)).await?;
            if live.is_none() {
                return Ok(Some("its node is gone"));
            }
        }
        let ended = || {
            self.context
                .pods
                .list()
                .iter()
                .filter(|p| pods::is_finished(p))
                .count()
        };
        Ok((pods::is_finished(pod) && ended() > ENDED_LIMIT).then_some("too many pods have ended"))
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(pod) = self.context.pods.get_key(key) else {
            return Ok(());
        };
        let Some(reason) = self.reason(&pod).await? else {
            return Ok(());
        };
        info!(reason, "deleting");
        let client = &self.context.client;
        if !pods::is_finished(&pod) && pods::node_name(&pod).is_some() {
            pods::fail_disrupted(
                client,
                &pod,
                "DeletionByPodGC",
                "PodGC: node no longer exists",
            )
            .await?;
        }
        let uid = pod.metadata.uid.as_deref();
        write::delete::<Pod>(client, key, uid, DeleteParams::default().grace_period(0)).await
    }
}
