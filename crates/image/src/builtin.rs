//! The binary that runs, offered as an image: a scratch image that holds one file.
//!
//! It takes no hashing of the file, so that starting stays fast: its layer is named after the
//! file's size and time of change. A proper image is made of it only for an export or a push.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use serde_json::json;

use crate::digest::Hasher;
use crate::images::Inner;
use crate::index::Record;
use crate::manifest::{self, Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, OCI_MANIFEST, Platform};
use crate::store::{LayerRecord, Store};
use crate::{Digest, Image, ImageError, Reference};

/// Where the file lies in the image.
const FILE_NAME: &str = "knarr";

pub(crate) fn add(
    inner: &Inner,
    name: &str,
    exe: &Path,
    args: &[&str],
) -> Result<Image, ImageError> {
    let reference = Reference::parse(name)?;
    let metadata = fs::metadata(exe).map_err(ImageError::io("look at", exe))?;
    let state = format!(
        "knarr builtin {} {}.{:09}",
        metadata.len(),
        metadata.mtime(),
        metadata.mtime_nsec()
    );
    let layer = Digest::of(state.as_bytes());
    let config = config_bytes(layer, args);
    let id = Digest::of(&config);
    if !inner.store.has_layer(layer) {
        place(&inner.store, layer, exe, metadata.len(), false)?;
    }
    let record = Record {
        id,
        manifest: None,
        layers: vec![layer],
        blobs: BTreeSet::new(),
        tags: BTreeSet::from([reference.to_string()]),
        digests: BTreeSet::new(),
        size_bytes: metadata.len(),
        pinned: true,
        last_used_secs: 0,
        unsynced_boot: None,
    };
    let parsed = manifest::parse_config(&config).map_err(|problem| ImageError::Index {
        path: exe.into(),
        problem,
    })?;
    inner.index().add_builtin(record, parsed, exe);
    inner
        .image(id)
        .ok_or_else(|| ImageError::NotFound { name: name.into() })
}

/// Makes sure that the layer of a builtin image is there, by copying if need be.
pub(crate) fn provide(inner: &Inner, image: &Image) -> Result<(), ImageError> {
    let exe = inner.index().builtin(image.id).map(Path::to_path_buf);
    let (Some(layer), Some(exe)) = (image.layers.first(), exe) else {
        return Ok(());
    };
    if inner.store.has_layer(*layer) {
        return Ok(());
    }
    place(&inner.store, *layer, &exe, image.size_bytes, true)
}

/// Makes a layer of `exe` by a hard link, or, where there can be none, by a copy if `may_copy`.
fn place(
    store: &Store,
    layer: Digest,
    exe: &Path,
    bytes: u64,
    may_copy: bool,
) -> Result<(), ImageError> {
    let temp = store.temp_path();
    let folder = temp.join("fs");
    fs::create_dir_all(&folder).map_err(ImageError::io("create folder", &folder))?;
    let mode = rustix::fs::Mode::from_raw_mode(0o755);
    rustix::fs::chmod(&folder, mode)
        .map_err(|e| ImageError::io("set mode of", &folder)(e.into()))?;
    let file = folder.join(FILE_NAME);
    match fs::hard_link(exe, &file) {
        Ok(()) => {}
        Err(_) if !may_copy => {
            return fs::remove_dir_all(&temp).map_err(ImageError::io("remove", &temp));
        }
        Err(_) => drop(fs::copy(exe, &file).map_err(ImageError::io("copy", exe))?),
    }
    store.place_layer(
        &temp,
        layer,
        &LayerRecord {
            bytes,
            entries: 1,
            implicit: Vec::new(),
        },
    )
}

fn config_bytes(layer: Digest, args: &[&str]) -> Vec<u8> {
    let platform = Platform::host();
    let mut entrypoint = vec![format!("/{FILE_NAME}")];
    entrypoint.extend(args.iter().map(ToString::to_string));
    json!({
        "architecture": platform.architecture,
        "os": platform.os,
        "config": {
            "Entrypoint": entrypoint,
            "Env": ["PATH=/"],
            "ExposedPorts": { "8080/tcp": {} },
            "WorkingDir": "/",
        },
        "rootfs": { "type": "layers", "diff_ids": [layer] },
    })
    .to_string()
    .into_bytes()
}

/// Makes a manifest, a configuration and a layer that any registry takes. Blocks for as long as
/// it takes to hash the file. Returns the digest of the manifest.
pub(crate) fn materialize(inner: &Inner, image: &Image) -> Result<Digest, ImageError> {
    provide(inner, image)?;
    let store = &inner.store;
    let layer = image.layers.first().ok_or_else(|| ImageError::NotFound {
        name: image.id.to_string(),
    })?;
    let path = store.layer_path(*layer).join("fs").join(FILE_NAME);
    let file = File::open(&path).map_err(ImageError::io("open", &path))?;
    let length = file
        .metadata()
        .map_err(ImageError::io("look at", &path))?
        .len();
    let temp = store.temp_path();
    let write = || -> io::Result<Digest> {
        let mut header = tar::Header::new_ustar();
        header.set_size(length);
        header.set_mode(0o755);
        header.set_mtime(0);
        let output = Hashed {
            file: File::create(&temp)?,
            hasher: Hasher::default(),
        };
        let mut archive = tar::Builder::new(output);
        archive.append_data(
            &mut header,
            FILE_NAME,
            BufReader::with_capacity(256 << 10, file),
        )?;
        Ok(archive.into_inner()?.hasher.finish())
    };
    let diff_id = write().map_err(ImageError::io("write", &temp))?;
    let size = fs::metadata(&temp)
        .map_err(ImageError::io("look at", &temp))?
        .len();
    store.place_blob(&temp, diff_id)?;
    let args: Vec<&str> = image
        .config
        .config()
        .as_ref()
        .and_then(|config| config.entrypoint().as_ref())
        .map(|entrypoint| entrypoint.iter().skip(1).map(String::as_str).collect())
        .unwrap_or_default();
    let config = config_bytes(diff_id, &args);
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: Descriptor::new(OCI_CONFIG, store.write_blob(&config)?, config.len() as u64),
        layers: vec![Descriptor::new(OCI_LAYER, diff_id, size)],
    };
    let bytes =
        serde_json::to_vec(&manifest).map_err(|e| ImageError::io("encode", &path)(e.into()))?;
    store.write_blob(&bytes)
}

struct Hashed {
    file: File,
    hasher: Hasher,
}

impl Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
