//! What can go wrong with keys and certificates. The file at fault is named.

use std::io;
use std::path::PathBuf;

/// A key or certificate cannot be made, read or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// A file cannot be read or written.
    #[error("{action} {}", path.display())]
    Io {
        /// What was attempted.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{} {fault}; restore it from a backup, or move it away to have a new one made", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        fault: &'static str,
    },
    /// The certificate of an authority without its key.
    #[error("{} exists but {} does not; restore the key, or move the certificate away to start a new authority", certificate.display(), key.display())]
    KeyMissing {
        /// The certificate's file.
        certificate: PathBuf,
        /// Where the key should be.
        key: PathBuf,
    },
    /// A certificate cannot be made.
    #[error("make the certificate of {common_name}")]
    Issue {
        /// Whose certificate.
        common_name: String,
        /// Why it failed.
        source: rcgen::Error,
    },
    /// More organizations than a subject can have.
    #[error(
        "the certificate of {common_name} has {count} organizations; at most {most} are possible"
    )]
    TooManyOrganizations {
        /// Whose certificate.
        common_name: String,
        /// How many were asked for.
        count: usize,
        /// How many are possible.
        most: usize,
    },
    /// PEM text that is not a certificate and key that belong together.
    #[error("the PEM text is not {expected}")]
    Pem {
        /// What it should be.
        expected: &'static str,
    },
    /// A request for a certificate cannot be signed as it is.
    #[error("sign the request for a certificate: {fault}")]
    Request {
        /// What is wrong.
        fault: &'static str,
    },
    /// TLS does not accept the certificate or key.
    #[error("use the certificate for TLS")]
    Tls {
        /// Why.
        source: rustls::Error,
    },
    /// The certificates against which clients are verified are of no use.
    #[error("use the client authority for TLS")]
    ClientAuthority {
        /// Why.
        source: rustls::server::VerifierBuilderError,
    },
    /// The system gives no randomness, or a key is unusable.
    #[error("cryptography failed: {operation}")]
    Crypto {
        /// What was attempted.
        operation: &'static str,
    },
}

/// Why a token is not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenError {
    /// Not three parts of base64url with JSON inside.
    #[error("the token is malformed")]
    Malformed,
    /// Signed with an algorithm that is not ours.
    #[error("the token is signed with {algorithm:?}, not with ES256")]
    Algorithm {
        /// What its header says, shortened.
        algorithm: String,
    },
    /// Signed by none of the keys.
    #[error("the token is signed by an unknown key")]
    UnknownKey,
    /// The signature is wrong.
    #[error("the token's signature is invalid")]
    Signature,
}
