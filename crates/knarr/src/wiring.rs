//! Where parts that do not know each other meet: clients in process, the way to the node,
//! the pod network.

use std::collections::HashSet;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use apiserver::{ApiServer, NodeDialer, Stream, User};
use client::Client;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::HeaderValue;
use http::header::USER_AGENT;
use http_body_util::BodyExt as _;
use net::PodNet;
use node::{DnsConfig, KubeletService, NetworkError, PodNetwork, PodRef};

/// Bytes that wait in the pipe between the API server and the node.
const PIPE_BYTES: usize = 64 << 10;

/// A client of the server in this process, as this user and under the name of this program, whose
/// fields its writes are. No TLS, no sockets; the same pipeline.
pub(crate) fn client_as(server: &Arc<ApiServer>, user: User, program: &'static str) -> Client {
    let server = server.clone();
    client::in_process(tower::service_fn(
        move |request: http::Request<kube::client::Body>| {
            let server = server.clone();
            let user = user.clone();
            async move {
                let (mut parts, body) = request.into_parts();
                parts.extensions.insert(user);
                let agent = parts.headers.entry(USER_AGENT);
                agent.or_insert(HeaderValue::from_static(program));
                let body = body.map_err(Into::into).boxed_unsync();
                let answer = server.handle(http::Request::from_parts(parts, body)).await;
                Ok::<_, std::convert::Infallible>(answer)
            }
        },
    ))
}

/// A user of the control plane.
pub(crate) fn user(name: &str, groups: &[&str]) -> User {
    let groups = groups.iter().chain(&["system:authenticated"]);
    User {
        name: name.to_owned(),
        groups: groups.map(|group| (*group).to_owned()).collect(),
        ..User::default()
    }
}

/// Clients that speak as the service accounts of controllers.
pub(crate) fn accounts(server: &Arc<ApiServer>) -> controllers::Accounts {
    let server = server.clone();
    Arc::new(move |account| {
        let groups = [
            "system:serviceaccounts",
            "system:serviceaccounts:kube-system",
        ];
        let name = format!("system:serviceaccount:kube-system:{account}");
        client_as(&server, user(&name, &groups), CONTROLLERS)
    })
}

/// The program that controllers are, to the owners of fields.
pub(crate) const CONTROLLERS: &str = "kube-controller-manager";

/// Reaches the node in this process through a pipe. The node starts after the server, so it
/// is put in later.
#[derive(Clone)]
pub(crate) struct LocalNode {
    name: String,
    kubelet: Arc<OnceLock<KubeletService>>,
}

impl LocalNode {
    /// A node of this name, not there yet.
    pub(crate) fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            kubelet: Arc::default(),
        }
    }

    /// The node is there.
    pub(crate) fn put(&self, kubelet: KubeletService) {
        // A second node in one process would be a mistake of ours; the first stays.
        let _first = self.kubelet.set(kubelet);
    }
}

impl NodeDialer for LocalNode {
    fn dial(&self, node: &str) -> BoxFuture<'static, io::Result<Box<dyn Stream>>> {
        let kubelet = (node == self.name)
            .then(|| self.kubelet.get().cloned())
            .flatten();
        let node = node.to_owned();
        async move {
            let kubelet = kubelet.ok_or_else(|| {
                io::Error::new(
                    io::ErrorKind::NotConnected,
                    format!("node {node} is not connected to this server"),
                )
            })?;
            let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
            // Ends when either side of the pipe is dropped.
            tokio::spawn(async move { kubelet.serve(theirs).await });
            Ok(Box::new(ours) as Box<dyn Stream>)
        }
        .boxed()
    }
}

/// The pod network of this process, as the node knows it.
pub(crate) struct Network(pub(crate) PodNet);

impl PodNetwork for Network {
    fn attach(
        &self,
        pod: PodRef,
        netns: PathBuf,
    ) -> BoxFuture<'_, Result<Vec<IpAddr>, NetworkError>> {
        async move {
            let host_ports: Vec<_> = pod.host_ports.iter().filter_map(host_port).collect();
            self.0
                .attach(&pod.uid, &pod.namespace, &pod.name, &host_ports, &netns)
                .await
                .map_err(|source| failed("attach", &pod.uid, source))
        }
        .boxed()
    }

    fn detach<'a>(&'a self, uid: &'a str) -> BoxFuture<'a, Result<(), NetworkError>> {
        async move {
            self.0
                .detach(uid)
                .await
                .map_err(|source| failed("detach", uid, source))
        }
        .boxed()
    }

    fn retain<'a>(&'a self, uids: &'a HashSet<String>) -> BoxFuture<'a, Result<(), NetworkError>> {
        async move {
            self.0
                .retain(uids)
                .await
                .map_err(|source| failed("retain", "", source))
        }
        .boxed()
    }

    fn address(&self, uid: &str) -> Option<Vec<IpAddr>> {
        self.0.address(uid)
    }

    fn dns(&self) -> DnsConfig {
        let net::DnsConfig { servers, domain } = self.0.dns();
        DnsConfig {
            servers,
            search_domain: domain,
        }
    }
}

/// The API has validated the protocol; what it let through and the network does not know is
/// not forwarded.
fn host_port(port: &node::HostPort) -> Option<net::HostPort> {
    Some(net::HostPort {
        host_ip: port.host_ip,
        host_port: port.host_port,
        container_port: port.container_port,
        protocol: net::Protocol::parse(Some(&port.protocol))?,
    })
}

fn failed(operation: &'static str, uid: &str, source: net::NetError) -> NetworkError {
    NetworkError {
        operation,
        uid: uid.to_owned(),
        source: Box::new(source),
    }
}
