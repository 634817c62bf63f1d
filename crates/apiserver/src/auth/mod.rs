//! Who is asking, and may they: authentication, service account tokens, RBAC.

pub mod aggregate;
pub mod authn;
mod bootstrap_token;
pub mod certificate;
pub mod chain;
pub mod claims;
pub mod defaults;
pub mod escalation;
pub mod front_proxy;
pub mod legacy_token;
pub mod live;
pub(crate) mod node;
pub mod oidc;
mod policy;
pub mod rbac;
pub mod review;
pub mod rule;
pub mod selectors;
#[cfg(test)]
mod testing;
pub mod token;
pub mod user;
pub mod webhook_token;
