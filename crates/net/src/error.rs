//! What can go wrong with the pod network.

use crate::{Clash, NftError};
use ipnet::IpNet;
use std::io;
use std::path::PathBuf;

/// An error of the pod network.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The instance's name does not fit into an interface name.
    #[error("instance name {instance:?} is not 1 to 12 characters of [a-z0-9-]")]
    BadInstance {
        /// The name.
        instance: String,
    },
    /// A range of IPv6.
    #[error("{flag} {range}: IPv6 is not supported yet; give an IPv4 range")]
    Ipv6Unsupported {
        /// The range.
        range: IpNet,
        /// The flag that sets it.
        flag: &'static str,
    },
    /// A range too small to be of use.
    #[error("{flag} {range} is too small: the longest prefix is /{longest}")]
    RangeTooSmall {
        /// The range.
        range: IpNet,
        /// The flag that sets it.
        flag: &'static str,
        /// Longest prefix length.
        longest: u8,
    },
    /// The ranges of pods and Services overlap.
    #[error("--pod-cidr {pod} and --service-cidr {service} overlap")]
    RangesOverlap {
        /// Range of the pods.
        pod: IpNet,
        /// Range of the Services.
        service: IpNet,
    },
    /// A range is in use on this host.
    #[error("{0}")]
    Clash(Clash),
    /// The kernel refused a network change.
    #[error("cannot {action} {object}")]
    Kernel {
        /// What was tried, as a verb.
        action: &'static str,
        /// On what: an interface, an address.
        object: String,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A kernel setting could not be written.
    #[error("cannot set {path}")]
    Sysctl {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// A pod's network namespace could not be entered.
    #[error("cannot enter the network namespace {path}")]
    Netns {
        /// Path of the namespace.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The record of leased addresses could not be read or written.
    #[error("cannot use the address record {path}")]
    State {
        /// The file or directory.
        path: PathBuf,
        /// Cause.
        source: io::Error,
    },
    /// The record of leased addresses is damaged while pods may use addresses.
    #[error(
        "the address record {path} is damaged and pods may be running: remove them with `knarr down`"
    )]
    StateDamaged {
        /// The file.
        path: PathBuf,
        /// Cause.
        source: serde_json::Error,
    },
    /// No address is left.
    #[error("no address left in {range}: all {leased} are in use")]
    Exhausted {
        /// Range of the pods.
        range: IpNet,
        /// How many pods hold one.
        leased: usize,
    },
    /// nftables refused or is missing.
    #[error("cannot program nftables")]
    Nft(#[source] NftError),
    /// The work was cut off because the process ends.
    #[error("the node is shutting down")]
    Stopped,
}

impl From<NftError> for NetError {
    fn from(error: NftError) -> Self {
        NetError::Nft(error)
    }
}
