//! What a store counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

use stdx::Histogram;
use stdx::histogram::Snapshot;

/// Bounds for durations of commits, in seconds: from a fast NVMe to a disk in trouble.
const COMMIT_SECONDS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0,
];
/// Bounds for the number of transactions that share a commit.
const BATCH: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0];

/// The counters of one store.
#[derive(Debug)]
pub(crate) struct Counters {
    pub(crate) queue_seconds: Histogram,
    pub(crate) commit_seconds: Histogram,
    pub(crate) batch: Histogram,
    pub(crate) failed: AtomicU64,
    pub(crate) lagged: AtomicU64,
    pub(crate) expired: AtomicU64,
    pub(crate) reconnects: AtomicU64,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            queue_seconds: Histogram::new(COMMIT_SECONDS),
            commit_seconds: Histogram::new(COMMIT_SECONDS),
            batch: Histogram::new(BATCH),
            failed: AtomicU64::new(0),
            lagged: AtomicU64::new(0),
            expired: AtomicU64::new(0),
            reconnects: AtomicU64::new(0),
        }
    }
}

/// What an engine occupies, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sizes {
    pub(crate) database: u64,
    pub(crate) wal: u64,
}

/// Adds one.
pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A store's figures at one moment.
#[derive(Debug, Clone, PartialEq)]
pub struct Metrics {
    /// `sqlite` or `etcd`.
    pub backend: &'static str,
    /// How long transactions waited for the writer, in seconds; nothing of etcd.
    pub queue_seconds: Snapshot,
    /// How long commits took, in seconds.
    pub commit_seconds: Snapshot,
    /// How many transactions shared a commit; of etcd, which does this by itself, always one.
    pub batch: Snapshot,
    /// Transactions that failed for another reason than their preconditions.
    pub failed: u64,
    /// The size of the database in bytes, without its WAL.
    pub database_bytes: u64,
    /// The size of the write-ahead log in bytes; 0 of etcd.
    pub wal_bytes: u64,
    /// The visible revision.
    pub current: u64,
    /// How many revisions of history there are.
    pub history: u64,
    /// Subscriptions that are open.
    pub subscriptions: u64,
    /// Subscriptions that were cut off because their reader was too slow.
    pub lagged: u64,
    /// Keys that were removed at the end of their time to live; 0 of etcd, which does this by itself.
    pub expired: u64,
    /// How often the watch of etcd had to begin again.
    pub reconnects: u64,
}
