//! Small pieces that every crate may use. No domain nouns live here.

pub mod backoff;
pub mod chain;
pub mod histogram;

pub use backoff::Backoff;
pub use chain::chain;
pub use histogram::Histogram;

/// The token that tells a task to finish its work and return.
///
/// Every task owns a clone (or a child) of its owner's drain; cancelling is one-way.
pub type Drain = tokio_util::sync::CancellationToken;
