//! The TLS side of a server. Its certificate can be replaced while connections are served: each
//! handshake uses the newest.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::provider::provider;
use crate::{KeyPair, PkiError};

/// A server configuration for HTTP/2 and HTTP/1.1. Clones share the certificate.
#[derive(Debug, Clone)]
pub struct ServerTls {
    config: Arc<ServerConfig>,
    current: Arc<Current>,
}

impl ServerTls {
    /// A configuration that presents `pair`. With `client_authorities` (PEM, one or more) clients may
    /// present a certificate, which must then be one of theirs; they need not.
    ///
    /// # Errors
    /// The pair does not belong together, or the authorities are of no use.
    pub fn new(pair: &KeyPair, client_authorities: Option<&str>) -> Result<ServerTls, PkiError> {
        let current = Arc::new(Current(RwLock::new(certified(pair)?)));
        let builder = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .map_err(|source| PkiError::Tls { source })?;
        let builder = match client_authorities {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider())
                        .allow_unauthenticated()
                        .build()
                        .map_err(|source| PkiError::ClientAuthority { source })?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_cert_resolver(current.clone());
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(ServerTls {
            config: Arc::new(config),
            current,
        })
    }

    /// The configuration, for an acceptor.
    pub fn config(&self) -> Arc<ServerConfig> {
        self.config.clone()
    }

    /// Presents another certificate from the next handshake on.
    ///
    /// # Errors
    /// The pair does not belong together; the old one stays.
    pub fn replace(&self, pair: &KeyPair) -> Result<(), PkiError> {
        let certified = certified(pair)?;
        *self
            .current
            .0
            .write()
            .unwrap_or_else(PoisonError::into_inner) = certified;
        Ok(())
    }
}

#[derive(Debug)]
struct Current(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(
            self.0
                .read()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
        )
    }
}

fn certified(pair: &KeyPair) -> Result<Arc<CertifiedKey>, PkiError> {
    let chain = certificates(&pair.cert_pem)?;
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(|_malformed| {
        PkiError::Pem {
            expected: "a private key",
        }
    })?;
    let certified = CertifiedKey::from_der(chain, key, &provider())
        .map_err(|source| PkiError::Tls { source })?;
    Ok(Arc::new(certified))
}

pub(crate) fn roots(pem: &str) -> Result<RootCertStore, PkiError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(pem)? {
        roots
            .add(certificate)
            .map_err(|source| PkiError::Tls { source })?;
    }
    Ok(roots)
}

pub(crate) fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, PkiError> {
    let malformed = PkiError::Pem {
        expected: "a chain of certificates",
    };
    match CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(certificates),
        _ => Err(malformed),
    }
}
