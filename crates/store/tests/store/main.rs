//! The store through its public door: on a real file, with real processes.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod crash;
mod damage;
mod history;
mod model;
mod support;
mod watch;
mod writes;
