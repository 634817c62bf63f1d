//! What the node asks of a shim: a sandbox, and containers in it.
//!
//! Invariant: these are plain values; nothing here touches the host.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// A pod's sandbox: the namespaces that its containers share.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SandboxSpec {
    /// The pod's uid.
    pub id: String,
    /// Host name inside the pod. Ignored with `host_network`.
    pub hostname: String,
    /// Use the host's network (and host name) instead of a network namespace.
    pub host_network: bool,
    /// Containers see the host's processes.
    pub host_pid: bool,
    /// Use the host's System V and POSIX message queues, and its `/dev/shm`.
    pub host_ipc: bool,
    /// All containers share one process namespace, whose process 1 is the shim's own "pause".
    pub share_process_namespace: bool,
    /// Path below the cgroup roots, such as `knarr-main/burstable/pod<uid>`.
    pub cgroup: String,
    /// Limits of the pod as a whole.
    pub resources: Resources,
    /// Kernel parameters of the pod's own namespaces, such as `net.ipv4.ip_forward` = `1`.
    pub sysctls: BTreeMap<String, String>,
    /// Size of the pod's `/dev/shm` in bytes; `None` for 64 MiB.
    pub shm_size_bytes: Option<u64>,
}

/// One container. Everything is resolved: users are numbers, volumes are host paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ContainerSpec {
    /// Unique in the sandbox: letters, digits, `-`, `_` and `.`.
    pub id: String,
    /// Name in the pod.
    pub name: String,
    /// How often a container of this name was started before.
    pub attempt: u32,
    /// The name of a running container whose processes it shall see and be among; of none, it has a
    /// process namespace of its own, or the sandbox's.
    pub processes_of: Option<String>,
    /// The mounted root filesystem.
    pub rootfs: PathBuf,
    /// Program and arguments.
    pub argv: Vec<String>,
    /// `NAME=value` lines. `PATH`, `HOSTNAME` and `HOME` (and `TERM` with a tty) are added where missing.
    pub env: Vec<String>,
    /// Working directory; made where missing. Empty means `/`.
    pub cwd: String,
    /// Who it runs as.
    pub user: User,
    /// Volumes and files of the host.
    pub mounts: Vec<Mount>,
    /// Mount the root filesystem read-only.
    pub readonly_rootfs: bool,
    /// Changes to the default set of capabilities.
    pub capabilities: Capabilities,
    /// All capabilities and devices, nothing masked, no seccomp filter.
    pub privileged: bool,
    /// Set `no_new_privs` (that is `allowPrivilegeEscalation: false`).
    pub no_new_privileges: bool,
    /// The system call filter.
    pub seccomp: Seccomp,
    /// Give it a terminal.
    pub tty: bool,
    /// Keep its standard input open for attaching.
    pub stdin: bool,
    /// Close its standard input when the first attached client has left.
    pub stdin_once: bool,
    /// Where its output goes, in CRI format; `None` discards it.
    pub log_path: Option<PathBuf>,
    /// Rotate the log at this size; 0 means 10 MiB.
    pub log_max_bytes: u64,
    /// Keep this many log files, the current one included; 0 means 5.
    pub log_max_files: u32,
    /// Its limits.
    pub resources: Resources,
    /// Host devices that it may use.
    pub devices: Vec<Device>,
    /// Paths to hide; `None` for the defaults of the CRI.
    pub masked_paths: Option<Vec<String>>,
    /// Paths to make read-only; `None` for the defaults of the CRI.
    pub readonly_paths: Option<Vec<String>>,
    /// Resource limits of its processes.
    pub rlimits: Vec<Rlimit>,
}

/// Who a process runs as.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// Further groups; the primary one is added.
    pub additional_gids: Vec<u32>,
}

/// A path of the host bound into a container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Mount {
    /// Existing path on the host.
    pub source: PathBuf,
    /// Absolute path in the container; made where missing.
    pub destination: PathBuf,
    /// Mount it read-only.
    pub read_only: bool,
    /// With `read_only`: what is mounted below it as well.
    pub recursive_read_only: bool,
    /// Which later mounts cross the border.
    pub propagation: Propagation,
}

/// Which mounts made later on one side appear on the other.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Propagation {
    /// None.
    #[default]
    None,
    /// The host's mounts appear in the container.
    HostToContainer,
    /// Both ways. The host's mount must be shared.
    Bidirectional,
}

/// Changes to the default capabilities, by name with or without `CAP_`; `ALL` is understood.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Capabilities {
    /// Granted on top.
    pub add: Vec<String>,
    /// Taken away.
    pub drop: Vec<String>,
    /// Kept over `execve` by a user that is not root. They must be granted as well.
    pub ambient: Vec<String>,
}

/// The system call filter.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Seccomp {
    /// None.
    #[default]
    Unconfined,
    /// The default allow-list.
    RuntimeDefault,
    /// A profile in OCI (Docker) JSON at this path of the host.
    Localhost(PathBuf),
}

/// Limits; `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Resources {
    /// Relative CPU weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// CPU time a period in microseconds; -1 for no limit.
    pub cpu_quota_us: Option<i64>,
    /// Period in microseconds.
    pub cpu_period_us: Option<u64>,
    /// CPUs allowed, such as `0-3`.
    pub cpuset_cpus: Option<String>,
    /// Memory with page cache, in bytes.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads.
    pub pids_limit: Option<u64>,
    /// OOM score adjustment, -1000 to 1000. Not lowered where the host does not allow that.
    pub oom_score_adj: Option<i32>,
}

/// A device of the host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Device {
    /// Node on the host.
    pub host_path: PathBuf,
    /// Node in the container, below `/dev`.
    pub container_path: PathBuf,
    /// Any of `r`, `w`, `m`.
    pub permissions: String,
}

/// A resource limit of processes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rlimit {
    /// Name such as `RLIMIT_NOFILE`.
    pub name: String,
    /// What a process may raise its limit to.
    pub hard: u64,
    /// What holds at first.
    pub soft: u64,
}

/// A process to run in a running container.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Exec {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Give it a terminal (standard error then comes with standard output).
    pub tty: bool,
    /// Connect standard input.
    pub stdin: bool,
    /// Connect standard output.
    pub stdout: bool,
    /// Connect standard error.
    pub stderr: bool,
    /// Added to the container's environment.
    pub env: Vec<String>,
    /// Working directory; `None` for the container's.
    pub cwd: Option<String>,
    /// Who it runs as; `None` for the container's user.
    pub user: Option<User>,
    /// Kill it when this client goes away.
    pub kill_on_disconnect: bool,
}
