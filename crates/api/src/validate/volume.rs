//! Volumes of pods, and the mounts that refer to them.

use std::collections::HashMap;
use std::collections::HashSet;

use serde_json::Value;

use super::at::{At, Errors};
use super::security::{no_backsteps, relative_path};
use super::{container, names};

/// The volumes of a pod spec by name.
pub(super) type Volumes<'a> = HashMap<&'a str, &'a Value>;

const VOLUME_FIELDS: &[&str] = &[
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
const HOST_PATH_TYPES: &[&str] = &[
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];

/// The volumes of a pod spec.
pub(super) fn all<'a>(at: &At<'a, '_>, out: &mut Errors) -> Volumes<'a> {
    let mut volumes = Volumes::new();
    for value in at.value.as_array().into_iter().flatten() {
        volumes.insert(
            value
                .get("name")
                .and_then(Value::as_str)
                .unwrap_or_default(),
            value,
        );
    }
    let mut seen = HashSet::new();
    for volume in at.items() {
        let name = volume.field("name");
        out.required_form(&name, names::dns_label);
        if !name.is_empty() && !seen.insert(name.text()) {
            out.duplicate(&name);
        }
        let mut found = 0;
        for (kind, value) in volume.value.as_object().into_iter().flatten() {
            if kind == "name" || value.is_null() {
                continue;
            }
            found += 1;
            let source = volume.field(kind);
            if found > 1 {
                out.forbidden(&source, "may not specify more than 1 volume type");
            } else {
                one(kind, &source, out);
            }
        }
        if found == 0 {
            out.required(&volume, "must specify a volume type");
        }
    }
    volumes
}

fn one(kind: &str, at: &At<'_, '_>, out: &mut Errors) {
    let mut need = |fields: &[&str]| {
        for field in fields {
            out.present(&at.field(field));
        }
    };
    match kind {
        "emptyDir" => {
            let limit = at.field("sizeLimit");
            if limit.quantity().is_some_and(|q| q.is_negative()) {
                out.forbidden(&limit, "SizeLimit field must be a valid resource quantity");
            }
        }
        "hostPath" => {
            let path = at.field("path");
            need(&["path"]);
            no_backsteps(&path, out);
            out.any_of(&at.field("type"), HOST_PATH_TYPES);
        }
        "secret" => {
            need(&["secretName"]);
            keys(at, out);
        }
        "configMap" => {
            need(&["name"]);
            keys(at, out);
        }
        "persistentVolumeClaim" => need(&["claimName"]),
        "downwardAPI" => {
            mode(&at.field("defaultMode"), out);
            downward(&at.field("items"), out);
        }
        "projected" => projected(at, out),
        "nfs" => {
            need(&["server", "path"]);
            let path = at.field("path");
            if !path.is_empty() && !path.text().starts_with('/') {
                out.invalid(&path, "must be an absolute path");
            }
        }
        "csi" => need(&["driver"]),
        "image" => need(&["reference"]),
        "ephemeral" => need(&["volumeClaimTemplate"]),
        "iscsi" => need(&["targetPortal", "iqn"]),
        "glusterfs" => need(&["endpoints", "path"]),
        "rbd" => need(&["monitors", "image"]),
        "cephfs" => need(&["monitors"]),
        "gitRepo" => need(&["repository"]),
        _ => {}
    }
}

fn mode(at: &At<'_, '_>, out: &mut Errors) {
    if at.int().is_some_and(|mode| !(0..=0o777).contains(&mode)) {
        out.invalid(
            at,
            "must be a number between 0 and 0777 (octal), both inclusive",
        );
    }
}

/// A path of a file in a volume: relative, and not one of those kept for atomic updates.
fn file_path(at: &At<'_, '_>, out: &mut Errors) {
    relative_path(at, out);
    if at.text().starts_with("..") && !at.text().starts_with("../") && at.text() != ".." {
        out.invalid(at, "must not start with '..'");
    }
}

fn keys(at: &At<'_, '_>, out: &mut Errors) {
    mode(&at.field("defaultMode"), out);
    let items = at.field("items");
    for item in items.items() {
        out.present(&item.field("key"));
        let path = item.field("path");
        if out.present(&path) {
            file_path(&path, out);
        }
        mode(&item.field("mode"), out);
    }
}

fn downward(at: &At<'_, '_>, out: &mut Errors) {
    for file in at.items() {
        let (path, field, resource) = (
            file.field("path"),
            file.field("fieldRef"),
            file.field("resourceFieldRef"),
        );
        if out.present(&path) {
            file_path(&path, out);
        }
        if field.is_set() {
            container::field_ref(&field, VOLUME_FIELDS, out);
            if resource.is_set() {
                out.invalid(
                    at,
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
        } else if resource.is_set() {
            container::resource_ref(&resource, true, out);
        } else {
            out.required(at, "one of fieldRef and resourceFieldRef is required");
        }
        mode(&file.field("mode"), out);
    }
}

fn projected(at: &At<'_, '_>, out: &mut Errors) {
    mode(&at.field("defaultMode"), out);
    let sources = at.field("sources");
    for source in sources.items() {
        let mut found = 0;
        for (kind, value) in source.value.as_object().into_iter().flatten() {
            if value.is_null() {
                continue;
            }
            let projection = source.field(kind);
            found += 1;
            if found > 1 {
                out.forbidden(
                    &projection,
                    "may not specify more than 1 volume type per source",
                );
                continue;
            }
            match kind.as_str() {
                "secret" | "configMap" => {
                    out.present(&projection.field("name"));
                    keys(&projection, out);
                }
                "downwardAPI" => downward(&projection.field("items"), out),
                "serviceAccountToken" => token(&projection, out),
                _ => {}
            }
        }
        if found == 0 {
            out.required(&source, "must specify a projected volume source");
        }
    }
}

fn token(at: &At<'_, '_>, out: &mut Errors) {
    let (secs, path) = (at.field("expirationSeconds"), at.field("path"));
    match secs.int() {
        Some(n) if n < 600 => out.invalid(&secs, "may not specify a duration less than 10 minutes"),
        Some(n) if n > 1 << 32 => {
            out.invalid(&secs, "may not specify a duration larger than 2^32 seconds")
        }
        _ => {}
    }
    if out.present(&path) {
        file_path(&path, out);
    }
}

/// The mounts and devices of a container.
pub(super) fn mounts(container: &At<'_, '_>, volumes: &Volumes<'_>, out: &mut Errors) {
    let (mounts, devices) = (
        container.field("volumeMounts"),
        container.field("volumeDevices"),
    );
    let mut paths = HashSet::new();
    for mount in mounts.items() {
        let (name, path) = (mount.field("name"), mount.field("mountPath"));
        out.present(&name);
        let volume = volumes.get(name.text());
        if volume.is_none() {
            out.not_found(&name);
        }
        out.present(&path);
        if !paths.insert(path.text()) {
            out.invalid(&path, "must be unique");
        }
        let (sub, expression) = (mount.field("subPath"), mount.field("subPathExpr"));
        if !sub.is_empty() && !expression.is_empty() {
            out.invalid(
                &expression,
                "subPathExpr and subPath are mutually exclusive",
            );
        }
        for field in [&sub, &expression] {
            relative_path(field, out);
        }
        propagation(container, &mount, out);
    }
    let mut paths = HashSet::new();
    for device in devices.items() {
        let (name, path) = (device.field("name"), device.field("devicePath"));
        out.present(&name);
        match volumes.get(name.text()) {
            None => out.not_found(&name),
            Some(v) if v.get("persistentVolumeClaim").is_none() && v.get("ephemeral").is_none() => out.invalid(
                &name,
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            ),
            Some(_) => {}
        }
        out.present(&path);
        if !paths.insert(path.text()) {
            out.invalid(&path, "must be unique");
        }
        if mounts
            .items()
            .any(|m| m.field("name").text() == name.text())
        {
            out.invalid(&name, "must not already exist in volumeMounts");
        }
    }
}

fn propagation(container: &At<'_, '_>, mount: &At<'_, '_>, out: &mut Errors) {
    let mode = mount.field("mountPropagation");
    if !mode.is_set() {
        return;
    }
    out.any_of(&mode, &["Bidirectional", "HostToContainer", "None"]);
    if mode.text() == "Bidirectional" && !container.field("securityContext.privileged").flag() {
        out.forbidden(
            &mode,
            "Bidirectional mount propagation is available only to privileged containers",
        );
    }
}
