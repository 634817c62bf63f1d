//! Manifests and indexes of OCI and Docker schema 2, and the image configuration.
//!
//! Only what is needed is read; what is stored and pushed are the original bytes.

use std::collections::BTreeMap;

use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use crate::Digest;

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// Larger manifests and configurations are refused.
pub(crate) const MAX_DOCUMENT_BYTES: u64 = 8 << 20;

/// A pointer to content.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    #[serde(default)]
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest,
            size,
            platform: None,
            annotations: BTreeMap::new(),
        }
    }
}

/// An operating system and an architecture, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// `linux`.
    #[serde(default)]
    pub os: String,
    /// `amd64`, `arm64`.
    #[serde(default)]
    pub architecture: String,
    /// `v7`, `v8`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub variant: Option<String>,
}

impl Platform {
    /// The platform of this binary.
    pub fn host() -> Platform {
        let (architecture, variant) = match std::env::consts::ARCH {
            "x86_64" => ("amd64", None),
            "aarch64" => ("arm64", Some("v8")),
            "arm" => ("arm", Some("v7")),
            "x86" => ("386", None),
            "powerpc64" if cfg!(target_endian = "little") => ("ppc64le", None),
            "loongarch64" => ("loong64", None),
            other => (other, None),
        };
        Platform {
            os: std::env::consts::OS.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        }
    }

    /// Whether this machine runs what is made for `offered`.
    pub(crate) fn runs(&self, offered: &Platform) -> bool {
        self.rank(offered).is_some()
    }

    /// How well `offered` runs here: higher is better, `None` is not at all.
    fn rank(&self, offered: &Platform) -> Option<u32> {
        if offered.os != self.os || offered.architecture != self.architecture {
            return None;
        }
        let number = |variant: &Option<String>| {
            variant
                .as_deref()
                .and_then(|v| v.strip_prefix('v'))
                .and_then(|v| v.parse::<u32>().ok())
        };
        match (number(&self.variant), number(&offered.variant)) {
            // A baseline without variant runs everywhere; amd64/v2 and up may not.
            (None, None) => Some(100),
            (None, Some(1)) => Some(99),
            (None, Some(_)) => None,
            (Some(_), None) => Some(50),
            (Some(own), Some(other)) if other <= own => Some(100 - (own - other).min(40)),
            (Some(_), Some(_)) => None,
        }
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        match &self.variant {
            Some(variant) => write!(f, "/{variant}"),
            None => Ok(()),
        }
    }
}

/// An image manifest.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

/// An index, or a Docker manifest list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

/// Either of the two.
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    /// Parses by content; the media type is only a hint, since many tools leave it out.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Document, String> {
        let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
        if value
            .get("schemaVersion")
            .and_then(serde_json::Value::as_u64)
            == Some(1)
        {
            return Err(
                "unsupported manifest schema 1; convert the image to OCI or Docker schema 2".into(),
            );
        }
        let has = |key: &str| value.get(key).is_some_and(|v| !v.is_null());
        // One document that is both is an attack: readers would disagree on what it is.
        match (has("manifests"), has("layers") || has("config")) {
            (true, false) => serde_json::from_value(value)
                .map(Document::Index)
                .map_err(|e| e.to_string()),
            (false, true) => serde_json::from_value(value)
                .map(Document::Manifest)
                .map_err(|e| e.to_string()),
            (true, true) => Err("both an index and a manifest".into()),
            (false, false) => Err("neither an index nor a manifest".into()),
        }
    }
}

impl Index {
    /// The manifest that fits `host` best.
    pub(crate) fn select(&self, host: &Platform) -> Option<&Descriptor> {
        let ranked = self
            .manifests
            .iter()
            .filter(|d| !is_attestation(d))
            .filter_map(|descriptor| {
                let rank = match &descriptor.platform {
                    Some(platform) => host.rank(platform)?,
                    // Without a platform only the configuration knows: take it when nothing is better.
                    None => 1,
                };
                Some((rank, descriptor))
            });
        // The first of equals, as the order of an index is its author's preference.
        ranked
            .rev()
            .max_by_key(|(rank, _)| *rank)
            .map(|(_, descriptor)| descriptor)
    }
}

fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor
        .annotations
        .get("vnd.docker.reference.type")
        .is_some_and(|t| t == "attestation-manifest")
}

/// Whether a layer of this media type holds a root file system.
pub(crate) fn is_layer(media_type: &str) -> bool {
    let base = media_type.split('+').next().unwrap_or_default();
    media_type.is_empty()
        || matches!(
            base,
            "application/vnd.oci.image.layer.v1.tar"
                | "application/vnd.oci.image.layer.nondistributable.v1.tar"
                | "application/vnd.docker.image.rootfs.diff.tar"
                | "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.docker.image.rootfs.diff.tar.zstd"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
        ) && matches!(
            media_type.split_once('+').map(|(_, suffix)| suffix),
            None | Some("gzip" | "zstd")
        )
}

/// Reads a configuration, forgiving what old builders leave out.
pub(crate) fn parse_config(bytes: &[u8]) -> Result<ImageConfiguration, String> {
    let mut value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| e.to_string())?;
    let object = value.as_object_mut().ok_or("not an object")?;
    let host = Platform::host();
    object.retain(|_, v| !v.is_null());
    object.entry("os").or_insert_with(|| host.os.into());
    object
        .entry("architecture")
        .or_insert_with(|| host.architecture.into());
    let rootfs = object
        .entry("rootfs")
        .or_insert_with(|| serde_json::json!({}));
    let rootfs = rootfs.as_object_mut().ok_or("rootfs is not an object")?;
    rootfs.retain(|_, v| !v.is_null());
    rootfs.entry("type").or_insert_with(|| "layers".into());
    rootfs
        .entry("diff_ids")
        .or_insert_with(|| serde_json::json!([]));
    serde_json::from_value(value).map_err(|e| e.to_string())
}

/// The digests of the uncompressed layers, lowest first.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>, String> {
    config
        .rootfs()
        .diff_ids()
        .iter()
        .map(|id| id.parse().map_err(|e| format!("{e}")))
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    use super::*;

    fn entry(os: &str, architecture: &str, variant: Option<&str>, id: u8) -> Descriptor {
        let mut descriptor = Descriptor::new(OCI_MANIFEST, Digest::of(&[id]), 1);
        descriptor.platform = Some(Platform {
            os: os.into(),
            architecture: architecture.into(),
            variant: variant.map(Into::into),
        });
        descriptor
    }

    #[test]
    fn the_best_platform_is_chosen() {
        let index = Index {
            schema_version: 2,
            media_type: OCI_INDEX.into(),
            manifests: vec![
                entry("windows", "amd64", None, 0),
                entry("linux", "amd64", Some("v3"), 1),
                entry("linux", "amd64", None, 2),
                entry("linux", "amd64", None, 3),
                entry("linux", "arm", Some("v5"), 4),
                entry("linux", "arm", Some("v7"), 5),
                entry("linux", "arm64", None, 6),
            ],
        };
        for (os, architecture, variant, expected) in [
            ("linux", "amd64", None, Some(2)),
            ("linux", "arm", Some("v7"), Some(5)),
            ("linux", "arm", Some("v6"), Some(4)),
            ("linux", "arm64", Some("v8"), Some(6)),
            ("linux", "s390x", None, None),
        ] {
            let host = Platform {
                os: os.into(),
                architecture: architecture.into(),
                variant: variant.map(Into::into),
            };
            let chosen = index.select(&host).map(|d| d.digest);
            assert_eq!(chosen, expected.map(|id: u8| Digest::of(&[id])), "{host}");
        }
    }

    #[test]
    fn a_document_is_what_it_holds() {
        let digest = Digest::of(b"");
        let manifest = format!(
            r#"{{"schemaVersion":2,"config":{{"digest":"{digest}","size":2}},"layers":[]}}"#
        );
        assert!(matches!(
            Document::parse(manifest.as_bytes()),
            Ok(Document::Manifest(_))
        ));
        assert!(Document::parse(br#"{"schemaVersion":2,"manifests":[],"layers":[]}"#).is_err());
        assert!(Document::parse(br#"{"schemaVersion":1,"fsLayers":[]}"#).is_err());
        assert!(
            parse_config(br#"{"config":{"Env":null,"Volumes":{"/d":{}}},"history":null}"#).is_ok()
        );
        assert!(is_layer("application/vnd.oci.image.layer.v1.tar+zstd"));
        assert!(!is_layer(
            "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"
        ));
        assert!(!is_layer("application/vnd.in-toto+json"));
    }
}
