//! Which devices a cgroup may use.
//!
//! Invariant: everything is denied but what a rule allows (an allow-list, in this order: deny all,
//! then allow), on version 1 by the devices controller, on version 2 by a small BPF program.

use super::{Cgroup, CgroupError, Version, device_filter, write};

/// Sort of device node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceKind {
    /// Block device.
    Block,
    /// Character device.
    Char,
}

/// One allowed device, or range of devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceRule {
    /// Block or character.
    pub kind: DeviceKind,
    /// Major number; `None` for all.
    pub major: Option<u32>,
    /// Minor number; `None` for all.
    pub minor: Option<u32>,
    /// May be opened for reading.
    pub read: bool,
    /// May be opened for writing.
    pub write: bool,
    /// Its node may be made.
    pub mknod: bool,
}

impl DeviceRule {
    /// Full access to one character device.
    pub const fn char(major: u32, minor: Option<u32>) -> DeviceRule {
        DeviceRule {
            kind: DeviceKind::Char,
            major: Some(major),
            minor,
            read: true,
            write: true,
            mknod: true,
        }
    }

    /// What every container may use: nodes of any device may be made (not opened), and null, zero,
    /// full, tty, random, urandom, console, ptmx and the pseudo-terminals opened.
    pub fn defaults() -> Vec<DeviceRule> {
        let any = |kind| DeviceRule {
            kind,
            major: None,
            minor: None,
            read: false,
            write: false,
            mknod: true,
        };
        let mut rules = vec![any(DeviceKind::Char), any(DeviceKind::Block)];
        rules.extend([3, 5, 7, 8, 9].map(|minor| DeviceRule::char(1, Some(minor))));
        rules.extend([0, 1, 2].map(|minor| DeviceRule::char(5, Some(minor))));
        rules.push(DeviceRule::char(136, None));
        rules
    }

    fn line(&self) -> String {
        let number = |n: Option<u32>| n.map_or_else(|| "*".to_owned(), |n| n.to_string());
        let kind = match self.kind {
            DeviceKind::Block => 'b',
            DeviceKind::Char => 'c',
        };
        let mut access = String::new();
        for (on, letter) in [(self.read, 'r'), (self.write, 'w'), (self.mknod, 'm')] {
            if on {
                access.push(letter);
            }
        }
        format!(
            "{kind} {}:{} {access}",
            number(self.major),
            number(self.minor)
        )
    }
}

pub(super) fn apply(group: &Cgroup, rules: &[DeviceRule]) -> Result<(), CgroupError> {
    match group.cgroups().version() {
        Version::V2 => {
            let dir = group
                .unified_dir()
                .ok_or(CgroupError::NoController("devices"))?;
            device_filter::attach(&dir, rules)
                .map_err(|source| CgroupError::DeviceFilter { path: dir, source })
        }
        Version::V1 | Version::Hybrid => {
            let dir = group.dir("devices")?;
            write(&dir.join("devices.deny"), "a")?;
            rules
                .iter()
                .try_for_each(|rule| write(&dir.join("devices.allow"), &rule.line()))
        }
    }
}
