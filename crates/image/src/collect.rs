//! Giving disk space back: what no image needs, and images that nobody has used for long.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::PathBuf;

use crate::images::Inner;
use crate::index::now_secs;
use crate::layer::remove_tree;
use crate::store::{digest_of_name, list};
use crate::{Digest, ImageError, snapshot};

/// What a collection removed.
#[derive(Debug, Clone, Default)]
pub struct Collected {
    /// The ids of the removed images.
    pub images: Vec<Digest>,
    /// Bytes that the disk has got back.
    pub freed_bytes: u64,
}

/// How full the disk under the store is.
#[derive(Debug, Clone, Copy, Default)]
pub struct DiskUsage {
    /// Size of the file system.
    pub capacity_bytes: u64,
    /// What unprivileged processes can still use.
    pub available_bytes: u64,
    /// What the images take together; shared layers count for each image.
    pub images_bytes: u64,
    /// Inodes in all.
    pub inodes: u64,
    /// Free inodes.
    pub inodes_free: u64,
}

impl DiskUsage {
    /// How full, rounded up as the kubelet does.
    fn used_percent(&self) -> u64 {
        100 - self.available_bytes.saturating_mul(100) / self.capacity_bytes.max(1)
    }

    /// What has to go until at most `low_percent` are used.
    fn excess_bytes(&self, low_percent: u8) -> u64 {
        let wanted = u128::from(self.capacity_bytes) * u128::from(100 - low_percent.min(100)) / 100;
        u64::try_from(wanted)
            .unwrap_or(u64::MAX)
            .saturating_sub(self.available_bytes)
    }
}

pub(crate) fn disk(inner: &Inner) -> Result<DiskUsage, ImageError> {
    let root = inner.store.root();
    let stat = rustix::fs::statvfs(root).map_err(|e| ImageError::io("look at", root)(e.into()))?;
    let images_bytes = inner
        .index()
        .records()
        .map(|record| record.size_bytes)
        .sum();
    Ok(DiskUsage {
        capacity_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
        available_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
        images_bytes,
        inodes: stat.f_files,
        inodes_free: stat.f_favail,
    })
}

pub(crate) fn run(
    inner: &Inner,
    in_use: &HashSet<Digest>,
    high_percent: u8,
    low_percent: u8,
) -> Result<Collected, ImageError> {
    let mut collected = Collected {
        images: Vec::new(),
        freed_bytes: sweep(inner)?,
    };
    let usage = disk(inner)?;
    if usage.used_percent() < u64::from(high_percent) {
        return Ok(collected);
    }
    let goal = collected.freed_bytes + usage.excess_bytes(low_percent);
    for id in candidates(inner, in_use) {
        if collected.freed_bytes >= goal {
            break;
        }
        inner.index().remove(id);
        inner.save()?;
        collected.freed_bytes += sweep(inner)?;
        collected.images.push(id);
    }
    Ok(collected)
}

/// What may go, the longest unused first.
fn candidates(inner: &Inner, in_use: &HashSet<Digest>) -> Vec<Digest> {
    let (held, _) = snapshot::held(&inner.store);
    let youngest = now_secs().saturating_sub(inner.config.min_image_age.as_secs());
    let index = inner.index();
    let mut unused: Vec<(u64, Digest)> = index
        .records()
        .filter(|record| {
            !record.pinned
                && record.last_used_secs <= youngest
                && index.builtin(record.id).is_none()
        })
        .filter(|record| !in_use.contains(&record.id) && !held.contains(&record.id))
        .map(|record| (record.last_used_secs, record.id))
        .collect();
    unused.sort_unstable();
    unused.into_iter().map(|(_, id)| id).collect()
}

/// Removes all blobs and layers that no image, snapshot or running pull needs. Returns the bytes.
pub(crate) fn sweep(inner: &Inner) -> Result<u64, ImageError> {
    // Out of sight first, which is quick; deleting may take its time.
    let garbage = inner.store.while_leased(|leases| set_aside(inner, leases));
    let mut freed = 0;
    for (path, bytes) in garbage {
        remove_tree(&path).map_err(ImageError::io("remove", &path))?;
        freed += bytes;
    }
    Ok(freed)
}

fn set_aside(inner: &Inner, leases: &HashMap<Digest, usize>) -> Vec<(PathBuf, u64)> {
    let store = &inner.store;
    let (_, mut needed) = snapshot::held(store);
    for record in inner.index().records() {
        needed.extend(&record.blobs);
        needed.extend(&record.layers);
        needed.insert(record.id);
    }
    let mut garbage = Vec::new();
    for (folder, is_layer) in [("blobs/sha256", false), ("layers", true)] {
        for path in list(&store.root().join(folder)) {
            let Some(digest) = digest_of_name(&path) else {
                continue;
            };
            if needed.contains(&digest) || leases.contains_key(&digest) {
                continue;
            }
            let bytes = match is_layer {
                true => store.layer_record(digest).map_or(0, |record| record.bytes),
                false => fs::metadata(&path).map_or(0, |metadata| metadata.len()),
            };
            let temp = store.temp_path();
            if fs::rename(&path, &temp).is_ok() {
                garbage.push((temp, bytes));
            }
        }
    }
    garbage
}
