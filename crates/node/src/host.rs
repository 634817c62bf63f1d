//! Facts about the host: capacity, kernel, distribution, pressure.
//!
//! Invariant: what cannot be read is empty or zero; nothing here fails.

use std::{fs, path::Path};

use k8s_openapi::api::core::v1::NodeSystemInfo;

use crate::shared::Capacity;

/// Version of Kubernetes whose behaviour this node has.
pub(crate) const KUBELET_VERSION: &str = "v1.36.2";

/// Below this share of free disk (in percent) the node is under pressure.
const DISK_PRESSURE_PERCENT: u64 = 10;
/// Below this much available memory the node is under pressure.
const MEMORY_PRESSURE_BYTES: i64 = 100 << 20;

/// What the host has; `dir` tells which disk counts.
pub(crate) fn capacity(dir: &Path) -> Capacity {
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    Capacity {
        cpu_milli: i64::try_from(cpus).unwrap_or(1) * 1000,
        memory_bytes: meminfo("MemTotal"),
        storage_bytes: disk(dir).0,
    }
}

fn meminfo(key: &str) -> i64 {
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    text.lines()
        .find_map(|line| {
            line.strip_prefix(key)?
                .strip_prefix(':')?
                .split_whitespace()
                .next()?
                .parse::<i64>()
                .ok()
        })
        .map_or(0, |kib| kib * 1024)
}

/// Total and available bytes of the disk that holds `dir`.
pub(crate) fn disk(dir: &Path) -> (i64, i64) {
    let Ok(stat) = nix::sys::statvfs::statvfs(dir) else {
        return (0, 0);
    };
    let bytes = |blocks| {
        i64::try_from(u64::saturating_mul(blocks, stat.fragment_size())).unwrap_or(i64::MAX)
    };
    (bytes(stat.blocks()), bytes(stat.blocks_available()))
}

/// Pressure on memory, disk and process ids.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pressure {
    /// Little memory is left.
    pub memory: bool,
    /// Little disk is left.
    pub disk: bool,
    /// Few process ids are left.
    pub pids: bool,
}

/// The present pressure.
pub(crate) fn pressure(dir: &Path) -> Pressure {
    let (total, free) = disk(dir);
    let free_percent = u64::try_from(free).unwrap_or(0).saturating_mul(100)
        / u64::try_from(total).unwrap_or(1).max(1);
    let number = |path| fs::read_to_string(path).ok()?.trim().parse::<u64>().ok();
    let max: Option<u64> = number("/proc/sys/kernel/pid_max");
    let load = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let running = load
        .split_whitespace()
        .nth(3)
        .and_then(|s| s.split_once('/')?.1.parse::<u64>().ok());
    Pressure {
        memory: meminfo("MemAvailable") < MEMORY_PRESSURE_BYTES,
        disk: total > 0 && free_percent < DISK_PRESSURE_PERCENT,
        pids: max
            .zip(running)
            .is_some_and(|(max, now)| now * 100 > max * 95),
    }
}

/// Architecture as Go spells it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// `nodeInfo` of the Node object.
pub(crate) fn system_info() -> NodeSystemInfo {
    let line = |path: &str| {
        fs::read_to_string(path)
            .map(|s| s.trim().to_owned())
            .unwrap_or_default()
    };
    let os_release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let os = os_release
        .lines()
        .find_map(|l| l.strip_prefix("PRETTY_NAME="))
        .map_or_else(|| "Linux".to_owned(), |v| v.trim_matches('"').to_owned());
    let machine_id = line("/etc/machine-id");
    let boot_id = line("/proc/sys/kernel/random/boot_id");
    let uuid = line("/sys/class/dmi/id/product_uuid");
    NodeSystemInfo {
        architecture: architecture().to_owned(),
        boot_id,
        container_runtime_version: format!("knarr://{}", env!("CARGO_PKG_VERSION")),
        kernel_version: line("/proc/sys/kernel/osrelease"),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        operating_system: "linux".to_owned(),
        os_image: os,
        system_uuid: if uuid.is_empty() {
            machine_id.clone()
        } else {
            uuid
        },
        machine_id,
        ..NodeSystemInfo::default()
    }
}

/// Memory that is available without swapping, in bytes.
pub(crate) fn available_memory() -> i64 {
    meminfo("MemAvailable")
}
