//! Admission that is set up for the whole cluster, one folder or file a plugin. What belongs to one
//! kind alone is a hook.
//!
//! Invariant: a plugin decides from the request, the object, the cache and its configuration; it
//! writes nothing by itself.

pub(crate) mod annotations;
pub(crate) mod attributes;
pub(crate) mod chain;
pub(crate) mod connect;
pub(crate) mod constraints;
pub mod pod_security;
pub(crate) mod policy;
pub mod quota;
pub(crate) mod runtime_class;
pub(crate) mod webhook;

/// How the plugins are set up.
#[derive(Debug, Clone, Default)]
pub struct Admission {
    /// Which pods namespaces accept that do not say so themselves.
    pub pod_security: pod_security::PodSecurity,
    /// What nobody may use where no ResourceQuota grants it.
    pub limited_resources: Vec<quota::LimitedResource>,
}
