//! System metadata: what the server, not the client, decides about an object.

use api::meta;
use api::resource::Resource;
use api::status::ApiError;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use serde_json::{Map, Value};

/// Letters of generated names: no vowels, nothing that looks like something else.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// The longest prefix of a generated name, in bytes.
const PREFIX_LIMIT_BYTES: usize = 63 - 5;

/// Five random letters.
pub(crate) fn suffix() -> String {
    let mut rng = rand::rng();
    (0..5)
        .map(|_| char::from(LETTERS[rng.random_range(0..LETTERS.len())]))
        .collect()
}

/// A name with a random end.
pub(crate) fn generated(prefix: &str) -> String {
    let mut end = prefix.len().min(PREFIX_LIMIT_BYTES);
    while !prefix.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{}", &prefix[..end], suffix())
}

/// Now, in whole seconds.
pub(crate) fn now() -> String {
    time(Timestamp::now())
}

/// A time as objects carry it.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// This many seconds from a time.
pub(crate) fn later(at: Timestamp, secs: i64) -> String {
    time(
        at.checked_add(SignedDuration::from_secs(secs))
            .unwrap_or(at),
    )
}

/// Whether a kind's objects count the changes of their spec.
pub(crate) fn has_generation(resource: &Resource) -> bool {
    resource.schema.custom().is_some()
        || matches!(
            (&*resource.group, &*resource.plural),
            (
                "apps",
                "deployments" | "replicasets" | "statefulsets" | "daemonsets"
            ) | ("", "pods" | "replicationcontrollers")
                | ("batch", "jobs" | "cronjobs")
                | ("policy", "poddisruptionbudgets")
                | (
                    "networking.k8s.io",
                    "ingresses" | "ingressclasses" | "networkpolicies"
                )
                | ("discovery.k8s.io", "endpointslices")
                | (
                    "flowcontrol.apiserver.k8s.io"
                        | "admissionregistration.k8s.io"
                        | "apiextensions.k8s.io",
                    _
                )
                | ("resource.k8s.io", "resourceslices" | "deviceclasses")
                | ("scheduling.k8s.io", "priorityclasses")
        )
}

/// Whether a kind's status is written through its subresource only.
pub(crate) fn has_status(resource: &Resource) -> bool {
    resource.subresource("status").is_some()
}

/// Takes from a new object what is not for clients to say.
pub(crate) fn wipe(resource: &Resource, namespace: &str, object: &mut Value) {
    for field in [
        "uid",
        "creationTimestamp",
        "resourceVersion",
        "selfLink",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        meta::remove(object, field);
    }
    if resource.namespaced {
        meta::set(object, "namespace", namespace);
    } else {
        meta::remove(object, "namespace");
    }
}

/// Fills in what a new object gets.
pub(crate) fn on_create(resource: &Resource, namespace: &str, object: &mut Value) {
    wipe(resource, namespace, object);
    meta::remove(object, "generation");
    meta::set(object, "uid", uuid::Uuid::new_v4().to_string());
    meta::set(object, "creationTimestamp", now());
    if has_generation(resource) {
        meta::set(object, "generation", 1);
    }
    // A node brings its status along when it registers.
    if has_status(resource)
        && !(resource.group.is_empty() && resource.plural == "nodes")
        && let Some(map) = object.as_object_mut()
    {
        map.insert("status".to_owned(), Value::Object(Map::new()));
    }
}

/// Carries over what a client cannot change; `subresource` is empty for the object itself.
pub(crate) fn on_update(resource: &Resource, subresource: &str, new: &mut Value, old: &Value) {
    let keep = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "namespace",
        "name",
        "generateName",
    ];
    for field in keep {
        match old.get("metadata").and_then(|m| m.get(field)) {
            Some(value) => meta::set(new, field, value.clone()),
            None => {
                meta::remove(new, field);
            }
        }
    }
    meta::remove(new, "selfLink");
    let member = |name: &str| old.get(name).cloned();
    match subresource {
        "" if has_status(resource) => put(new, "status", member("status")),
        "status" => {
            if resource.schema.custom().is_some() {
                // Metadata are not the status' to change; who owns what is kept.
                let managed = meta::remove(new, "managedFields");
                let revision = meta::remove(new, "resourceVersion");
                put(new, "metadata", member("metadata"));
                meta::remove(new, "managedFields");
                for (field, value) in [("managedFields", managed), ("resourceVersion", revision)] {
                    if let Some(value) = value {
                        meta::set(new, field, value);
                    }
                }
            }
            let names: Vec<String> = new
                .as_object()
                .into_iter()
                .chain(old.as_object())
                .flat_map(|map| map.keys().cloned())
                .filter(|k| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata" | "status"))
                .collect();
            for name in names {
                put(new, &name, member(&name));
            }
        }
        _ => {}
    }
    // A binding fills the node in; the generation counts what users ask for.
    let loose_status = resource.schema.custom().is_some()
        && !has_status(resource)
        && new.get("status") != old.get("status");
    if has_generation(resource)
        && subresource != "binding"
        && (content_changed(new, old) || loose_status)
    {
        meta::set(new, "generation", meta::generation(old) + 1);
    }
}

fn put(object: &mut Value, name: &str, value: Option<Value>) {
    let Some(map) = object.as_object_mut() else {
        return;
    };
    match value {
        Some(value) => {
            map.insert(name.to_owned(), value);
        }
        None => {
            map.remove(name);
        }
    }
}

/// Whether anything differs beside metadata and status.
pub(crate) fn content_changed(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return true;
    };
    let content =
        |k: &&String| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata" | "status");
    new.keys()
        .chain(old.keys())
        .filter(content)
        .any(|k| new.get(k) != old.get(k))
}

/// Whether two states of an object are the same, the revision apart.
pub(crate) fn unchanged(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return false;
    };
    new.len() == old.len()
        && new
            .iter()
            .all(|(name, value)| match (name.as_str(), old.get(name)) {
                (_, None) => false,
                ("metadata", Some(before)) => same_metadata(value, before),
                (_, Some(before)) => value == before,
            })
}

fn same_metadata(new: &Value, old: &Value) -> bool {
    let (Some(new), Some(old)) = (new.as_object(), old.as_object()) else {
        return new == old;
    };
    let counted = |k: &&String| k.as_str() != "resourceVersion";
    new.keys()
        .chain(old.keys())
        .filter(counted)
        .all(|k| new.get(k) == old.get(k))
}

/// The revision that an object claims to be of; `None` when it claims none.
pub(crate) fn claimed_revision(object: &Value) -> Result<Option<u64>, ApiError> {
    match meta::resource_version(object) {
        "" | "0" => Ok(None),
        text => text.parse().map(Some).map_err(|_| {
            ApiError::bad_request(format!(
                "strconv.ParseUint: parsing {text:?}: invalid syntax"
            ))
        }),
    }
}
