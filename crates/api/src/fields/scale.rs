//! Managed fields of a workload as its `scale` has them, and back: the replicas are one field under
//! several names, since versions of a workload may have them in different places.

use super::element::Element;
use super::entries::{Entry, ManagedFields};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";

const REPLICAS: &[&str] = &["spec", "replicas"];

fn owns(entry: &Entry, path: &[&str]) -> bool {
    let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
    entry.fields.has(&path)
}

/// Where a workload has its replicas in a version, an `apiVersion`; nothing where it cannot be scaled.
pub type ReplicasAt<'a> = &'a dyn Fn(&str) -> Option<Vec<&'a str>>;

/// The entries of a workload that own its replicas, as entries of its scale.
#[must_use]
pub fn workload_to_scale(workload: &ManagedFields, at: ReplicasAt<'_>) -> ManagedFields {
    let mut scale = ManagedFields::default();
    let owners = workload
        .iter()
        .filter(|entry| at(&entry.api_version).is_some_and(|path| owns(entry, &path)));
    for entry in owners {
        scale.push(Entry {
            api_version: SCALE_VERSION.to_owned(),
            fields: Set::of(&[REPLICAS]),
            ..entry.clone()
        });
    }
    scale
}

/// The entries of a workload of a version after a write to its scale.
#[must_use]
pub fn scale_to_workload(
    mut workload: ManagedFields,
    mut scale: ManagedFields,
    api_version: &str,
    at: ReplicasAt<'_>,
) -> ManagedFields {
    scale.retain(|entry| owns(entry, REPLICAS));
    for entry in workload.iter_mut() {
        let Some(path) = at(&entry.api_version) else {
            continue;
        };
        let replicas = Set::of(&[&path]);
        let alike = |other: &Entry| {
            other.manager == entry.manager
                && other.operation == entry.operation
                && other.subresource == entry.subresource
        };
        let kept = scale.iter().find(|other| alike(other)).cloned();
        match kept {
            Some(kept) => {
                entry.fields.unite(replicas);
                entry.time = kept.time;
                scale.retain(|other| !alike(other));
            }
            None => entry.fields.subtract(&replicas),
        }
    }
    workload.retain(|entry| !entry.fields.is_empty());
    let replicas = at(api_version).map_or_else(Set::default, |path| Set::of(&[&path]));
    for entry in scale.iter() {
        workload.push(Entry {
            api_version: api_version.to_owned(),
            fields: replicas.clone(),
            ..entry.clone()
        });
    }
    workload
}
