//! As much of SPDY/3.1 as Kubernetes' clients speak: the server side of one
//! connection with streams that either side may close half.
//!
//! Invariants: a frame is bounded before it is read; frames of one stream keep
//! their order; what was accepted for sending is flushed before the connection ends.
//! Flow control windows are ignored, as all of these clients ignore them.

mod connection;
mod dictionary;
mod frame;
mod headers;

#[cfg(test)]
mod tests;

pub(crate) use connection::{Lifetime, Sender, Stream, serve};

/// What can be wrong with what a client sends.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpdyError {
    /// The connection failed.
    #[error("connection failed")]
    Io(#[from] std::io::Error),
    /// A header block that cannot be decompressed or parsed.
    #[error("malformed header block")]
    Headers,
    /// A frame that is not SPDY/3.1, or too large.
    #[error("malformed frame")]
    Frame,
}
