//! Errors of the server itself; errors that a client sees are `api::status::ApiError`.

use store::{Revision, StoreError};

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store failed while the cache was loaded.
    #[error("loading the cache from the store")]
    Load(#[source] StoreError),
    /// One of the objects that every cluster has could not be created.
    #[error("creating {what} at start: {message}")]
    Bootstrap {
        /// The object, `kind namespace/name`.
        what: String,
        /// The API server's own answer.
        message: String,
    },
    /// The authorities of clients or of the front proxy are of no use.
    #[error("the authorities of client certificates")]
    Authority(#[source] pki::PkiError),
    /// The Service network is unusable.
    #[error("service network {cidr} is too small: it needs at least 8 addresses")]
    ServiceNetwork {
        /// The network as configured.
        cidr: ipnet::IpNet,
    },
}

/// A stored value that is not an object as this server writes them.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// It does not begin with apiVersion, kind and metadata.
    #[error("stored value does not begin with apiVersion, kind, metadata")]
    NoMetadata,
    /// It is no JSON.
    #[error("stored value at {key} revision {revision} is not JSON")]
    Json {
        /// Its key.
        key: String,
        /// Its revision.
        revision: Revision,
        /// What the parser said.
        #[source]
        source: serde_json::Error,
    },
}
