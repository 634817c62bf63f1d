//! Reading: a few read-only connections, each used by one blocking thread at a time. A list is one
//! read transaction, so it shows one revision whatever the writer does meanwhile. Which keys there are,
//! and of which revision, always comes out of that transaction; the entries themselves may be in memory.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OptionalExtension as _, Row, params};
use tokio::sync::Semaphore;

use super::live::Live;
use super::past::Changes;
use super::row::LogRow;
use super::schema::{self, classify, position, revision};
use crate::hub::lock;
use crate::{Entry, Event, EventKind, ListOptions, Page, Revision, StoreError};

/// How far one read of the history goes: over so many revisions,
const HISTORY_STEP: u64 = 4096;
/// or until it has found this many bytes.
const HISTORY_BYTES: usize = 1 << 20;
/// How many entries a list reads from the disk when one is not in memory; four times as many when the
/// next one is not either, and so on.
const READ_ENTRIES: usize = 32;

/// The pool of reading connections. They are opened when first needed.
#[derive(Debug)]
pub(crate) struct Readers {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
    permits: Arc<Semaphore>,
    live: Arc<Live>,
}

impl Readers {
    pub(crate) fn new(path: &Path, count: usize, live: Arc<Live>) -> Arc<Readers> {
        Arc::new(Readers {
            path: path.to_owned(),
            idle: Mutex::default(),
            permits: Arc::new(Semaphore::new(count.max(1))),
            live,
        })
    }

    /// The database file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Fails every later read, and closes the connections as they become idle.
    pub(crate) fn close(&self) {
        self.permits.close();
        lock(&self.idle).clear();
    }

    /// The live entry of a key; without one the revision as of which there is none.
    pub(crate) async fn get(
        self: &Arc<Self>,
        key: &str,
    ) -> Result<Result<Entry, Revision>, StoreError> {
        if self.permits.is_closed() {
            return Err(StoreError::Closed);
        }
        if let Some(entry) = self.live.get(key) {
            return Ok(Ok(entry));
        }
        let key = key.to_owned();
        self.run("get", move |connection| {
            let transaction = connection.unchecked_transaction()?;
            let entry = get(&transaction, &key)?;
            Ok(Ok(match entry {
                Some(entry) => Ok(entry),
                None => Err(position(&transaction)?.current),
            }))
        })
        .await
    }

    pub(crate) async fn list(
        self: &Arc<Self>,
        options: ListOptions<'_>,
        counted: bool,
    ) -> Result<Page, StoreError> {
        let range = KeyRange::new(options.prefix, options.after);
        let (limit, at) = (options.limit, options.at);
        let live = self.live.clone();
        self.run("list", move |connection| {
            let transaction = connection.unchecked_transaction()?;
            list(&transaction, &live, &range, limit, at, counted)
        })
        .await
    }

    /// Events of `prefix` after one revision up to another, at most a chunk of them, and how far
    /// this chunk reaches.
    pub(crate) async fn history(
        self: &Arc<Self>,
        prefix: &str,
        after: Revision,
        up_to: Revision,
    ) -> Result<(Vec<Event>, Revision), StoreError> {
        let range = KeyRange::new(prefix, None);
        self.run("read the history", move |connection| {
            let transaction = connection.unchecked_transaction()?;
            history(&transaction, &range, after, up_to)
        })
        .await
    }

    async fn run<T, F>(self: &Arc<Self>, action: &'static str, read: F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> rusqlite::Result<Result<T, StoreError>> + Send + 'static,
    {
        let permit = self
            .permits
            .clone()
            .acquire_owned()
            .await
            .map_err(|_closed| StoreError::Closed)?;
        let readers = self.clone();
        let task = tokio::task::spawn_blocking(move || {
            let failed = |error| classify(&readers.path, action, error);
            let idle = lock(&readers.idle).pop();
            let connection = match idle {
                Some(connection) => connection,
                None => schema::open_reader(&readers.path).map_err(failed)?,
            };
            let result = read(&connection).map_err(failed);
            if !readers.permits.is_closed() {
                lock(&readers.idle).push(connection);
            }
            drop(permit);
            result?
        });
        match task.await {
            Ok(result) => result,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(StoreError::Closed),
        }
    }
}

/// A range of keys as bytes: from `low` on, before `high`.
#[derive(Debug)]
pub(crate) struct KeyRange {
    low: Vec<u8>,
    high: Vec<u8>,
}

impl KeyRange {
    pub(crate) fn new(prefix: &str, after: Option<&str>) -> KeyRange {
        let mut low = prefix.as_bytes().to_vec();
        let mut high = low.clone();
        // No byte of UTF-8 is 0xff, so the last one can be raised, and 0xff is above all keys.
        match high.last_mut() {
            Some(last) => *last += 1,
            None => high.push(0xff),
        }
        if let Some(after) = after.filter(|after| after.as_bytes() >= low.as_slice()) {
            low = after.as_bytes().to_vec();
            low.push(0);
        }
        KeyRange { low, high }
    }
}

impl KeyRange {
    pub(super) fn low(&self) -> &[u8] {
        &self.low
    }

    pub(super) fn high(&self) -> &[u8] {
        &self.high
    }
}

/// The live entry of a key. Used by the writer as well.
pub(crate) fn get(connection: &Connection, key: &str) -> rusqlite::Result<Option<Entry>> {
    connection
        .prepare_cached(select_entry!(
            "kv.key = log.key
             FROM kv LEFT JOIN log ON log.revision = kv.revision WHERE kv.key = ?1"
        ))?
        .query_row([key.as_bytes()], entry)
        .optional()
}

fn list(
    connection: &Connection,
    live: &Live,
    range: &KeyRange,
    limit: usize,
    at: Option<Revision>,
    counted: bool,
) -> rusqlite::Result<Result<Page, StoreError>> {
    let position = position(connection)?;
    let at = at.unwrap_or(position.current);
    if at > position.current {
        return Ok(Err(StoreError::Future {
            requested: at,
            current: position.current,
        }));
    }
    if at < position.compacted {
        return Ok(Err(StoreError::Compacted {
            oldest: position.compacted,
        }));
    }
    let most = if limit == 0 {
        usize::MAX
    } else {
        limit.saturating_add(1)
    };
    let changes = if at < position.current {
        Some(Changes::since(connection, range, at)?)
    } else {
        None
    };
    let mut entries = match &changes {
        Some(changes) => changes.list(connection, range, most)?,
        None => present(connection, live, at, range, most)?,
    };
    let more = limit != 0 && entries.len() > limit;
    let mut remaining = 0;
    if more {
        entries.truncate(limit);
        if counted {
            let last = entries.last().map(|entry| entry.key.as_bytes());
            let last = last.unwrap_or(&range.low);
            remaining = match &changes {
                Some(changes) => changes.count_after(connection, range, last)?,
                None => count_after(connection, range, last)?,
            };
        }
    }
    Ok(Ok(Page {
        revision: at,
        entries,
        more,
        remaining,
    }))
}

/// The live entries of a range, at most so many; `at` is the revision of this read transaction.
fn present(
    connection: &Connection,
    live: &Live,
    at: Revision,
    range: &KeyRange,
    most: usize,
) -> rusqlite::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    let mut low = range.low.clone();
    let mut step = READ_ENTRIES;
    loop {
        let before = entries.len();
        let from = (low.as_slice(), range.high.as_slice());
        let Some(missing) = remembered(connection, live, from, most, &mut entries)? else {
            return Ok(entries);
        };
        step = if entries.len() > before {
            READ_ENTRIES
        } else {
            step.saturating_mul(4)
        };
        let wanted = step.min(most - entries.len());
        let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
        let mut statement = connection.prepare_cached(select_entry!(
            "kv.key = log.key FROM kv LEFT JOIN log ON log.revision = kv.revision
             WHERE kv.key >= ?1 AND kv.key < ?2 ORDER BY kv.key LIMIT ?3"
        ))?;
        let before = entries.len();
        for entry in statement.query_map(params![missing, range.high, limit], entry)? {
            let entry = entry?;
            live.offer(&entry, at);
            entries.push(entry);
        }
        let is_end = entries.len() - before < wanted || entries.len() >= most;
        match entries.last() {
            Some(last) if !is_end => {
                low = last.key.as_bytes().to_vec();
                low.push(0);
            }
            _ => return Ok(entries),
        }
    }
}

/// Adds the entries of a range that are in memory, up to `most` in all. Returns the first key whose
/// entry is not; `None` when there is none or `most` is reached.
fn remembered(
    connection: &Connection,
    live: &Live,
    (low, high): (&[u8], &[u8]),
    most: usize,
    entries: &mut Vec<Entry>,
) -> rusqlite::Result<Option<Vec<u8>>> {
    let mut statement = connection
        .prepare_cached("SELECT key, revision FROM kv WHERE key >= ?1 AND key < ?2 ORDER BY key")?;
    let mut rows = statement.query(params![low, high])?;
    while entries.len() < most
        && let Some(row) = rows.next()?
    {
        let key = row.get_ref(0)?.as_blob()?;
        let modified = revision(row, 1)?;
        let known = std::str::from_utf8(key).ok();
        match known.and_then(|key| live.get_at(key, modified)) {
            Some(entry) => entries.push(entry),
            None => return Ok(Some(key.to_vec())),
        }
    }
    Ok(None)
}

/// How many live keys of a range are after a key.
fn count_after(connection: &Connection, range: &KeyRange, after: &[u8]) -> rusqlite::Result<u64> {
    let count: i64 = connection
        .prepare_cached("SELECT count(*) FROM kv WHERE key > ?1 AND key < ?2")?
        .query_row(params![after, range.high], |row| row.get(0))?;
    Ok(count.cast_unsigned())
}

fn history(
    connection: &Connection,
    range: &KeyRange,
    after: Revision,
    up_to: Revision,
) -> rusqlite::Result<Result<(Vec<Event>, Revision), StoreError>> {
    let oldest = position(connection)?.compacted;
    if after < oldest {
        return Ok(Err(StoreError::Compacted { oldest }));
    }
    let mut reached = Revision(up_to.0.min(after.0.saturating_add(HISTORY_STEP)));
    let mut statement = connection.prepare_cached(
        "SELECT l.revision, l.key, l.value, p.value, l.created, l.expires, l.previous, l.sum
         FROM log l NOT INDEXED
         LEFT JOIN log p ON l.previous != 0 AND p.revision = l.previous
         WHERE l.revision > ?1 AND l.revision <= ?2 AND l.key >= ?3 AND l.key < ?4 ORDER BY l.revision",
    )?;
    let (low, high) = (range.low.as_slice(), range.high.as_slice());
    let mut rows = statement.query(params![
        after.0.cast_signed(),
        reached.0.cast_signed(),
        low,
        high
    ])?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let event = event(row)?;
        bytes += event.weight_bytes();
        let revision = event.revision;
        events.push(event);
        if bytes >= HISTORY_BYTES {
            reached = revision;
            break;
        }
    }
    Ok(Ok((events, reached)))
}

/// The beginning of a query for entries: what an entry is made of, but for the last column.
macro_rules! select_entry {
    ($rest:literal) => {
        concat!(
            "SELECT log.key, log.value, log.created, log.revision, log.expires, log.previous, log.sum, ",
            $rest
        )
    };
}
pub(super) use select_entry;

/// Columns: those of `select_entry`, and whether the row has the key that led to it.
pub(super) fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    if row.get_ref(0)? == ValueRef::Null {
        return Err(schema::damaged("a key leads to no row".to_owned()));
    }
    let checked = LogRow {
        revision: row.get(3)?,
        key: row.get_ref(0)?.as_blob()?,
        created: row.get(2)?,
        previous: row.get(5)?,
        value: row.get_ref(1)?.as_blob_or_null()?,
        expires: row.get(4)?,
    };
    checked.check(row.get(6)?)?;
    if !row.get::<_, bool>(7)? {
        return Err(schema::damaged(format!(
            "another key leads to revision {}",
            checked.revision
        )));
    }
    Ok(Entry {
        key: text(checked.key, 0)?,
        value: Bytes::copy_from_slice(checked.value.unwrap_or_default()),
        created: Revision(checked.created.cast_unsigned()),
        modified: Revision(checked.revision.cast_unsigned()),
        expires: checked.expires.map(schema::time),
    })
}

/// Columns: revision, key, value (none for a deletion), the value before (none for a creation), created,
/// expires, previous, sum.
fn event(row: &Row<'_>) -> rusqlite::Result<Event> {
    let checked = LogRow {
        revision: row.get(0)?,
        key: row.get_ref(1)?.as_blob()?,
        created: row.get(4)?,
        previous: row.get(6)?,
        value: row.get_ref(2)?.as_blob_or_null()?,
        expires: row.get(5)?,
    };
    checked.check(row.get(7)?)?;
    let value: Option<Vec<u8>> = row.get(2)?;
    let previous: Option<Bytes> = row.get::<_, Option<Vec<u8>>>(3)?.map(Bytes::from);
    let (kind, value) = match (value, &previous) {
        (Some(value), None) => (EventKind::Created, Bytes::from(value)),
        (Some(value), Some(_)) => (EventKind::Updated, Bytes::from(value)),
        (None, previous) => (EventKind::Deleted, previous.clone().unwrap_or_default()),
    };
    Ok(Event {
        kind,
        key: key(row, 1)?,
        revision: revision(row, 0)?,
        value,
        previous,
    })
}

pub(crate) fn key(row: &Row<'_>, column: usize) -> rusqlite::Result<std::sync::Arc<str>> {
    text(row.get_ref(column)?.as_blob()?, column)
}

fn text(bytes: &[u8], column: usize) -> rusqlite::Result<std::sync::Arc<str>> {
    let text = std::str::from_utf8(bytes).map_err(|error| {
        rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Blob, error.into())
    })?;
    Ok(text.into())
}
