//! From a container of a pod to what the shim is asked to start.
//!
//! Invariant: blocking lookups in the image's root file system and in volumes are
//! done here, on a blocking thread, and nowhere else.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use image::Image;
use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, VolumeMount};
use runtime::{Capabilities, ContainerSpec, Mount, Propagation, Resources, Seccomp, User};
use sha2::{Digest as _, Sha256};

use crate::{
    env,
    identity::{self, Identity, IdentityError},
    resources::{self, CPU_PERIOD_US},
    security::{self, Profile, SecurityError},
    volumes::subpath::{self, SubPathError},
};

/// Where the termination message goes when the spec does not say.
const TERMINATION_LOG: &str = "/dev/termination-log";

/// Why a container's configuration cannot be made: `CreateContainerConfigError`.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BuildError {
    /// Its user.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// Its confinement.
    #[error(transparent)]
    Security(#[from] SecurityError),
    /// A sub path.
    #[error("failed to prepare subPath for volumeMount \"{volume}\" of container \"{container}\"")]
    SubPath {
        /// Name of the volume.
        volume: String,
        /// Name of the container.
        container: String,
        /// Why.
        #[source]
        source: Box<SubPathError>,
    },
    /// A mount of a volume that the pod does not have.
    #[error("volume \"{volume}\" is not mounted")]
    NoVolume {
        /// Name of the volume.
        volume: String,
    },
    /// Nothing to run.
    #[error("no command specified")]
    NoCommand,
    /// A file could not be made.
    #[error("{}", path.display())]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
}

/// The id of an attempt: the same wherever and whenever it is computed.
pub(crate) fn id(uid: &str, container: &str, attempt: u32) -> String {
    let mut hash = Sha256::new();
    hash.update(uid);
    hash.update([0]);
    hash.update(container);
    hash.update([0]);
    hash.update(attempt.to_le_bytes());
    hex::encode(hash.finalize())
}

/// The log directory of a container: `<root>/<namespace>_<name>_<uid>/<container>`.
pub(crate) fn log_dir(root: &Path, pod: &Pod, container: &str) -> PathBuf {
    pod_log_dir(root, pod).join(container)
}

/// The log directory of a pod.
pub(crate) fn pod_log_dir(root: &Path, pod: &Pod) -> PathBuf {
    let m = &pod.metadata;
    root.join(format!(
        "{}_{}_{}",
        m.namespace.as_deref().unwrap_or_default(),
        m.name.as_deref().unwrap_or_default(),
        m.uid.as_deref().unwrap_or_default()
    ))
}

/// Where a run's termination message is on the host.
pub(crate) fn termination_file(pod_dir: &Path, container: &str, id: &str) -> PathBuf {
    pod_dir
        .join("containers")
        .join(container)
        .join(&id[..id.len().min(12)])
}

/// An ephemeral container as a regular one: the fields are the same.
pub(crate) fn of_ephemeral(c: &EphemeralContainer) -> Container {
    Container {
        args: c.args.clone(),
        command: c.command.clone(),
        env: c.env.clone(),
        env_from: c.env_from.clone(),
        image: c.image.clone(),
        image_pull_policy: c.image_pull_policy.clone(),
        name: c.name.clone(),
        security_context: c.security_context.clone(),
        stdin: c.stdin,
        stdin_once: c.stdin_once,
        termination_message_path: c.termination_message_path.clone(),
        termination_message_policy: c.termination_message_policy.clone(),
        tty: c.tty,
        volume_mounts: c.volume_mounts.clone(),
        working_dir: c.working_dir.clone(),
        ..Container::default()
    }
}

/// The container of that name, whatever its role.
pub(crate) fn find(pod: &Pod, name: &str) -> Option<Container> {
    let spec = pod.spec.as_ref()?;
    spec.containers
        .iter()
        .chain(spec.init_containers.iter().flatten())
        .find(|c| c.name == name)
        .cloned()
        .or_else(|| {
            let mut list = spec.ephemeral_containers.iter().flatten();
            list.find(|c| c.name == name).map(of_ephemeral)
        })
}

/// The container whose processes an ephemeral one is to see.
fn target(pod: &Pod, name: &str) -> Option<String> {
    let mut ephemeral = pod.spec.as_ref()?.ephemeral_containers.iter().flatten();
    let target = ephemeral
        .find(|c| c.name == name)?
        .target_container_name
        .clone();
    target.filter(|target| !target.is_empty())
}

/// Everything that goes into one container.
pub(crate) struct Build {
    /// The pod.
    pub pod: Pod,
    /// The container.
    pub container: Container,
    /// Its image.
    pub image: Image,
    /// Number of the attempt.
    pub attempt: u32,
    /// The mounted root file system.
    pub rootfs: PathBuf,
    /// The pod's directory below the data directory.
    pub pod_dir: PathBuf,
    /// Root of all pod logs.
    pub log_root: PathBuf,
    /// Where each volume is on the host.
    pub volumes: BTreeMap<String, PathBuf>,
    /// Its variables, without the image's.
    pub variables: Vec<(String, String)>,
    /// Where `Localhost` seccomp profiles are.
    pub seccomp_dir: PathBuf,
    /// Memory of the node in bytes.
    pub node_memory_bytes: i64,
    /// Rotate logs at this size.
    pub log_max_bytes: u64,
    /// Keep this many log files.
    pub log_max_files: u32,
}

impl Build {
    /// Makes the spec for the shim. Blocking.
    ///
    /// # Errors
    /// When the configuration is wrong.
    pub(crate) fn spec(&self) -> Result<(ContainerSpec, Identity), BuildError> {
        let c = &self.container;
        let config = self.image.config.config().as_ref();
        let image_user = config.and_then(|c| c.user().clone()).unwrap_or_default();
        identity::verify_non_root(&self.pod, c, &image_user)?;
        let who = identity::resolve(&self.pod, c, &image_user, &self.rootfs)?;
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let id = id(uid, &c.name, self.attempt);

        let argv = env::argv(
            c,
            config.and_then(|c| c.entrypoint().as_deref()),
            config.and_then(|c| c.cmd().as_deref()),
            &self.variables,
        );
        if argv.is_empty() {
            return Err(BuildError::NoCommand);
        }
        let image_env = config.and_then(|c| c.env().clone()).unwrap_or_default();
        let image_dir = config
            .and_then(|c| c.working_dir().clone())
            .unwrap_or_default();
        let cwd = c
            .working_dir
            .clone()
            .filter(|d| !d.is_empty())
            .unwrap_or(image_dir);
        let (add, drop) = security::capabilities(c);
        let context = c.security_context.as_ref();
        let spec = ContainerSpec {
            id: id.clone(),
            name: c.name.clone(),
            attempt: self.attempt,
            processes_of: target(&self.pod, &c.name),
            rootfs: self.rootfs.clone(),
            argv,
            env: self.environment(image_env, &who),
            cwd,
            user: User {
                uid: who.uid,
                gid: who.gid,
                additional_gids: who.groups.clone(),
            },
            mounts: self.mounts(&id)?,
            readonly_rootfs: context.is_some_and(|s| s.read_only_root_filesystem == Some(true)),
            capabilities: Capabilities {
                add,
                drop,
                ambient: Vec::new(),
            },
            privileged: security::privileged(c),
            no_new_privileges: security::no_new_privileges(c),
            seccomp: match security::seccomp(&self.pod, c, &self.seccomp_dir)? {
                Profile::Unconfined => Seccomp::Unconfined,
                Profile::RuntimeDefault => Seccomp::RuntimeDefault,
                Profile::Localhost(path) => Seccomp::Localhost(path),
            },
            tty: c.tty == Some(true),
            stdin: c.stdin == Some(true),
            stdin_once: c.stdin_once == Some(true),
            log_path: Some(self.log_path()?),
            log_max_bytes: self.log_max_bytes,
            log_max_files: self.log_max_files,
            resources: self.resources(),
            ..ContainerSpec::default()
        };
        Ok((spec, who))
    }

    fn environment(&self, image: Vec<String>, who: &Identity) -> Vec<String> {
        let mut list: Vec<(String, String)> = Vec::new();
        let pairs = image.iter().filter_map(|line| {
            line.split_once('=')
                .map(|(k, v)| (k.to_owned(), v.to_owned()))
        });
        for (name, value) in pairs.chain(self.variables.iter().cloned()) {
            match list.iter_mut().find(|(n, _)| *n == name) {
                Some(slot) => slot.1 = value,
                None => list.push((name, value)),
            }
        }
        if let Some(home) = who
            .home
            .clone()
            .filter(|_| !list.iter().any(|(n, _)| n == "HOME"))
        {
            list.push(("HOME".into(), home));
        }
        list.into_iter().map(|(n, v)| format!("{n}={v}")).collect()
    }

    fn resources(&self) -> Resources {
        let limits = resources::limits(self.container.resources.as_ref());
        let oom = self.pod.spec.as_ref().map(|spec| {
            let qos = resources::qos(spec);
            resources::oom_score_adj(
                spec,
                qos,
                limits.memory_request_bytes,
                self.node_memory_bytes,
            )
        });
        Resources {
            cpu_shares: Some(limits.cpu_shares),
            cpu_quota_us: limits.cpu_quota_us,
            cpu_period_us: limits.cpu_quota_us.map(|_| CPU_PERIOD_US),
            memory_limit_bytes: limits.memory_bytes.and_then(|b| u64::try_from(b).ok()),
            oom_score_adj: oom,
            ..Resources::default()
        }
    }

    fn log_path(&self) -> Result<PathBuf, BuildError> {
        let dir = log_dir(&self.log_root, &self.pod, &self.container.name);
        fs::create_dir_all(&dir).map_err(|source| BuildError::Io {
            path: dir.clone(),
            source,
        })?;
        Ok(dir.join(format!("{}.log", self.attempt)))
    }

    fn mounts(&self, id: &str) -> Result<Vec<Mount>, BuildError> {
        let c = &self.container;
        let mut mounts = Vec::new();
        for (index, m) in c.volume_mounts.iter().flatten().enumerate() {
            let base = self
                .volumes
                .get(&m.name)
                .ok_or_else(|| BuildError::NoVolume {
                    volume: m.name.clone(),
                })?;
            let source = match self.sub_path(m) {
                None => base.clone(),
                Some(path) => {
                    let target = self
                        .pod_dir
                        .join("volume-subpaths")
                        .join(&m.name)
                        .join(&c.name)
                        .join(index.to_string());
                    subpath::pin(base, &path, &target).map_err(|source| BuildError::SubPath {
                        volume: m.name.clone(),
                        container: c.name.clone(),
                        source: Box::new(source),
                    })?
                }
            };
            mounts.push(Mount {
                source,
                destination: m.mount_path.clone().into(),
                read_only: m.read_only == Some(true),
                recursive_read_only: matches!(
                    m.recursive_read_only.as_deref(),
                    Some("Enabled" | "IfPossible")
                ),
                propagation: match m.mount_propagation.as_deref() {
                    Some("HostToContainer") => Propagation::HostToContainer,
                    Some("Bidirectional") => Propagation::Bidirectional,
                    _ => Propagation::None,
                },
            });
        }
        let file = |name: &str, destination: &str| Mount {
            source: self.pod_dir.join(name),
            destination: destination.into(),
            read_only: c
                .security_context
                .as_ref()
                .is_some_and(|s| s.read_only_root_filesystem == Some(true)),
            ..Mount::default()
        };
        for (name, destination) in [
            ("etc-hosts", "/etc/hosts"),
            ("resolv.conf", "/etc/resolv.conf"),
            ("hostname", "/etc/hostname"),
        ] {
            if !mounts
                .iter()
                .any(|m| m.destination == Path::new(destination))
            {
                mounts.push(file(name, destination));
            }
        }
        mounts.push(self.termination(id)?);
        // Outer mounts first, or they would hide the inner ones.
        mounts.sort_by_key(|m| m.destination.components().count());
        Ok(mounts)
    }

    fn sub_path(&self, m: &VolumeMount) -> Option<String> {
        if let Some(expr) = m.sub_path_expr.as_deref().filter(|e| !e.is_empty()) {
            let lookup = |name: &str| {
                self.variables
                    .iter()
                    .find(|(n, _)| n == name)
                    .map(|(_, v)| v.clone())
            };
            return Some(env::expand(expr, &lookup));
        }
        m.sub_path.clone().filter(|p| !p.is_empty())
    }

    fn termination(&self, id: &str) -> Result<Mount, BuildError> {
        let path = termination_file(&self.pod_dir, &self.container.name, id);
        let fail = |source| BuildError::Io {
            path: path.clone(),
            source,
        };
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(fail)?;
        }
        let file = fs::File::create(&path).map_err(fail)?;
        // Any user of the container writes to it.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666))
            .map_err(fail)?;
        let inside = self
            .container
            .termination_message_path
            .as_deref()
            .filter(|p| !p.is_empty());
        Ok(Mount {
            source: path.clone(),
            destination: inside.unwrap_or(TERMINATION_LOG).into(),
            ..Mount::default()
        })
    }
}
