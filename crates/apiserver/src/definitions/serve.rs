//! The resources that a definition adds. Pure.

use std::cmp::Ordering;
use std::sync::Arc;

use api::resource::{Resource, ResourceRef, Subresource, Text, Texts};
use api::schema::Schema;
use api::structural::{Custom, ObjectRules};
use base64::Engine as _;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::is_true;
use crate::conversion::Conversion;
use crate::resources::Served;
use crate::rules::Rules;

const VERBS: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "create",
    "update",
    "watch",
];
/// Those of a definition that is being deleted.
const ENDING: &[&str] = &[
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];

const PART: &[&str] = &["get", "patch", "update"];
const STATUS: Subresource = Subresource {
    name: "status",
    group: "",
    version: "",
    kind: "",
    verbs: PART,
    schema: None,
};
const SCALE: Subresource = Subresource {
    name: "scale",
    group: "autoscaling",
    version: "v1",
    kind: "Scale",
    verbs: PART,
    schema: None,
};

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn texts(value: &Value, pointer: &str) -> Texts {
    let list = value.pointer(pointer).and_then(Value::as_array);
    let list = list.into_iter().flatten().filter_map(Value::as_str);
    Texts::Shared(list.map(str::to_owned).collect())
}

fn versions(definition: &Value) -> Arc<[Value]> {
    let all = definition
        .pointer("/spec/versions")
        .and_then(Value::as_array);
    all.map_or_else(Arc::default, |all| all.iter().cloned().collect())
}

/// What is served for a definition; nothing when that is `before`, what was served for it. Schemas
/// are made anew where the definition says something else only: what is known by one stays known.
pub(super) fn served(definition: &Value, before: Option<&Served>) -> Option<Served> {
    if !is_true(definition, "Established") {
        return Some(Served::default());
    }
    let said = json!([definition["spec"], definition["status"]["acceptedNames"]]);
    let ending = definition.pointer("/metadata/deletionTimestamp").is_some();
    let before = before.filter(|before| before.said == said);
    if before.is_some_and(|before| before.ending == ending) {
        return None;
    }
    let mut resources = in_versions(definition, &versions(definition), before);
    resources.retain(|resource| {
        let schema = resource.schema.custom();
        schema.is_some_and(|schema| schema.version()["served"] == true) && !is_built_in(resource)
    });
    resources.sort_by(|a, b| super::names::by_version(&a.version, &b.version));
    Some(Served {
        resources,
        conversion: Conversion::of(definition).map(Arc::new),
        said,
        ending,
    })
}

/// Whether the server has a whole group version itself: definitions add nothing to those.
fn is_built_in(resource: &Resource) -> bool {
    let same = |own: &Resource| own.group == resource.group && own.version == resource.version;
    api::resource::all().iter().any(same)
}

/// The resource in each of its versions, served or not.
pub(super) fn all(definition: &Value) -> Vec<ResourceRef> {
    let all = in_versions(definition, &versions(definition), None);
    all.into_iter().map(ResourceRef::from).collect()
}

fn in_versions(
    definition: &Value,
    versions: &Arc<[Value]>,
    before: Option<&Served>,
) -> Vec<Arc<Resource>> {
    let Some(at) = versions.iter().position(|v| v["storage"] == true) else {
        return Vec::new();
    };
    let stored = Arc::new(one(definition, versions, at, before));
    let each = (0..versions.len()).map(|version| {
        if version == at {
            return stored.clone();
        }
        let mut resource = one(definition, versions, version, before);
        resource.stored_as = Some(stored.clone());
        resource.storage_version = stored.version.clone();
        Arc::new(resource)
    });
    each.collect()
}

fn one(
    definition: &Value,
    versions: &Arc<[Value]>,
    at: usize,
    before: Option<&Served>,
) -> Resource {
    let version = &versions[at];
    let shared = |pointer: &str| Text::from(text(definition, pointer).to_owned());
    let name = text(version, "/name");
    let group = text(definition, "/spec/group");
    let has = |part: &str| version.pointer(part).is_some();
    let subresources: &'static [Subresource] =
        match (has("/subresources/status"), has("/subresources/scale")) {
            (true, true) => &[STATUS, SCALE],
            (true, false) => &[STATUS],
            (false, true) => &[SCALE],
            (false, false) => &[],
        };
    let ending = definition.pointer("/metadata/deletionTimestamp").is_some();
    let known = before.and_then(|before| before.schema(name));
    let schema = known.unwrap_or_else(|| {
        let rules = Rules::compile(&version["schema"]["openAPIV3Schema"]);
        let rules = (!rules.is_empty()).then(|| Box::new(rules) as Box<dyn ObjectRules>);
        Schema::Custom(Custom::among(versions, at, rules))
    });
    let names = "/status/acceptedNames";
    Resource {
        group: shared("/spec/group"),
        version: Text::from(name.to_owned()),
        api_version: Text::from(format!("{group}/{name}")),
        plural: shared("/spec/names/plural"),
        singular: shared(&format!("{names}/singular")),
        kind: shared("/spec/names/kind"),
        list_kind: shared("/spec/names/listKind"),
        namespaced: text(definition, "/spec/scope") == "Namespaced",
        short_names: texts(definition, &format!("{names}/shortNames")),
        categories: texts(definition, &format!("{names}/categories")),
        verbs: if ending { ENDING } else { VERBS },
        subresources,
        schema,
        list_schema: None,
        storage_group: shared("/spec/group"),
        storage_version: Text::from(name.to_owned()),
        storage_version_hash: hash(group, name, text(definition, "/spec/names/kind")).into(),
        stored_as: None,
    }
}

/// What a client of a deprecated version is told: the definition's own words, or where to go.
pub(crate) fn deprecation(resource: &Resource) -> Option<String> {
    let custom = resource.schema.custom()?;
    let version = custom.version();
    if version["deprecated"] != true {
        return None;
    }
    if let Some(own) = version["deprecationWarning"].as_str() {
        return Some(own.to_owned());
    }
    let by_version = super::names::by_version;
    let (group, kind, own) = (&resource.group, &resource.kind, &resource.version);
    let better = custom
        .versions()
        .iter()
        .filter(|other| other["served"] == true && other["deprecated"] != true)
        .map(|other| text(other, "/name"))
        .filter(|other| by_version(other, own) == Ordering::Less)
        .min_by(|a, b| by_version(a, b));
    let mut words = format!("{group}/{own} {kind} is deprecated");
    if let Some(better) = better {
        words.push_str(&format!("; use {group}/{better} {kind}"));
    }
    Some(words)
}

/// Upstream's hash of a version in storage.
fn hash(group: &str, version: &str, kind: &str) -> String {
    let digest = Sha256::digest(format!("{group}/{version}/{kind}").as_bytes());
    base64::engine::general_purpose::STANDARD.encode(&digest[..8])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(group: &str) -> Value {
        let version = |name: &str, storage: bool| {
            json!({"name": name, "served": true, "storage": storage,
                "schema": {"openAPIV3Schema": {"type": "object"}}})
        };
        let names =
            json!({"plural": "foos", "singular": "foo", "kind": "Foo", "listKind": "FooList"});
        json!({"metadata": {"name": format!("foos.{group}")},
            "spec": {"group": group, "scope": "Namespaced", "names": names,
                "versions": [version("v1", true), version("v9", false)]},
            "status": {"acceptedNames": names,
                "conditions": [{"type": "Established", "status": "True"}]}})
    }

    fn versions_of(served: &Served) -> Vec<&str> {
        served.resources.iter().map(|r| &*r.version).collect()
    }

    #[test]
    fn nothing_is_added_to_the_servers_own_versions() {
        let served = served(&definition("g.io"), None).unwrap_or_default();
        assert_eq!(versions_of(&served), ["v9", "v1"]);
        let served = super::served(&definition("networking.k8s.io"), None).unwrap_or_default();
        assert_eq!(versions_of(&served), ["v9"]);
        assert_eq!(served.resources[0].storage().version, "v1");
    }

    #[test]
    fn schemas_live_as_long_as_what_the_definition_says() {
        let id = |served: &Served| served.schema("v1").and_then(|s| s.custom().map(|c| c.id()));
        let mut definition = definition("g.io");
        let first = served(&definition, None).unwrap_or_default();
        definition["status"]["conditions"][0]["message"] = "other words".into();
        assert!(served(&definition, Some(&first)).is_none());
        definition["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        let ending = served(&definition, Some(&first)).unwrap_or_default();
        assert_eq!(id(&ending), id(&first));
        assert!(!ending.resources[0].has_verb("create"));
        definition["spec"]["conversion"] = json!({"strategy": "Webhook"});
        let changed = served(&definition, Some(&ending)).unwrap_or_default();
        assert_ne!(id(&changed), id(&first));
        assert!(changed.conversion.is_some());
    }
}
