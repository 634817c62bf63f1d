//! What a cache holds: typed objects, or nothing but the metadata that ownership needs.

use crate::Key;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{OwnerReference, Time};
use serde::Deserialize;
use serde::de::DeserializeOwned;

/// Something that a cache can hold. Implemented for every Kubernetes type and for [`Meta`].
pub trait Object: DeserializeOwned + Send + Sync + 'static {
    /// Ask the server for metadata only (`PartialObjectMetadata`).
    const METADATA_ONLY: bool = false;
    /// Namespace and name.
    fn key(&self) -> Key;
    /// Unique id, "" when the server sent none.
    fn uid(&self) -> &str;
    /// The revision of this version of the object.
    fn resource_version(&self) -> &str;
    /// Drop what no reader of a cache wants (managed fields).
    fn compact(&mut self);
}

impl<K> Object for K
where
    K: kube::Resource + DeserializeOwned + Send + Sync + 'static,
{
    fn key(&self) -> Key {
        Key::of(self)
    }
    fn uid(&self) -> &str {
        self.meta().uid.as_deref().unwrap_or_default()
    }
    fn resource_version(&self) -> &str {
        self.meta().resource_version.as_deref().unwrap_or_default()
    }
    fn compact(&mut self) {
        self.meta_mut().managed_fields = None;
    }
}

/// The part of an object's metadata that ownership and deletion need, and no more:
/// a cache of these is a small fraction of a cache of whole objects.
#[derive(Debug, Clone, Default, Deserialize)]
pub struct Meta {
    metadata: MetaFields,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct MetaFields {
    name: Box<str>,
    namespace: Box<str>,
    uid: Box<str>,
    resource_version: Box<str>,
    deletion_timestamp: Option<Time>,
    owner_references: Vec<OwnerReference>,
    finalizers: Vec<Box<str>>,
}

impl Meta {
    /// Name.
    pub fn name(&self) -> &str {
        &self.metadata.name
    }
    /// Namespace, "" for a cluster-scoped object.
    pub fn namespace(&self) -> &str {
        &self.metadata.namespace
    }
    /// When deletion was asked for.
    pub fn deletion_timestamp(&self) -> Option<&Time> {
        self.metadata.deletion_timestamp.as_ref()
    }
    /// The objects that own this one.
    pub fn owner_references(&self) -> &[OwnerReference] {
        &self.metadata.owner_references
    }
    /// Who must still agree to the deletion.
    pub fn finalizers(&self) -> impl Iterator<Item = &str> {
        self.metadata.finalizers.iter().map(AsRef::as_ref)
    }
    /// Whether `finalizer` is set.
    pub fn has_finalizer(&self, finalizer: &str) -> bool {
        self.finalizers().any(|f| f == finalizer)
    }
}

impl Object for Meta {
    const METADATA_ONLY: bool = true;
    fn key(&self) -> Key {
        Key::new(self.namespace(), self.name())
    }
    fn uid(&self) -> &str {
        &self.metadata.uid
    }
    fn resource_version(&self) -> &str {
        &self.metadata.resource_version
    }
    fn compact(&mut self) {
        self.metadata.owner_references.shrink_to_fit();
        self.metadata.finalizers.shrink_to_fit();
    }
}

/// The uid of the owner that controls `object`, if one does.
pub fn owner_uid<K: kube::Resource>(object: &K) -> Option<&str> {
    object
        .meta()
        .owner_references
        .as_deref()?
        .iter()
        .find(|o| o.controller == Some(true))
        .map(|o| o.uid.as_str())
}

/// A reference to `object`, as an event names what it is about.
pub fn reference<K: kube::Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    let meta = object.meta();
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: meta.name.clone(),
        namespace: meta.namespace.clone(),
        uid: meta.uid.clone(),
        resource_version: meta.resource_version.clone(),
        field_path: None,
    }
}
