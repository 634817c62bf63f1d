//! Managed fields of a workload as its `scale` has them, and back: the replicas are one field under
//! two names.

use super::element::Element;
use super::entries::{Entry, ManagedFields};
use super::set::Set;

const SCALE_VERSION: &str = "autoscaling/v1";

fn replicas() -> [Element; 2] {
    [Element::field("spec"), Element::field("replicas")]
}

fn owns(entry: &Entry) -> bool {
    entry.fields.has(&replicas())
}

/// The entries of a workload that own its replicas, as entries of its scale.
#[must_use]
pub fn workload_to_scale(workload: &ManagedFields) -> ManagedFields {
    let mut scale = ManagedFields::default();
    for entry in workload.iter().filter(|entry| owns(entry)) {
        scale.push(Entry {
            api_version: SCALE_VERSION.to_owned(),
            fields: Set::of(&[&["spec", "replicas"]]),
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
) -> ManagedFields {
    let replicas = Set::of(&[&["spec", "replicas"]]);
    scale.retain(owns);
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
            ..entry.clone()
        });
    }
    workload
}
