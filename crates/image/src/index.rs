//! Which images are here, under which names: `images.json`, replaced as a whole.
//!
//! Invariants: the file on disk is always one complete version. An image in it has all its layers
//! on disk, or is dropped when the store is opened. What a crash of the machine may have
//! swallowed, because it was not synced yet, is dropped as well and pulled again; its content is
//! swept when the store is opened in another boot than before.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::store::{Store, boot_id};
use crate::{Digest, Image, ImageError, Reference, manifest};

/// One image as it stands in the file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The digest of the configuration.
    pub(crate) id: Digest,
    /// The manifest for this platform; none for an image that has no blobs.
    pub(crate) manifest: Option<Digest>,
    /// The diff ids, lowest first.
    pub(crate) layers: Vec<Digest>,
    /// The blobs: configuration, manifest, index, layers.
    pub(crate) blobs: BTreeSet<Digest>,
    /// Names with tags.
    pub(crate) tags: BTreeSet<String>,
    /// Names with digests.
    pub(crate) digests: BTreeSet<String>,
    pub(crate) size_bytes: u64,
    #[serde(default)]
    pub(crate) pinned: bool,
    /// Seconds since 1970; written now and then.
    pub(crate) last_used_secs: u64,
    /// The boot in which it came, while it has not been synced to disk.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unsynced_boot: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct OnDisk {
    version: u32,
    images: Vec<Record>,
}

/// The index in memory.
#[derive(Debug)]
pub(crate) struct Index {
    path: PathBuf,
    images: BTreeMap<Digest, (Record, Arc<ImageConfiguration>)>,
    /// Images made at every start, which are not written: from which file.
    builtin: BTreeMap<Digest, PathBuf>,
    by_name: HashMap<String, Digest>,
}

impl Index {
    pub(crate) fn open(store: &Store) -> Result<Index, ImageError> {
        let path = store.root().join("images.json");
        let on_disk = match fs::read(&path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| ImageError::Index {
                path: path.clone(),
                problem: error.to_string(),
            })?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => OnDisk {
                version: 1,
                images: vec![],
            },
            Err(error) => return Err(ImageError::io("read", &path)(error)),
        };
        if on_disk.version != 1 {
            let problem = format!("version {} is newer than this program", on_disk.version);
            return Err(ImageError::Index { path, problem });
        }
        let mut index = Index {
            path,
            images: BTreeMap::new(),
            builtin: BTreeMap::new(),
            by_name: HashMap::new(),
        };
        let boot = boot_id();
        for record in on_disk.images {
            let lost = record
                .unsynced_boot
                .as_ref()
                .is_some_and(|written| *written != boot);
            let config = store
                .read_blob(record.id)
                .and_then(|bytes| manifest::parse_config(&bytes).ok());
            match config {
                Some(config)
                    if !lost && record.layers.iter().all(|layer| store.has_layer(*layer)) =>
                {
                    index.images.insert(record.id, (record, Arc::new(config)));
                }
                _ => {
                    tracing::warn!(id = %record.id, tags = ?record.tags, "an image is incomplete, and forgotten");
                }
            }
        }
        index.rebuild_names();
        Ok(index)
    }

    pub(crate) fn image(&self, id: Digest) -> Option<Image> {
        let (record, config) = self.images.get(&id)?;
        Some(Image {
            id,
            tags: record.tags.iter().cloned().collect(),
            digests: record.digests.iter().cloned().collect(),
            size_bytes: record.size_bytes,
            config: config.clone(),
            layers: record.layers.clone(),
            pinned: record.pinned,
        })
    }

    pub(crate) fn records(&self) -> impl Iterator<Item = &Record> {
        self.images.values().map(|(record, _)| record)
    }

    pub(crate) fn record(&self, id: Digest) -> Option<&Record> {
        self.images.get(&id).map(|(record, _)| record)
    }

    /// Finds by name, with what is missing added; by id, whole or the beginning of one.
    pub(crate) fn find(&self, name: &str) -> Option<Digest> {
        let hex = name.strip_prefix("sha256:").unwrap_or(name);
        if let Some(id) = Digest::from_hex(hex) {
            return self.images.contains_key(&id).then_some(id);
        }
        if let Ok(reference) = Reference::parse(name)
            && let Some(id) = self.by_name.get(&reference.to_string())
        {
            return Some(*id);
        }
        if hex.len() < 4 || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let mut matching = self.images.keys().filter(|id| id.hex().starts_with(hex));
        let found = matching.next()?;
        matching.next().is_none().then_some(*found)
    }

    /// Adds an image, or adds names to it. Tags move here from other images.
    pub(crate) fn add(&mut self, mut record: Record, config: ImageConfiguration) {
        for (other, _) in self.images.values_mut() {
            for tag in &record.tags {
                other.tags.remove(tag);
            }
        }
        record.last_used_secs = now_secs();
        match self.images.get_mut(&record.id) {
            Some((known, _)) => {
                known.tags.append(&mut record.tags);
                known.digests.append(&mut record.digests);
                known.blobs.append(&mut record.blobs);
                known.manifest = record.manifest.or(known.manifest);
                known.size_bytes = record.size_bytes.max(known.size_bytes);
                known.pinned |= record.pinned;
                known.last_used_secs = record.last_used_secs;
                known.unsynced_boot = record.unsynced_boot;
            }
            None => {
                self.images.insert(record.id, (record, Arc::new(config)));
            }
        }
        self.rebuild_names();
    }

    /// Adds an image that is made of `exe`; it takes the place of an older one of its name.
    pub(crate) fn add_builtin(&mut self, record: Record, config: ImageConfiguration, exe: &Path) {
        let outdated =
            |other: &Record| other.id != record.id && !other.tags.is_disjoint(&record.tags);
        let old: Vec<Digest> = self
            .records()
            .filter(|other| outdated(other))
            .map(|other| other.id)
            .collect();
        for id in old {
            if self.builtin.remove(&id).is_some() {
                self.images.remove(&id);
            }
        }
        self.builtin.insert(record.id, exe.into());
        self.add(record, config);
    }

    /// The file that an image is made of, if it is such an image.
    pub(crate) fn builtin(&self, id: Digest) -> Option<&Path> {
        self.builtin.get(&id).map(PathBuf::as_path)
    }

    pub(crate) fn remove(&mut self, id: Digest) -> Option<Record> {
        let removed = self.images.remove(&id);
        self.builtin.remove(&id);
        self.rebuild_names();
        removed.map(|(record, _)| record)
    }

    /// Takes one name away; the image stays when it has another tag.
    pub(crate) fn remove_name(&mut self, name: &str, id: Digest) -> Option<Record> {
        let (record, _) = self.images.get_mut(&id)?;
        if record.tags.remove(name) && !record.tags.is_empty() {
            self.rebuild_names();
            return None;
        }
        self.remove(id)
    }

    pub(crate) fn has_name(&self, id: Digest, name: &str) -> bool {
        self.record(id)
            .is_some_and(|record| record.tags.contains(name) || record.digests.contains(name))
    }

    pub(crate) fn pin(&mut self, id: Digest, pinned: bool) {
        if let Some((record, _)) = self.images.get_mut(&id) {
            record.pinned = pinned;
        }
    }

    pub(crate) fn touch(&mut self, id: Digest) {
        if let Some((record, _)) = self.images.get_mut(&id) {
            record.last_used_secs = now_secs();
        }
    }

    /// Everything that was added before is on disk.
    pub(crate) fn mark_synced(&mut self, ids: &[Digest]) {
        for id in ids {
            if let Some((record, _)) = self.images.get_mut(id) {
                record.unsynced_boot = None;
            }
        }
    }

    pub(crate) fn unsynced(&self) -> Vec<Digest> {
        self.records()
            .filter(|r| r.unsynced_boot.is_some())
            .map(|r| r.id)
            .collect()
    }

    /// The bytes for [`write`].
    pub(crate) fn encode(&self) -> Result<Vec<u8>, ImageError> {
        let images = self
            .records()
            .filter(|record| !self.builtin.contains_key(&record.id))
            .cloned()
            .collect();
        serde_json::to_vec(&OnDisk { version: 1, images }).map_err(|error| ImageError::Index {
            path: self.path.clone(),
            problem: error.to_string(),
        })
    }

    fn rebuild_names(&mut self) {
        self.by_name.clear();
        for (id, (record, _)) in &self.images {
            for name in record.tags.iter().chain(&record.digests) {
                self.by_name.insert(name.clone(), *id);
            }
        }
    }
}

/// Writes the file: the new version beside the old, synced, renamed.
pub(crate) fn write(root: &Path, bytes: &[u8]) -> Result<(), ImageError> {
    let path = root.join("images.json");
    let temp = root.join("images.json.new");
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temp)?;
        file.write_all(bytes)?;
        file.sync_data()?;
        fs::rename(&temp, &path)?;
        File::open(root)?.sync_all()
    };
    write().map_err(ImageError::io("write", &path))
}

pub(crate) fn now_secs() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
