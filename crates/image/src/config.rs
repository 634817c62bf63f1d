//! The settings of the image store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::Auth;

/// Settings of [`crate::Images`].
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to ask before the registry itself, in order, by registry host as it stands in image
    /// names (`docker.io`, `registry.example.com:5000`); `*` is for registries without an entry.
    pub mirrors: BTreeMap<String, Vec<Mirror>>,
    /// Registries (`host` or `host:port`) that may be spoken to by plain HTTP.
    ///
    /// Loopback registries (`localhost`, `127.0.0.0/8`, `::1`) always count as such, as they do
    /// for Docker and containerd. HTTP is tried first; a server that answers that it wants TLS
    /// gets TLS with a verified certificate.
    pub insecure_registries: Vec<String>,
    /// PEM files with certificate authorities trusted beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// How many layers of all pulls together are downloaded and unpacked at once.
    pub max_parallel: usize,
    /// Images used within this time are never collected: a pod may be about to start from one.
    pub min_image_age: Duration,
    /// Bounds for what a single layer may hold.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Config {
        Config {
            mirrors: BTreeMap::new(),
            insecure_registries: Vec::new(),
            ca_files: Vec::new(),
            max_parallel: 3,
            min_image_age: Duration::from_secs(120),
            limits: Limits::default(),
        }
    }
}

/// One mirror of a registry.
#[derive(Debug, Clone)]
pub struct Mirror {
    /// Its base, `https://mirror.example.com[:port][/path]`; `/v2/…` is appended. A URL with
    /// `http://` is spoken to by plain HTTP, because it says so.
    pub url: String,
    /// Credentials for the mirror. Those of the registry itself are never sent to a mirror.
    pub auth: Option<Auth>,
}

/// Bounds against archives made to exhaust a disk or a file table.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Most entries in one layer.
    pub max_entries: u64,
    /// Most bytes of one layer after decompression.
    pub max_unpacked_bytes: u64,
    /// Most bytes of one blob as it comes from a registry.
    pub max_blob_bytes: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_entries: 4_000_000,
            max_unpacked_bytes: 256 << 30,
            max_blob_bytes: 128 << 30,
        }
    }
}
