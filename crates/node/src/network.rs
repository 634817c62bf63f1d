//! The seam between the node and whatever gives pods their network.
//!
//! Invariant: the node never programs links, addresses or rules itself; it only
//! tells a [`PodNetwork`] which network namespace belongs to which pod.

use std::{collections::HashSet, net::IpAddr, path::PathBuf};

use futures::future::BoxFuture;

/// One hostPort of a pod, to be forwarded to the pod's address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// Address on the host; `None` means every address.
    pub host_ip: Option<IpAddr>,
    /// Port on the host.
    pub host_port: u16,
    /// Port inside the pod.
    pub container_port: u16,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
}

/// The pod a network is attached to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodRef {
    /// Namespace of the pod.
    pub namespace: String,
    /// Name of the pod.
    pub name: String,
    /// UID of the pod: the key of everything that is kept for it.
    pub uid: String,
    /// Host ports to forward.
    pub host_ports: Vec<HostPort>,
}

/// What goes into the `resolv.conf` of a pod whose DNS policy is `ClusterFirst`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// Addresses of the cluster's DNS servers.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain, e.g. `cluster.local`.
    pub search_domain: String,
}

/// Why a pod could not be given or relieved of its network.
#[derive(Debug, thiserror::Error)]
#[error("pod network: {operation} for pod {uid}")]
pub struct NetworkError {
    /// What was tried: `attach`, `detach` or `retain`.
    pub operation: &'static str,
    /// UID of the pod, or empty for `retain`.
    pub uid: String,
    /// What went wrong below.
    #[source]
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// Gives pods their addresses. The binary adapts the network crate to it.
pub trait PodNetwork: Send + Sync {
    /// Attaches the network namespace at `netns`; idempotent for one UID.
    fn attach(
        &self,
        pod: PodRef,
        netns: PathBuf,
    ) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>>;
    /// Frees whatever was attached for `uid`; idempotent.
    fn detach<'a>(&'a self, uid: &'a str) -> BoxFuture<'a, Result<(), NetworkError>>;
    /// Frees everything that belongs to other pods than these. Called once, at start.
    fn retain<'a>(&'a self, uids: &'a HashSet<String>) -> BoxFuture<'a, Result<(), NetworkError>>;
    /// The addresses of an attached pod.
    fn address(&self, uid: &str) -> Option<Vec<IpAddr>>;
    /// What pods put in their `resolv.conf`.
    fn dns(&self) -> DnsConfig;
}
