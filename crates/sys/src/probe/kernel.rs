//! Features of the kernel, tried out where a file does not tell.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use nix::errno::Errno;
use nix::mount::MsFlags;

use super::{Finding, existing, fail, ok, warn};
use crate::cgroup::Cgroups;
use crate::mount;

pub(super) fn cgroups() -> Finding {
    const NAME: &str = "cgroups";
    let found = match Cgroups::detect() {
        Ok(found) => found,
        Err(error) => {
            return fail(
                NAME,
                format!("{error}: limits and clean-up of pods need them"),
            );
        }
    };
    let missing: Vec<&str> = ["cpu", "memory", "pids", "devices"]
        .into_iter()
        .filter(|c| !found.has(c))
        .collect();
    let version = found.version().as_str();
    if missing.is_empty() {
        ok(
            NAME,
            format!("{version}: {}", found.controllers().join(" ")),
        )
    } else {
        warn(
            NAME,
            format!(
                "{version}, without {}: pods that set such limits will not start",
                missing.join(" ")
            ),
        )
    }
}

pub(super) fn namespaces() -> Finding {
    const NAME: &str = "namespaces";
    let absent = |kinds: &[&'static str]| -> Vec<&'static str> {
        kinds
            .iter()
            .filter(|k| !Path::new("/proc/self/ns").join(k).exists())
            .copied()
            .collect()
    };
    let needed = absent(&["mnt", "pid", "net", "ipc", "uts", "cgroup"]);
    if !needed.is_empty() {
        return fail(
            NAME,
            format!(
                "this kernel has no {} namespaces: pods cannot be made",
                needed.join(", ")
            ),
        );
    }
    let users = fs::read_to_string("/proc/sys/user/max_user_namespaces").unwrap_or_default();
    let mut wanted = absent(&["user", "time"]);
    if users.trim() == "0" && !wanted.contains(&"user") {
        wanted.push("user");
    }
    if wanted.is_empty() {
        ok(NAME, "mnt pid net ipc uts cgroup user time")
    } else {
        warn(
            NAME,
            format!(
                "no {} namespaces: pods that ask for them (hostUsers: false) will not start",
                wanted.join(", ")
            ),
        )
    }
}

/// Mounts a real overlay next to where images will be kept, and takes it away again.
pub(super) fn overlay(data_dir: &Path) -> Finding {
    const NAME: &str = "overlayfs";
    let base = existing(data_dir);
    let scratch = base.join(format!(".knarr-probe-{}", std::process::id()));
    let made = ["", "lower", "upper", "work", "merged"]
        .iter()
        .try_for_each(|d| fs::create_dir(scratch.join(d)));
    if let Err(error) = made {
        let _ = fs::remove_dir_all(&scratch);
        return fail(NAME, format!("cannot write in {}: {error}", base.display()));
    }
    let part = |name: &str| scratch.join(name).display().to_string();
    let data = format!(
        "lowerdir={},upperdir={},workdir={}",
        part("lower"),
        part("upper"),
        part("work")
    );
    let merged = scratch.join("merged");
    let tried = mount::filesystem(
        "overlay",
        Path::new("overlay"),
        &merged,
        MsFlags::empty(),
        &data,
    );
    let finding = match tried {
        Ok(()) => ok(NAME, format!("works in {}", base.display())),
        Err(mount::MountError::Mount {
            errno: Errno::ENODEV,
            ..
        }) => fail(
            NAME,
            "this kernel has no overlayfs: images cannot be mounted (modprobe overlay)",
        ),
        Err(mount::MountError::Mount { errno, .. }) => fail(
            NAME,
            format!(
                "does not work in {} ({errno}): keep the data on ext4 or xfs",
                base.display()
            ),
        ),
        Err(error) => fail(NAME, error.to_string()),
    };
    let _ = mount::unmount_lazy(&merged);
    let _ = fs::remove_dir_all(&scratch);
    finding
}

pub(super) fn seccomp() -> Finding {
    const NAME: &str = "seccomp";
    let actions = fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.contains("errno") && actions.contains("allow") {
        ok(NAME, "system call filters work")
    } else {
        fail(
            NAME,
            "this kernel has no system call filters: pods with a seccomp profile will not start",
        )
    }
}

/// A dry run (`-c`) of a table that is never made.
pub(super) fn nftables() -> Finding {
    const NAME: &str = "nftables";
    let child = Command::new("nft")
        .args(["-c", "-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(_) => {
            return fail(
                NAME,
                "the nft program is not installed: Services will not work (package nftables)",
            );
        }
    };
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(b"add table inet knarr-probe\nadd chain inet knarr-probe c { type nat hook prerouting priority -100; }\n");
    }
    match child.wait_with_output() {
        Ok(output) if output.status.success() => ok(NAME, "the kernel takes tables and NAT chains"),
        Ok(output) => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().next().unwrap_or("no reason given");
            fail(
                NAME,
                format!("the kernel refuses NAT chains ({line}): Services will not work"),
            )
        }
        Err(error) => warn(NAME, format!("nft failed: {error}")),
    }
}

pub(super) fn bpf() -> Vec<Finding> {
    let btf = Path::new("/sys/kernel/btf/vmlinux").exists();
    let program = match load_trivial_program() {
        Ok(()) if btf => ok(
            "BPF",
            "programs load, and the kernel describes its types (BTF): detection works",
        ),
        Ok(()) => warn(
            "BPF",
            "programs load, but there is no BTF: detection does not work",
        ),
        Err(errno) => warn(
            "BPF",
            format!("programs cannot be loaded ({errno}): detection does not work"),
        ),
    };
    let lsm = fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let lockdown = fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let locked = lockdown.contains("[integrity]") || lockdown.contains("[confidentiality]");
    let enforce = if lsm.split(',').any(|l| l.trim() == "bpf") && !locked {
        ok(
            "BPF LSM",
            "on: rules can refuse an action before it happens",
        )
    } else if locked {
        warn(
            "BPF LSM",
            "the kernel is locked down: rules can report and kill, not refuse; no kprobes",
        )
    } else {
        warn(
            "BPF LSM",
            "off (boot with lsm=...,bpf): rules can report and kill, not refuse",
        )
    };
    vec![program, enforce]
}

/// Loads `return 0` as a socket filter and forgets it.
fn load_trivial_program() -> Result<(), Errno> {
    const BPF_PROG_LOAD: libc::c_int = 5;
    #[repr(C)]
    struct Load {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        rest: [u64; 2],
    }
    let program: [u64; 2] = [0x0000_0000_0000_00b7, 0x0000_0000_0000_0095]; // r0 = 0; exit
    let load = Load {
        prog_type: 1,
        insn_cnt: 2,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        rest: [0; 2],
    };
    // SAFETY: `load` and the program live over the call; the size is that of `load`.
    let fd = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            BPF_PROG_LOAD,
            &raw const load,
            size_of::<Load>(),
        )
    };
    let fd = Errno::result(fd)?;
    #[allow(clippy::cast_possible_truncation, reason = "a descriptor fits")]
    // SAFETY: the kernel has just given us this descriptor.
    drop(unsafe { <std::os::fd::OwnedFd as std::os::fd::FromRawFd>::from_raw_fd(fd as i32) });
    Ok(())
}
