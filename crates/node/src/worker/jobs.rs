//! The long-running parts of a worker's actions, each a future without access to its state.
//!
//! Invariant: a job may be dropped at any await point; what it left behind is found
//! and cleaned by the job that comes after it.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use client::EventType;
use futures::TryFutureExt as _;
use image::Image;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, PodStatus};
use kube::api::{Api, DeleteParams, Patch, PatchParams, Preconditions};
use runtime::{Resources, SandboxSpec, Shim, ShimError};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{
    container::{self, Build},
    dns,
    env::{self, Sources},
    hooks,
    identity::Identity,
    network::{HostPort, NetworkError, PodRef},
    refs, resources, security,
    shared::SharedRef,
    status::write,
    volumes::fetch::Fetch,
};

/// The least time between a preStop hook's end and SIGKILL.
const AFTER_HOOK: Duration = Duration::from_secs(2);
/// How long a killed container may take to be gone before it is killed again.
const AFTER_KILL: Duration = Duration::from_secs(10);

/// Why there is no sandbox.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SandboxError {
    /// The shim.
    #[error("failed to create sandbox")]
    Shim(#[from] ShimError),
    /// The network.
    #[error("failed to set up sandbox network")]
    Network(#[from] NetworkError),
    /// A forbidden sysctl.
    #[error(transparent)]
    Security(#[from] security::SecurityError),
    /// A file of the pod.
    #[error("{}", path.display())]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

fn uid(pod: &Pod) -> &str {
    pod.metadata.uid.as_deref().unwrap_or_default()
}

/// Whether the pod is on the host's network.
pub(crate) fn host_network(pod: &Pod) -> bool {
    pod.spec
        .as_ref()
        .is_some_and(|s| s.host_network == Some(true))
}

/// Makes the sandbox and attaches its network.
pub(crate) async fn launch(
    shared: SharedRef,
    pod: Pod,
) -> Result<(Shim, Vec<IpAddr>), SandboxError> {
    let (pod_dir, shim_dir) = (shared.pod_dir(uid(&pod)), shared.shim_dir(uid(&pod)));
    let spec = sandbox_spec(&shared, &pod)?;
    if tokio::fs::try_exists(&shim_dir).await.unwrap_or(false) {
        // What is left of a sandbox that died.
        Shim::cleanup(&shim_dir).await?;
        if !host_network(&pod) {
            shared.config.network.detach(uid(&pod)).await?;
        }
    }
    let domain = shared.config.network.dns();
    let (files_pod, files_dir, node) = (
        pod.clone(),
        pod_dir.clone(),
        shared.config.node_name.clone(),
    );
    let cluster = domain.clone();
    let files = tokio::task::spawn_blocking(move || {
        let resolv = dns::resolv_conf(&files_pod, &cluster, &host_resolv_conf());
        let hostname = dns::kernel_hostname(&files_pod, &node, &cluster.search_domain);
        write_file(&files_dir, "resolv.conf", &resolv)?;
        write_file(&files_dir, "hostname", &format!("{hostname}\n"))
    });
    let launch = Shim::launch(&shared.config.exe, &shim_dir, &spec);
    let begun = Instant::now();
    let (files, shim) = tokio::join!(files, launch);
    let launched = begun.elapsed();
    let shim = shim?;
    let interrupted = |_| SandboxError::Io {
        path: pod_dir.clone(),
        source: std::io::ErrorKind::Interrupted.into(),
    };
    files.map_err(interrupted)??;
    let ips = if host_network(&pod) {
        shared.config.node_ips.clone()
    } else {
        shared
            .config
            .network
            .attach(pod_ref(&pod), shim.netns())
            .await?
    };
    tracing::debug!(
        pod = crate::identity::pod_words(&pod),
        launched_ms = launched.as_millis(),
        networked_ms = begun.elapsed().as_millis(),
        "sandbox ready"
    );
    write_hosts(&shared, &pod, &ips)
        .await
        .map_err(|source| SandboxError::Io {
            path: pod_dir.join("etc-hosts"),
            source,
        })?;
    Ok((shim, ips))
}

async fn write_hosts(shared: &SharedRef, pod: &Pod, ips: &[IpAddr]) -> std::io::Result<()> {
    let host = if host_network(pod) {
        tokio::fs::read_to_string("/etc/hosts")
            .await
            .unwrap_or_default()
    } else {
        String::new()
    };
    let domain = shared.config.network.dns().search_domain;
    let text = dns::hosts(pod, ips, &shared.config.node_name, &domain, &host);
    tokio::fs::write(shared.pod_dir(uid(pod)).join("etc-hosts"), text).await
}

fn write_file(dir: &Path, name: &str, text: &str) -> Result<(), SandboxError> {
    let path = dir.join(name);
    let fail = |source| SandboxError::Io {
        path: path.clone(),
        source,
    };
    fs::create_dir_all(dir).map_err(fail)?;
    fs::write(&path, text).map_err(fail)
}

/// The node's `resolv.conf`: the real one behind systemd's stub, if that is there.
fn host_resolv_conf() -> String {
    let text = fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    let stub = text
        .lines()
        .any(|l| l.split_whitespace().eq(["nameserver", "127.0.0.53"]));
    if stub {
        fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(text)
    } else {
        text
    }
}

fn sandbox_spec(shared: &SharedRef, pod: &Pod) -> Result<SandboxSpec, SandboxError> {
    let fallback = k8s_openapi::api::core::v1::PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&fallback);
    let domain = shared.config.network.dns().search_domain;
    let limits = resources::pod_limits(spec);
    Ok(SandboxSpec {
        id: uid(pod).to_owned(),
        hostname: dns::kernel_hostname(pod, &shared.config.node_name, &domain),
        host_network: host_network(pod),
        host_pid: spec.host_pid == Some(true),
        host_ipc: spec.host_ipc == Some(true),
        share_process_namespace: spec.share_process_namespace == Some(true),
        cgroup: resources::cgroup_path(&shared.config.instance, resources::qos(spec), uid(pod)),
        resources: Resources {
            cpu_shares: Some(limits.cpu_shares),
            cpu_quota_us: limits.cpu_quota_us,
            cpu_period_us: limits.cpu_quota_us.map(|_| resources::CPU_PERIOD_US),
            memory_limit_bytes: limits.memory_bytes.and_then(|b| u64::try_from(b).ok()),
            ..Resources::default()
        },
        sysctls: security::sysctls(pod)?.into_iter().collect(),
        ..SandboxSpec::default()
    })
}

fn pod_ref(pod: &Pod) -> PodRef {
    PodRef {
        namespace: pod.metadata.namespace.clone().unwrap_or_default(),
        name: pod.metadata.name.clone().unwrap_or_default(),
        uid: uid(pod).to_owned(),
        host_ports: host_ports(pod),
    }
}

/// The host ports of a pod.
pub(crate) fn host_ports(pod: &Pod) -> Vec<HostPort> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let sidecars = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| c.restart_policy.as_deref() == Some("Always"));
    spec.containers
        .iter()
        .chain(sidecars)
        .flat_map(|c| c.ports.iter().flatten())
        .filter_map(|p| {
            let host_port = u16::try_from(p.host_port?).ok().filter(|p| *p > 0)?;
            let any = |ip: &IpAddr| ip.is_unspecified();
            Some(HostPort {
                host_ip: p
                    .host_ip
                    .as_ref()
                    .and_then(|ip| ip.parse().ok())
                    .filter(|ip| !any(ip)),
                host_port,
                container_port: u16::try_from(p.container_port).ok()?,
                protocol: p.protocol.clone().unwrap_or_else(|| "TCP".into()),
            })
        })
        .collect()
}

/// Why a container was not started, with the reason its status shows.
#[derive(Debug)]
pub(crate) enum StartError {
    /// Nothing was tried: `CreateContainerConfigError`.
    Config(String),
    /// Its root file system could not be made: `CreateContainerError`.
    Create(String),
    /// The attempt was made: a termination with `StartError`.
    Start(String),
}

/// A started container.
#[derive(Debug)]
pub(crate) struct Up {
    /// Its id.
    pub id: String,
    /// When.
    pub started_at: Timestamp,
    /// Who it runs as.
    pub who: Identity,
    /// Its postStart hook failed.
    pub hook_failed: bool,
}

/// What a start needs.
pub(crate) struct Start {
    /// Shared state.
    pub shared: SharedRef,
    /// The pod.
    pub pod: Pod,
    /// The container.
    pub container: Container,
    /// Its image.
    pub image: Image,
    /// Number of the attempt.
    pub attempt: u32,
    /// The sandbox.
    pub shim: Shim,
    /// Addresses of the pod.
    pub ips: Vec<IpAddr>,
    /// Where volumes are.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Cancelled when the pod is to stop: no more waiting for the hook.
    pub cancel: CancellationToken,
}

impl Start {
    /// Starts the container and runs its postStart hook.
    pub(crate) async fn run(self) -> Result<Up, StartError> {
        let name = self.container.name.clone();
        let result = self.start().await;
        if let Err(error) = &result {
            let (StartError::Config(m) | StartError::Create(m) | StartError::Start(m)) = error;
            let text = format!("Error: {m}");
            self.shared
                .event(&self.pod, Some(&name), EventType::Warning, "Failed", text);
        }
        let mut up = result?;
        let hook = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|l| l.post_start.as_ref());
        if let Some(hook) = hook {
            let ip = self.ips.first().copied();
            let run = hooks::run(hook, &self.container, &up.id, &self.shim, ip);
            if let Some(Err(words)) = self.cancel.run_until_cancelled(run).await {
                tracing::info!(container = name, error = words, "postStart hook failed");
                let text = "PostStartHook failed".to_owned();
                self.shared.event(
                    &self.pod,
                    Some(&name),
                    EventType::Warning,
                    "FailedPostStartHook",
                    text,
                );
                up.hook_failed = true;
            }
        }
        Ok(up)
    }

    async fn start(&self) -> Result<Up, StartError> {
        let config = |e: &dyn std::error::Error| StartError::Config(stdx::chain(e));
        let begun = Instant::now();
        let variables = self.variables().await?;
        let uid = uid(&self.pod).to_owned();
        let id = container::id(&uid, &self.container.name, self.attempt);
        let (images, image, snapshot) = (
            self.shared.config.images.clone(),
            self.image.clone(),
            id.clone(),
        );
        let build = Build {
            pod: self.pod.clone(),
            container: self.container.clone(),
            image: self.image.clone(),
            attempt: self.attempt,
            rootfs: PathBuf::new(),
            pod_dir: self.shared.pod_dir(&uid),
            log_root: self.shared.config.log_dir.clone(),
            volumes: self.volumes.clone(),
            variables,
            seccomp_dir: self.shared.config.data_dir.join("seccomp"),
            node_memory_bytes: self.shared.capacity.memory_bytes,
            log_max_bytes: 0,
            log_max_files: 0,
        };
        let (spec, who) = tokio::task::spawn_blocking(move || {
            let rootfs = images
                .prepare(&image, &snapshot)
                .map_err(|e| StartError::Create(stdx::chain(&e)))?
                .merged;
            Build { rootfs, ..build }.spec().map_err(|e| {
                let _ = images.release(&snapshot);
                config(&e)
            })
        })
        .await
        .map_err(|e| StartError::Create(e.to_string()))??;
        let name = Some(self.container.name.as_str());
        let text = format!("Created container: {}", self.container.name);
        self.shared
            .event(&self.pod, name, EventType::Normal, "Created", text);
        let prepared = begun.elapsed();
        let started = self
            .shim
            .start(&spec)
            .map_err(|e| StartError::Start(stdx::chain(&e)))
            .await?;
        let text = format!("Started container {}", self.container.name);
        self.shared
            .event(&self.pod, name, EventType::Normal, "Started", text);
        tracing::debug!(
            pod = crate::identity::pod_words(&self.pod),
            container = self.container.name,
            prepared_ms = prepared.as_millis(),
            started_ms = begun.elapsed().as_millis(),
            "container started"
        );
        let started_at = Timestamp::from_nanosecond(i128::from(started.started_at_ns))
            .unwrap_or_else(|_| Timestamp::now());
        Ok(Up {
            id,
            started_at,
            who,
            hook_failed: false,
        })
    }

    async fn variables(&self) -> Result<Vec<(String, String)>, StartError> {
        let namespace = self.pod.metadata.namespace.as_deref().unwrap_or("default");
        let fetch = Fetch::new(self.shared.config.client.clone(), namespace);
        let mut only = self.pod.clone();
        if let Some(spec) = &mut only.spec {
            spec.volumes = None;
            spec.init_containers = None;
            spec.containers = vec![self.container.clone()];
        }
        let mut sources = Sources::default();
        for r in refs::of(&only) {
            let found = match r.kind {
                refs::Kind::ConfigMap => fetch.config_map(&r.name).await,
                refs::Kind::Secret => fetch.secret(&r.name).await,
            };
            if let Some(source) = found.map_err(|e| StartError::Config(stdx::chain(&e)))? {
                match r.kind {
                    refs::Kind::ConfigMap => sources.config_maps.insert(r.name, source),
                    refs::Kind::Secret => sources.secrets.insert(r.name, source),
                };
            }
        }
        self.shared.services.synced().await;
        let links = self
            .pod
            .spec
            .as_ref()
            .is_none_or(|s| s.enable_service_links != Some(false));
        let services = self.shared.services.list();
        let services = env::services(namespace, links, services.iter().map(AsRef::as_ref));
        let downward = self.shared.downward(&self.ips);
        env::variables(&self.pod, &self.container, &sources, &services, &downward)
            .map_err(|e| StartError::Config(e.to_string()))
    }
}

/// What a kill needs.
pub(crate) struct Kill {
    /// Shared state.
    pub shared: SharedRef,
    /// The pod.
    pub pod: Pod,
    /// The container.
    pub container: Container,
    /// Its id.
    pub id: String,
    /// Its sandbox.
    pub shim: Shim,
    /// The signal that asks it to end.
    pub signal: i32,
    /// The pod's address.
    pub ip: Option<IpAddr>,
    /// When SIGKILL is due; may come closer.
    pub deadline: watch::Receiver<Instant>,
    /// Cancelled when the container has ended.
    pub exited: CancellationToken,
}

impl Kill {
    /// Stops the container: hook, signal, SIGKILL at the deadline.
    pub(crate) async fn run(mut self) {
        let exited = self.exited.clone();
        exited.run_until_cancelled(self.kill()).await;
    }

    async fn kill(&mut self) {
        let hook = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|l| l.pre_stop.clone());
        let mut least = Instant::now();
        if let Some(hook) = hook.filter(|_| *self.deadline.borrow() > Instant::now()) {
            let (container, id, shim) =
                (self.container.clone(), self.id.clone(), self.shim.clone());
            let run = hooks::run(&hook, &container, &id, &shim, self.ip);
            tokio::select! {
                result = run => {
                    if let Err(words) = result {
                        tracing::info!(container = container.name, error = words, "preStop hook failed");
                        let text = "PreStopHook failed".to_owned();
                        self.shared.event(&self.pod, Some(&container.name), EventType::Warning, "FailedPreStopHook", text);
                    }
                }
                () = reach(&mut self.deadline, Instant::now()) => {}
            }
            least = Instant::now() + AFTER_HOOK;
        }
        if *self.deadline.borrow() > Instant::now() || least > Instant::now() {
            self.signal(self.signal).await;
            reach(&mut self.deadline, least).await;
        }
        self.signal(nix::libc::SIGKILL).await;
        tokio::time::sleep(AFTER_KILL).await;
    }

    async fn signal(&self, signal: i32) {
        if let Err(error) = self.shim.signal(&self.id, signal).await {
            tracing::debug!(
                id = self.id,
                signal,
                error = stdx::chain(&error),
                "signal not delivered"
            );
        }
    }
}

/// Waits for the deadline, wherever it moves, but at least until `least`.
async fn reach(deadline: &mut watch::Receiver<Instant>, least: Instant) {
    loop {
        let at = (*deadline.borrow_and_update()).max(least);
        tokio::select! {
            () = tokio::time::sleep_until(at) => return,
            changed = deadline.changed() => if changed.is_err() {
                tokio::time::sleep_until(at).await;
                return;
            }
        }
    }
}

/// Removes all that a pod had on the host, except its logs.
pub(crate) async fn tear_down(
    shared: SharedRef,
    pod: Pod,
    shim: Option<Shim>,
    ids: Vec<String>,
) -> Result<(), String> {
    let uid = uid(&pod).to_owned();
    if !host_network(&pod) {
        shared
            .config
            .network
            .detach(&uid)
            .await
            .map_err(|e| stdx::chain(&e))?;
    }
    let dir = shared.shim_dir(&uid);
    let down = match &shim {
        Some(shim) => shim.shutdown().await.is_ok(),
        None => false,
    };
    if !down || tokio::fs::try_exists(&dir).await.unwrap_or(false) {
        Shim::cleanup(&dir).await.map_err(|e| stdx::chain(&e))?;
    }
    let (images, pod_dir) = (shared.config.images.clone(), shared.pod_dir(&uid));
    tokio::task::spawn_blocking(move || {
        for id in ids {
            images.release(&id).map_err(|e| stdx::chain(&e))?;
        }
        crate::volumes::remove(&pod_dir).map_err(|e| stdx::chain(&e))
    })
    .await
    .map_err(|e| e.to_string())?
}

/// What became of a status write.
#[derive(Debug)]
pub(crate) enum Written {
    /// It is in the API.
    Done(Box<PodStatus>),
    /// There is no such pod any more.
    Gone,
    /// It failed; try again.
    Failed(String),
}

/// Writes a status.
pub(crate) async fn write_status(
    shared: SharedRef,
    pod: Pod,
    before: PodStatus,
    after: PodStatus,
) -> Written {
    let Some(patch) = write::patch(uid(&pod), &before, &after) else {
        return Written::Done(Box::new(after));
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<Pod> = Api::namespaced(shared.config.client.clone(), namespace);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    match api
        .patch_status(name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
    {
        Ok(_) => Written::Done(Box::new(after)),
        Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => Written::Gone,
        Err(e) => Written::Failed(stdx::chain(&e)),
    }
}

/// Removes the pod from the API: the last act on a pod that was deleted.
pub(crate) async fn finalise(shared: SharedRef, pod: Pod) -> Result<(), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let api: Api<Pod> = Api::namespaced(shared.config.client.clone(), namespace);
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let params = DeleteParams {
        grace_period_seconds: Some(0),
        preconditions: Some(Preconditions {
            uid: pod.metadata.uid.clone(),
            resource_version: None,
        }),
        ..DeleteParams::default()
    };
    match api.delete(name, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(s)) if s.code == 404 || s.code == 409 => Ok(()),
        Err(e) => Err(stdx::chain(&e)),
    }
}

/// Removes a pod's logs.
pub(crate) async fn remove_logs(shared: &SharedRef, pod: &Pod) {
    let dir = container::pod_log_dir(&shared.config.log_dir, pod);
    if let Err(error) = tokio::fs::remove_dir_all(&dir).await
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(dir = %dir.display(), %error, "logs not removed");
    }
}
