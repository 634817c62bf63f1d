//! `knarr secrets`: the keys that Secrets are encrypted with at rest. With a running cluster its process
//! does the work.

mod key_file;
mod keys;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

pub(crate) use self::key_file::{KeyFile, path as key_path, shown};
pub(crate) use self::keys::Keys;
use self::keys::Status;
use crate::config::DEFAULT_DATA_DIR;
use crate::datastore::DatastoreFlags;
use crate::instance::Instance;
use crate::snapshot::folder;
use crate::socket::{self, Said, Say};
use crate::storage::{self, Storage};

/// Keys that Secrets are encrypted with at rest.
#[derive(Subcommand)]
#[command(
    after_help = "The keys are in <data-dir>/secrets.key. Keep a copy with your backups: without it no \
                  Secret in the database or in a snapshot can be read.\n\nExamples:\n  \
                  knarr secrets status         which keys there are, and how many Secrets use them\n  \
                  knarr secrets rotate         a new key, and all Secrets encrypted with it\n  \
                  knarr secrets drop-old       away with keys that nothing needs any more"
)]
pub(crate) enum Command {
    /// Make a new key and encrypt all Secrets with it; older keys stay readable.
    Rotate {
        #[command(flatten)]
        place: Place,
    },
    /// Remove older keys that nothing needs any more. Watches that are behind must list again.
    DropOld {
        /// Also keys that snapshots in <data-dir>/snapshots need.
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        place: Place,
    },
    /// Show the keys and how many Secrets each encrypts.
    Status {
        #[command(flatten)]
        place: Place,
    },
}

/// Which cluster.
#[derive(Args)]
pub(crate) struct Place {
    /// The cluster's data directory.
    #[arg(long, env = "KNARR_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    #[command(flatten)]
    datastore: DatastoreFlags,
}

/// What can be done with the keys, as a value: done here, or sent to the process that has the store.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Work {
    /// A new key for all.
    Rotate,
    /// Without the old ones.
    DropOld { force: bool },
    /// What there is.
    Status,
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// The store cannot be reached, or the work failed.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let (place, work) = match self {
            Command::Rotate { place } => (place, Work::Rotate),
            Command::DropOld { force, place } => (place, Work::DropOld { force }),
            Command::Status { place } => (place, Work::Status),
        };
        let say = |said: Said| {
            if let Said::Line(line) = said {
                println!("{line}");
            }
        };
        let instance = Instance::of(&place.data_dir)?;
        if instance.holder().is_some() {
            let work = socket::Work::Secrets(work);
            socket::send(&socket::path(&instance.run_dir), &work, &say).await?;
            return Ok(ExitCode::SUCCESS);
        }
        let etcd = place.datastore.etcd()?;
        if etcd.is_none() && !storage::exists(&instance) {
            bail!("there is no cluster in {}", instance.data_dir.display());
        }
        let storage = Storage::open(&instance, etcd.as_ref()).await?;
        let outcome = work.run(&storage, false, &say).await;
        storage.store.close().await;
        outcome.map(|()| ExitCode::SUCCESS)
    }
}

impl Work {
    /// Does the work on an open store; `serving` says whether this process is a server of the cluster.
    ///
    /// # Errors
    /// As of [`Keys`]; or other servers would be left without the new key.
    pub(crate) async fn run(self, storage: &Storage, serving: bool, say: Say<'_>) -> Result<()> {
        let Storage { store, keys, .. } = storage;
        match self {
            Work::Rotate => {
                if store.is_shared() {
                    let servers = apiserver::announced_servers(store).await?;
                    alone(servers.len(), serving, keys.path())?;
                }
                let (id, count) = keys.rotate(store).await?;
                say(Said::Line(format!(
                    "new key {}; {count} Secrets encrypted with it\ncopy {} to your backups again",
                    shown(id),
                    keys.path().display()
                )));
            }
            Work::DropOld { force } => {
                let dir = keys.path().with_file_name("snapshots");
                let found = if force {
                    Vec::new()
                } else {
                    folder::look(&dir)?
                };
                let needed_by = |id| {
                    let needs = |snapshot: &&store::Snapshot| snapshot.seal_keys.contains(&id);
                    let mut whole = found.iter().filter_map(|(_, says)| says.as_ref().ok());
                    whole.find(needs).map(|snapshot| snapshot.path.clone())
                };
                let dropped = keys.drop_old(store, needed_by).await?;
                say(Said::Line(match dropped.as_slice() {
                    [] => "no key can go".to_owned(),
                    some => {
                        let ids: Vec<String> = some.iter().map(|id| shown(*id)).collect();
                        format!("dropped {}", ids.join(", "))
                    }
                }));
            }
            Work::Status => say(Said::Line(table(
                &keys.status(store).await?,
                Timestamp::now(),
            ))),
        }
        Ok(())
    }
}

/// Refuses a new key while other servers run: its file is not theirs, and they could not read what it seals.
fn alone(servers: usize, serving: bool, key_file: &Path) -> Result<()> {
    let others = servers.saturating_sub(usize::from(serving));
    if others == 0 {
        return Ok(());
    }
    let (servers, them) = match others {
        1 => ("1 other server uses".to_owned(), "it"),
        _ => (format!("{others} other servers use"), "them"),
    };
    bail!(
        "{servers} this etcd and could not read what a new key encrypts: stop {them}, rotate, copy {} to \
         {them}, and start {them} again. One that has just crashed counts for 15 seconds",
        key_file.display()
    )
}

fn table(status: &Status, now: Timestamp) -> String {
    let mut lines = vec![format!(
        "{:<8}  {:<20}  {:>6}  {:>7}",
        "KEY", "CREATED", "AGE", "SECRETS"
    )];
    for (at, (id, created, count)) in status.keys.iter().enumerate() {
        let use_ = if at == 0 { "  encrypts" } else { "" };
        lines.push(format!(
            "{}  {:<20}  {:>6}  {count:>7}{use_}",
            shown(*id),
            created.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
            age(*created, now),
        ));
    }
    if status.plain > 0 {
        lines.push(format!(
            "{:<8}  {:<20}  {:>6}  {:>7}",
            "none", "", "", status.plain
        ));
    }
    lines.join("\n")
}

/// How long ago something was, in its largest unit.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    let secs = now.duration_since(then).as_secs().max(0);
    match secs {
        0..120 => format!("{secs}s"),
        120..7200 => format!("{}m", secs / 60),
        7200..172_800 => format!("{}h", secs / 3600),
        _ => format!("{}d", secs / 86_400),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::path::Path;

    use super::{Status, alone, table};

    #[test]
    fn a_key_is_rotated_by_one_server_alone() {
        let said = |servers, serving| {
            let outcome = alone(servers, serving, Path::new("/d/secrets.key"));
            outcome.map_err(|error| error.to_string())
        };
        // Where nobody shares the store nobody is announced.
        for (servers, serving) in [(0, false), (0, true), (1, true)] {
            assert_eq!(said(servers, serving), Ok(()));
        }
        let one = said(1, false).unwrap_err();
        assert!(one.starts_with("1 other server uses") && one.contains("/d/secrets.key"));
        assert!(said(2, true).unwrap_err().starts_with("1 other server"));
        assert!(
            said(3, true)
                .unwrap_err()
                .starts_with("2 other servers use")
        );
    }

    #[test]
    fn the_table_of_keys() {
        let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let status = Status {
            keys: vec![
                (0x0102_0304, time("2026-02-03T04:05:06.7Z"), 12),
                (0xaabb_ccdd, time("2025-01-01T00:00:00Z"), 0),
            ],
            plain: 3,
        };
        let expected = "\
KEY       CREATED                  AGE  SECRETS
01020304  2026-02-03T04:05:06Z     54s       12  encrypts
aabbccdd  2025-01-01T00:00:00Z    398d        0
none                                          3";
        assert_eq!(table(&status, time("2026-02-03T04:06:00.7Z")), expected);
    }
}
