//! Container images on disk: references, the registry client, the content store and snapshots.
//!
//! [`Images`] is the door. It pulls from registries (and mirrors), pushes, imports and exports
//! archives, keeps an index of what is there, and gives each container a writable overlay mount.
//!
//! Invariants:
//! - A blob or a layer under its final name is complete and was verified against its digest;
//!   everything unfinished has another name and is cleaned or resumed.
//! - A layer's bytes are read once on their way in: the download is written, hashed, decompressed
//!   and unpacked in one pass.
//! - Nothing from an image is ever written outside the folder of its layer.
//! - Memory is bounded whatever an image or a registry holds.

mod archive;
mod auth;
mod builtin;
mod collect;
mod config;
mod digest;
mod error;
mod images;
mod index;
mod ingest;
mod layer;
mod manifest;
mod progress;
mod pull;
mod push;
mod reference;
mod registry;
mod snapshot;
mod store;
mod tarball;

pub use auth::{Auth, AuthError, Keyring};
pub use collect::{Collected, DiskUsage};
pub use config::{Config, Limits, Mirror};
pub use digest::{Digest, DigestError};
pub use error::{ImageError, PullError, PullErrorKind, PullFailure};
pub use images::{Image, Images};
pub use layer::LayerError;
pub use manifest::Platform;
pub use progress::{LayerStatus, Progress, Stage};
pub use reference::{Reference, ReferenceError, ReferenceProblem};
pub use registry::RegistryError;
pub use snapshot::{Snapshot, SnapshotUsage};
