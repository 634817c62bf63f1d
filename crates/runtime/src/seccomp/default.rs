//! The `RuntimeDefault` profile: what containerd and Docker allow by default.
//!
//! Invariant: an allow-list over the table of known system calls: one that a later kernel adds is
//! refused with EPERM until it is listed in the table and judged here.

use seccompiler::{SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition};

use super::{Profile, Rule, SeccompError, table};
use crate::caps::{self, CapSet};

/// Known calls that are not allowed as such: refused always, or granted below.
const WITHHELD: &[&str] = &[
    // gone from kernels, or of no use
    "_sysctl",
    "afs_syscall",
    "create_module",
    "get_kernel_syms",
    "getpmsg",
    "nfsservctl",
    "putpmsg",
    "query_module",
    "security",
    "sysfs",
    "tuxcall",
    "uselib",
    "ustat",
    "vserver",
    // never: kernel keyrings are not namespaced, io_uring and userfaultfd are attack surface, the rest is the host's
    "add_key",
    "file_getattr",
    "file_setattr",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "migrate_pages",
    "move_pages",
    "open_tree_attr",
    "pivot_root",
    "request_key",
    "swapoff",
    "swapon",
    "userfaultfd",
    // by arguments
    "clone",
    "clone3",
    "personality",
    "socket",
    // by capability
    "acct",
    "bpf",
    "chroot",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "get_mempolicy",
    "init_module",
    "ioperm",
    "iopl",
    "kcmp",
    "lookup_dcookie",
    "lsm_get_self_attr",
    "lsm_list_modules",
    "lsm_set_self_attr",
    "mbind",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pidfd_getfd",
    "process_madvise",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "syslog",
    "umount2",
    "unshare",
    "vhangup",
];

/// What a capability in the bounding set grants.
const GRANTED: &[(u8, &[&str])] = &[
    (caps::DAC_READ_SEARCH, &["open_by_handle_at"]),
    (
        caps::SYS_ADMIN,
        &[
            "bpf",
            "clone",
            "clone3",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "lsm_get_self_attr",
            "lsm_list_modules",
            "lsm_set_self_attr",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
    (caps::SYS_BOOT, &["reboot"]),
    (caps::SYS_CHROOT, &["chroot"]),
    (
        caps::SYS_MODULE,
        &["delete_module", "init_module", "finit_module"],
    ),
    (caps::SYS_PACCT, &["acct"]),
    (
        caps::SYS_PTRACE,
        &["kcmp", "pidfd_getfd", "process_madvise"],
    ),
    (caps::SYS_RAWIO, &["iopl", "ioperm"]),
    (caps::SYS_TIME, &["settimeofday", "clock_settime"]),
    (caps::SYS_TTY_CONFIG, &["vhangup"]),
    (
        caps::SYS_NICE,
        &[
            "get_mempolicy",
            "mbind",
            "set_mempolicy",
            "set_mempolicy_home_node",
        ],
    ),
    (caps::SYSLOG, &["syslog"]),
    (caps::BPF, &["bpf"]),
    (caps::PERFMON, &["perf_event_open"]),
];

/// All flags of clone(2) that make a namespace.
const CLONE_NEW: u64 = 0x7E02_0000;
/// Address families that may not be used: AF_ALG (38) and AF_VSOCK (40), and those unknown (above 45).
const SOCKET_FAMILIES_REFUSED: [u64; 2] = [38, 40];
const SOCKET_FAMILIES_END: u64 = 46;
/// PER_LINUX, PER_LINUX32, UNAME26, PER_LINUX32 | UNAME26, and "only ask".
const PERSONALITIES: [u64; 5] = [0, 8, 0x2_0000, 0x2_0008, 0xffff_ffff];

pub(super) fn profile(caps: CapSet) -> Result<Profile, SeccompError> {
    let granted = |name: &str| {
        GRANTED
            .iter()
            .any(|(cap, names)| caps.contains(*cap) && names.contains(&name))
    };
    let open = table::SYSCALLS
        .iter()
        .filter(|(name, _)| !WITHHELD.contains(name) || granted(name));
    let mut rules = vec![allow(
        open.map(|(_, number)| i64::from(*number)).collect(),
        vec![],
    )];
    let number = |name| table::number(name).ok_or(SeccompError::Architecture);
    let is = |index, op, value| SeccompCondition::new(index, SeccompCmpArgLen::Qword, op, value);

    let refused: Result<Vec<_>, _> = SOCKET_FAMILIES_REFUSED
        .iter()
        .map(|f| is(0, SeccompCmpOp::Ne, *f))
        .collect();
    let mut families = refused?;
    families.push(is(0, SeccompCmpOp::Lt, SOCKET_FAMILIES_END)?);
    rules.push(allow(vec![number("socket")?], vec![families]));

    let personalities: Result<Vec<_>, _> = PERSONALITIES
        .iter()
        .map(|p| Ok::<_, SeccompError>(vec![is(0, SeccompCmpOp::Eq, *p)?]))
        .collect();
    rules.push(allow(vec![number("personality")?], personalities?));

    if !caps.contains(caps::SYS_ADMIN) {
        rules.push(allow(
            vec![number("clone")?],
            vec![vec![is(0, SeccompCmpOp::MaskedEq(CLONE_NEW), 0)?]],
        ));
        // Its flags are in memory, out of a filter's sight: ENOSYS makes libraries fall back to clone.
        let clone3 = vec![number("clone3")?];
        let action = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
        rules.push(Rule {
            numbers: clone3,
            action,
            alternatives: vec![],
        });
    }
    Ok(Profile {
        default: SeccompAction::Errno(libc::EPERM.cast_unsigned()),
        rules,
        flags: 0,
    })
}

fn allow(numbers: Vec<i64>, alternatives: Vec<Vec<SeccompCondition>>) -> Rule {
    Rule {
        numbers,
        action: SeccompAction::Allow,
        alternatives,
    }
}
