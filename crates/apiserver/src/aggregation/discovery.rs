//! Discovery and OpenAPI with what aggregated servers serve. Pure, but for what is known of them.
//!
//! Invariant: what this server serves itself is never replaced by what another says.

use serde_json::{Map, Value, json};

use super::{ApiService, Learned, remotes};
use crate::hooks::text;
use crate::state::State;

/// The priority of a group whose APIService is not there.
const UNKNOWN: i64 = 0;

/// The remote APIServices with what they have said, to be merged into documents.
pub(crate) struct Merged {
    remotes: Vec<(ApiService, Option<std::sync::Arc<Learned>>)>,
    /// The priorities of groups.
    priorities: std::collections::BTreeMap<String, i64>,
}

impl Merged {
    /// What there is; nothing when no other server serves anything.
    pub(crate) fn of(state: &State) -> Option<Self> {
        let services = remotes(state);
        if services.is_empty() {
            return None;
        }
        let mut priorities = std::collections::BTreeMap::new();
        for object in state.cache.kind(super::GROUP, super::PLURAL).list(None) {
            let service = ApiService::of(&object.value());
            let known = priorities.entry(service.group).or_insert(UNKNOWN);
            *known = service.group_priority.max(*known);
        }
        // The registry itself comes first.
        priorities.insert(super::GROUP.to_owned(), i64::MAX);
        let mut remotes: Vec<_> = services
            .iter()
            .map(|service| (service.clone(), state.aggregation.learned(service)))
            .collect();
        remotes.sort_by_key(|(service, _)| std::cmp::Reverse(service.version_priority));
        Some(Self {
            remotes,
            priorities,
        })
    }

    fn priority(&self, group: &str) -> i64 {
        self.priorities.get(group).copied().unwrap_or(UNKNOWN)
    }

    /// `/apis` as an APIGroupList.
    pub(crate) fn groups(&self, local: &Value) -> Value {
        let mut list = local.clone();
        let groups = list.get_mut("groups").and_then(Value::as_array_mut);
        if let Some(groups) = groups {
            for (service, _) in &self.remotes {
                let version = group_version(service);
                let found = groups.iter_mut().find(|g| g["name"] == *service.group);
                match found {
                    Some(group) => add_version(group, version, "groupVersion"),
                    None => groups.push(json!({"name": service.group,
                        "preferredVersion": version.clone(), "versions": [version]})),
                }
            }
            groups.sort_by_key(|g| std::cmp::Reverse(self.priority(text(g, "/name"))));
        }
        list
    }

    /// `/apis/GROUP`; `local` is null where this server serves nothing of it.
    pub(crate) fn group(&self, group: &str, local: Value) -> Option<Value> {
        let mut found = local;
        for (service, _) in self.remotes.iter().filter(|(s, _)| s.group == group) {
            let version = group_version(service);
            if found.is_null() {
                found = json!({"kind": "APIGroup", "apiVersion": "v1", "name": group,
                    "versions": [version.clone()], "preferredVersion": version});
            } else {
                add_version(&mut found, version, "groupVersion");
            }
        }
        (!found.is_null()).then_some(found)
    }

    /// `/apis` as an APIGroupDiscoveryList.
    pub(crate) fn aggregated(&self, local: &Value) -> Value {
        let mut list = local.clone();
        if let Some(items) = list.get_mut("items").and_then(Value::as_array_mut) {
            for (service, learned) in &self.remotes {
                let version = version_discovery(service, learned.as_deref());
                let name = |item: &Value| text(item, "/metadata/name").to_owned();
                match items.iter_mut().find(|item| name(item) == service.group) {
                    Some(group) => add_version(group, version, "version"),
                    None => items.push(json!({"metadata": {"name": service.group},
                        "versions": [version]})),
                }
            }
            items
                .sort_by_key(|item| std::cmp::Reverse(self.priority(text(item, "/metadata/name"))));
        }
        list
    }

    /// `/openapi/v3`.
    pub(crate) fn openapi_v3(&self, local: &Value) -> Value {
        let mut index = local.clone();
        if let Some(paths) = index.get_mut("paths").and_then(Value::as_object_mut) {
            for (service, learned) in &self.remotes {
                let entry = learned.as_ref().and_then(|l| l.openapi_v3.clone());
                if let Some(entry) = entry {
                    let path = format!("apis/{}/{}", service.group, service.version);
                    paths.entry(path).or_insert(entry);
                }
            }
        }
        index
    }

    /// `/openapi/v2`.
    pub(crate) fn openapi_v2(&self, local: &Value) -> Value {
        let mut document = local.clone();
        for (service, learned) in &self.remotes {
            let Some(learned) = learned else { continue };
            let prefix = format!("/apis/{}/{}", service.group, service.version);
            let ours = |path: &str| {
                path.strip_prefix(&prefix)
                    .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            };
            merge(&mut document, &learned.openapi_v2, "paths", |path| {
                ours(path)
            });
            merge(&mut document, &learned.openapi_v2, "definitions", |_| true);
        }
        document
    }
}

fn merge(document: &mut Value, from: &Value, member: &str, keep: impl Fn(&str) -> bool) {
    let from = from.get(member).and_then(Value::as_object);
    let to = document.get_mut(member).and_then(Value::as_object_mut);
    let (Some(from), Some(to)) = (from, to) else {
        return;
    };
    for (name, value) in from.iter().filter(|(name, _)| keep(name)) {
        to.entry(name.clone()).or_insert_with(|| value.clone());
    }
}

fn group_version(service: &ApiService) -> Value {
    json!({"groupVersion": format!("{}/{}", service.group, service.version),
        "version": service.version})
}

fn add_version(group: &mut Value, version: Value, key: &str) {
    if let Some(versions) = group.get_mut("versions").and_then(Value::as_array_mut)
        && !versions
            .iter()
            .any(|known| known.get(key) == version.get(key))
    {
        versions.push(version);
    }
}

/// What a server serves, in the aggregated form; stale where it does not answer.
fn version_discovery(service: &ApiService, learned: Option<&Learned>) -> Value {
    let freshness = if service.available && learned.is_some() {
        "Current"
    } else {
        "Stale"
    };
    let listed = learned.and_then(|l| l.resources.get("resources"));
    let listed = listed
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    let mut resources: Vec<Value> = Vec::new();
    for resource in listed {
        let name = text(resource, "/name");
        let Some((parent, sub)) = name.split_once('/') else {
            resources.push(resource_discovery(service, resource));
            continue;
        };
        let parent = resources.iter_mut().find(|r| r["resource"] == *parent);
        if let Some(parent) = parent {
            let mut one = Map::new();
            one.insert("subresource".to_owned(), sub.into());
            one.insert("responseKind".to_owned(), kind(service, resource));
            one.insert("verbs".to_owned(), resource["verbs"].clone());
            match parent.get_mut("subresources").and_then(Value::as_array_mut) {
                Some(all) => all.push(Value::Object(one)),
                None => parent["subresources"] = json!([one]),
            }
        }
    }
    json!({"version": service.version, "resources": resources, "freshness": freshness})
}

fn resource_discovery(service: &ApiService, resource: &Value) -> Value {
    let namespaced = resource.get("namespaced").and_then(Value::as_bool) == Some(true);
    let mut one = json!({
        "resource": text(resource, "/name"),
        "responseKind": kind(service, resource),
        "scope": if namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": text(resource, "/singularName"),
        "verbs": resource.get("verbs").cloned().unwrap_or_else(|| json!([])),
    });
    for name in ["shortNames", "categories"] {
        if let Some(list) = resource.get(name).filter(|list| list.is_array()) {
            one[name] = list.clone();
        }
    }
    one
}

fn kind(service: &ApiService, resource: &Value) -> Value {
    let or = |name: &str, own: &str| match text(resource, name) {
        "" => own.to_owned(),
        given => given.to_owned(),
    };
    json!({"group": or("/group", &service.group), "version": or("/version", &service.version),
        "kind": text(resource, "/kind")})
}

/// The APIService whose server has the document of a path below `/openapi/v3`.
pub(crate) fn openapi_service(state: &State, path: &str) -> Option<ApiService> {
    let path = path.strip_prefix("/openapi/v3")?;
    super::serving(state, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resource_lists_become_aggregated() {
        let service = ApiService::of(&json!({"metadata": {"name": "v1.x.io", "uid": "u"},
            "spec": {"group": "x.io", "version": "v1", "service": {}},
            "status": {"conditions": [{"type": "Available", "status": "True"}]}}));
        let learned = Learned {
            resources: json!({"resources": [
                {"name": "things", "singularName": "thing", "namespaced": true, "kind": "Thing",
                    "verbs": ["get"], "shortNames": ["th"]},
                {"name": "things/scale", "singularName": "", "namespaced": true, "kind": "Scale",
                    "group": "autoscaling", "version": "v1", "verbs": ["get"]}]}),
            ..Learned::default()
        };
        let thing = json!({"resource": "things", "scope": "Namespaced", "verbs": ["get"],
            "responseKind": {"group": "x.io", "version": "v1", "kind": "Thing"},
            "singularResource": "thing", "shortNames": ["th"], "subresources": [
                {"subresource": "scale", "verbs": ["get"],
                    "responseKind": {"group": "autoscaling", "version": "v1", "kind": "Scale"}}]});
        assert_eq!(
            version_discovery(&service, Some(&learned)),
            json!({"version": "v1", "freshness": "Current", "resources": [thing]})
        );
        let stale = version_discovery(&service, None);
        assert_eq!(stale["freshness"], "Stale");
    }
}
