//! The shim process: one a pod, single-threaded, an event loop over `poll`.
//!
//! Invariant: it never waits for a container, a helper or a client; all waiting is in the loop.

pub(crate) mod container;
pub(crate) mod create;
pub(crate) mod devices;
pub(crate) mod exec;
pub(crate) mod helper;
pub(crate) mod log;
pub(crate) mod main;
pub(crate) mod oci;
pub(crate) mod process;
pub(crate) mod requests;
pub(crate) mod sandbox;
pub(crate) mod server;
pub(crate) mod streams;
pub(crate) mod trace;
