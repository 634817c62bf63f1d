//! What a leaf certificate says, and the pair that comes of it.

use std::net::IpAddr;
use std::time::Duration;

/// How long a leaf lives unless said otherwise: a year.
pub const LEAF_LIFETIME: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// A certificate to be issued.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// The subject's common name. For clients of Kubernetes: the user.
    pub common_name: String,
    /// The subject's organizations. For clients of Kubernetes: the groups.
    pub organizations: Vec<String>,
    /// The names that a server answers to.
    pub sans: Vec<San>,
    /// What the certificate may be used for.
    pub usage: Usage,
    /// How long it is valid.
    pub lifetime: Duration,
}

/// A subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum San {
    /// A DNS name; may start with `*.`.
    Dns(String),
    /// An address.
    Ip(IpAddr),
}

/// The extended key usage of a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// TLS server.
    Server,
    /// TLS client.
    Client,
}

/// A certificate with its private key.
#[derive(Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// The certificate, PEM.
    pub cert_pem: String,
    /// The key, PKCS#8 PEM.
    pub key_pem: String,
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair")
            .field("cert_pem", &self.cert_pem)
            .finish_non_exhaustive()
    }
}
