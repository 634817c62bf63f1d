//! The volumes of a pod, as directories and files on the host.
//!
//! Invariants: all of a pod's volumes live below its own directory (a `hostPath`
//! stays where it is); making them is idempotent; blocking work is done on
//! blocking threads.

pub(crate) mod atomic;
pub(crate) mod fetch;
mod host;
pub(crate) mod payload;
pub(crate) mod subpath;

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod, Volume};

use crate::{
    env::{Downward, EnvError},
    resources,
};
use fetch::{Fetch, FetchError, Tokens};

/// Why one volume cannot be had.
#[derive(Debug, thiserror::Error)]
#[error(
    "MountVolume.SetUp failed for volume \"{volume}\" : {}",
    stdx::chain(problem)
)]
pub(crate) struct VolumeError {
    /// Name of the volume in the pod.
    pub volume: String,
    /// What is wrong with it.
    pub problem: VolumeProblem,
}

/// What is wrong with a volume.
#[derive(Debug, thiserror::Error)]
pub(crate) enum VolumeProblem {
    /// The API does not have it.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// A referenced object does not exist.
    #[error("{kind} \"{name}\" not found")]
    ObjectNotFound {
        /// `configmap` or `secret`.
        kind: &'static str,
        /// Its name.
        name: String,
    },
    /// A referenced key does not exist.
    #[error("references non-existent config key: {key}")]
    KeyNotFound {
        /// The key.
        key: String,
    },
    /// A path that leads out of the volume.
    #[error("invalid path {path:?}")]
    Path {
        /// As it was written.
        path: String,
    },
    /// A container that the pod does not have.
    #[error("container \"{name}\" not found")]
    NoContainer {
        /// Its name.
        name: String,
    },
    /// The downward API does not have it.
    #[error(transparent)]
    Env(#[from] EnvError),
    /// A `hostPath` is not what its type says.
    #[error("hostPath type check failed: {path} is not a {expected}")]
    HostPathType {
        /// The path.
        path: String,
        /// What it should be.
        expected: &'static str,
    },
    /// A claim that is not bound, or not to something on this host.
    #[error("persistentvolumeclaim \"{claim}\" is not bound to a hostPath or local volume")]
    Claim {
        /// Its name.
        claim: String,
    },
    /// A sort of volume that this node does not have.
    #[error("volumes of this sort are not supported: {kind}")]
    Unsupported {
        /// The sort.
        kind: &'static str,
    },
    /// The file system refused.
    #[error("{}", path.display())]
    Io {
        /// The path in question.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// A mount was refused.
    #[error(transparent)]
    Mount(#[from] sys::mount::MountError),
    /// A blocking job did not come to its end.
    #[error("interrupted")]
    Interrupted,
}

/// The volumes of a pod, ready to be mounted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Volumes {
    /// Where each volume is on the host.
    pub paths: BTreeMap<String, PathBuf>,
    /// When tokens have to be replaced.
    pub refresh_at: Option<Timestamp>,
}

/// Makes or updates all volumes of a pod below `dir`.
///
/// # Errors
/// The first volume that cannot be had.
pub(crate) async fn prepare(
    client: &client::Client,
    pod: &Pod,
    dir: &Path,
    downward: &Downward,
    tokens: &Tokens,
) -> Result<Volumes, VolumeError> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let fetch = Fetch::new(client.clone(), namespace);
    let volumes = pod
        .spec
        .as_ref()
        .and_then(|s| s.volumes.as_deref())
        .unwrap_or_default();
    let each = volumes.iter().map(|v| async {
        one(&fetch, pod, v, dir, downward, tokens)
            .await
            .map(|(path, refresh)| (v.name.clone(), path, refresh))
            .map_err(|problem| VolumeError {
                volume: v.name.clone(),
                problem,
            })
    });
    let mut out = Volumes::default();
    for (name, path, refresh) in futures::future::try_join_all(each).await? {
        out.paths.insert(name, path);
        if let Some(at) = refresh {
            out.refresh_at = Some(out.refresh_at.map_or(at, |t| t.min(at)));
        }
    }
    Ok(out)
}

/// Removes what [`prepare`] and sub paths have made below `dir`. Blocking, idempotent.
///
/// # Errors
/// When a mount or directory cannot be removed.
pub(crate) fn remove(dir: &Path) -> Result<(), VolumeProblem> {
    sys::mount::unmount_below(dir)?;
    match fs::remove_dir_all(dir) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => Err(VolumeProblem::Io {
            path: dir.to_path_buf(),
            source,
        }),
        _ => Ok(()),
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, VolumeProblem> + Send + 'static,
) -> Result<T, VolumeProblem> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| VolumeProblem::Interrupted)?
}

async fn one(
    fetch: &Fetch,
    pod: &Pod,
    volume: &Volume,
    dir: &Path,
    downward: &Downward,
    tokens: &Tokens,
) -> Result<(PathBuf, Option<Timestamp>), VolumeProblem> {
    let (kind, memory) = match volume {
        Volume {
            config_map: Some(_),
            ..
        } => ("configmap", false),
        Volume {
            secret: Some(_), ..
        } => ("secret", true),
        Volume {
            downward_api: Some(_),
            ..
        } => ("downward-api", true),
        Volume {
            projected: Some(_), ..
        } => ("projected", true),
        _ => ("empty-dir", false),
    };
    let path = dir.join(format!("kubernetes.io~{kind}")).join(&volume.name);
    if let Some(v) = &volume.host_path {
        let (host, kind) = (v.path.clone(), v.type_.clone().unwrap_or_default());
        return blocking(move || host::check(&host, &kind))
            .await
            .map(|p| (p, None));
    }
    if let Some(v) = &volume.persistent_volume_claim {
        let found = fetch.claim(&v.claim_name).await?;
        let path = found.ok_or_else(|| VolumeProblem::Claim {
            claim: v.claim_name.clone(),
        })?;
        return blocking(move || host::check(&path, "DirectoryOrCreate"))
            .await
            .map(|p| (p, None));
    }
    let group = payload::fs_group(pod);
    if let Some(content) = payload::gather(fetch, pod, volume, downward, tokens).await? {
        let (files, target) = (content.payload, path.clone());
        blocking(move || {
            directory(&target, 0o755)?;
            if memory && !is_mount_point(&target)? {
                sys::mount::tmpfs(&target, None, 0o755)?;
            }
            atomic::write(&target, &files).map_err(|source| VolumeProblem::Io {
                path: target.clone(),
                source,
            })?;
            Ok(())
        })
        .await?;
        return Ok((path, content.refresh_at));
    }
    let Some(v) = volume.empty_dir.clone() else {
        return Err(VolumeProblem::Unsupported {
            kind: kind_of(volume),
        });
    };
    let limit = memory_ceiling(pod);
    let target = path.clone();
    blocking(move || empty_dir(&target, &v, group, limit)).await?;
    Ok((path, None))
}

/// The most that a memory volume may take: the sum of the containers' memory limits, if all have one.
fn memory_ceiling(pod: &Pod) -> Option<i64> {
    let spec = pod.spec.as_ref()?;
    let limits = spec
        .containers
        .iter()
        .map(|c| resources::limits(c.resources.as_ref()).memory_bytes);
    limits.sum()
}

fn empty_dir(
    path: &Path,
    spec: &EmptyDirVolumeSource,
    group: Option<u32>,
    ceiling: Option<i64>,
) -> Result<(), VolumeProblem> {
    let io_error = |source| VolumeProblem::Io {
        path: path.to_path_buf(),
        source,
    };
    let fresh = !path.exists();
    directory(path, 0o777)?;
    match spec.medium.as_deref().unwrap_or_default() {
        "" => {}
        "Memory" => {
            if !is_mount_point(path)? {
                let own = spec
                    .size_limit
                    .as_ref()
                    .map(resources::bytes)
                    .filter(|b| *b > 0);
                let size = match (own, ceiling) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                sys::mount::tmpfs(path, size.and_then(|s| u64::try_from(s).ok()), 0o777)?;
            }
        }
        _ => {
            return Err(VolumeProblem::Unsupported {
                kind: "emptyDir with huge pages",
            });
        }
    }
    if !fresh {
        return Ok(());
    }
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group)).map_err(io_error)?;
        // Set-group-ID, so that new files belong to the group as well.
        fs::set_permissions(path, fs::Permissions::from_mode(0o2777)).map_err(io_error)?;
    }
    Ok(())
}

fn directory(path: &Path, mode: u32) -> Result<(), VolumeProblem> {
    let io_error = |source| VolumeProblem::Io {
        path: path.to_path_buf(),
        source,
    };
    if let Some(parent) = path.parent() {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o750)
            .create(parent)
            .map_err(io_error)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)).map_err(io_error),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(e) => Err(io_error(e)),
    }
}

/// Whether something is mounted right at `path`: another device than its parent's.
fn is_mount_point(path: &Path) -> Result<bool, VolumeProblem> {
    use std::os::unix::fs::MetadataExt as _;
    let dev = |p: &Path| {
        fs::metadata(p)
            .map(|m| m.dev())
            .map_err(|source| VolumeProblem::Io {
                path: p.to_path_buf(),
                source,
            })
    };
    Ok(dev(path)? != dev(path.parent().unwrap_or(Path::new("/")))?)
}

fn kind_of(volume: &Volume) -> &'static str {
    match volume {
        Volume { csi: Some(_), .. } => "csi",
        Volume {
            ephemeral: Some(_), ..
        } => "ephemeral",
        Volume { image: Some(_), .. } => "image",
        Volume { nfs: Some(_), .. } => "nfs",
        Volume { iscsi: Some(_), .. } => "iscsi",
        Volume { fc: Some(_), .. } => "fc",
        Volume {
            git_repo: Some(_), ..
        } => "gitRepo",
        _ => "a network or cloud volume",
    }
}
