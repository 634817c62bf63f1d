//! What registries and the network say, in containerd's words.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::{Digest, PullErrorKind};

/// A request to a registry that failed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum RegistryError {
    /// The registry does not know the name or digest.
    #[error("{name}: not found")]
    NotFound {
        /// What was asked for.
        name: String,
    },
    /// The registry wants credentials, or does not accept those that it got.
    #[error("pull access denied, repository does not exist or may require authorization: {detail}")]
    Denied {
        /// What the registry said, or what is missing.
        detail: String,
    },
    /// The registry's token service refused.
    #[error("failed to authorize: failed to fetch {} token: unexpected status from GET request to {url}: {status}", if *anonymous { "anonymous" } else { "oauth" })]
    Token {
        /// The address of the token service.
        url: String,
        /// Code and reason.
        status: String,
        /// Whether it was asked without credentials.
        anonymous: bool,
        /// Whether the refusal concerns the credentials.
        unauthorized: bool,
    },
    /// An answer that is none of those expected.
    #[error("unexpected status from {method} request to {url}: {status}{}{message}", if message.is_empty() { "" } else { ": " })]
    Status {
        /// The method of the request.
        method: String,
        /// Its address.
        url: String,
        /// Code and reason.
        status: String,
        /// The code alone.
        code: u16,
        /// What the body says, shortened; may be empty.
        message: String,
    },
    /// No answer at all.
    #[error("failed to do request: {method} \"{url}\"")]
    Request {
        /// The method of the request.
        method: String,
        /// Its address.
        url: String,
        /// Why.
        source: Arc<reqwest::Error>,
    },
    /// A server that does not speak TLS, where only TLS is allowed.
    #[error(
        "failed to do request: {method} \"{url}\": http: server gave HTTP response to HTTPS client; plain HTTP must be allowed for this registry by configuration"
    )]
    PlainHttp {
        /// The method of the request.
        method: String,
        /// Its address.
        url: String,
    },
    /// The connection broke in the middle, again and again.
    #[error("unexpected EOF after {received} of {expected} bytes")]
    Truncated {
        /// What had come.
        received: u64,
        /// What should have come.
        expected: u64,
        /// How the last attempt ended.
        source: Option<Arc<reqwest::Error>>,
    },
    /// More came than was announced or is allowed.
    #[error("content of {url} exceeds {limit} bytes")]
    TooLarge {
        /// Its address.
        url: String,
        /// The limit.
        limit: u64,
    },
    /// A manifest or configuration is not what its digest promises.
    #[error("unexpected digest {actual}, expected {expected}: failed precondition")]
    Digest {
        /// What was asked for.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// The registry's answer breaks the protocol.
    #[error("{url}: {problem}")]
    Protocol {
        /// The address.
        url: String,
        /// What is wrong.
        problem: String,
    },
    /// A configured file with certificate authorities is unusable.
    #[error("certificate authorities {}: {problem}", path.display())]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// The HTTP client cannot be set up.
    #[error("failed to set up the HTTP client")]
    Setup {
        /// Why.
        source: Arc<reqwest::Error>,
    },
    /// A local file that was to be sent cannot be read.
    #[error("read {}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Arc<io::Error>,
    },
}

impl RegistryError {
    pub(crate) fn kind(&self) -> PullErrorKind {
        match self {
            RegistryError::NotFound { .. } => PullErrorKind::NotFound,
            RegistryError::Denied { .. } => PullErrorKind::Unauthorized,
            RegistryError::Token {
                unauthorized: true, ..
            } => PullErrorKind::Unauthorized,
            RegistryError::Status {
                code: 401 | 403, ..
            } => PullErrorKind::Unauthorized,
            RegistryError::Status { code: 429, .. } => PullErrorKind::TooManyRequests,
            RegistryError::TooLarge { .. } | RegistryError::Digest { .. } => {
                PullErrorKind::InvalidImage
            }
            RegistryError::CaFile { .. }
            | RegistryError::Setup { .. }
            | RegistryError::File { .. } => PullErrorKind::Host,
            _ => PullErrorKind::Unavailable,
        }
    }
}
