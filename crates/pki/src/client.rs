//! The TLS side of a client: whom it trusts, and as whom it comes.
//!
//! Invariant: a certificate is only accepted for a name that it carries, and within its time,
//! unless verification is off as a whole.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use rustls_pki_types::pem::PemObject as _;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::provider::provider;
use crate::tls::{certificates, roots};
use crate::{KeyPair, PkiError};

/// Whose certificates a client accepts.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Trust {
    /// Those of the authorities that the system knows.
    System,
    /// Those of these authorities (PEM, one or more), and these certificates themselves.
    Authorities(String),
    /// Any. For what an administrator has said so of.
    Anything,
}

/// A client configuration without ALPN protocols, which are the caller's to add.
///
/// # Errors
/// The authorities or the pair are of no use.
pub fn client_tls(trust: &Trust, identity: Option<&KeyPair>) -> Result<ClientConfig, PkiError> {
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| PkiError::Tls { source })?;
    let verifier: Arc<dyn ServerCertVerifier> = match trust {
        Trust::Anything => Arc::new(Unverified(provider())),
        Trust::System => Arc::new(Pinning::new(system_roots(), Vec::new())?),
        Trust::Authorities(pem) => Arc::new(Pinning::new(roots(pem)?, certificates(pem)?)?),
    };
    let builder = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    let Some(pair) = identity else {
        return Ok(builder.with_no_client_auth());
    };
    let key = PrivateKeyDer::from_pem_slice(pair.key_pem.as_bytes()).map_err(|_malformed| {
        PkiError::Pem {
            expected: "a private key",
        }
    })?;
    builder
        .with_client_auth_cert(certificates(&pair.cert_pem)?, key)
        .map_err(|source| PkiError::Tls { source })
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // A host may have none: then nobody is trusted.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Verifies by authorities, and accepts a certificate that is itself among them: a server with a
/// self-signed certificate is trusted by naming that one.
#[derive(Debug)]
struct Pinning {
    chains: Option<Arc<WebPkiServerVerifier>>,
    pinned: Vec<CertificateDer<'static>>,
    provider: Arc<CryptoProvider>,
}

impl Pinning {
    fn new(roots: RootCertStore, pinned: Vec<CertificateDer<'static>>) -> Result<Self, PkiError> {
        let provider = provider();
        let chains = if roots.is_empty() {
            None
        } else {
            let builder =
                WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider.clone());
            let built = builder.build();
            Some(built.map_err(|source| PkiError::ClientAuthority { source })?)
        };
        Ok(Self {
            chains,
            pinned,
            provider,
        })
    }

    fn is_pinned(&self, end: &CertificateDer<'_>, name: &ServerName<'_>, now: UnixTime) -> bool {
        let in_time = || {
            let (_, certificate) = X509Certificate::from_der(end).ok()?;
            let validity = certificate.validity();
            let now = i64::try_from(now.as_secs()).ok()?;
            Some((validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now))
        };
        let named = || {
            let parsed = ParsedCertificate::try_from(end).ok()?;
            rustls::client::verify_server_name(&parsed, name).ok()
        };
        self.pinned.iter().any(|pinned| pinned == end)
            && in_time() == Some(true)
            && named().is_some()
    }
}

impl ServerCertVerifier for Pinning {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let verified = match &self.chains {
            Some(chains) => chains.verify_server_cert(
                end_entity,
                intermediates,
                server_name,
                ocsp_response,
                now,
            ),
            None => Err(rustls::CertificateError::UnknownIssuer.into()),
        };
        match verified {
            Err(_) if self.is_pinned(end_entity, server_name, now) => {
                Ok(ServerCertVerified::assertion())
            }
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        let algorithms = &self.provider.signature_verification_algorithms;
        algorithms.supported_schemes()
    }
}

/// Accepts every certificate whose key the server holds.
#[derive(Debug)]
struct Unverified(Arc<CryptoProvider>);

impl ServerCertVerifier for Unverified {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
