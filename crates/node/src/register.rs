//! The Node object: made at start, kept up to date, and the Lease that says "alive".
//!
//! Invariant: the Lease has a task of its own that waits for nothing but the clock
//! and the API.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use k8s_openapi::{
    api::{
        coordination::v1::{Lease, LeaseSpec},
        core::v1::{ContainerImage, Node, NodeAddress, NodeCondition, NodeSpec, NodeStatus},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{MicroTime, OwnerReference, Time},
    },
};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use stdx::Backoff;

use crate::{host, shared::SharedRef, status::whole_second};

/// Namespace of the leases of nodes.
const LEASE_NAMESPACE: &str = "kube-node-lease";
/// How long a lease is good for, in seconds.
const LEASE_SECS: i32 = 40;
/// How often it is renewed.
const RENEW: Duration = Duration::from_secs(10);
/// How often the host is looked at for pressure.
const LOOK: Duration = Duration::from_secs(10);
/// How often the status is written although nothing has changed.
const REPORT: Duration = Duration::from_secs(300);
/// The most images that the Node object lists, and the most names of one.
const MAX_IMAGES: usize = 50;
const MAX_NAMES: usize = 5;

/// The status of the Node object now.
pub(crate) fn status(shared: &SharedRef, before: Option<&NodeStatus>) -> NodeStatus {
    let config = &shared.config;
    let quantity = |text: String| Quantity(text);
    let c = shared.capacity;
    let cpu = if c.cpu_milli % 1000 == 0 {
        (c.cpu_milli / 1000).to_string()
    } else {
        format!("{}m", c.cpu_milli)
    };
    let capacity: std::collections::BTreeMap<String, Quantity> = [
        ("cpu", cpu),
        ("memory", format!("{}Ki", c.memory_bytes / 1024)),
        ("pods", config.max_pods.to_string()),
        ("ephemeral-storage", format!("{}Ki", c.storage_bytes / 1024)),
        ("hugepages-2Mi", "0".to_owned()),
    ]
    .into_iter()
    .map(|(k, v)| (k.to_owned(), quantity(v)))
    .collect();
    let mut addresses: Vec<NodeAddress> = config
        .node_ips
        .iter()
        .map(|ip| NodeAddress {
            type_: "InternalIP".into(),
            address: ip.to_string(),
        })
        .collect();
    addresses.push(NodeAddress {
        type_: "Hostname".into(),
        address: config.node_name.clone(),
    });
    NodeStatus {
        allocatable: Some(capacity.clone()),
        capacity: Some(capacity),
        addresses: Some(addresses),
        conditions: Some(conditions(shared, before)),
        node_info: Some(host::system_info()),
        images: Some(images(shared)),
        daemon_endpoints: serde_json::from_value(
            json!({"kubeletEndpoint": {"Port": config.kubelet_port}}),
        )
        .ok(),
        ..NodeStatus::default()
    }
}

fn conditions(shared: &SharedRef, before: Option<&NodeStatus>) -> Vec<NodeCondition> {
    let now = whole_second(Timestamp::now());
    let p = host::pressure(&shared.config.data_dir);
    let word = |on: bool| if on { "True" } else { "False" };
    let table = [
        (
            "MemoryPressure",
            p.memory,
            if p.memory {
                (
                    "KubeletHasInsufficientMemory",
                    "kubelet has insufficient memory available",
                )
            } else {
                (
                    "KubeletHasSufficientMemory",
                    "kubelet has sufficient memory available",
                )
            },
        ),
        (
            "DiskPressure",
            p.disk,
            if p.disk {
                ("KubeletHasDiskPressure", "kubelet has disk pressure")
            } else {
                ("KubeletHasNoDiskPressure", "kubelet has no disk pressure")
            },
        ),
        (
            "PIDPressure",
            p.pids,
            if p.pids {
                (
                    "KubeletHasInsufficientPID",
                    "kubelet has insufficient PID available",
                )
            } else {
                (
                    "KubeletHasSufficientPID",
                    "kubelet has sufficient PID available",
                )
            },
        ),
        (
            "Ready",
            true,
            ("KubeletReady", "kubelet is posting ready status"),
        ),
    ];
    let old = before
        .and_then(|b| b.conditions.as_deref())
        .unwrap_or_default();
    table
        .into_iter()
        .map(|(kind, on, (reason, message))| {
            let same = old.iter().find(|c| c.type_ == kind && c.status == word(on));
            let since = same
                .and_then(|c| c.last_transition_time.clone())
                .unwrap_or(Time(now));
            NodeCondition {
                type_: kind.to_owned(),
                status: word(on).to_owned(),
                reason: Some(reason.to_owned()),
                message: Some(message.to_owned()),
                last_heartbeat_time: Some(Time(now)),
                last_transition_time: Some(since),
            }
        })
        .collect()
}

fn images(shared: &SharedRef) -> Vec<ContainerImage> {
    let mut all = shared.config.images.list();
    all.sort_by_key(|i| std::cmp::Reverse(i.size_bytes));
    all.truncate(MAX_IMAGES);
    all.iter()
        .map(|i| ContainerImage {
            names: Some(
                i.digests
                    .iter()
                    .chain(&i.tags)
                    .take(MAX_NAMES)
                    .cloned()
                    .collect(),
            ),
            size_bytes: i64::try_from(i.size_bytes).ok(),
        })
        .filter(|i| i.names.as_ref().is_some_and(|n| !n.is_empty()))
        .collect()
}

fn object(shared: &SharedRef) -> Node {
    let config = &shared.config;
    let mut labels = config.labels.clone();
    for prefix in ["", "beta."] {
        labels.insert(format!("{prefix}kubernetes.io/os"), "linux".into());
        labels.insert(
            format!("{prefix}kubernetes.io/arch"),
            host::architecture().into(),
        );
    }
    labels.insert("kubernetes.io/hostname".into(), config.node_name.clone());
    let mut node = Node::default();
    node.metadata.name = Some(config.node_name.clone());
    node.metadata.labels = Some(labels);
    if !config.pod_cidrs.is_empty() {
        let spec = NodeSpec {
            pod_cidr: config.pod_cidrs.first().cloned(),
            pod_cidrs: Some(config.pod_cidrs.clone()),
            ..NodeSpec::default()
        };
        node.spec = Some(spec);
    }
    node
}

/// Makes or updates the Node object and its status; returns its UID.
///
/// # Errors
/// When the API refuses.
pub(crate) async fn register(shared: &SharedRef) -> Result<Node, kube::Error> {
    let api: Api<Node> = Api::all(shared.config.client.clone());
    let name = &shared.config.node_name;
    let mut wanted = object(shared);
    let existing = api.get_opt(name).await?;
    let before = existing.as_ref().and_then(|n| n.status.clone());
    if existing.is_none() {
        // With its status at once: one write, and the node is Ready.
        wanted.status = Some(status(shared, None));
        match api.create(&PostParams::default(), &wanted).await {
            Ok(made) if made.status.as_ref().is_some_and(|s| s.node_info.is_some()) => {
                return Ok(made);
            }
            Ok(_) => {}
            Err(kube::Error::Api(s)) if s.code == 409 => {}
            Err(e) => return Err(e),
        }
    } else {
        let patch = json!({"metadata": {"labels": wanted.metadata.labels}, "spec": wanted.spec});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
    }
    write(shared, &api, &status(shared, before.as_ref())).await
}

async fn write(
    shared: &SharedRef,
    api: &Api<Node>,
    status: &NodeStatus,
) -> Result<Node, kube::Error> {
    let patch = json!({"status": status});
    // Conditions and addresses are merged by type, images replaced as a whole.
    api.patch_status(
        &shared.config.node_name,
        &PatchParams::default(),
        &Patch::Strategic(patch),
    )
    .await
}

/// Keeps the status up to date: at once when something has changed, else every few minutes.
pub(crate) async fn keep_status(shared: SharedRef) {
    let drain = shared.config.drain.clone();
    let api: Api<Node> = Api::all(shared.config.client.clone());
    let mut known: Option<NodeStatus> = None;
    let mut written = tokio::time::Instant::now();
    loop {
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let next = {
            let (shared, before) = (Arc::clone(&shared), known.clone());
            tokio::task::spawn_blocking(move || status(&shared, before.as_ref())).await
        };
        let Ok(next) = next else { return };
        let same = known.as_ref().is_some_and(|k| quiet(k) == quiet(&next));
        if same && written.elapsed() < REPORT {
            continue;
        }
        let lost =
            known.is_none() && !matches!(api.get_opt(&shared.config.node_name).await, Ok(Some(_)));
        let result = if lost {
            register(&shared).await
        } else {
            write(&shared, &api, &next).await
        };
        match result {
            Ok(_) => {
                known = Some(next);
                written = tokio::time::Instant::now();
            }
            Err(error) => {
                tracing::warn!(error = stdx::chain(&error), "node status not written");
                known = None;
            }
        }
    }
}

/// A status without its heartbeats.
fn quiet(status: &NodeStatus) -> NodeStatus {
    let mut status = status.clone();
    for c in status.conditions.iter_mut().flatten() {
        c.last_heartbeat_time = None;
    }
    status
}

/// Renews the node's Lease until the drain.
pub(crate) async fn heartbeat(shared: SharedRef, node_uid: String) {
    let drain = shared.config.drain.clone();
    let api: Api<Lease> = Api::namespaced(shared.config.client.clone(), LEASE_NAMESPACE);
    let mut backoff = Backoff::new(Duration::from_millis(200), Duration::from_secs(7));
    loop {
        let wait = match renew(&shared, &api, &node_uid).await {
            Ok(()) => {
                backoff.reset();
                RENEW
            }
            Err(error) => {
                tracing::warn!(error = stdx::chain(&error), "lease not renewed");
                backoff.next()
            }
        };
        tokio::select! {
            () = drain.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

async fn renew(shared: &SharedRef, api: &Api<Lease>, node_uid: &str) -> Result<(), kube::Error> {
    let name = &shared.config.node_name;
    let spec = LeaseSpec {
        holder_identity: Some(name.clone()),
        lease_duration_seconds: Some(LEASE_SECS),
        renew_time: Some(MicroTime(Timestamp::now())),
        ..LeaseSpec::default()
    };
    let patch = json!({"spec": spec});
    match api
        .patch(name, &PatchParams::default(), &Patch::Merge(patch))
        .await
    {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(s)) if s.code == 404 => {}
        Err(e) => return Err(e),
    }
    let mut lease = Lease {
        spec: Some(spec),
        ..Lease::default()
    };
    lease.metadata.name = Some(name.clone());
    lease.metadata.namespace = Some(LEASE_NAMESPACE.into());
    lease.metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".into(),
        kind: "Node".into(),
        name: name.clone(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    }]);
    api.create(&PostParams::default(), &lease).await.map(drop)
}
