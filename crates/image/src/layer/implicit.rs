//! Folders that a layer's archive did not list.
//!
//! Overlayfs shows the metadata of the uppermost folder of a name, so such a folder must look as
//! the one below it does, or an image's `/tmp` would lose its mode.

use std::fs;
use std::os::fd::OwnedFd;

use rustix::fs::{
    CWD, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, fchmod, fchown, fstat,
    futimens, openat, openat2,
};
use rustix::io::Errno;

use crate::store::{LayerRecord, Store, write_json};
use crate::{Digest, ImageError};

const FOLDER: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::CLOEXEC)
    .union(OFlags::NOFOLLOW);

/// Gives the unlisted folders of all `layers` (lowest first) the metadata from below. A layer is
/// settled once, with the first image that has it.
pub(crate) fn settle_implicit(store: &Store, layers: &[Digest]) -> Result<(), ImageError> {
    for (position, layer) in layers.iter().enumerate().skip(1) {
        let Some(record) = store
            .layer_record(*layer)
            .filter(|record| !record.implicit.is_empty())
        else {
            continue;
        };
        let root = open_root(store, *layer)?;
        let below: Vec<OwnedFd> = layers[..position]
            .iter()
            .rev()
            .map(|layer| open_root(store, *layer))
            .collect::<Result<_, _>>()?;
        for path in &record.implicit {
            if let Some(model) = below.iter().find_map(|layer| open_in(layer, path).ok()) {
                open_in(&root, path)
                    .and_then(|folder| copy_metadata(&model, &folder))
                    .map_err(|e| {
                        ImageError::io("set metadata in", &store.layer_path(*layer))(e.into())
                    })?;
            }
        }
        let path = store.layer_path(*layer).join("layer.json");
        let temp = store.temp_path();
        write_json(
            &temp,
            &LayerRecord {
                implicit: Vec::new(),
                ..record
            },
        )?;
        fs::rename(&temp, &path).map_err(ImageError::io("rename to", &path))?;
    }
    Ok(())
}

/// Copies owner, mode and times.
pub(crate) fn copy_metadata(from: &OwnedFd, to: &OwnedFd) -> Result<(), Errno> {
    let stat = fstat(from)?;
    fchown(
        to,
        Some(Uid::from_raw(stat.st_uid)),
        Some(Gid::from_raw(stat.st_gid)),
    )?;
    fchmod(to, Mode::from_raw_mode(stat.st_mode))?;
    let time = |secs, nanos: u64| Timespec {
        tv_sec: secs,
        tv_nsec: i64::try_from(nanos).unwrap_or(0),
    };
    futimens(
        to,
        &Timestamps {
            last_access: time(stat.st_atime, stat.st_atime_nsec),
            last_modification: time(stat.st_mtime, stat.st_mtime_nsec),
        },
    )
}

fn open_root(store: &Store, layer: Digest) -> Result<OwnedFd, ImageError> {
    let path = store.layer_path(layer).join("fs");
    openat(CWD, &path, FOLDER, Mode::empty()).map_err(|e| ImageError::io("open", &path)(e.into()))
}

fn open_in(root: &OwnedFd, path: &[u8]) -> Result<OwnedFd, Errno> {
    let path = if path.is_empty() {
        b".".as_slice()
    } else {
        path
    };
    openat2(root, path, FOLDER, Mode::empty(), ResolveFlags::IN_ROOT)
}
