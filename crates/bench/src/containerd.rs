//! The peer for a single container: Debian's containerd and runc, driven by `ctr`.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use tempfile::TempDir;
use testkit::{Run, eventually};

const IMAGE: &str = "docker.io/library/bench:1";

/// A containerd of our own; ended and removed when dropped.
pub(crate) struct Containerd {
    dir: TempDir,
    child: Child,
}

impl Containerd {
    /// Starts it; `None` where Debian's containerd and runc are not installed.
    pub(crate) async fn start() -> Result<Option<Self>> {
        let there = |name: &str| Run::new(name).args(["--version"]).output().is_ok();
        if !there("containerd") || !there("runc") || !there("ctr") {
            return Ok(None);
        }
        let dir = tempfile::Builder::new().prefix("knarr-bench-").tempdir()?;
        let config = dir.path().join("config.toml");
        let at = |name: &str| dir.path().join(name);
        std::fs::write(
            &config,
            format!(
                "version = 2\nroot = {:?}\nstate = {:?}\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
                 [grpc]\naddress = {:?}\n",
                at("root"),
                at("state"),
                at("sock"),
            ),
        )?;
        let log = std::fs::File::create(at("log"))?;
        let child = Command::new("containerd")
            .arg("--config")
            .arg(&config)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start containerd")?;
        let peer = Self { dir, child };
        eventually("containerd", Duration::from_secs(20), async || {
            peer.ctr().args(["version"]).ok().map(drop)
        })
        .await?;
        let archive = testkit::busybox_archive(peer.dir.path(), IMAGE)?;
        peer.ctr().args(["images", "import"]).args([archive]).ok()?;
        Ok(Some(peer))
    }

    fn ctr(&self) -> Run {
        Run::new("ctr").args(["--address"]).args([self.socket()])
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("sock")
    }

    /// Creates and starts containers, all at once, and removes them again: the time to the last.
    pub(crate) fn run(&self, names: &[String]) -> Result<Duration> {
        let start = Instant::now();
        std::thread::scope(|scope| {
            let runs: Vec<_> = names
                .iter()
                .map(|name| scope.spawn(|| self.start_one(name)))
                .collect();
            runs.into_iter()
                .try_for_each(|run| run.join().map_err(|_| anyhow!("`ctr run` panicked"))?)
        })?;
        let time = start.elapsed();
        for name in names {
            self.remove(name)?;
        }
        Ok(time)
    }

    fn start_one(&self, name: &str) -> Result<()> {
        self.ctr()
            .args(["run", "-d", IMAGE, name, "sleep", "1000"])
            .ok()
            .map(drop)
    }

    fn remove(&self, name: &str) -> Result<()> {
        self.ctr()
            .args(["task", "kill", "-s", "SIGKILL", name])
            .ok()?;
        // `rm` refuses until the kill has been noticed.
        let until = Instant::now() + Duration::from_secs(5);
        while !self.ctr().args(["task", "rm", name]).output()?.success && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        self.ctr().args(["container", "rm", name]).ok().map(drop)
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
