//! Decides on which node a pod runs, and binds it there.
//!
//! Invariants: the decision is the pure function [`plan`]; a decided pod counts against its node
//! from that moment on, before its binding is written, so that a burst never overcommits; a pod
//! that fits nowhere waits for a change in the cluster, not for a clock.

mod bind;
mod cluster;
mod plan;
mod queue;
mod resources;
mod run;

pub use cluster::{Cluster, NodeView};
pub use plan::{Unschedulable, plan};
pub use resources::{Resources, pod_requests};
pub use run::run;

/// The scheduler that this is: `spec.schedulerName` of the pods it cares for.
pub const NAME: &str = "default-scheduler";
