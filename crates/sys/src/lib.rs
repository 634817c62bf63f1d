//! The safe face of the kernel: mounts, namespaces, cgroups v1 and v2, processes, host facts.
//!
//! Invariant: every wrapper takes and returns owned descriptors or paths, and no `unsafe` leaks out.
#![allow(
    unsafe_code,
    reason = "this crate wraps system calls that nix does not; each block says why it is sound"
)]

pub mod cgroup;
pub mod folder;
pub mod mount;
pub mod netns;
pub mod probe;
pub mod process;
