//! A cluster for one run: in a folder and a network namespace of its own, and gone afterwards.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::shell;

const READY_LIMIT: Duration = Duration::from_secs(60);

/// A `knarr up` that we started; stopped and removed at the latest when dropped.
pub(super) struct Cluster {
    knarr: PathBuf,
    data: PathBuf,
    child: Option<Child>,
}

impl Cluster {
    /// Starts it and waits until its node is ready; its log goes to `folder`.
    pub(super) fn start(knarr: PathBuf, folder: &Path) -> Result<Self> {
        let data =
            std::env::temp_dir().join(format!("knarr-conformance-data-{}", std::process::id()));
        let log = std::fs::File::create(folder.join("knarr.log"))?;
        eprintln!("==> {} up --data-dir {}", knarr.display(), data.display());
        let child = Command::new(&knarr)
            .arg("up")
            .arg("--data-dir")
            .arg(&data)
            .args(["--listen", "0.0.0.0:6443", "--node-name", "node-1"])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start {}", knarr.display()))?;
        let cluster = Self {
            knarr,
            data,
            child: Some(child),
        };
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The admin's kubeconfig.
    pub(super) fn kubeconfig(&self) -> PathBuf {
        self.data.join("admin.kubeconfig")
    }

    fn wait_ready(&self) -> Result<()> {
        let until = Instant::now() + READY_LIMIT;
        while Instant::now() < until {
            let ready = Command::new(&self.knarr)
                .env("KUBECONFIG", self.kubeconfig())
                .args(["wait", "--for=condition=Ready", "nodes", "--all"])
                .arg("--timeout=30s")
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status()?;
            if ready.success() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        bail!("the cluster is not ready after {READY_LIMIT:?}")
    }

    /// Imports every archive of a folder.
    pub(super) fn import(&self, images: &Path) -> Result<()> {
        let mut archives: Vec<PathBuf> = std::fs::read_dir(images)
            .with_context(|| format!("reading {}", images.display()))?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| {
                path.extension()
                    .is_some_and(|e| e == "tar" || e == "gz" || e == "tgz")
            })
            .collect();
        archives.sort();
        for archive in archives {
            let mut import = Command::new(&self.knarr);
            import
                .args(["image", "import", "--data-dir"])
                .arg(&self.data)
                .arg(&archive)
                .stdout(Stdio::null());
            shell::step(&format!("importing {}", archive.display()), &mut import)?;
        }
        Ok(())
    }

    /// Ends it and removes all that it made.
    pub(super) fn stop(mut self) -> Result<()> {
        self.end()
    }

    fn end(&mut self) -> Result<()> {
        let Some(mut child) = self.child.take() else {
            return Ok(());
        };
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        // It may have ended already: by the same Ctrl-C that reached us.
        let _gone = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        child.wait()?;
        shell::step(
            "removing all that it made",
            Command::new(&self.knarr)
                .args(["down", "--delete-data", "--data-dir"])
                .arg(&self.data),
        )
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("{error:#}");
        }
    }
}
