//! Capabilities: names, the default set, and dropping to a set for good.
//!
//! Invariant: after [`Privileges::drop_all`] the process holds exactly the wanted sets; a
//! capability that this host does not have itself is never wanted.

use std::io;

use nix::errno::Errno;

use crate::seccomp::Filters;
use crate::spec::Capabilities;

pub(crate) const DAC_READ_SEARCH: u8 = 2;
pub(crate) const SYS_MODULE: u8 = 16;
pub(crate) const SYS_RAWIO: u8 = 17;
pub(crate) const SYS_CHROOT: u8 = 18;
pub(crate) const SYS_PTRACE: u8 = 19;
pub(crate) const SYS_PACCT: u8 = 20;
pub(crate) const SYS_ADMIN: u8 = 21;
pub(crate) const SYS_BOOT: u8 = 22;
pub(crate) const SYS_NICE: u8 = 23;
pub(crate) const SYS_TIME: u8 = 25;
pub(crate) const SYS_TTY_CONFIG: u8 = 26;
pub(crate) const SYSLOG: u8 = 34;
pub(crate) const PERFMON: u8 = 38;
pub(crate) const BPF: u8 = 39;

/// Names in the order of their numbers, without `CAP_`.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What every container gets: chown, dac_override, fowner, fsetid, kill, setgid, setuid, setpcap,
/// net_bind_service, net_raw, sys_chroot, mknod, audit_write, setfcap.
const DEFAULT: CapSet = CapSet(0xa804_25fb);

/// The number of a capability by its name, with or without `CAP_`, in any case.
pub(crate) fn by_name(name: &str) -> Option<u8> {
    let upper = name.to_ascii_uppercase();
    let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES
        .iter()
        .position(|n| *n == bare)
        .and_then(|at| u8::try_from(at).ok())
}

/// A set of capabilities.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct CapSet(pub(crate) u64);

impl CapSet {
    pub(crate) fn contains(self, cap: u8) -> bool {
        self.0 & (1 << cap) != 0
    }

    fn with(self, cap: u8) -> CapSet {
        CapSet(self.0 | 1 << cap)
    }
}

/// What a container's processes may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Privileges {
    /// Bounding, permitted and effective.
    pub(crate) granted: CapSet,
    /// Inheritable and ambient.
    pub(crate) ambient: CapSet,
    pub(crate) no_new_privileges: bool,
}

impl Privileges {
    /// Resolves names. `Err` is the name that is unknown.
    pub(crate) fn resolve(
        changes: &Capabilities,
        privileged: bool,
        no_new_privileges: bool,
        host: CapSet,
    ) -> Result<Privileges, String> {
        let set = |names: &[String]| -> Result<CapSet, String> {
            let mut set = CapSet::default();
            for name in names {
                if name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL") {
                    set = host;
                } else {
                    set = set.with(by_name(name).ok_or_else(|| name.clone())?);
                }
            }
            Ok(set)
        };
        let (add, drop) = (set(&changes.add)?, set(&changes.drop)?);
        let all = |names: &[String]| {
            names
                .iter()
                .any(|n| n.to_ascii_uppercase().ends_with("ALL"))
        };
        let base = match (privileged, all(&changes.add), all(&changes.drop)) {
            (true, _, _) => host.0,
            (_, true, _) => host.0 & !drop.0,
            (_, _, true) => add.0,
            _ => (DEFAULT.0 | add.0) & !drop.0,
        };
        let granted = CapSet(base & host.0);
        let ambient = CapSet(set(&changes.ambient)?.0 & granted.0);
        Ok(Privileges {
            granted,
            ambient,
            no_new_privileges,
        })
    }

    /// Drops to these privileges and loads the filters, in the order that each step still may be
    /// taken: the filter needs `CAP_SYS_ADMIN` unless there are no new privileges, and comes as
    /// late as possible. Only `execve` should follow.
    pub(crate) fn drop_all(&self, filters: &Filters) -> io::Result<()> {
        for cap in 0..64u8 {
            if !self.granted.contains(cap) {
                // SAFETY: prctl with integers only.
                match Errno::result(unsafe {
                    libc::prctl(libc::PR_CAPBSET_DROP, u64::from(cap), 0, 0, 0)
                }) {
                    Err(Errno::EINVAL) => break, // past the kernel's last one
                    other => drop(other?),
                }
            }
        }
        let late = !filters.is_empty() && !self.no_new_privileges;
        let keep = if late {
            self.granted.with(SYS_ADMIN)
        } else {
            self.granted
        };
        set(keep, self.ambient)?;
        // SAFETY: prctl with integers only.
        Errno::result(unsafe {
            libc::prctl(
                libc::PR_CAP_AMBIENT,
                libc::PR_CAP_AMBIENT_CLEAR_ALL,
                0,
                0,
                0,
            )
        })?;
        for cap in (0..64u8).filter(|cap| self.ambient.contains(*cap)) {
            let raise = libc::PR_CAP_AMBIENT_RAISE;
            // SAFETY: prctl with integers only.
            Errno::result(unsafe {
                libc::prctl(libc::PR_CAP_AMBIENT, raise, u64::from(cap), 0, 0)
            })?;
        }
        if self.no_new_privileges {
            nix::sys::prctl::set_no_new_privs()?;
        }
        filters.load()?;
        if late {
            set(self.granted, self.ambient)?;
        }
        Ok(())
    }
}

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Data {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

const VERSION_3: u32 = 0x2008_0522;

/// Sets permitted and effective to `granted`.
fn set(granted: CapSet, inheritable: CapSet) -> io::Result<()> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let half = |set: CapSet, at: u32| u32::try_from(set.0 >> (32 * at) & 0xffff_ffff).unwrap_or(0);
    let data = [0, 1].map(|at| Data {
        effective: half(granted, at),
        permitted: half(granted, at),
        inheritable: half(inheritable, at),
    });
    // SAFETY: header and data are of the layout that version 3 wants and live over the call.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, data.as_ptr()) })?;
    Ok(())
}

/// What this process may use at most: permitted.
pub(crate) fn permitted() -> io::Result<CapSet> {
    let header = Header {
        version: VERSION_3,
        pid: 0,
    };
    let mut data = [Data::default(); 2];
    // SAFETY: header and data are of the layout that version 3 wants and live over the call.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_capget, &raw const header, data.as_mut_ptr())
    })?;
    Ok(CapSet(
        u64::from(data[0].permitted) | u64::from(data[1].permitted) << 32,
    ))
}

/// Makes everything permitted effective again, after a change of user.
pub(crate) fn raise_effective() -> io::Result<()> {
    set(permitted()?, CapSet::default())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn resolves_what_a_pod_writes() {
        let host = CapSet(0x1ff_feff_ffff); // all but SYS_RESOURCE
        let of = |add: &[&str], drop: &[&str], privileged| {
            let names = |list: &[&str]| list.iter().map(|s| (*s).to_owned()).collect();
            let changes = Capabilities {
                add: names(add),
                drop: names(drop),
                ambient: vec![],
            };
            Privileges::resolve(&changes, privileged, false, host).map(|p| p.granted.0)
        };
        let net_admin = 1 << 12;
        assert_eq!(of(&[], &[], false), Ok(0xa804_25fb));
        assert_eq!(
            of(&["NET_ADMIN"], &["cap_net_raw"], false),
            Ok((0xa804_25fb | net_admin) & !(1 << 13))
        );
        assert_eq!(of(&["NET_ADMIN"], &["ALL"], false), Ok(net_admin));
        assert_eq!(of(&["ALL"], &["NET_ADMIN"], false), Ok(host.0 & !net_admin));
        assert_eq!(
            of(&["SYS_RESOURCE"], &["ALL"], false),
            Ok(0),
            "the host has none to give"
        );
        assert_eq!(of(&[], &["ALL"], true), Ok(host.0));
        assert_eq!(of(&["FLY"], &[], false), Err("FLY".to_owned()));
        assert_eq!(
            (by_name("CAP_SYS_ADMIN"), by_name("checkpoint_restore")),
            (Some(SYS_ADMIN), Some(40))
        );
    }
}
