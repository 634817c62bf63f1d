//! What a caller is told while layers come and go.

use crate::Digest;

/// Where one layer of a pull or push is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Not begun: waits for its turn.
    Waiting,
    /// Bytes are on the way. A pull unpacks in the same pass.
    Transferring,
    /// The content was there already: nothing was transferred.
    Exists,
    /// All bytes arrived and were verified.
    Done,
}

/// The state of one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerStatus {
    /// The digest of the (compressed) blob.
    pub digest: Digest,
    /// Where it is.
    pub stage: Stage,
    /// Bytes transferred so far, those of an earlier interrupted attempt included.
    pub done_bytes: u64,
    /// The whole size of the blob.
    pub total_bytes: u64,
}

/// Receives the state of all layers whenever it has changed noticeably.
pub trait Progress: Send + Sync {
    /// `layers` is in the order of the manifest. Called from the task that awaits the transfer:
    /// return soon.
    fn update(&self, layers: &[LayerStatus]);
}

impl<F: Fn(&[LayerStatus]) + Send + Sync> Progress for F {
    fn update(&self, layers: &[LayerStatus]) {
        self(layers);
    }
}
