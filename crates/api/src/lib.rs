//! The Kubernetes API as data: the table of resources and their schemas, and the pure functions over
//! objects (`serde_json::Value`) that the generic pipeline is made of. No IO, no clock, no async.
//!
//! Invariant: every function here takes hostile input. None panics, none recurses deeper than
//! [`MAX_DEPTH`], and each is deterministic.

pub mod convert;
pub mod discovery;
pub mod duration;
pub mod facts;
pub mod fields;
pub mod jsonpath;
pub mod meta;
pub mod openapi;
pub mod patch;
pub mod proto;
pub mod quantity;
pub mod quota;
pub mod resource;
pub mod schema;
pub mod selector;
pub mod status;
pub mod structural;
pub mod table;
mod text;
pub mod validate;
pub mod yaml;

/// The deepest nesting of objects and lists that is accepted anywhere in an object.
pub const MAX_DEPTH: usize = 100;
