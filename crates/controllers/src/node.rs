//! Node: one whose Lease is not renewed is Unknown; what is wrong with a node is a taint on it;
//! pods that do not tolerate such a taint are evicted.

mod eviction;
mod health;

pub(crate) use eviction::run as run_eviction;
pub(crate) use health::run as run_health;

/// A node that must have stopped renewing its Lease.
pub(crate) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// A node that says itself that it is not ready.
pub(crate) const NOT_READY: &str = "node.kubernetes.io/not-ready";
