//! Certificates for keys of others, as CertificateSigningRequests ask for them.
//!
//! Invariants: subject, key and alternative names are those of the request, byte for byte; nothing
//! else of the request gets into the certificate; it is no authority, and does not outlive ours.

use std::time::Duration;

use rcgen::SigningKey as _;
use ring::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use ring::rand::{SecureRandom as _, SystemRandom};
use time::OffsetDateTime;

use crate::authority::{Authority, SKEW};
use crate::der::{element, extension, integer, sequence, time};
use crate::{PkiError, SigningRequest};

/// Certificates that live shorter than this end when they were asked to; others a little earlier, by
/// as much as they begin earlier.
const SHORT: Duration = Duration::from_secs(8 * 60 * 60);
/// No authority of ours lives longer.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 60 * 60);
/// `ecdsa-with-SHA256`.
const ALGORITHM: &[u8] = &[0x30, 0x0a, 6, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, 2];

/// The bit of a key usage, from the left.
fn key_usage(name: &str) -> Option<u8> {
    Some(match name {
        "signing" | "digital signature" => 0,
        "content commitment" => 1,
        "key encipherment" => 2,
        "data encipherment" => 3,
        "key agreement" => 4,
        "cert sign" => 5,
        "crl sign" => 6,
        "encipher only" => 7,
        "decipher only" => 8,
        _ => return None,
    })
}

/// The identifier of an extended key usage.
fn extended_usage(name: &str) -> Option<&'static [u8]> {
    Some(match name {
        "any" => &[0x55, 0x1d, 0x25, 0],
        "server auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 1],
        "client auth" => &[0x2b, 6, 1, 5, 5, 7, 3, 2],
        "code signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 3],
        "email protection" | "s/mime" => &[0x2b, 6, 1, 5, 5, 7, 3, 4],
        "ipsec end system" => &[0x2b, 6, 1, 5, 5, 7, 3, 5],
        "ipsec tunnel" => &[0x2b, 6, 1, 5, 5, 7, 3, 6],
        "ipsec user" => &[0x2b, 6, 1, 5, 5, 7, 3, 7],
        "timestamping" => &[0x2b, 6, 1, 5, 5, 7, 3, 8],
        "ocsp signing" => &[0x2b, 6, 1, 5, 5, 7, 3, 9],
        "microsoft sgc" => &[0x2b, 6, 1, 4, 1, 0x82, 0x37, 0x0a, 3, 3],
        "netscape sgc" => &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 4, 1],
        _ => return None,
    })
}

impl Authority {
    /// Signs a request for these usages, named as CertificateSigningRequests name them; gives the
    /// certificate, PEM.
    ///
    /// # Errors
    /// A usage is not known, or the system gives no randomness.
    pub fn sign(
        &self,
        request: &SigningRequest,
        usages: &[String],
        lifetime: Duration,
    ) -> Result<String, PkiError> {
        let refused = |fault| PkiError::Request { fault };
        let now = OffsetDateTime::now_utc();
        let lifetime = lifetime.min(LONGEST);
        let backdated = if lifetime < SHORT {
            lifetime
        } else {
            lifetime - SKEW
        };
        let (begin, end) = (now - SKEW, (now + backdated).min(self.not_after()));
        let mut serial = [0; 16];
        SystemRandom::new()
            .fill(&mut serial)
            .map_err(|_| refused("no randomness"))?;
        serial[0] &= 0x7f;
        let certificate = sequence(&[
            // Version 3.
            &[0xa0, 3, 2, 1, 2],
            &integer(&serial),
            ALGORITHM,
            self.subject(),
            &sequence(&[&time(begin), &time(end)]),
            &request.subject,
            &request.public_key,
            &element(0xa3, &self.extensions(request, usages)?),
        ]);
        let signature = self
            .key()
            .sign(&certificate)
            .map_err(|source| PkiError::Issue {
                common_name: request.common_name.clone(),
                source,
            })?;
        let mut bits = vec![0];
        bits.extend(signature);
        let whole = sequence(&[&certificate, ALGORITHM, &element(3, &bits)]);
        Ok(pem(&whole))
    }

    fn extensions(&self, request: &SigningRequest, usages: &[String]) -> Result<Vec<u8>, PkiError> {
        let (mut bits, mut extended) = (0u16, Vec::new());
        for usage in usages {
            match (key_usage(usage), extended_usage(usage)) {
                (Some(bit), _) => bits |= 0x8000 >> bit,
                (_, Some(identifier)) => extended.extend(element(6, identifier)),
                _ => {
                    return Err(PkiError::Request {
                        fault: "a usage is not known",
                    });
                }
            }
        }
        let mut all = Vec::new();
        if bits != 0 {
            let bytes = bits.to_be_bytes();
            let used = if bytes[1] == 0 {
                &bytes[..1]
            } else {
                &bytes[..]
            };
            let unused = used.last().map_or(0, |last| last.trailing_zeros());
            let mut content = vec![u8::try_from(unused).unwrap_or(0)];
            content.extend_from_slice(used);
            all.extend(extension(&[0x55, 0x1d, 0x0f], true, &element(3, &content)));
        }
        if !extended.is_empty() {
            let value = element(0x30, &extended);
            all.extend(extension(&[0x55, 0x1d, 0x25], false, &value));
        }
        // No authority.
        all.extend(extension(&[0x55, 0x1d, 0x13], true, &[0x30, 0]));
        if let Some(own) = self.key_identifier() {
            let value = sequence(&[&element(0x80, &own)]);
            all.extend(extension(&[0x55, 0x1d, 0x23], false, &value));
        }
        let id = digest(&SHA1_FOR_LEGACY_USE_ONLY, &request.public_key);
        let value = element(4, id.as_ref());
        all.extend(extension(&[0x55, 0x1d, 0x0e], false, &value));
        if let Some(names) = &request.alternative_names {
            // Without a subject the names are all that there is.
            let critical = request.subject.as_slice() == [0x30, 0];
            all.extend(extension(&[0x55, 0x1d, 0x11], critical, names));
        }
        Ok(element(0x30, &all))
    }
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}
