//! The words in which default roles and bindings are written down, and the objects that come of them.
//! Lists are comma-separated; an empty group is the core one.

use serde_json::{Map, Value, json};

/// The verbs that only look.
pub(super) const READ: &str = "get,list,watch";
/// The verbs that change.
pub(super) const WRITE: &str = "create,delete,deletecollection,patch,update";
/// Both.
pub(super) const ALL: &str = "create,delete,deletecollection,get,list,patch,update,watch";

const GROUP: &str = "rbac.authorization.k8s.io";

/// A rule of a role.
#[derive(Debug)]
pub(super) struct RuleFacts {
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
    names: &'static str,
    urls: &'static str,
}

/// A Role, or without namespace a ClusterRole.
#[derive(Debug)]
pub(super) struct RoleFacts {
    pub(super) name: &'static str,
    namespace: &'static str,
    feeds: &'static str,
    gathers: &'static str,
    pub(super) rules: &'static [RuleFacts],
}

/// A RoleBinding to a Role, or without namespace a ClusterRoleBinding to a ClusterRole.
#[derive(Debug)]
pub(super) struct BindingFacts {
    name: &'static str,
    namespace: &'static str,
    role: &'static str,
    subjects: &'static [SubjectFacts],
}

/// Whom a binding is for.
#[derive(Debug)]
pub(super) enum SubjectFacts {
    User(&'static str),
    Group(&'static str),
    Account {
        namespace: &'static str,
        name: &'static str,
    },
}

pub(super) const fn rule(
    verbs: &'static str,
    groups: &'static str,
    resources: &'static str,
) -> RuleFacts {
    RuleFacts {
        verbs,
        groups,
        resources,
        names: "",
        urls: "",
    }
}

pub(super) const fn urls(verbs: &'static str, urls: &'static str) -> RuleFacts {
    RuleFacts {
        verbs,
        groups: "",
        resources: "",
        names: "",
        urls,
    }
}

pub(super) const fn role(name: &'static str, rules: &'static [RuleFacts]) -> RoleFacts {
    RoleFacts {
        name,
        namespace: "",
        feeds: "",
        gathers: "",
        rules,
    }
}

pub(super) const fn binding(
    name: &'static str,
    role: &'static str,
    subjects: &'static [SubjectFacts],
) -> BindingFacts {
    BindingFacts {
        name,
        namespace: "",
        role,
        subjects,
    }
}

pub(super) const fn user(name: &'static str) -> SubjectFacts {
    SubjectFacts::User(name)
}

pub(super) const fn group(name: &'static str) -> SubjectFacts {
    SubjectFacts::Group(name)
}

pub(super) const fn account(namespace: &'static str, name: &'static str) -> SubjectFacts {
    SubjectFacts::Account { namespace, name }
}

impl RuleFacts {
    /// Only for objects of these names.
    pub(super) const fn only(mut self, names: &'static str) -> Self {
        self.names = names;
        self
    }

    pub(super) fn to_value(&self) -> Value {
        let mut rule = Map::new();
        rule.insert("verbs".into(), list(self.verbs));
        if self.urls.is_empty() {
            rule.insert("apiGroups".into(), list(self.groups));
            rule.insert("resources".into(), list(self.resources));
            if !self.names.is_empty() {
                rule.insert("resourceNames".into(), list(self.names));
            }
        } else {
            rule.insert("nonResourceURLs".into(), list(self.urls));
        }
        Value::Object(rule)
    }
}

impl RoleFacts {
    /// In this namespace.
    pub(super) const fn within(mut self, namespace: &'static str) -> Self {
        self.namespace = namespace;
        self
    }

    /// Part of the ClusterRole that gathers under this word.
    pub(super) const fn feeds(mut self, word: &'static str) -> Self {
        self.feeds = word;
        self
    }

    /// Made of the ClusterRoles that feed this word.
    pub(super) const fn gathers(mut self, word: &'static str) -> Self {
        self.gathers = word;
        self
    }

    pub(super) fn to_value(&self) -> Value {
        let mut role = object("Role", self.name, self.namespace);
        if !self.feeds.is_empty() {
            role["metadata"]["labels"][aggregate(self.feeds)] = json!("true");
        }
        if self.gathers.is_empty() {
            role["rules"] = self.rules.iter().map(RuleFacts::to_value).collect();
        } else {
            let labels = json!({ aggregate(self.gathers): "true" });
            role["aggregationRule"] = json!({"clusterRoleSelectors": [{"matchLabels": labels}]});
            role["rules"] = Value::Null;
        }
        role
    }

    /// The binding of a controller's ClusterRole to the service account that it is named for.
    pub(super) fn controller_binding(&self) -> Value {
        let account = self.name.trim_start_matches("system:controller:");
        let mut binding = object("RoleBinding", self.name, "");
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": "ClusterRole", "name": self.name});
        binding["subjects"] =
            json!([{"kind": "ServiceAccount", "namespace": "kube-system", "name": account}]);
        binding
    }
}

impl BindingFacts {
    /// In this namespace.
    pub(super) const fn within(mut self, namespace: &'static str) -> Self {
        self.namespace = namespace;
        self
    }

    pub(super) fn to_value(&self) -> Value {
        let kind = if self.namespace.is_empty() {
            "ClusterRole"
        } else {
            "Role"
        };
        let mut binding = object("RoleBinding", self.name, self.namespace);
        binding["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": self.role});
        if !self.subjects.is_empty() {
            binding["subjects"] = self.subjects.iter().map(SubjectFacts::to_value).collect();
        }
        binding
    }
}

impl SubjectFacts {
    fn to_value(&self) -> Value {
        match self {
            Self::User(name) => json!({"apiGroup": GROUP, "kind": "User", "name": name}),
            Self::Group(name) => json!({"apiGroup": GROUP, "kind": "Group", "name": name}),
            Self::Account { namespace, name } => {
                json!({"kind": "ServiceAccount", "namespace": namespace, "name": name})
            }
        }
    }
}

fn object(kind: &str, name: &str, namespace: &str) -> Value {
    let mut object = json!({
        "apiVersion": format!("{GROUP}/v1"),
        "kind": kind,
        "metadata": {
            "name": name,
            "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
            "annotations": {super::AUTOUPDATE: "true"},
        },
    });
    if namespace.is_empty() {
        object["kind"] = json!(format!("Cluster{kind}"));
    } else {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

fn aggregate(word: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{word}")
}

fn list(text: &str) -> Value {
    text.split(',').collect()
}
