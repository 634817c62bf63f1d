//! Files that change all at once, in the layout that programs in pods rely on.
//!
//! ```text
//! ..2026_01_02_03_04_05.123456789/key    the files
//! ..data -> ..2026_01_02_03_04_05.123456789
//! key -> ..data/key
//! ```
//!
//! Invariant: a reader that opens files below `..data` sees one version of all of
//! them; nothing is ever written outside the directory.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _, chown, symlink},
    path::{Component, Path, PathBuf},
};

use jiff::Timestamp;

const DATA: &str = "..data";
const DATA_TMP: &str = "..data_tmp";

/// One file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Projection {
    /// Its content.
    pub data: Vec<u8>,
    /// Its permission bits.
    pub mode: u32,
    /// Its owner, root if absent.
    pub uid: Option<u32>,
    /// Its group, root if absent.
    pub gid: Option<u32>,
}

/// The files of a volume by relative path.
pub(crate) type Payload = BTreeMap<String, Projection>;

/// Whether `path` is relative and stays inside.
pub(crate) fn is_safe(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with("..")
        && Path::new(path)
            .components()
            .all(|c| matches!(c, Component::Normal(_)))
}

/// Makes the directory hold exactly `payload`; tells whether anything changed.
///
/// # Errors
/// When the file system refuses, or a path is not safe.
pub(crate) fn write(dir: &Path, payload: &Payload) -> io::Result<bool> {
    if let Some(bad) = payload.keys().find(|p| !is_safe(p)) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("unsafe path {bad:?}"),
        ));
    }
    let current = fs::read_link(dir.join(DATA)).ok();
    if let Some(current) = &current {
        let base = dir.join(current);
        if same(&base, payload) {
            link(dir, payload)?;
            return Ok(false);
        }
    }
    let fresh = make(dir, payload)?;
    let tmp = dir.join(DATA_TMP);
    let _ = fs::remove_file(&tmp);
    symlink(&fresh, &tmp)?;
    fs::rename(&tmp, dir.join(DATA))?;
    link(dir, payload)?;
    unlink_stale(dir, payload, &fresh)?;
    Ok(true)
}

fn make(dir: &Path, payload: &Payload) -> io::Result<PathBuf> {
    let stamp = Timestamp::now()
        .strftime("..%Y_%m_%d_%H_%M_%S.%9f")
        .to_string();
    let root = dir.join(&stamp);
    fs::DirBuilder::new().mode(0o755).create(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    for (path, file) in payload {
        let target = root.join(path);
        if let Some(parent) = target.parent() {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(parent)?;
        }
        let mut options = fs::OpenOptions::new();
        let handle = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&target)?;
        io::Write::write_all(&mut &handle, &file.data)?;
        if file.uid.is_some() || file.gid.is_some() {
            chown(&target, file.uid, file.gid)?;
        }
        handle.set_permissions(fs::Permissions::from_mode(file.mode & 0o7777))?;
    }
    Ok(PathBuf::from(stamp))
}

fn same(base: &Path, payload: &Payload) -> bool {
    let mut found = 0;
    let mut stack = vec![base.to_path_buf()];
    while let Some(dir) = stack.pop() {
        let Ok(entries) = fs::read_dir(&dir) else {
            return false;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                return false;
            };
            if kind.is_dir() {
                stack.push(entry.path());
                continue;
            }
            let path = entry.path();
            let known = path
                .strip_prefix(base)
                .ok()
                .and_then(Path::to_str)
                .and_then(|relative| payload.get(relative));
            let Some(file) = known else { return false };
            let mode = entry.metadata().map(|m| m.permissions().mode() & 0o7777);
            if mode.ok() != Some(file.mode & 0o7777)
                || fs::read(&path).ok().as_deref() != Some(&file.data[..])
            {
                return false;
            }
            found += 1;
        }
    }
    found == payload.len()
}

fn tops(payload: &Payload) -> BTreeSet<&str> {
    payload.keys().filter_map(|p| p.split('/').next()).collect()
}

fn link(dir: &Path, payload: &Payload) -> io::Result<()> {
    for top in tops(payload) {
        match symlink(Path::new(DATA).join(top), dir.join(top)) {
            Ok(()) => {}
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn unlink_stale(dir: &Path, payload: &Payload, fresh: &Path) -> io::Result<()> {
    let keep = tops(payload);
    for entry in fs::read_dir(dir)?.flatten() {
        let name = entry.file_name();
        let Some(text) = name.to_str() else { continue };
        if text == DATA || Path::new(text) == fresh {
            continue;
        }
        if text.starts_with("..") {
            let _ = fs::remove_dir_all(entry.path());
        } else if !keep.contains(text) && entry.file_type().is_ok_and(|t| t.is_symlink()) {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "tests")]
    use super::*;

    fn payload(files: &[(&str, &str)]) -> Payload {
        files
            .iter()
            .map(|(path, data)| {
                let data = data.as_bytes().to_vec();
                (
                    (*path).to_owned(),
                    Projection {
                        data,
                        mode: 0o644,
                        uid: None,
                        gid: None,
                    },
                )
            })
            .collect()
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(dir)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .map(|n| {
                if n.starts_with("..2") {
                    "..stamp".into()
                } else {
                    n
                }
            })
            .collect();
        names.sort();
        names
    }

    #[test]
    fn versions_swap_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let d = dir.path();
        assert!(write(d, &payload(&[("a", "1"), ("sub/b", "2")])).unwrap());
        assert_eq!(names(d), ["..data", "..stamp", "a", "sub"]);
        assert_eq!(fs::read_link(d.join("a")).unwrap(), Path::new("..data/a"));
        assert_eq!(fs::read_to_string(d.join("sub/b")).unwrap(), "2");
        let first = fs::read_link(d.join(DATA)).unwrap();
        assert!(!write(d, &payload(&[("a", "1"), ("sub/b", "2")])).unwrap());
        assert_eq!(fs::read_link(d.join(DATA)).unwrap(), first);
        assert!(write(d, &payload(&[("a", "x"), ("c", "3")])).unwrap());
        assert_eq!(names(d), ["..data", "..stamp", "a", "c"]);
        assert_eq!(fs::read_to_string(d.join("a")).unwrap(), "x");
        assert!(write(d, &payload(&[])).unwrap());
        assert_eq!(names(d), ["..data", "..stamp"]);
    }

    #[test]
    fn unsafe_paths_are_refused() {
        for path in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "..data",
            "a/../b",
            "..x",
        ] {
            assert!(!is_safe(path), "{path}");
        }
        for path in ["a", "a/b", "a..b", ".hidden", "a/..b"] {
            assert!(is_safe(path), "{path}");
        }
    }
}
