//! `knarr up`: the composition root of server and node in one process.
//!
//! Invariant: every task that is started here has a name and a drain token, and is awaited
//! at the end.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use apiserver::{ApiServer, User};
use client::Informers;
use image::{Images, Mirror};
use net::PodNet;
use node::Node;
use store::Store;
use sys::probe::{Finding, Verdict};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::control_plane::ControlPlane;
use crate::credentials::{Credentials, Names};
use crate::instance::Instance;
use crate::log::{self, Progress};
use crate::socket::Served;
use crate::storage::Storage;
use crate::wiring::{CONTROLLERS, LocalNode, Network, accounts, client_as, user};

/// How long tasks may take to end after SIGTERM.
const PATIENCE: Duration = Duration::from_secs(4);
const CLUSTER_DOMAIN: &str = "cluster.local";
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const HELLO_IMAGE: &str = "knarr.local/hello:latest";
const MAX_PODS: u32 = 110;
/// The port that Node objects show; nothing listens there, the server reaches nodes otherwise.
const KUBELET_PORT: u16 = 10250;

/// Runs until SIGTERM or SIGINT.
pub(crate) fn run(config: Config) -> Result<ExitCode> {
    let progress = Progress::start(config.log);
    log::set_up(
        config.log,
        if progress.terminal() { "warn" } else { "info" },
    );
    pki::install_crypto_provider();
    if !nix::unistd::geteuid().is_root() {
        bail!(
            "a cluster needs root: it makes namespaces, mounts and network devices; try: sudo knarr up"
        );
    }
    let instance = Instance::create(&config.data_dir)?;
    let lock = instance.lock()?;
    if config.cleanup {
        crate::down::remove(&instance)?;
        let instance = Instance::create(&config.data_dir)?;
        progress.done(&format!(
            "removed what an earlier run of {} left",
            instance.name
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(serve(config, instance.clone(), progress));
    runtime.shutdown_timeout(Duration::from_secs(1));
    instance.tidy();
    drop(lock);
    outcome.map(|()| ExitCode::SUCCESS)
}

async fn serve(config: Config, instance: Instance, progress: Progress) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let drains = Drains::default();
    let cluster = tokio::select! {
        started = start(&config, &instance, &progress, &drains) => started,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let mut cluster = match cluster {
        Ok(cluster) => cluster,
        Err(error) => {
            drains.parts.cancel();
            drains.server.cancel();
            return Err(error);
        }
    };
    welcome(&cluster, &instance, &progress);

    let ended = tokio::select! {
        _ = terminate.recv() => None,
        _ = interrupt.recv() => None,
        ended = cluster.tasks.join_next() => ended,
        ended = cluster.listeners.join_next() => ended,
    };
    if let Some(ended) = &ended {
        tracing::error!(task = ?ended, "a task ended before its time");
    }
    progress.done("stopping; pods keep running");
    // Whoever watches the server ends first, then the server: nobody sees a broken watch.
    drains.parts.cancel();
    finish(&mut cluster.tasks).await;
    drains.server.cancel();
    finish(&mut cluster.listeners).await;
    cluster.server.join().await;
    cluster.store.close().await;
    progress.done("stopped");
    match ended {
        Some(_) => bail!("a part of the cluster ended before its time; the log says which"),
        None => Ok(()),
    }
}

/// What ends first, and what ends when that has ended.
#[derive(Default)]
struct Drains {
    parts: CancellationToken,
    server: CancellationToken,
}

/// Waits for tasks that were told to end; those that do not are aborted.
async fn finish(tasks: &mut JoinSet<&'static str>) {
    let all = async {
        while let Some(task) = tasks.join_next().await {
            if let Err(error) = task {
                tracing::error!(%error, "a task failed");
            }
        }
    };
    if tokio::time::timeout(PATIENCE, all).await.is_err() {
        tracing::warn!(left = tasks.len(), "some tasks did not end in time");
        tasks.abort_all();
    }
}

/// What runs.
struct Cluster {
    store: Store,
    server: Arc<ApiServer>,
    listeners: JoinSet<&'static str>,
    tasks: JoinSet<&'static str>,
    kubeconfig: std::path::PathBuf,
    listen: SocketAddr,
}

async fn start(
    config: &Config,
    instance: &Instance,
    progress: &Progress,
    drains: &Drains,
) -> Result<Cluster> {
    let drain = &drains.parts;
    let listener = listen(config.listen).await?;
    let host = look_at_host(instance);

    // The pod network, the images and the store do not need each other.
    let node_ip = config.node_ip.or_else(default_address);
    let network = open_network(config, instance, node_ip);
    let images = open_images(config, instance);
    let storage = Storage::open(instance, config.etcd.as_ref());
    let (network, images, storage) = tokio::try_join!(network, images, storage)?;
    let store = storage.store.clone();
    progress.done("store, images and pod network open");
    let node_ip = node_ip.unwrap_or_else(|| network.gateway());

    let credentials = {
        let (addresses, data_dir) = ([node_ip, network.gateway()], instance.data_dir.clone());
        let (node_name, service_cidr, listen) =
            (config.node_name.clone(), config.service_cidr, config.listen);
        let validity_period = config.certificate_validity_period;
        let front_proxy = config.authentication.front_proxy.as_ref();
        let front_proxy_ca = front_proxy.map(|front| front.ca_pem.clone());
        blocking(move || {
            let names = Names {
                node_name: &node_name,
                addresses: &addresses,
                service_cidr,
                listen,
                validity_period,
                front_proxy_ca: front_proxy_ca.as_deref(),
            };
            Credentials::load_or_create(&data_dir, &names)
        })
        .await?
    };
    progress.done("certificates");

    let mut tasks = JoinSet::new();
    let local = LocalNode::new(&config.node_name);
    let advertise = advertised(config, node_ip, network.gateway());
    let server = ApiServer::start(apiserver::Config {
        store: store.clone(),
        tokens: credentials.tokens.clone(),
        ca_pem: credentials.ca_pem.clone(),
        service_cidr: config.service_cidr.into(),
        node_ports: 30000..=32767,
        issuer: ISSUER.to_owned(),
        audiences: Vec::new(),
        advertise,
        dialer: Arc::new(local.clone()),
        authentication: config.authentication.clone(),
        front_proxy: Some(credentials.front_proxy()),
        admission: config.admission.clone(),
        audit: config.audit.open()?,
        fairness: config.fairness,
        drain: drains.server.clone(),
    })
    .await
    .context("the API server")?;
    let mut listeners = JoinSet::new();
    for listener in std::iter::once(listener).chain(pod_listener(config, advertise).await?) {
        let (server, tls) = (server.clone(), credentials.tls.clone());
        let drain = drains.server.clone();
        listeners.spawn(async move {
            server.serve(listener, tls, drain).await;
            "https listener"
        });
    }
    progress.done(&format!("API server on https://{}", config.listen));

    let readers = client_as(
        &server,
        user("system:kube-controller-manager", &[]),
        CONTROLLERS,
    );
    let informers = Informers::new(readers, drain.clone());
    let identity = format!("{}_{}", config.node_name, instance.name);
    let office = ControlPlane {
        scheduler: client_as(
            &server,
            user("system:kube-scheduler", &[]),
            "kube-scheduler",
        ),
        accounts: accounts(&server),
        informers: informers.clone(),
        // A store of our own leaves nobody to compete with.
        elected: store.is_shared().then_some(identity),
        options: controllers::Options {
            ca_pem: credentials.ca_pem.clone(),
            signer: Some(credentials.signer()),
            sign_token: Some({
                let keys = credentials.tokens.clone();
                Arc::new(move |claims| Ok(keys.sign(claims)?))
            }),
            clock: controllers::Clock::default(),
        },
    }
    .start(&mut tasks, drain);
    start_network(&mut tasks, &network, &informers, drain).await?;
    let kubeconfig = credentials.kubeconfig_path().to_owned();
    let renewal = credentials.keep_fresh(drain.clone());
    tasks.spawn(async move {
        renewal.await;
        "certificate renewal"
    });

    let sealing = storage.clone().complete(drain.clone());
    tasks.spawn(async move {
        sealing.await;
        "sealing of Secrets"
    });
    if let Some(schedule) = config.snapshots {
        let snapshots = crate::snapshot::schedule::run(
            store.clone(),
            crate::snapshot::folder::default(&instance.data_dir),
            instance.name.clone(),
            schedule,
            move || office.is_held(),
            drain.clone(),
        );
        tasks.spawn(async move {
            snapshots.await;
            "snapshots"
        });
    }
    let served = Served {
        images: images.clone(),
        storage,
    };
    let work = crate::socket::serve(served, &instance.run_dir, drain.clone())?;
    tasks.spawn(async move {
        work.await;
        "socket"
    });
    let node = start_node(config, instance, &server, network, images, node_ip, drain).await?;
    local.put(node.kubelet_service());
    heed_host(host).await?;
    tasks.spawn(async move {
        node.run().await;
        "node"
    });
    progress.done(&format!("node {} registered", config.node_name));
    Ok(Cluster {
        store,
        server,
        listeners,
        tasks,
        kubeconfig,
        listen: config.listen,
    })
}

async fn start_network(
    tasks: &mut JoinSet<&'static str>,
    network: &PodNet,
    informers: &Informers,
    drain: &CancellationToken,
) -> Result<()> {
    let services = net::services::run(network.clone(), informers.clone(), drain.clone());
    tasks.spawn(async move {
        services.await;
        "services"
    });
    let dns = net::dns::Server::bind(network)
        .await
        .context("the cluster's DNS")?;
    let dns = dns.run(informers.clone(), drain.clone());
    tasks.spawn(async move {
        dns.await;
        "dns"
    });
    Ok(())
}

async fn start_node(
    config: &Config,
    instance: &Instance,
    server: &Arc<ApiServer>,
    network: PodNet,
    images: Images,
    node_ip: IpAddr,
    drain: &CancellationToken,
) -> Result<Arc<Node>> {
    let identity: User = user(
        &format!("system:node:{}", config.node_name),
        &["system:nodes"],
    );
    let client = client_as(server, identity, "kubelet");
    let exe = std::env::current_exe().context("the path of this binary")?;
    Node::start(node::Config {
        node_name: config.node_name.clone(),
        node_ips: vec![node_ip],
        data_dir: instance.data_dir.clone(),
        run_dir: instance.run_dir.clone(),
        log_dir: instance.pod_log_dir(),
        instance: instance.name.clone(),
        exe,
        images,
        network: Arc::new(Network(network)),
        informers: Informers::new(client.clone(), drain.clone()),
        client,
        drain: drain.clone(),
        max_pods: MAX_PODS,
        pod_cidrs: vec![config.pod_cidr.to_string()],
        labels: std::collections::BTreeMap::new(),
        kubelet_port: KUBELET_PORT,
    })
    .await
    .context("the node")
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|error| {
        let in_use = error.kind() == std::io::ErrorKind::AddrInUse;
        let hint = if in_use {
            ": the port is in use; stop what uses it or choose another with --listen ADDR:PORT"
        } else {
            ""
        };
        anyhow::Error::new(error).context(format!("cannot listen on {address}{hint}"))
    })
}

/// Pods cannot reach the host's loopback: a server that listens there listens on the bridge too.
async fn pod_listener(config: &Config, advertise: SocketAddr) -> Result<Option<TcpListener>> {
    if config.listen.ip().is_loopback() {
        Ok(Some(listen(advertise).await?))
    } else {
        Ok(None)
    }
}

/// Where pods reach the API server.
fn advertised(config: &Config, node_ip: IpAddr, gateway: IpAddr) -> SocketAddr {
    let ip = match config.listen.ip() {
        ip if ip.is_loopback() => gateway,
        ip if ip.is_unspecified() => node_ip,
        ip => ip,
    };
    SocketAddr::new(ip, config.listen.port())
}

/// The address that the default route leaves from. Nothing is sent.
fn default_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").ok()?;
    // An address set aside for documentation (RFC 5737): any that is not on a local network.
    socket.connect("192.0.2.1:9").ok()?;
    Some(socket.local_addr().ok()?.ip()).filter(|ip| !ip.is_unspecified() && !ip.is_loopback())
}

/// Looks at the host on a thread of its own, beside the start and not in its way.
fn look_at_host(instance: &Instance) -> JoinHandle<Vec<Finding>> {
    let data_dir = instance.data_dir.clone();
    tokio::task::spawn_blocking(move || sys::probe::host(&data_dir))
}

/// Says what the host lacks; an error when pods could not run here.
async fn heed_host(findings: JoinHandle<Vec<Finding>>) -> Result<()> {
    let mut lacking = Vec::new();
    for Finding {
        name,
        verdict,
        meaning,
    } in findings.await.context("a look at the host")?
    {
        match verdict {
            Verdict::Ok => tracing::debug!(name, "{meaning}"),
            Verdict::Warn => tracing::info!(name, "{meaning}"),
            Verdict::Fail => lacking.push(format!("{name}: {meaning}")),
        }
    }
    if lacking.is_empty() {
        return Ok(());
    }
    bail!(
        "this host lacks what pods need: {} (see `knarr check`)",
        lacking.join("; ")
    )
}

async fn open_network(
    config: &Config,
    instance: &Instance,
    node_ip: Option<IpAddr>,
) -> Result<PodNet> {
    let gateway = IpAddr::from((u32::from(config.pod_cidr.network()) + 1).to_be_bytes());
    PodNet::open(net::Config {
        instance: instance.name.clone(),
        node_name: config.node_name.clone(),
        node_ip: node_ip.unwrap_or(gateway),
        pod_cidr: config.pod_cidr.into(),
        service_cidr: config.service_cidr.into(),
        data_dir: instance.data_dir.clone(),
        cluster_domain: CLUSTER_DOMAIN.to_owned(),
        upstreams: Vec::new(),
        mtu: None,
    })
    .await
    .context("the pod network")
}

async fn open_images(config: &Config, instance: &Instance) -> Result<Images> {
    let dir = instance.data_dir.join("images");
    let mut settings = image::Config {
        insecure_registries: config.insecure_registries.clone(),
        ..image::Config::default()
    };
    for (registry, url) in &config.registry_mirrors {
        let mirror = Mirror {
            url: url.clone(),
            auth: None,
        };
        settings
            .mirrors
            .entry(registry.clone())
            .or_default()
            .push(mirror);
    }
    blocking(move || {
        let images = Images::open(&dir, settings)
            .with_context(|| format!("the images in {}", dir.display()))?;
        let exe = std::env::current_exe().context("the path of this binary")?;
        images
            .add_builtin(HELLO_IMAGE, &exe, &["hello"])
            .with_context(|| format!("the image {HELLO_IMAGE}"))?;
        Ok(images)
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a blocking task")?
}

fn welcome(cluster: &Cluster, instance: &Instance, progress: &Progress) {
    let path = cluster.kubeconfig.display();
    progress.done(&format!(
        "up: https://{} (kubeconfig: {path})",
        cluster.listen
    ));
    if progress.terminal() {
        let exe = std::env::current_exe().unwrap_or_else(|_| "knarr".into());
        eprintln!("\nNext:\n    export KUBECONFIG={path}\n    kubectl get nodes\n");
        eprintln!("or:\n    {} get nodes --kubeconfig {path}\n", exe.display());
        eprintln!("Ctrl-C stops the server; pods keep running. To remove all of it:");
        eprintln!(
            "    {} down --data-dir {}",
            exe.display(),
            instance.data_dir.display()
        );
    }
}
