//! `ka` fields, as upstream's plugin takes them from the JSON (`plugins/k8saudit/pkg/k8saudit`).

use rules::Values;
use rules::fields::{Argument, FieldId as F};
use serde_json::Value as Json;

use super::containers::{self, Containers};

/// Appends a text as it is, and anything else as JSON.
pub(super) fn write_text(json: &Json, store: &mut Vec<u8>) {
    match json {
        Json::String(text) => store.extend_from_slice(text.as_bytes()),
        // Writing to a vector does not fail.
        other => {
            let _infallible = serde_json::to_writer(store, other);
        }
    }
}

/// Pushes a text as it is, and anything else as JSON.
pub(super) fn push<'a>(json: &'a Json, out: &mut Values<'a>) {
    match json {
        Json::String(text) => out.text(text),
        other => out.write(|store| write_text(other, store)),
    }
}

/// The place of a field whose value is simply somewhere in the event.
fn pointer(field: F) -> Option<&'static [&'static str]> {
    Some(match field {
        F::KaAuditid => &["auditID"],
        F::KaStage => &["stage"],
        F::KaAuthDecision => &["annotations", "authorization.k8s.io/decision"],
        F::KaAuthReason => &["annotations", "authorization.k8s.io/reason"],
        F::KaAuthOpenshiftDecision => &["annotations", "authentication.openshift.io/decision"],
        F::KaAuthOpenshiftUsername => &["annotations", "authentication.openshift.io/username"],
        F::KaValidationsAdmissionPolicyFailure => &[
            "annotations",
            "validation.policy.admission.k8s.io/validation_failure",
        ],
        F::KaSecurityPodViolations => {
            &["annotations", "pod-security.kubernetes.io/audit-violations"]
        }
        F::KaUserName => &["user", "username"],
        F::KaUserGroups => &["user", "groups"],
        F::KaImpuserName => &["impersonatedUser", "username"],
        F::KaVerb => &["verb"],
        F::KaUri => &["requestURI"],
        F::KaTargetName | F::KaReqConfigmapName => &["objectRef", "name"],
        F::KaTargetNamespace => &["objectRef", "namespace"],
        F::KaTargetResource => &["objectRef", "resource"],
        F::KaTargetSubresource => &["objectRef", "subresource"],
        F::KaReqBindingSubjects => &["requestObject", "subjects"],
        F::KaReqBindingRole => &["requestObject", "roleRef", "name"],
        F::KaReqConfigmapObj => &["requestObject", "data"],
        F::KaReqPodHostIpc => &["requestObject", "spec", "hostIPC"],
        F::KaReqPodHostNetwork | F::KaReqContainerHostNetwork => {
            &["requestObject", "spec", "hostNetwork"]
        }
        F::KaReqPodHostPid => &["requestObject", "spec", "hostPID"],
        F::KaReqPodRunAsUser => &["requestObject", "spec", "securityContext", "runAsUser"],
        F::KaReqPodRunAsGroup => &["requestObject", "spec", "securityContext", "runAsGroup"],
        F::KaReqPodFsGroup => &["requestObject", "spec", "securityContext", "fsGroup"],
        F::KaReqPodSupplementalGroups => &[
            "requestObject",
            "spec",
            "securityContext",
            "supplementalGroups",
        ],
        F::KaReqRoleRules => &["requestObject", "rules"],
        F::KaReqServiceType => &["requestObject", "spec", "type"],
        F::KaRespName => &["responseObject", "metadata", "name"],
        F::KaResponseCode => &["responseStatus", "code"],
        F::KaResponseReason => &["responseStatus", "reason"],
        F::KaUseragent => &["userAgent"],
        F::KaClusterName => &["annotations", "cluster_name"],
        _ => return None,
    })
}

pub(super) fn at<'a>(json: &'a Json, keys: &[&str]) -> Option<&'a Json> {
    keys.iter().try_fold(json, |json, key| json.get(key))
}

/// Pushes the values of a field, and says whether there is code for it.
pub(super) fn field<'a>(
    json: &'a Json,
    field: F,
    argument: &Argument,
    out: &mut Values<'a>,
) -> bool {
    // Other JSON than audit events has none.
    if json.get("auditID").is_none() {
        return true;
    }
    if let Some(keys) = pointer(field) {
        match (at(json, keys), field.info().is_list()) {
            (Some(Json::Array(items)), true) => items.iter().for_each(|item| push(item, out)),
            (None, _) | (Some(_), true) => {}
            (Some(found), false) => push(found, out),
        }
        return true;
    }
    let index = match argument {
        Argument::Index(index) => usize::try_from(*index).ok(),
        _ => None,
    };
    match field {
        F::KaUriParam => uri_param(json, argument, out),
        F::KaTargetPodName => {
            let resource = at(json, &["objectRef", "resource"]).and_then(Json::as_str);
            let part = at(json, &["objectRef", "subresource"]).and_then(Json::as_str);
            if resource == Some("pods")
                && part.unwrap_or_default().is_empty()
                && let Some(name) = at(json, &["responseObject", "metadata", "name"])
            {
                push(name, out);
            }
        }
        F::KaReqBindingSubjectsUserNames => subjects(json, "User", false, out),
        F::KaReqBindingSubjectsServiceaccountNames => subjects(json, "ServiceAccount", false, out),
        F::KaReqBindingSubjectsServiceaccountNsNames => subjects(json, "ServiceAccount", true, out),
        F::KaReqBindingSubjectsGroupNames => subjects(json, "Group", false, out),
        // Upstream answers so whatever the subjects are.
        F::KaReqBindingSubjectHasName => out.text("true"),
        F::KaReqRoleRulesApiGroups => role_rules(json, "apiGroups", index, out),
        F::KaReqRoleRulesNonResourceURLs => role_rules(json, "nonResourceURLs", index, out),
        F::KaReqRoleRulesVerbs => role_rules(json, "verbs", index, out),
        F::KaReqRoleRulesResources => role_rules(json, "resources", index, out),
        F::KaReqServicePorts => {
            walk(
                json,
                index,
                &["requestObject", "spec", "ports"],
                &mut |found| {
                    if let Some(found) = found {
                        push(found, out);
                    }
                },
            );
        }
        F::KaReqVolumeHostpath => {
            let Argument::Key(wanted) = argument else {
                return true;
            };
            let mut found = false;
            let known = walk(json, None, HOST_PATH, &mut |path| {
                let path = path.and_then(Json::as_str);
                found |= path.is_some_and(|path| match wanted.strip_suffix('*') {
                    Some(prefix) => path.starts_with(prefix) || path == &**wanted,
                    None => path == &**wanted,
                });
            });
            if known {
                out.text(if found { "true" } else { "false" });
            }
        }
        F::KaReqPodVolumesHostpath => texts(json, index, HOST_PATH, out),
        F::KaReqPodVolumesFlexvolumeDriver => texts(
            json,
            index,
            &["requestObject", "spec", "volumes", "flexVolume", "driver"],
            out,
        ),
        F::KaReqPodVolumesVolumeType => {
            let volumes = at(json, &["requestObject", "spec", "volumes"]).and_then(Json::as_array);
            let chosen = volumes
                .into_iter()
                .flatten()
                .enumerate()
                .filter(|(place, _)| index.is_none_or(|index| index == *place))
                .filter_map(|(_, volume)| volume.as_object());
            for key in chosen
                .flat_map(|volume| volume.keys())
                .filter(|key| *key != "name")
            {
                out.text(key);
            }
        }
        // Upstream looks for them below the request's rules, where they never are; they are taken from
        // where the API server puts them.
        F::KaSourceips => {
            let addresses = json.get("sourceIPs").and_then(Json::as_array);
            addresses
                .into_iter()
                .flatten()
                .enumerate()
                .filter(|(place, _)| index.is_none_or(|index| index == *place))
                .for_each(|(_, address)| push(address, out));
        }
        _ => {
            let containers = Containers {
                json,
                list: "containers",
                index,
            };
            return containers::field(&containers, field, out);
        }
    }
    true
}

const HOST_PATH: &[&str] = &["requestObject", "spec", "volumes", "hostPath", "path"];

/// Calls `take` with what is found along the keys; of arrays on the way, in every item, or in the one
/// of that index, and with nothing for items that lack it. False if the way does not exist.
pub(super) fn walk<'a>(
    json: &'a Json,
    index: Option<usize>,
    keys: &[&str],
    take: &mut dyn FnMut(Option<&'a Json>),
) -> bool {
    let Some((key, rest)) = keys.split_first() else {
        take(Some(json));
        return true;
    };
    let json = match (json, index) {
        (Json::Array(items), None) => {
            for item in items {
                if !walk(item, index, keys, take) {
                    take(None);
                }
            }
            return true;
        }
        (Json::Array(items), Some(index)) => match items.get(index) {
            Some(item) => item,
            None => return false,
        },
        (json, _) => json,
    };
    match json.get(key) {
        Some(next) => walk(next, index, rest, take),
        None => false,
    }
}

/// Pushes what is found along the keys, leaving out items that lack it.
pub(super) fn texts<'a>(json: &'a Json, index: Option<usize>, keys: &[&str], out: &mut Values<'a>) {
    walk(json, index, keys, &mut |found| {
        if let Some(found) = found {
            push(found, out);
        }
    });
}

fn subjects<'a>(json: &'a Json, kind: &str, with_namespace: bool, out: &mut Values<'a>) {
    let subjects = at(json, &["requestObject", "subjects"]).and_then(Json::as_array);
    for subject in subjects.into_iter().flatten() {
        let text = |name| subject.get(name).and_then(Json::as_str);
        let Some(name) = text("name").filter(|_| text("kind") == Some(kind)) else {
            continue;
        };
        if !with_namespace {
            out.text(name);
        } else if let Some(namespace) = text("namespace") {
            out.write(|store| super::super::put(store, format_args!("{namespace}:{name}")));
        }
    }
}

fn role_rules<'a>(json: &'a Json, key: &str, index: Option<usize>, out: &mut Values<'a>) {
    walk(
        json,
        index,
        &["requestObject", "rules", key],
        &mut |found| {
            let items = found.and_then(Json::as_array);
            items.into_iter().flatten().for_each(|item| push(item, out));
        },
    );
}

fn uri_param(json: &Json, argument: &Argument, out: &mut Values<'_>) {
    let (Some(uri), Argument::Key(name)) =
        (json.get("requestURI").and_then(Json::as_str), argument)
    else {
        return;
    };
    let query = uri.split('#').next().unwrap_or_default().split_once('?');
    let query = query.map_or("", |(_, query)| query);
    let value = query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find(|(key, _)| decode(key) == name.as_bytes());
    if let Some((_, value)) = value {
        let value = decode(value);
        out.write(|store| store.extend_from_slice(&value));
    }
}

/// A part of a query without its escapes.
fn decode(text: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut ahead = bytes.clone();
                match (digit(ahead.next()), digit(ahead.next())) {
                    (Some(high), Some(low)) => {
                        bytes = ahead;
                        u8::try_from(high * 16 + low).unwrap_or(b'%')
                    }
                    _ => b'%',
                }
            }
            other => other,
        });
    }
    out
}
