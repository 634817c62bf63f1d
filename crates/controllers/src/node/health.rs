//! Watches the Leases of nodes, and turns the nodes' conditions into taints.

use super::{NOT_READY, UNREACHABLE};
use crate::context::Context;
use crate::pods;
use crate::write::{self, WriteError};
use client::{EventType, Events, Informer, Key, Queue, Selector};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, NodeCondition, Pod, Taint};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, Time};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tracing::{info, warn};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";
/// A node that was not heard of for this long is Unknown.
const GRACE: Duration = Duration::from_secs(40);
const SILENT: (&str, &str) = ("NodeStatusUnknown", "Kubelet stopped posting node status.");
const NEVER: (&str, &str) = (
    "NodeStatusNeverUpdated",
    "Kubelet never posted node status.",
);

/// When a node was last heard of, by our own clock: clocks of nodes may be wrong.
struct Heard {
    at: Instant,
    renewed: Option<MicroTime>,
    posted: Option<Time>,
}

struct Controller {
    context: Context,
    nodes: Informer<Node>,
    leases: Informer<Lease>,
    heard: Mutex<HashMap<String, Heard>>,
    queue: Queue<Key>,
    events: Events,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let controller = Arc::new(Controller {
        nodes: context.informers.get::<Node>(),
        leases: context.informers.at(LEASES, Selector::all()),
        heard: Mutex::default(),
        queue: Queue::new(),
        events: context.events("node-controller"),
        context,
    });
    controller.listen();
    controller.nodes.synced().await;
    controller.leases.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("node", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The conditions of a node that has fallen silent.
fn silence(node: &Node, now: Timestamp) -> Vec<NodeCondition> {
    let status = node.status.as_ref();
    let mut conditions = status
        .and_then(|s| s.conditions.clone())
        .unwrap_or_default();
    for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
        match conditions.iter_mut().find(|c| c.type_ == kind) {
            None => conditions.push(NodeCondition {
                type_: kind.to_owned(),
                status: "Unknown".to_owned(),
                reason: Some(NEVER.0.to_owned()),
                message: Some(NEVER.1.to_owned()),
                last_heartbeat_time: node.metadata.creation_timestamp.clone(),
                last_transition_time: Some(Time(now)),
            }),
            Some(known) if known.status != "Unknown" => {
                known.status = "Unknown".to_owned();
                known.reason = Some(SILENT.0.to_owned());
                known.message = Some(SILENT.1.to_owned());
                known.last_transition_time = Some(Time(now));
            }
            Some(_) => {}
        }
    }
    conditions
}

/// The taints that a node must have: those of others, and ours after its conditions.
fn taints(node: &Node, now: Timestamp) -> Vec<Taint> {
    let condition = |kind: &str| {
        let status = node.status.as_ref();
        let found = status.and_then(|s| s.conditions.as_ref()?.iter().find(|c| c.type_ == kind));
        found.map(|c| c.status.as_str()).unwrap_or_default()
    };
    let ready = condition("Ready");
    let not_ready = ready == "False";
    let unknown = ready == "Unknown";
    let cordoned = node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true);
    let ours = [
        (NOT_READY, "NoSchedule", not_ready),
        (NOT_READY, "NoExecute", not_ready),
        (UNREACHABLE, "NoSchedule", unknown),
        (UNREACHABLE, "NoExecute", unknown),
        ("node.kubernetes.io/unschedulable", "NoSchedule", cordoned),
        (
            "node.kubernetes.io/memory-pressure",
            "NoSchedule",
            condition("MemoryPressure") == "True",
        ),
        (
            "node.kubernetes.io/disk-pressure",
            "NoSchedule",
            condition("DiskPressure") == "True",
        ),
        (
            "node.kubernetes.io/pid-pressure",
            "NoSchedule",
            condition("PIDPressure") == "True",
        ),
        (
            "node.kubernetes.io/network-unavailable",
            "NoSchedule",
            condition("NetworkUnavailable") == "True",
        ),
    ];
    let wanted = |t: &Taint| {
        ours.iter()
            .find(|(k, e, _)| *k == t.key && *e == t.effect)
            .map(|(_, _, wanted)| *wanted)
    };
    let known = node
        .spec
        .as_ref()
        .and_then(|s| s.taints.clone())
        .unwrap_or_default();
    let mut taints: Vec<Taint> = known
        .into_iter()
        .filter(|t| wanted(t).unwrap_or(true))
        .collect();
    for (key, effect, _) in ours.iter().filter(|(_, _, wanted)| *wanted) {
        if !taints.iter().any(|t| t.key == *key && t.effect == *effect) {
            taints.push(Taint {
                key: (*key).to_owned(),
                effect: (*effect).to_owned(),
                time_added: Some(Time(now)),
                value: None,
            });
        }
    }
    taints
}

fn posted(node: &Node) -> Option<Time> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|c| c.type_ == "Ready")?
        .last_heartbeat_time
        .clone()
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
    conditions.is_some_and(|c| c.iter().any(|c| c.type_ == "Ready" && c.status == "True"))
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.nodes.on_change(move |old, new| match (old, new) {
            (_, Some(node)) => {
                this.hear(node.metadata.name.as_deref().unwrap_or_default(), |heard| {
                    let posted = posted(node);
                    let news = posted != heard.posted;
                    heard.posted = posted;
                    news
                });
                this.queue.add(Key::of(&**node));
            }
            (Some(node), None) => {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                this.heard
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .remove(name);
            }
            (None, None) => {}
        });
        let this = self.clone();
        self.leases.on_change(move |_, new| {
            let Some(lease) = new else { return };
            let renewed = lease.spec.as_ref().and_then(|s| s.renew_time.clone());
            this.hear(
                lease.metadata.name.as_deref().unwrap_or_default(),
                |heard| {
                    let news = renewed != heard.renewed;
                    heard.renewed = renewed;
                    news
                },
            );
        });
    }

    /// Notes that a node was heard of, if `news` finds that it was.
    fn hear(&self, node: &str, news: impl FnOnce(&mut Heard) -> bool) {
        let now = Instant::now();
        let mut all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let heard = all.entry(node.to_owned()).or_insert(Heard {
            at: now,
            renewed: None,
            posted: None,
        });
        if news(heard) {
            heard.at = now;
        }
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(node) = self.nodes.get_key(key) else {
            return Ok(());
        };
        let silent_for = {
            let all = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
            all.get(&key.name)
                .map_or(Duration::ZERO, |heard| heard.at.elapsed())
        };
        let (client, now) = (&self.context.client, Timestamp::now());
        if silent_for < GRACE {
            self.queue.add_after(key.clone(), GRACE - silent_for);
        } else {
            let mut changed = Node::clone(&node);
            changed.status.get_or_insert_default().conditions = Some(silence(&node, now));
            if write::update_status(client, &*node, &changed).await? {
                warn!(
                    silent_secs = silent_for.as_secs(),
                    "no longer heard of: Unknown"
                );
                return Ok(());
            }
        }
        let mut changed = Node::clone(&node);
        let taints = taints(&node, now);
        let spec = changed.spec.get_or_insert_default();
        if !(taints.is_empty() && spec.taints.is_none()) {
            spec.taints = (!taints.is_empty()).then_some(taints);
        }
        if write::update(client, &*node, &changed).await? {
            info!("taints follow the conditions");
        }
        if !is_ready(&node) {
            self.mark_pods(&node, now).await?;
        }
        Ok(())
    }

    /// Nobody else says any more that the pods of a lost node are ready.
    async fn mark_pods(&self, node: &Node, now: Timestamp) -> Result<(), WriteError> {
        let unknown = node
            .status
            .as_ref()
            .and_then(|s| s.conditions.as_ref())
            .is_some_and(|c| {
                c.iter()
                    .any(|c| c.type_ == "Ready" && c.status == "Unknown")
            });
        if !unknown {
            return Ok(());
        }
        let name = node.metadata.name.as_deref().unwrap_or_default();
        for pod in self.context.pods_on(name) {
            if !pods::is_ready(&pod) {
                continue;
            }
            let mut changed = Pod::clone(&pod);
            let conditions = changed
                .status
                .iter_mut()
                .flat_map(|s| s.conditions.iter_mut().flatten());
            for condition in conditions.filter(|c| c.type_ == "Ready") {
                condition.status = "False".to_owned();
                condition.last_transition_time = Some(Time(now));
            }
            match write::update_status(&self.context.client, &*pod, &changed).await {
                Err(error) if client::is_not_found(&error) => {}
                Err(error) => return Err(error),
                Ok(_) => self.events.record(
                    &client::reference(&*pod),
                    EventType::Warning,
                    "NodeNotReady",
                    "Node is not ready",
                ),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn node(ready: &str, spec: Value) -> Node {
        serde_json::from_value(json!({"metadata": {"name": "n"}, "spec": spec, "status":
            {"conditions": [{"type": "Ready", "status": ready}]}}))
        .unwrap()
    }

    #[test]
    fn taints_follow_conditions_and_leave_those_of_others() {
        let other = json!({"key": "mine", "effect": "NoSchedule"});
        let unreachable =
            json!({"key": UNREACHABLE, "effect": "NoExecute", "timeAdded": "2020-01-01T00:00:00Z"});
        let table = [
            ("True", json!({}), ""),
            (
                "True",
                json!({"taints": [other, unreachable]}),
                "mine:NoSchedule",
            ),
            (
                "False",
                json!({}),
                "not-ready:NoSchedule not-ready:NoExecute",
            ),
            (
                "Unknown",
                json!({"taints": [unreachable]}),
                "unreachable:NoExecute unreachable:NoSchedule",
            ),
            (
                "True",
                json!({"unschedulable": true}),
                "unschedulable:NoSchedule",
            ),
        ];
        for (ready, spec, expected) in table {
            let taints = taints(&node(ready, spec.clone()), Timestamp::now());
            let told: Vec<String> = taints
                .iter()
                .map(|t| format!("{}:{}", t.key, t.effect))
                .collect();
            let told = told.join(" ").replace("node.kubernetes.io/", "");
            assert_eq!(told, expected, "{ready} {spec}");
        }
    }

    #[test]
    fn a_silent_node_is_unknown_in_all_it_said() {
        let told = silence(&node("True", json!({})), Timestamp::now());
        assert_eq!(told.len(), 4);
        assert!(told.iter().all(|c| c.status == "Unknown"));
        assert_eq!(told[0].reason.as_deref(), Some("NodeStatusUnknown"));
        assert_eq!(told[1].reason.as_deref(), Some("NodeStatusNeverUpdated"));
    }
}
