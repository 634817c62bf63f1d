//! The two doors of this module: a write that came about anyhow, and server-side apply.

use std::borrow::Cow;
use std::fmt;
use std::sync::LazyLock;

use serde_json::Value;

use super::apply::{self, ApplyError};
use super::compare::Comparison;
use super::entries::{Entry, Id, ManagedFields, Operation};
use super::form::{Form, TypeError, zero};
use super::node::Node;
use super::reset::Reset;
use super::set::Set;
use crate::resource::{self, Resource};
use crate::schema::{self, Schema};

/// Who owns what was there before anybody's fields were kept.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";
/// Managers without a name.
const UNKNOWN: &str = "unknown";

/// Metadata that nobody owns.
static NOBODYS: LazyLock<Set> = LazyLock::new(|| {
    let own = [
        "name",
        "namespace",
        "creationTimestamp",
        "selfLink",
        "uid",
        "clusterName",
        "generation",
        "managedFields",
        "resourceVersion",
    ];
    let mut set = Set::of(&[&["apiVersion"], &["kind"], &["metadata"]]);
    for name in own {
        set.unite(Set::of(&[&["metadata", name]]));
    }
    set
});

/// Brings objects of a custom resource from one of their versions to another, where that takes more
/// than another `apiVersion`.
pub trait Converter: fmt::Debug + Sync {
    /// The object in the version `to`, an `apiVersion`.
    ///
    /// # Errors
    /// Why it cannot be had.
    fn convert(&self, object: &Value, to: &str) -> Result<Value, String>;
}

/// What is written to: objects of a type in a version, or a part of them.
#[derive(Debug, Clone)]
pub struct Target<'a> {
    pub(super) api_version: &'a str,
    pub(super) kind: &'a str,
    pub(super) schema: Schema,
    pub(super) subresource: &'a str,
    reset: Reset,
    /// The resource, where its objects have several versions.
    resource: Option<&'a Resource>,
    converter: Option<&'a dyn Converter>,
}

impl<'a> Target<'a> {
    /// Objects of a resource in its version, or through a subresource of it (empty for themselves).
    #[must_use]
    pub fn of(resource: &'a Resource, subresource: &'a str) -> Self {
        Self {
            api_version: &resource.api_version,
            kind: &resource.kind,
            schema: resource.schema.clone(),
            subresource,
            reset: Reset::of(resource, subresource),
            resource: Some(resource),
            converter: None,
        }
    }

    /// The same, whose objects become those of other versions by a converter.
    #[must_use]
    pub fn converting(self, converter: Option<&'a dyn Converter>) -> Self {
        Self { converter, ..self }
    }

    /// `scale` of any workload; nothing where the table does not have it.
    #[must_use]
    pub fn scale() -> Option<Self> {
        Some(Self {
            api_version: "autoscaling/v1",
            kind: "Scale",
            schema: Schema::Table(schema::type_of("autoscaling", "v1", "Scale")?),
            subresource: "scale",
            reset: Reset::Nothing,
            resource: None,
            converter: None,
        })
    }

    pub(super) fn form(&self) -> Form<'_> {
        Form::of(&self.schema)
    }

    /// The form of the objects in a version of theirs.
    pub(super) fn form_at(&self, version: &str) -> Option<Form<'_>> {
        if version == self.api_version {
            return Some(self.form());
        }
        if let (Schema::Custom(custom), Some(own)) = (&self.schema, self.resource) {
            let (group, version) = resource::split_api_version(version);
            let schema = custom.schema_in(version).filter(|_| *own.group == *group)?;
            return Some(Node::root(schema).form());
        }
        Some(Form::of(&self.in_version(version)?.schema))
    }

    fn in_version(&self, api_version: &str) -> Option<&Resource> {
        let own = self.resource?;
        if own.api_version == api_version {
            return Some(own);
        }
        let (group, version) = resource::split_api_version(api_version);
        resource::find(group, version, &own.plural)
            .filter(|other| other.storage_group == own.storage_group)
    }

    /// An object of this target's version in another version; nothing when there is no such version.
    pub(super) fn at(
        &self,
        value: &Value,
        version: &str,
    ) -> Result<Option<(Form<'_>, Value)>, ApplyError> {
        self.between(value, self.api_version, version)
    }

    pub(super) fn between(
        &self,
        value: &Value,
        from: &str,
        to: &str,
    ) -> Result<Option<(Form<'_>, Value)>, ApplyError> {
        let Some(form) = self.form_at(to) else {
            return Ok(None);
        };
        let mut value = value.clone();
        if from == to {
            return Ok(Some((form, value)));
        }
        if self.schema.custom().is_none() {
            let versions = self.in_version(from).zip(self.in_version(to));
            let Some((from, to)) = versions else {
                return Ok(None);
            };
            crate::convert::convert(from, to, &mut value);
            return Ok(Some((form, value)));
        }
        match self.converter {
            Some(converter) if !is_bare(&value) => {
                crate::meta::remove(&mut value, "managedFields");
                crate::meta::remove(&mut value, "resourceVersion");
                value = converter.convert(&value, to).map_err(ApplyError::Convert)?;
            }
            _ => {
                if let Value::Object(map) = &mut value {
                    map.insert("apiVersion".to_owned(), to.into());
                }
            }
        }
        Ok(Some((form, value)))
    }

    /// An object as it is worked on, in this target's version.
    fn of_hub<'v>(&self, object: &'v Value) -> Cow<'v, Value> {
        match self.resource {
            Some(resource) if resource.hub().api_version != resource.api_version => {
                let mut value = object.clone();
                crate::convert::convert(resource.hub(), resource, &mut value);
                Cow::Owned(value)
            }
            _ => Cow::Borrowed(object),
        }
    }

    pub(super) fn id(&self, manager: &str, operation: Operation) -> Id {
        let manager = if manager.is_empty() { UNKNOWN } else { manager };
        Id {
            manager: manager.to_owned(),
            operation,
            version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.api_version.to_owned(),
            },
            subresource: self.subresource.to_owned(),
        }
    }

    pub(super) fn compare(
        &self,
        form: Form<'_>,
        old: &Value,
        new: &Value,
    ) -> Result<Comparison, TypeError> {
        Ok(Comparison::of(form, old, new)?.without(&self.reset))
    }

    /// The fields that an applied object sets.
    pub(super) fn fields(&self, config: &Value) -> Result<Set, TypeError> {
        let mut set = self.form().fields(config)?;
        self.reset.apply(&mut set);
        Ok(set)
    }
}

/// Whether an object says nothing but its type: there is nothing to convert.
fn is_bare(object: &Value) -> bool {
    let names = |map: &serde_json::Map<String, Value>| {
        map.keys()
            .all(|name| matches!(name.as_str(), "apiVersion" | "kind"))
    };
    object.as_object().is_none_or(names)
}

pub(super) fn strip(set: &mut Set) {
    set.subtract(&NOBODYS);
}

/// Keeps the managed fields of a write that is no apply: `new` is what will be stored in place of
/// `live` (nothing for an object that is made), both in the version that they are worked on in.
///
/// Never fails: where the values do not fit their type, the fields of `live` are kept, and so are
/// those in a version that the values cannot be converted to.
pub fn update(
    target: &Target<'_>,
    live: Option<&Value>,
    new: &mut Value,
    manager: &str,
    now: &str,
) {
    let of_live = || live.and_then(ManagedFields::of).unwrap_or_default();
    let managed = if !target.subresource.is_empty() {
        of_live()
    } else if ManagedFields::is_reset(new) {
        ManagedFields::default()
    } else {
        // Clients that know nothing of managed fields shall not lose them.
        let told = ManagedFields::of(new).filter(|managed| !managed.is_empty());
        told.unwrap_or_else(of_live)
    };
    crate::meta::remove(new, "managedFields");
    if managed.is_empty() && live.is_some() {
        // Kept from the first apply on.
        return;
    }
    let old = live.map_or_else(
        || Cow::Owned(zero(&target.schema)),
        |live| target.of_hub(live),
    );
    match kept(target, &old, &target.of_hub(new), managed, manager, now) {
        Ok(managed) => managed.put(new),
        Err(_) => of_live().put(new),
    }
}

/// The entries after a change from `old` to `new` by a manager.
fn kept(
    target: &Target<'_>,
    old: &Value,
    new: &Value,
    mut managed: ManagedFields,
    manager: &str,
    now: &str,
) -> Result<ManagedFields, TypeError> {
    apply::conform(target, &mut managed);
    let compared = apply::settle(target, old, new, &mut managed, None, true);
    let compared = compared.map_err(|error| match error {
        ApplyError::Type(error) => error,
        other => TypeError::new(other.to_string()),
    })?;
    let mut fields = compared.set();
    strip(&mut fields);
    if !fields.is_empty() {
        let id = target.id(manager, Operation::Update);
        match managed.get_mut(&id) {
            Some(entry) => {
                entry.fields.unite(fields);
                now.clone_into(&mut entry.time);
            }
            None => managed.push(Entry {
                manager: id.manager,
                operation: Operation::Update,
                subresource: id.subresource,
                api_version: target.api_version.to_owned(),
                time: now.to_owned(),
                fields,
            }),
        }
    }
    managed.cap();
    Ok(managed)
}

/// Applies an object: what it says is merged into `live` (nothing when it is to be made),
/// and what the manager applied before and says no more goes, unless somebody else owns it.
///
/// Returns the merged object in the target's version, with its managed fields, without defaults.
///
/// # Errors
/// When the object is not of the target's type, and when it says other than what others own and
/// `force` is not set.
pub fn apply(
    target: &Target<'_>,
    live: Option<&Value>,
    config: &Value,
    manager: &str,
    force: bool,
    now: &str,
) -> Result<Value, ApplyError> {
    apply::check(target, config)?;
    let mut managed = live.and_then(ManagedFields::of).unwrap_or_default();
    let mut old = live.map_or_else(
        || Value::Object(serde_json::Map::new()),
        |live| target.of_hub(live).into_owned(),
    );
    crate::meta::remove(&mut old, "managedFields");
    if managed.is_empty() && live.is_some() {
        let nothing = zero(&target.schema);
        managed = kept(target, &nothing, &old, managed, BEFORE_FIRST_APPLY, now)?;
    }
    let (mut new, managed) = apply::apply(target, &old, config, managed, manager, force, now)?;
    managed.put(&mut new);
    Ok(new)
}

/// Gives managed fields their times back where nothing else has changed, so that a write that says
/// what is there already changes nothing.
pub fn keep_times(new: &mut Value, old: &Value) {
    let list = |object: &Value| {
        let list = object.get("metadata")?.get("managedFields")?.as_array()?;
        Some(list.clone())
    };
    let (Some(entries), Some(before)) = (list(new), list(old)) else {
        return;
    };
    if entries == before || entries.len() != before.len() {
        return;
    }
    let alike = |a: &Value, b: &Value| match (a.as_object(), b.as_object()) {
        (Some(a), Some(b)) => {
            let rest = |(name, _): &(&String, &Value)| name.as_str() != "time";
            a.iter().filter(rest).eq(b.iter().filter(rest))
        }
        _ => false,
    };
    // Times decide the order too, so that each entry looks for its own.
    let all_alike = entries
        .iter()
        .all(|entry| before.iter().any(|old| alike(entry, old)));
    if all_alike && same_but_managed(new, old) {
        crate::meta::set(new, "managedFields", before);
    }
}

fn same_but_managed(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    let meta = |map: &serde_json::Map<String, Value>| {
        let mut meta = map.get("metadata").cloned().unwrap_or_default();
        if let Some(meta) = meta.as_object_mut() {
            meta.remove("managedFields");
            meta.remove("resourceVersion");
        }
        meta
    };
    let rest = |(name, _): &(&String, &Value)| name.as_str() != "metadata";
    new.iter().filter(rest).eq(old.iter().filter(rest)) && meta(new) == meta(old)
}
