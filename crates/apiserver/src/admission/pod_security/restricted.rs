//! The checks of `restricted`: what is best practice beyond `baseline`.

use std::collections::BTreeSet;

use serde_json::Value;

use super::baseline::{added, confines, items, member, seccomp_1_19};
use super::checks::{Pod, Violation, containers, plural, quoted};
use crate::hooks::text;

const VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

/// The other sources of volumes; of several the first one is told.
const RESTRICTED_VOLUMES: &[&str] = &[
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "gitRepo",
    "nfs",
    "iscsi",
    "glusterfs",
    "rbd",
    "flexVolume",
    "cinder",
    "cephfs",
    "flocker",
    "fc",
    "azureFile",
    "vsphereVolume",
    "quobyte",
    "azureDisk",
    "photonPersistentDisk",
    "portworxVolume",
    "scaleIO",
    "storageos",
];

fn flag(context: Option<&Value>, name: &str) -> Option<bool> {
    context?.get(name)?.as_bool()
}

pub(super) fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.which(|container| {
        let context = container.get("securityContext");
        flag(context, "allowPrivilegeEscalation") != Some(false)
    });
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} must set securityContext.allowPrivilegeEscalation=false",
            containers(&names)
        );
        Violation::new("allowPrivilegeEscalation != false", detail)
    })
}

pub(super) fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    let keep = pod.which(|container| {
        !items(container, "/securityContext/capabilities/drop").any(|drop| drop == "ALL")
    });
    let keep = (!keep.is_empty()).then(|| {
        format!(
            "{} must set securityContext.capabilities.drop=[\"ALL\"]",
            containers(&keep)
        )
    });
    let details: Vec<String> = keep
        .into_iter()
        .chain(added(pod, &["NET_BIND_SERVICE"]))
        .collect();
    (!details.is_empty()).then(|| Violation::new("unrestricted capabilities", details.join("; ")))
}

pub(super) fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let (mut names, mut types) = (Vec::new(), BTreeSet::new());
    for volume in items(pod.spec, "/volumes") {
        let has = |source: &&&str| member(volume, source).is_some();
        if VOLUMES.iter().any(|source| has(&source)) {
            continue;
        }
        names.push(text(volume, "/name"));
        let source = RESTRICTED_VOLUMES.iter().find(has);
        types.insert(source.copied().unwrap_or("unknown"));
    }
    (!names.is_empty()).then(|| {
        let detail = format!(
            "{} {} {} {} {}",
            plural("volume", names.len()),
            quoted(&names),
            plural("uses", names.len()),
            plural("restricted volume type", types.len()),
            quoted(types)
        );
        Violation::new("restricted volume types", detail)
    })
}

pub(super) fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let root = |context: &Value| flag(Some(context), "runAsNonRoot") == Some(false);
    if let Some(who) = pod.setters(root).words() {
        let detail = format!("{who} must not set securityContext.runAsNonRoot=false");
        return Some(Violation::new(REASON, detail));
    }
    if flag(pod.spec.get("securityContext"), "runAsNonRoot") == Some(true) {
        return None;
    }
    let silent = |container: &Value| flag(container.get("securityContext"), "runAsNonRoot");
    let names = pod.which(|container| silent(container).is_none());
    (!names.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            containers(&names)
        );
        Violation::new(REASON, detail)
    })
}

pub(super) fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let root = |context: &Value| context.get("runAsUser").and_then(Value::as_i64) == Some(0);
    let who = pod.setters(root).words()?;
    let detail = format!("{who} must not set runAsUser=0");
    Some(Violation::new("runAsUser=0", detail))
}

pub(super) fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if let Some(found) = seccomp_1_19(pod) {
        return Some(found);
    }
    let confined = |holder: &Value| {
        let profile = holder.pointer("/securityContext/seccompProfile");
        profile.is_some_and(confines)
    };
    if confined(pod.spec) {
        return None;
    }
    let names = pod.which(|container| !confined(container));
    (!names.is_empty()).then(|| {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&names)
        );
        Violation::new("seccompProfile", detail)
    })
}
