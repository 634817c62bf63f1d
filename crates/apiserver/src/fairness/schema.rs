//! Which FlowSchema a request is of, and what flow within it. Pure.

use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::auth::rbac::Attributes;
use crate::auth::user::{User, service_account_name};

/// How requests of a schema are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Distinguisher {
    /// Not at all.
    #[default]
    None,
    /// By who asks.
    User,
    /// By the namespace that is asked for.
    Namespace,
}

/// A FlowSchema.
#[derive(Debug, Clone, Default)]
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) precedence: i64,
    pub(super) level: String,
    distinguisher: Distinguisher,
    rules: Vec<Rule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Rule {
    subjects: Vec<Subject>,
    resource_rules: Vec<ResourceRule>,
    non_resource_rules: Vec<PathRule>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Subject {
    kind: String,
    user: Named,
    group: Named,
    service_account: Account,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Named {
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct Account {
    namespace: String,
    name: String,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ResourceRule {
    verbs: Vec<String>,
    api_groups: Vec<String>,
    resources: Vec<String>,
    cluster_scope: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
struct PathRule {
    verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    urls: Vec<String>,
}

fn covers(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

impl Schema {
    pub(super) fn from_value(object: &Value) -> Self {
        let text = |pointer: &str| {
            let value = object.pointer(pointer).and_then(Value::as_str);
            value.unwrap_or_default().to_owned()
        };
        let rules = object.pointer("/spec/rules").and_then(Value::as_array);
        // What is stored was validated; what cannot be read matches nothing.
        let rule = |rule: &Value| Rule::deserialize(rule).ok();
        Self {
            name: text("/metadata/name"),
            uid: text("/metadata/uid"),
            precedence: object["spec"]["matchingPrecedence"]
                .as_i64()
                .unwrap_or(1000),
            level: text("/spec/priorityLevelConfiguration/name"),
            distinguisher: match text("/spec/distinguisherMethod/type").as_str() {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::None,
            },
            rules: rules.into_iter().flatten().filter_map(rule).collect(),
        }
    }

    /// Whether a request is of this schema.
    pub(super) fn matches(&self, attributes: &Attributes<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects
                .iter()
                .any(|subject| subject.is(attributes.user))
                && rule.covers(attributes)
        })
    }

    /// A number that is the same for the requests of one flow.
    pub(super) fn flow(&self, attributes: &Attributes<'_>) -> u64 {
        let distinguished = match self.distinguisher {
            Distinguisher::None => "",
            Distinguisher::User => &attributes.user.name,
            Distinguisher::Namespace => attributes.namespace,
        };
        let mut digest = Sha256::new();
        digest.update(self.name.as_bytes());
        digest.update([0]);
        digest.update(distinguished.as_bytes());
        let digest: [u8; 32] = digest.finalize().into();
        digest
            .iter()
            .take(8)
            .fold(0, |hash, byte| hash << 8 | u64::from(*byte))
    }
}

impl Subject {
    fn is(&self, user: &User) -> bool {
        match self.kind.as_str() {
            "User" => self.user.name == "*" || self.user.name == user.name,
            "Group" => self.group.name == "*" || user.is_in(&self.group.name),
            "ServiceAccount" => {
                let Account { namespace, name } = &self.service_account;
                if name == "*" {
                    let whole = service_account_name(namespace, "");
                    return user
                        .name
                        .strip_prefix(&whole)
                        .is_some_and(|name| !name.is_empty());
                }
                user.name == service_account_name(namespace, name)
            }
            _ => false,
        }
    }
}

impl Rule {
    fn covers(&self, attributes: &Attributes<'_>) -> bool {
        if !attributes.is_resource() {
            return self.non_resource_rules.iter().any(|rule| {
                covers(&rule.verbs, attributes.verb)
                    && rule.urls.iter().any(|url| {
                        url == "*"
                            || url == attributes.path
                            || url.strip_suffix('*').is_some_and(|url| {
                                url.ends_with('/') && attributes.path.starts_with(url)
                            })
                    })
            });
        }
        let resource = match attributes.subresource {
            "" => attributes.resource.to_owned(),
            sub => format!("{}/{sub}", attributes.resource),
        };
        self.resource_rules.iter().any(|rule| {
            let scope = match attributes.namespace {
                "" => rule.cluster_scope,
                namespace => covers(&rule.namespaces, namespace),
            };
            scope
                && covers(&rule.verbs, attributes.verb)
                && covers(&rule.api_groups, attributes.group)
                && covers(&rule.resources, &resource)
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::Schema;
    use crate::auth::rbac::Attributes;
    use crate::auth::user::User;

    #[test]
    fn rules() {
        let schema = |subject: serde_json::Value| {
            Schema::from_value(&json!({"metadata": {"name": "s"}, "spec": {
                "distinguisherMethod": {"type": "ByUser"},
                "rules": [{"subjects": [subject],
                    "resourceRules": [{"verbs": ["get", "list"], "apiGroups": [""],
                        "resources": ["pods", "pods/log"], "namespaces": ["a"]},
                        {"verbs": ["*"], "apiGroups": ["*"], "resources": ["nodes"],
                        "clusterScope": true}],
                    "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/x/*"]}]}]}}))
        };
        let user = |name: &str| User {
            name: name.to_owned(),
            groups: vec!["crew".to_owned()],
            ..User::default()
        };
        let jane = schema(json!({"kind": "User", "user": {"name": "jane"}}));
        let ask = |schema: &Schema, who: &User, line: &str| {
            let words: Vec<&str> = line.split(' ').collect();
            let (resource, subresource) = words[1].split_once('/').unwrap_or((words[1], ""));
            let is_path = words[1].starts_with('/');
            schema.matches(&Attributes {
                verb: words[0],
                version: "v1",
                resource: if is_path { "" } else { resource },
                subresource: if is_path { "" } else { subresource },
                namespace: words.get(2).copied().unwrap_or_default(),
                path: if is_path { words[1] } else { "" },
                ..Attributes::of(who)
            })
        };
        for (line, wanted) in [
            ("get pods a", true),
            ("get pods/log a", true),
            ("get pods/exec a", false),
            ("delete pods a", false),
            ("get pods b", false),
            ("list pods", false),
            ("delete nodes", true),
            ("get nodes a", false),
            ("get /healthz", true),
            ("get /healthz/x", false),
            ("get /x/y", true),
            ("get /xy", false),
            ("post /healthz", false),
        ] {
            assert_eq!(ask(&jane, &user("jane"), line), wanted, "{line}");
            assert!(!ask(&jane, &user("bob"), line), "{line}");
        }
        for (subject, name, wanted) in [
            (json!({"kind": "User", "user": {"name": "*"}}), "x", true),
            (
                json!({"kind": "Group", "group": {"name": "crew"}}),
                "x",
                true,
            ),
            (
                json!({"kind": "Group", "group": {"name": "other"}}),
                "x",
                false,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "*"}}),
                "system:serviceaccount:n:s",
                true,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "n", "name": "t"}}),
                "system:serviceaccount:n:s",
                false,
            ),
            (
                json!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "m", "name": "*"}}),
                "system:serviceaccount:n:s",
                false,
            ),
        ] {
            assert_eq!(
                ask(&schema(subject.clone()), &user(name), "get pods a"),
                wanted,
                "{subject}"
            );
        }
    }
}
