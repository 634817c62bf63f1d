//! `fs.path` fields: the paths that a call works on, if it succeeded.

use rules::Values;
use rules::fields::FieldId as F;

use super::{SyscallEvent, maybe_text};
use crate::event::EventType as T;

const AT_FDCWD: i64 = -100;

/// What stands for a folder that is not known.
const UNKNOWN: &[u8] = b"<UNKNOWN>";

/// Which of the paths of a call.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Name,
    Source,
    Target,
}

/// Where a path is: in a parameter, relative to the folder in another, or in the descriptor's name.
enum Path {
    Param(&'static str, Option<&'static str>),
    OfFd,
}

/// The path of a call.
fn path_of(kind: T, which: Which) -> Option<Path> {
    use Path::{OfFd, Param};
    use Which::{Name, Source, Target};
    Some(match (kind, which) {
        (T::MKDIR_2_X | T::RMDIR_2_X | T::UNLINK_2_X | T::CHOWN_X | T::LCHOWN_X, Name) => {
            Param("path", None)
        }
        (T::MKDIRAT_X, Name) => Param("path", Some("dirfd")),
        (T::UNLINKAT_2_X | T::OPENAT_2_X | T::OPENAT2_X, Name) => Param("name", Some("dirfd")),
        (T::OPEN_X | T::UMOUNT_1_X | T::UMOUNT2_X, Name) => Param("name", None),
        (T::FCHMODAT_X, Name) => Param("filename", Some("dirfd")),
        (T::CHMOD_X, Name) => Param("filename", None),
        (T::FCHMOD_X | T::FCHOWN_X, Name) => OfFd,
        (T::FCHOWNAT_X, Name) => Param("pathname", Some("dirfd")),
        (T::QUOTACTL_X, Name) => Param("special", None),
        (T::RENAME_X, Source) => Param("oldpath", None),
        (T::RENAME_X, Target) => Param("newpath", None),
        (T::RENAMEAT_X | T::RENAMEAT2_X, Source) => Param("oldpath", Some("olddirfd")),
        (T::RENAMEAT_X | T::RENAMEAT2_X, Target) => Param("newpath", Some("newdirfd")),
        // The source of a link is what comes to be, as upstream has it.
        (T::LINK_2_X, Source) => Param("newpath", None),
        (T::LINK_2_X, Target) => Param("oldpath", None),
        (T::LINKAT_2_X, Source) => Param("newpath", Some("newdir")),
        (T::LINKAT_2_X, Target) => Param("oldpath", Some("olddir")),
        (T::SYMLINK_X, Source) => Param("linkpath", None),
        (T::SYMLINKAT_X, Source) => Param("linkpath", Some("linkdirfd")),
        (T::SYMLINK_X | T::SYMLINKAT_X, Target) => Param("target", None),
        (T::MOUNT_X, Source) => Param("dev", None),
        (T::MOUNT_X, Target) => Param("dir", None),
        _ => return None,
    })
}

/// Appends `path` from the folder `base`, with `.`, `..` and repeated slashes taken out.
pub(super) fn write_clean(base: &[u8], path: &[u8], store: &mut Vec<u8>) {
    let begin = store.len();
    let base = if path.first() == Some(&b'/') {
        b""
    } else {
        base
    };
    let mut floor = begin;
    let slash = |byte: &u8| *byte == b'/';
    for part in base.split(slash).chain(path.split(slash)) {
        match part {
            b"" | b"." => {}
            b".." => {
                let written = store.get(floor..).unwrap_or_default();
                let last = written.iter().rposition(slash).unwrap_or(0);
                store.truncate(floor + last);
            }
            UNKNOWN if store.len() == begin => {
                store.extend_from_slice(UNKNOWN);
                floor = store.len();
            }
            name => {
                store.push(b'/');
                store.extend_from_slice(name);
            }
        }
    }
    if store.len() == begin {
        store.push(b'/');
    }
}

impl SyscallEvent<'_> {
    /// Appends `path` as the thread means it: relative to a folder's descriptor or to its working
    /// directory. Where the folder is not known, that is said in its place.
    pub(super) fn write_resolved(&self, dirfd: i64, path: &[u8], store: &mut Vec<u8>) {
        let base = if dirfd == AT_FDCWD {
            self.process().map(|process| &*process.cwd)
        } else {
            self.table
                .fd(self.event.tid, dirfd)
                .and_then(|folder| folder.path())
        };
        let base = base.filter(|base| !base.is_empty()).unwrap_or(UNKNOWN);
        write_clean(base, path, store);
    }

    pub(super) fn fs_path_field<'a>(&'a self, field: F, out: &mut Values<'a>) -> bool {
        let (which, raw) = match field {
            F::FsPathName => (Which::Name, false),
            F::FsPathNameraw => (Which::Name, true),
            F::FsPathSource => (Which::Source, false),
            F::FsPathSourceraw => (Which::Source, true),
            F::FsPathTarget => (Which::Target, false),
            F::FsPathTargetraw => (Which::Target, true),
            _ => return false,
        };
        let Some(path) = path_of(self.event.kind, which) else {
            return true;
        };
        // As upstream: of opens, only what was not permitted has no path.
        let opens = matches!(self.event.kind, T::OPEN_X | T::OPENAT_2_X | T::OPENAT2_X);
        let succeeded = match self.result() {
            Some(result) => result == 0 || (opens && result != -1),
            None => false,
        };
        if !succeeded {
            return true;
        }
        match path {
            Path::OfFd => {
                if let Some(open) = self.open {
                    super::fd::push_name(open, out);
                }
            }
            Path::Param(name, dirfd) => {
                let Some(param) = self
                    .event
                    .named(name)
                    .filter(|param| !param.bytes.is_empty())
                else {
                    return true;
                };
                if raw {
                    maybe_text(Some(param.text()), out);
                } else if self.thread.is_some() {
                    let dirfd = match dirfd {
                        Some(name) => self.number(name).unwrap_or(AT_FDCWD),
                        None => AT_FDCWD,
                    };
                    out.write(|store| self.write_resolved(dirfd, param.text(), store));
                }
            }
        }
        true
    }
}
