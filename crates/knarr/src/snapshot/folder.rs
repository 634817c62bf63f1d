//! The folder of an instance's snapshots: names, what is there, and what may go.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use store::{Snapshot, SnapshotError};

/// What the names of our files end in.
const SUFFIX: &str = ".knarrsnap";
/// The label of those that `knarr up` makes by itself, and what their names begin with.
pub(crate) const SCHEDULED: &str = "scheduled";
/// The label of those that somebody asked for.
pub(crate) const ON_DEMAND: &str = "on-demand";

/// A file that has a snapshot's name, and what it says about itself.
pub(crate) type Found = (PathBuf, Result<Snapshot, SnapshotError>);

/// Where an instance keeps its snapshots unless told otherwise.
pub(crate) fn default(data_dir: &Path) -> PathBuf {
    data_dir.join("snapshots")
}

/// The name of a new file.
pub(crate) fn file_name(instance: &str, label: &str, now: Timestamp) -> String {
    let when = now.strftime("%Y%m%dT%H%M%SZ");
    let lead = if label == SCHEDULED { "scheduled-" } else { "" };
    format!("{lead}{instance}-{when}{SUFFIX}")
}

/// What is in a folder, the oldest first. A folder that is not there has nothing in it.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn look(folder: &Path) -> Result<Vec<Found>> {
    let is_snapshot = |name: &str| name.ends_with(SUFFIX) && !name.starts_with('.');
    let found = files(folder, is_snapshot)?.into_iter().map(|path| {
        let says = Snapshot::inspect(&path);
        (path, says)
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by_cached_key(|(path, says)| {
        let created = says.as_ref().ok().map(|snapshot| snapshot.created);
        (created, path.clone())
    });
    Ok(found)
}

/// Scheduled snapshots that were begun and never finished. One process at a time makes them.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn unfinished(folder: &Path) -> Result<Vec<PathBuf>> {
    files(folder, |name| {
        name.starts_with(".scheduled-") && name.ends_with(".partial")
    })
}

fn files(folder: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let failed = || format!("cannot read {}", folder.display());
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(failed),
    };
    let mut paths = Vec::new();
    for entry in entries {
        let entry = entry.with_context(failed)?;
        if wanted(&entry.file_name().to_string_lossy()) {
            paths.push(entry.path());
        }
    }
    Ok(paths)
}

/// The scheduled snapshots in a folder, the oldest first: files that we named and that say so.
pub(crate) fn scheduled(found: Vec<Found>) -> Vec<Snapshot> {
    let ours = |snapshot: &Snapshot| {
        let name = snapshot
            .path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy();
        snapshot.label == SCHEDULED && name.starts_with("scheduled-")
    };
    found
        .into_iter()
        .filter_map(|(_, says)| says.ok())
        .filter(ours)
        .collect()
}

/// Of the scheduled snapshots, the oldest first, those that are more than are kept.
pub(crate) fn surplus(scheduled: &[Snapshot], keep: usize) -> &[Snapshot] {
    &scheduled[..scheduled.len().saturating_sub(keep)]
}

/// When the next snapshot is due. One that is dated in the future, by a clock that was wrong then,
/// does not count.
pub(crate) fn due(
    scheduled: &[Snapshot],
    every: Duration,
    started: SystemTime,
    now: SystemTime,
) -> SystemTime {
    /// How long a start may take before the first one of a store is made.
    const SETTLING: Duration = Duration::from_secs(600);
    let newest = scheduled.iter().map(|snapshot| snapshot.created);
    match newest.filter(|created| *created <= now).max() {
        Some(newest) => newest + every,
        None => started + every.min(SETTLING),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::{Duration, SystemTime};

    use store::{Revision, Snapshot};

    use super::{SCHEDULED, due, file_name, scheduled, surplus};

    const HOUR: Duration = Duration::from_secs(3600);

    fn snapshot(name: &str, label: &str, created: SystemTime) -> Snapshot {
        Snapshot {
            path: format!("/x/{name}").into(),
            size_bytes: 1,
            created,
            revision: Revision(1),
            engine: "sqlite".to_owned(),
            label: label.to_owned(),
            entries: 0,
            content_bytes: 0,
            seal_keys: Vec::new(),
        }
    }

    #[test]
    fn only_scheduled_ones_go_and_the_oldest_first() {
        let start = SystemTime::UNIX_EPOCH;
        let found = [
            ("scheduled-a.knarrsnap", SCHEDULED),
            ("mine.knarrsnap", SCHEDULED),
            ("scheduled-b.knarrsnap", "on-demand"),
            ("scheduled-c.knarrsnap", SCHEDULED),
            ("scheduled-d.knarrsnap", SCHEDULED),
        ];
        let found = found.iter().zip(1..).map(|((name, label), hour)| {
            let one = snapshot(name, label, start + HOUR * hour);
            (one.path.clone(), Ok(one))
        });
        let mut found: Vec<_> = found.collect();
        let bad = store::SnapshotError::Foreign {
            path: "/x/scheduled-0.knarrsnap".into(),
        };
        found.insert(0, ("/x/scheduled-0.knarrsnap".into(), Err(bad)));
        let ours = scheduled(found);
        let names = |some: &[Snapshot]| -> Vec<String> {
            let name = |one: &Snapshot| one.path.display().to_string();
            some.iter().map(name).collect()
        };
        assert_eq!(
            names(surplus(&ours, 1)),
            ["/x/scheduled-a.knarrsnap", "/x/scheduled-c.knarrsnap"]
        );
        assert!(surplus(&ours, 3).is_empty() && surplus(&ours, 9).is_empty());
        assert_eq!(surplus(&ours, 0).len(), 3);
    }

    #[test]
    fn due_counts_what_is_there() {
        let now = SystemTime::UNIX_EPOCH + HOUR * 1000;
        let one = |hours_ago: u32| snapshot("s", SCHEDULED, now - HOUR * hours_ago);
        let every = HOUR * 12;
        assert_eq!(due(&[one(30), one(5)], every, now, now), now + HOUR * 7);
        assert_eq!(due(&[one(30)], every, now, now), now - HOUR * 18, "at once");
        assert_eq!(due(&[], every, now, now), now + HOUR / 6);
        assert_eq!(due(&[], HOUR / 60, now, now), now + HOUR / 60);
        let ahead = snapshot("s", SCHEDULED, now + HOUR * 500);
        assert_eq!(due(&[one(13), ahead], every, now, now), now - HOUR);
    }

    #[test]
    fn names_sort_by_time() {
        let at = |text: &str| text.parse().unwrap();
        let name = file_name("main", SCHEDULED, at("2026-02-03T04:05:06Z"));
        assert_eq!(name, "scheduled-main-20260203T040506Z.knarrsnap");
        let name = file_name("main", "on-demand", at("2026-02-03T04:05:06Z"));
        assert_eq!(name, "main-20260203T040506Z.knarrsnap");
    }
}
