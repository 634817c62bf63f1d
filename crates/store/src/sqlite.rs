//! The store on SQLite: the handle that callers hold.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::hub::{Hub, Subscription, lock};
use crate::reader::Readers;
use crate::schema;
use crate::writer::{Request, Writer};
use crate::{Entry, ListOptions, Options, Page, Revision, StoreError, Write};

/// The longest key, in bytes.
const KEY_LIMIT_BYTES: usize = 2048;
/// How many requests may wait for the writer; more wait in their callers.
const REQUESTS: usize = 1024;

/// A revisioned key-value store in one SQLite file. Clones share it.
///
/// When the last clone is dropped the writer finishes what it was given and ends;
/// [`Store::close`] waits for that.
#[derive(Debug, Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    requests: mpsc::Sender<Request>,
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    options: Options,
    writer: Mutex<Option<JoinHandle<()>>>,
}

impl Store {
    /// Opens the database at `path`, or makes one, and takes it for this process alone.
    ///
    /// # Errors
    /// The file is locked by another process, damaged, of another program, of a newer version, or
    /// cannot be read or written; each error names the file.
    pub async fn open(path: &Path, options: Options) -> Result<Store, StoreError> {
        let path = path.to_owned();
        let opening = tokio::task::spawn_blocking(move || Store::open_blocking(&path, options));
        match opening.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(StoreError::Closed),
        }
    }

    fn open_blocking(path: &Path, options: Options) -> Result<Store, StoreError> {
        let opened = schema::open(path)?;
        let hub = Arc::new(Hub::new(opened.position));
        let readers = Readers::new(path, options.readers);
        let (requests, receiver) = mpsc::channel(REQUESTS);
        let writer = Writer::start(
            path,
            opened,
            receiver,
            hub.clone(),
            readers.clone(),
            options.retention,
        )?;
        Ok(Store {
            inner: Arc::new(Inner {
                requests,
                readers,
                hub,
                options,
                writer: Mutex::new(Some(writer)),
            }),
        })
    }

    /// The visible revision: every event up to it has been put into every subscriber's queue.
    pub fn current(&self) -> Revision {
        self.inner.hub.current()
    }

    /// The oldest revision that can be listed at, or subscribed after.
    pub fn compacted(&self) -> Revision {
        self.inner.hub.compacted()
    }

    /// The live entry of a key.
    ///
    /// # Errors
    /// The database cannot be read, or the store is closed.
    pub async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        let entry = self.inner.readers.get(key).await?;
        if let Some(entry) = &entry {
            self.inner.hub.published(entry.modified).await;
        }
        Ok(entry)
    }

    /// The entries of a prefix at one revision, in the order of their keys.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] or [`StoreError::Future`] when that revision cannot be read; or the
    /// database cannot be read, or the store is closed.
    pub async fn list(&self, options: ListOptions<'_>) -> Result<Page, StoreError> {
        let page = self.inner.readers.list(options).await?;
        self.inner.hub.published(page.revision).await;
        Ok(page)
    }

    /// Writes one key if its precondition holds, and returns the revision of the change: for a put of
    /// the same bytes the revision that the key has, for a deletion of what is expected absent the
    /// current one. The change is durable and published when this returns.
    ///
    /// A cancelled call may or may not have happened.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] when the precondition does not hold, [`StoreError::Full`] when there
    /// is no space; or the write is not acceptable, the database failed, or the store is closed.
    pub async fn write(&self, write: Write) -> Result<Revision, StoreError> {
        check_key(&write.key)?;
        if let crate::Op::Put(value) = &write.op
            && value.len() > self.inner.options.value_limit_bytes
        {
            let (size_bytes, limit_bytes) = (value.len(), self.inner.options.value_limit_bytes);
            return Err(StoreError::TooLarge {
                key: write.key,
                size_bytes,
                limit_bytes,
            });
        }
        let (reply, answer) = oneshot::channel();
        self.request(Request::Write { write, reply }).await?;
        answer.await.map_err(|_closed| StoreError::Closed)?
    }

    /// The events of a prefix after a revision: history first, then live, without gap and in order.
    ///
    /// # Errors
    /// [`StoreError::Compacted`] when `after` is too old, [`StoreError::Closed`].
    pub fn subscribe(&self, prefix: &str, after: Revision) -> Result<Subscription, StoreError> {
        let limit_bytes = self.inner.options.subscription_limit_bytes;
        self.inner
            .hub
            .subscribe(self.inner.readers.clone(), prefix, after, limit_bytes)
    }

    /// Forgets the history before `up_to`; what was live at `up_to` stays. Returns when it is gone.
    ///
    /// # Errors
    /// [`StoreError::Future`] when `up_to` has not happened yet; or the database failed, or the store
    /// is closed.
    pub async fn compact(&self, up_to: Revision) -> Result<(), StoreError> {
        let current = self.current();
        if up_to > current {
            return Err(StoreError::Future {
                requested: up_to,
                current,
            });
        }
        let (reply, answer) = oneshot::channel();
        self.request(Request::Compact { up_to, reply }).await?;
        answer.await.map_err(|_closed| StoreError::Closed)?
    }

    /// Finishes the writes that were accepted, writes the WAL back, ends every subscription, and
    /// closes the file. Other clones fail with [`StoreError::Closed`] afterwards.
    pub async fn close(self) {
        // Failing means that the writer has ended already.
        let _ = self.request(Request::Close).await;
        let Some(writer) = lock(&self.inner.writer).take() else {
            return;
        };
        let joined = tokio::task::spawn_blocking(move || writer.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the store's writer thread panicked");
        }
    }

    async fn request(&self, request: Request) -> Result<(), StoreError> {
        self.inner
            .requests
            .send(request)
            .await
            .map_err(|_closed| StoreError::Closed)
    }
}

fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_LIMIT_BYTES {
        let key = key.chars().take(80).collect();
        return Err(StoreError::InvalidKey {
            key,
            limit: KEY_LIMIT_BYTES,
        });
    }
    Ok(())
}
