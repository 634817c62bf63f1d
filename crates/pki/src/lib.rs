//! Certificates, TLS and token signing of a cluster: the authority, the leaves that it issues and
//! renews, a server configuration whose certificate can be swapped, and ES256 tokens.
//!
//! Who a certificate stands for is the caller's business. Invariants: private files are mode 0600
//! and replaced as a whole; what is loaded from disk is checked before it is used; all cryptography
//! is ring's.

mod authority;
mod client;
mod der;
mod error;
mod file;
mod leaf;
mod peer;
mod provider;
mod renew;
mod request;
mod sign;
mod tls;
mod token;

pub use authority::Authority;
pub use client::{Trust, client_tls};
pub use error::{PkiError, TokenError};
pub use file::write_private;
pub use leaf::{KeyPair, LEAF_LIFETIME, Leaf, San, Usage};
pub use peer::{ClientAuthority, is_certificate_bundle};
pub use provider::install_crypto_provider;
pub use renew::{Renewal, renew_if_due};
pub use request::{RequestError, SigningRequest, certificate_end};
pub use tls::ServerTls;
pub use token::TokenKeys;
