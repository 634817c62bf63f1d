//! The Kubernetes API server of Knarr: one generic pipeline over a table of resources.
//!
//! Invariants:
//! - this crate is the only user of `store`;
//! - the bytes in the cache are the bytes on the wire: an object is encoded once, when written;
//! - what is special about a kind lives in `hooks/`, never in the pipeline;
//! - a write returns only after the cache has applied it (read your writes).

pub mod admission;
mod aggregation;
mod alloc;
pub mod audit;
pub mod auth;
mod bootstrap;
pub mod cache;
mod codec;
mod config;
mod conversion;
mod definitions;
mod error;
mod fairness;
mod gzip;
mod hooks;
mod http;
mod impersonate;
mod legacy_tokens;
mod metrics;
mod negotiate;
mod nonresource;
mod outbound;
mod pipeline;
mod pretty;
mod proxy;
mod query;
mod remote;
mod resources;
mod route;
pub mod rules;
mod server;
mod servers;
mod state;
mod storage;
mod subresource;

pub use crate::auth::certificate::PeerCertificate;
pub use crate::auth::user::User;
pub use crate::config::{Config, FrontProxy, NodeDialer, PeerAddress, Stream};
pub use crate::error::StartError;
pub use crate::fairness::FairnessOptions;
pub use crate::http::{Body, BoxError, empty_body, full_body};
pub use crate::remote::{KubeconfigError, Remote};
pub use crate::server::ApiServer;
pub use crate::servers::announced as announced_servers;
pub use crate::storage::SEALED_PREFIXES;
