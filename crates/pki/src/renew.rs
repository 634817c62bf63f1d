//! Renewal: a leaf on disk is kept while it is valid, says what it should, and has more than a third
//! of its lifetime left; else it is issued again.

use std::path::Path;
use std::time::SystemTime;

use time::OffsetDateTime;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::{SKEW, certificate_der};
use crate::file::{make_folder, pair_paths, read, write_private};
use crate::{Authority, KeyPair, Leaf, PkiError, San, Usage};

/// What [`renew_if_due`] found or made.
#[derive(Debug, Clone)]
pub struct Renewal {
    /// The pair that is on disk now.
    pub pair: KeyPair,
    /// Whether it was issued just now.
    pub renewed: bool,
    /// When it will be due: the time to call again.
    pub due: SystemTime,
}

/// Reads `<name>.crt` and `<name>.key` in a folder, and issues them where they are missing, damaged,
/// of another authority, not what `leaf` says, or in the last third of their lifetime.
///
/// # Errors
/// A file cannot be read or written, or the leaf cannot be issued.
pub fn renew_if_due(
    authority: &Authority,
    folder: &Path,
    name: &str,
    leaf: &Leaf,
) -> Result<Renewal, PkiError> {
    make_folder(folder)?;
    let (certificate_path, key_path) = pair_paths(folder, name);
    if let (Some(cert_pem), Some(key_pem)) =
        (read_damaged(&certificate_path)?, read_damaged(&key_path)?)
    {
        let pair = KeyPair { cert_pem, key_pem };
        if let Some(due) = due(authority, &pair, leaf)
            && due > OffsetDateTime::now_utc()
        {
            return Ok(Renewal {
                pair,
                renewed: false,
                due: due.into(),
            });
        }
    }
    let pair = authority.issue(leaf)?;
    // A crash in between leaves a key that does not fit the certificate, which the next call renews.
    write_private(&key_path, pair.key_pem.as_bytes())?;
    write_private(&certificate_path, pair.cert_pem.as_bytes())?;
    let due = due(authority, &pair, leaf).ok_or(PkiError::Pem {
        expected: "the certificate that was issued",
    })?;
    Ok(Renewal {
        pair,
        renewed: true,
        due: due.into(),
    })
}

/// What is damaged is renewed like what is missing.
fn read_damaged(path: &Path) -> Result<Option<String>, PkiError> {
    match read(path) {
        Err(PkiError::Invalid { .. }) => Ok(None),
        result => result,
    }
}

/// When a pair is due; `None` when it is not the pair of this leaf.
fn due(authority: &Authority, pair: &KeyPair, leaf: &Leaf) -> Option<OffsetDateTime> {
    let der = certificate_der(&pair.cert_pem)?;
    let (_, certificate) = X509Certificate::from_der(&der).ok()?;
    let key = rcgen::KeyPair::from_pem(&pair.key_pem).ok()?;
    let fits = certificate.public_key().subject_public_key.data.as_ref() == key.public_key_raw()
        && authority.has_issued(&certificate)
        && says(&certificate, leaf)?;
    let (from, to) = (
        certificate.validity().not_before.to_datetime(),
        certificate.validity().not_after.to_datetime(),
    );
    // The part before it was issued is for clocks that are behind, no lifetime.
    fits.then(|| to - (to - from - SKEW) / 3)
}

fn says(certificate: &X509Certificate<'_>, leaf: &Leaf) -> Option<bool> {
    let mut names = certificate
        .subject()
        .iter_common_name()
        .filter_map(|name| name.as_str().ok());
    let organizations: Vec<&str> = certificate
        .subject()
        .iter_organization()
        .filter_map(|name| name.as_str().ok())
        .collect();
    let usage = certificate.extended_key_usage().ok()??.value;
    let usage_fits = match leaf.usage {
        Usage::Server => usage.server_auth,
        Usage::Client => usage.client_auth,
    };
    let mut sans = Vec::new();
    if let Some(extension) = certificate.subject_alternative_name().ok()? {
        for name in &extension.value.general_names {
            sans.push(match name {
                GeneralName::DNSName(name) => San::Dns((*name).to_owned()),
                GeneralName::IPAddress(bytes) => San::Ip(address(bytes)?),
                _ => return Some(false),
            });
        }
    }
    let mut wanted = leaf.sans.clone();
    sans.sort();
    wanted.sort();
    Some(
        names.next() == Some(&leaf.common_name)
            && organizations == leaf.organizations
            && usage_fits
            && sans == wanted,
    )
}

fn address(bytes: &[u8]) -> Option<std::net::IpAddr> {
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(Into::into),
        _ => <[u8; 16]>::try_from(bytes).ok().map(Into::into),
    }
}
