//! A database out of a snapshot, built beside and put in its place when it is whole.
//!
//! The place changes hands in steps, as the database and its WAL are two files: a marker is written
//! first and removed last, and while it is there the database is not opened (see
//! [`schema::open`]). So nobody meets an old WAL beside a new database, or a database without its WAL.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use rusqlite::config::DbConfig;
use rusqlite::{Connection, params};

use super::note;
use super::row::LogRow;
use super::schema::{self, classify, io_error, with_suffix};
use crate::snapshot::{Progress, Reader, RestoreOptions, Restored, Returning, SnapshotError};
use crate::{Entry, Revision, StoreError};

/// What the database is called while it is being built.
const BUILDING: &str = "-restoring";

/// Makes the database at `path` out of a snapshot.
pub(crate) fn restore(
    snapshot: &Path,
    path: &Path,
    options: &RestoreOptions,
    progress: Progress<'_>,
) -> Result<Restored, SnapshotError> {
    schema::make_folder(path)?;
    let lock = schema::take_lock(path)?;
    let interrupted = Marker::read(path)?;
    let wal = with_suffix(path, "-wal");
    let occupied = path.exists() || wal.exists();
    if occupied && interrupted.is_none() && !options.replace {
        return Err(SnapshotError::NotEmpty {
            place: path.display().to_string(),
        });
    }
    let reader = Reader::open(snapshot, progress)?;
    let replaced = current_revision(path, interrupted.as_ref());
    let mut returning = Returning::new(reader, options, replaced, progress)?;
    let building = with_suffix(path, BUILDING);
    let built = build(&building, &mut returning);
    if built.is_err() {
        // The first error is the one to report.
        let _ = remove(&building);
    }
    built?;
    // What was noted of the database that makes way does not bind the new one.
    note::mark_made(&lock).map_err(io_error("write the lock file of", path))?;
    let kept = put_in_place(path, &building, interrupted)?;
    let lineage_unknown = occupied && replaced.is_none();
    let revision = returning.end();
    Ok(returning.finish(revision, kept, lineage_unknown))
}

/// The revision of the database that makes way, if it can be read; its files stay as they are.
fn current_revision(path: &Path, interrupted: Option<&Marker>) -> Option<Revision> {
    let moved = interrupted.map(|marker| marker.kept(path));
    let candidates = moved.into_iter().chain([path.to_owned()]);
    let revisions = candidates.filter(|path| path.exists()).map(|path| {
        let connection = schema::connect(&path, schema::WRITE)?;
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true)?;
        schema::position(&connection).map(|position| position.current)
    });
    // None when one of them cannot be read.
    revisions
        .collect::<rusqlite::Result<Vec<_>>>()
        .ok()?
        .into_iter()
        .max()
}

/// Builds a database. Nothing is synced before the end: until then nobody relies on it.
fn build(path: &Path, returning: &mut Returning<'_>) -> Result<(), SnapshotError> {
    remove(path).map_err(io_error("remove", path))?;
    schema::create_private(path)?;
    let failed = |error| classify(path, "restore", error);
    let connection = schema::connect(path, schema::WRITE).map_err(failed)?;
    schema::configure_builder(&connection).map_err(failed)?;
    schema::make_tables(&connection).map_err(failed)?;
    let transaction = connection.unchecked_transaction().map_err(failed)?;
    let mut entries = 0_i64;
    while let Some(entry) = returning.next()? {
        insert(&transaction, &entry).map_err(failed)?;
        entries += 1;
    }
    let compacted = returning.end().0.cast_signed();
    transaction
        .execute("UPDATE meta SET compacted = ?1 WHERE id = 1", [compacted])
        .map_err(failed)?;
    transaction.commit().map_err(failed)?;
    check(&connection, path, entries)?;
    connection.close().map_err(|(_, error)| failed(error))?;
    let synced = File::open(path).and_then(|file| file.sync_all());
    Ok(synced.map_err(io_error("sync", path))?)
}

fn insert(connection: &Connection, entry: &Entry) -> rusqlite::Result<()> {
    let revision = entry.modified.0.cast_signed();
    let row = LogRow {
        revision,
        key: entry.key.as_bytes(),
        created: entry.created.0.cast_signed(),
        previous: 0,
        value: Some(entry.value.as_ref()),
        expires: entry.expires.map(schema::millis),
    };
    row.insert(connection)?;
    connection
        .prepare_cached("INSERT INTO kv (key, revision) VALUES (?1, ?2)")?
        .execute(params![entry.key.as_bytes(), revision])?;
    Ok(())
}

/// Whether what was built is whole.
fn check(connection: &Connection, path: &Path, entries: i64) -> Result<(), StoreError> {
    let failed = |error| classify(path, "check", error);
    let one = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let found = one("SELECT count(*) FROM kv JOIN log ON log.revision = kv.revision");
    let found = found.map_err(failed)?;
    let verdict: String = connection
        .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
        .map_err(failed)?;
    if verdict == "ok" && found == entries {
        return Ok(());
    }
    Err(StoreError::Corrupt {
        path: path.to_owned(),
        detail: format!("{found} of {entries} entries were restored: {verdict}"),
    })
}

/// Removes a database and what belongs to it.
fn remove(path: &Path) -> io::Result<()> {
    for suffix in ["", "-journal", "-wal", "-shm"] {
        match std::fs::remove_file(with_suffix(path, suffix)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Says that a database is making way for another, and under which name it is kept.
#[derive(Debug)]
struct Marker {
    suffix: String,
}

impl Marker {
    fn new() -> Marker {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ");
        Marker {
            suffix: format!("-replaced-{now}"),
        }
    }

    /// The marker of a restore that did not come to its end.
    fn read(path: &Path) -> Result<Option<Marker>, StoreError> {
        let marker = with_suffix(path, schema::MARKER);
        match std::fs::read_to_string(&marker) {
            Ok(suffix) if suffix.starts_with("-replaced-") && !suffix.contains('/') => {
                Ok(Some(Marker { suffix }))
            }
            // It was cut short, so nothing has been moved after it.
            Ok(_) => Ok(Some(Marker::new())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(io_error("read", &marker)(error)),
        }
    }

    fn write(&self, path: &Path) -> io::Result<()> {
        let mut file = File::create(with_suffix(path, schema::MARKER))?;
        file.write_all(self.suffix.as_bytes())?;
        file.sync_all()?;
        sync_folder(path)
    }

    fn remove(path: &Path) -> io::Result<()> {
        std::fs::remove_file(with_suffix(path, schema::MARKER))?;
        sync_folder(path)
    }

    fn kept(&self, path: &Path) -> PathBuf {
        with_suffix(path, &self.suffix)
    }
}

/// Moves the old database away, if there is one, and the new one to its place. Returns where the old
/// one is.
fn put_in_place(
    path: &Path,
    building: &Path,
    interrupted: Option<Marker>,
) -> Result<Option<PathBuf>, StoreError> {
    let failed = |error| io_error("replace", path)(error);
    let marker = interrupted.unwrap_or_else(Marker::new);
    marker.write(path).map_err(failed)?;
    let kept = marker.kept(path);
    if kept.exists() {
        // An earlier attempt has moved the old one: what is in its place came from a snapshot.
        remove(path).map_err(failed)?;
    } else {
        // The database last: as long as it is in its place its WAL may still have to follow.
        for suffix in ["-wal", ""] {
            match std::fs::rename(with_suffix(path, suffix), with_suffix(&kept, suffix)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
                _ => {}
            }
        }
        remove(path).map_err(failed)?;
    }
    std::fs::rename(building, path).map_err(failed)?;
    sync_folder(path).map_err(failed)?;
    Marker::remove(path).map_err(failed)?;
    Ok(Some(kept).filter(|kept| kept.exists()))
}

fn sync_folder(path: &Path) -> io::Result<()> {
    File::open(schema::folder(path))?.sync_all()
}
