//! The probes on this machine's kernel: real calls, and the events that they make.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod act;
mod alerts;
mod kernel;
mod watch;
