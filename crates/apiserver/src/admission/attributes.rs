//! What a write is to admission, whatever verb and content type it came by.
//!
//! Invariant: `object` and `old_object` of a resource's own kind are in the version that is worked on;
//! bodies of other kinds (a Scale, a Binding, options) are as they were sent.

use api::fields::Converter as _;
use api::resource::ResourceRef;
use api::schema::{Schema, TypeRef};
use api::status::ApiError;
use serde_json::{Map, Value, json};

use crate::conversion;
use crate::pipeline::{Call, managed, stages};

/// What is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

impl Operation {
    /// Its name in rules and reviews.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// The type of a body.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupVersionKind {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
}

impl GroupVersionKind {
    pub(crate) fn new(group: &str, version: &str, kind: &str) -> Self {
        Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
        }
    }

    /// As reviews carry it.
    pub(crate) fn to_value(&self) -> Value {
        json!({"group": self.group, "version": self.version, "kind": self.kind})
    }
}

/// What a path names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct GroupVersionResource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) resource: String,
}

impl GroupVersionResource {
    /// As reviews carry it.
    pub(crate) fn to_value(&self) -> Value {
        json!({"group": self.group, "version": self.version, "resource": self.resource})
    }
}

/// A body of a kind of its own, shown to admission in the place of the object.
#[derive(Debug, Clone)]
pub(crate) struct BodyKind {
    pub(crate) kind: GroupVersionKind,
    /// Absent for options, which no schema describes.
    pub(crate) schema: Option<TypeRef>,
}

impl BodyKind {
    /// The kind, if its type is known.
    pub(crate) fn of(group: &str, version: &str, kind: &str) -> Option<Self> {
        Some(Self {
            kind: GroupVersionKind::new(group, version, kind),
            schema: Some(api::schema::type_of(group, version, kind)?),
        })
    }
}

/// One write.
pub(crate) struct Attributes<'a> {
    /// The request: its user, its subresource, where warnings and audit annotations go.
    pub(crate) call: &'a Call,
    pub(crate) operation: Operation,
    /// The type of `object` in the version of the request.
    pub(crate) kind: GroupVersionKind,
    /// What the request's path names.
    pub(crate) resource: GroupVersionResource,
    /// Of a namespace: its own name.
    pub(crate) namespace: String,
    /// Empty where the server is yet to make one.
    pub(crate) name: String,
    /// What is written; null when something is deleted.
    pub(crate) object: Value,
    /// What is there; null where nothing is.
    pub(crate) old_object: Value,
    /// CreateOptions, UpdateOptions, DeleteOptions; null of a connection.
    pub(crate) options: Value,
    pub(crate) dry_run: bool,
    body: Option<BodyKind>,
}

impl<'a> Attributes<'a> {
    /// A write of an object of the call's resource.
    pub(crate) fn of_object(
        call: &'a Call,
        operation: Operation,
        object: Value,
        old_object: Value,
    ) -> Self {
        let res = &call.resource;
        let named = if object.is_null() {
            &old_object
        } else {
            &object
        };
        let name = match call.name.as_str() {
            "" => api::meta::name(named).to_owned(),
            name => name.to_owned(),
        };
        let namespace = if res.group.is_empty() && res.plural == "namespaces" {
            name.clone()
        } else {
            call.namespace.clone()
        };
        Self {
            call,
            operation,
            kind: GroupVersionKind::new(&res.group, &res.version, &res.kind),
            resource: GroupVersionResource {
                group: res.group.to_string(),
                version: res.version.to_string(),
                resource: res.plural.to_string(),
            },
            namespace,
            name,
            object,
            old_object,
            options: options(call, operation),
            dry_run: call.dry_run,
            body: None,
        }
    }

    /// A request with a body of a kind of its own.
    pub(crate) fn of_body(
        call: &'a Call,
        operation: Operation,
        body: BodyKind,
        object: Value,
        old_object: Value,
    ) -> Self {
        Self {
            kind: body.kind.clone(),
            body: Some(body),
            ..Self::of_object(call, operation, object, old_object)
        }
    }

    /// The subresource; empty for the resource itself.
    pub(crate) fn subresource(&self) -> &str {
        &self.call.subresource
    }

    /// Whether the write is of an admission configuration, which no configuration guards: what is
    /// broken must be mendable.
    pub(crate) fn is_exempt(&self) -> bool {
        self.kind.group == "admissionregistration.k8s.io"
            && matches!(
                self.kind.kind.as_str(),
                "ValidatingWebhookConfiguration"
                    | "MutatingWebhookConfiguration"
                    | "ValidatingAdmissionPolicy"
                    | "ValidatingAdmissionPolicyBinding"
                    | "MutatingAdmissionPolicy"
                    | "MutatingAdmissionPolicyBinding"
            )
    }

    /// The resource under all names by which it is served, with the kind of the body there; the
    /// request's own first.
    pub(crate) fn equivalents(&self) -> Vec<(GroupVersionResource, GroupVersionKind)> {
        let mut all = vec![(self.resource.clone(), self.kind.clone())];
        let own = &self.call.resource;
        for other in self.call.state.resources.versions(own) {
            if other.api_version == own.api_version {
                continue;
            }
            let kind = match &self.body {
                Some(body) => body.kind.clone(),
                None => GroupVersionKind::new(&other.group, &other.version, &other.kind),
            };
            let resource = GroupVersionResource {
                group: other.group.to_string(),
                version: other.version.to_string(),
                resource: other.plural.to_string(),
            };
            all.push((resource, kind));
        }
        all
    }

    fn named(&self, version: &GroupVersionResource) -> Option<ResourceRef> {
        let resources = &self.call.state.resources;
        resources.find(&version.group, &version.version, &version.resource)
    }

    /// Sees to it that both objects can be shown as a version of the resource has them.
    ///
    /// # Errors
    /// When they cannot.
    pub(crate) async fn prepare(&self, version: &GroupVersionResource) -> Result<(), ApiError> {
        if !managed::converts(self.call) {
            return Ok(());
        }
        let both = || [&self.object, &self.old_object].map(|one| self.converted(one, version));
        // What is missed is asked for.
        if both().iter().any(Result::is_err) && self.call.conversions.settle(self.call).await? {
            for converted in both() {
                converted.map_err(ApiError::internal)?;
            }
        }
        Ok(())
    }

    /// An object of these attributes as a version of the resource has it. They are prepared for that
    /// version.
    pub(crate) fn shown(&self, object: &Value, version: &GroupVersionResource) -> Value {
        let converted = self.converted(object, version);
        converted.unwrap_or_else(|_| object.clone())
    }

    fn converted(&self, object: &Value, version: &GroupVersionResource) -> Result<Value, String> {
        let mut shown = object.clone();
        let to = (self.body.is_none() && !shown.is_null()).then(|| self.named(version));
        let from = self.call.resource.hub();
        match to.flatten().filter(|to| to.api_version != from.api_version) {
            None => {}
            Some(to) if managed::converts(self.call) => {
                shown = self.call.conversions.convert(&shown, &to.api_version)?;
            }
            Some(to) => api::convert::convert(from, &to, &mut shown),
        }
        Ok(shown)
    }

    /// The type of what is written, in a version of the resource.
    pub(crate) fn schema(&self, version: &GroupVersionResource) -> Option<Schema> {
        match &self.body {
            Some(body) => body.schema.map(Schema::from),
            None => self.named(version).map(|found| found.schema.clone()),
        }
    }

    /// Takes an object of a version as the new one: checked, pruned, defaulted, and brought to the
    /// version that is worked on.
    ///
    /// # Errors
    /// What is wrong with it, or why it cannot be brought there.
    pub(crate) async fn take(
        &mut self,
        mut shown: Value,
        version: &GroupVersionResource,
    ) -> Result<(), String> {
        match &self.body {
            Some(body) => {
                if let Some(schema) = body.schema {
                    let decoded = api::schema::decode_type(schema, &mut shown);
                    decoded.map_err(|error| error.to_string())?;
                    api::schema::apply_type_defaults(schema, &mut shown);
                }
            }
            None => {
                if let Some(from) = self.named(version) {
                    let decoded = api::schema::decode(&from, &mut shown);
                    decoded.map_err(|error| error.to_string())?;
                    stages::to_hub(&from, &mut shown);
                    let own = &self.call.resource;
                    let brought = conversion::to_version(&self.call.state, own, shown, own.hub());
                    shown = brought.await.map_err(|error| error.message)?;
                }
            }
        }
        self.object = shown;
        Ok(())
    }
}

/// The options of a create or an update as its query says them; a patch is an update.
fn options(call: &Call, operation: Operation) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = Map::new();
    options.insert("kind".to_owned(), kind.into());
    options.insert("apiVersion".to_owned(), "meta.k8s.io/v1".into());
    if call.dry_run {
        options.insert("dryRun".to_owned(), json!(["All"]));
    }
    if operation != Operation::Delete {
        for name in ["fieldManager", "fieldValidation"] {
            if let Some(value) = call.query.text(name).filter(|value| !value.is_empty()) {
                options.insert(name.to_owned(), value.into());
            }
        }
    }
    Value::Object(options)
}
