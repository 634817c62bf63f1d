//! The engine in an etcd (3.4 or newer), alone or shared with other servers of the same cluster.
//!
//! Our keys are `<prefix>/data<key>`; notes of our own are `<prefix>/meta/…`. One watch over both feeds
//! the hub, so the hub's revision is a place in etcd's own order of events.
//!
//! Invariants:
//! - A revision of ours is etcd's plus an offset that is fixed for the life of the data.
//! - Nothing that was read or written is answered before the watch has come to its revision.

mod barrier;
mod compact;
mod config;
mod connection;
mod history;
mod keys;
mod lease;
mod open;
mod proto;
mod read;
mod recent;
mod restore;
mod transact;
mod watch;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{RwLock, Semaphore};
use tokio::task::JoinSet;

pub(crate) use self::restore::restore;

pub use self::config::{EtcdConfig, EtcdTls};

use self::barrier::Flights;
use self::connection::{Connection, Failure, Kind, TIMEOUT};
use self::keys::{Keys, Offset};
use self::lease::Leases;
use self::recent::Recent;
use crate::backend::Backend;
use crate::hub::{Hub, lock};
use crate::metrics::Sizes;
use crate::{Entry, Event, ListOptions, Options, Page, Revision, StoreError, Write};

/// How many reads of the past go on at a time: each has a watch of its own.
const HISTORIES: usize = 4;

/// What the engine's tasks and requests share.
#[derive(Debug)]
struct Shared {
    connection: Connection,
    keys: Keys,
    offset: Offset,
    hub: Arc<Hub>,
    recent: Mutex<Recent>,
    leases: Leases,
    newest: Flights,
    barriers: Flights,
    histories: Semaphore,
    closed: AtomicBool,
    database_bytes: AtomicU64,
}

/// The engine's handle. When it is dropped its tasks end.
#[derive(Debug)]
pub(crate) struct Etcd {
    shared: Arc<Shared>,
    /// Held by each transaction to its end, and taken whole by a close.
    under_way: RwLock<()>,
    tasks: Mutex<JoinSet<()>>,
}

/// Connects, and takes up the watch.
pub(crate) async fn connect(
    config: &EtcdConfig,
    options: &Options,
) -> Result<(Arc<Hub>, Etcd), StoreError> {
    let (shared, last) = open::open(config, options).await?;
    let shared = Arc::new(shared);
    let mut tasks = JoinSet::new();
    tasks.spawn(watch::follow(shared.clone(), last));
    tasks.spawn(compact::keep_small(shared.clone(), options.retention));
    let etcd = Etcd {
        shared: shared.clone(),
        under_way: RwLock::new(()),
        tasks: Mutex::new(tasks),
    };
    Ok((shared.hub.clone(), etcd))
}

impl Shared {
    fn check_open(&self) -> Result<(), StoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(StoreError::Closed);
        }
        Ok(())
    }

    /// Waits for the watch to come to a revision of one of our keys.
    async fn published(&self, revision: Revision) -> Result<(), StoreError> {
        match tokio::time::timeout(TIMEOUT, self.hub.published(revision)).await {
            Ok(result) => result,
            Err(_) => Err(self.connection.error(
                "follow",
                Failure::lost(format!(
                    "the watch is at revision {} and has not come to {revision} within {TIMEOUT:?}",
                    self.hub.current()
                )),
            )),
        }
    }

    /// The error of a read; what etcd has compacted becomes known here.
    async fn read_error(
        &self,
        action: &'static str,
        asked: Revision,
        failure: Failure,
    ) -> StoreError {
        match failure.kind {
            Kind::Compacted => self.compacted_error().await,
            Kind::Future => StoreError::Future {
                requested: asked,
                current: self.hub.current(),
            },
            _ => self.connection.error(action, failure),
        }
    }

    /// Says from where on there is history, after etcd has said that there is none before.
    async fn compacted_error(&self) -> StoreError {
        match watch::find_compacted(&self.connection, &self.keys).await {
            Ok(found) => {
                self.hub.set_compacted(self.offset.ours(found));
                StoreError::Compacted {
                    oldest: self.hub.compacted(),
                }
            }
            Err(failure) => self
                .connection
                .error("look for the oldest revision", failure),
        }
    }
}

impl Backend for Etcd {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        read::get(&self.shared, key).boxed()
    }

    fn list<'a>(&'a self, options: ListOptions<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        read::list(&self.shared, options).boxed()
    }

    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<Revision>, StoreError>> {
        async {
            let _under_way = self.under_way.read().await;
            transact::transact(&self.shared, writes).await
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
        up_to: Revision,
    ) -> BoxFuture<'a, Result<(Vec<Event>, Revision), StoreError>> {
        history::history(&self.shared, prefix, after, up_to).boxed()
    }

    fn newest(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        barrier::newest(&self.shared).boxed()
    }

    fn compact(&self, up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        compact::compact(&self.shared, up_to).boxed()
    }

    fn sizes(&self) -> Sizes {
        Sizes {
            database: self.shared.database_bytes.load(Ordering::Relaxed),
            wal: 0,
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            self.shared.closed.store(true, Ordering::Release);
            // A transaction ends by itself: each wait in it has a limit.
            let limit = TIMEOUT + Duration::from_secs(1);
            let _ = tokio::time::timeout(limit, self.under_way.write()).await;
            self.shared.hub.close();
            let mut tasks = std::mem::take(&mut *lock(&self.tasks));
            tasks.shutdown().await;
        }
        .boxed()
    }
}
