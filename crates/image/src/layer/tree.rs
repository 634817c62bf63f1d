//! Removing and measuring folders that strangers filled.
//!
//! Both walk without recursion and with a bounded number of open files, since a hostile layer can
//! nest folders as deep as it likes.

use std::collections::HashSet;
use std::ffi::CString;
use std::os::fd::OwnedFd;
use std::path::Path;

use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags, openat, statat, unlinkat};
use rustix::io::{Errno, Result};

use crate::SnapshotUsage;

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// Removes `path` and all below it, without following links; absence is success.
pub(crate) fn remove_tree(path: &Path) -> std::io::Result<()> {
    match unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let mut current = openat(CWD, path, FOLDER, Mode::empty())?;
    let mut names: Vec<CString> = Vec::new();
    loop {
        if let Some((child, name)) = empty_until_folder(&current)? {
            names.push(name);
            current = child;
            continue;
        }
        let Some(name) = names.pop() else { break };
        current = openat(&current, "..", FOLDER, Mode::empty())?;
        unlinkat(&current, name, AtFlags::REMOVEDIR)?;
    }
    unlinkat(CWD, path, AtFlags::REMOVEDIR)?;
    Ok(())
}

/// Unlinks what can be unlinked; stops at the first folder that is not empty.
fn empty_until_folder(folder: &OwnedFd) -> Result<Option<(OwnedFd, CString)>> {
    for entry in Dir::read_from(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match unlinkat(folder, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => continue,
            Err(Errno::ISDIR | Errno::PERM) => {}
            Err(error) => return Err(error),
        }
        match unlinkat(folder, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::NOTEMPTY | Errno::EXIST) => {
                return Ok(Some((
                    openat(folder, name, FOLDER, Mode::empty())?,
                    name.into(),
                )));
            }
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Counts what lies below `path`; a file with several links counts once.
pub(crate) fn tree_usage(path: &Path) -> std::io::Result<SnapshotUsage> {
    let mut usage = SnapshotUsage::default();
    let mut seen = HashSet::new();
    let mut folders = vec![path.to_path_buf()];
    while let Some(path) = folders.pop() {
        let folder = match openat(CWD, &path, FOLDER, Mode::empty()) {
            Ok(folder) => folder,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::NAMETOOLONG) => continue,
            Err(error) => return Err(error.into()),
        };
        for entry in Dir::read_from(&folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // A container may remove what was listed a moment ago.
            let Ok(stat) = statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) else {
                continue;
            };
            if stat.st_nlink > 1
                && entry.file_type() != FileType::Directory
                && !seen.insert(stat.st_ino)
            {
                continue;
            }
            usage.inodes += 1;
            usage.used_bytes += u64::try_from(stat.st_blocks).unwrap_or(0) * 512;
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                use std::os::unix::ffi::OsStrExt as _;
                folders.push(path.join(std::ffi::OsStr::from_bytes(name.to_bytes())));
            }
        }
    }
    Ok(usage)
}
