//! What admission has to say of a request for the audit log.
//!
//! Invariant: a key is said once; who comes second is ignored.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// One annotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Annotation {
    pub(crate) value: String,
    /// Whether it repeats content of the request, so that it is for logs of that level only.
    pub(crate) content: bool,
}

/// The annotations of one request.
#[derive(Debug, Default)]
pub(crate) struct Annotations(Mutex<BTreeMap<String, Annotation>>);

impl Annotations {
    /// Adds one for every level.
    pub(crate) fn add(&self, key: impl Into<String>, value: impl Into<String>) {
        self.put(key.into(), value.into(), false);
    }

    /// Adds one that repeats content of the request.
    pub(crate) fn add_content(&self, key: impl Into<String>, value: impl Into<String>) {
        self.put(key.into(), value.into(), true);
    }

    fn put(&self, key: String, value: String, content: bool) {
        if !api::validate::names::qualified_name(&key).is_empty() {
            tracing::debug!(key, "an audit annotation with a malformed key");
            return;
        }
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(key).or_insert(Annotation { value, content });
    }

    /// Takes all of them.
    pub(crate) fn take(&self) -> BTreeMap<String, Annotation> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
