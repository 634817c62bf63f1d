//! The resources that are served: the built-in ones, and those that definitions add.
//!
//! Invariant: the built-in part never changes and is looked up without a lock; the custom part is
//! what the cache's definitions say, before anybody else can see them.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use api::resource::{self, Resource, ResourceRef};

#[derive(Default)]
struct Custom {
    /// By the definition's name.
    by_definition: BTreeMap<String, Vec<Arc<Resource>>>,
    by_path: HashMap<String, Arc<Resource>>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

/// The registry.
#[derive(Default)]
pub(crate) struct Resources {
    custom: RwLock<Custom>,
    generation: AtomicU64,
}

impl Resources {
    /// The resource served at `group`/`version`/`plural`.
    pub(crate) fn find(&self, group: &str, version: &str, plural: &str) -> Option<ResourceRef> {
        match resource::find(group, version, plural) {
            Some(fixed) => Some(fixed.into()),
            None if group.is_empty() => None,
            None => {
                let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
                let found = custom.by_path.get(&path(group, version, plural))?;
                Some(found.clone().into())
            }
        }
    }

    /// All versions in which the objects of a resource are served.
    pub(crate) fn versions(&self, of: &Resource) -> Vec<ResourceRef> {
        let same =
            |other: &Resource| other.storage_group == of.storage_group && other.plural == of.plural;
        if of.schema.table().is_some() {
            let all = resource::all().iter();
            return all.filter(|r| same(r)).map(ResourceRef::from).collect();
        }
        let custom = self.custom().into_iter();
        custom.filter(|r| same(r)).map(ResourceRef::from).collect()
    }

    /// The custom resources of this moment, by the names of their definitions.
    pub(crate) fn custom(&self) -> Vec<Arc<Resource>> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        custom.by_definition.values().flatten().cloned().collect()
    }

    /// Serves these resources for a definition, in the place of those that it had.
    pub(crate) fn set(&self, definition: &str, resources: Vec<Arc<Resource>>) {
        let mut custom = self.custom.write().unwrap_or_else(PoisonError::into_inner);
        let of = |r: &Resource| path(&r.group, &r.version, &r.plural);
        let old = custom.by_definition.remove(definition);
        if old.is_none() && resources.is_empty() {
            return;
        }
        for resource in old.into_iter().flatten() {
            custom.by_path.remove(&of(&resource));
        }
        for resource in &resources {
            custom.by_path.insert(of(resource), resource.clone());
        }
        if !resources.is_empty() {
            custom
                .by_definition
                .insert(definition.to_owned(), resources);
        }
        self.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Counts the changes: documents made of an earlier generation are out of date.
    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }
}
