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

/// Process ids of the shims below a process's cgroup or session: all whose command says so.
pub(crate) fn shims(exe: &std::path::Path) -> Vec<u32> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse::<u32>().ok())
        else {
            continue;
        };
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        let ours = words
            .next()
            .is_some_and(|word| word == exe.as_os_str().as_encoded_bytes());
        if ours && words.next() == Some(b"shim") {
            pids.push(pid);
        }
    }
    pids
}
