//! Requests for certificates (PKCS#10): read, and their own signature checked.
//!
//! Invariant: a request is only read if whoever made it has the key that it is for.

use std::net::IpAddr;

use rustls_pki_types::pem::{PemObject as _, SectionKind};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer as _;

/// No request that is read is longer.
const REQUEST_LIMIT_BYTES: usize = 64 << 10;

/// Why a request cannot be used. The words are upstream's where it has some.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RequestError {
    /// It is no PEM of a request.
    #[error("PEM block type must be CERTIFICATE REQUEST")]
    Pem,
    /// It cannot be parsed.
    #[error("x509: malformed certificate request")]
    Malformed,
    /// It asks for a name that is none of a host, an address, an email or a URI.
    #[error("x509: unsupported subject alternative name")]
    Name,
    /// Its signature does not fit, or is of an algorithm that is not known.
    #[error("x509: certificate request was signed by an unknown or unsuited key")]
    Signature,
}

/// A request for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest {
    /// The subject's common name.
    pub common_name: String,
    /// The subject's organizations.
    pub organizations: Vec<String>,
    /// Host names that the certificate is to be for.
    pub dns_names: Vec<String>,
    /// Email addresses that it is to be for.
    pub emails: Vec<String>,
    /// URIs that it is to be for.
    pub uris: Vec<String>,
    /// Addresses that it is to be for.
    pub addresses: Vec<IpAddr>,
    /// The subject, DER.
    pub(crate) subject: Vec<u8>,
    /// The public key with its algorithm, DER.
    pub(crate) public_key: Vec<u8>,
    /// The value of the extension with the alternative names, DER.
    pub(crate) alternative_names: Option<Vec<u8>>,
}

impl SigningRequest {
    /// Reads a request (PEM) and checks its signature.
    ///
    /// # Errors
    /// [`RequestError`].
    pub fn parse(pem: &[u8]) -> Result<Self, RequestError> {
        if pem.len() > REQUEST_LIMIT_BYTES {
            return Err(RequestError::Pem);
        }
        let mut sections = <(SectionKind, Vec<u8>)>::pem_slice_iter(pem);
        let Some(Ok((SectionKind::Csr, der))) = sections.next() else {
            return Err(RequestError::Pem);
        };
        let (rest, request) =
            X509CertificationRequest::from_der(&der).map_err(|_| RequestError::Malformed)?;
        if !rest.is_empty() {
            return Err(RequestError::Malformed);
        }
        request
            .verify_signature()
            .map_err(|_| RequestError::Signature)?;
        let info = &request.certification_request_info;
        let mut read = Self {
            common_name: String::new(),
            organizations: Vec::new(),
            dns_names: Vec::new(),
            emails: Vec::new(),
            uris: Vec::new(),
            addresses: Vec::new(),
            subject: info.subject.as_raw().to_vec(),
            public_key: info.subject_pki.raw.to_vec(),
            alternative_names: None,
        };
        for name in info.subject.iter_common_name() {
            let name = name.as_str().map_err(|_| RequestError::Malformed)?;
            name.clone_into(&mut read.common_name);
        }
        for name in info.subject.iter_organization() {
            let name = name.as_str().map_err(|_| RequestError::Malformed)?;
            read.organizations.push(name.to_owned());
        }
        read.names(&request)?;
        Ok(read)
    }

    fn names(&mut self, request: &X509CertificationRequest<'_>) -> Result<(), RequestError> {
        let mut extensions = request.requested_extensions().into_iter().flatten();
        let Some(names) = extensions.find_map(|extension| match extension {
            ParsedExtension::SubjectAlternativeName(names) => Some(names),
            _ => None,
        }) else {
            return Ok(());
        };
        let mut encoded = Vec::new();
        for name in &names.general_names {
            let (tag, content) = match name {
                GeneralName::RFC822Name(text) => {
                    self.emails.push((*text).to_owned());
                    (0x81, text.as_bytes())
                }
                GeneralName::DNSName(text) => {
                    self.dns_names.push((*text).to_owned());
                    (0x82, text.as_bytes())
                }
                GeneralName::URI(text) => {
                    self.uris.push((*text).to_owned());
                    (0x86, text.as_bytes())
                }
                GeneralName::IPAddress(bytes) => {
                    self.addresses
                        .push(address(bytes).ok_or(RequestError::Malformed)?);
                    (0x87, *bytes)
                }
                _ => return Err(RequestError::Name),
            };
            encoded.extend(crate::der::element(tag, content));
        }
        self.alternative_names = Some(crate::der::element(0x30, &encoded));
        Ok(())
    }
}

/// When the first certificate of a chain (PEM) ends, in seconds since 1970.
pub fn certificate_end(pem: &[u8]) -> Option<i64> {
    let der = rustls_pki_types::CertificateDer::from_pem_slice(pem).ok()?;
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(&der).ok()?;
    Some(certificate.validity().not_after.timestamp())
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => Some(<[u8; 4]>::try_from(bytes).ok()?.into()),
        16 => Some(<[u8; 16]>::try_from(bytes).ok()?.into()),
        _ => None,
    }
}
