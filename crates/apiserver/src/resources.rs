//! The resources that are served: the built-in ones, and those that definitions add.
//!
//! Invariant: the built-in part never changes and is looked up without a lock; the custom part is
//! what the cache's definitions say, before anybody else can see them.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use api::resource::{self, Resource, ResourceRef};
use api::schema::Schema;
use serde_json::Value;
use tokio::sync::watch;

use crate::conversion::Conversion;

/// What a definition adds.
#[derive(Debug, Default)]
pub(crate) struct Served {
    /// In the order of discovery.
    pub(crate) resources: Vec<Arc<Resource>>,
    /// The webhook between their versions, if there is one.
    pub(crate) conversion: Option<Arc<Conversion>>,
    /// What of the definition this was made of.
    pub(crate) said: Value,
    /// Whether the definition is being deleted.
    pub(crate) ending: bool,
}

impl Served {
    /// The schema of a version that is served or stored.
    pub(crate) fn schema(&self, version: &str) -> Option<Schema> {
        let stored = self.resources.iter().filter_map(|r| r.stored_as.as_ref());
        let mut all = self.resources.iter().chain(stored);
        all.find(|r| r.version == *version)
            .map(|r| r.schema.clone())
    }
}

#[derive(Default)]
struct Custom {
    /// By the definition's name.
    by_definition: BTreeMap<String, Arc<Served>>,
    by_path: HashMap<String, Arc<Resource>>,
}

fn path(group: &str, version: &str, plural: &str) -> String {
    format!("{group}/{version}/{plural}")
}

/// The registry.
#[derive(Default)]
pub(crate) struct Resources {
    custom: RwLock<Custom>,
    generation: watch::Sender<u64>,
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
        let served = custom.by_definition.values();
        served
            .flat_map(|served| &served.resources)
            .cloned()
            .collect()
    }

    /// The webhook that converts the objects of a resource, if there is one.
    pub(crate) fn conversion(&self, of: &Resource) -> Option<Arc<Conversion>> {
        of.schema.custom()?;
        self.served(&of.qualified())?.conversion.clone()
    }

    /// What a definition adds at this moment.
    pub(crate) fn served(&self, definition: &str) -> Option<Arc<Served>> {
        let custom = self.custom.read().unwrap_or_else(PoisonError::into_inner);
        custom.by_definition.get(definition).cloned()
    }

    /// Serves this for a definition, in the place of what it had.
    pub(crate) fn set(&self, definition: &str, served: Served) {
        let mut custom = self.custom.write().unwrap_or_else(PoisonError::into_inner);
        let of = |r: &Resource| path(&r.group, &r.version, &r.plural);
        let old = custom.by_definition.remove(definition);
        if old.is_none() && served.resources.is_empty() {
            return;
        }
        for resource in old.iter().flat_map(|old| &old.resources) {
            custom.by_path.remove(&of(resource));
        }
        for resource in &served.resources {
            custom.by_path.insert(of(resource), resource.clone());
        }
        if !served.resources.is_empty() {
            custom
                .by_definition
                .insert(definition.to_owned(), Arc::new(served));
        }
        drop(custom);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Counts the changes: documents made of an earlier generation are out of date.
    pub(crate) fn generation(&self) -> u64 {
        *self.generation.borrow()
    }

    /// A receiver that is told of each change.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }
}
