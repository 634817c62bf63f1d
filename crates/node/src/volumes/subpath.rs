//! A part of a volume as the source of a mount.
//!
//! Invariant: the kernel confines every lookup to the volume, and what was looked
//! up is pinned by a bind mount, so that a pod cannot swap it for a link.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Component, Path, PathBuf},
};

use nix::{
    errno::Errno,
    fcntl::{OFlag, OpenHow, ResolveFlag, openat2},
    sys::stat::{Mode, fchmod, fstat, mkdirat},
};
use sys::mount::{Bind, bind};

/// Why a subPath cannot be mounted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubPathError {
    /// The path is absolute or goes up.
    #[error("subPath {path:?} must be a relative path without \"..\"")]
    Invalid {
        /// As it was written.
        path: String,
    },
    /// The path could not be followed or made.
    #[error("failed to prepare subPath {path:?}")]
    Walk {
        /// As it was written.
        path: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The path could not be pinned.
    #[error("failed to bind subPath {path:?}")]
    Bind {
        /// As it was written.
        path: String,
        /// What the kernel said.
        #[source]
        source: sys::mount::MountError,
    },
}

/// Binds `path` inside `volume` at `target`, making missing directories with the
/// permissions of the volume itself.
/// An existing bind at `target` is replaced. Blocking.
///
/// # Errors
/// When the path escapes or the kernel refuses.
pub(crate) fn pin(volume: &Path, path: &str, target: &Path) -> Result<PathBuf, SubPathError> {
    let walk = |source| SubPathError::Walk {
        path: path.to_owned(),
        source,
    };
    let relative = Path::new(path);
    let inside = relative
        .components()
        .all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if !inside {
        return Err(SubPathError::Invalid {
            path: path.to_owned(),
        });
    }
    let root: OwnedFd = File::open(volume).map_err(walk)?.into();
    let found = open_or_make(&root, relative).map_err(walk)?;
    let found = File::from(found);
    let is_dir = found.metadata().map_err(walk)?.is_dir();
    let _ = sys::mount::unmount_lazy(target);
    if is_dir {
        fs::create_dir_all(target).map_err(walk)?;
    } else {
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(walk)?;
        }
        fs::OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(target)
            .map_err(walk)?;
    }
    let source = PathBuf::from(format!("/proc/self/fd/{}", found.as_raw_fd()));
    bind(
        &source,
        target,
        Bind {
            recursive: true,
            read_only: false,
        },
    )
    .map_err(|source| SubPathError::Bind {
        path: path.to_owned(),
        source,
    })?;
    Ok(target.to_path_buf())
}

fn beneath(flags: OFlag) -> OpenHow {
    OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS)
}

fn open_or_make(root: &OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    match openat2(root, path, beneath(OFlag::O_PATH)) {
        Ok(fd) => return Ok(fd),
        Err(Errno::ENOENT) => {}
        Err(errno) => return Err(errno.into()),
    }
    let mut at = openat2(root, ".", beneath(OFlag::O_PATH | OFlag::O_DIRECTORY))?;
    let mode = Mode::from_bits_truncate(fstat(root)?.st_mode & 0o7777);
    let mut so_far = PathBuf::new();
    for part in path.components() {
        let Component::Normal(part) = part else {
            continue;
        };
        so_far.push(part);
        // From the root each time: a link inside may lead elsewhere inside.
        let next = match openat2(root, &so_far, beneath(OFlag::O_PATH | OFlag::O_DIRECTORY)) {
            Err(Errno::ENOENT) => {
                let made = match mkdirat(&at, part, Mode::S_IRWXU) {
                    Ok(()) => true,
                    Err(Errno::EEXIST) => false,
                    Err(errno) => return Err(errno.into()),
                };
                let dir = openat2(root, &so_far, beneath(OFlag::O_RDONLY | OFlag::O_DIRECTORY))?;
                if made {
                    fchmod(&dir, mode)?;
                }
                dir
            }
            other => other?,
        };
        at = next;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn nothing_leads_out_of_a_volume() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("v");
        fs::create_dir_all(volume.join("in/deep")).unwrap();
        fs::write(dir.path().join("secret"), "s").unwrap();
        fs::write(volume.join("in/file"), "f").unwrap();
        std::os::unix::fs::symlink("/etc", volume.join("abs")).unwrap();
        std::os::unix::fs::symlink("../secret", volume.join("up")).unwrap();
        std::os::unix::fs::symlink("in/deep", volume.join("ok")).unwrap();
        let root: OwnedFd = File::open(&volume).unwrap().into();
        for path in ["abs", "abs/passwd", "up", "in/../../secret"] {
            assert!(open_or_make(&root, Path::new(path)).is_err(), "{path}");
        }
        for path in ["in/file", "ok", "ok/new/er", "fresh/a/b"] {
            assert!(open_or_make(&root, Path::new(path)).is_ok(), "{path}");
        }
        assert!(volume.join("in/deep/new/er").is_dir() && volume.join("fresh/a/b").is_dir());
        assert!(matches!(
            pin(&volume, "../x", dir.path()),
            Err(SubPathError::Invalid { .. })
        ));
    }
}
