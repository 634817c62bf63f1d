//! All roles and bindings, indexed by whom they are for. Pure: built of objects, asked for decisions.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::Value;

use super::aggregate::{Part, gather};
use super::rbac::{Attributes, Decision};
use super::rule::Rule;
use super::user::User;

/// A RoleBinding or ClusterRoleBinding.
#[derive(Debug)]
pub(super) struct Binding {
    namespace: String,
    name: String,
    role_kind: String,
    role: String,
    subjects: Vec<Subject>,
}

#[derive(Debug)]
struct Subject {
    kind: String,
    name: String,
    namespace: String,
}

impl Binding {
    pub(super) fn from_value(binding: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let namespace = text(&binding["metadata"]["namespace"]);
        let subjects = binding["subjects"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|subject| Subject {
                kind: text(&subject["kind"]),
                name: text(&subject["name"]),
                namespace: text(&subject["namespace"]),
            });
        Self {
            name: text(&binding["metadata"]["name"]),
            role_kind: text(&binding["roleRef"]["kind"]),
            role: text(&binding["roleRef"]["name"]),
            subjects: subjects.collect(),
            namespace,
        }
    }

    fn describe(&self, subject: &Subject) -> String {
        let (kind, mut name) = match self.namespace.as_str() {
            "" => ("ClusterRoleBinding", self.name.clone()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.name)),
        };
        let mut text = format!("{kind} {name:?} of {} {:?} to ", self.role_kind, self.role);
        name.clone_from(&subject.name);
        if subject.kind == "ServiceAccount" {
            let own = if subject.namespace.is_empty() {
                &self.namespace
            } else {
                &subject.namespace
            };
            name = format!("{}/{own}", subject.name);
        }
        // Writing to a string does not fail.
        let _ = write!(text, "{} {name:?}", subject.kind);
        text
    }
}

/// Which bindings concern whom, in one namespace or in the whole cluster.
#[derive(Debug, Default)]
struct Index {
    users: HashMap<String, Vec<Grant>>,
    groups: HashMap<String, Vec<Grant>>,
}

#[derive(Debug)]
struct Grant {
    binding: Arc<Binding>,
    subject: usize,
}

/// What is allowed to whom.
#[derive(Debug, Default)]
pub(super) struct Policy {
    cluster_roles: HashMap<String, Arc<[Rule]>>,
    /// By `namespace/name`.
    roles: HashMap<String, Arc<[Rule]>>,
    cluster: Index,
    namespaces: HashMap<String, Index>,
}

impl Policy {
    /// ClusterRoles by name, Roles by `namespace/name`, and the bindings of both kinds.
    pub(super) fn new(
        cluster_roles: &BTreeMap<String, Arc<Part>>,
        roles: &BTreeMap<String, Arc<Part>>,
        bindings: impl Iterator<Item = Arc<Binding>>,
    ) -> Self {
        let mut policy = Self::default();
        for (name, part) in cluster_roles {
            let rules: Arc<[Rule]> = match part.selectors {
                None => part.rules.as_slice().into(),
                Some(_) => gather(
                    name,
                    |name| cluster_roles.get(name).map(|p| &**p),
                    cluster_roles,
                )
                .into(),
            };
            policy.cluster_roles.insert(name.clone(), rules);
        }
        for (key, part) in roles {
            policy
                .roles
                .insert(key.clone(), part.rules.as_slice().into());
        }
        for binding in bindings {
            let index = match binding.namespace.as_str() {
                "" => &mut policy.cluster,
                namespace => policy.namespaces.entry(namespace.to_owned()).or_default(),
            };
            index.add(&binding);
        }
        policy
    }

    /// Decides by the bindings; a role that is missing is named in the reason when nothing allows.
    pub(super) fn decide(&self, attributes: &Attributes<'_>) -> Decision {
        let mut faults = Vec::new();
        for grant in self.grants(attributes.user, attributes.namespace) {
            match self.rules(&grant.binding) {
                Ok(rules) if rules.iter().any(|rule| rule.allows(attributes)) => {
                    let subject = &grant.binding.subjects[grant.subject];
                    let reason = format!("RBAC: allowed by {}", grant.binding.describe(subject));
                    return Decision::Allow(reason);
                }
                Ok(_) => {}
                Err(fault) if faults.contains(&fault) => {}
                Err(fault) => faults.push(fault),
            }
        }
        Decision::NoOpinion(match faults.as_slice() {
            [] => String::new(),
            [fault] => format!("RBAC: {fault}"),
            faults => format!("RBAC: [{}]", faults.join(", ")),
        })
    }

    /// All rules that a user has in a namespace (empty: only those for the whole cluster), and what
    /// could not be resolved.
    pub(super) fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (mut rules, mut faults): (Vec<Rule>, Vec<String>) = Default::default();
        for grant in self.grants(user, namespace) {
            match self.rules(&grant.binding) {
                Ok(own) => rules.extend(own.iter().cloned()),
                Err(fault) if faults.contains(&fault) => {}
                Err(fault) => faults.push(fault),
            }
        }
        (rules, faults)
    }

    /// The rules of a role; `None` when there is none of this name.
    pub(super) fn role(&self, kind: &str, namespace: &str, name: &str) -> Option<&Arc<[Rule]>> {
        match kind {
            "ClusterRole" => self.cluster_roles.get(name),
            "Role" => self.roles.get(&format!("{namespace}/{name}")),
            _ => None,
        }
    }

    fn grants<'a>(&'a self, user: &'a User, namespace: &str) -> impl Iterator<Item = &'a Grant> {
        let local = if namespace.is_empty() {
            None
        } else {
            self.namespaces.get(namespace)
        };
        [Some(&self.cluster), local]
            .into_iter()
            .flatten()
            .flat_map(|index| {
                let of_user = index.users.get(&user.name).into_iter().flatten();
                let of_groups = user
                    .groups
                    .iter()
                    .filter_map(|group| index.groups.get(group))
                    .flatten();
                of_user.chain(of_groups)
            })
    }

    fn rules(&self, binding: &Binding) -> Result<&Arc<[Rule]>, String> {
        self.role(&binding.role_kind, &binding.namespace, &binding.role)
            .ok_or_else(|| {
                let kind = binding.role_kind.to_lowercase();
                format!(
                    "{kind}.rbac.authorization.k8s.io {:?} not found",
                    binding.role
                )
            })
    }
}

impl Index {
    fn add(&mut self, binding: &Arc<Binding>) {
        for (position, subject) in binding.subjects.iter().enumerate() {
            let grant = Grant {
                binding: binding.clone(),
                subject: position,
            };
            match subject.kind.as_str() {
                "User" => self
                    .users
                    .entry(subject.name.clone())
                    .or_default()
                    .push(grant),
                "Group" => self
                    .groups
                    .entry(subject.name.clone())
                    .or_default()
                    .push(grant),
                "ServiceAccount" => {
                    let own = &subject.namespace;
                    let namespace = if own.is_empty() {
                        &binding.namespace
                    } else {
                        own
                    };
                    if !namespace.is_empty() {
                        let user = super::user::service_account_name(namespace, &subject.name);
                        self.users.entry(user).or_default().push(grant);
                    }
                }
                _ => {}
            }
        }
    }
}
