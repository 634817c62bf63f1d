//! What nodes may do: read what their pods need, keep what is theirs, and what upstream's static
//! rules give all of them. Which objects a node may *write* is checked at admission
//! (`hooks/node_restriction`), where they are known.
//!
//! Invariant: an object of a kind in [`Thing`] is answered by the graph alone.

mod graph;
mod refs;

use std::sync::Arc;

use serde_json::Value;

use self::graph::Graph;
use super::defaults;
use super::rbac::{Attributes, Decision};
use super::rule::Rule;
use super::user::User;
use crate::cache::Cache;

/// Where nodes keep their heartbeats.
const LEASES: &str = "kube-node-lease";

/// The kinds of which a node may read only what has to do with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Thing {
    Pod,
    ServiceAccount,
    Secret,
    ConfigMap,
    Claim,
    Volume,
    ResourceClaim,
    Attachment,
    Slice,
}

/// The name of the node that a user is; it may be empty.
pub(crate) fn node_of(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix("system:node:")?;
    user.is_in("system:nodes").then_some(name)
}

/// What a pod names first, for the check that it names nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Named {
    Secrets,
    ConfigMaps,
    Nothing,
    /// It cannot be read.
    Unknown,
}

/// Whether a pod names Secrets or ConfigMaps, mirror or not.
pub(crate) fn named_by(pod: &Value) -> Named {
    let Some(things) = refs::named_by(pod) else {
        return Named::Unknown;
    };
    let has = |wanted| things.iter().any(|(thing, _)| *thing == wanted);
    if has(Thing::Secret) {
        Named::Secrets
    } else if has(Thing::ConfigMap) {
        Named::ConfigMaps
    } else {
        Named::Nothing
    }
}

/// Decides for nodes.
pub(super) struct NodeAuthorizer {
    graph: Arc<Graph>,
    rules: Vec<Rule>,
}

/// Allowed, or why not; a reason may be empty.
type Answer = Result<(), String>;

impl NodeAuthorizer {
    /// An authorizer whose graph follows the cache. Before the cache follows the store.
    pub(super) fn new(cache: &Cache) -> Self {
        Self {
            graph: Graph::follow(cache),
            rules: defaults::node_rules(),
        }
    }

    /// The decision, and no opinion without a reason on those who are no nodes.
    pub(super) fn decide(&self, asked: &Attributes<'_>) -> Decision {
        let answer = match node_of(asked.user) {
            None => Err(String::new()),
            Some("") => Err(format!("unknown node for user {:?}", asked.user.name)),
            Some(node) => self.answer(node, asked),
        };
        match answer {
            Ok(()) => Decision::Allow(String::new()),
            Err(reason) => Decision::NoOpinion(reason),
        }
    }

    fn answer(&self, node: &str, asked: &Attributes<'_>) -> Answer {
        let get = |thing| self.get(node, thing, asked);
        match (asked.group, asked.resource) {
            _ if !asked.is_resource() => self.by_rule(asked),
            ("", "secrets") => self.read(node, Thing::Secret, asked),
            ("", "configmaps") => self.read(node, Thing::ConfigMap, asked),
            ("", "persistentvolumeclaims") if asked.subresource == "status" => {
                one_of(
                    asked.verb,
                    &["update", "patch"],
                    "can only get/update/patch this type",
                )?;
                self.related(node, Thing::Claim, asked)
            }
            ("", "persistentvolumeclaims") => get(Thing::Claim),
            ("", "persistentvolumes") => get(Thing::Volume),
            ("resource.k8s.io", "resourceclaims") => get(Thing::ResourceClaim),
            ("storage.k8s.io", "volumeattachments") => get(Thing::Attachment),
            ("", "serviceaccounts") => self.service_account(node, asked),
            ("coordination.k8s.io", "leases") => lease(node, asked),
            ("storage.k8s.io", "csinodes") => csi_node(node, asked),
            ("resource.k8s.io", "resourceslices") => self.slice(node, asked),
            ("", "nodes") => own_node(node, asked),
            ("", "pods") => self.pod(node, asked),
            // As long as upstream has them switched off.
            ("certificates.k8s.io", "podcertificaterequests") => Err(String::new()),
            _ => self.by_rule(asked),
        }
    }

    fn by_rule(&self, asked: &Attributes<'_>) -> Answer {
        let allowed = self.rules.iter().any(|rule| rule.allows(asked));
        allowed.then_some(()).ok_or_else(String::new)
    }

    /// One object, by its relation to the node.
    fn related(&self, node: &str, thing: Thing, asked: &Attributes<'_>) -> Answer {
        if asked.name.is_empty() {
            return refuse("No Object name found");
        }
        let key = if asked.namespace.is_empty() {
            asked.name.to_owned()
        } else {
            crate::storage::local(asked.namespace, asked.name)
        };
        if self.graph.relates(node, thing, &key) {
            return Ok(());
        }
        Err(unrelated(node))
    }

    fn get(&self, node: &str, thing: Thing, asked: &Attributes<'_>) -> Answer {
        let words = "can only get individual resources of this type";
        one_of(asked.verb, &["get"], words)?;
        if !asked.subresource.is_empty() {
            return refuse("cannot get subresource");
        }
        self.related(node, thing, asked)
    }

    fn read(&self, node: &str, thing: Thing, asked: &Attributes<'_>) -> Answer {
        let words = "can only read resources of this type";
        one_of(asked.verb, &["get", "list", "watch"], words)?;
        if !asked.subresource.is_empty() {
            return refuse("cannot read subresource");
        }
        if asked.namespace.is_empty() {
            return refuse("can only read namespaced object of this type");
        }
        self.related(node, thing, asked)
    }

    fn service_account(&self, node: &str, asked: &Attributes<'_>) -> Answer {
        if asked.verb == "get" && asked.subresource.is_empty() {
            return self.read(node, Thing::ServiceAccount, asked);
        }
        if asked.verb != "create" || asked.name.is_empty() {
            return refuse("can only create tokens for individual service accounts");
        }
        if asked.subresource != "token" {
            return refuse("can only create token subresource of serviceaccount");
        }
        self.related(node, Thing::ServiceAccount, asked)
    }

    fn slice(&self, node: &str, asked: &Attributes<'_>) -> Answer {
        if !asked.subresource.is_empty() {
            return refuse("cannot authorize ResourceSlice subresources");
        }
        match asked.verb {
            // Admission sees the new object.
            "create" => Ok(()),
            "get" | "update" | "patch" | "delete" => self.related(node, Thing::Slice, asked),
            "watch" | "list" | "deletecollection" if selects(asked, node) => Ok(()),
            "watch" | "list" | "deletecollection" => refuse(
                "can only list/watch/deletecollection resourceslices with nodeName field selector",
            ),
            _ => refuse(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, delete, deletecollection",
            ),
        }
    }

    fn pod(&self, node: &str, asked: &Attributes<'_>) -> Answer {
        match (asked.subresource, asked.verb) {
            ("", "get") => self.get(node, Thing::Pod, asked),
            ("", "list" | "watch") if selects(asked, node) => Ok(()),
            ("", "list" | "watch") if !asked.name.is_empty() => {
                self.related(node, Thing::Pod, asked)
            }
            ("", "list" | "watch") => {
                refuse("can only list/watch pods with spec.nodeName field selector")
            }
            // Mirror pods, reports and evictions: admission sees whose pod it is.
            ("", "create" | "delete") | ("status", "update" | "patch") | ("eviction", "create") => {
                Ok(())
            }
            _ => Err(String::new()),
        }
    }
}

/// Its own Node may be read before it is there, so the graph is not asked.
fn own_node(node: &str, asked: &Attributes<'_>) -> Answer {
    match (asked.subresource, asked.verb) {
        // Admission sees whose Node it is.
        ("", "create" | "update" | "patch") | ("status", "update" | "patch") => Ok(()),
        ("", "get" | "list" | "watch") => match asked.name {
            "" => Err(format!(
                "node '{node}' cannot read all nodes, only its own Node object"
            )),
            name if name == node => Ok(()),
            name => Err(format!(
                "node '{node}' cannot read '{name}', only its own Node object"
            )),
        },
        _ => Err(String::new()),
    }
}

fn lease(node: &str, asked: &Attributes<'_>) -> Answer {
    let words = "can only get, create, update, patch, or delete a node lease";
    one_of(asked.verb, KEEP, words)?;
    if asked.namespace != LEASES {
        return Err(format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    // A new one is named in its body.
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access node lease with the same name as the requesting node");
    }
    Ok(())
}

fn csi_node(node: &str, asked: &Attributes<'_>) -> Answer {
    let words = "can only get, create, update, patch, or delete a CSINode";
    one_of(asked.verb, KEEP, words)?;
    if !asked.subresource.is_empty() {
        return refuse("cannot authorize CSINode subresources");
    }
    if asked.verb != "create" && asked.name != node {
        return refuse("can only access CSINode with the same name as the requesting node");
    }
    Ok(())
}

/// What may be done with an object of the node's own.
const KEEP: &[&str] = &["get", "create", "update", "patch", "delete"];

fn refuse(reason: &str) -> Answer {
    Err(reason.to_owned())
}

fn one_of(verb: &str, verbs: &[&str], reason: &str) -> Answer {
    if verbs.contains(&verb) {
        Ok(())
    } else {
        refuse(reason)
    }
}

fn unrelated(node: &str) -> String {
    format!("no relationship found between node '{node}' and this object")
}

/// Whether only objects of this node are asked for.
fn selects(asked: &Attributes<'_>, node: &str) -> bool {
    let terms = &asked.selectors.fields.terms;
    terms
        .iter()
        .any(|(field, equal, value)| field == "spec.nodeName" && *equal && value == node)
}

#[cfg(test)]
mod tests;
