//! The network of one node: the pod network (bridge, veth pairs, address
//! management, masquerade, host ports), the routing of Services in nftables, and
//! the cluster's DNS server.
//!
//! Invariants:
//! - an address is written to disk before a pod uses it, and none is given twice;
//! - every kernel object carries the instance's name, so that [`PodNet::cleanup`]
//!   finds all of them and touches nothing else;
//! - what to program is a pure function of Services and EndpointSlices
//!   ([`services::plan`]); the kernel sees it in one transaction or not at all;
//! - pods hold a /32 and reach each other through the host's routing, so address
//!   translation does not depend on `br_netfilter`, nor does it suffer from it.
//!
//! IPv4 only: ranges of IPv6 are refused with an error that says so.

mod clash;
mod config;
mod conntrack;
pub mod dns;
mod error;
mod ipam;
mod netlink;
mod netns;
mod nft;
mod podnet;
mod ports;
pub mod services;

pub use clash::Clash;
pub use config::{Config, DnsConfig, HostPort, Protocol};
pub use error::NetError;
pub use nft::NftError;
pub use podnet::PodNet;
