//! Snapshots that `knarr up` makes by itself, and how many of them it keeps.
//!
//! Invariant: only snapshots that were made here are deleted, and only after a newer one is whole.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use store::Store;
use tokio_util::sync::CancellationToken;

use super::folder::{self, SCHEDULED};

/// The longest sleep before the clock is looked at again: clocks are set, machines suspended.
const LONGEST_SLEEP: Duration = Duration::from_secs(3600);
/// After one that failed.
const RETRY: Duration = Duration::from_secs(600);

/// When, and how many.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// How much time is between two.
    pub(crate) every: Duration,
    /// How many are kept.
    pub(crate) keep: usize,
}

/// Makes snapshots when they are due, until drained. Of several servers on one store those that do not
/// lead leave it to the one that does.
pub(crate) async fn run(
    store: Store,
    folder: PathBuf,
    instance: String,
    schedule: Schedule,
    leads: impl Fn() -> bool + Send,
    drain: CancellationToken,
) {
    let started = SystemTime::now();
    let mut not_before = started;
    loop {
        let place = folder.clone();
        let due = match blocking(move || folder::look(&place)).await {
            Ok(found) => {
                let scheduled = folder::scheduled(found);
                folder::due(&scheduled, schedule.every, started, SystemTime::now())
            }
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "scheduled snapshots");
                SystemTime::now() + RETRY
            }
        };
        let left = due.max(not_before).duration_since(SystemTime::now());
        let left = left.unwrap_or_default();
        if !left.is_zero() {
            tokio::select! {
                () = tokio::time::sleep(left.min(LONGEST_SLEEP)) => continue,
                () = drain.cancelled() => return,
            }
        }
        if !leads() {
            not_before = SystemTime::now() + RETRY.min(schedule.every);
            continue;
        }
        let made = tokio::select! {
            made = make(&store, &folder, &instance, schedule.keep) => made,
            () = drain.cancelled() => return,
        };
        if let Err(error) = made {
            tracing::error!(
                error = format!("{error:#}"),
                "a scheduled snapshot failed; tried again later"
            );
            not_before = SystemTime::now() + RETRY.min(schedule.every);
        }
    }
}

async fn make(store: &Store, folder: &Path, instance: &str, keep: usize) -> Result<()> {
    crate::instance::private_dir(folder)?;
    let path = folder.join(folder::file_name(instance, SCHEDULED, Timestamp::now()));
    let snapshot = store.save_snapshot(&path, SCHEDULED, &|_| {}).await?;
    tracing::info!(
        path = %path.display(),
        entries = snapshot.entries,
        size_bytes = snapshot.size_bytes,
        revision = snapshot.revision.0,
        "snapshot saved"
    );
    let folder = folder.to_owned();
    blocking(move || tidy(&folder, keep)).await
}

/// Deletes what is more than is kept, and what processes have left that were killed while saving.
fn tidy(folder: &Path, keep: usize) -> Result<()> {
    let scheduled = folder::scheduled(folder::look(folder)?);
    let surplus = folder::surplus(&scheduled, keep.max(1)).iter();
    let old = surplus.map(|snapshot| snapshot.path.clone());
    for path in old.chain(folder::unfinished(folder)?) {
        std::fs::remove_file(&path).with_context(|| format!("cannot delete {}", path.display()))?;
        tracing::info!(path = %path.display(), "old snapshot deleted");
    }
    Ok(())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a blocking task")?
}
