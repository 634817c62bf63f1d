//! The folders on disk: blobs, partial downloads, layers.
//!
//! ```text
//! blobs/sha256/<hex>     content as it travels: manifests, configurations, compressed layers
//! ingest/<hex>           partial downloads by the digest they are to have, resumed by the next pull
//! layers/<hex>/fs        unpacked layers by diff id; layer.json beside it
//! tmp/                   all else that is unfinished; emptied when the store is opened
//! snapshots/<id>/        see `snapshot`
//! images.json            see `index`
//! ```
//!
//! Invariants: what has its final name is complete. Nothing is removed while somebody holds a
//! lease on it. Renames into place are not waited for on disk: `index` knows which boot wrote
//! what has not been synced yet.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedMutexGuard;

use crate::layer::remove_tree;
use crate::{Digest, ImageError};

/// Partial downloads that nobody has resumed for so long are dropped.
const STALE_PARTIAL: Duration = Duration::from_secs(24 * 3600);

/// An open store folder.
#[derive(Debug)]
pub(crate) struct Store {
    root: PathBuf,
    leases: Mutex<HashMap<Digest, usize>>,
    locks: Mutex<HashMap<Digest, Weak<tokio::sync::Mutex<()>>>>,
    sequence: AtomicU64,
    _lock: File,
}

/// What is kept beside an unpacked layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct LayerRecord {
    /// Bytes of its files.
    pub(crate) bytes: u64,
    pub(crate) entries: u64,
    /// Folders that its archive did not list, until their metadata was taken from below.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) implicit: Vec<Vec<u8>>,
}

/// Keeps content from being collected while somebody works with it.
#[derive(Debug)]
pub(crate) struct Lease {
    store: Arc<Store>,
    digests: Vec<Digest>,
}

impl Store {
    pub(crate) fn open(root: &Path) -> Result<Store, ImageError> {
        for folder in [
            "blobs/sha256",
            "ingest",
            "layers",
            "tmp",
            "snapshots",
            "empty",
        ] {
            let path = root.join(folder);
            fs::create_dir_all(&path).map_err(ImageError::io("create folder", &path))?;
        }
        let _only_slower = sys::folder::spread_children(&root.join("snapshots"));
        // Layers hold set-uid files of strangers: nobody else is to walk in.
        for folder in ["blobs", "ingest", "layers", "tmp"] {
            let path = root.join(folder);
            let mode = rustix::fs::Mode::from_raw_mode(0o700);
            rustix::fs::chmod(&path, mode)
                .map_err(|e| ImageError::io("set mode of", &path)(e.into()))?;
        }
        let lock_path = root.join("lock");
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(ImageError::io("open", &lock_path))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive)
            .map_err(|_| ImageError::Locked { path: root.into() })?;
        let store = Store {
            root: root.into(),
            leases: Mutex::default(),
            locks: Mutex::default(),
            sequence: AtomicU64::new(0),
            _lock: lock,
        };
        store.clean();
        Ok(store)
    }

    /// Removes what a crash has left. Failures only cost disk space, and are tried again.
    fn clean(&self) {
        for path in list(&self.root.join("tmp")) {
            if let Err(error) = remove_tree(&path) {
                tracing::warn!(path = %path.display(), %error, "cannot remove a leftover");
            }
        }
        for path in list(&self.root.join("ingest")) {
            let age = fs::metadata(&path)
                .and_then(|m| m.modified())
                .ok()
                .and_then(|modified| SystemTime::now().duration_since(modified).ok());
            if age.is_some_and(|age| age > STALE_PARTIAL) {
                let _ = fs::remove_file(&path);
            }
        }
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn blob_path(&self, digest: Digest) -> PathBuf {
        self.root.join("blobs/sha256").join(digest.hex())
    }

    pub(crate) fn ingest_path(&self, digest: Digest) -> PathBuf {
        self.root.join("ingest").join(digest.hex())
    }

    pub(crate) fn layer_path(&self, diff_id: Digest) -> PathBuf {
        self.root.join("layers").join(diff_id.hex())
    }

    /// A new name below `tmp/`.
    pub(crate) fn temp_path(&self) -> PathBuf {
        self.root
            .join("tmp")
            .join(self.sequence.fetch_add(1, Ordering::Relaxed).to_string())
    }

    pub(crate) fn has_blob(&self, digest: Digest) -> bool {
        self.blob_path(digest).exists()
    }

    pub(crate) fn has_layer(&self, diff_id: Digest) -> bool {
        self.layer_path(diff_id).exists()
    }

    /// A small blob's content; `None` when it is not there or not what it should be.
    pub(crate) fn read_blob(&self, digest: Digest) -> Option<Vec<u8>> {
        let bytes = fs::read(self.blob_path(digest)).ok()?;
        (Digest::of(&bytes) == digest).then_some(bytes)
    }

    pub(crate) fn write_blob(&self, bytes: &[u8]) -> Result<Digest, ImageError> {
        let digest = Digest::of(bytes);
        if self.read_blob(digest).is_none() {
            let temp = self.temp_path();
            fs::write(&temp, bytes).map_err(ImageError::io("write", &temp))?;
            self.place_blob(&temp, digest)?;
        }
        Ok(digest)
    }

    /// Gives verified content its name.
    pub(crate) fn place_blob(&self, temp: &Path, digest: Digest) -> Result<(), ImageError> {
        let path = self.blob_path(digest);
        fs::rename(temp, &path).map_err(ImageError::io("rename to", &path))
    }

    /// Gives an unpacked layer its name. When it is there already, that one stays.
    pub(crate) fn place_layer(
        &self,
        temp: &Path,
        diff_id: Digest,
        record: &LayerRecord,
    ) -> Result<(), ImageError> {
        write_json(&temp.join("layer.json"), record)?;
        let path = self.layer_path(diff_id);
        match fs::rename(temp, &path) {
            Err(_) if path.exists() => remove_tree(temp).map_err(ImageError::io("remove", temp)),
            result => result.map_err(ImageError::io("rename to", &path)),
        }
    }

    pub(crate) fn layer_record(&self, diff_id: Digest) -> Option<LayerRecord> {
        serde_json::from_slice(&fs::read(self.layer_path(diff_id).join("layer.json")).ok()?).ok()
    }

    pub(crate) fn lease(self: &Arc<Store>, digests: Vec<Digest>) -> Lease {
        let mut leases = lock(&self.leases);
        for digest in &digests {
            *leases.entry(*digest).or_default() += 1;
        }
        drop(leases);
        Lease {
            store: self.clone(),
            digests,
        }
    }

    /// Runs `work` while no lease is given or returned: who works with content and enters it
    /// somewhere before giving the lease back is seen in one of the two places.
    pub(crate) fn while_leased<T>(&self, work: impl FnOnce(&HashMap<Digest, usize>) -> T) -> T {
        work(&lock(&self.leases))
    }

    /// Whether the kernel was started anew since the store was last opened; remembers this boot.
    pub(crate) fn boot_changed(&self) -> bool {
        let path = self.root.join("boot");
        let boot = boot_id();
        if fs::read_to_string(&path).is_ok_and(|last| last == boot) {
            return false;
        }
        if let Err(error) = fs::write(&path, boot) {
            tracing::warn!(path = %path.display(), %error, "cannot remember the boot");
        }
        true
    }

    /// Waits until nobody else works on `digest`.
    pub(crate) async fn exclusive(&self, digest: Digest) -> OwnedMutexGuard<()> {
        let mutex = {
            let mut locks = lock(&self.locks);
            if locks.len() > 256 {
                locks.retain(|_, mutex| mutex.strong_count() > 0);
            }
            let entry = locks.entry(digest).or_default();
            match entry.upgrade() {
                Some(mutex) => mutex,
                None => {
                    let mutex = Arc::new(tokio::sync::Mutex::new(()));
                    *entry = Arc::downgrade(&mutex);
                    mutex
                }
            }
        };
        mutex.lock_owned().await
    }

    /// Writes everything to disk that was written to the store's file system.
    pub(crate) fn sync(&self) -> Result<(), ImageError> {
        let folder = File::open(&self.root).map_err(ImageError::io("open", &self.root))?;
        rustix::fs::syncfs(&folder).map_err(|e| ImageError::io("sync", &self.root)(e.into()))
    }
}

impl Lease {
    pub(crate) fn add(&mut self, digests: impl IntoIterator<Item = Digest>) {
        let mut leases = lock(&self.store.leases);
        for digest in digests {
            *leases.entry(digest).or_default() += 1;
            self.digests.push(digest);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut leases = lock(&self.store.leases);
        for digest in &self.digests {
            if let Some(count) = leases.get_mut(digest) {
                *count -= 1;
                if *count == 0 {
                    leases.remove(digest);
                }
            }
        }
    }
}

/// A lock whose holder may have panicked: what it guards is always whole.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The entries of a folder; none when it cannot be read.
pub(crate) fn list(folder: &Path) -> Vec<PathBuf> {
    fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect()
}

/// The digest that a file is named after.
pub(crate) fn digest_of_name(path: &Path) -> Option<Digest> {
    Digest::from_hex(path.file_name()?.to_str()?)
}

pub(crate) fn write_json(path: &Path, value: &impl Serialize) -> Result<(), ImageError> {
    let bytes = serde_json::to_vec(value).map_err(|e| ImageError::io("encode", path)(e.into()))?;
    fs::write(path, bytes).map_err(ImageError::io("write", path))
}

/// Identifies the running boot of the kernel.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .unwrap_or_default()
        .trim()
        .to_string()
}
