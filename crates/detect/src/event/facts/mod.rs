//! Upstream's tables, generated: events and their parameters, flags, system calls.

pub(crate) mod flags;
pub(crate) mod syscalls;
pub(crate) mod types;
