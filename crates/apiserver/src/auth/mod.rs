//! Who is asking, and may they: authentication, service account tokens, RBAC.

pub mod aggregate;
pub mod authn;
pub mod claims;
pub mod defaults;
pub mod escalation;
pub mod live;
mod policy;
pub mod rbac;
pub mod review;
pub mod rule;
#[cfg(test)]
mod testing;
pub mod token;
pub mod user;
