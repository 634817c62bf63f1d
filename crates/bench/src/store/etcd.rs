//! A real etcd: Debian's, one member, default durability, on loopback. It ends with its handle.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tonic::transport::Endpoint;

use super::rpc::{Connection, Range};

/// Lists come in megabytes; with HTTP/2's own 64 KiB they would crawl.
const WINDOW_BYTES: u32 = 16 << 20;

/// The process, and a connection to it.
pub(crate) struct Etcd {
    child: Child,
    pub(crate) connection: Connection,
}

impl Etcd {
    pub(crate) fn is_installed() -> bool {
        Command::new("etcd")
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    }

    /// Starts it on a folder and waits until it answers.
    pub(crate) async fn start(folder: &Path) -> Result<Etcd> {
        let url = |port| format!("http://127.0.0.1:{port}");
        let (client_url, peer_url) = (url(free_port()?), url(free_port()?));
        let log = std::fs::File::create(folder.with_extension("log"))?;
        let mut child = Command::new("etcd")
            .args(["--name", "bench", "--logger", "zap", "--data-dir"])
            .arg(folder)
            .args(["--listen-client-urls", &client_url])
            .args(["--advertise-client-urls", &client_url])
            .args(["--listen-peer-urls", &peer_url])
            .args(["--initial-advertise-peer-urls", &peer_url])
            .args(["--initial-cluster", &format!("bench={peer_url}")])
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start etcd")?;
        let start = Instant::now();
        loop {
            let endpoint = Endpoint::from_shared(client_url.clone())?
                .tcp_nodelay(true)
                .initial_stream_window_size(WINDOW_BYTES)
                .initial_connection_window_size(WINDOW_BYTES);
            if let Ok(channel) = endpoint.connect().await {
                let connection = Connection(channel);
                if connection.range(Range::prefix("health")).await.is_ok() {
                    return Ok(Etcd { child, connection });
                }
            }
            if start.elapsed() > Duration::from_secs(30) || child.try_wait()?.is_some() {
                let _gone = child.kill();
                let log = std::fs::read_to_string(folder.with_extension("log"))?;
                bail!("etcd does not answer:\n{log}");
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
    }
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
