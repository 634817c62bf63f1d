//! Writing an archive that is both an OCI layout and what `docker load` reads.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use super::{DockerImage, IMAGE_NAME, REF_NAME};
use crate::images::Inner;
use crate::manifest::{Descriptor, Index, OCI_INDEX};
use crate::push::{Portable, portable};
use crate::{Digest, Image, ImageError, Reference};

/// Writes the named images into one archive; the file appears when it is complete.
pub(crate) async fn export(
    inner: &Arc<Inner>,
    names: &[&str],
    path: &Path,
) -> Result<(), ImageError> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let path = path.to_path_buf();
    inner
        .clone()
        .blocking(move |inner| {
            let images = names
                .iter()
                .map(|name| collect(inner, name))
                .collect::<Result<Vec<_>, _>>()?;
            let mut temp = path.clone().into_os_string();
            temp.push(".partial");
            let temp = Path::new(&temp);
            let result = File::create(temp)
                .and_then(|file| {
                    let mut writer = BufWriter::with_capacity(256 << 10, file);
                    write(inner, &images, &mut writer)?;
                    writer
                        .into_inner()
                        .map_err(io::IntoInnerError::into_error)?
                        .sync_all()?;
                    fs::rename(temp, &path)
                })
                .map_err(ImageError::io("write", &path));
            if result.is_err() {
                let _ = fs::remove_file(temp);
            }
            result
        })
        .await?
}

/// An image and the names it is exported under.
fn collect(inner: &Inner, name: &str) -> Result<(Portable, Vec<String>), ImageError> {
    let not_found = || ImageError::NotFound { name: name.into() };
    let id = inner.index().find(name).ok_or_else(not_found)?;
    let image: Image = inner.image(id).ok_or_else(not_found)?;
    let complete = Reference::parse(name)
        .map(|reference| reference.to_string())
        .unwrap_or_default();
    let tags = if image.tags.contains(&complete) {
        vec![complete]
    } else {
        image.tags.clone()
    };
    Ok((portable(inner, &image)?, tags))
}

fn write(
    inner: &Inner,
    images: &[(Portable, Vec<String>)],
    writer: &mut impl Write,
) -> io::Result<()> {
    let mut archive = tar::Builder::new(writer);
    let mut written: BTreeSet<Digest> = BTreeSet::new();
    let mut index = Index {
        schema_version: 2,
        media_type: OCI_INDEX.into(),
        manifests: Vec::new(),
    };
    let mut docker = Vec::new();
    append(
        &mut archive,
        "oci-layout",
        br#"{"imageLayoutVersion":"1.0.0"}"#,
    )?;
    for (image, tags) in images {
        let manifest = &image.manifest;
        for blob in manifest.layers.iter().chain([&manifest.config]) {
            if written.insert(blob.digest) {
                let file = File::open(inner.store.blob_path(blob.digest))?;
                let mut header = header(file.metadata()?.len());
                archive.append_data(
                    &mut header,
                    blob_name(blob.digest),
                    BufReader::with_capacity(256 << 10, file),
                )?;
            }
        }
        if written.insert(image.digest) {
            append(&mut archive, &blob_name(image.digest), &image.bytes)?;
        }
        let descriptor = Descriptor::new(&image.media_type, image.digest, image.bytes.len() as u64);
        let mut named: Vec<Descriptor> = tags
            .iter()
            .map(|tag| {
                let mut descriptor = descriptor.clone();
                let short = tag.rsplit(':').next().unwrap_or_default();
                descriptor
                    .annotations
                    .insert(IMAGE_NAME.into(), tag.clone());
                descriptor.annotations.insert(REF_NAME.into(), short.into());
                descriptor
            })
            .collect();
        if named.is_empty() {
            named.push(descriptor);
        }
        index.manifests.append(&mut named);
        docker.push(DockerImage {
            config: blob_name(manifest.config.digest),
            repo_tags: tags.clone(),
            layers: manifest
                .layers
                .iter()
                .map(|layer| blob_name(layer.digest))
                .collect(),
        });
    }
    append(&mut archive, "index.json", &serde_json::to_vec(&index)?)?;
    append(&mut archive, "manifest.json", &serde_json::to_vec(&docker)?)?;
    archive.finish()
}

fn blob_name(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn header(length: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(length);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

fn append(archive: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), name, bytes)
}
