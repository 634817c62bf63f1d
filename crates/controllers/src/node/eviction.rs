//! Evicts pods that do not tolerate, or tolerate only for a while, a NoExecute taint.

use crate::context::Context;
use crate::pods;
use crate::write::{self, WriteError};
use client::fit::tolerates;
use client::{EventType, Events, Informer, Key, Queue};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use kube::api::DeleteParams;
use std::sync::Arc;
use std::time::Duration;
use tracing::info;

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    queue: Queue<Key>,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        nodes: context.informers.get::<Node>(),
        queue: Queue::new(),
        events: context.events("taint-eviction-controller"),
        context,
    });
    let this = controller.clone();
    controller.nodes.on_change(move |old, new| {
        let Some(node) = new else { return };
        let before = old
            .map(|n| evicting(n).cloned().collect::<Vec<Taint>>())
            .unwrap_or_default();
        if !evicting(node).eq(&before) {
            for pod in this
                .context
                .pods_on(node.metadata.name.as_deref().unwrap_or_default())
            {
                this.queue.add(Key::of(&*pod));
            }
        }
    });
    let this = controller.clone();
    controller.context.pods.on_change(move |old, new| {
        let Some(pod) = new else { return };
        let placed = |p: &Pod| pods::node_name(p).map(str::to_owned);
        let tolerations = |p: &Pod| p.spec.as_ref().and_then(|s| s.tolerations.clone());
        let known = old
            .is_some_and(|old| placed(old) == placed(pod) && tolerations(old) == tolerations(pod));
        if !known && placed(pod).is_some() {
            this.queue.add(Key::of(&**pod));
        }
    });
    controller.nodes.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("eviction", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

fn evicting(node: &Node) -> impl Iterator<Item = &Taint> {
    node.spec
        .iter()
        .flat_map(|s| s.taints.iter().flatten())
        .filter(|t| t.effect == "NoExecute")
}

/// How long the pod may stay on its node: `None` for ever, zero not at all.
fn stays(pod: &Pod, node: &Node, now: Timestamp) -> Option<Duration> {
    let none = Vec::new();
    let tolerations = pod
        .spec
        .as_ref()
        .and_then(|s| s.tolerations.as_ref())
        .unwrap_or(&none);
    let mut shortest: Option<Duration> = None;
    for taint in evicting(node) {
        let using: Vec<&Toleration> = tolerations.iter().filter(|t| tolerates(t, taint)).collect();
        if using.is_empty() {
            return Some(Duration::ZERO);
        }
        let Some(secs) = using.iter().filter_map(|t| t.toleration_seconds).min() else {
            continue;
        };
        let since = taint.time_added.as_ref().map_or(now, |t| t.0);
        let until = since
            .checked_add(SignedDuration::from_secs(secs.max(0)))
            .ok();
        let left = until.map_or(Duration::MAX, |until| {
            Duration::try_from(until.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        shortest = Some(shortest.map_or(left, |s| s.min(left)));
    }
    shortest
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(pod) = self.context.pods.get_key(key) else {
            return Ok(());
        };
        if pod.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let node = pods::node_name(&pod).and_then(|name| self.nodes.get("", name));
        let Some(left) = node.and_then(|node| stays(&pod, &node, Timestamp::now())) else {
            return Ok(());
        };
        if !left.is_zero() {
            self.queue.add_after(key.clone(), left);
            return Ok(());
        }
        info!("evicting: it does not tolerate a taint of its node");
        let message = format!("Marking for deletion Pod {key}");
        let about = client::reference(&*pod);
        self.events
            .record(&about, EventType::Normal, "TaintManagerEviction", message);
        let client = &self.context.client;
        pods::tell_disruption(
            client,
            &pod,
            "DeletionByTaintManager",
            "Taint manager: deleting due to NoExecute taint",
        )
        .await?;
        let uid = pod.metadata.uid.as_deref();
        write::delete::<Pod>(client, key, uid, DeleteParams::default()).await
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_pod_stays_as_long_as_it_tolerates() {
        let now: Timestamp = "2020-01-01T00:01:00Z".parse().unwrap();
        let node: Node = serde_json::from_value(json!({"metadata": {}, "spec": {"taints": [
            {"key": "lost", "effect": "NoExecute", "timeAdded": "2020-01-01T00:00:00Z"},
            {"key": "other", "effect": "NoSchedule"}]}}))
        .unwrap();
        let table = [
            (json!([]), Some(0)),
            (json!([{"key": "lost", "operator": "Exists"}]), None),
            (
                json!([{"operator": "Exists", "tolerationSeconds": 300}]),
                Some(240),
            ),
            (
                json!([{"key": "lost", "operator": "Exists", "tolerationSeconds": 30}]),
                Some(0),
            ),
            (json!([{"key": "lost", "value": "x"}]), Some(0)),
        ];
        for (tolerations, expected) in table {
            let pod: Pod = serde_json::from_value(
                json!({"metadata": {}, "spec": {"containers": [], "tolerations": tolerations}}),
            )
            .unwrap();
            let left = stays(&pod, &node, now).map(|d| d.as_secs());
            assert_eq!(left, expected, "{tolerations}");
        }
    }
}
