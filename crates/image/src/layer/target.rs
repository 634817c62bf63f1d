//! The folder that a layer is unpacked into.
//!
//! Every parent folder is opened with `openat2(RESOLVE_IN_ROOT)`: the kernel keeps symbolic links
//! and `..` inside. The last component of a name is never followed.

use std::collections::BTreeSet;
use std::ffi::{CString, OsStr};
use std::io::{self, Read, Write as _};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, Uid,
    XattrFlags, chmodat, chownat, fchmod, fchown, fsetxattr, futimens, linkat, lsetxattr, makedev,
    mkdirat, mknodat, openat, openat2, readlinkat, statat, symlinkat, unlinkat, utimensat,
};
use rustix::io::Errno;

use super::{LayerError, OPAQUE, remove_tree};
use crate::tarball::{Entry, Kind};

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const WHITEOUT_META: &[u8] = b".wh..wh.";
const WHITEOUT_OPAQUE: &[u8] = b".wh..wh..opq";
/// Bound for the folder names that are remembered until the end.
const MAX_REMEMBERED_BYTES: usize = 64 << 20;
const MAX_LINK_DEPTH: u32 = 40;

/// An open layer folder.
pub(crate) struct Target {
    root: OwnedFd,
    /// The parent of the last entry, since archives list folder by folder.
    parent: Option<(Vec<u8>, OwnedFd)>,
    /// Folders whose times are set at the end, as entries within change them.
    times: Vec<(Vec<u8>, Timestamps)>,
    implicit: BTreeSet<Vec<u8>>,
    remembered_bytes: usize,
    buffer: Vec<u8>,
}

impl Target {
    pub(crate) fn open(folder: &Path) -> Result<Target, LayerError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = openat(rustix::fs::CWD, folder, flags, Mode::empty())
            .map_err(io_error("open", folder.as_os_str().as_bytes()))?;
        Ok(Target {
            root,
            parent: None,
            times: Vec::new(),
            implicit: BTreeSet::from([Vec::new()]),
            remembered_bytes: 0,
            buffer: vec![0; 128 << 10],
        })
    }

    /// Creates `entry`, taking a file's bytes from `data`. Returns how many there were.
    pub(crate) fn put(&mut self, entry: &Entry, data: &mut dyn Read) -> Result<u64, LayerError> {
        let path = clean(&entry.path)?;
        if path
            .split(|b| *b == b'/')
            .any(|part| part.starts_with(WHITEOUT_META) && part != WHITEOUT_OPAQUE)
        {
            return Ok(0); // aufs' own bookkeeping
        }
        if path.is_empty() {
            if entry.kind == Kind::Directory {
                self.implicit.remove(&path);
                set_metadata(self.root.as_fd(), entry, &path)?;
                self.remember(path, entry)?;
            }
            return Ok(0);
        }
        let (parent_path, name) = split(&path);
        let parent_path = parent_path.to_vec();
        let parent = self.parent_of(&parent_path)?;
        if name == WHITEOUT_OPAQUE {
            return set_opaque(parent.as_fd(), &path).map(|()| 0);
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT_PREFIX) {
            return whiteout(parent.as_fd(), hidden, &path).map(|()| 0);
        }
        let replaced = self.make_room(&parent, name, entry, &path)?;
        let name = c_name(name, &entry.path)?;
        let fail = |operation| io_error(operation, &entry.path);
        let mut bytes = 0;
        match entry.kind {
            Kind::Directory => {
                if !matches!(replaced, Room::Folder) {
                    mkdirat(&parent, &name, Mode::from_raw_mode(0o755))
                        .map_err(fail("create folder"))?;
                }
                let folder = open_folder(parent.as_fd(), &name).map_err(fail("open folder"))?;
                if matches!(replaced, Room::Whiteout) {
                    set_opaque(folder.as_fd(), &path)?;
                }
                set_metadata(folder.as_fd(), entry, &path)?;
                self.implicit.remove(&path);
                self.remember(path, entry)?;
            }
            Kind::File => bytes = self.write_file(&parent, &name, entry, data)?,
            Kind::HardLink => self.hard_link(&parent, &name, entry)?,
            Kind::Symlink => {
                symlinkat(entry.link.as_slice(), &parent, &name)
                    .map_err(fail("create symbolic link"))?;
                set_metadata_at(parent.as_fd(), &name, entry)?;
            }
            Kind::Char { major, minor } => {
                make_node(
                    parent.as_fd(),
                    &name,
                    entry,
                    FileType::CharacterDevice,
                    makedev(major, minor),
                )?;
            }
            Kind::Block { major, minor } => {
                make_node(
                    parent.as_fd(),
                    &name,
                    entry,
                    FileType::BlockDevice,
                    makedev(major, minor),
                )?;
            }
            Kind::Fifo => make_node(parent.as_fd(), &name, entry, FileType::Fifo, 0)?,
        }
        self.parent = Some((parent_path, parent));
        Ok(bytes)
    }

    /// Sets the times of folders, and tells which were never listed.
    pub(crate) fn finish(mut self) -> Result<Vec<Vec<u8>>, LayerError> {
        for (path, times) in std::mem::take(&mut self.times) {
            // Something else may have taken the name since, and then nothing is to be done.
            if let Ok(folder) = self.resolve(&path, OFlags::RDONLY | OFlags::NOFOLLOW) {
                futimens(folder, &times).map_err(io_error("set times of", &path))?;
            }
        }
        Ok(self.implicit.into_iter().collect())
    }

    fn remember(&mut self, path: Vec<u8>, entry: &Entry) -> Result<(), LayerError> {
        self.account(path.len())?;
        self.times.push((path, times(entry)));
        Ok(())
    }

    fn account(&mut self, length: usize) -> Result<(), LayerError> {
        self.remembered_bytes += length + 64;
        if self.remembered_bytes > MAX_REMEMBERED_BYTES {
            return Err(LayerError::Limit {
                what: "bytes of folder names",
                limit: MAX_REMEMBERED_BYTES as u64,
            });
        }
        Ok(())
    }

    fn resolve(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() {
            b".".as_slice()
        } else {
            path
        };
        let flags = flags | OFlags::DIRECTORY | OFlags::CLOEXEC;
        loop {
            match openat2(
                &self.root,
                path,
                flags,
                Mode::empty(),
                ResolveFlags::IN_ROOT,
            ) {
                // The kernel gives up when something is renamed meanwhile.
                Err(Errno::AGAIN | Errno::INTR) => {}
                result => return result,
            }
        }
    }

    /// The parent folder at `path`; it is created where it does not exist.
    fn parent_of(&mut self, path: &[u8]) -> Result<OwnedFd, LayerError> {
        if let Some((cached, fd)) = self.parent.take()
            && cached == path
        {
            return Ok(fd);
        }
        match self.resolve(path, OFlags::RDONLY) {
            Ok(fd) => Ok(fd),
            Err(Errno::NOENT | Errno::NOTDIR) => self.create_parents(path, 0),
            Err(error) => Err(io_error("open folder", path)(error)),
        }
    }

    fn create_parents(&mut self, path: &[u8], depth: u32) -> Result<OwnedFd, LayerError> {
        if depth > MAX_LINK_DEPTH {
            return Err(io_error("open folder", path)(Errno::LOOP));
        }
        let mut folder = self
            .resolve(b"", OFlags::RDONLY)
            .map_err(io_error("open folder", b"/"))?;
        for end in (0..=path.len()).filter(|end| path.get(*end).is_none_or(|b| *b == b'/')) {
            let prefix = &path[..end];
            match self.resolve(prefix, OFlags::RDONLY) {
                Ok(next) => {
                    folder = next;
                    continue;
                }
                Err(Errno::NOENT | Errno::NOTDIR) => {}
                Err(error) => return Err(io_error("open folder", prefix)(error)),
            }
            let name = c_name(split(prefix).1, path)?;
            let existing = stat_name(folder.as_fd(), &name).map_err(io_error("look at", prefix))?;
            if existing
                .as_ref()
                .is_some_and(|stat| file_type(stat) == FileType::Symlink)
            {
                // A link to a folder that is not there yet.
                let link = readlinkat(&folder, &name, Vec::new())
                    .map_err(io_error("read link", prefix))?;
                let target = follow(prefix, link.as_bytes())?;
                folder = self.create_parents(&target, depth + 1)?;
                continue;
            }
            let hides = existing.as_ref().is_some_and(is_whiteout);
            if existing.is_some() {
                unlinkat(&folder, &name, AtFlags::empty()).map_err(io_error("replace", prefix))?;
            }
            mkdirat(&folder, &name, Mode::from_raw_mode(0o755))
                .map_err(io_error("create folder", prefix))?;
            folder = open_folder(folder.as_fd(), &name).map_err(io_error("open folder", prefix))?;
            fchmod(&folder, Mode::from_raw_mode(0o755)).map_err(io_error("set mode of", prefix))?;
            if hides {
                set_opaque(folder.as_fd(), prefix)?;
            } else {
                self.account(prefix.len())?;
                self.implicit.insert(prefix.to_vec());
            }
        }
        Ok(folder)
    }

    /// Removes what is in the way of `entry`; of two folders the first stays.
    fn make_room(
        &mut self,
        parent: &OwnedFd,
        name: &[u8],
        entry: &Entry,
        path: &[u8],
    ) -> Result<Room, LayerError> {
        let c_name = c_name(name, path)?;
        let Some(stat) = stat_name(parent.as_fd(), &c_name).map_err(io_error("look at", path))?
        else {
            return Ok(Room::Free);
        };
        let is_folder = file_type(&stat) == FileType::Directory;
        if is_folder && entry.kind == Kind::Directory {
            return Ok(Room::Folder);
        }
        if is_folder {
            let prefix = [path, b"/"].concat();
            self.implicit
                .retain(|folder| folder != path && !folder.starts_with(&prefix));
        }
        remove_tree(Path::new(OsStr::from_bytes(&proc_path(
            parent.as_fd(),
            name,
        ))))
        .map_err(|source| LayerError::Io {
            operation: "replace",
            path: lossy(path),
            source: Arc::new(source),
        })?;
        Ok(if is_whiteout(&stat) {
            Room::Whiteout
        } else {
            Room::Free
        })
    }

    fn write_file(
        &mut self,
        parent: &OwnedFd,
        name: &CString,
        entry: &Entry,
        data: &mut dyn Read,
    ) -> Result<u64, LayerError> {
        let flags =
            OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = openat(parent, name, flags, Mode::from_raw_mode(0o600))
            .map_err(io_error("create", &entry.path))?;
        let mut file = std::fs::File::from(file);
        let mut bytes = 0;
        loop {
            let count = match data.read(&mut self.buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(super::read_error(error)),
            };
            file.write_all(&self.buffer[..count])
                .map_err(|source| LayerError::Io {
                    operation: "write",
                    path: lossy(&entry.path),
                    source: Arc::new(source),
                })?;
            bytes += count as u64;
        }
        set_metadata(file.as_fd(), entry, &entry.path)?;
        futimens(&file, &times(entry)).map_err(io_error("set times of", &entry.path))?;
        Ok(bytes)
    }

    fn hard_link(&self, parent: &OwnedFd, name: &CString, entry: &Entry) -> Result<(), LayerError> {
        let target = clean(&entry.link)?;
        let missing = || LayerError::LinkTarget {
            path: lossy(&entry.path),
            target: lossy(&entry.link),
        };
        let (folder, target_name) = split(&target);
        let folder = self
            .resolve(folder, OFlags::RDONLY)
            .map_err(|_| missing())?;
        let target_name = c_name(target_name, &entry.link)?;
        match linkat(folder, &target_name, parent, name, AtFlags::empty()) {
            Ok(()) => Ok(()),
            Err(Errno::NOENT) => Err(missing()),
            Err(error) => Err(io_error("create hard link", &entry.path)(error)),
        }
    }
}

/// What was found where an entry is to go; anything but a folder is gone by now.
enum Room {
    Free,
    Folder,
    Whiteout,
}

/// Hides `hidden` of the layers below: as a device 0:0, or by an opaque folder when this layer
/// has its own of that name.
fn whiteout(parent: BorrowedFd<'_>, hidden: &[u8], path: &[u8]) -> Result<(), LayerError> {
    if matches!(hidden, b"" | b"." | b"..") {
        return Err(LayerError::Name { path: lossy(path) });
    }
    let name = c_name(hidden, path)?;
    match stat_name(parent, &name).map_err(io_error("look at", path))? {
        None => mknodat(parent, &name, FileType::CharacterDevice, Mode::empty(), 0)
            .map_err(io_error("create whiteout", path)),
        Some(stat) if file_type(&stat) == FileType::Directory => set_opaque(
            open_folder(parent, &name)
                .map_err(io_error("open folder", path))?
                .as_fd(),
            path,
        ),
        Some(_) => Ok(()),
    }
}

fn set_opaque(folder: BorrowedFd<'_>, path: &[u8]) -> Result<(), LayerError> {
    fsetxattr(folder, OPAQUE, b"y", XattrFlags::empty())
        .map_err(io_error("set overlay attribute of", path))
}

fn make_node(
    parent: BorrowedFd<'_>,
    name: &CString,
    entry: &Entry,
    kind: FileType,
    device: u64,
) -> Result<(), LayerError> {
    mknodat(parent, name, kind, Mode::from_raw_mode(0o600), device)
        .map_err(io_error("create device node", &entry.path))?;
    set_metadata_at(parent, name, entry)
}

/// Owner, mode and attributes, in the order in which none undoes another.
fn set_metadata(file: BorrowedFd<'_>, entry: &Entry, path: &[u8]) -> Result<(), LayerError> {
    fchown(
        file,
        Some(Uid::from_raw(entry.uid)),
        Some(Gid::from_raw(entry.gid)),
    )
    .map_err(io_error("set owner of", path))?;
    fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(io_error("set mode of", path))?;
    set_xattrs(entry, |name, value| {
        fsetxattr(file, name, value, XattrFlags::empty())
    })
}

/// The same for what cannot be opened: links and device nodes.
fn set_metadata_at(
    parent: BorrowedFd<'_>,
    name: &CString,
    entry: &Entry,
) -> Result<(), LayerError> {
    let fail = |operation| io_error(operation, &entry.path);
    let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
    chownat(
        parent,
        name,
        Some(uid),
        Some(gid),
        AtFlags::SYMLINK_NOFOLLOW,
    )
    .map_err(fail("set owner of"))?;
    if entry.kind != Kind::Symlink {
        // Not a link, and nobody else is here to make it one.
        chmodat(
            parent,
            name,
            Mode::from_raw_mode(entry.mode),
            AtFlags::empty(),
        )
        .map_err(fail("set mode of"))?;
    }
    if !entry.xattrs.is_empty() {
        let path = proc_path(parent, name.as_bytes());
        set_xattrs(entry, |name, value| {
            lsetxattr(path.as_slice(), name, value, XattrFlags::empty())
        })?;
    }
    utimensat(parent, name, &times(entry), AtFlags::SYMLINK_NOFOLLOW).map_err(fail("set times of"))
}

fn set_xattrs(
    entry: &Entry,
    set: impl Fn(&[u8], &[u8]) -> Result<(), Errno>,
) -> Result<(), LayerError> {
    for (name, value) in &entry.xattrs {
        // These are overlayfs' own: an image has no say in them.
        if name.starts_with(b"trusted.") || name.contains(&0) {
            continue;
        }
        match set(name, value) {
            Ok(()) => {}
            Err(Errno::OPNOTSUPP) => {
                tracing::debug!(name = %lossy(name), "the file system does not take an attribute");
            }
            Err(error) => return Err(io_error("set attribute of", &entry.path)(error)),
        }
    }
    Ok(())
}

fn times(entry: &Entry) -> Timestamps {
    let time = Timespec {
        tv_sec: entry.mtime_secs,
        tv_nsec: entry.mtime_nanos.into(),
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

fn open_folder(parent: BorrowedFd<'_>, name: &CString) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    openat(parent, name, flags, Mode::empty())
}

fn stat_name(parent: BorrowedFd<'_>, name: &CString) -> Result<Option<Stat>, Errno> {
    match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

fn file_type(stat: &Stat) -> FileType {
    FileType::from_raw_mode(stat.st_mode)
}

fn is_whiteout(stat: &Stat) -> bool {
    file_type(stat) == FileType::CharacterDevice && stat.st_rdev == 0
}

fn proc_path(parent: BorrowedFd<'_>, name: &[u8]) -> Vec<u8> {
    [
        format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(),
        name,
    ]
    .concat()
}

/// The name without `.`, `..` and doubled slashes; empty is the root. A name that climbs above
/// the root is refused.
fn clean(path: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts
                    .pop()
                    .ok_or_else(|| LayerError::Escape { path: lossy(path) })?;
            }
            part => parts.push(part),
        }
    }
    Ok(parts.join(&b'/'))
}

/// Where the link at `path` points, as a path from the root; climbing stops at the root, as it
/// would inside the container.
fn follow(path: &[u8], link: &[u8]) -> Result<Vec<u8>, LayerError> {
    let whole = if link.starts_with(b"/") {
        link.to_vec()
    } else {
        [split(path).0, b"/", link].concat()
    };
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in whole.split(|b| *b == b'/') {
        match part {
            b"" | b"." => {}
            b".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        return Err(LayerError::Name { path: lossy(path) });
    }
    Ok(parts.join(&b'/'))
}

fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|b| *b == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

fn c_name(name: &[u8], path: &[u8]) -> Result<CString, LayerError> {
    CString::new(name)
        .ok()
        .filter(|name| !name.is_empty() && name.as_bytes().len() <= 255)
        .ok_or_else(|| LayerError::Name { path: lossy(path) })
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(512)]).into_owned()
}

fn io_error(operation: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> LayerError {
    move |error| LayerError::Io {
        operation,
        path: lossy(path),
        source: Arc::new(error.into()),
    }
}
