//! Making images and stores for tests.

use std::collections::HashSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use image::{Config, Digest, Images};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A store in a folder of its own, whose mounts are gone when it is dropped.
pub(crate) struct TestStore {
    pub(crate) images: Images,
    pub(crate) dir: TempDir,
}

impl TestStore {
    pub(crate) fn new() -> TestStore {
        TestStore::with(Config {
            min_image_age: std::time::Duration::ZERO,
            ..Config::default()
        })
    }

    pub(crate) fn with(config: Config) -> TestStore {
        let dir = tempfile::tempdir().unwrap();
        TestStore {
            images: Images::open(dir.path(), config).unwrap(),
            dir,
        }
    }

    pub(crate) fn names(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

impl Drop for TestStore {
    fn drop(&mut self) {
        // Or its last write would bring the folder back that is about to be removed.
        let images = self.images.clone();
        tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(images.close()));
        self.images.retain(&HashSet::new()).unwrap();
    }
}

/// How a layer travels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pack {
    Plain,
    Gzip,
    Zstd,
}

/// A layer: what travels, and the digest of what is inside.
#[derive(Clone)]
pub(crate) struct Blob {
    pub(crate) media_type: &'static str,
    pub(crate) bytes: Vec<u8>,
    pub(crate) diff_id: Digest,
}

impl Blob {
    pub(crate) fn digest(&self) -> Digest {
        Digest::of(&self.bytes)
    }
}

pub(crate) fn pack(tar: Vec<u8>, how: Pack) -> Blob {
    let diff_id = Digest::of(&tar);
    let (media_type, bytes) = match how {
        Pack::Plain => ("application/vnd.oci.image.layer.v1.tar", tar),
        Pack::Gzip => {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
            encoder.write_all(&tar).unwrap();
            (
                "application/vnd.oci.image.layer.v1.tar+gzip",
                encoder.finish().unwrap(),
            )
        }
        Pack::Zstd => (
            "application/vnd.oci.image.layer.v1.tar+zstd",
            zstd::encode_all(&tar[..], 3).unwrap(),
        ),
    };
    Blob {
        media_type,
        bytes,
        diff_id,
    }
}

/// A tar archive whose names are written as they are given, whatever they say.
#[derive(Default)]
pub(crate) struct Tar(Vec<u8>);

impl Tar {
    pub(crate) fn entry(
        mut self,
        name: &str,
        kind: u8,
        edit: impl FnOnce(&mut tar::Header),
        data: &[u8],
    ) -> Tar {
        let mut header = tar::Header::new_ustar();
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_entry_type(tar::EntryType::new(kind));
        header.set_mode(0o644);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1_000_000_000);
        header.set_size(data.len() as u64);
        edit(&mut header);
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn file(self, name: &str, data: impl AsRef<[u8]>) -> Tar {
        self.entry(name, b'0', |_| {}, data.as_ref())
    }

    pub(crate) fn folder(self, name: &str, mode: u32) -> Tar {
        self.entry(name, b'5', |header| header.set_mode(mode), b"")
    }

    pub(crate) fn link(self, name: &str, kind: u8, target: &str) -> Tar {
        self.entry(
            name,
            kind,
            |header| {
                header.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes())
            },
            b"",
        )
    }

    pub(crate) fn symlink(self, name: &str, target: &str) -> Tar {
        self.link(name, b'2', target)
    }

    pub(crate) fn hardlink(self, name: &str, target: &str) -> Tar {
        self.link(name, b'1', target)
    }

    /// A pax record for the entry that follows.
    pub(crate) fn pax(self, key: &str, value: &[u8]) -> Tar {
        let body = [b" ", key.as_bytes(), b"=", value, b"\n"].concat();
        let mut length = body.len() + 1;
        while length != body.len() + length.to_string().len() {
            length = body.len() + length.to_string().len();
        }
        self.entry(
            "pax",
            b'x',
            |_| {},
            &[length.to_string().as_bytes(), &body].concat(),
        )
    }

    pub(crate) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 1024, 0);
        self.0
    }

    pub(crate) fn pack(self, how: Pack) -> Blob {
        pack(self.end(), how)
    }
}

/// Bytes that do not compress.
pub(crate) fn noise(length: usize, mut seed: u64) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        bytes.extend_from_slice(&(seed >> 16).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

/// An image: its configuration, its manifest and its layers.
pub(crate) struct Built {
    pub(crate) config: Vec<u8>,
    pub(crate) manifest: Vec<u8>,
    pub(crate) layers: Vec<Blob>,
}

pub(crate) fn build(layers: &[Blob]) -> Built {
    build_for(layers, image::Platform::host().architecture.as_str())
}

pub(crate) fn build_for(layers: &[Blob], architecture: &str) -> Built {
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": { "Env": ["A=b"], "Cmd": ["/bin/true"], "User": "1000:1000" },
        "rootfs": { "type": "layers", "diff_ids": layers.iter().map(|l| l.diff_id).collect::<Vec<_>>() },
    });
    let config = config.to_string().into_bytes();
    let descriptor = |media_type: &str, bytes: &[u8]| -> Value {
        json!({ "mediaType": media_type, "digest": Digest::of(bytes), "size": bytes.len() })
    };
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": descriptor("application/vnd.oci.image.config.v1+json", &config),
        "layers": layers.iter().map(|l| descriptor(l.media_type, &l.bytes)).collect::<Vec<_>>(),
    });
    Built {
        config,
        manifest: manifest.to_string().into_bytes(),
        layers: layers.to_vec(),
    }
}

/// Writes an OCI archive with one image of that name.
pub(crate) fn archive(folder: &Path, name: &str, layers: &[Blob]) -> PathBuf {
    let image = build(layers);
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": Digest::of(&image.manifest),
            "size": image.manifest.len(),
            "annotations": { "io.containerd.image.name": name },
        }],
    });
    let path = folder.join(format!("{}.tar", Digest::of(&image.manifest).hex()));
    let mut tar = tar::Builder::new(std::fs::File::create(&path).unwrap());
    let mut append = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    append("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    append("index.json", index.to_string().as_bytes());
    let blobs = image
        .layers
        .iter()
        .map(|l| &l.bytes)
        .chain([&image.config, &image.manifest]);
    let mut seen = HashSet::new();
    for blob in blobs.filter(|blob| seen.insert(Digest::of(blob))) {
        append(&format!("blobs/sha256/{}", Digest::of(blob).hex()), blob);
    }
    tar.into_inner().unwrap();
    path
}

/// Imports an image of these layers.
pub(crate) async fn import(
    store: &TestStore,
    name: &str,
    layers: &[Blob],
) -> Result<image::Image, image::ImageError> {
    let path = archive(store.dir.path(), name, layers);
    Ok(store.images.import(&path).await?.remove(0))
}
