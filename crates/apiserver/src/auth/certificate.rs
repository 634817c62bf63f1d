//! Client certificates: who they stand for. Each is read once, when its connection begins.

use std::sync::Arc;

use jiff::Timestamp;
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::authn::AuthnError;
use super::user::{AUTHENTICATED, User};

/// The verified client certificate of a connection, as a request extension.
#[derive(Clone, Debug)]
pub struct PeerCertificate(Arc<Result<Subject, &'static str>>);

/// Whom a certificate stands for, and from when to when, in seconds since 1970.
#[derive(Debug)]
struct Subject {
    user: User,
    not_before: i64,
    not_after: i64,
}

impl PeerCertificate {
    /// Reads a certificate (DER) that the TLS handshake has verified.
    pub fn new(der: &[u8]) -> Self {
        Self(Arc::new(Subject::read(der)))
    }

    /// The user: the common name, with the organizations as groups.
    ///
    /// # Errors
    /// The certificate cannot be read, names nobody, or is out of its time: a connection may outlive
    /// the certificate that it was made with.
    pub(super) fn user(&self, now: Timestamp) -> Result<User, AuthnError> {
        let fault = |fault| AuthnError::Certificate { fault };
        let subject = self.0.as_ref().as_ref().map_err(|what| fault(what))?;
        if (subject.not_before..=subject.not_after).contains(&now.as_second()) {
            Ok(subject.user.clone())
        } else {
            Err(fault("has expired or is not yet valid"))
        }
    }
}

impl Subject {
    fn read(der: &[u8]) -> Result<Self, &'static str> {
        let (_, certificate) = X509Certificate::from_der(der).map_err(|_| "cannot be read")?;
        let name = name(&certificate).ok_or("has no common name")?;
        let organizations = certificate.subject().iter_organization();
        let mut groups: Vec<String> = organizations
            .filter_map(|name| name.as_str().ok())
            .map(str::to_owned)
            .collect();
        if !groups.iter().any(|group| group == AUTHENTICATED) {
            groups.push(AUTHENTICATED.to_owned());
        }
        let id = format!("X509SHA256={}", hex::encode(Sha256::digest(der)));
        let extra = [(
            "authentication.kubernetes.io/credential-id".to_owned(),
            vec![id],
        )];
        let validity = certificate.validity();
        Ok(Self {
            user: User {
                name,
                uid: String::new(),
                groups,
                extra: extra.into(),
            },
            not_before: validity.not_before.timestamp(),
            not_after: validity.not_after.timestamp(),
        })
    }
}

/// The common name of a certificate (DER).
pub(crate) fn common_name(der: &[u8]) -> Option<String> {
    name(&X509Certificate::from_der(der).ok()?.1)
}

fn name(certificate: &X509Certificate<'_>) -> Option<String> {
    let names = certificate.subject().iter_common_name();
    let name = names.filter_map(|name| name.as_str().ok()).last();
    name.filter(|name| !name.is_empty()).map(str::to_owned)
}
