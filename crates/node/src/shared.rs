//! What all workers of a node share.
//!
//! Invariant: paths of a pod are a function of its UID, so that they are found
//! again after a crash.

use std::{path::PathBuf, sync::Arc};

use client::{EventType, Events, Informer};
use k8s_openapi::api::core::v1::{Node, ObjectReference, Pod, Service};

use crate::{Config, env::Downward, pull::Puller, refs::Refs};

/// What the host has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Capacity {
    /// CPU in thousandths.
    pub cpu_milli: i64,
    /// Memory in bytes.
    pub memory_bytes: i64,
    /// Disk below the data directory in bytes.
    pub storage_bytes: i64,
}

/// Shared by all workers.
pub(crate) struct Shared {
    /// The node's configuration.
    pub config: Config,
    /// Where events go.
    pub events: Events,
    /// All services, for environment variables.
    pub services: Informer<Service>,
    /// This node's object.
    pub node: Informer<Node>,
    /// Images.
    pub puller: Puller,
    /// Watches on referenced objects.
    pub refs: Refs,
    /// What the host has.
    pub capacity: Capacity,
}

impl Shared {
    /// A pod's volumes and files.
    pub(crate) fn pod_dir(&self, uid: &str) -> PathBuf {
        self.config.data_dir.join("pods").join(uid)
    }

    /// The directory of a pod's shim.
    pub(crate) fn shim_dir(&self, uid: &str) -> PathBuf {
        self.config.run_dir.join("pods").join(uid)
    }

    /// Facts for the downward API.
    pub(crate) fn downward(&self, pod_ips: &[std::net::IpAddr]) -> Downward {
        Downward {
            pod_ips: pod_ips.to_vec(),
            host_ips: self.config.node_ips.clone(),
            node_cpu_milli: self.capacity.cpu_milli,
            node_memory_bytes: self.capacity.memory_bytes,
            node_storage_bytes: self.capacity.storage_bytes,
        }
    }

    /// Records an event about a pod, or one container of it.
    pub(crate) fn event(
        &self,
        pod: &Pod,
        container: Option<&str>,
        kind: EventType,
        reason: &str,
        message: String,
    ) {
        let mut about: ObjectReference = client::reference(pod);
        about.field_path = container.map(|c| field_path(pod, c));
        self.events.record(&about, kind, reason, message);
    }
}

fn field_path(pod: &Pod, container: &str) -> String {
    let Some(spec) = &pod.spec else {
        return String::new();
    };
    let list = if spec
        .init_containers
        .iter()
        .flatten()
        .any(|c| c.name == container)
    {
        "initContainers"
    } else if spec
        .ephemeral_containers
        .iter()
        .flatten()
        .any(|c| c.name == container)
    {
        "ephemeralContainers"
    } else {
        "containers"
    };
    format!("spec.{list}{{{container}}}")
}

/// Shared ownership of it.
pub(crate) type SharedRef = Arc<Shared>;
