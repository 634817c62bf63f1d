//! `bench boot`: from nothing to an answer, pod latency, and what it costs to keep running.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use clap::Args;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use tempfile::TempDir;
use testkit::{Cluster, Run};

use crate::containerd::Containerd;
use crate::report::{Goal, Report};
use crate::{footprint, pods};

const HELLO: &str = "knarr.local/hello:latest";
const LIMIT: Duration = Duration::from_secs(30);

/// How often, and beside whom.
#[derive(Args)]
pub(crate) struct Options {
    /// How many times each is measured.
    #[arg(long, default_value_t = 7)]
    rounds: usize,
    /// A Kubernetes to measure in the same run.
    #[arg(long)]
    peer: Option<PathBuf>,
    /// An image that the peer already has, for its pods.
    #[arg(long, default_value = "registry.k8s.io/pause:3.10")]
    peer_image: String,
}

/// Measures all of it.
pub(crate) async fn run(options: &Options) -> Result<Report> {
    let mut report = Report::default();
    let (mut ready, mut answered) = (Vec::new(), Vec::new());
    for round in 1..=options.rounds {
        eprintln!("start {round} of {}", options.rounds);
        let (to_ready, to_answer) = first_answer().await?;
        ready.push(to_ready);
        answered.push(to_answer);
    }
    report.times(
        "exec of `knarr up`, empty data directory, to /readyz",
        &ready,
        Goal::Under(300.0),
    );
    report.times(
        "… to three hello pods Running and the Service answering",
        &answered,
        Goal::Under(1000.0),
    );
    pod_latency(options, &mut report).await?;
    idle(&mut report).await?;
    let size = std::fs::metadata(Cluster::binary()?)?.len();
    report.add(
        "binary, static",
        "MiB",
        size as f64 / f64::from(1 << 20),
        Goal::Under(60.0),
        "the file",
    );
    Ok(report)
}

/// A `knarr up` on an empty directory.
struct Fresh {
    dir: TempDir,
    child: Child,
    start: Instant,
}

impl Fresh {
    fn start() -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("knarr-bench-").tempdir()?;
        let log = std::fs::File::create(dir.path().join("log"))?;
        let start = Instant::now();
        let child = Command::new(Cluster::binary()?)
            .args(["up", "--node-name", "node-1", "--data-dir"])
            .arg(dir.path().join("data"))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        Ok(Self { dir, child, start })
    }

    fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// Waits for /readyz; the clock is looked at every millisecond.
    async fn ready(&self) -> Result<(kube::Client, Duration)> {
        let mut client = None;
        while self.start.elapsed() < LIMIT {
            if client.is_none() {
                client = connect(&self.data_dir().join("admin.kubeconfig"))
                    .await
                    .ok();
            }
            if let Some(client) = &client
                && client.request_text(http_get("/readyz")?).await.is_ok()
            {
                return Ok((client.clone(), self.start.elapsed()));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let log = std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default();
        bail!("not ready within {LIMIT:?}:\n{log}")
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _gone = self.child.wait();
        let down = Cluster::binary().and_then(|binary| {
            Run::new(binary)
                .args(["down", "--delete-data", "--data-dir"])
                .args([self.data_dir()])
                .ok()
        });
        if let Err(error) = down {
            eprintln!("knarr down: {error:#}");
        }
    }
}

async fn connect(kubeconfig: &std::path::Path) -> Result<kube::Client> {
    testkit::install_crypto_provider();
    let config = kube::Config::from_custom_kubeconfig(
        Kubeconfig::read_from(kubeconfig)?,
        &KubeConfigOptions::default(),
    )
    .await?;
    Ok(kube::Client::try_from(config)?)
}

fn http_get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

async fn first_answer() -> Result<(Duration, Duration)> {
    let fresh = Fresh::start()?;
    let (client, to_ready) = fresh.ready().await?;
    for manifest in manifests()? {
        let path = match manifest["kind"].as_str() {
            Some("Service") => "/api/v1/namespaces/default/services",
            _ => "/apis/apps/v1/namespaces/default/deployments",
        };
        let request = http::Request::post(path)
            .header("content-type", "application/json")
            .body(serde_json::to_vec(&manifest)?)?;
        client.request::<serde_json::Value>(request).await?;
    }
    let services: Api<k8s_openapi::api::core::v1::Service> =
        Api::default_namespaced(client.clone());
    let service = services.get("hello").await?;
    let address = service
        .spec
        .and_then(|spec| spec.cluster_ip)
        .context("a cluster address")?;
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let hello = ListParams::default().labels("app=hello");
    while fresh.start.elapsed() < LIMIT {
        let running = api
            .list(&hello)
            .await?
            .items
            .iter()
            .filter(|pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running"))
            .count();
        if running == 3 && answers(&address).await {
            return Ok((to_ready, fresh.start.elapsed()));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    bail!("the Service did not answer within {LIMIT:?}")
}

fn manifests() -> Result<[serde_json::Value; 2]> {
    let deployment = serde_json::json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "hello"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "hello"}},
            "template": {"metadata": {"labels": {"app": "hello"}},
                "spec": {"containers": [{"name": "hello", "image": HELLO,
                    "imagePullPolicy": "IfNotPresent",
                    "ports": [{"name": "http", "containerPort": 8080}]}]}}},
    });
    let service = serde_json::json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "hello"},
        "spec": {"selector": {"app": "hello"}, "ports": [{"port": 80, "targetPort": "http"}]},
    });
    Ok([deployment, service])
}

async fn answers(address: &str) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect((address, 80)).await?;
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: hello\r\nConnection: close\r\n\r\n")
            .await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text.contains("Hello from"))
    };
    matches!(
        tokio::time::timeout(Duration::from_millis(500), ask).await,
        Ok(Ok(true))
    )
}

async fn pod_latency(options: &Options, report: &mut Report) -> Result<()> {
    let fresh = Fresh::start()?;
    let (client, _) = fresh.ready().await?;
    wait_service_account(&client).await?;
    let containerd = Containerd::start().await?;
    if containerd.is_none() {
        eprintln!("SKIPPED: containerd and runc as a peer (not installed)");
    }
    let peer = match &options.peer {
        Some(path) => Some(connect(path).await.context("the peer's kubeconfig")?),
        None => None,
    };
    let (mut one, mut peer_one, mut ctr) = (Vec::new(), Vec::new(), Vec::new());
    let (mut many, mut peer_many, mut ctr_many) = (Vec::new(), Vec::new(), Vec::new());
    let hello = |name: &str| pods::pod(name, HELLO, &["/knarr", "hello"]);
    pods::run(&client, vec![hello("warm-up")?]).await?;
    for round in 0..options.rounds * 3 {
        one.extend(
            pods::run(&client, vec![hello(&format!("one-{round}"))?])
                .await?
                .0,
        );
        pods::clear(&client).await?;
        if let Some(peer) = &peer {
            let pod = pods::pod(&format!("one-{round}"), &options.peer_image, &[])?;
            peer_one.extend(pods::run(peer, vec![pod]).await?.0);
            pods::clear(peer).await?;
        }
        if let Some(containerd) = &containerd {
            ctr.push(containerd.run(&[format!("one-{round}")])?);
        }
    }
    for round in 0..options.rounds {
        eprintln!("twenty pods, {} of {}", round + 1, options.rounds);
        let batch = (0..20)
            .map(|i| hello(&format!("many-{round}-{i}")))
            .collect::<Result<_>>()?;
        many.push(pods::run(&client, batch).await?.1);
        pods::clear(&client).await?;
        if let Some(peer) = &peer {
            let batch = (0..20)
                .map(|i| pods::pod(&format!("many-{round}-{i}"), &options.peer_image, &[]))
                .collect::<Result<_>>()?;
            peer_many.push(pods::run(peer, batch).await?.1);
            pods::clear(peer).await?;
        }
        if let Some(containerd) = &containerd {
            let names: Vec<_> = (0..20).map(|i| format!("many-{round}-{i}")).collect();
            ctr_many.push(containerd.run(&names)?);
        }
    }
    report.times(
        "one pod, image present: create's answer to Running seen by a watch",
        &one,
        Goal::Under(50.0),
    );
    tell_peer(report, &peer_one, &ctr);
    report.times(
        "20 pods at once: first request to all Running",
        &many,
        Goal::Under(600.0),
    );
    tell_peer(report, &peer_many, &ctr_many);
    Ok(())
}

fn tell_peer(report: &mut Report, kubernetes: &[Duration], ctr: &[Duration]) {
    match (median_ms(kubernetes), median_ms(ctr)) {
        (Some(ms), _) => report.peer("the given Kubernetes", ms),
        (None, Some(ms)) => report.peer("containerd + runc alone (`ctr run`, no API)", ms),
        (None, None) => {}
    }
}

async fn wait_service_account(client: &kube::Client) -> Result<()> {
    let api: Api<k8s_openapi::api::core::v1::ServiceAccount> =
        Api::default_namespaced(client.clone());
    testkit::eventually("the default service account", LIMIT, async || {
        Ok(api.get("default").await.map(drop)?)
    })
    .await
}

fn median_ms(times: &[Duration]) -> Option<f64> {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted
        .get(sorted.len() / 2)
        .map(|time| time.as_secs_f64() * 1000.0)
}

async fn idle(report: &mut Report) -> Result<()> {
    let fresh = Fresh::start()?;
    let (client, _) = fresh.ready().await?;
    wait_service_account(&client).await?;
    eprintln!("idle for 40 s");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let cpu = footprint::cpu_percent(fresh.child.id(), Duration::from_secs(30)).await?;
    let (rss, pss) = footprint::memory_mib(fresh.child.id())?;
    report.add(
        "resident memory, idle, no pods",
        "MiB",
        rss,
        Goal::Under(60.0),
        &format!("40 s after start; proportional {pss:.1} MiB"),
    );
    report.add(
        "CPU, idle, no pods",
        "% of a core",
        cpu,
        Goal::Under(1.0),
        "over 30 s",
    );

    let batch = (0..10)
        .map(|i| pods::pod(&format!("shim-{i}"), HELLO, &["/knarr", "hello"]))
        .collect::<Result<_>>()?;
    pods::run(&client, batch).await?;
    let exe = std::fs::canonicalize(Cluster::binary()?)?;
    let shims = footprint::shims(&exe);
    let mut pss_mib = 0.0;
    for pid in &shims {
        pss_mib += footprint::memory_mib(*pid)?.1;
    }
    if shims.is_empty() {
        bail!("ten pods run, but no shim was found");
    }
    report.add(
        "a shim, proportional memory",
        "MiB",
        pss_mib / shims.len() as f64,
        Goal::Under(4.0),
        &format!("mean of {}, each with one container", shims.len()),
    );
    Ok(())
}
