//! What can be chosen when a store is opened.

use std::sync::Arc;
use std::time::Duration;

use crate::Seal;

/// How a store is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// What the background compaction keeps; `None` leaves compaction to the caller.
    pub retention: Option<Retention>,
    /// How many bytes of events may wait in one subscription before it is told that it lagged.
    pub subscription_limit_bytes: usize,
    /// The largest value that is accepted, in bytes.
    pub value_limit_bytes: usize,
    /// How many connections read at the same time (SQLite).
    pub readers: usize,
    /// How many bytes of live entries are kept in memory (SQLite).
    pub live_limit_bytes: usize,
    /// Encrypts the values of some keys; without it all are stored as they are.
    pub seal: Option<Arc<Seal>>,
}

/// What the background compaction keeps: a revision goes when it is outside of both bounds.
#[derive(Debug, Clone, Copy)]
pub struct Retention {
    /// How many of the newest revisions are kept whatever their age.
    pub revisions: u64,
    /// How old a revision must be to go. Time counts while the store is open.
    pub age: Duration,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            retention: Some(Retention {
                revisions: 1000,
                age: Duration::from_secs(300),
            }),
            subscription_limit_bytes: 64 << 20,
            value_limit_bytes: 8 << 20,
            readers: 2,
            live_limit_bytes: 16 << 20,
            seal: None,
        }
    }
}
