//! `knarr snapshot`: the whole state of a cluster in a file, and a cluster out of a file. A snapshot of
//! a running cluster is made by its process.

pub(crate) mod folder;
pub(crate) mod schedule;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::{Context as _, Result, bail};
use clap::{Args, Subcommand};
use indicatif::{HumanBytes, ProgressBar, ProgressStyle};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{EtcdConfig, RestoreOptions, Restored, Snapshot, SnapshotError, Step, Store};

use self::folder::Found;
use crate::config::DEFAULT_DATA_DIR;
use crate::datastore::DatastoreFlags;
use crate::instance::Instance;
use crate::secrets::{self, KeyFile, Keys};
use crate::socket::{self, Said, Say};
use crate::storage;

/// Snapshots of the cluster's state.
#[derive(Subcommand)]
#[command(
    after_help = "A snapshot holds all objects of the cluster. Secrets in it stay encrypted: keep a copy of \
                  <data-dir>/secrets.key with it, and of <data-dir>/pki.\n\nExamples:\n  \
                  knarr snapshot save                    into <data-dir>/snapshots, also while it runs\n  \
                  knarr snapshot save /backup/a.knarrsnap\n  \
                  knarr snapshot list\n  \
                  knarr snapshot verify /backup/a.knarrsnap\n  \
                  knarr snapshot restore /backup/a.knarrsnap --replace\n  \
                  knarr snapshot restore a.knarrsnap --datastore etcd://10.0.0.1   from a file to an etcd"
)]
pub(crate) enum Command {
    /// Save the cluster's state to a file, whether it runs or not.
    Save {
        /// The file [default: a name with the time, in the folder of snapshots].
        file: Option<PathBuf>,
        /// The folder [default: <data-dir>/snapshots].
        #[arg(long, conflicts_with = "file")]
        dir: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        datastore: DatastoreFlags,
    },
    /// Make the cluster's state that of a snapshot; the cluster must not run.
    Restore {
        /// The snapshot.
        file: PathBuf,
        /// Put it in the place of a database that is there; that one is kept under another name.
        #[arg(long)]
        replace: bool,
        /// Leave out Secrets whose key is not in the key file.
        #[arg(long)]
        drop_unreadable: bool,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        datastore: DatastoreFlags,
    },
    /// List snapshots.
    #[command(visible_alias = "ls")]
    List {
        /// The folder [default: <data-dir>/snapshots].
        #[arg(long)]
        dir: Option<PathBuf>,
        #[command(flatten)]
        place: Place,
    },
    /// Read all of a snapshot and say what is in it and whether it is whole.
    #[command(visible_alias = "inspect")]
    Verify {
        /// The snapshot.
        file: PathBuf,
    },
}

/// Which cluster.
#[derive(Args)]
pub(crate) struct Place {
    /// The cluster's data directory.
    #[arg(long, env = "KNARR_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
}

/// What a running cluster is asked to do.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Work {
    /// Save to a new file.
    Save { path: PathBuf },
}

impl Command {
    /// Runs the command.
    ///
    /// # Errors
    /// What each of them says.
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self {
            Command::Save {
                file,
                dir,
                place,
                datastore,
            } => save(file, dir, &place, &datastore).await?,
            Command::Restore {
                file,
                replace,
                drop_unreadable,
                place,
                datastore,
            } => {
                let etcd = datastore.etcd()?;
                if replace && etcd.is_some() {
                    bail!(
                        "--replace is for a database in the data directory; what is in an etcd stays: \
                         restore under another prefix, --datastore etcd://…/PREFIX"
                    );
                }
                crate::instance::private_dir(&place.data_dir)?;
                let instance = Instance::of(&place.data_dir)?;
                let options = RestoreOptions {
                    replace,
                    keys: None,
                    drop_unreadable,
                };
                blocking(move || restore(&instance, etcd.as_ref(), &file, options)).await?;
            }
            Command::List { dir, place } => {
                let dir = dir.unwrap_or_else(|| folder::default(&place.data_dir));
                let found = folder::look(&dir)?;
                if found.is_empty() {
                    eprintln!("no snapshots in {}", dir.display());
                } else {
                    print!("{}", table(&found, SystemTime::now()));
                }
            }
            Command::Verify { file } => {
                let snapshot = blocking(move || verify(&file)).await?;
                print!("{}", facts(&snapshot));
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

impl Work {
    /// Does the work on an open store.
    ///
    /// # Errors
    /// The snapshot cannot be made.
    pub(crate) async fn run(self, store: &Store, keys: &Keys, say: Say<'_>) -> Result<()> {
        let Work::Save { path } = self;
        let progress = |step: Step| {
            if let Step::Entries(count) = step {
                say(Said::Progress(count));
            }
        };
        let snapshot = store
            .save_snapshot(&path, folder::ON_DEMAND, &progress)
            .await?;
        say(Said::Line(saved(&snapshot)));
        if !snapshot.seal_keys.is_empty() {
            say(Said::Line(format!(
                "its Secrets can be read with {} only: keep a copy of it with the snapshot",
                keys.path().display()
            )));
        }
        Ok(())
    }
}

async fn save(
    file: Option<PathBuf>,
    dir: Option<PathBuf>,
    place: &Place,
    datastore: &DatastoreFlags,
) -> Result<()> {
    let instance = Instance::of(&place.data_dir)?;
    let running = instance.holder().is_some();
    let etcd = datastore.etcd()?;
    if !running && etcd.is_none() && !storage::exists(&instance) {
        bail!("there is no cluster in {}", instance.data_dir.display());
    }
    let path = match file {
        Some(file) => file,
        None => {
            let dir = dir.unwrap_or_else(|| folder::default(&instance.data_dir));
            crate::instance::private_dir(&dir)?;
            dir.join(folder::file_name(
                &instance.name,
                folder::ON_DEMAND,
                Timestamp::now(),
            ))
        }
    };
    let path =
        std::path::absolute(&path).with_context(|| format!("the path {}", path.display()))?;
    let bar = spinner();
    let say = |said: Said| match said {
        Said::Progress(count) => bar.set_message(format!("{count} objects")),
        Said::Line(line) => bar.suspend(|| println!("{line}")),
        _ => {}
    };
    let work = Work::Save { path };
    let outcome = if running {
        let work = socket::Work::Snapshot(work);
        socket::send(&socket::path(&instance.run_dir), &work, &say).await
    } else {
        // Without a look at the keys: a snapshot can be made when they are lost, too.
        let keys = Keys::load(&instance.data_dir)?;
        let store = storage::open_store(&instance, etcd.as_ref(), &keys).await?;
        let outcome = work.run(&store, &keys, &say).await;
        store.close().await;
        outcome
    };
    bar.finish_and_clear();
    outcome
}

fn restore(
    instance: &Instance,
    etcd: Option<&EtcdConfig>,
    file: &Path,
    mut options: RestoreOptions,
) -> Result<()> {
    let _lock = instance.lock()?;
    let key_file = secrets::key_path(&instance.data_dir);
    let keys = KeyFile::load(&key_file)?;
    let ids = keys
        .iter()
        .flat_map(|file| &file.keys)
        .map(|key| key.key.id);
    options.keys = Some(ids.collect());
    let database = storage::database(instance);
    let bar = spinner();
    let progress = |step: Step| draw(&bar, step);
    let restored = match etcd {
        Some(etcd) => Store::restore_etcd(file, etcd, &options, &progress),
        None => {
            if let Some(folder) = database.parent() {
                crate::instance::private_dir(folder)?;
            }
            Store::restore_sqlite(file, &database, &options, &progress)
        }
    };
    bar.finish_and_clear();
    match restored {
        Ok(restored) => print!("{}", said(&restored)),
        Err(error @ SnapshotError::NotEmpty { .. }) => {
            return Err(error).context(match etcd {
                Some(_) => "choose another prefix, --datastore etcd://…/PREFIX",
                None => "to replace it, give --replace",
            });
        }
        Err(error @ SnapshotError::MissingKey { .. }) => {
            let path = key_file.display();
            bail!(
                "{error}: copy the cluster's key file to {path} first, \
                 or leave these Secrets out with --drop-unreadable"
            );
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn verify(file: &Path) -> Result<Snapshot> {
    let bar = spinner();
    let verified = Snapshot::verify(file, &|step| draw(&bar, step));
    bar.finish_and_clear();
    Ok(verified?)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a blocking task")?
}

/// Drawn on a terminal only.
fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(std::time::Duration::from_millis(120));
    bar
}

fn draw(bar: &ProgressBar, step: Step) {
    match step {
        Step::Checked(bytes) => bar.set_message(format!("{} checked", HumanBytes(bytes))),
        Step::Entries(count) if count % 100 == 0 => bar.set_message(format!("{count} objects")),
        Step::Entries(_) => {}
    }
}

fn saved(snapshot: &Snapshot) -> String {
    format!(
        "saved {}: {} objects, {}, revision {}",
        snapshot.path.display(),
        snapshot.entries,
        HumanBytes(snapshot.size_bytes),
        snapshot.revision
    )
}

fn said(restored: &Restored) -> String {
    let mut text = format!(
        "restored {} objects of revision {}; the cluster goes on at revision {}\n",
        restored.entries, restored.snapshot.revision, restored.revision
    );
    if restored.expired > 0 {
        text += &format!("left out {} whose time was over\n", restored.expired);
    }
    if restored.unreadable > 0 {
        text += &format!(
            "left out {} Secrets whose key is lost\n",
            restored.unreadable
        );
    }
    if let Some(kept) = &restored.kept {
        text += &format!(
            "the database that was there is kept as {}\n",
            kept.display()
        );
    }
    if restored.lineage_unknown {
        text += "the revision of that database could not be read: start clients anew that have watched it\n";
    }
    text + "start it with: knarr up\n"
}

fn facts(snapshot: &Snapshot) -> String {
    let keys: Vec<String> = snapshot
        .seal_keys
        .iter()
        .map(|id| secrets::shown(*id))
        .collect();
    let rows = [
        ("File", snapshot.path.display().to_string()),
        ("State", "whole".to_owned()),
        ("Created", stamp(snapshot.created)),
        ("Kind", snapshot.label.clone()),
        ("Engine", snapshot.engine.clone()),
        ("Revision", snapshot.revision.to_string()),
        ("Objects", snapshot.entries.to_string()),
        ("Size", HumanBytes(snapshot.size_bytes).to_string()),
        ("Content", HumanBytes(snapshot.content_bytes).to_string()),
        (
            "Keys",
            if keys.is_empty() {
                "none".to_owned()
            } else {
                keys.join(", ")
            },
        ),
    ];
    rows.iter()
        .map(|(name, value)| format!("{:<10} {value}\n", format!("{name}:")))
        .collect()
}

fn stamp(time: SystemTime) -> String {
    Timestamp::try_from(time).map_or_else(
        |_| "unknown".to_owned(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
    )
}

fn table(found: &[Found], now: SystemTime) -> String {
    let mut rows = vec![
        [
            "NAME", "AGE", "SIZE", "OBJECTS", "REVISION", "ENGINE", "KIND",
        ]
        .map(str::to_owned),
    ];
    for (path, says) in found {
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        rows.push(match says {
            Ok(snapshot) => [
                name,
                age(snapshot.created, now),
                HumanBytes(snapshot.size_bytes).to_string(),
                snapshot.entries.to_string(),
                snapshot.revision.to_string(),
                snapshot.engine.clone(),
                snapshot.label.clone(),
            ],
            Err(error) => {
                let fault = match error {
                    SnapshotError::CutShort { .. } => "cut short",
                    SnapshotError::Foreign { .. } => "not a snapshot",
                    SnapshotError::TooNew { .. } => "too new",
                    SnapshotError::Io { .. } => "unreadable",
                    _ => "damaged",
                };
                [&name, "-", "-", "-", "-", "-", fault].map(str::to_owned)
            }
        });
    }
    let mut widths = [0; 7];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.len());
        }
    }
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let cells: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:<width$}"))
                .collect();
            format!("{}\n", cells.join("   ").trim_end())
        })
        .collect()
}

fn age(created: SystemTime, now: SystemTime) -> String {
    match (Timestamp::try_from(created), Timestamp::try_from(now)) {
        (Ok(created), Ok(now)) => secrets::age(created, now),
        _ => "-".to_owned(),
    }
}
