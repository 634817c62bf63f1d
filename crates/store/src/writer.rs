//! The one thread that writes. It drains the requests that wait into one transaction, so that they
//! share one fsync, publishes their events, and only then answers. Between batches it compacts in
//! small steps. A batch that fails is tried again write by write, so that no request fails for
//! another's sake; an error goes to the request that met it, and the thread goes on.

mod checkpoint;
mod compact;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use rusqlite::{Connection, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::oneshot;

use self::checkpoint::Checkpoints;
use self::compact::Compaction;
use crate::hub::Hub;
use crate::reader::{self, Readers};
use crate::schema::{Opened, classify};
use crate::{Event, EventKind, Expect, Op, Retention, Revision, StoreError, Write};

/// The most writes, and about the most bytes, of one transaction.
const BATCH_WRITES: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// After so many batches without a pause, compaction gets a turn.
const BATCHES_PER_STEP: u32 = 8;

/// The answer to a request.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    Write {
        write: Write,
        reply: Reply<Revision>,
    },
    Compact {
        up_to: Revision,
        reply: Reply<()>,
    },
    Close,
}

/// The state of the writer thread. Fields are dropped in this order: the lock goes last.
pub(crate) struct Writer {
    path: PathBuf,
    connection: Connection,
    checkpoints: Checkpoints,
    compaction: Compaction,
    current: Revision,
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    _lock: File,
}

/// A write that waits for its batch.
struct Pending {
    write: Write,
    reply: Reply<Revision>,
}

/// What one write came to within its transaction.
enum Outcome {
    Changed(Box<Event>),
    Unchanged(Revision),
    Refused(StoreError),
}

impl Writer {
    /// Starts the thread. It ends at [`Request::Close`], or when all senders are gone.
    pub(crate) fn start(
        path: &Path,
        opened: Opened,
        requests: mpsc::Receiver<Request>,
        hub: Arc<Hub>,
        readers: Arc<Readers>,
        retention: Option<Retention>,
    ) -> Result<JoinHandle<()>, StoreError> {
        let Opened {
            mut connection,
            position,
            lock,
        } = opened;
        let checkpoints = Checkpoints::start(path, &mut connection)
            .map_err(|error| classify(path, "start checkpoints", error))?;
        let writer = Writer {
            path: path.to_owned(),
            connection,
            checkpoints,
            compaction: Compaction::new(position, retention),
            current: position.current,
            hub,
            readers,
            _lock: lock,
        };
        thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(requests))
            .map_err(|error| StoreError::Io {
                action: "start the writer of",
                path: path.to_owned(),
                source: Arc::new(error),
            })
    }

    fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut batches = 0;
        loop {
            let mut next = if self.compaction.is_due() {
                match requests.try_recv() {
                    Ok(request) => Some(request),
                    Err(TryRecvError::Empty) => None,
                    Err(TryRecvError::Disconnected) => break,
                }
            } else {
                match requests.blocking_recv() {
                    Some(request) => Some(request),
                    None => break,
                }
            };
            let idle = next.is_none();
            let mut closing = false;
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while let Some(request) = next.take() {
                match request {
                    Request::Write { write, reply } => {
                        bytes += write.key.len()
                            + if let Op::Put(value) = &write.op {
                                value.len()
                            } else {
                                0
                            };
                        batch.push(Pending { write, reply });
                    }
                    Request::Compact { up_to, reply } => self.compaction.request(up_to, reply),
                    Request::Close => {
                        closing = true;
                        break;
                    }
                }
                if batch.len() < BATCH_WRITES && bytes < BATCH_BYTES {
                    next = requests.try_recv().ok();
                }
            }
            self.commit(batch);
            if closing {
                break;
            }
            batches += 1;
            if idle || batches >= BATCHES_PER_STEP || self.compaction.is_behind() {
                batches = 0;
                self.compaction
                    .step(&self.path, &mut self.connection, &self.hub);
            }
            self.checkpoints.bound(&self.path, &self.connection);
        }
        // From here on senders fail; what they had sent after the closing is dropped, which they see
        // as closed too.
        requests.close();
        self.readers.close();
        self.hub.close();
        self.compaction.abandon();
        self.checkpoints.finish(&self.path, &self.connection);
    }

    fn commit(&mut self, batch: Vec<Pending>) {
        if batch.is_empty() {
            return;
        }
        match self.transact(batch.iter().map(|pending| &pending.write)) {
            Ok(outcomes) => {
                let mut events = Vec::new();
                let mut answers = Vec::with_capacity(outcomes.len());
                for outcome in outcomes {
                    answers.push(match outcome {
                        Outcome::Changed(event) => {
                            let revision = event.revision;
                            events.push(*event);
                            Ok(revision)
                        }
                        Outcome::Unchanged(revision) => Ok(revision),
                        Outcome::Refused(error) => Err(error),
                    });
                }
                if let Some(last) = events.last() {
                    self.current = last.revision;
                    self.hub.publish(&events);
                }
                for (pending, answer) in batch.into_iter().zip(answers) {
                    // A caller that is gone needs no answer.
                    let _ = pending.reply.send(answer);
                }
                self.compaction.observe(self.current);
            }
            Err(_) if batch.len() > 1 => {
                for pending in batch {
                    self.commit(vec![pending]);
                }
            }
            Err(error) => {
                let error = classify(&self.path, "write", error);
                for pending in batch {
                    let _ = pending.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// All writes in one transaction. When this fails nothing has happened.
    fn transact<'a>(
        &mut self,
        writes: impl Iterator<Item = &'a Write>,
    ) -> rusqlite::Result<Vec<Outcome>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut newest = self.current;
        let mut outcomes = Vec::new();
        for write in writes {
            let outcome = apply(&transaction, write, newest)?;
            if let Outcome::Changed(event) = &outcome {
                newest = event.revision;
            }
            outcomes.push(outcome);
        }
        if newest == self.current {
            transaction.rollback()?
        } else {
            transaction.commit()?
        }
        Ok(outcomes)
    }
}

/// One compare-and-swap inside the transaction; `newest` is the newest revision so far.
fn apply(
    transaction: &Transaction<'_>,
    write: &Write,
    newest: Revision,
) -> rusqlite::Result<Outcome> {
    let current = reader::get(transaction, &write.key)?;
    let expected = match (write.expect, &current) {
        (Expect::Absent, None) => true,
        (Expect::At(revision), Some(entry)) => entry.modified == revision,
        _ => false,
    };
    if !expected {
        return Ok(Outcome::Refused(StoreError::Conflict { current }));
    }
    let revision = Revision(newest.0 + 1);
    let key = write.key.as_bytes();
    let event = match (&write.op, current) {
        (Op::Put(value), Some(entry)) if entry.value == *value => {
            return Ok(Outcome::Unchanged(entry.modified));
        }
        (Op::Delete, None) => return Ok(Outcome::Unchanged(newest)),
        (Op::Put(value), None) => {
            log(
                transaction,
                revision,
                key,
                revision,
                Revision(0),
                Some(value.as_ref()),
            )?;
            let (kind, value) = (EventKind::Created, value.clone());
            Event {
                kind,
                key: write.key.as_str().into(),
                revision,
                value,
                previous: None,
            }
        }
        (Op::Put(value), Some(entry)) => {
            log(
                transaction,
                revision,
                key,
                entry.created,
                entry.modified,
                Some(value.as_ref()),
            )?;
            let (kind, value) = (EventKind::Updated, value.clone());
            Event {
                kind,
                key: entry.key,
                revision,
                value,
                previous: Some(entry.value),
            }
        }
        (Op::Delete, Some(entry)) => {
            log(
                transaction,
                revision,
                key,
                entry.created,
                entry.modified,
                None,
            )?;
            let (kind, value) = (EventKind::Deleted, entry.value.clone());
            Event {
                kind,
                key: entry.key,
                revision,
                value,
                previous: Some(entry.value),
            }
        }
    };
    if event.kind == EventKind::Deleted {
        transaction
            .prepare_cached("DELETE FROM kv WHERE key = ?1")?
            .execute([key])?;
    } else {
        transaction
            .prepare_cached(
                "INSERT INTO kv (key, revision) VALUES (?1, ?2)
                 ON CONFLICT (key) DO UPDATE SET revision = excluded.revision",
            )?
            .execute(params![key, revision.0.cast_signed()])?;
    }
    Ok(Outcome::Changed(Box::new(event)))
}

fn log(
    transaction: &Transaction<'_>,
    revision: Revision,
    key: &[u8],
    created: Revision,
    previous: Revision,
    value: Option<&[u8]>,
) -> rusqlite::Result<()> {
    let (revision, created, previous) = (
        revision.0.cast_signed(),
        created.0.cast_signed(),
        previous.0.cast_signed(),
    );
    transaction
        .prepare_cached(
            "INSERT INTO log (revision, key, created, previous, value) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?
        .execute(params![revision, key, created, previous, value])?;
    Ok(())
}
