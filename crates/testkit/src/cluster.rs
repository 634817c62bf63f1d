//! A `knarr up` in a temporary directory.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::Node;
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;

use crate::Machine;
use crate::run::{Run, eventually};

/// How a cluster is started.
#[derive(Clone, Default)]
pub struct Options {
    /// More flags of `knarr up`.
    pub flags: Vec<String>,
    /// Where it runs, if not beside the test; with a node name and a pod network of its own.
    pub machine: Option<Arc<Machine>>,
}

/// A running cluster; ended and removed from the host when dropped.
pub struct Cluster {
    dir: TempDir,
    options: Options,
    child: Option<Child>,
}

impl Cluster {
    /// Starts a cluster and waits until its node is Ready.
    ///
    /// # Errors
    /// When it does not start; with its log.
    pub async fn start(options: Options) -> Result<Self> {
        let mut cluster = Self::prepare(options)?;
        cluster.up().await?;
        Ok(cluster)
    }

    /// A cluster that is not started yet.
    ///
    /// # Errors
    /// When there is no room for a temporary directory.
    pub fn prepare(options: Options) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("knarr-test-").tempdir()?;
        Ok(Self {
            dir,
            options,
            child: None,
        })
    }

    /// The binary under test.
    ///
    /// # Errors
    /// When `KNARR_BIN` does not name it.
    pub fn binary() -> Result<PathBuf> {
        std::env::var_os("KNARR_BIN")
            .map(PathBuf::from)
            .filter(|path| path.is_file())
            .context("KNARR_BIN does not name the binary under test; run `cargo xtask test`")
    }

    /// Starts `knarr up` (again) and waits until the node is Ready.
    ///
    /// # Errors
    /// When it does not start; with its log.
    pub async fn up(&mut self) -> Result<()> {
        self.up_with(&[]).await
    }

    /// [`Self::up`] with flags for this one time.
    ///
    /// # Errors
    /// When it does not start; with its log.
    pub async fn up_with(&mut self, flags: &[&str]) -> Result<()> {
        self.spawn_with(flags)?;
        let ready = async {
            let client = eventually("a client", Duration::from_secs(20), || self.client()).await?;
            let nodes = kube::Api::<Node>::all(client);
            eventually("a Ready node", Duration::from_secs(20), async || {
                let node = nodes.get(&self.node_name()).await?;
                let is = |kind| {
                    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_ref());
                    conditions
                        .into_iter()
                        .flatten()
                        .any(|c| c.type_ == kind && c.status == "True")
                };
                if !is("Ready") {
                    bail!("the node is not Ready");
                }
                Ok(is("DiskPressure"))
            })
            .await
        };
        let outcome = ready.await;
        if outcome.with_context(|| format!("knarr up:\n{}", self.log()))? {
            bail!(
                "the disk of {} is so full that the node takes no pods; set TMPDIR to another",
                self.dir.path().display()
            );
        }
        Ok(())
    }

    /// Starts `knarr up` without waiting for anything.
    ///
    /// # Errors
    /// When the binary cannot be started.
    pub fn spawn(&mut self) -> Result<()> {
        self.spawn_with(&[])
    }

    fn spawn_with(&mut self, flags: &[&str]) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())?;
        let child = self
            .run(&Self::binary()?)
            .into_command()
            .arg("up")
            .arg("--data-dir")
            .arg(self.data_dir())
            .args(["--listen", &self.address().to_string()])
            .args(["--node-name", &self.node_name()])
            .args(["--pod-cidr", &format!("10.42.{}.0/24", self.number())])
            .args(&self.options.flags)
            .args(flags)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start knarr")?;
        self.child = Some(child);
        Ok(())
    }

    /// Where the API listens; every test has a network namespace of its own.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        let ip = match &self.options.machine {
            Some(machine) => machine.address(),
            None => Ipv4Addr::UNSPECIFIED,
        };
        SocketAddr::from((ip, 6443))
    }

    /// A call of a program where the cluster runs.
    fn run(&self, program: &Path) -> Run {
        match &self.options.machine {
            Some(machine) => machine.run(program),
            None => Run::new(program),
        }
    }

    fn number(&self) -> u8 {
        self.options.machine.is_some().into()
    }

    /// The node's name.
    #[must_use]
    pub fn node_name(&self) -> String {
        format!("node-{}", self.number() + 1)
    }

    /// The data directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// A folder for what the test makes.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.dir.path()
    }

    /// The admin kubeconfig.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.data_dir().join("admin.kubeconfig")
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("knarr.log")
    }

    /// All that `knarr up` has written so far.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The process id of the running `knarr up`.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// A client with the admin kubeconfig.
    ///
    /// # Errors
    /// When there is no kubeconfig yet.
    pub async fn client(&self) -> Result<kube::Client> {
        crate::install_crypto_provider();
        let kubeconfig = Kubeconfig::read_from(self.kubeconfig())?;
        let options = KubeConfigOptions::default();
        let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options).await?;
        Ok(kube::Client::try_from(config)?)
    }

    /// A call of kubectl, where there is one.
    #[must_use]
    pub fn kubectl(&self) -> Run {
        Run::new("kubectl")
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path())
    }

    /// A call of our own client.
    ///
    /// # Errors
    /// When there is no binary.
    pub fn knarr(&self) -> Result<Run> {
        Ok(Run::new(Self::binary()?)
            .env("KUBECONFIG", self.kubeconfig())
            .env("KNARR_DATA_DIR", self.data_dir()))
    }

    /// Ends `knarr up` at once, as a crash would.
    ///
    /// # Errors
    /// When it does not run.
    pub fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().context("knarr does not run")?;
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// Ends `knarr up` by SIGTERM and waits for its end.
    ///
    /// # Errors
    /// When it does not end within ten seconds, or not with 0.
    pub fn stop(&mut self) -> Result<()> {
        let mut child = self.child.take().context("knarr does not run")?;
        let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id())?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        let start = Instant::now();
        while start.elapsed() < Duration::from_secs(10) {
            if let Some(status) = child.try_wait()? {
                if !status.success() {
                    bail!("knarr up ended with {status}:\n{}", self.log());
                }
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.kill()?;
        child.wait()?;
        bail!("knarr up did not end on SIGTERM:\n{}", self.log());
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- knarr up ---\n{}", self.log());
        }
        if let Some(mut child) = self.child.take() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
        let down = Self::binary().and_then(|binary| {
            self.run(&binary)
                .args(["down", "--delete-data", "--data-dir"])
                .args([self.data_dir()])
                .ok()
        });
        if let Err(error) = down {
            eprintln!("knarr down: {error:#}");
        }
    }
}
