//! A revisioned key-value store with watch and compaction. It knows no kinds: values are opaque bytes.
//!
//! Invariants:
//! - A revision is given out once, is durable before anybody sees it, and never goes back.
//! - [`Store::current`] is N only when every event up to N is in every subscriber's queue, and a
//!   write is acknowledged only after that.
//! - A subscriber sees every event of its prefix once and in order, or is told that it cannot.
//! - Reading never blocks the writer.

mod backend;
mod error;
mod etcd;
mod hub;
mod metrics;
mod model;
mod options;
mod reseal;
mod seal;
mod snapshot;
mod sqlite;
mod store;
mod subscription;

pub use error::StoreError;
pub use etcd::{EtcdConfig, EtcdTls};
pub use metrics::Metrics;
pub use model::{Batch, Entry, Event, EventKind, Expect, ListOptions, Op, Page, Revision, Write};
pub use options::{Options, Retention};
pub use reseal::SealUsage;
pub use seal::{Seal, SealKey, sealed_with};
pub use snapshot::{
    Progress, REVISION_BUMP, RestoreOptions, Restored, Snapshot, SnapshotError, Step,
};
pub use store::Store;
pub use subscription::Subscription;
