//! A revisioned key-value store with watch and compaction. It knows no kinds: values are opaque bytes.
//!
//! Invariants:
//! - A revision is given out once, is durable before anybody sees it, and never goes back.
//! - [`Store::current`] is N only when every event up to N is in every subscriber's queue, and a
//!   write is acknowledged only after that.
//! - Reading never blocks the writer.

mod error;
mod hub;
mod model;
mod options;

mod reader;
mod schema;
mod sqlite;
mod writer;

pub use error::StoreError;
pub use hub::Subscription;
pub use model::{Entry, Event, EventKind, Expect, ListOptions, Op, Page, Revision, Write};
pub use options::{Options, Retention};
pub use sqlite::Store;
