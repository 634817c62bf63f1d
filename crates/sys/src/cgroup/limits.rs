//! Limits of a cgroup: CPU, memory, processes, devices.
//!
//! Invariant: what is asked for is applied or is an error; a controller that is missing is one.

use super::devices::{self, DeviceRule};
use super::{Cgroup, CgroupError, Version, write};

/// What a cgroup may use. `None` leaves the kernel's default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// Relative weight, 2 to 262144; 1024 is one CPU's request.
    pub cpu_shares: Option<u64>,
    /// CPU time a period, in microseconds; -1 means no limit.
    pub cpu_quota_us: Option<i64>,
    /// Length of a period in microseconds, 1000 to 1000000. The kernel's default is 100000.
    pub cpu_period_us: Option<u64>,
    /// CPUs allowed, such as `0-3,7`.
    pub cpuset_cpus: Option<String>,
    /// Memory with page cache, in bytes. Swap is not granted on top.
    pub memory_limit_bytes: Option<u64>,
    /// On version 2, kill the whole group when one process of it runs out of memory.
    pub oom_kill_group: bool,
    /// Number of processes and threads.
    pub pids_limit: Option<u64>,
    /// Which devices may be used; `None` allows all.
    pub devices: Option<Vec<DeviceRule>>,
}

/// The weight of cgroup v2 (1 to 10000) for v1's shares, as every runtime converts it.
pub fn shares_to_weight(shares: u64) -> u64 {
    let shares = shares.clamp(2, 262_144);
    1 + ((shares - 2) * 9999) / 262_142
}

impl Cgroup {
    /// Applies all limits that are set.
    pub fn apply(&self, limits: &Limits) -> Result<(), CgroupError> {
        self.apply_cpu(limits)?;
        self.apply_memory(limits)?;
        if let Some(max) = limits.pids_limit {
            write(&self.dir("pids")?.join("pids.max"), &max.to_string())?;
        }
        if let Some(cpus) = &limits.cpuset_cpus {
            write(&self.dir("cpuset")?.join("cpuset.cpus"), cpus)?;
        }
        if let Some(rules) = &limits.devices {
            devices::apply(self, rules)?;
        }
        Ok(())
    }

    fn apply_cpu(&self, limits: &Limits) -> Result<(), CgroupError> {
        let v2 = self.cgroups().version() == Version::V2;
        if let Some(shares) = limits.cpu_shares {
            let dir = self.dir("cpu")?;
            if v2 {
                write(
                    &dir.join("cpu.weight"),
                    &shares_to_weight(shares).to_string(),
                )?;
            } else {
                write(&dir.join("cpu.shares"), &shares.max(2).to_string())?;
            }
        }
        if limits.cpu_quota_us.is_none() && limits.cpu_period_us.is_none() {
            return Ok(());
        }
        let dir = self.dir("cpu")?;
        let quota = limits.cpu_quota_us.filter(|q| *q > 0);
        if v2 {
            let quota = quota.map_or_else(|| "max".to_owned(), |q| q.to_string());
            let period = limits.cpu_period_us.unwrap_or(100_000);
            return write(&dir.join("cpu.max"), &format!("{quota} {period}"));
        }
        if let Some(period) = limits.cpu_period_us {
            write(&dir.join("cpu.cfs_period_us"), &period.to_string())?;
        }
        write(
            &dir.join("cpu.cfs_quota_us"),
            &quota.unwrap_or(-1).to_string(),
        )
    }

    fn apply_memory(&self, limits: &Limits) -> Result<(), CgroupError> {
        let v2 = self.cgroups().version() == Version::V2;
        if let Some(bytes) = limits.memory_limit_bytes {
            let dir = self.dir("memory")?;
            let text = bytes.to_string();
            if v2 {
                write(&dir.join("memory.max"), &text)?;
                if dir.join("memory.swap.max").exists() {
                    write(&dir.join("memory.swap.max"), "0")?;
                }
            } else {
                write(&dir.join("memory.limit_in_bytes"), &text)?;
                let with_swap = dir.join("memory.memsw.limit_in_bytes");
                if with_swap.exists() {
                    write(&with_swap, &text)?;
                }
            }
        }
        if v2
            && limits.oom_kill_group
            && let Some(dir) = self.unified_dir()
            && dir.join("memory.oom.group").exists()
        {
            write(&dir.join("memory.oom.group"), "1")?;
        }
        Ok(())
    }
}
