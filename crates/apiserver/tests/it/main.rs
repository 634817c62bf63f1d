//! The API server through the door that its clients use.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub, reason = "tests")]

mod admission;
mod aggregation;
mod apply;
mod audit;
mod content;
mod conversion;
mod csr;
mod custom;
mod custom_rules;
mod discovery;
mod fairness;
mod harness;
mod hostile;
mod https;
mod kinds;
mod legacy_tokens;
mod listener;
mod node_access;
mod oidc;

mod protobuf;
mod proxied;
mod reads;
mod restart;
mod servers;
mod watches;
mod web_socket;
mod writes;
