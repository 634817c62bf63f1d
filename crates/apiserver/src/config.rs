//! What the binary hands to the API server, and the seam to the nodes.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::Arc;

use futures::future::BoxFuture;
use ipnet::IpNet;
use store::Store;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::audit;
use crate::auth::chain::Authentication;
use crate::fairness::FairnessOptions;

/// A byte stream to a node's kubelet API.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How the server reaches a node's kubelet API; HTTP/1.1 is spoken over the stream.
pub trait NodeDialer: Send + Sync {
    /// Opens a fresh stream to the kubelet API of the node of this name.
    fn dial(&self, node: &str) -> BoxFuture<'static, std::io::Result<Box<dyn Stream>>>;
}

/// The other end of a connection, as a request extension.
#[derive(Clone, Copy, Debug)]
pub struct PeerAddress(pub IpAddr);

/// As whom this server speaks to aggregated API servers.
#[derive(Debug, Clone)]
pub struct FrontProxy {
    /// The authority of its certificate, PEM.
    pub ca_pem: String,
    /// The common name in its certificate.
    pub name: String,
    /// The newest certificate.
    pub identity: watch::Receiver<pki::KeyPair>,
}

/// Everything that [`ApiServer::start`](crate::ApiServer::start) needs.
pub struct Config {
    /// Where objects are kept.
    pub store: Store,
    /// Signs and verifies service account tokens.
    pub tokens: Arc<pki::TokenKeys>,
    /// The cluster's CA certificate(s), PEM.
    pub ca_pem: String,
    /// Addresses for Services; the first one is `default/kubernetes`.
    pub service_cidr: IpNet,
    /// Ports for Services of type NodePort.
    pub node_ports: RangeInclusive<u16>,
    /// The issuer of service account tokens, such as
    /// `https://kubernetes.default.svc.cluster.local`.
    pub issuer: String,
    /// Audiences that identify this API server in tokens; the issuer when empty.
    pub audiences: Vec<String>,
    /// The address at which pods reach this server (the endpoint of `default/kubernetes`).
    pub advertise: SocketAddr,
    /// How to reach the nodes.
    pub dialer: Arc<dyn NodeDialer>,
    /// How callers may show who they are. Requests without credentials run as `system:anonymous`
    /// where that is enabled (else 401), health and version paths apart.
    pub authentication: Authentication,
    /// As whom to speak to aggregated API servers; they believe nobody where it is absent.
    pub front_proxy: Option<FrontProxy>,
    /// How admission is set up.
    pub admission: Admission,
    /// How the server's seats are shared.
    pub fairness: FairnessOptions,
    /// What is written to the audit log, and where.
    pub audit: audit::Options,
    /// Cancelled when the process shuts down: ends watches and connections.
    pub drain: CancellationToken,
}
