//! The generated leaf: what upstream publishes about its types and resources, as `const` tables.
//!
//! `cargo xtask facts` writes the files below; nobody edits them.

pub(crate) mod described;
pub(crate) mod proto;
pub(crate) mod resources;
pub(crate) mod types;
