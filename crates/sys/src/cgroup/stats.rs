//! What a cgroup uses: CPU time, memory, processes, and how often it ran out of memory.
//!
//! Invariant: a missing controller reads as `None`, never as zero.

use std::path::Path;

use super::{Cgroup, Version, read};

/// A reading of a cgroup, children included.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stats {
    /// CPU time used since the group was made, in nanoseconds.
    pub cpu_usage_ns: Option<u64>,
    /// Memory with page cache, in bytes.
    pub memory_usage_bytes: Option<u64>,
    /// Memory that cannot be reclaimed at once: usage less inactive file pages.
    pub memory_working_set_bytes: Option<u64>,
    /// Anonymous memory, in bytes.
    pub memory_rss_bytes: Option<u64>,
    /// Page faults since the group was made.
    pub memory_page_faults: Option<u64>,
    /// Page faults that needed a disk.
    pub memory_major_page_faults: Option<u64>,
    /// The memory limit in bytes; `None` when unlimited.
    pub memory_limit_bytes: Option<u64>,
    /// Processes and threads now.
    pub pids_current: Option<u64>,
}

/// Version 1 shows "no limit" as the largest page-aligned number.
const V1_UNLIMITED: u64 = 0x7FFF_FFFF_FFFF_0000;

impl Cgroup {
    /// Reads what the group uses now.
    pub fn stats(&self) -> Stats {
        let mut stats = Stats::default();
        let v2 = self.cgroups().version() == Version::V2;
        if v2 {
            if let Some(dir) = self.unified_dir() {
                stats.cpu_usage_ns =
                    field(&dir.join("cpu.stat"), "usage_usec").map(|us| us.saturating_mul(1000));
            }
        } else if let Ok(dir) = self.dir("cpuacct") {
            stats.cpu_usage_ns = number(&dir.join("cpuacct.usage"));
        }
        if let Ok(dir) = self.dir("memory") {
            let names = if v2 {
                [
                    "memory.current",
                    "memory.max",
                    "inactive_file",
                    "anon",
                    "pgfault",
                    "pgmajfault",
                ]
            } else {
                [
                    "memory.usage_in_bytes",
                    "memory.limit_in_bytes",
                    "total_inactive_file",
                    "total_rss",
                    "total_pgfault",
                    "total_pgmajfault",
                ]
            };
            let detail = read(&dir.join("memory.stat")).unwrap_or_default();
            stats.memory_usage_bytes = number(&dir.join(names[0]));
            stats.memory_limit_bytes =
                number(&dir.join(names[1])).filter(|limit| *limit < V1_UNLIMITED);
            let inactive = in_text(&detail, names[2]).unwrap_or(0);
            stats.memory_working_set_bytes = stats
                .memory_usage_bytes
                .map(|usage| usage.saturating_sub(inactive));
            stats.memory_rss_bytes = in_text(&detail, names[3]);
            stats.memory_page_faults = in_text(&detail, names[4]);
            stats.memory_major_page_faults = in_text(&detail, names[5]);
        }
        if let Ok(dir) = self.dir("pids") {
            stats.pids_current = number(&dir.join("pids.current"));
        }
        stats
    }

    /// How many processes of this group the kernel killed for want of memory.
    pub fn oom_kills(&self) -> u64 {
        let file = match self.cgroups().version() {
            Version::V2 => "memory.events",
            Version::V1 | Version::Hybrid => "memory.oom_control",
        };
        let kills = |group: &Cgroup| field(&group.dir("memory").ok()?.join(file), "oom_kill");
        if self.cgroups().version() == Version::V2 {
            return kills(self).unwrap_or(0); // the file counts the children too
        }
        self.tree().iter().filter_map(kills).sum()
    }
}

fn number(path: &Path) -> Option<u64> {
    read(path).ok()?.trim().parse().ok()
}

fn field(path: &Path, name: &str) -> Option<u64> {
    in_text(&read(path).ok()?, name)
}

fn in_text(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| {
        line.strip_prefix(name)?
            .strip_prefix(' ')?
            .trim()
            .parse()
            .ok()
    })
}
