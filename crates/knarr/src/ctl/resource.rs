//! Which resource a word means: `po`, `deploy/hello`, `pods,services`, a manifest's kind.

use anyhow::{Context as _, Result, anyhow, bail};
use http::Request;
use serde_json::Value;

use super::connect::Connection;

/// One resource as discovery describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Resource {
    pub(crate) group: String,
    pub(crate) version: String,
    pub(crate) kind: String,
    pub(crate) plural: String,
    singular: String,
    short_names: Vec<String>,
    pub(crate) namespaced: bool,
}

impl Resource {
    /// The URL path of the collection, in a namespace where it has one.
    pub(crate) fn path(&self, namespace: Option<&str>) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match namespace.filter(|_| self.namespaced) {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.plural),
            None => format!("{root}/{}", self.plural),
        }
    }

    /// How kubectl names an object in its answers: `deployment.apps/hello`.
    pub(crate) fn qualified(&self, name: &str) -> String {
        let singular = &self.singular;
        if self.group.is_empty() {
            format!("{singular}/{name}")
        } else {
            format!("{singular}.{}/{name}", self.group)
        }
    }

    fn answers_to(&self, word: &str) -> bool {
        let (name, group) = word
            .split_once('.')
            .map_or((word, None), |(n, g)| (n, Some(g)));
        let name_fits = self.plural == name
            || self.singular == name
            || self.kind.eq_ignore_ascii_case(name)
            || self.short_names.iter().any(|short| short == name);
        let group_fits = group.is_none_or(|group| {
            self.group == group || format!("{}.{}", self.version, self.group) == group
        });
        name_fits && group_fits
    }
}

/// What the server has, in its order of preference.
pub(crate) struct Resources(Vec<Resource>);

impl Resources {
    /// Asks aggregated discovery.
    pub(crate) async fn discover(client: &kube::Client) -> Result<Self> {
        let mut resources = Vec::new();
        for root in ["/api", "/apis"] {
            let request = Request::get(root)
                .header(
                    http::header::ACCEPT,
                    "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
                )
                .body(Vec::new())?;
            let answer: Value = client
                .request(request)
                .await
                .context("cannot ask the server what it has")?;
            resources.extend(parse(&answer));
        }
        Ok(Self(resources))
    }

    /// By any of its names.
    pub(crate) fn by_word(&self, word: &str) -> Result<&Resource> {
        self.0
            .iter()
            .find(|resource| resource.answers_to(word))
            .ok_or_else(|| anyhow!("the server doesn't have a resource type {word:?}"))
    }

    /// By a manifest's `apiVersion` and `kind`.
    pub(crate) fn by_kind(&self, api_version: &str, kind: &str) -> Result<&Resource> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        self.0
            .iter()
            .find(|r| r.group == group && r.version == version && r.kind == kind)
            .ok_or_else(|| anyhow!("no matches for kind {kind:?} in version {api_version:?}"))
    }

    /// Reads kubectl's ways to name things: `TYPE`, `TYPE NAME…`, `TYPE/NAME…`, `TYPE,TYPE`.
    pub(crate) fn resolve(&self, words: &[String]) -> Result<Vec<Named>> {
        let (first, rest) = words.split_first().context("a resource type is needed")?;
        if words.iter().any(|word| word.contains('/')) {
            return words
                .iter()
                .map(|word| {
                    let (kind, name) = word.split_once('/').ok_or_else(|| {
                        anyhow!("there is no need to specify a resource type as a separate argument when passing arguments in resource/name form")
                    })?;
                    Ok(Named { resource: self.by_word(kind)?.clone(), name: Some(name.to_owned()) })
                })
                .collect();
        }
        let kinds: Vec<&str> = first.split(',').filter(|kind| !kind.is_empty()).collect();
        if kinds.is_empty() {
            bail!("a resource type is needed");
        }
        let mut named = Vec::new();
        for kind in kinds {
            let resource = self.by_word(kind)?;
            if rest.is_empty() {
                named.push(Named {
                    resource: resource.clone(),
                    name: None,
                });
            }
            named.extend(rest.iter().map(|name| Named {
                resource: resource.clone(),
                name: Some(name.clone()),
            }));
        }
        Ok(named)
    }
}

/// A resource type, or one object of it.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) resource: Resource,
    pub(crate) name: Option<String>,
}

impl Named {
    /// The URL path of the object or the collection.
    pub(crate) fn path(&self, connection: &Connection, all_namespaces: bool) -> String {
        let namespace = (!all_namespaces).then_some(connection.namespace.as_str());
        let path = self.resource.path(namespace);
        match &self.name {
            Some(name) => format!("{path}/{name}"),
            None => path,
        }
    }
}

fn parse(answer: &Value) -> Vec<Resource> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let items = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let mut resources = Vec::new();
    for group in items(&answer["items"]) {
        for version in items(&group["versions"]) {
            for resource in items(&version["resources"]) {
                resources.push(Resource {
                    group: text(&group["metadata"]["name"]),
                    version: text(&version["version"]),
                    kind: text(&resource["responseKind"]["kind"]),
                    plural: text(&resource["resource"]),
                    singular: text(&resource["singularResource"]),
                    short_names: items(&resource["shortNames"]).iter().map(text).collect(),
                    namespaced: resource["scope"] == "Namespaced",
                });
            }
        }
    }
    resources
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::{Resources, parse};

    fn resources() -> Resources {
        Resources(parse(&json!({"items": [
            {"metadata": {}, "versions": [{"version": "v1", "resources": [
                {"resource": "pods", "singularResource": "pod", "shortNames": ["po"],
                 "responseKind": {"kind": "Pod"}, "scope": "Namespaced"},
                {"resource": "nodes", "singularResource": "node",
                 "responseKind": {"kind": "Node"}, "scope": "Cluster"}]}]},
            {"metadata": {"name": "apps"}, "versions": [{"version": "v1", "resources": [
                {"resource": "deployments", "singularResource": "deployment",
                 "shortNames": ["deploy"], "responseKind": {"kind": "Deployment"},
                 "scope": "Namespaced"}]}]},
        ]})))
    }

    #[test]
    fn words_find_resources() {
        let resources = resources();
        let paths = |words: &[&str]| -> Vec<String> {
            let words: Vec<String> = words.iter().map(|w| (*w).to_owned()).collect();
            resources.resolve(&words).map_or_else(
                |error| vec![error.to_string()],
                |named| {
                    named
                        .iter()
                        .map(|n| {
                            let name = n.name.as_deref().map_or(String::new(), |n| format!("/{n}"));
                            n.resource.path(Some("ns")) + &name
                        })
                        .collect()
                },
            )
        };
        assert_eq!(paths(&["po"]), ["/api/v1/namespaces/ns/pods"]);
        assert_eq!(
            paths(&["pods,deploy"]),
            [
                "/api/v1/namespaces/ns/pods",
                "/apis/apps/v1/namespaces/ns/deployments"
            ]
        );
        assert_eq!(
            paths(&["Deployment.apps", "a"]),
            ["/apis/apps/v1/namespaces/ns/deployments/a"]
        );
        assert_eq!(paths(&["node/n"]), ["/api/v1/nodes/n"]);
        assert_eq!(
            paths(&["ships"]),
            ["the server doesn't have a resource type \"ships\""]
        );
    }
}
