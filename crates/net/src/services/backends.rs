//! Which endpoints serve a port of a Service.

use crate::config::Protocol;
use k8s_openapi::api::core::v1::ServicePort;
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointSlice};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;

/// An address and port that traffic can go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Backend {
    pub(super) ip: Ipv4Addr,
    pub(super) port: u16,
}

/// The backends of one port.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Backends {
    /// In the whole cluster.
    pub(super) cluster: BTreeSet<Backend>,
    /// On this node.
    pub(super) local: BTreeSet<Backend>,
}

/// Chooses among the endpoints of a Service's slices: those that are ready, or, if there
/// is none, those that still serve while they terminate; in the cluster and on `node`
/// each by itself. A slice's port belongs to the Service's port of the same name.
pub(super) fn of_port<'a>(
    port: &ServicePort,
    slices: impl Iterator<Item = &'a EndpointSlice>,
    publish_not_ready: bool,
    node: &str,
) -> Backends {
    let protocol = Protocol::parse(port.protocol.as_deref());
    let name = port.name.as_deref().unwrap_or_default();
    let mut ready = Backends::default();
    let mut terminating = Backends::default();
    for slice in slices.filter(|s| s.address_type == "IPv4") {
        let numbers: Vec<u16> = slice
            .ports
            .iter()
            .flatten()
            .filter(|p| p.name.as_deref().unwrap_or_default() == name)
            .filter(|p| Protocol::parse(p.protocol.as_deref()) == protocol)
            .filter_map(|p| u16::try_from(p.port?).ok())
            .collect();
        for endpoint in slice.endpoints.iter().flatten() {
            let chosen = match state(endpoint, publish_not_ready) {
                State::Ready => &mut ready,
                State::ServingWhileTerminating => &mut terminating,
                State::Unusable => continue,
            };
            let local = endpoint.node_name.as_deref() == Some(node);
            let ips = endpoint.addresses.iter().filter_map(|a| a.parse().ok());
            for ip in ips {
                for &port in &numbers {
                    chosen.cluster.insert(Backend { ip, port });
                    if local {
                        chosen.local.insert(Backend { ip, port });
                    }
                }
            }
        }
    }
    let first = |a: BTreeSet<Backend>, b| if a.is_empty() { b } else { a };
    Backends {
        cluster: first(ready.cluster, terminating.cluster),
        local: first(ready.local, terminating.local),
    }
}

enum State {
    Ready,
    ServingWhileTerminating,
    Unusable,
}

fn state(endpoint: &Endpoint, publish_not_ready: bool) -> State {
    let conditions = endpoint.conditions.clone().unwrap_or_default();
    let ready = conditions.ready.unwrap_or(true);
    if ready || publish_not_ready {
        State::Ready
    } else if conditions.serving.unwrap_or(ready) && conditions.terminating == Some(true) {
        State::ServingWhileTerminating
    } else {
        State::Unusable
    }
}
