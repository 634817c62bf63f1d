//! What is known of processes, threads and their descriptors.
//!
//! [`Table::scan`] reads what is there from `/proc`; [`Table::apply`] keeps it true by events. A
//! consumer applies an event first and then asks: what an event ends (a closed descriptor, a thread
//! that is gone) can still be asked for until the next event is applied.
//!
//! Invariant: no event makes the table panic or grow beyond its limits, in whatever order events come
//! and whichever are lost. What is not known is absent, never made up.

mod captured;
mod cgroup;
pub mod fd;
mod scan;
mod table;
#[cfg(test)]
mod tests;
mod thread;
mod update;

use std::sync::Arc;

pub use cgroup::{Container, Containers, Runtime, container_of};
pub use fd::{Anonymous, Fd, FdKind, L4};
pub use scan::ScanError;
pub use table::{Limits, Table, TableStats};
pub use thread::{Capabilities, Executable, Thread};

/// Bytes that are shared: paths, arguments and environments, which children have of their parents.
pub type Text = Arc<[u8]>;

/// No text.
#[must_use]
pub fn no_text() -> Text {
    Arc::from(&[][..])
}
