//! The ServiceAccount of a pod: it must exist, and its token is mounted into the containers.

use api::meta::{self, MIRROR};
use api::status::ApiError;
use serde_json::{Value, json};

use super::{set, spec_mut, text};
use crate::pipeline::{Call, meta as system};

/// Where containers find their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// How long a token lives; the odd 7 seconds tell it from one that was asked for.
const TOKEN_SECS: i64 = 3607;

/// The name of the account that a pod runs as, if it runs as one.
pub(super) fn wanted(pod: &Value) -> Option<&str> {
    if meta::annotation(pod, MIRROR).is_some() {
        return None;
    }
    match text(pod, "/spec/serviceAccountName") {
        "" => Some("default"),
        name => Some(name),
    }
}

/// Admits the pod as its account, and mounts the account's token.
pub(super) fn inject(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    let Some(name) = wanted(pod).map(str::to_owned) else {
        return Ok(());
    };
    let Some(account) = call
        .state
        .core("serviceaccounts")
        .get(&call.namespace, &name)
    else {
        return Err(ApiError::forbidden(
            "",
            "pods",
            meta::name(pod),
            format!(
                "error looking up service account {}/{name}: serviceaccount {name:?} not found",
                call.namespace
            ),
        ));
    };
    let account = account.value();
    let mounts = pod
        .pointer("/spec/automountServiceAccountToken")
        .or_else(|| account.get("automountServiceAccountToken"))
        .and_then(Value::as_bool)
        .unwrap_or(true);
    if let Some(spec) = spec_mut(pod) {
        spec.insert("serviceAccountName".to_owned(), name.as_str().into());
        spec.insert("serviceAccount".to_owned(), name.as_str().into());
        let has_secrets = spec
            .get("imagePullSecrets")
            .and_then(Value::as_array)
            .is_some_and(|l| !l.is_empty());
        if let (false, Some(secrets)) = (has_secrets, account.get("imagePullSecrets")) {
            spec.insert("imagePullSecrets".to_owned(), secrets.clone());
        }
    }
    if mounts {
        mount(pod);
    }
    Ok(())
}

fn mount(pod: &mut Value) {
    let Some(spec) = spec_mut(pod) else { return };
    let there = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| text(volume, "/name"))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let name = there
        .clone()
        .unwrap_or_else(|| format!("{VOLUME_PREFIX}{}", system::suffix()));
    let mut mounted = false;
    for list in ["containers", "initContainers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        for container in containers.into_iter().flatten() {
            let mounts = container.get("volumeMounts").and_then(Value::as_array);
            let taken = mounts
                .is_some_and(|mounts| mounts.iter().any(|m| text(m, "/mountPath") == MOUNT_PATH));
            if taken {
                continue;
            }
            let mut mounts = mounts.cloned().unwrap_or_default();
            mounts.push(json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH}));
            set(container, "volumeMounts", Value::Array(mounts));
            mounted = true;
        }
    }
    if mounted && there.is_none() {
        let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
        if volumes.is_null() {
            *volumes = json!([]);
        }
        if let Some(volumes) = volumes.as_array_mut() {
            volumes.push(volume(&name));
        }
    }
}

/// The token, the CA that the API server is verified by, and the namespace.
fn volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 420, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [{"path": "namespace",
            "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
    ]}})
}
