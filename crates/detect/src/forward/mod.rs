//! Sends alerts on to the services that people watch: what Falcosidekick is for.
//!
//! An alert comes in as Falco's JSON ([`Alert`]) through [`Forwarder::send`]. A thread enriches it
//! ([`enrich`]) and appends it to the queue of every output that wants its priority ([`queue`]).
//! A task an output ([`delivery`]) takes alerts from its queue and hands them to a publisher: HTTP
//! for most ([`http`]; what is sent is a pure function in `outputs/`), a protocol of its own for
//! the rest. The configuration is Falcosidekick's ([`config`]), and so are the payloads.
//!
//! Invariants: the sender never waits, neither for a disk nor for a service; memory is bounded,
//! since what waits is on disk; services are told at least once, and each in order; no secret of
//! the configuration reaches a log or an error.

mod alert;
mod config;
mod delivery;
mod enrich;
mod forwarder;
mod http;
mod metrics;
mod outputs;
mod publish;
pub mod queue;
mod request;
mod template;
pub(crate) mod tls;
mod wire;

pub use alert::{Alert, AlertError, Priority};
pub use config::{Config, ConfigError};
pub use enrich::Enrichment;
pub use forwarder::{Forwarder, Options, StartError};
pub use outputs::policyreport::{ObjectError, ObjectFuture, ObjectStore, PolicyReports};
pub use template::{Template, TemplateError};
pub use tls::TlsError;

#[cfg(test)]
mod tests;
