//! The controllers over a real server and store, all in this process.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod cleaner;
mod harness;
