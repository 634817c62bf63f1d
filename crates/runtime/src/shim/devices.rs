//! Host devices in a container: the nodes to make, and the rules that let them be used.
//!
//! Invariant: a node without a rule can be seen and not opened.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::Path;

use sys::cgroup::{DeviceKind, DeviceRule};

use super::oci::Node;
use crate::error::Refusal;
use crate::spec::ContainerSpec;
use crate::wire::Refused;

/// The device nodes of a container, and what its cgroup lets through.
pub(crate) fn devices(spec: &ContainerSpec) -> Result<(Vec<Node>, Vec<DeviceRule>), Refused> {
    let mut rules = DeviceRule::defaults();
    let mut nodes = Vec::new();
    for device in &spec.devices {
        let found = node(&device.host_path, &device.container_path).map_err(|e| {
            Refused::new(
                Refusal::Invalid,
                format!("device {}: {e}", device.host_path.display()),
            )
        })?;
        let Some(found) = found else {
            let text = format!("device {} is not a device", device.host_path.display());
            return Err(Refused::new(Refusal::Invalid, text));
        };
        rules.push(DeviceRule {
            kind: if found.kind == 'b' {
                DeviceKind::Block
            } else {
                DeviceKind::Char
            },
            major: Some(found.major),
            minor: Some(found.minor),
            read: device.permissions.contains('r'),
            write: device.permissions.contains('w'),
            mknod: device.permissions.contains('m'),
        });
        nodes.push(found);
    }
    if spec.privileged {
        all_devices(Path::new("/dev"), &mut nodes, 0);
    }
    Ok((nodes, rules))
}

fn node(on_host: &Path, path: &Path) -> io::Result<Option<Node>> {
    let meta = fs::metadata(on_host)?;
    let kind = meta.file_type();
    let letter = match (kind.is_block_device(), kind.is_char_device()) {
        (true, _) => 'b',
        (_, true) => 'c',
        _ => return Ok(None),
    };
    Ok(Some(Node {
        path: path.into(),
        kind: letter,
        major: libc::major(meta.rdev()),
        minor: libc::minor(meta.rdev()),
        mode: meta.mode() & 0o7777,
        uid: meta.uid(),
        gid: meta.gid(),
    }))
}

/// Every device of the host, but those that a container has of its own.
fn all_devices(dir: &Path, nodes: &mut Vec<Node>, depth: u8) {
    const OWN: &[&str] = &[
        "pts", "shm", "fd", "mqueue", "console", "ptmx", "core", "stdin", "stdout", "stderr",
    ];
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let known = nodes.iter().any(|n| n.path == path)
            || (depth == 0 && OWN.iter().any(|own| name == *own));
        match entry.file_type() {
            Ok(kind) if kind.is_dir() && !known && depth < 4 => {
                all_devices(&path, nodes, depth + 1)
            }
            Ok(kind) if !known && !kind.is_symlink() => {
                nodes.extend(node(&path, &path).ok().flatten())
            }
            _ => {}
        }
    }
}
