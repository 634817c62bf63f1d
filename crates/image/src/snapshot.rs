//! Root file systems of containers: an overlay of an image's layers and a folder of their own.
//!
//! ```text
//! snapshots/<id>/snapshot.json   which layers it stands on
//! snapshots/<id>/upper, work     what the container writes
//! snapshots/<id>/merged          the mount
//! ```
//!
//! Overlays are mounted `volatile`: a container's root file system does not outlive a crash of
//! the machine, so nothing is gained by syncing it, and releasing one never waits for the disk.

mod mount;

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::mount::{UnmountFlags, unmount};
use serde::{Deserialize, Serialize};

use crate::layer::{copy_metadata, remove_tree, tree_usage};
use crate::store::{Store, list, write_json};
use crate::{Digest, Image, ImageError};

/// A container's root file system.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// The id it was prepared under.
    pub id: String,
    /// The read-only layers, uppermost first.
    pub lower: Vec<PathBuf>,
    /// Where changes go.
    pub upper: PathBuf,
    /// Overlayfs' scratch folder.
    pub work: PathBuf,
    /// The mounted root file system.
    pub merged: PathBuf,
}

/// What a container wrote into its root file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotUsage {
    /// Bytes on disk.
    pub used_bytes: u64,
    /// Files, folders and links.
    pub inodes: u64,
}

#[derive(Serialize, Deserialize)]
struct Record {
    image: Digest,
    layers: Vec<Digest>,
}

pub(crate) fn prepare(store: &Store, image: &Image, id: &str) -> Result<Snapshot, ImageError> {
    let folder = folder(store, id)?;
    let snapshot = Snapshot {
        id: id.into(),
        lower: lower(store, &image.layers),
        upper: folder.join("upper"),
        work: folder.join("work"),
        merged: folder.join("merged"),
    };
    if folder.exists() {
        if is_mounted(&snapshot.merged)
            && record(&folder).is_some_and(|record| record.image == image.id)
        {
            return Ok(snapshot);
        }
        release(store, id)?;
    }
    fs::create_dir(&folder).map_err(ImageError::io("create folder", &folder))?;
    // First of all, so that the layers are held from here on.
    write_json(
        &folder.join("snapshot.json"),
        &Record {
            image: image.id,
            layers: image.layers.clone(),
        },
    )?;
    if let Some(missing) = snapshot.lower.iter().find(|path| !path.exists()) {
        let _ = remove_tree(&folder);
        return Err(ImageError::io("open", missing)(
            std::io::ErrorKind::NotFound.into(),
        ));
    }
    let result = make(&snapshot);
    if result.is_err() {
        let _ = remove_tree(&folder);
    }
    result.map(|()| snapshot)
}

fn make(snapshot: &Snapshot) -> Result<(), ImageError> {
    for path in [&snapshot.upper, &snapshot.work, &snapshot.merged] {
        fs::create_dir(path).map_err(ImageError::io("create folder", path))?;
    }
    // The root folder of the mount looks as the upper one does.
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let open = |path: &Path| openat(CWD, path, flags, Mode::empty());
    let model = snapshot
        .lower
        .first()
        .map_or(snapshot.upper.as_path(), PathBuf::as_path);
    open(model)
        .and_then(|model| copy_metadata(&model, &open(&snapshot.upper)?))
        .map_err(|e| ImageError::io("set metadata of", &snapshot.upper)(e.into()))?;
    mount::overlay(
        &snapshot.lower,
        &snapshot.upper,
        &snapshot.work,
        &snapshot.merged,
    )
}

/// Uppermost first. Overlayfs refuses a folder that stands there twice, and the upper of two
/// equal layers hides the lower entirely.
fn lower(store: &Store, layers: &[Digest]) -> Vec<PathBuf> {
    let mut seen = BTreeSet::new();
    let mut paths: Vec<PathBuf> = layers
        .iter()
        .rev()
        .filter(|layer| seen.insert(**layer))
        .map(|layer| store.layer_path(*layer).join("fs"))
        .collect();
    if paths.is_empty() {
        paths.push(store.root().join("empty"));
    }
    paths
}

pub(crate) fn release(store: &Store, id: &str) -> Result<(), ImageError> {
    let folder = folder(store, id)?;
    let merged = folder.join("merged");
    loop {
        match unmount(&merged, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::INVAL | Errno::NOENT) => break,
            Err(error) => return Err(ImageError::io("unmount", &merged)(error.into())),
        }
    }
    let temp = store.temp_path();
    match fs::rename(&folder, &temp) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        result => result.map_err(ImageError::io("move away", &folder))?,
    }
    remove_tree(&temp).map_err(ImageError::io("remove", &temp))
}

pub(crate) fn retain(store: &Store, ids: &HashSet<String>) -> Result<Vec<String>, ImageError> {
    let mut released = Vec::new();
    for path in list(&store.root().join("snapshots")) {
        let Some(id) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        if !ids.contains(id) {
            release(store, id)?;
            released.push(id.to_string());
        }
    }
    Ok(released)
}

pub(crate) fn usage(store: &Store, id: &str) -> Result<SnapshotUsage, ImageError> {
    let upper = folder(store, id)?.join("upper");
    tree_usage(&upper).map_err(ImageError::io("measure", &upper))
}

/// The images and layers that snapshots stand on.
pub(crate) fn held(store: &Store) -> (HashSet<Digest>, HashSet<Digest>) {
    let (mut images, mut layers) = (HashSet::new(), HashSet::new());
    for folder in list(&store.root().join("snapshots")) {
        if let Some(record) = record(&folder) {
            images.insert(record.image);
            layers.extend(record.layers);
        }
    }
    (images, layers)
}

fn record(folder: &Path) -> Option<Record> {
    serde_json::from_slice(&fs::read(folder.join("snapshot.json")).ok()?).ok()
}

fn folder(store: &Store, id: &str) -> Result<PathBuf, ImageError> {
    let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 200 || id.starts_with('.') || !id.bytes().all(good) {
        return Err(ImageError::SnapshotId { id: id.into() });
    }
    Ok(store.root().join("snapshots").join(id))
}

fn is_mounted(path: &Path) -> bool {
    let device = |path: &Path| {
        fs::symlink_metadata(path)
            .map(|metadata| metadata.dev())
            .ok()
    };
    device(path).is_some() && device(path) != path.parent().and_then(device)
}
