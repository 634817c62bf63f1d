//! What can go wrong in the store, with the facts that a caller or an operator needs.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Entry, Revision};

/// An error of the store.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The precondition of a write does not hold.
    #[error("the key {key} is not in the expected state")]
    Conflict {
        /// The key; of a transaction the first one whose precondition does not hold.
        key: Arc<str>,
        /// What is there instead.
        current: Option<Entry>,
    },
    /// The history asked for is gone.
    #[error("the requested revision has been compacted; the oldest one left is {oldest}")]
    Compacted {
        /// The oldest revision that can be listed at, or subscribed after.
        oldest: Revision,
    },
    /// The revision asked for does not exist yet.
    #[error("revision {requested} is in the future; the current one is {current}")]
    Future {
        /// What was asked for.
        requested: Revision,
        /// Where the store is.
        current: Revision,
    },
    /// A subscriber read too slowly and must list again.
    #[error("the subscription fell behind and was cut off; list again")]
    Lagged,
    /// The store is closed, or closing.
    #[error("the store is closed")]
    Closed,
    /// A key that cannot be stored.
    #[error("invalid key {key:?}: it must not be empty, and at most {limit} bytes long")]
    InvalidKey {
        /// The key, shortened.
        key: String,
        /// The longest key, in bytes.
        limit: usize,
    },
    /// A transaction that cannot be carried out as it is.
    #[error("invalid transaction: {detail}")]
    InvalidTransaction {
        /// What is wrong with it.
        detail: String,
    },
    /// A sealed value that cannot be opened.
    #[error(
        "the value of {key} cannot be decrypted: {detail}; put back the key file that it was written with"
    )]
    Sealed {
        /// The key.
        key: Arc<str>,
        /// What is the matter: an unknown key, or damage.
        detail: String,
    },
    /// A key for sealing cannot be made.
    #[error("the system gives no random bytes to make a key of")]
    Randomness,
    /// A value that is too large.
    #[error("the value of {key} has {size_bytes} bytes; the limit is {limit_bytes}")]
    TooLarge {
        /// The key.
        key: String,
        /// The size of the value.
        size_bytes: usize,
        /// The most that is accepted.
        limit_bytes: usize,
    },
    /// No space is left for the write. Nothing was changed; writing works again when there is space.
    #[error("no space left for the database {}; free some space on its file system", path.display())]
    Full {
        /// The database file.
        path: PathBuf,
    },
    /// The file is damaged.
    #[error(
        "the database {} is damaged ({detail}); run `knarr snapshot restore`, or move it and its -wal and -shm files away to start with an empty one",
        path.display()
    )]
    Corrupt {
        /// The database file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Commits that had been acknowledged are missing from the database.
    #[error(
        "the database {} ends at revision {found}, but {committed} had been acknowledged: its -wal file was damaged, cut short or removed, or an older copy was put in its place; run `knarr snapshot restore`, or remove {} to go on without what is lost",
        path.display(), lock.display()
    )]
    LostTail {
        /// The database file.
        path: PathBuf,
        /// Its newest revision.
        found: Revision,
        /// The newest one that had been acknowledged, as far as was noted.
        committed: Revision,
        /// Where that was noted.
        lock: PathBuf,
    },
    /// The file is a database, but not one of ours.
    #[error("{} is a database of another program (application id {found:#010x}); choose another path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The application id in it.
        found: i32,
    },
    /// The file was written by a newer version.
    #[error(
        "the database {} has format {found}, and this version knows up to {known}; use the version that wrote it, or a newer one",
        path.display()
    )]
    TooNew {
        /// The database file.
        path: PathBuf,
        /// Its format.
        found: i32,
        /// The newest format that is understood.
        known: i32,
    },
    /// Another process has the store open.
    #[error("the database {} is in use by another process (it holds {}); stop that one first", path.display(), lock.display())]
    Locked {
        /// The database file.
        path: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// A file could not be read or made.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<io::Error>,
    },
    /// The database engine failed.
    #[error("{action} in the database {}", path.display())]
    Engine {
        /// What was attempted.
        action: &'static str,
        /// The database file.
        path: PathBuf,
        /// Why it failed.
        source: Arc<rusqlite::Error>,
    },
    /// A text that says no etcd, or not how to reach it.
    #[error("the datastore {text:?} cannot be used: {detail}; write etcd://HOST:PORT,…[/PREFIX]")]
    Datastore {
        /// The text.
        text: String,
        /// What is wrong with it.
        detail: String,
    },
    /// etcd did not answer in time. A read had no effect. A write may have happened, or may still
    /// happen: it was not sent again, since it could then conflict with itself. Who must know reads.
    #[error(
        "etcd at {endpoints} cannot be reached; see that it runs, has a leader, and can be connected to from here"
    )]
    Unreachable {
        /// Its members.
        endpoints: String,
        /// What happened with the last attempt.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// etcd, or we, did not accept the other's certificate, or etcd does not allow what was asked.
    #[error(
        "etcd at {endpoints} and this server do not trust each other; look at the CA, certificate and key files of both, and at etcd's user for this certificate"
    )]
    Denied {
        /// Its members.
        endpoints: String,
        /// What was refused.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// etcd has raised its NOSPACE alarm. It refuses writes until somebody has lowered it; the very
    /// first write that was over the quota may have happened all the same.
    #[error(
        "etcd at {endpoints} has used up its quota: compact it, defragment it (etcdctl defrag), raise --quota-backend-bytes if it must hold this much, and then etcdctl alarm disarm"
    )]
    QuotaExceeded {
        /// Its members.
        endpoints: String,
    },
    /// A write that is larger than what etcd accepts.
    #[error(
        "the write is too large for etcd, which takes 1.5 MiB unless --max-request-bytes says otherwise"
    )]
    RequestTooLarge {
        /// What etcd said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
    /// A restore has not come to its end.
    #[error("a restore of {place} was cut short; run `knarr snapshot restore` again")]
    Restoring {
        /// The database, or the prefix in etcd.
        place: String,
    },
    /// etcd refused for a reason that is not ours to know.
    #[error("{action} in etcd at {endpoints}")]
    Etcd {
        /// What was attempted.
        action: &'static str,
        /// Its members.
        endpoints: String,
        /// What etcd said.
        source: Arc<dyn std::error::Error + Send + Sync>,
    },
}
