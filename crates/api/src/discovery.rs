//! Discovery documents: `/api`, `/apis`, each group version, and the aggregated form of them.
//!
//! The apiserver adds what it learns at run time (custom resources) to these.

use serde_json::{Map, Value, json};

use std::sync::Arc;

use crate::resource::{Resource, Subresource, Texts, all};

/// `apiVersion` of the aggregated documents.
pub const AGGREGATED_API_VERSION: &str = "apidiscovery.k8s.io/v2";

/// The named groups and their versions, in upstream's order, the preferred version first.
#[must_use]
pub fn groups(custom: &[Arc<Resource>]) -> Vec<(&str, Vec<&str>)> {
    let mut groups: Vec<(&str, Vec<&str>)> = Vec::new();
    for resource in served(custom).filter(|r| !r.group.is_empty()) {
        match groups
            .iter_mut()
            .find(|(group, _)| *group == resource.group)
        {
            Some((_, versions)) if versions.contains(&&*resource.version) => {}
            Some((_, versions)) => versions.push(&resource.version),
            None => groups.push((&resource.group, vec![&resource.version])),
        }
    }
    groups
}

/// `/api`. `server_address` is `host:port` as clients reach it.
#[must_use]
pub fn api_versions(server_address: &str) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": server_address}]
    })
}

/// `/apis`.
#[must_use]
pub fn api_group_list(custom: &[Arc<Resource>]) -> Value {
    let groups: Vec<Value> = groups(custom)
        .iter()
        .map(|(group, versions)| group_value(group, versions))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
}

/// `/apis/<group>`.
#[must_use]
pub fn api_group(group: &str, custom: &[Arc<Resource>]) -> Option<Value> {
    let groups = groups(custom);
    let (group, versions) = groups.iter().find(|(name, _)| *name == group)?;
    let mut value = group_value(group, versions);
    value["kind"] = "APIGroup".into();
    value["apiVersion"] = "v1".into();
    Some(value)
}

fn group_value(group: &str, versions: &[&str]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|v| json!({"groupVersion": format!("{group}/{v}"), "version": v}))
        .collect();
    json!({"name": group, "preferredVersion": versions[0], "versions": versions})
}

fn served(custom: &[Arc<Resource>]) -> impl Iterator<Item = &Resource> {
    all()
        .iter()
        .chain(custom.iter().map(|resource| &**resource))
}

fn of<'a>(
    group: &'a str,
    version: &'a str,
    custom: &'a [Arc<Resource>],
) -> impl Iterator<Item = &'a Resource> {
    served(custom).filter(move |r| r.group == group && r.version == version)
}

/// `/api/v1` and `/apis/<group>/<version>`.
#[must_use]
pub fn resource_list(group: &str, version: &str, custom: &[Arc<Resource>]) -> Option<Value> {
    let mut resources = Vec::new();
    let mut api_version = None;
    for resource in of(group, version, custom) {
        api_version = Some(&resource.api_version);
        resources.push(listed(resource));
        resources.extend(
            resource
                .subresources
                .iter()
                .map(|sub| listed_sub(resource, sub)),
        );
    }
    let api_version = api_version?;
    let mut list =
        json!({"kind": "APIResourceList", "groupVersion": api_version, "resources": resources});
    if !group.is_empty() {
        list["apiVersion"] = "v1".into();
    }
    Some(list)
}

fn listed(resource: &Resource) -> Value {
    let mut value = json!({
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": resource.verbs,
    });
    insert_list(&mut value, "shortNames", &resource.short_names);
    insert_list(&mut value, "categories", &resource.categories);
    insert_text(
        &mut value,
        "storageVersionHash",
        &resource.storage_version_hash,
    );
    value
}

fn listed_sub(resource: &Resource, sub: &Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", resource.plural, sub.name),
        "singularName": "",
        "namespaced": resource.namespaced,
        "kind": resource.body_kind(sub),
        "verbs": sub.verbs,
    });
    insert_text(&mut value, "group", sub.group);
    insert_text(&mut value, "version", sub.version);
    value
}

fn insert_list(value: &mut Value, key: &str, list: &Texts) {
    if !list.is_empty() {
        value[key] = list.iter().collect();
    }
}

fn insert_text(value: &mut Value, key: &str, text: &str) {
    if !text.is_empty() {
        value[key] = text.into();
    }
}

/// `/api` (legacy group) as `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`.
#[must_use]
pub fn aggregated_v2_core() -> Value {
    list_value(vec![
        json!({"metadata": {}, "versions": [aggregated_version("", "v1", &[])]}),
    ])
}

/// `/apis` (all named groups) as `apidiscovery.k8s.io/v2` `APIGroupDiscoveryList`.
#[must_use]
pub fn aggregated_v2(custom: &[Arc<Resource>]) -> Value {
    let groups = groups(custom).into_iter().map(|(group, versions)| {
        let versions: Vec<Value> = versions
            .iter()
            .map(|version| aggregated_version(group, version, custom))
            .collect();
        json!({"metadata": {"name": group}, "versions": versions})
    });
    list_value(groups.collect())
}

fn list_value(items: Vec<Value>) -> Value {
    json!({"kind": "APIGroupDiscoveryList", "apiVersion": AGGREGATED_API_VERSION, "metadata": {}, "items": items})
}

fn aggregated_version(group: &str, version: &str, custom: &[Arc<Resource>]) -> Value {
    let resources: Vec<Value> = of(group, version, custom).map(aggregated).collect();
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

fn aggregated(resource: &Resource) -> Value {
    let mut value = json!({
        "resource": resource.plural,
        "responseKind": kind("", "", &resource.kind),
        "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": resource.singular,
        "verbs": resource.verbs,
    });
    insert_list(&mut value, "shortNames", &resource.short_names);
    insert_list(&mut value, "categories", &resource.categories);
    if !resource.subresources.is_empty() {
        let subs = resource.subresources.iter().map(|sub| {
            json!({
                "subresource": sub.name,
                "responseKind": kind(sub.group, sub.version, resource.body_kind(sub)),
                "verbs": sub.verbs,
            })
        });
        value["subresources"] = subs.collect();
    }
    value
}

/// Empty group and version mean those of the enclosing document.
fn kind(group: &str, version: &str, kind: &str) -> Value {
    let mut value = Map::new();
    value.insert("group".to_owned(), group.into());
    value.insert("version".to_owned(), version.into());
    value.insert("kind".to_owned(), kind.into());
    Value::Object(value)
}
