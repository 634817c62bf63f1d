//! Authorization: `system:masters` may do everything, nodes what nodes need, and everybody (nodes too)
//! what roles and bindings say.
//!
//! Invariant: a decision is by all roles, bindings and pods that the cache shows when it is asked for.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use serde_json::Value;
use store::Revision;

use super::aggregate::Part;
use super::node::{NodeAuthorizer, node_of};
use super::policy::{Binding, Policy};
use super::rule::Rule;
use super::selectors::{Selectors, UNSELECTED};
use super::user::{MASTERS, User};
use crate::cache::{Cache, KindCache};

pub(super) const GROUP: &str = "rbac.authorization.k8s.io";

/// What is asked: upstream's authorizer attributes.
#[derive(Clone, Copy, Debug)]
pub struct Attributes<'a> {
    /// Who asks.
    pub user: &'a User,
    /// get, list, watch, create, update, patch, delete, deletecollection, or a lower-case HTTP
    /// method for a path.
    pub verb: &'a str,
    /// API group, empty for core.
    pub group: &'a str,
    /// API version.
    pub version: &'a str,
    /// Plural resource name; empty for a path request.
    pub resource: &'a str,
    /// Subresource, may be empty.
    pub subresource: &'a str,
    /// Namespace, empty at cluster scope.
    pub namespace: &'a str,
    /// Object name, may be empty.
    pub name: &'a str,
    /// The URL path of a request that is for no resource; empty else.
    pub path: &'a str,
    /// To which objects of the resource it keeps itself.
    pub selectors: &'a Selectors,
}

impl<'a> Attributes<'a> {
    /// A question about this user, of which nothing else is said yet.
    pub fn of(user: &'a User) -> Self {
        Self {
            user,
            verb: "",
            group: "",
            version: "",
            resource: "",
            subresource: "",
            namespace: "",
            name: "",
            path: "",
            selectors: &UNSELECTED,
        }
    }
}

impl Attributes<'_> {
    /// Whether a resource is asked for, not a path.
    pub fn is_resource(&self) -> bool {
        self.path.is_empty()
    }

    /// Upstream's words after `forbidden: `, for [`api::status::ApiError::forbidden`]; `reason` is
    /// that of the [`Decision`].
    pub fn refusal(&self, reason: &str) -> String {
        let Self {
            verb,
            group,
            namespace,
            path,
            ..
        } = *self;
        let mut words = format!("User {:?} cannot {verb} ", self.user.name);
        if self.is_resource() {
            let resource = match self.subresource {
                "" => self.resource.to_owned(),
                subresource => format!("{}/{subresource}", self.resource),
            };
            words += &format!("resource {resource:?} in API group {group:?} ");
            words += &match namespace {
                "" => "at the cluster scope".to_owned(),
                _ => format!("in the namespace {namespace:?}"),
            };
        } else {
            words += &format!("path {path:?}");
        }
        if !reason.is_empty() {
            words += ": ";
            words += reason;
        }
        words
    }

    /// The whole 403 in upstream's words.
    pub fn forbidden(&self, reason: &str) -> api::status::ApiError {
        api::status::ApiError::forbidden(self.group, self.resource, self.name, self.refusal(reason))
    }
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Allowed, with the reason.
    Allow(String),
    /// No rule allows it; the reason may be empty.
    NoOpinion(String),
}

impl Decision {
    /// Whether it is allowed.
    pub fn is_allowed(&self) -> bool {
        matches!(self, Self::Allow(_))
    }
}

/// Answers [`Attributes`] from the roles and bindings in the cache.
pub struct Authorizer {
    /// ClusterRoles, Roles, ClusterRoleBindings, RoleBindings.
    kinds: [Arc<KindCache>; 4],
    compiled: RwLock<Compiled>,
    compiling: Mutex<Parsed>,
    nodes: NodeAuthorizer,
}

/// The policy, and of which states of the four kinds it is.
#[derive(Default)]
struct Compiled {
    generations: Option<[u64; 4]>,
    policy: Arc<Policy>,
}

/// What was parsed, of which revision, by key.
type Known<T> = HashMap<Arc<str>, (Revision, Arc<T>)>;

/// What was parsed before, so that a change costs only the parsing of what changed.
#[derive(Default)]
struct Parsed {
    parts: [Known<Part>; 2],
    bindings: [Known<Binding>; 2],
}

impl Authorizer {
    /// An authorizer over the cache; made before that follows the store.
    pub fn new(cache: &Cache) -> Self {
        let kinds = [
            "clusterroles",
            "roles",
            "clusterrolebindings",
            "rolebindings",
        ];
        Self {
            kinds: kinds.map(|plural| cache.kind(GROUP, plural)),
            compiled: RwLock::default(),
            compiling: Mutex::default(),
            nodes: NodeAuthorizer::new(cache),
        }
    }

    /// Decides.
    pub fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::Allow(String::new());
        }
        let node = self.nodes.decide(attributes);
        let Decision::NoOpinion(first) = node else {
            return node;
        };
        match self.policy().decide(attributes) {
            Decision::NoOpinion(second) if second.is_empty() => Decision::NoOpinion(first),
            Decision::NoOpinion(second) if !first.is_empty() => {
                Decision::NoOpinion(format!("{first}\n{second}"))
            }
            decision => decision,
        }
    }

    /// All rules that a user has in a namespace, and what could not be resolved.
    pub fn rules_for(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<String>) {
        let (rules, mut faults) = self.policy().rules_for(user, namespace);
        if node_of(user).is_some() {
            // What a node may do hangs on its pods.
            let words = "node authorizer does not support user rule resolution";
            faults.insert(0, words.to_owned());
        }
        (rules, faults)
    }

    /// The policy as of now.
    pub(super) fn policy(&self) -> Arc<Policy> {
        let fresh = |compiled: &Compiled, now: [u64; 4]| {
            (compiled.generations == Some(now)).then(|| compiled.policy.clone())
        };
        let generations = || [0, 1, 2, 3].map(|kind: usize| self.kinds[kind].generation());
        let read = || self.compiled.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(policy) = fresh(&read(), generations()) {
            return policy;
        }
        let mut parsed = self
            .compiling
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // Taken before the objects are read: a change in between only means one more turn.
        let now = generations();
        if let Some(policy) = fresh(&read(), now) {
            return policy;
        }
        let policy = Arc::new(self.compile(&mut parsed));
        *self
            .compiled
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Compiled {
            generations: Some(now),
            policy: policy.clone(),
        };
        policy
    }

    fn compile(&self, parsed: &mut Parsed) -> Policy {
        let [cluster_roles, roles, cluster_bindings, bindings] = &self.kinds;
        let [cluster_parts, parts] = &mut parsed.parts;
        renew(cluster_parts, cluster_roles, Part::from_value);
        renew(parts, roles, Part::from_value);
        let [cluster_bound, bound] = &mut parsed.bindings;
        renew(cluster_bound, cluster_bindings, Binding::from_value);
        renew(bound, bindings, Binding::from_value);
        let sorted = |parts: &Known<Part>| -> BTreeMap<_, _> {
            parts
                .iter()
                .map(|(key, (_, part))| (key.to_string(), part.clone()))
                .collect()
        };
        let all = cluster_bound
            .values()
            .chain(bound.values())
            .map(|(_, binding)| binding.clone());
        Policy::new(&sorted(cluster_parts), &sorted(parts), all)
    }
}

fn renew<T>(known: &mut Known<T>, kind: &KindCache, parse: impl Fn(&Value) -> T) {
    let mut old = std::mem::take(known);
    for object in kind.list(None) {
        let entry = match old.remove(&object.key) {
            Some(entry) if entry.0 == object.revision => entry,
            _ => (object.revision, Arc::new(parse(&object.value()))),
        };
        known.insert(object.key.clone(), entry);
    }
}

#[cfg(test)]
mod tests;
