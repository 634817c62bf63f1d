//! Whose certificates a client has come with: for servers that take those of several authorities and
//! must tell them apart.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::PkiError;
use crate::provider::provider;
use crate::tls::{certificates, roots};

/// Whether a text is a bundle of certificates (PEM, one or more) that can be authorities.
pub fn is_certificate_bundle(pem: &str) -> bool {
    certificates(pem).is_ok() && roots(pem).is_ok()
}

/// One authority of clients, or several.
#[derive(Debug, Clone)]
pub struct ClientAuthority(Arc<dyn ClientCertVerifier>);

impl ClientAuthority {
    /// Authorities of a bundle (PEM).
    ///
    /// # Errors
    /// The bundle is of no use.
    pub fn new(pem: &str) -> Result<Self, PkiError> {
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots(pem)?), provider())
                .build()
                .map_err(|source| PkiError::ClientAuthority { source })?;
        Ok(Self(verifier))
    }

    /// Whether a chain, the client's own certificate first, leads to these authorities and holds
    /// now. That the client has the key is for the handshake to say.
    pub fn has_signed(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((end, between)) = chain.split_first() else {
            return false;
        };
        self.0
            .verify_client_cert(end, between, UnixTime::now())
            .is_ok()
    }
}
