//! Private files. Invariant: a reader sees the old content or the new one, whole, also after a crash.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use crate::PkiError;

/// No file that we read is larger, in bytes.
const READ_LIMIT_BYTES: u64 = 1 << 20;

/// Writes a file with mode 0600: beside it first, then synced and renamed into place.
///
/// # Errors
/// [`PkiError::Io`] with the path.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), PkiError> {
    replace(path, content).map_err(|source| PkiError::Io {
        action: "write",
        path: path.to_owned(),
        source,
    })
}

fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    let mut name = std::ffi::OsString::from(".");
    name.push(path.file_name().ok_or(io::ErrorKind::InvalidInput)?);
    name.push(format!(".{}", std::process::id()));
    let temporary = folder.join(name);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&temporary)?;
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&temporary, path)
    })();
    if written.is_err() {
        // The first error is the one to report.
        let _ = fs::remove_file(&temporary);
        return written;
    }
    File::open(folder)?.sync_all()
}

/// The text of a file; `None` when there is none.
pub(crate) fn read(path: &Path) -> Result<Option<String>, PkiError> {
    let failed = |source| PkiError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    match fs::metadata(path) {
        Ok(metadata) if metadata.len() > READ_LIMIT_BYTES => {
            return Err(PkiError::Invalid {
                path: path.to_owned(),
                fault: "is far too large",
            });
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed(error)),
    }
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Err(PkiError::Invalid {
            path: path.to_owned(),
            fault: "is not text",
        }),
        Err(error) => Err(failed(error)),
    }
}

/// Makes a folder that only its owner enters.
pub(crate) fn make_folder(path: &Path) -> Result<(), PkiError> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path);
    made.map_err(|source| PkiError::Io {
        action: "make the folder",
        path: path.to_owned(),
        source,
    })
}

/// Where the parts of a named pair live.
pub(crate) fn pair_paths(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
    (
        folder.join(format!("{name}.crt")),
        folder.join(format!("{name}.key")),
    )
}
