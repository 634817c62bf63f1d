//! Writing the WAL back into the database. A thread with a connection of its own does it beside the
//! writer, which never waits for it; only when readers or a steady stream of writes keep the WAL
//! from starting over does the writer do it itself, so that the WAL stays bounded.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rusqlite::Connection;

use crate::sqlite::schema;

/// From so many bytes on, the WAL is written back,
const SOFT_BYTES: u64 = 8 << 20;
/// again after so many more,
const AGAIN_BYTES: u64 = 8 << 20;
/// and at so many the writer makes it start over.
const HARD_BYTES: u64 = 32 << 20;
/// How long the writer waits for readers then.
const RESTART_TIMEOUT: Duration = Duration::from_millis(50);

/// Keeps the WAL short.
pub(super) struct Checkpoints {
    /// How long the WAL was after the last commit.
    frames: Arc<AtomicU32>,
    page_bytes: u64,
    next_soft: u64,
    next_hard: u64,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpoints {
    pub(super) fn start(path: &Path, writer: &mut Connection) -> rusqlite::Result<Checkpoints> {
        let page_bytes =
            writer.pragma_query_value(None, "page_size", |row| row.get::<_, u32>(0))?;
        let frames = Arc::new(AtomicU32::new(0));
        let seen = frames.clone();
        writer.wal_hook(Some(
            move |_: &mut rusqlite::hooks::Wal, pages: std::ffi::c_int| {
                seen.store(pages.unsigned_abs(), Ordering::Relaxed);
                Ok(())
            },
        ))?;
        let (wake, woken) = sync_channel(1);
        let path = path.to_owned();
        let body = move || {
            let mut connection = None;
            while woken.recv().is_ok() {
                if let Err(error) = passive(&path, &mut connection) {
                    tracing::warn!(path = %path.display(), error = stdx::chain(&error), "a checkpoint failed");
                    connection = None;
                }
            }
        };
        // Without this thread the writer's own bound still holds.
        let thread = thread::Builder::new()
            .name("store-checkpoint".into())
            .spawn(body)
            .ok();
        Ok(Checkpoints {
            frames,
            page_bytes: page_bytes.into(),
            next_soft: SOFT_BYTES,
            next_hard: HARD_BYTES,
            wake: Some(wake),
            thread,
        })
    }

    /// Called after each batch, when its writers have been answered.
    pub(super) fn bound(&mut self, path: &Path, connection: &Connection) {
        let bytes = u64::from(self.frames.load(Ordering::Relaxed)) * self.page_bytes;
        if bytes < SOFT_BYTES {
            (self.next_soft, self.next_hard) = (SOFT_BYTES, HARD_BYTES);
            return;
        }
        if bytes >= self.next_hard {
            let restarted = connection
                .busy_timeout(RESTART_TIMEOUT)
                .and_then(|()| restart(connection));
            if let Err(error) = restarted.and(connection.busy_timeout(schema::BUSY_TIMEOUT)) {
                tracing::warn!(path = %path.display(), error = stdx::chain(&error), "the WAL could not start over");
            }
            // When readers were in the way: again after as much as the soft bound.
            self.next_hard = bytes + SOFT_BYTES;
        } else if bytes >= self.next_soft {
            self.next_soft = bytes + AGAIN_BYTES;
            if let Some(wake) = &self.wake {
                // A full channel means that it is about to run anyway.
                let _ = wake.try_send(());
            }
        }
    }

    /// Writes the database anew and the WAL back into it, so that neither free pages nor the space
    /// between rows hold anything from before. The copy on its way is in a file, not in memory.
    pub(super) fn scrub(&self, connection: &Connection) -> rusqlite::Result<()> {
        let vacuumed = connection.execute_batch("PRAGMA temp_store = FILE; VACUUM;");
        connection.execute_batch("PRAGMA temp_store = MEMORY;")?;
        vacuumed?;
        let busy = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
            row.get::<_, i64>(0)
        })?;
        if busy == 0 {
            return Ok(());
        }
        Err(rusqlite::Error::SqliteFailure(
            rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY),
            Some("readers kept the WAL from being written back".to_owned()),
        ))
    }

    pub(super) fn finish(&mut self, path: &Path, connection: &Connection) {
        self.wake = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's checkpoint thread panicked");
        }
        if let Err(error) = truncate(connection) {
            tracing::warn!(path = %path.display(), error = stdx::chain(&error), "the last checkpoint failed");
        }
    }
}

fn passive(path: &Path, connection: &mut Option<Connection>) -> rusqlite::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(schema::open_checkpointer(path)?),
    };
    connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()))
}

/// Writes everything back, so that the next commit begins the WAL anew, in the blocks that it has.
fn restart(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(RESTART)", [], |_| Ok(()))
}

/// Writes everything back and empties the WAL, unless readers are in the way for too long.
fn truncate(connection: &Connection) -> rusqlite::Result<()> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}
