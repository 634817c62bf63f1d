//! Kubernetes' protobuf encoding, `application/vnd.kubernetes.protobuf`.
//!
//! A body is the magic `k8s\0` and a `runtime.Unknown`: the type's words, then the object's message.
//! Messages are read and written by the table of types and the table of field numbers; no type has
//! code of its own. What upstream writes always (fields that are no pointers) is written here too,
//! so that the bytes are the same.
//!
//! Invariant: [`decode`] takes hostile bytes: it neither panics nor recurses deeper than
//! [`crate::MAX_DEPTH`], and makes no more than [`MAX_VALUES`] values.

mod decode;
mod encode;
mod leaf;
pub(crate) mod table;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests;
pub(crate) mod wire;

pub use decode::decode;
pub use encode::{encode, encode_list, watch_event};

/// The media type of the encoding.
pub const MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf";

/// The media type of a watch: frames with a length of four bytes, big-endian, before each.
pub const WATCH_MEDIA_TYPE: &str = "application/vnd.kubernetes.protobuf;stream=watch";

/// The most values that are made of one body.
pub const MAX_VALUES: usize = 1 << 20;

/// What every body starts with.
const MAGIC: &[u8] = b"k8s\0";

/// Why bytes are no object.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProtoError {
    /// They do not start with `k8s\0`.
    #[error(
        "provided data does not appear to be a protobuf message, expected prefix [107 56 115 0]"
    )]
    Magic,
    /// They end inside a field.
    #[error("unexpected EOF")]
    Truncated,
    /// A varint of more than ten bytes.
    #[error("proto: integer overflow")]
    Varint,
    /// A field numbered zero.
    #[error("proto: illegal tag 0")]
    FieldZero,
    /// A field's wire type is not its type's.
    #[error("proto: wrong wireType")]
    WireType,
    /// A string that is no UTF-8.
    #[error("proto: a string is not valid UTF-8")]
    Utf8,
    /// A time that does not exist.
    #[error("proto: {seconds} s and {nanos} ns is no time")]
    Time {
        /// Seconds since 1970.
        seconds: i64,
        /// Nanoseconds of the second.
        nanos: i32,
    },
    /// Embedded JSON that is none.
    #[error("embedded JSON: {0}")]
    Json(String),
    /// Nested deeper than [`crate::MAX_DEPTH`].
    #[error("exceeded max depth")]
    TooDeep,
    /// More than [`MAX_VALUES`] values.
    #[error("the object holds more than {MAX_VALUES} values")]
    TooLarge,
    /// The envelope does not name its kind.
    #[error("Object 'Kind' is missing in the protobuf envelope")]
    NoKind,
    /// A kind that has no message.
    #[error("no kind {kind:?} is registered for version {api_version:?} in scheme")]
    UnknownKind {
        /// The envelope's `apiVersion`.
        api_version: String,
        /// The envelope's `kind`.
        kind: String,
    },
}

/// Why an object has no protobuf form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// Its kind has no message (`Table`, custom resources).
    #[error(
        "object {api_version:?} {kind:?} does not implement the protobuf marshalling interface and cannot be encoded to a protobuf message"
    )]
    UnknownKind {
        /// Its `apiVersion`.
        api_version: String,
        /// Its `kind`.
        kind: String,
    },
    /// A value is not of its field's type.
    #[error("the value of field {field} is not of its type")]
    Type {
        /// JSON name of the field.
        field: &'static str,
    },
    /// Nested deeper than [`crate::MAX_DEPTH`].
    #[error("exceeded max depth")]
    TooDeep,
}
