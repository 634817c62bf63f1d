//! Mounts in the host's namespace: bind, tmpfs, lazy unmount, and what is mounted below a path.
//!
//! Invariant: unmounting is idempotent; what is not mounted counts as unmounted.

use std::ffi::{CString, OsString};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Why a mount operation failed.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The kernel refused a mount.
    #[error("cannot mount {} at {}", from.display(), target.display())]
    Mount {
        /// What should have been mounted.
        from: PathBuf,
        /// Where.
        target: PathBuf,
        /// The kernel's reason.
        #[source]
        errno: Errno,
    },
    /// The kernel refused an unmount.
    #[error("cannot unmount {}", target.display())]
    Unmount {
        /// The mount point.
        target: PathBuf,
        /// The kernel's reason.
        #[source]
        errno: Errno,
    },
    /// `/proc/self/mountinfo` could not be read.
    #[error("cannot read the mount table")]
    Table(#[source] io::Error),
}

/// How a bind mount is made.
#[derive(Debug, Clone, Copy, Default)]
pub struct Bind {
    /// Take the mounts below the source along.
    pub recursive: bool,
    /// Mount it read-only.
    pub read_only: bool,
}

/// Binds `source` over the existing file or directory `target`.
pub fn bind(source: &Path, target: &Path, how: Bind) -> Result<(), MountError> {
    let fail = |errno| MountError::Mount {
        from: source.into(),
        target: target.into(),
        errno,
    };
    let mut flags = MsFlags::MS_BIND;
    if how.recursive {
        flags |= MsFlags::MS_REC;
    }
    mount(Some(source), target, None::<&str>, flags, None::<&str>).map_err(fail)?;
    if how.read_only {
        let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(None::<&str>, target, None::<&str>, flags, None::<&str>).map_err(|errno| {
            let _ = umount2(target, MntFlags::MNT_DETACH);
            fail(errno)
        })?;
    }
    Ok(())
}

/// Mounts a tmpfs at the existing directory `target`. No size means half of the memory.
pub fn tmpfs(target: &Path, size_bytes: Option<u64>, mode: u32) -> Result<(), MountError> {
    let mut data = format!("mode={mode:o}");
    if let Some(size) = size_bytes {
        data.push_str(&format!(",size={size}"));
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(
        Some("tmpfs"),
        target,
        Some("tmpfs"),
        flags,
        Some(data.as_str()),
    )
    .map_err(|errno| MountError::Mount {
        from: "tmpfs".into(),
        target: target.into(),
        errno,
    })
}

/// Mounts `source` of type `fs_type` at `target` with the filesystem's own options in `data`.
pub fn filesystem(
    fs_type: &str,
    source: &Path,
    target: &Path,
    flags: MsFlags,
    data: &str,
) -> Result<(), MountError> {
    mount(Some(source), target, Some(fs_type), flags, Some(data)).map_err(|errno| {
        MountError::Mount {
            from: source.into(),
            target: target.into(),
            errno,
        }
    })
}

/// Sets the propagation of the mount at `target`, and below it: one of
/// `MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`.
pub fn propagation(target: &Path, kind: MsFlags) -> Result<(), MountError> {
    mount(
        None::<&str>,
        target,
        None::<&str>,
        kind | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(|errno| MountError::Mount {
        from: "propagation".into(),
        target: target.into(),
        errno,
    })
}

/// Detaches the mount at `target` at once; the kernel frees it when the last user is gone.
/// Returns whether something was mounted there.
pub fn unmount_lazy(target: &Path) -> Result<bool, MountError> {
    match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
        Ok(()) => Ok(true),
        Err(Errno::EINVAL | Errno::ENOENT) => Ok(false),
        Err(errno) => Err(MountError::Unmount {
            target: target.into(),
            errno,
        }),
    }
}

/// One line of the mount table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mounted {
    /// Where it is mounted.
    pub path: PathBuf,
    /// Filesystem type, such as `overlay`.
    pub fs_type: String,
    /// What is mounted, as the kernel shows it.
    pub source: PathBuf,
    /// Options of the mount point, such as `rw,nosuid`.
    pub options: String,
    /// Options of the filesystem, such as `rw,memory`.
    pub fs_options: String,
}

/// The mount table of this process, in the order of mounting.
pub fn table() -> Result<Vec<Mounted>, MountError> {
    let text = std::fs::read("/proc/self/mountinfo").map_err(MountError::Table)?;
    Ok(text.split(|b| *b == b'\n').filter_map(parse_line).collect())
}

/// All that is mounted at `path` or below it, in the order of mounting.
pub fn below(path: &Path) -> Result<Vec<Mounted>, MountError> {
    let mut all = table()?;
    all.retain(|m| m.path.starts_with(path));
    Ok(all)
}

/// Detaches everything at `path` and below, the youngest first. Returns how many there were.
pub fn unmount_below(path: &Path) -> Result<usize, MountError> {
    let mut count = 0;
    for mounted in below(path)?.iter().rev() {
        count += usize::from(unmount_lazy(&mounted.path)?);
    }
    Ok(count)
}

fn parse_line(line: &[u8]) -> Option<Mounted> {
    let mut words = line.split(|b| *b == b' ');
    let path = unescape(words.nth(4)?);
    let options = String::from_utf8_lossy(words.next()?).into_owned();
    words.find(|w| *w == b"-")?;
    let fs_type = String::from_utf8_lossy(words.next()?).into_owned();
    let source = unescape(words.next()?);
    let fs_options = String::from_utf8_lossy(words.next().unwrap_or_default()).into_owned();
    Some(Mounted {
        path,
        fs_type,
        source,
        options,
        fs_options,
    })
}

/// The kernel writes blank, tab, newline and backslash as `\` and three octal digits.
fn unescape(word: &[u8]) -> PathBuf {
    let mut out = Vec::with_capacity(word.len());
    let mut at = 0;
    while at < word.len() {
        let code = (word[at] == b'\\')
            .then(|| word.get(at + 1..at + 4))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        if let Some(byte) = code {
            out.push(byte);
            at += 4;
        } else {
            out.push(word[at]);
            at += 1;
        }
    }
    PathBuf::from(OsString::from_vec(out))
}

/// A read-only clone of the mount that holds `path`, attached nowhere. A program that is executed
/// through it (`/proc/self/fd/N`) cannot be overwritten through `/proc/PID/exe`, not even by a
/// container that sees the process.
pub fn read_only_clone(path: &Path) -> io::Result<OwnedFd> {
    let c_path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: the path is a NUL-terminated string that lives over the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, c_path.as_ptr(), flags) };
    let fd = i32::try_from(Errno::result(fd)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor; nobody else owns it.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `attributes` is a live struct of the size that is passed, the path is a C string.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            fd.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    Errno::result(done)?;
    Ok(fd)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn reads_escaped_mount_lines() {
        let line = b"36 35 98:0 /a /mnt/with\\040blank rw,noatime master:1 - ext4 /dev/root\\134x rw,errors=continue";
        let mounted = parse_line(line).unwrap();
        assert_eq!(mounted.path, Path::new("/mnt/with blank"));
        assert_eq!(mounted.source, Path::new("/dev/root\\x"));
        assert_eq!(
            (mounted.fs_type.as_str(), mounted.options.as_str()),
            ("ext4", "rw,noatime")
        );
        assert_eq!(parse_line(b"36 35 nonsense"), None);
    }

    #[test]
    fn mounts_and_unmounts_for_real() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        tmpfs(&a, Some(1 << 20), 0o700).unwrap();
        std::fs::write(a.join("file"), "x").unwrap();
        bind(
            &a,
            &b,
            Bind {
                recursive: false,
                read_only: true,
            },
        )
        .unwrap();
        assert_eq!(std::fs::read_to_string(b.join("file")).unwrap(), "x");
        assert_eq!(
            std::fs::write(b.join("new"), "x")
                .unwrap_err()
                .raw_os_error(),
            Some(libc::EROFS)
        );
        assert_eq!(below(dir.path()).unwrap().len(), 2);
        assert_eq!(unmount_below(dir.path()).unwrap(), 2);
        assert!(!unmount_lazy(&a).unwrap(), "idempotent");
        assert!(below(dir.path()).unwrap().is_empty());
    }
}
