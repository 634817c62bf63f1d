//! What a node may write: itself, the pods that are bound to it, its own leases and tokens of its
//! pods. Authorization (`auth/node`) says which kinds; this says which objects, and what of them.

mod node;
mod pod;
mod token;

use std::fmt::Display;

use api::meta;
use api::status::ApiError;
use serde_json::Value;

use super::text;
use crate::auth::node::node_of;
use crate::pipeline::Call;

pub(crate) use token::token;

/// Where nodes keep their heartbeats.
const LEASES: &str = "kube-node-lease";
/// For which signers a node's request must be about itself.
const OWN_SIGNERS: [&str; 2] = [
    "kubernetes.io/kubelet-serving",
    "kubernetes.io/kube-apiserver-client-kubelet",
];

type Checked = Result<(), ApiError>;

fn forbidden(call: &Call, why: impl Display) -> Checked {
    Err(ApiError::forbidden(
        &call.resource.group,
        &call.resource.plural,
        &call.name,
        why,
    ))
}

/// The node that asks, if one does; who cannot be told from others is refused.
fn asking(call: &Call) -> Result<Option<&str>, ApiError> {
    match node_of(&call.user) {
        Some("") => {
            let user = &call.user.name;
            forbidden(call, format!("could not determine node from user {user:?}"))?;
            Ok(None)
        }
        node => Ok(node),
    }
}

/// Checks a create (without `old`) or an update by a node.
pub(crate) fn write(call: &Call, new: &Value, old: Option<&Value>) -> Checked {
    let Some(node) = asking(call)? else {
        return Ok(());
    };
    let own = |name: &str, what: &str| own_name(call, node, name, what);
    match (&*call.resource.group, &*call.resource.plural) {
        ("", "nodes") => node::write(call, node, new, old),
        ("", "pods") => pod::write(call, node, new, old),
        ("", "persistentvolumeclaims") => claim(call, node, new, old),
        ("coordination.k8s.io", "leases") => own_lease(call, node, meta::name(new)),
        ("storage.k8s.io", "csinodes") => own(meta::name(new), "CSINode"),
        ("resource.k8s.io", "resourceslices") if old.is_none() => {
            own_slice(call, node, new, "create")
        }
        ("certificates.k8s.io", "certificatesigningrequests") if old.is_none() => {
            own_request(call, node, new)
        }
        _ => Ok(()),
    }
}

/// Checks a delete (or eviction) by a node.
pub(crate) fn delete(call: &Call, object: &Value) -> Checked {
    let Some(node) = asking(call)? else {
        return Ok(());
    };
    match (&*call.resource.group, &*call.resource.plural) {
        ("", "nodes") => node::own(call, node, meta::name(object)),
        ("", "pods") => pod::delete(call, node, object),
        ("coordination.k8s.io", "leases") => own_lease(call, node, meta::name(object)),
        ("storage.k8s.io", "csinodes") => own_name(call, node, meta::name(object), "CSINode"),
        ("resource.k8s.io", "resourceslices") => own_slice(call, node, object, "delete"),
        ("", "persistentvolumeclaims") => forbidden(call, "may only update PVC status"),
        _ => Ok(()),
    }
}

fn own_name(call: &Call, node: &str, name: &str, what: &str) -> Checked {
    if name == node {
        return Ok(());
    }
    forbidden(
        call,
        format!("can only access {what} with the same name as the requesting node"),
    )
}

fn own_lease(call: &Call, node: &str, name: &str) -> Checked {
    if call.namespace != LEASES {
        return forbidden(
            call,
            format!("can only access leases in the {LEASES:?} system namespace"),
        );
    }
    own_name(call, node, name, "node lease")
}

fn own_slice(call: &Call, node: &str, slice: &Value, what: &str) -> Checked {
    if text(slice, "/spec/nodeName") == node {
        return Ok(());
    }
    let words =
        format!("can only {what} ResourceSlice with the same NodeName as the requesting node");
    forbidden(call, words)
}

/// A request for a certificate of nodes is for this one's.
fn own_request(call: &Call, node: &str, request: &Value) -> Checked {
    if !OWN_SIGNERS.contains(&text(request, "/spec/signerName")) {
        return Ok(());
    }
    match super::csr::request(request) {
        Err(error) => forbidden(call, format!("unable to parse csr: {error}")),
        Ok(read) if read.common_name != format!("system:node:{node}") => forbidden(
            call,
            format!("can only create a node CSR with CN=system:node:{node}"),
        ),
        Ok(_) => Ok(()),
    }
}

/// Of a claim a node writes how large its volume is, and the conditions.
fn claim(call: &Call, node: &str, new: &Value, old: Option<&Value>) -> Checked {
    let Some(old) = old.filter(|_| call.subresource == "status") else {
        return forbidden(call, "may only update PVC status");
    };
    let rest = |claim: &Value| {
        let mut claim = claim.clone();
        if let Some(metadata) = claim.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
            metadata.remove("managedFields");
        }
        if let Some(status) = claim.get_mut("status").and_then(Value::as_object_mut) {
            for field in [
                "capacity",
                "conditions",
                "allocatedResources",
                "allocatedResourceStatuses",
            ] {
                status.remove(field);
            }
        }
        if claim["status"]
            .as_object()
            .is_none_or(serde_json::Map::is_empty)
            && let Some(claim) = claim.as_object_mut()
        {
            claim.remove("status");
        }
        claim
    };
    if rest(old) == rest(new) {
        return Ok(());
    }
    let words = "is not allowed to update fields other than status.quantity and status.conditions";
    forbidden(call, format!("node {node:?} {words}"))
}
