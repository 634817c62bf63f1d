//! The one thread that writes. It drains the requests that wait into one transaction, so that they
//! share one fsync, publishes their events, and only then answers. Between batches it compacts in
//! small steps. A batch that fails is tried again transaction by transaction, so that no request fails for
//! another's sake; an error goes to the request that met it, and the thread goes on.

mod checkpoint;
mod compact;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Instant, SystemTime};

use rusqlite::{Connection, OptionalExtension as _, Transaction, TransactionBehavior, params};
use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::{mpsc, oneshot, watch};

use self::checkpoint::Checkpoints;
use self::compact::Compaction;
use super::live::Live;
use super::note;
use super::reader::{self, Readers};
use super::row::LogRow;
use super::schema::{self, Opened, classify};
use crate::hub::Hub;
use crate::{Entry, Event, EventKind, Expect, Op, Retention, Revision, StoreError, Write};

/// The most writes, and about the most bytes, of one commit.
const BATCH_WRITES: usize = 512;
const BATCH_BYTES: usize = 4 << 20;
/// After so many batches without a pause, compaction gets a turn.
const BATCHES_PER_STEP: u32 = 8;
/// How many keys whose time is over one commit removes.
const EXPIRE_STEP: i64 = 500;

/// The answer to a request.
pub(crate) type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What the writer is asked to do.
#[derive(Debug)]
pub(crate) enum Request {
    Transact {
        writes: Vec<Write>,
        /// When the caller asked.
        asked: Instant,
        reply: Reply<Vec<Revision>>,
    },
    Compact {
        up_to: Revision,
        reply: Reply<()>,
    },
    /// Remove keys whose time is over.
    Expire {
        reply: oneshot::Sender<()>,
    },
    /// Write the file anew, so that nothing is left in it of what was deleted.
    Scrub {
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
    /// When the next key's time is over.
    due: watch::Sender<Option<SystemTime>>,
    hub: Arc<Hub>,
    readers: Arc<Readers>,
    live: Arc<Live>,
    lock: File,
}

/// A transaction that waits for its batch.
struct Pending {
    writes: Vec<Write>,
    reply: Reply<Vec<Revision>>,
}

/// What one transaction came to: a revision for each of its writes, or why it did not happen.
type Outcome = Result<Vec<Revision>, StoreError>;

impl Writer {
    /// Starts the thread, and says when something is due. It ends at [`Request::Close`], or when all
    /// senders are gone.
    pub(crate) fn start(
        path: &Path,
        opened: Opened,
        requests: mpsc::Receiver<Request>,
        hub: Arc<Hub>,
        readers: Arc<Readers>,
        live: Arc<Live>,
        retention: Option<Retention>,
    ) -> Result<(JoinHandle<()>, watch::Receiver<Option<SystemTime>>), StoreError> {
        let Opened {
            mut connection,
            position,
            lock,
        } = opened;
        let checkpoints = Checkpoints::start(path, &mut connection)
            .map_err(|error| classify(path, "start checkpoints", error))?;
        let next =
            next_due(&connection).map_err(|error| classify(path, "look for what is due", error))?;
        let (due, is_due) = watch::channel(next);
        let writer = Writer {
            path: path.to_owned(),
            connection,
            checkpoints,
            compaction: Compaction::new(position, retention),
            current: position.current,
            due,
            hub,
            readers,
            live,
            lock,
        };
        let thread = thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer.run(requests))
            .map_err(|error| StoreError::Io {
                action: "start the writer of",
                path: path.to_owned(),
                source: Arc::new(error),
            })?;
        Ok((thread, is_due))
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
            let (mut closing, mut expiring, mut scrubbing) = (false, None, None);
            let (mut batch, mut count, mut bytes) = (Vec::new(), 0, 0);
            while let Some(request) = next.take() {
                match request {
                    Request::Transact {
                        writes,
                        asked,
                        reply,
                    } => {
                        count += writes.len();
                        bytes += writes.iter().map(Write::weight_bytes).sum::<usize>();
                        let waited = asked.elapsed().as_secs_f64();
                        self.hub.counters().queue_seconds.observe(waited);
                        batch.push(Pending { writes, reply });
                    }
                    Request::Compact { up_to, reply } => self.compaction.request(up_to, reply),
                    Request::Expire { reply } => expiring = Some(reply),
                    Request::Scrub { reply } => scrubbing = Some(reply),
                    Request::Close => {
                        closing = true;
                        break;
                    }
                }
                if count < BATCH_WRITES && bytes < BATCH_BYTES {
                    next = requests.try_recv().ok();
                }
            }
            self.commit(batch);
            if closing {
                break;
            }
            if let Some(reply) = expiring {
                self.expire();
                // Nobody waits when the store is being dropped.
                let _ = reply.send(());
            }
            if let Some(reply) = scrubbing {
                let scrubbed = self.checkpoints.scrub(&self.connection);
                let answer = scrubbed.map_err(|error| classify(&self.path, "scrub", error));
                // A caller that is gone needs no answer.
                let _ = reply.send(answer);
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
        match self.transact(batch.iter().map(|pending| pending.writes.as_slice())) {
            Ok((outcomes, events)) => {
                self.publish(events);
                for (pending, outcome) in batch.into_iter().zip(outcomes) {
                    // A caller that is gone needs no answer.
                    let _ = pending.reply.send(outcome);
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

    fn publish(&mut self, events: Vec<Event>) {
        if let Some(last) = events.last() {
            self.current = last.revision;
            self.hub.publish(events);
        }
    }

    /// All transactions in one commit. When this fails nothing has happened.
    fn transact<'a>(
        &mut self,
        batch: impl ExactSizeIterator<Item = &'a [Write]>,
    ) -> rusqlite::Result<(Vec<Outcome>, Vec<Event>)> {
        let started = Instant::now();
        let size = batch.len();
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut applied = Applied {
            transaction: &transaction,
            live: &self.live,
            newest: self.current,
            now: SystemTime::now(),
            due: None,
            changed: HashMap::new(),
            events: Vec::new(),
        };
        let outcomes = batch
            .map(|writes| applied.transact(writes))
            .collect::<Result<Vec<_>, _>>()?;
        let Applied {
            newest,
            due,
            changed,
            events,
            ..
        } = applied;
        if events.is_empty() {
            transaction.rollback()?;
            return Ok((outcomes, events));
        }
        transaction.commit()?;
        self.live.apply(newest, changed.into_iter());
        if let Some(last) = events.last()
            && let Err(error) = note::committed(&self.lock, last.revision)
        {
            // It would only have said something about a damage to come.
            tracing::warn!(error = stdx::chain(&error), "the last commit was not noted");
        }
        let counters = self.hub.counters();
        counters
            .commit_seconds
            .observe(started.elapsed().as_secs_f64());
        counters
            .batch
            .observe(u32::try_from(size).unwrap_or(u32::MAX).into());
        if let Some(due) = due {
            self.due.send_if_modified(|next| {
                let earlier = next.is_none_or(|next| due < next);
                if earlier {
                    *next = Some(due);
                }
                earlier
            });
        }
        Ok((outcomes, events))
    }

    /// Removes keys whose time is over, and finds out when the next one's is. An error leaves them
    /// for later.
    fn expire(&mut self) {
        let expired = expired(&self.connection, SystemTime::now());
        let result = expired.and_then(|writes| {
            let one = std::iter::once(writes.as_slice());
            let (_, events) = self.transact(one)?;
            let removed = events.len() as u64;
            self.publish(events);
            self.hub
                .counters()
                .expired
                .fetch_add(removed, Ordering::Relaxed);
            next_due(&self.connection)
        });
        let next = result.unwrap_or_else(|error| {
            let error = classify(&self.path, "remove old keys", error);
            tracing::warn!(error = stdx::chain(&error), "tried again in a minute");
            Some(SystemTime::now() + std::time::Duration::from_mins(1))
        });
        self.due.send_replace(next);
    }
}

/// Deletions of keys whose time is over.
fn expired(connection: &Connection, now: SystemTime) -> rusqlite::Result<Vec<Write>> {
    let mut statement = connection.prepare_cached(
        "SELECT log.key, log.revision FROM log CROSS JOIN kv ON kv.key = log.key
         WHERE log.expires <= ?1 AND kv.revision = log.revision ORDER BY log.expires LIMIT ?2",
    )?;
    let rows = statement.query_map(params![schema::millis_over(now), EXPIRE_STEP], |row| {
        let (key, at) = (reader::key(row, 0)?, schema::revision(row, 1)?);
        Ok(Write::delete(&*key, Expect::At(at)))
    })?;
    rows.collect()
}

/// When the next live key's time is over.
fn next_due(connection: &Connection) -> rusqlite::Result<Option<SystemTime>> {
    connection
        .prepare_cached(
            "SELECT log.expires FROM log CROSS JOIN kv ON kv.key = log.key
             WHERE log.expires IS NOT NULL AND kv.revision = log.revision
             ORDER BY log.expires LIMIT 1",
        )?
        .query_row([], |row| row.get(0).map(schema::time))
        .optional()
}

/// What has been done so far in a commit.
struct Applied<'a> {
    transaction: &'a Transaction<'a>,
    live: &'a Live,
    newest: Revision,
    now: SystemTime,
    due: Option<SystemTime>,
    /// What became of the keys that were written so far.
    changed: HashMap<Arc<str>, Option<Entry>>,
    events: Vec<Event>,
}

impl Applied<'_> {
    /// All writes of a transaction, or none.
    fn transact(&mut self, writes: &[Write]) -> rusqlite::Result<Outcome> {
        let mut found = Vec::with_capacity(writes.len());
        for write in writes {
            let current = self.current(&write.key)?;
            let expected = match (write.expect, &current) {
                (Expect::Absent, None) => true,
                (Expect::At(revision), Some(entry)) => entry.modified == revision,
                _ => false,
            };
            if !expected {
                let key = write.key.as_str().into();
                return Ok(Err(StoreError::Conflict { key, current }));
            }
            found.push(current);
        }
        let revisions = writes
            .iter()
            .zip(found)
            .map(|(write, current)| self.apply(write, current))
            .collect::<rusqlite::Result<_>>()?;
        Ok(Ok(revisions))
    }

    /// What a key is at this point of the commit.
    fn current(&self, key: &str) -> rusqlite::Result<Option<Entry>> {
        if let Some(changed) = self.changed.get(key) {
            return Ok(changed.clone());
        }
        match self.live.get(key) {
            Some(entry) => Ok(Some(entry)),
            None => reader::get(self.transaction, key),
        }
    }

    /// One write whose precondition holds.
    fn apply(&mut self, write: &Write, current: Option<Entry>) -> rusqlite::Result<Revision> {
        let revision = Revision(self.newest.0 + 1);
        let (created, previous) = match &current {
            Some(entry) => (entry.created, entry.modified),
            None => (revision, Revision(0)),
        };
        let (kind, value) = match (&write.op, &current) {
            (Op::Put { value, .. }, Some(entry)) if entry.value == *value => {
                return Ok(entry.modified);
            }
            (Op::Delete, None) => return Ok(self.newest),
            (Op::Put { value, .. }, None) => (EventKind::Created, value.clone()),
            (Op::Put { value, .. }, Some(_)) => (EventKind::Updated, value.clone()),
            (Op::Delete, Some(entry)) => (EventKind::Deleted, entry.value.clone()),
        };
        let stored = (kind != EventKind::Deleted).then_some(value.as_ref());
        let expires = match &write.op {
            Op::Put { ttl: Some(ttl), .. } => Some(self.now + *ttl),
            _ => None,
        };
        let (revision_column, key) = (revision.0.cast_signed(), write.key.as_bytes());
        let row = LogRow {
            revision: revision_column,
            key,
            created: created.0.cast_signed(),
            previous: previous.0.cast_signed(),
            value: stored,
            expires: expires.map(schema::millis),
        };
        row.insert(self.transaction)?;
        let expires_column = row.expires;
        let statement = match kind {
            EventKind::Created => "INSERT INTO kv (revision, key) VALUES (?1, ?2)",
            EventKind::Updated => "UPDATE kv SET revision = ?1 WHERE key = ?2",
            EventKind::Deleted => "DELETE FROM kv WHERE ?1 > 0 AND key = ?2",
        };
        let rows = self
            .transaction
            .prepare_cached(statement)?
            .execute(params![revision_column, key])?;
        if rows != 1 {
            return Err(schema::damaged(format!(
                "{} is not among the live keys",
                write.key
            )));
        }
        self.due = match (self.due, expires) {
            (Some(due), Some(expires)) => Some(due.min(expires)),
            (due, expires) => due.or(expires),
        };
        self.newest = revision;
        let key = match &current {
            Some(entry) => entry.key.clone(),
            None => write.key.as_str().into(),
        };
        let entry = (kind != EventKind::Deleted).then(|| Entry {
            key: key.clone(),
            value: value.clone(),
            created,
            modified: revision,
            expires: expires_column.map(schema::time),
        });
        self.changed.insert(key.clone(), entry);
        self.events.push(Event {
            kind,
            key,
            revision,
            value,
            previous: current.map(|entry| entry.value),
        });
        Ok(revision)
    }
}
