//! The network on the real kernel. Every test makes its own "host" (a fresh network
//! namespace with an uplink to an "outside") and its own pods; nothing of the machine
//! is touched and nothing is left behind. Needs root and the programs `ip` and `nft`.
#![allow(clippy::unwrap_used, reason = "tests")]

mod api;
mod dns;
mod host;
mod pods;
mod services;
