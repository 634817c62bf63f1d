//! The pods on a node.

use api::meta::{self, MIRROR};
use api::status::ApiError;
use serde_json::Value;

use super::{Checked, forbidden, text};
use crate::auth::node::{Named, named_by};
use crate::pipeline::Call;

/// The volumes for which a node needs nothing from the API.
const LOCAL_VOLUMES: &[&str] = &[
    "awsElasticBlockStore",
    "azureDisk",
    "cephfs",
    "cinder",
    "downwardAPI",
    "emptyDir",
    "fc",
    "flexVolume",
    "flocker",
    "gcePersistentDisk",
    "gitRepo",
    "hostPath",
    "image",
    "iscsi",
    "nfs",
    "photonPersistentDisk",
    "portworxVolume",
    "quobyte",
    "rbd",
    "scaleIO",
    "storageos",
    "vsphereVolume",
];

/// Checks a create (without `old`) or an update.
pub(super) fn write(call: &Call, node: &str, new: &Value, old: Option<&Value>) -> Checked {
    match (call.subresource.as_str(), old) {
        ("", None) => mirror(call, node, new),
        ("", Some(_)) => {
            let words = "can only create and delete mirror pods";
            let words = format!("unexpected operation \"UPDATE\", node {node:?} {words}");
            forbidden(call, words)
        }
        ("status", Some(old)) => status(call, node, new, old),
        ("status" | "eviction", _) => Ok(()),
        (other, _) => {
            let words = "only 'status' and 'eviction' are allowed";
            forbidden(
                call,
                format!("unexpected pod subresource {other:?}, {words}"),
            )
        }
    }
}

/// Checks a delete or an eviction.
pub(super) fn delete(call: &Call, node: &str, pod: &Value) -> Checked {
    if text(pod, "/spec/nodeName") == node {
        return Ok(());
    }
    let set = "pods with spec.nodeName set to itself";
    let words = if call.subresource == "eviction" {
        format!("node {node} can only evict {set}")
    } else {
        format!("node {node:?} can only delete {set}")
    };
    forbidden(call, words)
}

fn status(call: &Call, node: &str, new: &Value, old: &Value) -> Checked {
    if text(old, "/spec/nodeName") != node {
        let words = "can only update pod status for pods with spec.nodeName set to itself";
        return forbidden(call, format!("node {node:?} {words}"));
    }
    let labels = |pod: &Value| meta::labels(pod).filter(|all| !all.is_empty()).cloned();
    if labels(old) != labels(new) {
        let words = format!("node {node:?} cannot update labels through pod status");
        return forbidden(call, words);
    }
    // What gives a node access to claims is the scheduler's and the controllers' to say.
    let at = |pod: &Value, path: &str| pod.pointer(path).filter(|v| !v.is_null()).cloned();
    for (path, what) in [
        ("/status/resourceClaimStatuses", "claim statues"),
        ("/status/extendedResourceClaimStatus", "claim status"),
    ] {
        if at(old, path) != at(new, path) {
            let extended = if what == "claim status" {
                "extended "
            } else {
                ""
            };
            let words = format!("node {node:?} cannot update {extended}resource {what}");
            return forbidden(call, words);
        }
    }
    Ok(())
}

fn mirror(call: &Call, node: &str, pod: &Value) -> Checked {
    if meta::annotation(pod, MIRROR).is_none() {
        let words = format!(
            "pod does not have {MIRROR:?} annotation, node {node:?} can only create mirror pods"
        );
        return forbidden(call, words);
    }
    let only = |what: &str| {
        forbidden(
            call,
            format!("node {node:?} can only create pods with {what}"),
        )
    };
    if text(pod, "/spec/nodeName") != node {
        return only("spec.nodeName set to itself");
    }
    let owners: Vec<_> = meta::owner_references(pod).collect();
    let [owner] = owners.as_slice() else {
        return match owners.len() {
            0 => only("an owner reference set to itself"),
            _ => only("a single owner reference set to itself"),
        };
    };
    if owner.api_version != "v1" || owner.kind != "Node" || owner.name != node {
        return only("an owner reference set to itself");
    }
    if !owner.controller {
        return only("a controller owner reference set to itself");
    }
    if owner.block_owner_deletion {
        let words = "must not set blockOwnerDeletion on an owner reference";
        return forbidden(call, format!("node {node:?} {words}"));
    }
    let Some(own) = call.state.core("nodes").get("", node) else {
        return Err(ApiError::not_found_named("", "nodes", node));
    };
    if owner.uid != &*own.uid {
        let (wanted, got) = (owner.uid, &own.uid);
        let words = format!("node {node} UID mismatch: expected {wanted} got {got}");
        return forbidden(call, words);
    }
    match referenced(pod) {
        Ok(None) => Ok(()),
        Ok(Some(what)) => {
            let words = format!("node {node:?} can not create pods that reference {what}");
            forbidden(call, words)
        }
        Err(words) => forbidden(
            call,
            format!("error checking mirror pod for API references: {words}"),
        ),
    }
}

/// What of the API a pod needs, if anything.
fn referenced(pod: &Value) -> Result<Option<&'static str>, String> {
    if !text(pod, "/spec/serviceAccountName").is_empty() {
        return Ok(Some("serviceaccounts"));
    }
    match named_by(pod) {
        Named::Secrets => return Ok(Some("secrets")),
        Named::ConfigMaps => return Ok(Some("configmaps")),
        Named::Nothing => {}
        Named::Unknown => return Err("the pod cannot be read".to_owned()),
    }
    let list = |of: &Value, path: &str| -> Vec<Value> {
        of.pointer(path)
            .and_then(Value::as_array)
            .cloned()
            .unwrap_or_default()
    };
    if !list(pod, "/spec/resourceClaims").is_empty() {
        return Ok(Some("resourceclaims"));
    }
    for volume in list(pod, "/spec/volumes") {
        let has = |source: &str| volume.get(source).is_some_and(|value| !value.is_null());
        if LOCAL_VOLUMES.iter().any(|source| has(source)) {
            continue;
        }
        let name = text(&volume, "/name");
        if has("projected") {
            for source in list(&volume, "/projected/sources") {
                let has = |of: &str| source.get(of).is_some_and(|value| !value.is_null());
                if has("serviceAccountToken") {
                    return Ok(Some("serviceaccounts (via projected volumes)"));
                } else if has("clusterTrustBundle") {
                    return Ok(Some("clustertrustbundles"));
                } else if has("podCertificate") {
                    return Ok(Some("podcertificates"));
                } else if !has("downwardAPI") {
                    return Err(format!("unknown source for projected volume {name:?}"));
                }
            }
            continue;
        }
        let needs = [
            ("configMap", "configmaps (via configmap volumes)"),
            ("secret", "secrets (via secret volumes)"),
            ("csi", "csidrivers (via CSI volumes)"),
            ("glusterfs", "endpoints (via glusterFS volumes)"),
            ("persistentVolumeClaim", "persistentvolumeclaims"),
            (
                "ephemeral",
                "persistentvolumeclaims (via ephemeral volumes)",
            ),
            ("azureFile", "secrets (via azureFile volumes)"),
        ];
        return match needs.iter().find(|(source, _)| has(source)) {
            Some((_, what)) => Ok(Some(what)),
            None => Err(format!("unknown volume type for volume  {name:?}")),
        };
    }
    Ok(None)
}
