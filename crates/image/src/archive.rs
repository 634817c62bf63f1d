//! Image archives: those of `docker save`, and OCI layouts in a tar file.

mod export;
mod import;

pub(crate) use export::export;
pub(crate) use import::import;

use serde::{Deserialize, Serialize};

/// The annotation that holds an image's complete name.
const IMAGE_NAME: &str = "io.containerd.image.name";
/// The annotation that holds a tag, or with some tools a name.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// One image in Docker's `manifest.json`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    #[serde(default, deserialize_with = "null_is_empty")]
    repo_tags: Vec<String>,
    #[serde(default, deserialize_with = "null_is_empty")]
    layers: Vec<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Vec<String>, D::Error> {
    Ok(Option::<Vec<String>>::deserialize(deserializer)?.unwrap_or_default())
}
