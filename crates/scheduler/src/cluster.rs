//! The scheduler's view of the cluster: nodes, and what the pods on them take.
//!
//! Invariant: each pod counts against at most one node; a pod that was decided counts from the
//! decision on, until its binding fails or the pod is gone.

use crate::resources::{Resources, pod_requests, pod_usage};
use k8s_openapi::api::core::v1::{Node, Pod};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// A host port: address ("" and "0.0.0.0" are every address), protocol, port.
pub(crate) type HostPort = (String, String, i32);

/// A node and what is taken of it.
#[derive(Debug, Clone, Default)]
pub struct NodeView {
    /// The node; `None` while only pods of it are known.
    pub node: Option<Arc<Node>>,
    /// What it offers to pods.
    pub allocatable: Resources,
    /// What its pods ask for.
    pub requested: Resources,
    /// The same, counting a little for those who ask for nothing.
    pub used: Resources,
    /// The pods that count, by uid.
    pub pods: HashMap<String, Arc<Pod>>,
    /// Host ports in use, with the number of users.
    pub(crate) ports: HashMap<HostPort, u32>,
}

/// Nodes and the pods on them.
#[derive(Debug, Default)]
pub struct Cluster {
    nodes: BTreeMap<String, NodeView>,
    places: HashMap<String, String>,
}

impl Cluster {
    /// The nodes that exist, by name.
    pub fn nodes(&self) -> impl Iterator<Item = (&str, &NodeView)> {
        self.nodes
            .iter()
            .filter(|(_, v)| v.node.is_some())
            .map(|(n, v)| (n.as_str(), v))
    }

    /// Adds or changes a node.
    pub fn set_node(&mut self, node: Arc<Node>) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let view = self.nodes.entry(name).or_default();
        view.allocatable = Resources::of(node.status.as_ref().and_then(|s| s.allocatable.as_ref()));
        view.node = Some(node);
    }

    /// Forgets a node, but not the pods that still name it.
    pub fn remove_node(&mut self, name: &str) {
        if let Some(view) = self.nodes.get_mut(name) {
            view.node = None;
            if view.pods.is_empty() {
                self.nodes.remove(name);
            }
        }
    }

    /// Counts `pod` against `node`, instead of where it counted before.
    pub fn place(&mut self, pod: Arc<Pod>, node: &str) {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        self.remove_pod(&uid);
        let view = self.nodes.entry(node.to_owned()).or_default();
        view.requested.add(&pod_requests(&pod));
        view.used.add(&pod_usage(&pod));
        for port in host_ports(&pod) {
            *view.ports.entry(port).or_default() += 1;
        }
        view.pods.insert(uid.clone(), pod);
        self.places.insert(uid, node.to_owned());
    }

    /// The pod counts no more; answers whether it did.
    pub fn remove_pod(&mut self, uid: &str) -> bool {
        let Some(name) = self.places.remove(uid) else {
            return false;
        };
        let Some(view) = self.nodes.get_mut(&name) else {
            return false;
        };
        let Some(pod) = view.pods.remove(uid) else {
            return false;
        };
        view.requested.subtract(&pod_requests(&pod));
        view.used.subtract(&pod_usage(&pod));
        for port in host_ports(&pod) {
            if let Some(count) = view.ports.get_mut(&port) {
                *count -= 1;
                if *count == 0 {
                    view.ports.remove(&port);
                }
            }
        }
        if view.pods.is_empty() && view.node.is_none() {
            self.nodes.remove(&name);
        }
        true
    }

    /// The node that the pod with this uid counts against.
    pub fn place_of(&self, uid: &str) -> Option<&str> {
        self.places.get(uid).map(String::as_str)
    }
}

/// The host ports that a pod wants.
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let port = p.host_port.filter(|port| *port > 0)?;
            let address = p
                .host_ip
                .clone()
                .filter(|ip| ip != "0.0.0.0")
                .unwrap_or_default();
            let protocol = p.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
            Some((address, protocol, port))
        })
        .collect()
}

/// Whether `wanted` collides with a port in use.
pub(crate) fn port_taken(used: &HashMap<HostPort, u32>, wanted: &HostPort) -> bool {
    let (address, protocol, port) = wanted;
    used.keys().any(|(a, pr, p)| {
        p == port && pr == protocol && (a == address || a.is_empty() || address.is_empty())
    })
}
