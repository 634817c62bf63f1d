//! The container runtime: one small single-threaded shim process a pod, and the node's side of it.
//!
//! Invariants: all kernel work on containers (fork, setns, mounts) happens in the shim or its
//! children, never in the threaded agent; a shim outlives the agent; what a container asks for
//! (limits, capabilities, seccomp) holds, or its start fails.
#![allow(
    unsafe_code,
    reason = "fork, seccomp, ioctls and descriptor passing; each block says why it is sound"
)]

mod caps;
mod error;
mod host;
mod seccomp;
mod shim;
mod spec;
mod state;
mod wire;

pub use error::{Refusal, ShimError};
pub use host::{Session, Shim};
pub use shim::main::shim_main;
pub use spec::{
    Capabilities, ContainerSpec, Device, Exec, Mount, Propagation, Resources, Rlimit, SandboxSpec,
    Seccomp, User,
};
pub use state::{ContainerState, Started, State, Usage, read_all};
