//! The certificate authority of a cluster: an EC P-256 key and a self-signed certificate in a folder.

use std::path::Path;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::file::{make_folder, pair_paths, read, write_private};
use crate::{KeyPair, Leaf, PkiError, San, Usage};

/// Ten years.
const LIFETIME: Duration = Duration::from_secs(3653 * 24 * 60 * 60);
/// Certificates are valid from a little earlier, for clocks that are behind.
pub(crate) const SKEW: Duration = Duration::from_secs(300);

/// How many organizations a subject can have here.
const MOST_ORGANIZATIONS: usize = 2;

/// An authority that issues certificates.
#[derive(Debug)]
pub struct Authority {
    certificate_pem: String,
    public_key: Vec<u8>,
    subject: Vec<u8>,
    not_after: OffsetDateTime,
    issuer: Issuer<'static, rcgen::KeyPair>,
}

impl Authority {
    /// Reads `ca.crt` and `ca.key` in a folder, or makes them.
    ///
    /// # Errors
    /// A file cannot be read or written, or holds no valid authority. Nothing that exists is
    /// overwritten.
    pub fn load_or_create(folder: &Path) -> Result<Authority, PkiError> {
        make_folder(folder)?;
        let (certificate_path, key_path) = pair_paths(folder, "ca");
        let certificate_pem = read(&certificate_path)?;
        let key = match read(&key_path)? {
            Some(pem) => {
                rcgen::KeyPair::from_pem(&pem).map_err(|_unreadable| PkiError::Invalid {
                    path: key_path.clone(),
                    fault: "holds no private key",
                })?
            }
            None if certificate_pem.is_some() => {
                return Err(PkiError::KeyMissing {
                    certificate: certificate_path,
                    key: key_path,
                });
            }
            None => {
                let key = generate("ca")?;
                write_private(&key_path, key.serialize_pem().as_bytes())?;
                key
            }
        };
        let certificate_pem = match certificate_pem {
            Some(pem) => pem,
            // The key is new, or all that an interrupted start left behind.
            None => {
                let pem = self_signed(&key)?;
                write_private(&certificate_path, pem.as_bytes())?;
                pem
            }
        };
        Authority::new(certificate_pem, key, &certificate_path)
    }

    fn new(
        certificate_pem: String,
        key: rcgen::KeyPair,
        path: &Path,
    ) -> Result<Authority, PkiError> {
        let invalid = |fault| PkiError::Invalid {
            path: path.to_owned(),
            fault,
        };
        let der = certificate_der(&certificate_pem).ok_or(invalid("holds no certificate"))?;
        let (_, certificate) = X509Certificate::from_der(&der)
            .map_err(|_malformed| invalid("holds no certificate"))?;
        if !certificate.is_ca() {
            return Err(invalid("is not the certificate of an authority"));
        }
        let public_key = certificate.public_key().subject_public_key.data.to_vec();
        if public_key != key.public_key_raw() {
            return Err(invalid("does not belong to the key beside it"));
        }
        let not_after = certificate.validity().not_after.to_datetime();
        if not_after <= OffsetDateTime::now_utc() {
            return Err(invalid("has expired"));
        }
        let subject = certificate.subject().as_raw().to_vec();
        let issuer = Issuer::from_ca_cert_pem(&certificate_pem, key)
            .map_err(|_unusable| invalid("cannot be used to issue certificates"))?;
        Ok(Authority {
            certificate_pem,
            public_key,
            subject,
            not_after,
            issuer,
        })
    }

    /// The authority's certificate, PEM.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// Issues a certificate for a fresh EC P-256 key. It does not outlive the authority's own.
    ///
    /// # Errors
    /// A name cannot be expressed in a certificate, or the system gives no randomness.
    pub fn issue(&self, leaf: &Leaf) -> Result<KeyPair, PkiError> {
        let failed = |source| PkiError::Issue {
            common_name: leaf.common_name.clone(),
            source,
        };
        if leaf.organizations.len() > MOST_ORGANIZATIONS {
            return Err(PkiError::TooManyOrganizations {
                common_name: leaf.common_name.clone(),
                count: leaf.organizations.len(),
                most: MOST_ORGANIZATIONS,
            });
        }
        let key = generate(&leaf.common_name)?;
        let now = OffsetDateTime::now_utc();
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(&leaf.common_name, &leaf.organizations);
        params.not_before = now - SKEW;
        params.not_after = (now + leaf.lifetime).min(self.not_after);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![match leaf.usage {
            Usage::Server => ExtendedKeyUsagePurpose::ServerAuth,
            Usage::Client => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        params.use_authority_key_identifier_extension = true;
        for san in &leaf.sans {
            params.subject_alt_names.push(match san {
                San::Dns(name) => SanType::DnsName(name.as_str().try_into().map_err(failed)?),
                San::Ip(address) => SanType::IpAddress(*address),
            });
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(KeyPair {
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
        })
    }

    /// When this authority ends.
    pub(crate) fn not_after(&self) -> OffsetDateTime {
        self.not_after
    }

    /// Its name, DER.
    pub(crate) fn subject(&self) -> &[u8] {
        &self.subject
    }

    pub(crate) fn key(&self) -> &rcgen::KeyPair {
        self.issuer.key()
    }

    /// By what its certificate says that its key is known.
    pub(crate) fn key_identifier(&self) -> Option<Vec<u8>> {
        let der = certificate_der(&self.certificate_pem)?;
        let (_, certificate) = X509Certificate::from_der(&der).ok()?;
        certificate
            .iter_extensions()
            .find_map(|extension| match extension.parsed_extension() {
                x509_parser::extensions::ParsedExtension::SubjectKeyIdentifier(id) => {
                    Some(id.0.to_vec())
                }
                _ => None,
            })
    }

    /// Whether this authority's key signed a certificate in its name.
    pub(crate) fn has_issued(&self, certificate: &X509Certificate<'_>) -> bool {
        let key = ring::signature::UnparsedPublicKey::new(
            &ring::signature::ECDSA_P256_SHA256_ASN1,
            &self.public_key,
        );
        certificate.issuer().as_raw() == self.subject
            && key
                .verify(
                    certificate.tbs_certificate.as_ref(),
                    &certificate.signature_value.data,
                )
                .is_ok()
    }
}

fn generate(common_name: &str) -> Result<rcgen::KeyPair, PkiError> {
    rcgen::KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(|source| PkiError::Issue {
        common_name: common_name.to_owned(),
        source,
    })
}

fn self_signed(key: &rcgen::KeyPair) -> Result<String, PkiError> {
    let now = OffsetDateTime::now_utc();
    // The time tells one authority from the next where somebody has both.
    let common_name = format!("knarr-ca@{}", now.unix_timestamp());
    let mut params = CertificateParams::default();
    params.distinguished_name = subject(&common_name, &[]);
    params.not_before = now - SKEW;
    params.not_after = now + LIFETIME;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
    ];
    match params.self_signed(key) {
        Ok(certificate) => Ok(certificate.pem()),
        Err(source) => Err(PkiError::Issue {
            common_name,
            source,
        }),
    }
}

fn subject(common_name: &str, organizations: &[String]) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    // The library keeps one value a type; the same object identifier spelled out is another type to it.
    let types = [
        DnType::OrganizationName,
        DnType::CustomDnType(vec![2, 5, 4, 10]),
    ];
    for (kind, organization) in types.into_iter().zip(organizations) {
        name.push(kind, organization.as_str());
    }
    name.push(DnType::CommonName, common_name);
    name
}

pub(crate) fn certificate_der(pem: &str) -> Option<Vec<u8>> {
    use rustls_pki_types::pem::PemObject as _;
    rustls_pki_types::CertificateDer::from_pem_slice(pem.as_bytes())
        .ok()
        .map(|der| der.to_vec())
}
