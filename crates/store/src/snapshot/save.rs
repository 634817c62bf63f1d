//! Saving: pages of one revision out of a store that goes on meanwhile, into a file on a thread of its
//! own.

use std::path::Path;
use std::time::SystemTime;

use tokio::sync::mpsc;

use super::error::io_error;
use super::format::{Head, Writer, millis};
use super::{Progress, Snapshot, SnapshotError, Step};
use crate::{Entry, ListOptions, Revision, Store, StoreError};

/// How often a snapshot is begun that compaction overtakes.
const ATTEMPTS: u32 = 3;
/// How many entries a page has at most,
const PAGE_ENTRIES: usize = 1000;
/// and how many bytes it should have.
const PAGE_BYTES: usize = 2 << 20;
/// How many pages wait for the disk.
const PAGES_WAITING: usize = 2;

impl Store {
    /// Writes all entries at one revision, sealed ones as they are, to a file. The store goes on
    /// meanwhile. `label` is for the caller: it is in the file and nothing depends on it here.
    ///
    /// The file is there when this returns well, and not at all otherwise.
    ///
    /// # Errors
    /// A file of that name exists, the file cannot be written, the store failed, or compaction
    /// overtook it several times.
    pub async fn save_snapshot(
        &self,
        path: &Path,
        label: &str,
        progress: Progress<'_>,
    ) -> Result<Snapshot, SnapshotError> {
        if path.exists() {
            return Err(SnapshotError::FileExists {
                path: path.to_owned(),
            });
        }
        for attempt in 1..=ATTEMPTS {
            match self.attempt(path, label, progress).await {
                Err(SnapshotError::Store(StoreError::Compacted { oldest })) => {
                    tracing::info!(attempt, %oldest, "compaction overtook a snapshot");
                }
                outcome => return outcome,
            }
        }
        Err(SnapshotError::Overtaken { attempts: ATTEMPTS })
    }

    async fn attempt(
        &self,
        path: &Path,
        label: &str,
        progress: Progress<'_>,
    ) -> Result<Snapshot, SnapshotError> {
        let created = SystemTime::now();
        let mut pages = Pages::new(self.sync().await?);
        let head = Head {
            created: millis(created),
            revision: pages.revision.0,
            engine: self.kind().to_owned(),
            label: label.to_owned(),
        };
        let (sender, receiver) = mpsc::channel(PAGES_WAITING);
        let target = path.to_owned();
        let written = tokio::task::spawn_blocking(move || write(&target, head, receiver));
        let mut count = 0;
        let read = loop {
            match pages.next(self).await {
                Ok(Some(page)) => {
                    count += page.len() as u64;
                    if sender.send(Message::Page(page)).await.is_err() {
                        // The writer has failed, and says why below.
                        break Ok(());
                    }
                    progress(Step::Entries(count));
                }
                Ok(None) => {
                    let _ = sender.send(Message::End).await;
                    break Ok(());
                }
                Err(error) => break Err(error),
            }
        };
        drop(sender);
        let written = match written.await {
            Ok(written) => written,
            Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
            Err(_cancelled) => Err(StoreError::Closed.into()),
        };
        read?;
        written?.ok_or_else(|| StoreError::Closed.into())
    }
}

/// What the writer is given. Without the end the file is given up.
enum Message {
    Page(Vec<Entry>),
    End,
}

/// Writes what comes until the end; `None` when that did not come.
fn write(
    path: &Path,
    head: Head,
    mut pages: mpsc::Receiver<Message>,
) -> Result<Option<Snapshot>, SnapshotError> {
    let mut writer = Writer::create(path, head)?;
    while let Some(message) = pages.blocking_recv() {
        match message {
            Message::Page(page) => page.iter().try_for_each(|entry| writer.add(entry))?,
            Message::End => {
                // Somebody may have made one since we looked.
                if path.exists() {
                    let exists = std::io::ErrorKind::AlreadyExists.into();
                    return Err(io_error("make", path)(exists));
                }
                return writer.finish().map(Some);
            }
        }
    }
    Ok(None)
}

/// The pages of a store at one revision.
struct Pages {
    revision: Revision,
    after: Option<String>,
    limit: usize,
    ended: bool,
}

impl Pages {
    fn new(revision: Revision) -> Pages {
        Pages {
            revision,
            after: None,
            limit: 16,
            ended: false,
        }
    }

    async fn next(&mut self, store: &Store) -> Result<Option<Vec<Entry>>, StoreError> {
        if self.ended {
            return Ok(None);
        }
        let options = ListOptions {
            prefix: "",
            after: self.after.as_deref(),
            limit: self.limit,
            at: Some(self.revision),
        };
        let page = store.scan(options).await?;
        self.ended = !page.more;
        self.after = page.entries.last().map(|entry| entry.key.to_string());
        // The next page is about as large as this one would have to be.
        let bytes: usize = page.entries.iter().map(|entry| entry.value.len()).sum();
        let average = bytes / page.entries.len().max(1);
        self.limit = (PAGE_BYTES / average.max(1)).clamp(1, (self.limit * 2).min(PAGE_ENTRIES));
        Ok(Some(page.entries))
    }
}
