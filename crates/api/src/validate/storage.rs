//! PersistentVolumes, their claims, and StorageClasses.

use serde_json::{Map, Value};

use super::at::{At, Errors, get, same};
use super::{names, resources, scheduling};

const MODES: &[&str] = &[
    "ReadOnlyMany",
    "ReadWriteMany",
    "ReadWriteOnce",
    "ReadWriteOncePod",
];
/// Fields of a volume's spec that are no source of it.
const NO_SOURCE: &[&str] = &[
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

fn access_modes(at: &At<'_, '_>, words: &str, out: &mut Errors) {
    if at.is_empty() {
        out.required(at, words);
    }
    for mode in at.items() {
        if !MODES.contains(&mode.text()) {
            out.not_supported(&mode, MODES);
        }
    }
    if at.len() > 1 && at.items().any(|m| m.text() == "ReadWriteOncePod") {
        out.forbidden(at, "may not use ReadWriteOncePod with other access modes");
    }
}

fn common(spec: &At<'_, '_>, out: &mut Errors) {
    out.any_of(&spec.field("volumeMode"), &["Block", "Filesystem"]);
    let class = spec.field("storageClassName");
    if !class.is_empty() {
        out.form(&class, names::dns_subdomain(class.text()));
    }
}

/// A PersistentVolumeClaim.
pub(super) fn claim(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    access_modes(
        &spec.field("accessModes"),
        "at least 1 access mode is required",
        out,
    );
    common(&spec, out);
    let (asked, all) = (
        spec.field("resources.requests.storage"),
        spec.field("resources"),
    );
    match asked.quantity() {
        None => out.required(&all.key("storage"), ""),
        Some(amount) if amount.is_zero() || amount.is_negative() => {
            out.invalid_value(
                &all.key("storage"),
                asked.text(),
                "must be greater than zero",
            );
        }
        Some(_) => {}
    }
    out.label_selector(&spec.field("selector"));
    if let Some(old) = old {
        claim_kept(&spec, &asked, old, out);
    }
}

fn claim_kept(spec: &At<'_, '_>, asked: &At<'_, '_>, old: &Value, out: &mut Errors) {
    let was = get(old, "spec");
    let bound = get(old, "status.phase") == "Bound";
    let fixed = |map: &Map<String, Value>| {
        let mut map = map.clone();
        // Bound by the controller, and given a class that came later.
        for field in ["volumeName", "storageClassName"] {
            if same(get(was, field), &Value::Null) {
                map.remove(field);
            }
        }
        map.remove("volumeAttributesClassName");
        if bound
            && let Some(requests) = map.get_mut("resources").and_then(|r| r.get_mut("requests"))
        {
            *requests = Value::Null;
        }
        Value::Object(map)
    };
    let (Some(new_map), Some(old_map)) = (spec.value.as_object(), was.as_object()) else {
        return;
    };
    if !same(&fixed(new_map), &fixed(old_map)) {
        out.forbidden(
            spec,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n",
        );
    } else if let (Some(new), Some(before)) = (
        asked.quantity(),
        At::root(was).field("resources.requests.storage").quantity(),
    ) && new < before
    {
        out.forbidden(asked, "field can not be less than status.capacity");
    }
}

/// A PersistentVolume.
pub(super) fn volume(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    access_modes(&spec.field("accessModes"), "", out);
    let capacity = spec.field("capacity");
    if capacity.is_empty() {
        out.required(&capacity, "");
    } else if !capacity.key("storage").is_set() || capacity.len() > 1 {
        out.not_supported(&capacity, &["storage"]);
    }
    for (key, entry) in capacity.entries() {
        if entry.quantity().is_some_and(|q| q.is_zero()) {
            out.invalid(&entry, "must be greater than zero");
        }
        resources::amount(&entry, key, out);
    }
    out.any_of(
        &spec.field("persistentVolumeReclaimPolicy"),
        &["Delete", "Recycle", "Retain"],
    );
    common(&spec, out);
    let sources: Vec<&String> = sources(spec.value).collect();
    match sources.as_slice() {
        [] => out.required(&spec, "must specify a volume type"),
        [_] => {}
        [_, more @ ..] => {
            for kind in more {
                out.forbidden(&spec.field(kind), "may not specify more than 1 volume type");
            }
        }
    }
    let host = spec.field("hostPath.path");
    if host.text() == "/" && spec.field("persistentVolumeReclaimPolicy").text() == "Recycle" {
        let policy = spec.field("persistentVolumeReclaimPolicy");
        out.forbidden(&policy, "may not be 'recycle' for a hostPath mount of '/'");
    }
    let required = spec.field("nodeAffinity.required");
    if required.is_set() {
        scheduling::node_selector(&required, out);
    } else if spec.field("local").is_set() {
        out.required(
            &spec.field("nodeAffinity"),
            "Local volume requires node affinity",
        );
    }
    if let Some(old) = old {
        let was = get(old, "spec");
        let pick = |spec: &Value| -> Value {
            let picked: Map<String, Value> = sources_of(spec);
            picked.into()
        };
        if !same(&pick(spec.value), &pick(was)) {
            out.forbidden(
                &spec.field("persistentvolumesource"),
                "spec.persistentvolumesource is immutable after creation\n",
            );
        }
        out.immutable(&spec.field("volumeMode"), get(was, "volumeMode"));
        if !get(was, "nodeAffinity").is_null() {
            out.immutable(&spec.field("nodeAffinity"), get(was, "nodeAffinity"));
        }
    }
}

fn sources(spec: &Value) -> impl Iterator<Item = &String> {
    let map = spec.as_object().into_iter().flatten();
    map.filter(|(k, v)| !NO_SOURCE.contains(&k.as_str()) && !v.is_null())
        .map(|(k, _)| k)
}

fn sources_of(spec: &Value) -> Map<String, Value> {
    sources(spec)
        .map(|kind| (kind.clone(), get(spec, kind).clone()))
        .collect()
}

/// A StorageClass.
pub(super) fn class(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    out.required_form(&at.field("provisioner"), |text| {
        names::qualified_name(&text.to_lowercase())
    });
    out.any_of(&at.field("reclaimPolicy"), &["Delete", "Retain"]);
    out.one_of(
        &at.field("volumeBindingMode"),
        &["Immediate", "WaitForFirstConsumer"],
    );
    if let Some(old) = old {
        for name in ["parameters", "provisioner", "reclaimPolicy"] {
            let field = at.field(name);
            if !same(field.value, get(old, name)) {
                out.forbidden(&field, format!("updates to {name} are forbidden."));
            }
        }
        out.immutable(
            &at.field("volumeBindingMode"),
            get(old, "volumeBindingMode"),
        );
    }
}
