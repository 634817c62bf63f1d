//! The errors of the image store, in words that people know from containerd.
//!
//! Every message is one link: print an error with its chain of sources (`stdx::chain`) to get
//! `failed to pull and unpack image "x": failed to resolve reference "x": x: not found`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{AuthError, Digest, LayerError, ReferenceError, RegistryError};

/// A pull (or push) that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{} \"{image}\"", if *push { "failed to push image" } else { "failed to pull and unpack image" })]
pub struct PullError {
    /// The normalised name of the image.
    pub image: String,
    /// Whether it was a push.
    pub push: bool,
    /// What went wrong.
    #[source]
    pub failure: PullFailure,
}

/// What went wrong in a pull or a push.
#[derive(Debug, Clone, thiserror::Error)]
pub enum PullFailure {
    /// The registry did not give a manifest for the name.
    #[error("failed to resolve reference \"{reference}\"")]
    Resolve {
        /// The normalised name.
        reference: String,
        /// What the registry or the network said.
        source: RegistryError,
    },
    /// A blob could not be transferred.
    #[error("failed to copy {digest}")]
    Transfer {
        /// The blob.
        digest: Digest,
        /// What the registry or the network said.
        source: RegistryError,
    },
    /// A blob is not what its digest promises; it was discarded.
    #[error(
        "failed commit on ref \"layer-{expected}\": unexpected commit digest {actual}, expected {expected}: failed precondition"
    )]
    Digest {
        /// What the manifest says.
        expected: Digest,
        /// What came.
        actual: Digest,
    },
    /// A manifest, index or configuration makes no sense.
    #[error("failed to read {what} {digest}: {problem}")]
    Content {
        /// Which document.
        what: &'static str,
        /// Its digest.
        digest: Digest,
        /// What is wrong with it.
        problem: String,
    },
    /// An index has no manifest for this machine.
    #[error("no match for platform {platform} in manifest {digest}: not found")]
    Platform {
        /// `os/architecture[/variant]` of this machine.
        platform: String,
        /// The digest of the index.
        digest: Digest,
    },
    /// A layer could not be unpacked.
    #[error("failed to extract layer {diff_id}")]
    Layer {
        /// The digest of the uncompressed layer.
        diff_id: Digest,
        /// Why.
        source: LayerError,
    },
    /// The store's own disk failed.
    #[error(transparent)]
    Store(#[from] ImageError),
}

/// The sort of a [`PullError`], for choosing reasons and retries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullErrorKind {
    /// The image, or this platform's variant of it, does not exist.
    NotFound,
    /// Credentials are missing, wrong, or not sufficient.
    Unauthorized,
    /// The registry cannot be reached or fails: try again later.
    Unavailable,
    /// The registry asks to come back later.
    TooManyRequests,
    /// The content is corrupt, malicious or not supported.
    InvalidImage,
    /// This host failed: disk full, no permission.
    Host,
}

impl PullError {
    /// The sort of the failure.
    pub fn kind(&self) -> PullErrorKind {
        match &self.failure {
            PullFailure::Resolve { source, .. } | PullFailure::Transfer { source, .. } => {
                source.kind()
            }
            PullFailure::Digest { .. } | PullFailure::Content { .. } => PullErrorKind::InvalidImage,
            PullFailure::Platform { .. } => PullErrorKind::NotFound,
            PullFailure::Layer { source, .. } => source.kind(),
            PullFailure::Store(ImageError::NotFound { .. } | ImageError::ContentMissing { .. }) => {
                PullErrorKind::NotFound
            }
            PullFailure::Store(_) => PullErrorKind::Host,
        }
    }

    /// The whole chain on one line, as it belongs into an event.
    pub fn message(&self) -> String {
        stdx::chain(self)
    }
}

/// What can go wrong with images that are here, or should be.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// A file operation failed.
    #[error("{operation} {}", path.display())]
    Io {
        /// What was attempted.
        operation: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the system said.
        source: Arc<io::Error>,
    },
    /// No such image.
    #[error("image \"{name}\": not found")]
    NotFound {
        /// The name or id as given.
        name: String,
    },
    /// A blob that is needed for an export or push is no longer here.
    #[error("content digest {digest}: not found")]
    ContentMissing {
        /// The blob.
        digest: Digest,
    },
    /// A name is no image name.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// Credentials could not be read.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// The index file cannot be understood.
    #[error("image index {}: {problem}", path.display())]
    Index {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another process has this store open.
    #[error("image store {} is in use by another process", path.display())]
    Locked {
        /// The folder of the store.
        path: PathBuf,
    },
    /// A snapshot id has characters that cannot be in a file name.
    #[error("invalid snapshot id \"{id}\"")]
    SnapshotId {
        /// The id as given.
        id: String,
    },
    /// The kernel refused an overlay mount.
    #[error("failed to mount overlay of {layers} layers at {}: {step}{detail}", path.display())]
    Mount {
        /// Where it was to appear.
        path: PathBuf,
        /// How many lower layers it has.
        layers: usize,
        /// The step that failed.
        step: &'static str,
        /// What the kernel logged about it, or a hint; may be empty.
        detail: String,
        /// The error number.
        source: Arc<io::Error>,
    },
    /// An archive is no image archive, or is broken.
    #[error("image archive {}: {problem}", path.display())]
    Archive {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A layer from an archive could not be unpacked.
    #[error("failed to extract layer {diff_id}")]
    Layer {
        /// The digest of the uncompressed layer.
        diff_id: Digest,
        /// Why.
        source: LayerError,
    },
    /// The work was cut short because the process ends.
    #[error("interrupted: the process is shutting down")]
    Interrupted,
}

impl ImageError {
    /// For `map_err` after a file operation.
    pub(crate) fn io(operation: &'static str, path: &Path) -> impl FnOnce(io::Error) -> ImageError {
        move |source| ImageError::Io {
            operation,
            path: path.into(),
            source: Arc::new(source),
        }
    }
}
