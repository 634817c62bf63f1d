//! List/watch, shared caches, work queues and the event recorder: what every
//! part that talks to the API server is built on, over HTTP or in process.
//!
//! Invariants: one watch a kind and selector for the whole process; a change is
//! never lost, only coalesced; queues carry keys, never payloads; one key is
//! never worked on twice at once.

mod events;
pub mod fit;
mod informer;
mod key;
mod leader;
mod object;
mod patch;
mod queue;
mod reflector;
mod worker;

pub use events::{EventType, Events, Source};
pub use informer::{Index, Informer, Informers, Selector, Subscription};
pub use key::Key;
pub use leader::{Election, lead};
pub use object::{Meta, Object, owner_uid, reference};
pub use patch::{
    change, is_already_exists, is_conflict, is_namespace_terminating, is_not_found, merge_patch,
    status_code,
};
pub use queue::{Queue, Work};
pub use worker::run;

/// A client of the Kubernetes API: over HTTP by a kubeconfig, or in process.
pub type Client = kube::Client;

/// A client whose requests are answered by `service` in this process.
///
/// Request URIs hold a path and a query only. Must be called on a tokio runtime.
pub fn in_process<S, B>(service: S) -> Client
where
    S: tower::Service<http::Request<kube::client::Body>, Response = http::Response<B>>
        + Send
        + 'static,
    S::Future: Send + 'static,
    S::Error: Into<tower::BoxError>,
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    Client::new(service, "default")
}
