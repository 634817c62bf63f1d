//! What a write to a resource, or to a part of it, cannot set: nobody comes to own it there.
//!
//! Fact: `GetResetFields` and `GetResetFieldsFilter` of upstream's strategies (`pkg/registry`, 1.36).

use super::set::{Pattern, Set};
use crate::resource::Resource;

/// Fields to leave out of every set that a write makes.
#[derive(Debug, Clone, Default)]
pub(super) enum Reset {
    /// None.
    #[default]
    Nothing,
    /// These, and what is below them.
    Without(Set),
    /// All but these.
    Only(&'static [Pattern]),
}

const EPHEMERAL: &[Pattern] = &[&["spec", "ephemeralContainers"]];
const RESIZE: &[Pattern] = &[
    &["spec", "containers", "*", "resources"],
    &["spec", "containers", "*", "resizePolicy"],
    &["spec", "initContainers", "*", "resources"],
    &["spec", "initContainers", "*", "resizePolicy"],
];

impl Reset {
    /// What a write to a resource (or its subresource) cannot set.
    pub(super) fn of(resource: &Resource, subresource: &str) -> Self {
        let without = |paths: &[&[&str]]| Self::Without(Set::of(paths));
        let (group, plural) = (&*resource.group, &*resource.plural);
        match (group, plural, subresource) {
            (_, "certificatesigningrequests", "") => without(&[&["spec"], &["status"]]),
            (_, "certificatesigningrequests", "status") => {
                without(&[&["spec"], &["status", "conditions"]])
            }
            (_, "certificatesigningrequests", "approval") => {
                without(&[&["spec"], &["status", "certificate"]])
            }
            ("", "pods", "ephemeralcontainers") => Self::Only(EPHEMERAL),
            ("", "pods", "resize") => Self::Only(RESIZE),
            ("", "pods", "status") => without(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            ("", "namespaces", "finalize") => without(&[&["status"]]),
            ("apps", "deployments", "status") => without(&[&["spec"], &["metadata", "labels"]]),
            (
                "admissionregistration.k8s.io"
                | "apiregistration.k8s.io"
                | "flowcontrol.apiserver.k8s.io"
                | "resource.k8s.io"
                | "storage.k8s.io",
                _,
                "status",
            ) => without(&[&["metadata"], &["spec"]]),
            (_, _, "status") if resource.schema.custom().is_some() => {
                without(&[&["metadata"], &["spec"]])
            }
            (_, _, "status") => without(&[&["spec"]]),
            (_, _, "") if resource.subresource("status").is_some() => without(&[&["status"]]),
            _ => Self::Nothing,
        }
    }

    pub(super) fn apply(&self, set: &mut Set) {
        match self {
            Self::Nothing => {}
            Self::Without(fields) => set.subtract_whole(fields),
            Self::Only(patterns) => set.keep(patterns),
        }
    }
}
