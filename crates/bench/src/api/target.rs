//! Who is measured: ours, a Kubernetes that is given, or one that is started here.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use kube::client::ConfigExt as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustls::pki_types::ServerName;
use tempfile::TempDir;
use testkit::Cluster;

use super::connection::Connection;

/// How long one may take until it is ready.
const START_LIMIT: Duration = Duration::from_secs(60);

/// How long one that was stopped has to catch up with its clocks.
const SETTLE: Duration = Duration::from_millis(500);

/// Processes that end with their target.
#[derive(Default)]
struct Processes(Vec<Child>);

impl Drop for Processes {
    fn drop(&mut self) {
        // The API server before its etcd.
        for child in self.0.iter_mut().rev() {
            let _gone = child.kill();
            let _gone = child.wait();
        }
    }
}

/// An API server, and how to reach it.
pub(super) struct Target {
    pub(super) address: String,
    pub(super) server: ServerName<'static>,
    pub(super) tls: Arc<rustls::ClientConfig>,
    /// Ours has its files here.
    data: Option<PathBuf>,
    /// Whose memory counts; none when the processes are not ours.
    pub(super) pids: Vec<u32>,
    _cluster: Option<Cluster>,
    _processes: Processes,
    _folder: Option<TempDir>,
}

impl Target {
    /// A `knarr up` as a user starts it.
    pub(super) async fn ours() -> Result<Self> {
        let cluster = Cluster::start(testkit::Options::default()).await?;
        let mut target = Self::reached_by(&cluster.kubeconfig()).await?;
        target.pids = cluster.pid().into_iter().collect();
        target.data = Some(cluster.data_dir());
        target._cluster = Some(cluster);
        Ok(target)
    }

    /// One that runs already.
    pub(super) async fn given(kubeconfig: &Path) -> Result<Self> {
        Self::reached_by(kubeconfig)
            .await
            .context("the peer's kubeconfig")
    }

    /// A kube-apiserver from a folder over Debian's etcd, with the certificates of `ours`, so that
    /// TLS costs both the same.
    pub(super) async fn kube(folder: &Path, ours: &Target) -> Result<Self> {
        let data = ours.data.as_ref().context("our files")?;
        let pki = data.join("pki");
        let own = tempfile::Builder::new()
            .prefix("knarr-bench-peer-")
            .tempdir()?;
        let (store, peers, port) = (free_port()?, free_port()?, free_port()?);
        let mut processes = Processes::default();
        processes.0.push(etcd(own.path(), store, peers)?);
        let log = std::fs::File::create(own.path().join("kube-apiserver.log"))?;
        let file = |name: &str| pki.join(name).display().to_string();
        let child = Command::new(folder.join("kube-apiserver"))
            .arg(format!("--etcd-servers=http://127.0.0.1:{store}"))
            .arg(format!("--secure-port={port}"))
            .args([
                "--bind-address=127.0.0.1",
                // Where there is no default route it has to be told one; nobody connects to it.
                "--advertise-address=192.0.2.1",
                "--service-cluster-ip-range=10.44.0.0/16",
            ])
            .args(["--authorization-mode=Node,RBAC", "--allow-privileged=true"])
            .arg("--service-account-issuer=https://kubernetes.default.svc")
            .arg(format!("--client-ca-file={}", file("ca.crt")))
            .arg(format!("--tls-cert-file={}", file("server.crt")))
            .arg(format!("--tls-private-key-file={}", file("server.key")))
            // It wants a public key, and no token is asked of it: that of a certificate will do.
            .arg(format!("--service-account-key-file={}", file("server.crt")))
            .arg(format!(
                "--service-account-signing-key-file={}",
                file("service-account.key")
            ))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot start kube-apiserver from {}", folder.display()))?;
        processes.0.push(child);
        let target = Self {
            address: format!("127.0.0.1:{port}"),
            server: ServerName::try_from("127.0.0.1")?,
            tls: ours.tls.clone(),
            data: None,
            pids: processes.0.iter().map(Child::id).collect(),
            _cluster: None,
            _processes: processes,
            _folder: None,
        };
        let ready = testkit::eventually("kube-apiserver", START_LIMIT, async || {
            let mut connection = Connection::open(&target).await?;
            connection.get("/readyz").await.map(drop)
        })
        .await;
        if let Err(error) = ready {
            let log = std::fs::read_to_string(own.path().join("kube-apiserver.log"))?;
            let tail: Vec<&str> = log.lines().rev().take(20).collect();
            bail!("{error:#}\n{}", tail.join("\n"));
        }
        Ok(Self {
            _folder: Some(own),
            ..target
        })
    }

    async fn reached_by(kubeconfig: &Path) -> Result<Self> {
        testkit::install_crypto_provider();
        let config = kube::Config::from_custom_kubeconfig(
            Kubeconfig::read_from(kubeconfig)?,
            &KubeConfigOptions::default(),
        )
        .await?;
        let host = config.cluster_url.host().context("a host")?.to_owned();
        let port = config.cluster_url.port_u16().unwrap_or(443);
        let mut tls = config.rustls_client_config()?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        let name = config
            .tls_server_name
            .clone()
            .unwrap_or_else(|| host.clone());
        Ok(Self {
            address: format!("{host}:{port}"),
            server: ServerName::try_from(name)?,
            tls: Arc::new(tls),
            data: None,
            pids: Vec::new(),
            _cluster: None,
            _processes: Processes::default(),
            _folder: None,
        })
    }

    /// Stops all others until what this returns is dropped: what they still have to do after their
    /// turn, and what they do at rest, is not to take time from this one.
    pub(super) async fn alone<'a>(&self, all: &'a [Target]) -> Alone<'a> {
        let stopped: Vec<&u32> = all
            .iter()
            .filter(|other| !std::ptr::eq(*other, self))
            .flat_map(|other| &other.pids)
            .collect();
        send(&stopped, Signal::SIGSTOP);
        tokio::time::sleep(SETTLE).await;
        Alone(stopped)
    }

    /// Makes a namespace.
    pub(super) async fn namespace(&self, name: &str) -> Result<()> {
        let body = serde_json::json!({"metadata": {"name": name}}).to_string();
        let mut connection = Connection::open(self).await?;
        connection.post("/api/v1/namespaces", body.into()).await?;
        Ok(())
    }
}

/// Processes that are stopped.
pub(super) struct Alone<'a>(Vec<&'a u32>);

impl Drop for Alone<'_> {
    fn drop(&mut self) {
        send(&self.0, Signal::SIGCONT);
    }
}

fn send(pids: &[&u32], signal: Signal) {
    for pid in pids {
        if let Err(error) = kill(Pid::from_raw(pid.cast_signed()), signal) {
            eprintln!("cannot send {signal} to {pid}: {error}");
        }
    }
}

fn etcd(folder: &Path, client: u16, peers: u16) -> Result<Child> {
    let url = |port: u16| format!("http://127.0.0.1:{port}");
    let log = std::fs::File::create(folder.join("etcd.log"))?;
    Command::new("etcd")
        .args(["--name", "bench", "--logger", "zap", "--data-dir"])
        .arg(folder.join("etcd"))
        .args(["--quota-backend-bytes", "8589934592"])
        .args(["--listen-client-urls", &url(client)])
        .args(["--advertise-client-urls", &url(client)])
        .args(["--listen-peer-urls", &url(peers)])
        .args(["--initial-advertise-peer-urls", &url(peers)])
        .args(["--initial-cluster", &format!("bench={}", url(peers))])
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log)
        .spawn()
        .context("cannot start etcd (Debian's etcd-server)")
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
