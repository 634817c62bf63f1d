//! `hostPath` volumes and their type checks.
//!
//! Invariant: without a type nothing is checked or made.

use std::{
    fs, io,
    os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use super::VolumeProblem;

/// Checks, or makes, the path as its type asks.
///
/// # Errors
/// When it is something else, or cannot be made.
pub(super) fn check(text: &str, kind: &str) -> Result<PathBuf, VolumeProblem> {
    let path = Path::new(text);
    let io_error = |source| VolumeProblem::Io {
        path: path.to_path_buf(),
        source,
    };
    let wrong = |expected| VolumeProblem::HostPathType {
        path: text.to_owned(),
        expected,
    };
    let meta = match fs::metadata(path) {
        Ok(meta) => Some(meta),
        Err(e) if e.kind() == io::ErrorKind::NotFound => None,
        Err(e) => return Err(io_error(e)),
    };
    let file_type = meta.as_ref().map(fs::Metadata::file_type);
    let is = |test: fn(&fs::FileType) -> bool| file_type.as_ref().is_some_and(test);
    match kind {
        "DirectoryOrCreate" if meta.is_none() => {
            fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(path)
                .map_err(io_error)?;
        }
        "FileOrCreate" if meta.is_none() => {
            let mut options = fs::OpenOptions::new();
            options
                .create(true)
                .append(true)
                .mode(0o644)
                .open(path)
                .map_err(io_error)?;
        }
        "Directory" | "DirectoryOrCreate" if !is(fs::FileType::is_dir) => {
            return Err(wrong("directory"));
        }
        "File" | "FileOrCreate" if !is(fs::FileType::is_file) => return Err(wrong("file")),
        "Socket" if !is(fs::FileType::is_socket) => return Err(wrong("socket file")),
        "CharDevice" if !is(fs::FileType::is_char_device) => return Err(wrong("character device")),
        "BlockDevice" if !is(fs::FileType::is_block_device) => return Err(wrong("block device")),
        _ => {}
    }
    Ok(path.to_path_buf())
}
