//! What a node's network is configured with, and the addresses and names that
//! follow from it.

use crate::NetError;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// Longest interface name that the kernel takes (IFNAMSIZ without its NUL).
const INTERFACE_NAME_MAX: usize = 15;

/// Settings of one node's network.
#[derive(Debug, Clone)]
pub struct Config {
    /// Short name of this installation on the host: part of the name of every
    /// kernel object that it makes. At most 12 of `[a-z0-9-]`.
    pub instance: String,
    /// Name of this node, as EndpointSlices carry it.
    pub node_name: String,
    /// Address of this node.
    pub node_ip: IpAddr,
    /// The range that this node's pods get their addresses from.
    pub pod_cidr: IpNet,
    /// The range of the Services' cluster addresses.
    pub service_cidr: IpNet,
    /// Directory of the installation; the network keeps its state in `net/` there.
    pub data_dir: PathBuf,
    /// DNS domain of the cluster, `cluster.local` unless changed.
    pub cluster_domain: String,
    /// Nameservers for names outside of the cluster; empty: those of
    /// `/etc/resolv.conf`.
    pub upstreams: Vec<SocketAddr>,
    /// MTU of the pods' interfaces in bytes; `None`: that of the default route.
    pub mtu: Option<u32>,
}

impl Config {
    /// Checks the settings and derives the addresses from them.
    pub(crate) fn layout(&self) -> Result<Layout, NetError> {
        let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        let bridge = bridge_name(&self.instance);
        if self.instance.is_empty()
            || !self.instance.chars().all(valid)
            || bridge.len() > INTERFACE_NAME_MAX
        {
            return Err(NetError::BadInstance {
                instance: self.instance.clone(),
            });
        }
        let pod_cidr = ipv4(self.pod_cidr, "--pod-cidr")?;
        let service_cidr = ipv4(self.service_cidr, "--service-cidr")?;
        if pod_cidr.prefix_len() > 29 {
            return Err(NetError::RangeTooSmall {
                range: self.pod_cidr,
                flag: "--pod-cidr",
                longest: 29,
            });
        }
        if service_cidr.prefix_len() > 28 {
            return Err(NetError::RangeTooSmall {
                range: self.service_cidr,
                flag: "--service-cidr",
                longest: 28,
            });
        }
        if pod_cidr.contains(&service_cidr) || service_cidr.contains(&pod_cidr) {
            return Err(NetError::RangesOverlap {
                pod: self.pod_cidr,
                service: self.service_cidr,
            });
        }
        Ok(Layout {
            bridge,
            table: table_name(&self.instance),
            pods_table: pods_table_name(&self.instance),
            gateway: nth(pod_cidr, 1),
            dns: nth(service_cidr, 10),
            pod_cidr,
            service_cidr,
        })
    }
}

/// Names and addresses that follow from a [`Config`].
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    /// The bridge.
    pub(crate) bridge: String,
    /// nft table of the Services.
    pub(crate) table: String,
    /// nft table of the pod network (masquerade, host ports).
    pub(crate) pods_table: String,
    /// Range of the pods.
    pub(crate) pod_cidr: Ipv4Net,
    /// Range of the Services.
    pub(crate) service_cidr: Ipv4Net,
    /// First address of the pod range: the pods' gateway, on the bridge.
    pub(crate) gateway: Ipv4Addr,
    /// Tenth address of the service range: the DNS server, on the bridge too.
    pub(crate) dns: Ipv4Addr,
}

/// The bridge of an instance.
pub(crate) fn bridge_name(instance: &str) -> String {
    format!("kn-{instance}")
}

/// The nft table of an instance's Services.
pub(crate) fn table_name(instance: &str) -> String {
    format!("knarr-{instance}")
}

/// The nft table of an instance's pod network.
pub(crate) fn pods_table_name(instance: &str) -> String {
    format!("knarr-{instance}-pods")
}

/// The address `offset` above the first of a range.
fn nth(range: Ipv4Net, offset: u32) -> Ipv4Addr {
    Ipv4Addr::from_bits(range.network().to_bits().saturating_add(offset))
}

fn ipv4(range: IpNet, flag: &'static str) -> Result<Ipv4Net, NetError> {
    match range {
        IpNet::V4(v4) => Ok(v4.trunc()),
        IpNet::V6(_) => Err(NetError::Ipv6Unsupported { range, flag }),
    }
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Protocol {
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
}

impl Protocol {
    /// The protocol that a Kubernetes object names; absent means TCP.
    pub fn parse(name: Option<&str>) -> Option<Protocol> {
        match name {
            None | Some("" | "TCP") => Some(Protocol::Tcp),
            Some("UDP") => Some(Protocol::Udp),
            Some("SCTP") => Some(Protocol::Sctp),
            Some(_) => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        })
    }
}

/// A port of the node that leads into a pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostPort {
    /// The node address that it is bound to; `None` (or `0.0.0.0`): all of them.
    pub host_ip: Option<IpAddr>,
    /// Port on the node.
    pub host_port: u16,
    /// Port in the pod.
    pub container_port: u16,
    /// Protocol.
    pub protocol: Protocol,
}

/// What a pod's `resolv.conf` is made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Address of the cluster's DNS server.
    pub servers: Vec<IpAddr>,
    /// The cluster's domain, `cluster.local` unless changed.
    pub domain: String,
}
