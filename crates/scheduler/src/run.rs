//! The loop: takes the most important waiting pod, decides, and binds without waiting for the
//! bindings before.

use crate::cluster::Cluster;
use crate::queue::Queue;
use crate::{NAME, bind, plan};
use client::{Client, EventType, Events, Informer, Informers, Key, Source};
use k8s_openapi::api::core::v1::{Node, Pod};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, debug, error_span, info, warn};

/// Writes that are under way at once.
const IN_FLIGHT: usize = 64;

#[derive(Default)]
struct State {
    cluster: Cluster,
    queue: Queue,
    decisions: u64,
}

struct Scheduler {
    client: Client,
    events: Events,
    pods: Informer<Pod>,
    state: Mutex<State>,
    changed: Notify,
}

/// Runs the default scheduler until `drain` is cancelled.
pub async fn run(client: Client, informers: Informers, drain: CancellationToken) {
    let source = Source {
        component: NAME.to_owned(),
        host: None,
    };
    let scheduler = Arc::new(Scheduler {
        events: Events::start(client.clone(), source, drain.clone()),
        client,
        pods: informers.get::<Pod>(),
        state: Mutex::default(),
        changed: Notify::new(),
    });
    let nodes = informers.get::<Node>();
    let observer = scheduler.clone();
    nodes.on_change(move |old, new| observer.node_changed(old.map(|n| &**n), new));
    let observer = scheduler.clone();
    scheduler
        .pods
        .on_change(move |old, new| observer.pod_changed(old, new));
    let synced = async {
        nodes.synced().await;
        scheduler.pods.synced().await;
    };
    if drain.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let mut writes = JoinSet::new();
    loop {
        tokio::select! {
            () = drain.cancelled() => break,
            Some(_) = writes.join_next(), if !writes.is_empty() => {}
            key = scheduler.next(), if writes.len() < IN_FLIGHT => {
                scheduler.schedule(key, &mut writes);
            }
        }
    }
    while writes.join_next().await.is_some() {}
}

impl Scheduler {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next pod to decide about. Cancel-safe.
    async fn next(&self) -> Key {
        loop {
            let changed = self.changed.notified();
            let next = self.state().queue.take(Instant::now());
            match next {
                Ok(key) => return key,
                Err(None) => changed.await,
                Err(Some(at)) => {
                    tokio::select! {
                        () = changed => {}
                        () = sleep_until(at) => {}
                    }
                }
            }
        }
    }

    fn node_changed(&self, old: Option<&Node>, new: Option<&Arc<Node>>) {
        let mut state = self.state();
        match (old, new) {
            (old, Some(new)) => {
                state.cluster.set_node(new.clone());
                if old.is_none_or(|old| may_fit_more(old, new)) {
                    state.queue.wake(Instant::now());
                    drop(state);
                    self.changed.notify_one();
                }
            }
            (Some(old), None) => {
                state
                    .cluster
                    .remove_node(old.metadata.name.as_deref().unwrap_or_default());
            }
            (None, None) => {}
        }
    }

    fn pod_changed(&self, old: Option<&Arc<Pod>>, new: Option<&Arc<Pod>>) {
        let Some(pod) = new.or(old) else { return };
        let (key, now) = (Key::of(&**pod), Instant::now());
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut state = self.state();
        let wake = match new {
            None => {
                state.queue.remove(&key);
                state.cluster.remove_pod(uid)
            }
            Some(new) if is_terminal(new) => {
                state.queue.remove(&key);
                state.cluster.remove_pod(uid)
            }
            Some(new) => match node_of(new) {
                Some(node) => {
                    state.queue.remove(&key);
                    let shrunk = old.is_some_and(|old| {
                        node_of(old).is_some()
                            && crate::pod_requests(old) != crate::pod_requests(new)
                    });
                    state.cluster.place(new.clone(), node);
                    shrunk
                }
                None if !is_ours(new) => {
                    state.queue.remove(&key);
                    false
                }
                None => {
                    // A change of status alone (our own condition) makes nothing fit.
                    let same = old.is_some_and(|old| {
                        old.spec == new.spec && old.metadata.labels == new.metadata.labels
                    });
                    if !same {
                        state.queue.add(key, priority(new), now);
                        drop(state);
                        self.changed.notify_one();
                    }
                    return;
                }
            },
        };
        if wake {
            state.queue.wake(now);
            drop(state);
            self.changed.notify_one();
        }
    }

    fn schedule(self: &Arc<Self>, key: Key, writes: &mut JoinSet<()>) {
        let Some(pod) = self
            .pods
            .get_key(&key)
            .filter(|p| is_ours(p) && node_of(p).is_none())
        else {
            return self.state().queue.remove(&key);
        };
        let started = Instant::now();
        let decision = {
            let mut state = self.state();
            state.decisions = state.decisions.wrapping_add(1);
            // A fair tie-break that a test can repeat: the golden ratio's multiples are spread.
            let tie = state.decisions.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
            let decision = plan(&pod, state.cluster.nodes(), tie);
            match &decision {
                Ok(node) => state.cluster.place(pod.clone(), node),
                Err(_) => state.queue.park(&key, started),
            }
            decision
        };
        let span = error_span!("schedule", pod = %key);
        let scheduler = self.clone();
        writes.spawn(
            async move {
                match decision {
                    Ok(node) => scheduler.bind(&pod, &node).await,
                    Err(failed) => scheduler.refuse(&pod, &failed.to_string()).await,
                }
            }
            .instrument(span),
        );
    }

    async fn bind(&self, pod: &Pod, node: &str) {
        let key = Key::of(pod);
        match bind::bind(&self.client, pod, node).await {
            Ok(()) => {
                info!(node, "bound");
                let message = format!("Successfully assigned {key} to {node}");
                self.events.record(
                    &client::reference(pod),
                    EventType::Normal,
                    "Scheduled",
                    message,
                );
            }
            Err(error) => {
                let gone = client::is_not_found(&error);
                // A pod that has got a node meanwhile counts there: the cache will say so.
                let uid = pod.metadata.uid.as_deref().unwrap_or_default();
                {
                    let mut state = self.state();
                    let known = self.pods.get_key(&key);
                    if known.is_none_or(|p| node_of(&p).is_none()) {
                        state.cluster.remove_pod(uid);
                    }
                    if !gone {
                        state.queue.retry(&key, Instant::now());
                    }
                    state.queue.wake(Instant::now());
                }
                self.changed.notify_one();
                if gone {
                    debug!(node, "the pod is gone");
                } else {
                    let error = stdx::chain(&error);
                    warn!(node, error, "binding failed; trying again");
                    self.events.record(
                        &client::reference(pod),
                        EventType::Warning,
                        "FailedScheduling",
                        error,
                    );
                }
            }
        }
    }

    async fn refuse(&self, pod: &Pod, message: &str) {
        info!(message, "no node fits");
        let object = client::reference(pod);
        self.events
            .record(&object, EventType::Warning, "FailedScheduling", message);
        if let Err(error) =
            bind::mark_unschedulable(&self.client, pod, "Unschedulable", message).await
            && !client::is_not_found(&error)
        {
            warn!(error = stdx::chain(&error), "the condition is not written");
        }
    }
}

/// Whether a change of a node can make a pod fit that did not.
fn may_fit_more(old: &Node, new: &Node) -> bool {
    let allocatable = |n: &Node| n.status.as_ref().and_then(|s| s.allocatable.clone());
    old.spec != new.spec
        || old.metadata.labels != new.metadata.labels
        || allocatable(old) != allocatable(new)
}

fn node_of(pod: &Pod) -> Option<&str> {
    pod.spec
        .as_ref()?
        .node_name
        .as_deref()
        .filter(|n| !n.is_empty())
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|s| s.priority).unwrap_or(0)
}

fn is_terminal(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// Whether the pod waits for this scheduler.
fn is_ours(pod: &Pod) -> bool {
    let Some(spec) = &pod.spec else { return false };
    pod.metadata.deletion_timestamp.is_none()
        && !is_terminal(pod)
        && spec
            .scheduler_name
            .as_deref()
            .is_none_or(|s| s.is_empty() || s == NAME)
        && spec
            .scheduling_gates
            .as_deref()
            .unwrap_or_default()
            .is_empty()
}
