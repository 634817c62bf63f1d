//! From our container spec to the OCI configuration that libcontainer reads. Pure, but for the
//! numbers of host devices, which the caller looks up.
//!
//! The cgroup mounts are not in it either: libcontainer makes them writable, and slowly.
//!
//! Invariant: user, capabilities, seccomp, rlimits, working directory and environment are not in
//! it: they are the last steps of [`super::process`], for the first process and exec'ed ones alike.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::spec::{ContainerSpec, Propagation, SandboxSpec};

/// A device node to make in the container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) path: PathBuf,
    /// `c` or `b`.
    pub(crate) kind: char,
    pub(crate) major: u32,
    pub(crate) minor: u32,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

/// What is known only on the host.
#[derive(Debug, Clone, Default)]
pub(crate) struct Host {
    /// The pod's process namespace, when it is shared.
    pub(crate) pid_namespace: Option<PathBuf>,
    /// What is mounted at `/dev/shm`.
    pub(crate) shm: PathBuf,
    pub(crate) cgroup_path: String,
    pub(crate) devices: Vec<Node>,
}

const MASKED: &[&str] = &[
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
const READ_ONLY: &[&str] = &[
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The OCI configuration.
pub(crate) fn config(sandbox: &SandboxSpec, spec: &ContainerSpec, host: &Host) -> Value {
    let mut namespaces = vec![json!({"type": "mount"}), json!({"type": "cgroup"})];
    if let Some(path) = &host.pid_namespace {
        namespaces.push(json!({"type": "pid", "path": path}));
    } else if !sandbox.host_pid {
        namespaces.push(json!({"type": "pid"}));
    }
    let list = |own: &Option<Vec<String>>, default: &[&str]| -> Vec<String> {
        match own {
            Some(own) => own.clone(),
            None if spec.privileged => vec![],
            None => default.iter().map(|s| (*s).to_owned()).collect(),
        }
    };
    let devices: Vec<Value> = host.devices.iter().map(device).collect();
    let bidirectional = spec
        .mounts
        .iter()
        .any(|m| m.propagation == Propagation::Bidirectional);
    let mut gids = vec![spec.user.gid];
    gids.extend(
        spec.user
            .additional_gids
            .iter()
            .filter(|g| **g != spec.user.gid),
    );
    json!({
        "ociVersion": "1.2.0",
        "root": {"path": spec.rootfs, "readonly": spec.readonly_rootfs},
        "process": {
            "terminal": spec.tty,
            "user": {"uid": spec.user.uid, "gid": spec.user.gid, "additionalGids": gids},
            "args": spec.argv,
            "cwd": "/",
            "noNewPrivileges": false,
        },
        "mounts": mounts(sandbox, spec, host),
        "linux": {
            "namespaces": namespaces,
            "cgroupsPath": format!("/{}", host.cgroup_path),
            "rootfsPropagation": if bidirectional { "shared" } else { "slave" },
            "maskedPaths": list(&spec.masked_paths, MASKED),
            "readonlyPaths": list(&spec.readonly_paths, READ_ONLY),
            "devices": devices,
        },
    })
}

fn device(node: &Node) -> Value {
    json!({
        "path": node.path, "type": node.kind.to_string(), "major": node.major, "minor": node.minor,
        "fileMode": node.mode, "uid": node.uid, "gid": node.gid,
    })
}

fn mounts(sandbox: &SandboxSpec, spec: &ContainerSpec, host: &Host) -> Vec<Value> {
    let mount = |destination: &str, kind: &str, source: &str, options: &[&str]| json!({"destination": destination, "type": kind, "source": source, "options": options});
    let access = if spec.privileged { "rw" } else { "ro" };
    let quiet = ["nosuid", "noexec", "nodev"];
    let shm = host.shm.to_string_lossy();
    let mut all = vec![
        mount("/proc", "proc", "proc", &quiet),
        mount(
            "/dev",
            "tmpfs",
            "tmpfs",
            &["nosuid", "strictatime", "mode=755", "size=65536k"],
        ),
        mount(
            "/dev/pts",
            "devpts",
            "devpts",
            &[
                "nosuid",
                "noexec",
                "newinstance",
                "ptmxmode=0666",
                "mode=0620",
                "gid=5",
            ],
        ),
        mount("/dev/mqueue", "mqueue", "mqueue", &quiet),
        mount(
            "/dev/shm",
            "bind",
            &shm,
            &["rbind", "rw", "nosuid", "noexec", "nodev"],
        ),
        mount(
            "/sys",
            "sysfs",
            "sysfs",
            &["nosuid", "noexec", "nodev", access],
        ),
    ];
    if sandbox.host_ipc {
        all.retain(|m| m["destination"] != "/dev/mqueue");
        all.push(mount(
            "/dev/mqueue",
            "bind",
            "/dev/mqueue",
            &["rbind", "rw", "nosuid", "noexec", "nodev"],
        ));
        all.retain(|m| m["source"] != "/dev/mqueue" || Path::new("/dev/mqueue").is_dir());
    }
    let mut own: Vec<&crate::spec::Mount> = spec.mounts.iter().collect();
    all.retain(|m| {
        !own.iter().any(|o| {
            m["destination"]
                .as_str()
                .is_some_and(|d| o.destination == Path::new(d))
        })
    });
    // A mount must come after the one that it lies in.
    own.sort_by_key(|m| m.destination.components().count());
    for one in own {
        let mut options = vec!["rbind"];
        options.push(if one.read_only { "ro" } else { "rw" });
        if one.read_only && one.recursive_read_only {
            options.push("rro");
        }
        all.push(json!({"destination": one.destination, "type": "bind", "source": one.source, "options": options}));
    }
    all
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::spec::Mount;

    fn destinations(config: &Value) -> Vec<&str> {
        config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .map(|m| m["destination"].as_str().unwrap())
            .collect()
    }

    #[test]
    fn own_mounts_replace_defaults_and_nest() {
        let mount = |d: &str| Mount {
            source: "/s".into(),
            destination: d.into(),
            ..Mount::default()
        };
        let spec = ContainerSpec {
            mounts: vec![mount("/a/b/c"), mount("/dev/shm"), mount("/a")],
            ..Default::default()
        };
        let config = config(&SandboxSpec::default(), &spec, &Host::default());
        let want = [
            "/proc",
            "/dev",
            "/dev/pts",
            "/dev/mqueue",
            "/sys",
            "/a",
            "/dev/shm",
            "/a/b/c",
        ];
        assert_eq!(destinations(&config), want);
        let parsed: libcontainer::oci_spec::runtime::Spec = serde_json::from_value(config).unwrap();
        assert_eq!(
            parsed
                .linux()
                .as_ref()
                .unwrap()
                .namespaces()
                .as_ref()
                .unwrap()
                .len(),
            3
        );
    }

    #[test]
    fn privileged_hides_nothing() {
        let spec = ContainerSpec {
            privileged: true,
            ..Default::default()
        };
        let config = config(
            &SandboxSpec {
                host_pid: true,
                ..Default::default()
            },
            &spec,
            &Host::default(),
        );
        assert_eq!(config["linux"]["maskedPaths"], json!([]));
        assert_eq!(
            config["linux"]["namespaces"],
            json!([{"type": "mount"}, {"type": "cgroup"}])
        );
        let sys = config["mounts"]
            .as_array()
            .unwrap()
            .iter()
            .find(|m| m["destination"] == "/sys")
            .unwrap();
        assert_eq!(sys["options"][3], "rw");
    }
}
