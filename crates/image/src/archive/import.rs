//! Reading an archive: everything goes into the content store in one pass over the file, then the
//! images that it lists are unpacked.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{BufReader, Read, Write as _};
use std::path::Path;
use std::sync::Arc;

use futures::future::try_join_all;
use oci_spec::image::ImageConfiguration;

use super::{DockerImage, IMAGE_NAME, REF_NAME};
use crate::digest::Hasher;
use crate::images::Inner;
use crate::index::{Record, now_secs};
use crate::ingest::Layer;
use crate::manifest::{
    self, Descriptor, Document, Index, MAX_DOCUMENT_BYTES, Manifest, OCI_CONFIG, OCI_LAYER,
    OCI_MANIFEST, Platform,
};
use crate::store::{Lease, boot_id};
use crate::tarball::{Kind, TarError, TarReader};
use crate::{Digest, ImageError, PullFailure, Reference, layer, pull};

/// What an archive holds, by name.
struct Contents {
    files: HashMap<String, Digest>,
    links: HashMap<String, String>,
    docker: Option<Vec<u8>>,
    oci: Option<Vec<u8>>,
    lease: Lease,
}

/// An image that the archive lists.
struct Found {
    manifest_digest: Digest,
    manifest: Manifest,
    config: ImageConfiguration,
    diff_ids: Vec<Digest>,
    blobs: BTreeSet<Digest>,
    names: BTreeSet<String>,
}

/// Imports all images for this platform, and returns their ids.
pub(crate) async fn import(inner: &Arc<Inner>, path: &Path) -> Result<Vec<Digest>, ImageError> {
    let file = path.to_path_buf();
    let (found, lease) = inner
        .clone()
        .blocking(move |inner| {
            let contents = read(inner, &file)?;
            let found = list(inner, &contents).map_err(|problem| ImageError::Archive {
                path: file.clone(),
                problem,
            })?;
            Ok::<_, ImageError>((found, contents.lease))
        })
        .await??;
    let mut ids = Vec::new();
    for image in found {
        ids.push(image.manifest.config.digest);
        let layers = image.manifest.layers.iter().zip(&image.diff_ids);
        try_join_all(layers.map(|(blob, diff_id)| {
            unpack(
                inner,
                Layer {
                    blob: blob.digest,
                    diff_id: *diff_id,
                },
            )
        }))
        .await?;
        inner
            .clone()
            .blocking(move |inner| enter(inner, image))
            .await??;
    }
    drop(lease);
    inner.sync_soon();
    Ok(ids)
}

async fn unpack(inner: &Arc<Inner>, layer: Layer) -> Result<(), ImageError> {
    pull::unpack_present(inner, layer)
        .await
        .map_err(|failure| match failure {
            PullFailure::Store(error) => error,
            PullFailure::Layer { diff_id, source } => ImageError::Layer { diff_id, source },
            _ => ImageError::ContentMissing { digest: layer.blob },
        })
}

fn enter(inner: &Inner, image: Found) -> Result<(), ImageError> {
    layer::settle_implicit(&inner.store, &image.diff_ids)?;
    let record = Record {
        id: image.manifest.config.digest,
        manifest: Some(image.manifest_digest),
        size_bytes: inner.content_bytes(&image.diff_ids, &image.blobs),
        layers: image.diff_ids,
        blobs: image.blobs,
        tags: image.names,
        digests: BTreeSet::new(),
        pinned: false,
        last_used_secs: now_secs(),
        unsynced_boot: Some(boot_id()),
    };
    inner.enter(record, image.config)
}

/// Brings every file of the archive into the content store.
fn read(inner: &Inner, path: &Path) -> Result<Contents, ImageError> {
    let fail = |problem: String| ImageError::Archive {
        path: path.into(),
        problem,
    };
    let file = File::open(path).map_err(ImageError::io("open", path))?;
    let mut file = BufReader::with_capacity(256 << 10, file);
    let decoder = layer::decoder(&mut file).map_err(|error| fail(stdx::chain(&error)))?;
    let mut archive = TarReader::new(BufReader::with_capacity(256 << 10, decoder));
    let mut contents = Contents {
        files: HashMap::new(),
        links: HashMap::new(),
        docker: None,
        oci: None,
        lease: inner.store.lease(Vec::new()),
    };
    let mut left = inner.config.limits.max_unpacked_bytes;
    let tar = |error| match error {
        TarError::Read(error) => fail(error.to_string()),
        TarError::Format(problem) => fail(format!("archive/tar: {problem}")),
    };
    while let Some(entry) = archive.next().map_err(tar)? {
        let Some(name) = clean("", &entry.path) else {
            continue;
        };
        if contents.files.len() + contents.links.len() > 100_000 {
            return Err(fail("too many files".into()));
        }
        match entry.kind {
            Kind::Symlink | Kind::HardLink => {
                let base = if entry.kind == Kind::Symlink {
                    parent(&name)
                } else {
                    ""
                };
                if let Some(target) = clean(base, &entry.link) {
                    contents.links.insert(name, target);
                }
                continue;
            }
            Kind::File => {}
            _ => continue,
        }
        left = left
            .checked_sub(entry.size)
            .ok_or_else(|| fail("too large".into()))?;
        match name.as_str() {
            "manifest.json" => contents.docker = Some(small(&mut archive).map_err(fail)?),
            "index.json" => contents.oci = Some(small(&mut archive).map_err(fail)?),
            _ => {
                let digest = store_file(inner, &mut archive, &name, &mut contents.lease, path)?;
                contents.files.insert(name, digest);
            }
        }
    }
    Ok(contents)
}

fn small(archive: &mut impl Read) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    archive
        .take(MAX_DOCUMENT_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_DOCUMENT_BYTES {
        Err("a document is too large".into())
    } else {
        Ok(bytes)
    }
}

/// Streams one file into the store. What lies under `blobs/sha256/` must be what it is named.
fn store_file(
    inner: &Inner,
    data: &mut impl Read,
    name: &str,
    lease: &mut Lease,
    archive: &Path,
) -> Result<Digest, ImageError> {
    let temp = inner.store.temp_path();
    let mut file = File::create(&temp).map_err(ImageError::io("create", &temp))?;
    let mut hasher = Hasher::default();
    let mut buffer = vec![0; 256 << 10];
    let result = loop {
        match data.read(&mut buffer) {
            Ok(0) => break Ok(hasher.finish()),
            Ok(count) => {
                hasher.update(&buffer[..count]);
                if let Err(error) = file.write_all(&buffer[..count]) {
                    break Err(ImageError::io("write", &temp)(error));
                }
            }
            Err(error) => break Err(ImageError::io("read", archive)(error)),
        }
    };
    let promised = name.strip_prefix("blobs/sha256/").map(Digest::from_hex);
    let result = result.and_then(|digest| match promised {
        Some(promised) if promised != Some(digest) => Err(ImageError::Archive {
            path: archive.into(),
            problem: format!("{name} has the digest {digest}"),
        }),
        _ => Ok(digest),
    });
    match result {
        Ok(digest) => {
            lease.add([digest]);
            inner.store.place_blob(&temp, digest)?;
            Ok(digest)
        }
        Err(error) => {
            let _ = fs::remove_file(&temp);
            Err(error)
        }
    }
}

/// Finds the images for this platform, by the OCI index or by Docker's list.
fn list(inner: &Inner, contents: &Contents) -> Result<Vec<Found>, String> {
    let docker: Vec<DockerImage> = match &contents.docker {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|e| format!("manifest.json: {e}"))?,
        None => Vec::new(),
    };
    let mut found: BTreeMap<Digest, Found> = BTreeMap::new();
    let mut add = |image: Found| match found.get_mut(&image.manifest.config.digest) {
        Some(known) => known.names.extend(image.names),
        None => drop(found.insert(image.manifest.config.digest, image)),
    };
    if let Some(bytes) = &contents.oci {
        let index: Index = serde_json::from_slice(bytes).map_err(|e| format!("index.json: {e}"))?;
        for descriptor in &index.manifests {
            if let Some(image) = from_descriptor(inner, descriptor)? {
                add(image);
            }
        }
    }
    for image in &docker {
        let config = contents
            .resolve(&image.config)
            .ok_or_else(|| format!("{} is missing", image.config))?;
        let known = match found.entry(config) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(place) => place.insert(from_docker(inner, contents, config, image)?),
        };
        known
            .names
            .extend(image.repo_tags.iter().filter_map(|tag| name_of(tag)));
    }
    if found.is_empty() {
        return Err(format!("no image for {} in it", Platform::host()));
    }
    Ok(found.into_values().collect())
}

fn name_of(text: &str) -> Option<String> {
    Reference::parse(text)
        .ok()
        .map(|reference| reference.to_string())
}

/// An entry of the OCI index: a manifest, or an index of its own. `None` when it is for others.
fn from_descriptor(inner: &Inner, descriptor: &Descriptor) -> Result<Option<Found>, String> {
    let host = Platform::host();
    if descriptor
        .platform
        .as_ref()
        .is_some_and(|platform| !host.runs(platform))
    {
        return Ok(None);
    }
    let annotation = |key: &str| descriptor.annotations.get(key).map(String::as_str);
    let name = annotation(IMAGE_NAME)
        .or_else(|| annotation(REF_NAME).filter(|name| name.contains(['/', ':'])));
    let names: BTreeSet<String> = name.and_then(name_of).into_iter().collect();
    let mut digest = descriptor.digest;
    let mut blobs = BTreeSet::new();
    for _ in 0..3 {
        let bytes = inner
            .store
            .read_blob(digest)
            .ok_or_else(|| format!("blob {digest} is missing"))?;
        blobs.insert(digest);
        match Document::parse(&bytes).map_err(|problem| format!("blob {digest}: {problem}"))? {
            Document::Index(index) => match index.select(&host) {
                Some(chosen) => digest = chosen.digest,
                None => return Ok(None),
            },
            Document::Manifest(manifest) => {
                return found(inner, digest, manifest, blobs, names).map(Some);
            }
        }
    }
    Err("indexes are nested too deep".into())
}

/// An entry of Docker's list: a manifest is made for it.
fn from_docker(
    inner: &Inner,
    contents: &Contents,
    config: Digest,
    image: &DockerImage,
) -> Result<Found, String> {
    let size =
        |digest| fs::metadata(inner.store.blob_path(digest)).map_or(0, |metadata| metadata.len());
    let layers = image.layers.iter().map(|name| {
        let digest = contents
            .resolve(name)
            .ok_or_else(|| format!("{name} is missing"))?;
        let mut magic = [0; 4];
        let _ =
            File::open(inner.store.blob_path(digest)).and_then(|mut file| file.read(&mut magic));
        let media_type = match magic {
            [0x1f, 0x8b, ..] => format!("{OCI_LAYER}+gzip"),
            [0x28, 0xb5, 0x2f, 0xfd] => format!("{OCI_LAYER}+zstd"),
            _ => OCI_LAYER.into(),
        };
        Ok(Descriptor::new(&media_type, digest, size(digest)))
    });
    let manifest = Manifest {
        schema_version: 2,
        media_type: OCI_MANIFEST.into(),
        config: Descriptor::new(OCI_CONFIG, config, size(config)),
        layers: layers.collect::<Result<_, String>>()?,
    };
    let bytes = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    let digest = inner
        .store
        .write_blob(&bytes)
        .map_err(|error| stdx::chain(&error))?;
    found(
        inner,
        digest,
        manifest,
        BTreeSet::from([digest]),
        BTreeSet::new(),
    )
}

fn found(
    inner: &Inner,
    digest: Digest,
    manifest: Manifest,
    mut blobs: BTreeSet<Digest>,
    names: BTreeSet<String>,
) -> Result<Found, String> {
    let id = manifest.config.digest;
    let bytes = inner
        .store
        .read_blob(id)
        .ok_or_else(|| format!("blob {id} is missing"))?;
    let config = manifest::parse_config(&bytes)
        .map_err(|problem| format!("configuration {id}: {problem}"))?;
    let diff_ids = manifest::diff_ids(&config)?;
    if diff_ids.len() != manifest.layers.len() {
        return Err("mismatched image rootfs and manifest layers".into());
    }
    if let Some(layer) = manifest
        .layers
        .iter()
        .find(|layer| !inner.store.has_blob(layer.digest))
    {
        return Err(format!("blob {} is missing", layer.digest));
    }
    blobs.insert(id);
    blobs.extend(manifest.layers.iter().map(|layer| layer.digest));
    Ok(Found {
        manifest_digest: digest,
        manifest,
        config,
        diff_ids,
        blobs,
        names,
    })
}

impl Contents {
    /// The content of a file, through links within the archive.
    fn resolve(&self, name: &str) -> Option<Digest> {
        let mut name = clean("", name.as_bytes())?;
        for _ in 0..8 {
            if let Some(digest) = self.files.get(&name) {
                return Some(*digest);
            }
            name = self.links.get(&name)?.clone();
        }
        None
    }
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

/// A name from the root of the archive; `None` when it is none.
fn clean(base: &str, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts: Vec<&str> = Vec::new();
    for part in base.split('/').chain(path.split('/')) {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    if parts.is_empty() {
        None
    } else {
        Some(parts.join("/"))
    }
}
