//! Privileges, network settings, disk, memory, clock.

use std::fs;
use std::path::Path;

use super::{Finding, existing, fail, ok, warn};

/// Capabilities that Knarr cannot do without, with their numbers.
const NEEDED: &[(u32, &str)] = &[
    (0, "CHOWN"),
    (1, "DAC_OVERRIDE"),
    (5, "KILL"),
    (6, "SETGID"),
    (7, "SETUID"),
    (8, "SETPCAP"),
    (12, "NET_ADMIN"),
    (18, "SYS_CHROOT"),
    (21, "SYS_ADMIN"),
    (27, "MKNOD"),
];
const SYS_RESOURCE: u32 = 24;

pub(super) fn capabilities() -> Finding {
    const NAME: &str = "privileges";
    if !nix::unistd::geteuid().is_root() {
        return fail(NAME, "not root: run it with sudo");
    }
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix("CapEff:"));
    let held = line
        .and_then(|l| u64::from_str_radix(l.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> = NEEDED
        .iter()
        .filter(|(n, _)| held & (1 << n) == 0)
        .map(|(_, name)| *name)
        .collect();
    if !missing.is_empty() {
        return fail(
            NAME,
            format!(
                "root lacks CAP_{}: pods cannot be made",
                missing.join(", CAP_")
            ),
        );
    }
    if held & (1 << SYS_RESOURCE) == 0 {
        return warn(
            NAME,
            "root lacks CAP_SYS_RESOURCE: OOM scores cannot be lowered, nor limits raised; pods work",
        );
    }
    ok(NAME, "root with all the capabilities that are needed")
}

pub(super) fn ip_forward() -> Finding {
    const NAME: &str = "ip forwarding";
    match fs::read_to_string("/proc/sys/net/ipv4/ip_forward") {
        Ok(text) if text.trim() == "1" => ok(NAME, "on"),
        Ok(_) => warn(
            NAME,
            "off: Knarr turns it on when it starts, pods need it to reach the world",
        ),
        Err(_) => fail(NAME, "this kernel has no IPv4 networking that we can see"),
    }
}

pub(super) fn bridge_filter() -> Finding {
    const NAME: &str = "bridge filter";
    match fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables") {
        Ok(text) if text.trim() == "1" => ok(
            NAME,
            "br_netfilter is on; Services work with it and without",
        ),
        _ => ok(
            NAME,
            "br_netfilter is off; Services work with it and without",
        ),
    }
}

pub(super) fn disk(data_dir: &Path) -> Finding {
    const NAME: &str = "disk";
    const GIB: u64 = 1 << 30;
    let dir = existing(data_dir);
    let Ok(stat) = nix::sys::statvfs::statvfs(dir) else {
        return warn(NAME, format!("cannot look at {}", dir.display()));
    };
    #[allow(
        clippy::useless_conversion,
        reason = "the types of these fields differ between C libraries"
    )]
    let (free, total) = (
        u64::from(stat.blocks_available()).saturating_mul(u64::from(stat.fragment_size())),
        u64::from(stat.blocks()).saturating_mul(u64::from(stat.fragment_size())),
    );
    let text = format!(
        "{:.1} GiB free of {:.1} GiB for {}",
        gib(free),
        gib(total),
        data_dir.display()
    );
    if free < GIB {
        fail(NAME, format!("{text}: too little to pull images"))
    } else if free < 5 * GIB || free < total / 10 {
        warn(NAME, format!("{text}: images will soon be collected"))
    } else {
        ok(NAME, text)
    }
}

pub(super) fn memory() -> Finding {
    const NAME: &str = "memory";
    let text = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let of = |name: &str| -> Option<u64> {
        let line = text.lines().find_map(|l| l.strip_prefix(name))?;
        Some(
            line.trim_start_matches(':')
                .trim()
                .strip_suffix("kB")?
                .trim()
                .parse::<u64>()
                .ok()?
                * 1024,
        )
    };
    let (Some(total), Some(free)) = (of("MemTotal"), of("MemAvailable")) else {
        return warn(NAME, "/proc/meminfo cannot be read");
    };
    let text = format!("{:.1} GiB available of {:.1} GiB", gib(free), gib(total));
    if free < 256 << 20 {
        warn(NAME, format!("{text}: little room for pods"))
    } else {
        ok(NAME, text)
    }
}

#[allow(clippy::cast_precision_loss, reason = "shown with one digit")]
fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

pub(super) fn clock() -> Finding {
    const NAME: &str = "clock";
    // SAFETY: an all-zero timex is valid and, with no modes set, asks only.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: adjtimex fills the struct, which lives over the call.
    let answer = unsafe { libc::adjtimex(&raw mut state) };
    if answer < 0 {
        warn(
            NAME,
            "cannot ask the kernel whether the clock is synchronised",
        )
    } else if state.status & libc::STA_UNSYNC != 0 {
        warn(
            NAME,
            "not synchronised (no NTP): certificates and leases go wrong when it drifts",
        )
    } else {
        ok(NAME, "synchronised")
    }
}
