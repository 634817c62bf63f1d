//! Writes decisions to the API server.

use client::{Client, Key};
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;

#[derive(Debug, thiserror::Error)]
pub(crate) enum BindError {
    #[error("cannot bind pod {pod} to node {node}")]
    Bind {
        pod: Key,
        node: String,
        source: kube::Error,
    },
    #[error("cannot write the condition of pod {pod}")]
    Condition { pod: Key, source: kube::Error },
}

/// Binds the pod with this uid to `node`.
pub(crate) async fn bind(client: &Client, pod: &Pod, node: &str) -> Result<(), BindError> {
    let key = Key::of(pod);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let binding = Binding {
        metadata: ObjectMeta {
            name: Some(key.name.clone()),
            namespace: Some(key.namespace.clone()),
            uid: pod.metadata.uid.clone(),
            ..ObjectMeta::default()
        },
        target: ObjectReference {
            api_version: Some("v1".to_owned()),
            kind: Some("Node".to_owned()),
            name: Some(node.to_owned()),
            ..ObjectReference::default()
        },
    };
    pods.create_subresource::<Binding, serde_json::Value>(
        "binding",
        &key.name,
        &PostParams::default(),
        &binding,
    )
    .await
    .map(drop)
    .map_err(|source| BindError::Bind {
        pod: key,
        node: node.to_owned(),
        source,
    })
}

/// Says in the pod's status why it has no node, unless it says so already.
pub(crate) async fn mark_unschedulable(
    client: &Client,
    pod: &Pod,
    reason: &str,
    message: &str,
) -> Result<(), BindError> {
    let known = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .any(|c| {
            c.type_ == "PodScheduled"
                && c.status == "False"
                && c.reason.as_deref() == Some(reason)
                && c.message.as_deref() == Some(message)
        });
    if known {
        return Ok(());
    }
    let since = pod
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .find(|c| c.type_ == "PodScheduled" && c.status == "False")
        .and_then(|c| c.last_transition_time.clone())
        .unwrap_or_else(|| Time(jiff::Timestamp::now()));
    let key = Key::of(pod);
    let pods: Api<Pod> = Api::namespaced(client.clone(), &key.namespace);
    let patch = json!({
        "metadata": {"uid": pod.metadata.uid},
        "status": {"conditions": [{
            "type": "PodScheduled", "status": "False", "reason": reason, "message": message,
            "lastProbeTime": null, "lastTransitionTime": since,
            "observedGeneration": pod.metadata.generation,
        }]},
    });
    pods.patch_status(&key.name, &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .map(drop)
        .map_err(|source| BindError::Condition { pod: key, source })
}
