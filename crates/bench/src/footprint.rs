//! Memory and CPU of a process, from /proc.

use std::time::Duration;

use anyhow::{Context, Result};

/// MiB.
const MIB_IN_KIB: f64 = 1024.0;

/// Resident and proportional memory of a process, in MiB.
pub(crate) fn memory_mib(pid: u32) -> Result<(f64, f64)> {
    let rollup = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup"))?;
    let of = |name: &str| -> Result<f64> {
        let kib: f64 = rollup
            .lines()
            .find_map(|line| line.strip_prefix(name)?.split_whitespace().next())
            .context("smaps_rollup has the line")?
            .parse()?;
        Ok(kib / MIB_IN_KIB)
    };
    Ok((of("Rss:")?, of("Pss:")?))
}

/// CPU time that a process uses while we wait, in percent of one core.
pub(crate) async fn cpu_percent(pid: u32, during: Duration) -> Result<f64> {
    let before = cpu_ticks(pid)?;
    tokio::time::sleep(during).await;
    let ticks = cpu_ticks(pid)? - before;
    let per_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.unwrap_or(100);
    Ok(ticks as f64 / per_second as f64 / during.as_secs_f64() * 100.0)
}

fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(") ").context("a stat line")?;
    // Fields 14 and 15 of proc(5), counted from field 3 after the name.
    rest.split(' ')
        .skip(11)
        .take(2)
        .map(|field| Ok(field.parse::<u64>()?))
        .sum()
}

/// Process ids of the shims that were started by this binary. A shim runs from a detached copy
/// of it, so its command line says whose it is.
pub(crate) fn shims(exe: &std::path::Path) -> Vec<u32> {
    let of = |entry: std::fs::DirEntry| -> Option<u32> {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let name = std::fs::read_to_string(entry.path().join("comm")).ok()?;
        let line = std::fs::read(entry.path().join("cmdline")).ok()?;
        let first = line.split(|byte| *byte == 0).next()?;
        let ours = name.trim_end() == "knarr-shim"
            && (first == exe.as_os_str().as_encoded_bytes() || !first.starts_with(b"/"));
        ours.then_some(pid)
    };
    std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(of)
        .collect()
}
