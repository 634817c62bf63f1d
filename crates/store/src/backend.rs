//! The seam between the store and the engine that keeps its data.
//!
//! Every engine keeps the same contract, and `contract!` in `tests/store` runs its cases on each of them:
//!
//! 1. **Revision order.** A transaction that changes something gets the next revisions, in the order
//!    in which transactions took effect. A revision is durable before anybody sees it. It never goes
//!    back: not over a restart, a failover or a compaction. The first revision is 1 or, where others
//!    share the engine, a later one; and there may be revisions without an event of ours.
//! 2. **All or nothing.** A transaction happens when each of its preconditions holds, and then whole.
//!    Its changes share one revision or have consecutive ones.
//! 3. **No change, no revision.** A put of the bytes that are there already, and a deletion of what is
//!    expected absent, succeed without a revision and without an event.
//! 4. **Publication.** Every change reaches the [`Hub`] once, in order. The hub's revision is N only
//!    when every event up to N is in every subscriber's queue. An engine that has lost the thread says
//!    so ([`Hub::lose`]) and never skips an event in silence.
//! 5. **The past.** A list at a revision shows that revision whatever happens meanwhile, and the
//!    history after a revision is whole; or the answer is [`StoreError::Compacted`].
//! 6. **Time to live.** A value that was put with one is deleted, with an event, not before its time
//!    and soon after it; a later put of the key ends it or sets a new one.

use std::fmt;

use futures::future::BoxFuture;

#[expect(unused_imports, reason = "the documentation names it")]
use crate::hub::Hub;
use crate::metrics::Sizes;
use crate::{Entry, Event, ListOptions, Page, Revision, StoreError, Write};

/// An engine.
pub(crate) trait Backend: fmt::Debug + Send + Sync {
    /// The live entry of a key: the newest, also where others write.
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>>;

    /// The entries of a prefix at one revision.
    fn list<'a>(&'a self, options: ListOptions<'a>) -> BoxFuture<'a, Result<Page, StoreError>>;

    /// As [`Backend::list`], for one who reads on to the end: `remaining` need not be counted.
    fn scan<'a>(&'a self, options: ListOptions<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.list(options)
    }

    /// All writes in one transaction; the revision of each. Each key comes once, and `writes` is not
    /// empty: the store has seen to that.
    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<Revision>, StoreError>>;

    /// Events of `prefix` after one revision up to another that is published: a chunk of them, and
    /// how far the chunk reaches.
    fn history<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
        up_to: Revision,
    ) -> BoxFuture<'a, Result<(Vec<Event>, Revision), StoreError>>;

    /// A revision that is no older than any transaction that had been acknowledged to anybody when
    /// this was called. It is, or will soon be, published.
    fn newest(&self) -> BoxFuture<'_, Result<Revision, StoreError>>;

    /// Forgets the history before a published revision. Returns when it is gone.
    fn compact(&self, up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Makes sure that what was deleted before can no longer be read from files that are its own.
    fn scrub(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    /// What it occupies, as far as is known without asking anybody.
    fn sizes(&self) -> Sizes;

    /// Finishes what was accepted, and closes the hub.
    fn close(&self) -> BoxFuture<'_, ()>;
}
