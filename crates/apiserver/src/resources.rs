//! The resources that are served: the built-in ones, and those that definitions add.
//!
//! Invariant: what a request sees is one snapshot; the built-in part never changes, and is looked up
//! without a lock.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use api::resource::{self, Resource, ResourceRef};

/// The custom resources of one moment.
#[derive(Default)]
pub(crate) struct Custom {
    /// In the order of discovery.
    list: Vec<Arc<Resource>>,
    by_path: HashMap<(String, String, String), usize>,
}

impl Custom {
    /// A set of resources, in the order of discovery.
    pub(crate) fn new(list: Vec<Arc<Resource>>) -> Self {
        let path = |r: &Resource| {
            (
                r.group.to_string(),
                r.version.to_string(),
                r.plural.to_string(),
            )
        };
        let by_path = list.iter().enumerate().map(|(i, r)| (path(r), i)).collect();
        Self { list, by_path }
    }

    /// All of them.
    pub(crate) fn all(&self) -> &[Arc<Resource>] {
        &self.list
    }

    fn find(&self, group: &str, version: &str, plural: &str) -> Option<Arc<Resource>> {
        if self.list.is_empty() {
            return None;
        }
        let key = (group.to_owned(), version.to_owned(), plural.to_owned());
        self.list.get(*self.by_path.get(&key)?).cloned()
    }
}

/// The registry.
#[derive(Default)]
pub(crate) struct Resources {
    custom: RwLock<Arc<Custom>>,
    generation: AtomicU64,
}

impl Resources {
    /// The resource served at `group`/`version`/`plural`.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
        match resource::find(group, version, plural) {
            Some(fixed) => Some(fixed.into()),
            None => self
                .custom()
                .find(group, version, plural)
                .map(ResourceRef::from),
        }
    }

    /// The custom resources of this moment.
    pub(crate) fn custom(&self) -> Arc<Custom> {
        self.custom
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Puts other custom resources in the place of those that are served.
    pub(crate) fn set_custom(&self, custom: Custom) {
        *self.custom.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(custom);
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts the changes: documents made of an earlier generation are out of date.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
