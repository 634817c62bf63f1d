//! HTTP clients and their TLS: made at first use, so that starting costs nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;

use super::RegistryError;
use crate::store::lock;

/// Where distributions keep the certificate authorities that they trust.
const SYSTEM_BUNDLES: [&str; 6] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/ssl/cert.pem",
];
const CONNECT_TIMEOUT: Duration = Duration::from_secs(30);
/// A transfer that makes no progress for so long is broken off; the kubelet uses the same.
const STALL_TIMEOUT: Duration = Duration::from_secs(60);

/// The clients of a store: one that uses proxies from the environment, one that never does.
#[derive(Debug)]
pub(crate) struct Clients {
    ca_files: Vec<PathBuf>,
    proxied: Mutex<Option<reqwest::Client>>,
    direct: Mutex<Option<reqwest::Client>>,
}

impl Clients {
    pub(crate) fn new(ca_files: &[PathBuf]) -> Clients {
        Clients {
            ca_files: ca_files.to_vec(),
            proxied: Mutex::default(),
            direct: Mutex::default(),
        }
    }

    /// The client for a host; a loopback host is never reached through a proxy.
    pub(crate) fn get(&self, loopback: bool) -> Result<reqwest::Client, RegistryError> {
        let mut slot = lock(if loopback {
            &self.direct
        } else {
            &self.proxied
        });
        if let Some(client) = &*slot {
            return Ok(client.clone());
        }
        let mut builder = reqwest::Client::builder()
            .tls_backend_preconfigured(tls(&self.ca_files)?)
            .user_agent(concat!("knarr/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .read_timeout(STALL_TIMEOUT);
        if loopback {
            builder = builder.no_proxy();
        }
        let client = builder.build().map_err(|source| RegistryError::Setup {
            source: Arc::new(source),
        })?;
        Ok(slot.insert(client).clone())
    }
}

/// Trusts the system's authorities and the configured ones. No authorities at all is no error
/// yet: plain HTTP must work, and TLS says itself what is missing.
fn tls(ca_files: &[PathBuf]) -> Result<rustls::ClientConfig, RegistryError> {
    let mut roots = rustls::RootCertStore::empty();
    if let Some(bundle) = SYSTEM_BUNDLES
        .iter()
        .map(Path::new)
        .find(|path| path.exists())
    {
        match certificates(bundle) {
            Ok(certificates) => drop(roots.add_parsable_certificates(certificates)),
            Err(problem) => {
                tracing::warn!(path = %bundle.display(), problem, "cannot use the system's authorities")
            }
        }
    }
    for path in ca_files {
        let fail = |problem| RegistryError::CaFile {
            path: path.clone(),
            problem,
        };
        let certificates = certificates(path).map_err(fail)?;
        let (added, _) = roots.add_parsable_certificates(certificates);
        if added == 0 {
            return Err(fail("no certificate in it".into()));
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| RegistryError::Protocol {
            url: "tls".into(),
            problem: error.to_string(),
        })?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let pem = fs::read(path).map_err(|error| error.to_string())?;
    CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())
}

/// Reads a body into memory, up to `limit` bytes.
pub(crate) async fn read_limited(
    mut response: reqwest::Response,
    limit: u64,
) -> Result<Bytes, RegistryError> {
    let url = response.url().to_string();
    let mut bytes = BytesMut::new();
    loop {
        match response.chunk().await {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return Ok(bytes.freeze()),
            Err(source) => {
                return Err(RegistryError::Request {
                    method: "Get".into(),
                    url,
                    source: Arc::new(source.without_url()),
                });
            }
        }
        if bytes.len() as u64 > limit {
            return Err(RegistryError::TooLarge { url, limit });
        }
    }
}

/// What an error answer says, on one line and not too long.
pub(crate) async fn error_message(response: reqwest::Response) -> String {
    let bytes = read_limited(response, 64 << 10).await.unwrap_or_default();
    let from_json = serde_json::from_slice::<serde_json::Value>(&bytes)
        .ok()
        .and_then(|value| {
            let first = value.get("errors")?.get(0)?;
            let text = |key: &str| {
                first
                    .get(key)
                    .and_then(serde_json::Value::as_str)
                    .unwrap_or_default()
            };
            Some(format!(
                "{}: {}",
                text("code").to_lowercase(),
                text("message")
            ))
        });
    let text = from_json.unwrap_or_else(|| String::from_utf8_lossy(&bytes).into_owned());
    text.split_whitespace()
        .collect::<Vec<_>>()
        .join(" ")
        .chars()
        .take(300)
        .collect()
}

/// Whether a host (with or without port) is this machine.
pub(crate) fn is_loopback(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((literal, _)) => literal,
        None => host.split(':').next().unwrap_or(host),
    };
    name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
