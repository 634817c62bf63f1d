//! Nobody gives what they do not have: the checks of writes to roles and bindings.

use serde_json::Value;

use super::rbac::{Attributes, Authorizer, GROUP};
use super::rule::{self, Rule};
use super::user::{MASTERS, User};

impl Authorizer {
    /// Whether a user may write a Role (in a namespace) or ClusterRole (without): it must not give
    /// what they do not have, unless they may `escalate`. An update that leaves `rules` and
    /// `aggregationRule` as they are needs no check.
    ///
    /// # Errors
    /// Upstream's words for what they lack, for [`api::status::ApiError::forbidden`].
    pub fn may_write_role(&self, user: &User, namespace: &str, role: &Value) -> Result<(), String> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        let resource = if namespace.is_empty() {
            "clusterroles"
        } else {
            "roles"
        };
        let name = role["metadata"]["name"].as_str().unwrap_or_default();
        let attributes = question(user, "escalate", resource, namespace, name);
        if self.authorize(&attributes).is_allowed() {
            return Ok(());
        }
        if role
            .get("aggregationRule")
            .is_some_and(|rule| !rule.is_null())
        {
            // Whoever decides what is gathered could be given anything.
            let everything = [
                rule(&["*"], &["*"]),
                Rule {
                    urls: vec!["*".into()],
                    ..rule(&["*"], &[])
                },
            ];
            let (held, _) = self.rules_for(user, "");
            if !rule::missing(&held, &everything).is_empty() {
                return Err("must have cluster-admin privileges to use an aggregationRule".into());
            }
        }
        let rules: Vec<Rule> = role["rules"]
            .as_array()
            .into_iter()
            .flatten()
            .map(Rule::from_value)
            .collect();
        self.holds(user, namespace, &rules)
    }

    /// Whether a user may write a RoleBinding (in a namespace) or ClusterRoleBinding (without): its
    /// role must not give what they do not have, unless they may `bind` that role.
    ///
    /// # Errors
    /// Upstream's words for what they lack, for [`api::status::ApiError::forbidden`]; or that there
    /// is no such role.
    pub fn may_bind(
        &self,
        user: &User,
        namespace: &str,
        binding: &Value,
    ) -> Result<(), BindRefusal> {
        if user.is_in(MASTERS) {
            return Ok(());
        }
        let text = |value: &'_ Value| value.as_str().unwrap_or_default().to_owned();
        let (kind, name) = (
            text(&binding["roleRef"]["kind"]),
            text(&binding["roleRef"]["name"]),
        );
        let resource = if kind == "ClusterRole" {
            "clusterroles"
        } else {
            "roles"
        };
        if self
            .authorize(&question(user, "bind", resource, namespace, &name))
            .is_allowed()
        {
            return Ok(());
        }
        let policy = self.policy();
        let Some(rules) = policy.role(&kind, namespace, &name) else {
            return Err(BindRefusal::NoRole { kind, name });
        };
        self.holds(user, namespace, rules)
            .map_err(BindRefusal::Escalation)
    }

    fn holds(&self, user: &User, namespace: &str, wanted: &[Rule]) -> Result<(), String> {
        let (held, faults) = self.rules_for(user, namespace);
        let missing = rule::missing(&held, wanted);
        if missing.is_empty() {
            return Ok(());
        }
        let mut lines: Vec<String> = missing.iter().map(describe).collect();
        lines.sort();
        lines.dedup();
        let (name, groups) = (&user.name, quoted(&user.groups));
        let mut words = format!(
            "user {name:?} (groups={groups}) is attempting to grant RBAC permissions not currently held:\n{}",
            lines.join("\n")
        );
        if !faults.is_empty() {
            words += &format!("; resolution errors: [{}]", faults.join(", "));
        }
        Err(words)
    }
}

/// Why a binding may not be written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BindRefusal {
    /// It would give more than its writer has; upstream's words.
    #[error("{0}")]
    Escalation(String),
    /// Its role does not exist: 404 in upstream.
    #[error("{}.rbac.authorization.k8s.io {name:?} not found", kind.to_lowercase())]
    NoRole {
        /// Role or ClusterRole.
        kind: String,
        /// Its name.
        name: String,
    },
}

fn question<'a>(
    user: &'a User,
    verb: &'a str,
    resource: &'a str,
    namespace: &'a str,
    name: &'a str,
) -> Attributes<'a> {
    Attributes {
        verb,
        group: GROUP,
        version: "v1",
        resource,
        namespace,
        name,
        ..Attributes::of(user)
    }
}

fn rule(verbs: &[&str], of: &[&str]) -> Rule {
    let owned = |list: &[&str]| list.iter().map(|&text| text.to_owned()).collect::<Vec<_>>();
    Rule {
        verbs: owned(verbs),
        api_groups: owned(of),
        resources: owned(of),
        ..Rule::default()
    }
}

fn describe(rule: &Rule) -> String {
    let parts = [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("NonResourceURLs", &rule.urls),
        ("ResourceNames", &rule.resource_names),
        ("Verbs", &rule.verbs),
    ];
    let parts: Vec<String> = parts
        .into_iter()
        .filter(|(_, list)| !list.is_empty())
        .map(|(name, list)| format!("{name}:{}", quoted(list)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// Go's `%q` of a list.
fn quoted(list: &[String]) -> String {
    let quoted: Vec<String> = list.iter().map(|text| format!("{text:?}")).collect();
    format!("[{}]", quoted.join(" "))
}
