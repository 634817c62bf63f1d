//! Which objects a list or a watch is about: namespace, labels, fields.

use api::resource::ResourceRef;
use api::selector::{FieldSelector, LabelSelector};

use super::fields::stored_label;
use super::object::Object;

/// A filter over the objects of one kind.
pub(crate) struct Filter {
    /// Only objects of this namespace.
    pub(crate) namespace: Option<String>,
    /// Only objects with these labels.
    pub(crate) labels: LabelSelector,
    /// Only objects with these field values; labels as stored.
    terms: Vec<(String, bool, String)>,
    /// The selector itself, for fields that are not picked at load.
    fields: FieldSelector,
    resource: ResourceRef,
}

impl Filter {
    pub(crate) fn new(
        resource: &ResourceRef,
        namespace: Option<String>,
        labels: LabelSelector,
        fields: FieldSelector,
    ) -> Self {
        let terms = fields
            .terms
            .iter()
            .map(|(label, equal, value)| {
                (stored_label(&resource.group, label), *equal, value.clone())
            })
            .collect();
        Self {
            namespace,
            labels,
            terms,
            fields,
            resource: resource.clone(),
        }
    }

    /// Whether it is about labels or fields at all.
    pub(crate) fn selects(&self) -> bool {
        !self.labels.is_everything() || !self.terms.is_empty()
    }

    /// Whether the object may pass in some version: its namespace and name are the same in all.
    pub(crate) fn may_match(&self, object: &Object) -> bool {
        let mut terms = self.terms.iter();
        self.namespace
            .as_deref()
            .is_none_or(|namespace| namespace == object.namespace())
            && terms.all(|(label, equal, wanted)| {
                let own = match label.as_str() {
                    "metadata.name" => object.name(),
                    "metadata.namespace" => object.namespace(),
                    _ => return true,
                };
                (own == wanted) == *equal
            })
    }

    /// Whether the object passes.
    pub(crate) fn matches(&self, object: &Object) -> bool {
        if self
            .namespace
            .as_deref()
            .is_some_and(|n| n != object.namespace())
        {
            return false;
        }
        for (label, equal, wanted) in &self.terms {
            match object.field(label) {
                Some(found) if (found == wanted) != *equal => return false,
                Some(_) => {}
                None => return self.matches_slowly(object),
            }
        }
        self.labels.is_everything() || self.labels.matches(object.labels.as_deref())
    }

    fn matches_slowly(&self, object: &Object) -> bool {
        self.fields.matches(self.resource.hub(), &object.value())
            && self.labels.matches(object.labels.as_deref())
    }
}
