//! From a control group to a container: the ids that runtimes put into the path.
//!
//! Paths are matched as upstream's runtimes make them; who knows more (the node, which has the pod,
//! its labels and the image) says so by [`Containers`].

use std::sync::Arc;

use crate::event::value::texts;

/// Who made a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Runtime {
    /// Docker.
    Docker,
    /// containerd, by the CRI or by itself.
    Containerd,
    /// CRI-O.
    CriO,
    /// Podman, with or without root.
    Podman,
    /// systemd-nspawn, LXC and others that name what they run.
    Lxc,
    /// A container by its path in `kubepods`, whoever made it.
    Kubernetes,
    /// This node's own runtime.
    Knarr,
}

impl Runtime {
    /// As `container.type` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Docker => "docker",
            Self::Containerd | Self::Kubernetes => "containerd",
            Self::CriO => "cri-o",
            Self::Podman => "podman",
            Self::Lxc => "lxc",
            Self::Knarr => "knarr",
        }
    }
}

/// A container, as far as it is known. What only a runtime knows is empty without one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// The id: 12 characters of the long one, as upstream's `container.id`.
    pub id: String,
    /// The whole id.
    pub full_id: String,
    /// Who made it.
    pub runtime: Runtime,
    /// Its name.
    pub name: String,
    /// The image's repository.
    pub image: String,
    /// The image's tag.
    pub tag: String,
    /// The image's digest.
    pub digest: String,
    /// Whether it may do what the host may.
    pub privileged: bool,
    /// The pod's name.
    pub pod: String,
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The pod's labels.
    pub labels: Vec<(String, String)>,
}

impl Container {
    /// A container of which its id is known.
    #[must_use]
    pub fn of_id(full_id: &str, runtime: Runtime) -> Self {
        let short = full_id.get(..12).unwrap_or(full_id);
        Self {
            id: short.to_owned(),
            full_id: full_id.to_owned(),
            runtime,
            name: String::new(),
            image: String::new(),
            tag: String::new(),
            digest: String::new(),
            privileged: false,
            pod: String::new(),
            namespace: String::new(),
            pod_uid: String::new(),
            labels: Vec::new(),
        }
    }
}

/// Who knows containers by the path of their control group.
pub trait Containers: Send {
    /// The container of a path, when there is one. Asked once for each new path; it must not wait.
    fn container(&mut self, cgroup: &str) -> Option<Arc<Container>>;
}

/// The subsystems and paths in a list of `subsystem=path` texts.
pub(super) fn control_groups(list: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    texts(list).filter_map(|entry| {
        let equals = entry.iter().position(|byte| *byte == b'=')?;
        Some((entry.get(..equals)?, entry.get(equals + 1..)?))
    })
}

/// The container that a control group's path names, by the habits of runtimes.
#[must_use]
pub fn container_of(path: &str) -> Option<Container> {
    let mut parts = path.rsplit('/').filter(|part| !part.is_empty());
    // The last part, or the one before where a container has groups of its own (`…/init`).
    let last = parts.next()?;
    named(last, path).or_else(|| named(parts.next()?, path))
}

fn named(part: &str, path: &str) -> Option<Container> {
    const SCOPES: &[(&str, Runtime)] = &[
        ("cri-containerd-", Runtime::Containerd),
        ("cri-containerd:", Runtime::Containerd),
        ("nerdctl-", Runtime::Containerd),
        ("crio-conmon-", Runtime::CriO),
        ("crio-", Runtime::CriO),
        ("docker-", Runtime::Docker),
        ("libpod-conmon-", Runtime::Podman),
        ("libpod-", Runtime::Podman),
    ];
    let bare = part.strip_suffix(".scope").unwrap_or(part);
    for (prefix, runtime) in SCOPES {
        if let Some(id) = bare.strip_prefix(prefix) {
            return is_id(id).then(|| Container::of_id(id, *runtime));
        }
    }
    // `…:cri-containerd:<id>` where the node's slices are named by systemd.
    if let Some((_, id)) = bare.rsplit_once(":cri-containerd:")
        && is_id(id)
    {
        return Some(Container::of_id(id, Runtime::Containerd));
    }
    if is_id(bare) {
        let runtime = if path.contains("/kubepods") {
            Runtime::Kubernetes
        } else if path.contains("libpod") {
            Runtime::Podman
        } else if path.contains("/docker/") {
            Runtime::Docker
        } else {
            Runtime::Containerd
        };
        return Some(Container::of_id(bare, runtime));
    }
    for (prefix, runtime) in [
        ("lxc.payload.", Runtime::Lxc),
        ("lxc.monitor.", Runtime::Lxc),
    ] {
        if let Some(name) = bare.strip_prefix(prefix) {
            return Some(Container::of_id(name, runtime));
        }
    }
    None
}

/// Whether text is an id: 64 hexadecimal digits, or 32 with a task's number behind (ECS).
fn is_id(text: &str) -> bool {
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    match text.split_once('-') {
        Some((task, number)) => task.len() == 32 && hex(task) && number.len() > 5,
        None => text.len() == 64 && hex(text),
    }
}
