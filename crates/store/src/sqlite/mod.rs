//! The engine in one SQLite file: WAL, one writing thread with group commit, readers beside it.

mod live;
mod note;
mod past;
mod reader;
mod restore;
mod row;
mod schema;
mod writer;

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Instant, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use tokio::sync::{mpsc, oneshot, watch};

use self::live::Live;
use self::reader::Readers;
pub(crate) use self::restore::restore;
use self::writer::{Request, Writer};
use crate::backend::Backend;
use crate::hub::{Hub, lock};
use crate::metrics::{Counters, Sizes};
use crate::{Entry, Event, ListOptions, Options, Page, Revision, StoreError, Write};

/// How many requests may wait for the writer; more wait in their callers.
const REQUESTS: usize = 1024;

/// The engine's handle. When it is dropped the writer finishes what it was given, and ends.
#[derive(Debug)]
pub(crate) struct Sqlite {
    requests: mpsc::Sender<Request>,
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// Opens the database at `path`, or makes one.
pub(crate) async fn open(path: &Path, options: &Options) -> Result<(Arc<Hub>, Sqlite), StoreError> {
    let (path, options) = (path.to_owned(), options.clone());
    let opening = tokio::task::spawn_blocking(move || open_blocking(&path, options));
    let (hub, sqlite, due) = match opening.await {
        Ok(result) => result?,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_cancelled) => return Err(StoreError::Closed),
    };
    tokio::spawn(expire(due, sqlite.requests.downgrade()));
    Ok((hub, sqlite))
}

type Due = watch::Receiver<Option<SystemTime>>;

fn open_blocking(path: &Path, options: Options) -> Result<(Arc<Hub>, Sqlite, Due), StoreError> {
    let opened = schema::open(path)?;
    let counters = Arc::new(Counters::default());
    let hub = Arc::new(Hub::new(opened.position, options.seal, counters));
    let live = Arc::new(Live::new(opened.position.current, options.live_limit_bytes));
    let readers = Readers::new(path, options.readers, live.clone());
    let (requests, receiver) = mpsc::channel(REQUESTS);
    let (writer, due) = Writer::start(
        path,
        opened,
        receiver,
        hub.clone(),
        readers.clone(),
        live,
        options.retention,
    )?;
    let sqlite = Sqlite {
        requests,
        readers,
        hub: hub.clone(),
        writer: Mutex::new(Some(writer)),
    };
    Ok((hub, sqlite, due))
}

/// Wakes the writer when a key's time is over. Ends with the writer.
async fn expire(mut due: Due, requests: mpsc::WeakSender<Request>) {
    loop {
        let next = *due.borrow_and_update();
        let over = async {
            match next {
                Some(at) => {
                    let left = at.duration_since(SystemTime::now()).unwrap_or_default();
                    tokio::time::sleep(left).await;
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = due.changed() => if changed.is_err() { return },
            () = over => {
                let Some(requests) = requests.upgrade() else { return };
                let (reply, done) = oneshot::channel();
                // The answer is awaited, so that one wake-up is under way at a time.
                if requests.send(Request::Expire { reply }).await.is_err() || done.await.is_err() {
                    return;
                }
            }
        }
    }
}

impl Sqlite {
    async fn request(&self, request: Request) -> Result<(), StoreError> {
        self.requests
            .send(request)
            .await
            .map_err(|_closed| StoreError::Closed)
    }
}

impl Backend for Sqlite {
    fn get<'a>(&'a self, key: &'a str) -> BoxFuture<'a, Result<Option<Entry>, StoreError>> {
        async move {
            match self.readers.get(key).await? {
                Ok(entry) => Ok(Some(entry)),
                // That it is gone may be seen here before it is anywhere else.
                Err(seen) => self.hub.published(seen).await.map(|()| None),
            }
        }
        .boxed()
    }

    fn list<'a>(&'a self, options: ListOptions<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.readers.list(options, true).boxed()
    }

    fn scan<'a>(&'a self, options: ListOptions<'a>) -> BoxFuture<'a, Result<Page, StoreError>> {
        self.readers.list(options, false).boxed()
    }

    fn transact(&self, writes: Vec<Write>) -> BoxFuture<'_, Result<Vec<Revision>, StoreError>> {
        async {
            let (reply, answer) = oneshot::channel();
            let asked = Instant::now();
            self.request(Request::Transact {
                writes,
                asked,
                reply,
            })
            .await?;
            answer.await.map_err(|_closed| StoreError::Closed)?
        }
        .boxed()
    }

    fn history<'a>(
        &'a self,
        prefix: &'a str,
        after: Revision,
        up_to: Revision,
    ) -> BoxFuture<'a, Result<(Vec<Event>, Revision), StoreError>> {
        self.readers.history(prefix, after, up_to).boxed()
    }

    /// This process is the only one that writes, and it publishes before it answers.
    fn newest(&self) -> BoxFuture<'_, Result<Revision, StoreError>> {
        std::future::ready(Ok(self.hub.current())).boxed()
    }

    fn compact(&self, up_to: Revision) -> BoxFuture<'_, Result<(), StoreError>> {
        async move {
            let (reply, answer) = oneshot::channel();
            self.request(Request::Compact { up_to, reply }).await?;
            answer.await.map_err(|_closed| StoreError::Closed)?
        }
        .boxed()
    }

    fn scrub(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        async {
            let (reply, answer) = oneshot::channel();
            self.request(Request::Scrub { reply }).await?;
            answer.await.map_err(|_closed| StoreError::Closed)?
        }
        .boxed()
    }

    fn sizes(&self) -> Sizes {
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        let path = self.readers.path();
        Sizes {
            database: size(path),
            wal: size(&schema::with_suffix(path, "-wal")),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        async {
            // Failing means that the writer has ended already.
            let _ = self.request(Request::Close).await;
            let Some(writer) = lock(&self.writer).take() else {
                return;
            };
            let joined = tokio::task::spawn_blocking(move || writer.join()).await;
            if !matches!(joined, Ok(Ok(()))) {
                tracing::error!("the store's writer thread panicked");
            }
        }
        .boxed()
    }
}
