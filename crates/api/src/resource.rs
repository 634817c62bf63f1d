//! Resources: what `/apis` announces, and where each resource's schema is. The built-in ones are a
//! table; custom ones are made of their definitions and go with them.
//!
//! Invariant: the table is constant; its order is upstream's discovery order within a group version.

use std::ops::Deref;
use std::sync::Arc;

use crate::facts::resources::RESOURCES;
use crate::schema::{Schema, TypeRef};
pub use crate::text::{Text, Texts};

/// A resource of one group version, as discovery announces it.
#[derive(Debug, Clone)]
pub struct Resource {
    /// API group; empty for the core group.
    pub group: Text,
    /// API version, for example `v1`.
    pub version: Text,
    /// `apiVersion` of its objects: `v1`, `apps/v1`.
    pub api_version: Text,
    /// Lower-case plural, the path segment.
    pub plural: Text,
    /// Lower-case singular.
    pub singular: Text,
    /// Kind of its objects.
    pub kind: Text,
    /// Kind of a list of its objects; empty where it cannot be listed.
    pub list_kind: Text,
    /// Whether its objects live in a namespace.
    pub namespaced: bool,
    /// Short names that kubectl takes.
    pub short_names: Texts,
    /// Categories, for example `all`.
    pub categories: Texts,
    /// Verbs of the resource itself.
    pub verbs: &'static [&'static str],
    /// Its subresources (`status`, `scale`, `log`, ...).
    pub subresources: &'static [Subresource],
    /// Type of its objects.
    pub schema: Schema,
    /// Type of its lists, where it can be listed.
    pub list_schema: Option<TypeRef>,
    /// Group whose storage holds it: `events.k8s.io` events live with the core ones.
    pub storage_group: Text,
    /// Version in which it is stored (autoscaling v1 is stored as v2).
    pub storage_version: Text,
    /// Upstream's hash of the storage version as discovery shows it; empty where it shows none.
    pub storage_version_hash: Text,
    /// The resource in whose form its objects are stored, where a definition says that it is another
    /// one; built-in ones are looked up in the table.
    pub stored_as: Option<Arc<Resource>>,
}

/// A subresource and the kind that its body has.
#[derive(Debug, Clone, Copy)]
pub struct Subresource {
    /// Name after the slash, for example `scale`.
    pub name: &'static str,
    /// Group of the body's kind, where it differs from the resource's own (`autoscaling` for `scale`);
    /// [`Subresource::version`] is empty where it does not.
    pub group: &'static str,
    /// Version of the body's kind; empty: the resource's own group and version.
    pub version: &'static str,
    /// Kind of the body; empty: the resource's own.
    pub kind: &'static str,
    /// Verbs, in upstream's order.
    pub verbs: &'static [&'static str],
    /// Type of the body, where it has a schema.
    pub schema: Option<TypeRef>,
}

impl Resource {
    /// Whether the resource itself allows `verb`.
    #[must_use]
    pub fn has_verb(&self, verb: &str) -> bool {
        self.verbs.contains(&verb)
    }

    /// The subresource called `name`.
    #[must_use]
    pub fn subresource(&self, name: &str) -> Option<&'static Subresource> {
        self.subresources.iter().find(|s| s.name == name)
    }

    /// `deployments.apps`, or `pods` for the core group: how messages name a resource.
    #[must_use]
    pub fn qualified(&self) -> String {
        qualify(&self.plural, &self.group)
    }

    /// `Deployment.apps`, or `Pod` for the core group: how messages name a kind.
    #[must_use]
    pub fn qualified_kind(&self) -> String {
        qualify(&self.kind, &self.group)
    }

    /// The resource in whose form objects of this one are stored; itself for nearly all.
    #[must_use]
    pub fn storage(&self) -> &Resource {
        if let Some(stored) = &self.stored_as {
            return stored;
        }
        if self.group == self.storage_group && self.version == self.storage_version {
            return self;
        }
        find(&self.storage_group, &self.storage_version, &self.plural).unwrap_or(self)
    }

    /// The resource in whose form objects of this one are worked on between request and store: of the
    /// table the one that is stored, so that hooks know one form; of a definition the one that was
    /// asked for, whose schema and rules count.
    #[must_use]
    pub fn hub(&self) -> &Resource {
        match self.schema {
            Schema::Custom(_) => self,
            Schema::Table(_) => self.storage(),
        }
    }

    /// The kind that the body of a subresource has.
    #[must_use]
    pub fn body_kind<'a>(&'a self, sub: &'a Subresource) -> &'a str {
        if sub.kind.is_empty() {
            &self.kind
        } else {
            sub.kind
        }
    }
}

/// A resource to keep: of the table, or shared with the registry of custom ones.
#[derive(Debug, Clone)]
pub enum ResourceRef {
    /// One of the table.
    Fixed(&'static Resource),
    /// A custom one.
    Shared(Arc<Resource>),
}

impl Deref for ResourceRef {
    type Target = Resource;

    fn deref(&self) -> &Resource {
        match self {
            Self::Fixed(resource) => resource,
            Self::Shared(resource) => resource,
        }
    }
}

impl From<&ResourceRef> for ResourceRef {
    fn from(resource: &ResourceRef) -> Self {
        resource.clone()
    }
}

impl From<&'static Resource> for ResourceRef {
    fn from(resource: &'static Resource) -> Self {
        Self::Fixed(resource)
    }
}

impl From<Arc<Resource>> for ResourceRef {
    fn from(resource: Arc<Resource>) -> Self {
        Self::Shared(resource)
    }
}

/// `name.group`, or `name` alone for the core group.
pub(crate) fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() {
        name.to_owned()
    } else {
        format!("{name}.{group}")
    }
}

/// All resources, grouped by group version.
#[must_use]
pub fn all() -> &'static [Resource] {
    RESOURCES
}

/// The resource served at `group`/`version`/`plural`.
#[must_use]
pub fn find(group: &str, version: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.plural == plural && r.group == group && r.version == version)
}

/// The resource whose objects are of `kind`.
#[must_use]
pub fn by_kind(group: &str, version: &str, kind: &str) -> Option<&'static Resource> {
    RESOURCES
        .iter()
        .find(|r| r.kind == kind && r.group == group && r.version == version)
}

/// The group and version in an `apiVersion` (`v1` is the core group's).
#[must_use]
pub fn split_api_version(api_version: &str) -> (&str, &str) {
    api_version.split_once('/').unwrap_or(("", api_version))
}
