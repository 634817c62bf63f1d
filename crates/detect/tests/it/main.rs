//! The probes on this machine's kernel: real calls, and the events that they make.

mod act;
mod kernel;
mod watch;
