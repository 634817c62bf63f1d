//! Control groups, version 1, 2, or both: a tree `knarr-<instance>/<qos>/pod<uid>/<container>`.
//!
//! Invariant: a [`Cgroup`] is one path in every mounted hierarchy (the named `systemd` one and an
//! empty v2 hierarchy beside v1 included), so that nobody who kills by cgroup reaches what we moved
//! away, and `cgroup.kill` works on hybrid hosts.

mod device_filter;
mod devices;
mod kill;
mod limits;
mod stats;
#[cfg(test)]
mod tests;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

pub use devices::{DeviceKind, DeviceRule};
pub use limits::{Limits, shares_to_weight};
pub use stats::Stats;

use crate::mount;

/// Which generation of cgroups carries the controllers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// Controllers on version 1 only.
    V1,
    /// Everything on version 2.
    V2,
    /// Controllers on version 1, and a version 2 hierarchy without controllers beside them.
    Hybrid,
}

impl Version {
    /// `v1`, `v2` or `hybrid`.
    pub fn as_str(self) -> &'static str {
        match self {
            Version::V1 => "v1",
            Version::V2 => "v2",
            Version::Hybrid => "hybrid",
        }
    }
}

/// A failed file operation below `/sys/fs/cgroup`.
#[derive(Debug, thiserror::Error)]
pub enum CgroupError {
    /// No cgroup filesystem is mounted.
    #[error("no cgroup filesystem is mounted below /sys/fs/cgroup")]
    NotMounted,
    /// The mount table could not be read.
    #[error(transparent)]
    Mounts(#[from] mount::MountError),
    /// A path that leaves the hierarchy.
    #[error("cgroup path {0:?} is not a plain relative path")]
    Path(String),
    /// A read, write, mkdir or rmdir failed.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// `create`, `write`, `read` or `remove`.
        operation: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A limit needs a controller that this host lacks.
    #[error("the {0} controller is not available on this host")]
    NoController(&'static str),
    /// Processes survived SIGKILL (uninterruptible sleep) for longer than we waited.
    #[error("processes are still alive in cgroup {}", path.display())]
    Busy {
        /// The folder that could not be removed.
        path: PathBuf,
    },
    /// The device filter of version 2 could not be attached.
    #[error("cannot attach the device filter to {}", path.display())]
    DeviceFilter {
        /// The cgroup.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

pub(crate) fn io_error(
    operation: &'static str,
    path: &Path,
) -> impl FnOnce(io::Error) -> CgroupError {
    move |source| CgroupError::Io {
        operation,
        path: path.into(),
        source,
    }
}

/// One mounted hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hierarchy {
    mount: PathBuf,
    /// Controllers on it, `name=…` for a named one; on version 2 those of the root.
    controllers: Vec<String>,
    v2: bool,
}

/// The hierarchies of this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroups {
    version: Version,
    hierarchies: Vec<Hierarchy>,
}

/// One hierarchy as a container sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Folder below `/sys/fs/cgroup`; empty for that folder itself.
    pub name: String,
    /// `cgroup` or `cgroup2`.
    pub fs_type: &'static str,
    /// Mount data, such as `cpu,cpuacct`.
    pub data: String,
}

const NOT_CONTROLLERS: &[&str] = &[
    "rw",
    "ro",
    "xattr",
    "clone_children",
    "noprefix",
    "nsdelegate",
    "favordynmods",
];

impl Cgroups {
    /// Finds out what is mounted below `/sys/fs/cgroup`.
    pub fn detect() -> Result<Cgroups, CgroupError> {
        Self::from_mounts(&mount::below(Path::new("/sys/fs/cgroup"))?)
    }

    fn from_mounts(mounts: &[mount::Mounted]) -> Result<Cgroups, CgroupError> {
        let mut hierarchies: Vec<Hierarchy> = Vec::new();
        for mounted in mounts {
            let v2 = match mounted.fs_type.as_str() {
                "cgroup" => false,
                "cgroup2" => true,
                _ => continue,
            };
            let controllers: Vec<String> = if v2 {
                let list =
                    fs::read_to_string(mounted.path.join("cgroup.controllers")).unwrap_or_default();
                list.split_whitespace().map(str::to_owned).collect()
            } else {
                let options = mounted.fs_options.split(',');
                options
                    .filter(|o| !NOT_CONTROLLERS.contains(o) && !o.contains("agent="))
                    .map(str::to_owned)
                    .collect()
            };
            let known = hierarchies
                .iter()
                .any(|h| h.v2 == v2 && h.controllers == controllers);
            if !known {
                hierarchies.push(Hierarchy {
                    mount: mounted.path.clone(),
                    controllers,
                    v2,
                });
            }
        }
        let (v1, v2) = (
            hierarchies.iter().any(|h| !h.v2),
            hierarchies.iter().any(|h| h.v2),
        );
        let version = match (v1, v2) {
            (true, true) => Version::Hybrid,
            (true, false) => Version::V1,
            (false, true) => Version::V2,
            (false, false) => return Err(CgroupError::NotMounted),
        };
        Ok(Cgroups {
            version,
            hierarchies,
        })
    }

    /// Which generation carries the controllers.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Whether a controller (`cpu`, `memory`, `pids`, `devices`, …) can be used. On version 2
    /// `devices` and `freezer` are part of the core.
    pub fn has(&self, controller: &str) -> bool {
        let built_in =
            self.version == Version::V2 && matches!(controller, "devices" | "freezer" | "cpuacct");
        built_in
            || self
                .hierarchies
                .iter()
                .any(|h| h.controllers.iter().any(|c| c == controller))
    }

    /// How a container in a cgroup namespace of its own mounts each hierarchy.
    pub fn views(&self) -> Vec<View> {
        let root = Path::new("/sys/fs/cgroup");
        let below = |h: &Hierarchy| {
            h.mount
                .strip_prefix(root)
                .unwrap_or(Path::new(""))
                .to_string_lossy()
                .into_owned()
        };
        let view = |h: &Hierarchy| View {
            name: below(h),
            fs_type: if h.v2 { "cgroup2" } else { "cgroup" },
            data: if h.v2 {
                String::new()
            } else {
                h.controllers.join(",")
            },
        };
        self.hierarchies.iter().map(view).collect()
    }

    /// All controllers, without named hierarchies.
    pub fn controllers(&self) -> Vec<&str> {
        let all = self.hierarchies.iter().flat_map(|h| h.controllers.iter());
        all.map(String::as_str)
            .filter(|c| !c.contains('='))
            .collect()
    }

    /// The cgroup at `path` below the roots, such as `knarr-main/burstable/pod42`. Creates nothing.
    pub fn group(&self, path: &str) -> Result<Cgroup, CgroupError> {
        let plain = path
            .split('/')
            .all(|part| !part.is_empty() && part != "." && part != ".." && !part.contains('\0'));
        if !plain {
            return Err(CgroupError::Path(path.into()));
        }
        Ok(Cgroup {
            all: self.clone(),
            path: path.into(),
        })
    }
}

/// One control group, the same path in every hierarchy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cgroup {
    all: Cgroups,
    path: String,
}

impl Cgroup {
    /// The path below the roots.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The group `name` below this one.
    pub fn child(&self, name: &str) -> Result<Cgroup, CgroupError> {
        self.all.group(&format!("{}/{name}", self.path))
    }

    /// The hierarchies that this group is part of.
    pub fn cgroups(&self) -> &Cgroups {
        &self.all
    }

    fn dir_in(&self, hierarchy: &Hierarchy) -> PathBuf {
        hierarchy.mount.join(&self.path)
    }

    /// Folder of the hierarchy that holds `controller`.
    pub fn dir(&self, controller: &'static str) -> Result<PathBuf, CgroupError> {
        if self.all.version == Version::V2 && self.all.has(controller) {
            return self
                .unified_dir()
                .ok_or(CgroupError::NoController(controller));
        }
        let holds = |h: &&Hierarchy| h.controllers.iter().any(|c| c == controller);
        let found = self.all.hierarchies.iter().find(holds);
        found
            .map(|h| self.dir_in(h))
            .ok_or(CgroupError::NoController(controller))
    }

    /// Folder in the version 2 hierarchy, where there is one (with controllers or without).
    pub fn unified_dir(&self) -> Option<PathBuf> {
        self.all
            .hierarchies
            .iter()
            .find(|h| h.v2)
            .map(|h| self.dir_in(h))
    }

    /// Whether it exists in any hierarchy.
    pub fn exists(&self) -> bool {
        self.all.hierarchies.iter().any(|h| self.dir_in(h).is_dir())
    }

    /// Creates it, parents included, with controllers handed down to it. Idempotent.
    pub fn create(&self) -> Result<(), CgroupError> {
        for hierarchy in &self.all.hierarchies {
            let dir = self.dir_in(hierarchy);
            if dir.is_dir() {
                continue;
            }
            let mut at = hierarchy.mount.clone();
            for part in self.path.split('/') {
                if self.all.version == Version::V2 {
                    hand_down(&at, &hierarchy.controllers);
                }
                let parent = at.clone();
                at.push(part);
                match fs::create_dir(&at) {
                    Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                        return Err(io_error("create", &at)(e));
                    }
                    _ => {}
                }
                if !hierarchy.v2 && hierarchy.controllers.iter().any(|c| c == "cpuset") {
                    inherit_cpuset(&parent, &at)?;
                }
            }
        }
        Ok(())
    }

    /// Moves a process (all its threads) here. Pid 0 is the caller. On version 1 the first move
    /// after a quiet time costs the kernel a grace period, some 10 ms.
    pub fn add(&self, pid: u32) -> Result<(), CgroupError> {
        let text = pid.to_string();
        for hierarchy in &self.all.hierarchies {
            let procs = self.dir_in(hierarchy).join("cgroup.procs");
            write(&procs, &text)?;
        }
        Ok(())
    }

    /// Moves a process here only in hierarchies that limit nothing: a named one of version 1, and
    /// version 2 beside version 1.
    pub fn add_where_uncontrolled(&self, pid: u32) -> Result<(), CgroupError> {
        let beside = self.all.version == Version::Hybrid;
        let bare =
            |h: &&Hierarchy| (h.v2 && beside) || h.controllers.iter().all(|c| c.contains('='));
        for hierarchy in self.all.hierarchies.iter().filter(bare) {
            write(
                &self.dir_in(hierarchy).join("cgroup.procs"),
                &pid.to_string(),
            )?;
        }
        Ok(())
    }

    /// Processes in this group itself, by all hierarchies.
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = Vec::new();
        for hierarchy in &self.all.hierarchies {
            let text =
                fs::read_to_string(self.dir_in(hierarchy).join("cgroup.procs")).unwrap_or_default();
            pids.extend(text.lines().filter_map(|l| l.parse::<u32>().ok()));
        }
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// The groups below this one, the deepest first, this one last. In any hierarchy.
    pub fn tree(&self) -> Vec<Cgroup> {
        let mut paths: Vec<String> = vec![self.path.clone()];
        let mut next = 0;
        while next < paths.len() {
            let path = paths[next].clone();
            next += 1;
            for hierarchy in &self.all.hierarchies {
                let Ok(entries) = fs::read_dir(hierarchy.mount.join(&path)) else {
                    continue;
                };
                for entry in entries
                    .flatten()
                    .filter(|e| e.file_type().is_ok_and(|t| t.is_dir()))
                {
                    let child = format!("{path}/{}", entry.file_name().to_string_lossy());
                    if !paths.contains(&child) {
                        paths.push(child);
                    }
                }
            }
        }
        paths.reverse();
        paths
            .into_iter()
            .map(|path| Cgroup {
                all: self.all.clone(),
                path,
            })
            .collect()
    }
}

/// Enables every controller for the children of `dir`. One that is refused (busy, absent) stays
/// off; setting a limit for it then says so.
fn hand_down(dir: &Path, controllers: &[String]) {
    let file = dir.join("cgroup.subtree_control");
    let on = fs::read_to_string(&file).unwrap_or_default();
    for controller in controllers
        .iter()
        .filter(|c| !on.split_whitespace().any(|o| o == c.as_str()))
    {
        let _ = fs::write(&file, format!("+{controller}"));
    }
}

/// A new version 1 cpuset has no CPUs and accepts no process until it gets its parent's.
fn inherit_cpuset(parent: &Path, dir: &Path) -> Result<(), CgroupError> {
    for file in ["cpuset.cpus", "cpuset.mems"] {
        let own = read(&dir.join(file))?;
        if own.trim().is_empty() {
            write(&dir.join(file), read(&parent.join(file))?.trim())?;
        }
    }
    Ok(())
}

pub(crate) fn read(path: &Path) -> Result<String, CgroupError> {
    fs::read_to_string(path).map_err(io_error("read", path))
}

/// One `write` call, as the files of cgroups want it, and never a new file.
pub(crate) fn write(path: &Path, text: &str) -> Result<(), CgroupError> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new()
        .write(true)
        .open(path)
        .map_err(io_error("write", path))?;
    file.write_all(text.as_bytes())
        .map_err(io_error("write", path))
}

/// True for errors that mean "this process or folder is gone already".
pub(crate) fn is_gone(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error().map(Errno::from_raw),
        Some(Errno::ENOENT | Errno::ENODEV | Errno::ESRCH)
    )
}
