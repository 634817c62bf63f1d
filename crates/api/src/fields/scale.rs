//! Managed fields of a workload as its `scale` has them, and back: the replicas are one field under
//! two names.

use super::element::Element;
use super::entries::{Entry, ManagedFields};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";

const REPLICAS: &[&str] = &["spec", "replicas"];

fn owns(entry: &Entry, path: &[&str]) -> bool {
    let path: Vec<Element> = path.iter().map(|name| Element::field(name)).collect();
    entry.fields.has(&path)
}

/// The entries of a workload that own its replicas, which stand at `path`, as entries of its scale.
#[must_use]
pub fn workload_to_scale(workload: &ManagedFields, path: &[&str]) -> ManagedFields {
    let mut scale = ManagedFields::default();
    for entry in workload.iter().filter(|entry| owns(entry, path)) {
        scale.push(Entry {
            api_version: SCALE_VERSION.to_owned(),
            fields: Set::of(&[REPLICAS]),
            ..entry.clone()
        });
    }
    scale
}

/// The entries of a workload of a version after a write to its scale; its replicas stand at `path`.
#[must_use]
pub fn scale_to_workload(
    mut workload: ManagedFields,
    mut scale: ManagedFields,
    api_version: &str,
    path: &[&str],
) -> ManagedFields {
    let replicas = Set::of(&[path]);
    scale.retain(|entry| owns(entry, REPLICAS));
    for entry in workload.iter_mut() {
        let alike = |other: &Entry| {
            other.manager == entry.manager
                && other.operation == entry.operation
                && other.subresource == entry.subresource
        };
        let kept = scale.iter().find(|other| alike(other)).cloned();
        match kept {
            Some(kept) => {
                entry.fields.unite(replicas.clone());
                entry.time = kept.time;
                scale.retain(|other| !alike(other));
            }
            None => entry.fields.subtract(&replicas),
        }
    }
    workload.retain(|entry| !entry.fields.is_empty());
    for entry in scale.iter() {
        workload.push(Entry {
            api_version: api_version.to_owned(),
            fields: replicas.clone(),
            ..entry.clone()
        });
    }
    workload
}
