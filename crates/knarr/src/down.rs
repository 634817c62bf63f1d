//! `knarr down`: stops a cluster and removes all that it made on this host.
//!
//! Works from what is on the host (shims, mounts, cgroups, links, tables), never from what a
//! process remembers: it must work after any crash, and twice.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use net::PodNet;
use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::Shim;

use crate::config::DEFAULT_DATA_DIR;
use crate::instance::Instance;

/// How long a running server may take to stop.
const PATIENCE: Duration = Duration::from_secs(15);

/// Remove all that `knarr up` made on this host.
#[derive(Args)]
#[command(
    after_help = "Examples:\n  sudo knarr down                  pods, network, cgroups, mounts\n  \
                        sudo knarr down --delete-data    the cluster's data as well"
)]
pub(crate) struct Down {
    /// The cluster's data directory.
    #[arg(long, env = "KNARR_DATA_DIR", default_value = DEFAULT_DATA_DIR)]
    data_dir: PathBuf,
    /// Delete the data directory too: the database, certificates, images, volumes.
    #[arg(long)]
    delete_data: bool,
}

impl Down {
    /// Runs the command.
    pub(crate) fn run(self) -> Result<ExitCode> {
        if !nix::unistd::geteuid().is_root() {
            bail!("removing a cluster needs root; try: sudo knarr down");
        }
        let instance = Instance::of(&self.data_dir)?;
        stop(&instance)?;
        remove(&instance)?;
        if self.delete_data && instance.data_dir.exists() {
            std::fs::remove_dir_all(&instance.data_dir)
                .with_context(|| format!("cannot delete {}", instance.data_dir.display()))?;
        }
        println!(
            "removed cluster {} ({})",
            instance.name,
            instance.data_dir.display()
        );
        Ok(ExitCode::SUCCESS)
    }
}

/// Ends a running `knarr up` of this instance.
fn stop(instance: &Instance) -> Result<()> {
    let Some(pid) = instance.holder() else {
        return Ok(());
    };
    eprintln!("stopping knarr (process {pid})");
    match kill(Pid::from_raw(pid), Signal::SIGTERM) {
        // It crashed, and what it was just starting has the lock for a moment more.
        Ok(()) | Err(Errno::ESRCH) => {}
        Err(error) => {
            return Err(error)
                .with_context(|| format!("cannot stop the running knarr (process {pid})"));
        }
    }
    let until = Instant::now() + PATIENCE;
    while instance.holder().is_some() {
        if Instant::now() > until {
            bail!("knarr (process {pid}) does not stop; end it, then run `knarr down` again");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Removes pods, mounts, network and cgroups of an instance that no process runs.
pub(crate) fn remove(instance: &Instance) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        for dir in pod_dirs(&instance.run_dir) {
            Shim::cleanup(&dir)
                .await
                .with_context(|| format!("the pod in {}", dir.display()))?;
        }
        PodNet::cleanup(&instance.name, &instance.data_dir)
            .await
            .context("the pod network")
    })?;
    remove_cgroups(instance)?;
    for dir in [&instance.run_dir, &instance.data_dir] {
        sys::mount::unmount_below(dir)
            .with_context(|| format!("mounts below {}", dir.display()))?;
    }
    if instance.run_dir.exists() {
        std::fs::remove_dir_all(&instance.run_dir)
            .with_context(|| format!("cannot delete {}", instance.run_dir.display()))?;
    }
    Ok(())
}

fn remove_cgroups(instance: &Instance) -> Result<()> {
    let Ok(cgroups) = sys::cgroup::Cgroups::detect() else {
        return Ok(());
    };
    let group = cgroups.group(&format!("knarr-{}", instance.name))?;
    if group.exists() {
        group
            .kill_all()
            .context("processes in the cluster's cgroup")?;
        group.remove(PATIENCE).context("the cluster's cgroup")?;
    }
    Ok(())
}

fn pod_dirs(run_dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(run_dir.join("pods"))
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}
