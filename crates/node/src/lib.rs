//! The kubelet's part: runs the pods that are bound to one node.
//!
//! Invariants: one serial worker a pod UID; every status is derived from what the
//! kernel and the shim report, never invented; only the node finalises a pod;
//! the heartbeat is never blocked by pod work.

mod admit;
mod container;
mod dns;
mod env;
mod exec;
mod fdio;
mod fields;
mod hooks;
mod host;
mod identity;
mod logs;
mod network;
mod node;
mod plan;
mod pods;
mod probe;
mod pull;
mod refs;
mod register;
mod resources;
mod security;
mod server;
mod shared;
mod spdy;
mod state;
mod status;
mod volumes;
mod worker;

use std::{net::IpAddr, path::PathBuf, sync::Arc};

use tokio_util::sync::CancellationToken;

pub use network::{DnsConfig, HostPort, NetworkError, PodNetwork, PodRef};
pub use node::Node;
pub use server::KubeletService;

/// Everything a node needs to know at start.
#[derive(Clone)]
pub struct Config {
    /// Name of the Node object.
    pub node_name: String,
    /// Addresses of the host, the first is the primary one.
    pub node_ips: Vec<IpAddr>,
    /// Persistent state: pod volumes.
    pub data_dir: PathBuf,
    /// State that dies with the boot: shim directories.
    pub run_dir: PathBuf,
    /// Where CRI logs go, usually `/var/log/pods`.
    pub log_dir: PathBuf,
    /// Short name of this instance, part of every host object's name.
    pub instance: String,
    /// The binary that is run as `knarr shim`.
    pub exe: PathBuf,
    /// The image store.
    pub images: image::Images,
    /// The pod network.
    pub network: Arc<dyn PodNetwork>,
    /// How the API is reached.
    pub client: client::Client,
    /// The process's shared caches.
    pub informers: client::Informers,
    /// Cancelled when the node is to stop; pods keep running.
    pub drain: CancellationToken,
    /// How many pods fit on the node.
    pub max_pods: u32,
    /// Pod address ranges, written into the Node object.
    pub pod_cidrs: Vec<String>,
    /// Extra labels of the Node object.
    pub labels: std::collections::BTreeMap<String, String>,
    /// Port shown in the Node object's `daemonEndpoints`.
    pub kubelet_port: u16,
}

/// Why the node could not be started.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A directory could not be made or read.
    #[error("{}", path.display())]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The API refused the Node object.
    #[error("register node {node}")]
    Register {
        /// Name of the node.
        node: String,
        /// What the API said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
