//! The database file: opening it, checking that it is ours and whole, and its tables.
//!
//! `log` holds every change that is not compacted, by revision; a deletion is a row without value.
//! `kv` points from each live key to its newest row. `meta` remembers what was compacted. The
//! current revision is the newest row's, or the compacted one where that is larger, so that a write
//! needs no counter and compaction cannot take a revision back. `log.expires` is when a value with a
//! time to live ends, in milliseconds since 1970. `log.sum` is a checksum of its row: SQLite notices
//! when its own structures are damaged, but not when a value is.
//!
//! Format 2 added `expires` and `sum`, which rows of format 1 do not have, and dropped an index of `log`
//! by key; a database of format 1 is brought forward when it is opened.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, ErrorCode, OpenFlags, Row};

use super::note;
use crate::hub::Position;
use crate::{Revision, StoreError};

/// "KNRR", in the header of each of our files.
const APPLICATION_ID: i32 = 0x4b4e_5252;
/// The format of the tables below.
const FORMAT: i32 = 2;
/// The size of a page in a new database: objects have a few KiB, of which a page is to hold some.
const PAGE_BYTES: u32 = 8192;
/// What is beside a database that is making way for a restored one.
pub(super) const MARKER: &str = "-replacing";
/// How a connection that writes is opened.
pub(super) const WRITE: OpenFlags =
    OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);
/// An interrupted WAL recovery or a checkpoint can hold locks for a moment.
pub(crate) const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

const TABLES: &str = "
BEGIN IMMEDIATE;
CREATE TABLE log (
  revision INTEGER PRIMARY KEY,
  key BLOB NOT NULL,
  created INTEGER NOT NULL,
  previous INTEGER NOT NULL,
  value BLOB,
  expires INTEGER,
  sum INTEGER
);
CREATE INDEX log_expires ON log (expires) WHERE expires IS NOT NULL;
CREATE TABLE kv (key BLOB PRIMARY KEY, revision INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), compacted INTEGER NOT NULL);
INSERT INTO meta (id, compacted) VALUES (1, 0);
PRAGMA application_id = 0x4b4e5252;
PRAGMA user_version = 2;
COMMIT;
";

/// What brings format 1 forward.
const FROM_1: &str = "
BEGIN IMMEDIATE;
ALTER TABLE log ADD COLUMN expires INTEGER;
ALTER TABLE log ADD COLUMN sum INTEGER;
DROP INDEX log_key;
CREATE INDEX log_expires ON log (expires) WHERE expires IS NOT NULL;
PRAGMA user_version = 2;
COMMIT;
";

/// An opened database that this process alone may write.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    pub(crate) position: Position,
    pub(crate) lock: File,
}

/// Takes the lock, opens or makes the database, and checks it.
pub(crate) fn open(path: &Path) -> Result<Opened, StoreError> {
    make_folder(path)?;
    let lock = take_lock(path)?;
    if with_suffix(path, MARKER).exists() {
        return Err(StoreError::Restoring {
            place: format!("the database {}", path.display()),
        });
    }
    let note = note::read(&lock).map_err(io_error("read the lock file of", path))?;
    check_file(path, note.is_made)?;
    let is_there = path.exists();
    create_private(path)?;

    let failed = |error| classify(path, "open", error);
    let connection = connect(path, WRITE).map_err(failed)?;
    check_identity(&connection, path)?;
    configure_writer(&connection).map_err(failed)?;
    let format = format_of(&connection).map_err(failed)?;
    if format == 1 {
        connection
            .execute_batch(FROM_1)
            .map_err(|error| classify(path, "bring the tables forward", error))?;
    }
    let position = match format {
        0 => {
            make_tables(&connection).map_err(|error| classify(path, "make the tables", error))?;
            Position {
                current: Revision(1),
                compacted: Revision(0),
            }
        }
        _ => position(&connection).map_err(|error| classify(path, "read the position", error))?,
    };
    match note.committed {
        Some(committed) if is_there && position.current < committed => {
            return Err(StoreError::LostTail {
                path: path.to_owned(),
                found: position.current,
                committed,
                lock: lock_path(path),
            });
        }
        Some(_) if is_there => {}
        _ => note::mark_made(&lock).map_err(io_error("write the lock file of", path))?,
    }
    Ok(Opened {
        connection,
        position,
        lock,
    })
}

/// A connection. Its statements are planned without a look at what is bound to them: SQLite would plan
/// them anew at each use, wherever a value might decide about a partial index.
pub(super) fn connect(path: &Path, flags: OpenFlags) -> Result<Connection, rusqlite::Error> {
    let connection = Connection::open_with_flags(path, flags)?;
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(connection)
}

/// A connection that only reads.
pub(crate) fn open_reader(path: &Path) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = connect(path, flags)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch(
        "PRAGMA query_only = ON; PRAGMA cache_size = -1024; PRAGMA temp_store = MEMORY;",
    )?;
    Ok(connection)
}

/// A connection that only checkpoints.
pub(crate) fn open_checkpointer(path: &Path) -> Result<Connection, rusqlite::Error> {
    let connection = connect(path, WRITE)?;
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.execute_batch("PRAGMA synchronous = FULL; PRAGMA cache_size = -64;")?;
    Ok(connection)
}

/// Where the database is, as seen by this connection's transaction.
pub(crate) fn position(connection: &Connection) -> rusqlite::Result<Position> {
    let (newest, compacted) = connection
        .prepare_cached(
            "SELECT coalesce((SELECT max(revision) FROM log), 0), compacted FROM meta WHERE id = 1",
        )?
        .query_row([], |row| Ok((revision(row, 0)?, revision(row, 1)?)))?;
    Ok(Position {
        current: newest.max(compacted).max(Revision(1)),
        compacted,
    })
}

/// What SQLite would say, had it noticed.
pub(super) fn damaged(detail: String) -> rusqlite::Error {
    let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
    rusqlite::Error::SqliteFailure(code, Some(detail))
}

/// A revision out of a row.
pub(crate) fn revision(row: &Row<'_>, column: usize) -> rusqlite::Result<Revision> {
    Ok(Revision(row.get::<_, i64>(column)?.cast_unsigned()))
}

/// A time out of `log.expires`.
pub(crate) fn time(millis: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_millis(u64::try_from(millis).unwrap_or(0))
}

/// A time for `log.expires`: rounded up, so that nothing ends before its time.
pub(crate) fn millis(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(i64::MAX)
}

/// The largest `log.expires` that is over now: rounded down, for the same reason.
pub(crate) fn millis_over(now: SystemTime) -> i64 {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// The engine's error in our words.
pub(crate) fn classify(path: &Path, action: &'static str, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full {
            path: path.to_owned(),
        },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Corrupt {
            path: path.to_owned(),
            detail: error.to_string(),
        },
        _ => StoreError::Engine {
            action,
            path: path.to_owned(),
            source: Arc::new(error),
        },
    }
}

/// The tables of an empty database.
pub(super) fn make_tables(connection: &Connection) -> rusqlite::Result<()> {
    connection.execute_batch(TABLES)
}

/// Makes a connection fast that fills a new database which nobody uses until it is synced.
pub(super) fn configure_builder(connection: &Connection) -> rusqlite::Result<()> {
    choose_layout(connection)?;
    connection.pragma_update_and_check(None, "journal_mode", "OFF", |_| Ok(()))?;
    connection.execute_batch("PRAGMA synchronous = OFF; PRAGMA cache_size = -16384;")
}

/// The folder that a file is in.
pub(super) fn folder(path: &Path) -> &Path {
    path.parent()
        .filter(|parent| !parent.as_os_str().is_empty())
        .unwrap_or(Path::new("."))
}

pub(super) fn make_folder(path: &Path) -> Result<(), StoreError> {
    let folder = folder(path);
    std::fs::create_dir_all(folder).map_err(io_error("make the folder", folder))
}

fn lock_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-lock");
    name.into()
}

pub(super) fn take_lock(path: &Path) -> Result<File, StoreError> {
    let lock_path = lock_path(path);
    let lock = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&lock_path)
        .map_err(io_error("open the lock file", &lock_path))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(StoreError::Locked {
            path: path.to_owned(),
            lock: lock_path,
        }),
        Err(TryLockError::Error(error)) => Err(io_error("lock", &lock_path)(error)),
    }
}

/// What the engine itself would not notice, or not in time: a file cut short, or emptied.
fn check_file(path: &Path, made: bool) -> Result<(), StoreError> {
    let corrupt = |detail: String| {
        Err(StoreError::Corrupt {
            path: path.to_owned(),
            detail,
        })
    };
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io_error("open", path)(error)),
    };
    let length = file.metadata().map_err(io_error("read", path))?.len();
    // A new database lives in its WAL until the first checkpoint.
    let wal_length = std::fs::metadata(with_suffix(path, "-wal")).map_or(0, |wal| wal.len());
    if wal_length > 32 {
        return Ok(());
    }
    if length == 0 {
        return if made {
            corrupt("the file is empty, though it held a database before".into())
        } else {
            Ok(())
        };
    }
    let mut header = [0; 100];
    if file.read_exact(&mut header).is_err() {
        return corrupt(format!("the file is cut short at {length} bytes"));
    }
    let field = |at: usize| {
        u32::from_be_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]])
    };
    let page_size = match u16::from_be_bytes([header[16], header[17]]) {
        1 => 65536,
        size => u64::from(size),
    };
    let expected = u64::from(field(28)) * page_size;
    let size_is_valid = header.starts_with(b"SQLite format 3\0") && field(24) == field(92);
    if size_is_valid && length < expected {
        return corrupt(format!(
            "the file is cut short: it has {length} of {expected} bytes"
        ));
    }
    Ok(())
}

/// The path of a file that the engine keeps beside the database.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Values may be secrets: the file, and with it what the engine puts beside it, is the owner's alone.
pub(super) fn create_private(path: &Path) -> Result<(), StoreError> {
    match OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
    {
        Ok(_) => {
            let folder = folder(path);
            File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(io_error("sync the folder", folder))
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io_error("make", path)(error)),
    }
}

fn check_identity(connection: &Connection, path: &Path) -> Result<(), StoreError> {
    let failed = |error| classify(path, "read the header", error);
    connection.busy_timeout(BUSY_TIMEOUT).map_err(failed)?;
    let format = format_of(connection).map_err(failed)?;
    let found: i32 = connection
        .pragma_query_value(None, "application_id", |row| row.get(0))
        .map_err(failed)?;
    let tables: i64 = connection
        .query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))
        .map_err(failed)?;
    if found != APPLICATION_ID && (found != 0 || format != 0 || tables != 0) {
        return Err(StoreError::Foreign {
            path: path.to_owned(),
            found,
        });
    }
    if format > FORMAT {
        return Err(StoreError::TooNew {
            path: path.to_owned(),
            found: format,
            known: FORMAT,
        });
    }
    Ok(())
}

fn format_of(connection: &Connection) -> rusqlite::Result<i32> {
    connection.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// What counts only before the first table, and before the switch to WAL: a database that is there keeps
/// what it has.
fn choose_layout(connection: &Connection) -> rusqlite::Result<()> {
    connection.pragma_update(None, "page_size", PAGE_BYTES)?;
    connection.pragma_update(None, "auto_vacuum", "INCREMENTAL")
}

fn configure_writer(connection: &Connection) -> rusqlite::Result<()> {
    choose_layout(connection)?;
    connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
    connection.execute_batch(
        "PRAGMA synchronous = FULL;
         PRAGMA cache_size = -4096;
         PRAGMA temp_store = MEMORY;
         PRAGMA journal_size_limit = 33554432;
         PRAGMA wal_autocheckpoint = 0;",
    )
}

pub(super) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    let path = path.to_owned();
    move |error| match error.kind() {
        io::ErrorKind::StorageFull => StoreError::Full { path },
        _ => StoreError::Io {
            action,
            path,
            source: Arc::new(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_over_before_its_time() {
        let end = UNIX_EPOCH + Duration::from_nanos(5_000_900_000);
        let over = |now| millis_over(now) >= millis(end);
        assert!(!over(end - Duration::from_nanos(1)));
        assert!(over(end + Duration::from_millis(1)));
    }
}
