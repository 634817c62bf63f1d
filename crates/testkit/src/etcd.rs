//! Debian's etcd on loopback, one member.

use std::net::{Ipv4Addr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use crate::run::eventually;

/// A running etcd; ended when dropped.
pub struct Etcd {
    child: Child,
    port: u16,
}

impl Etcd {
    /// Starts an etcd that keeps its data below `dir`; its peer port is the next one. It does not sync
    /// to disk: tests kill what uses it, not it.
    ///
    /// # Errors
    /// When Debian's etcd-server is missing or does not listen within ten seconds.
    pub async fn start(dir: &Path, port: u16) -> Result<Self> {
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let (client, peer) = (url(port), url(port + 1));
        let everywhere = format!("http://0.0.0.0:{port}");
        let log = std::fs::File::create(dir.join("etcd.log"))?;
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(dir.join("etcd"))
            .args(["--name", "one", "--unsafe-no-fsync"])
            .args(["--listen-client-urls", &everywhere])
            .args(["--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer])
            .args(["--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("one={peer}")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .context("cannot start etcd (Debian's etcd-server)")?;
        let etcd = Self { child, port };
        eventually("etcd", Duration::from_secs(10), async || {
            Ok(TcpStream::connect(("127.0.0.1", port)).map(drop)?)
        })
        .await?;
        Ok(etcd)
    }

    /// What `knarr up --datastore` is told where the test is reached at `home`.
    #[must_use]
    pub fn datastore(&self, home: Ipv4Addr) -> String {
        format!("etcd://{home}:{}", self.port)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}
