//! Volumes, claims, storage classes and drivers.

use serde_json::{Value, json};

use super::{AGE, Column, NAME, Printer, Row, number, or_none, text, wide};
use crate::meta;

const VOLUME: Printer = Printer {
    columns: &[
        NAME,
        text("Capacity"),
        text("Access Modes"),
        text("Reclaim Policy"),
        text("Status"),
        text("Claim"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        text("Reason"),
        AGE,
        wide("VolumeMode"),
    ],
    cells: |row| {
        let claim = match row.text("/spec/claimRef/name") {
            "" => String::new(),
            name => format!("{}/{name}", row.text("/spec/claimRef/namespace")),
        };
        vec![
            row.name(),
            row.text("/spec/capacity/storage").into(),
            access_modes(row, "/spec/accessModes").into(),
            row.text("/spec/persistentVolumeReclaimPolicy").into(),
            phase(row).into(),
            claim.into(),
            storage_class(row).into(),
            row.text_or("/spec/volumeAttributesClassName", "<unset>"),
            row.text("/status/reason").into(),
            row.age(),
            row.text_or("/spec/volumeMode", "<unset>"),
        ]
    },
};

const CLAIM: Printer = Printer {
    columns: &[
        NAME,
        text("Status"),
        text("Volume"),
        text("Capacity"),
        text("Access Modes"),
        text("StorageClass"),
        text("VolumeAttributesClass"),
        AGE,
        wide("VolumeMode"),
    ],
    cells: |row| {
        let bound = !row.text("/spec/volumeName").is_empty();
        let modes = if bound {
            access_modes(row, "/status/accessModes")
        } else {
            String::new()
        };
        let capacity = if bound {
            row.text("/status/capacity/storage")
        } else {
            ""
        };
        vec![
            row.name(),
            phase(row).into(),
            row.text("/spec/volumeName").into(),
            capacity.into(),
            modes.into(),
            storage_class(row).into(),
            row.text_or("/spec/volumeAttributesClassName", "<unset>"),
            row.age(),
            row.text_or("/spec/volumeMode", "<unset>"),
        ]
    },
};

fn phase<'a>(row: &Row<'a>) -> &'a str {
    if row.deleting() {
        "Terminating"
    } else {
        row.text("/status/phase")
    }
}

fn storage_class<'a>(row: &Row<'a>) -> &'a str {
    match meta::annotation(row.object, "volume.beta.kubernetes.io/storage-class") {
        Some(class) => class,
        None => row.text("/spec/storageClassName"),
    }
}

fn access_modes(row: &Row<'_>, pointer: &str) -> String {
    let given: Vec<&str> = row.list(pointer).iter().filter_map(Value::as_str).collect();
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let short = known
        .iter()
        .filter(|(mode, _)| given.contains(mode))
        .map(|(_, short)| *short);
    short.collect::<Vec<_>>().join(",")
}

const CLASS: Printer = Printer {
    columns: &[
        NAME,
        text("Provisioner"),
        text("ReclaimPolicy"),
        text("VolumeBindingMode"),
        Column {
            kind: "boolean",
            ..text("AllowVolumeExpansion")
        },
        AGE,
    ],
    cells: |row| {
        let default = [
            "storageclass.kubernetes.io/is-default-class",
            "storageclass.beta.kubernetes.io/is-default-class",
        ]
        .iter()
        .any(|key| meta::annotation(row.object, key) == Some("true"));
        let name = meta::name(row.object);
        vec![
            if default {
                format!("{name} (default)").into()
            } else {
                name.into()
            },
            row.text("/provisioner").into(),
            row.text_or("/reclaimPolicy", "Delete"),
            row.text_or("/volumeBindingMode", "Immediate"),
            row.flag("/allowVolumeExpansion").into(),
            row.age(),
        ]
    },
};

const ATTACHMENT: Printer = Printer {
    columns: &[
        NAME,
        Column {
            format: "name",
            ..text("Attacher")
        },
        text("PV"),
        text("Node"),
        Column {
            kind: "boolean",
            ..text("Attached")
        },
        AGE,
    ],
    cells: |row| {
        vec![
            row.name(),
            row.text("/spec/attacher").into(),
            row.text("/spec/source/persistentVolumeName").into(),
            row.text("/spec/nodeName").into(),
            row.flag("/status/attached").into(),
            row.age(),
        ]
    },
};

const DRIVER: Printer = Printer {
    columns: &[
        NAME,
        Column {
            kind: "boolean",
            ..text("AttachRequired")
        },
        Column {
            kind: "boolean",
            ..text("PodInfoOnMount")
        },
        Column {
            kind: "boolean",
            ..text("StorageCapacity")
        },
        text("TokenRequests"),
        Column {
            kind: "boolean",
            ..text("RequiresRepublish")
        },
        text("Modes"),
        AGE,
    ],
    cells: |row| {
        let joined = |pointer: &str, key: Option<&str>| {
            let texts = row
                .list(pointer)
                .iter()
                .filter_map(|v| key.map_or(Some(v), |k| v.get(k))?.as_str());
            texts.collect::<Vec<_>>().join(",")
        };
        let tokens = joined("/spec/tokenRequests", Some("audience"));
        vec![
            row.name(),
            row.at("/spec/attachRequired")
                .cloned()
                .unwrap_or(json!(true)),
            row.flag("/spec/podInfoOnMount").into(),
            row.flag("/spec/storageCapacity").into(),
            if tokens.is_empty() {
                "<unset>".into()
            } else {
                tokens.into()
            },
            row.flag("/spec/requiresRepublish").into(),
            or_none(joined("/spec/volumeLifecycleModes", None)).into(),
            row.age(),
        ]
    },
};

const CSI_NODE: Printer = Printer {
    columns: &[NAME, number("Drivers"), AGE],
    cells: |row| vec![row.name(), row.count("/spec/drivers").into(), row.age()],
};

const CAPACITY: Printer = Printer {
    columns: &[NAME, text("StorageClassName"), text("Capacity"), AGE],
    cells: |row| {
        vec![
            row.name(),
            row.text("/storageClassName").into(),
            row.text_or("/capacity", "<unset>"),
            row.age(),
        ]
    },
};

const ATTRIBUTES: Printer = Printer {
    columns: &[NAME, text("DriverName"), AGE],
    cells: |row| vec![row.name(), row.text("/driverName").into(), row.age()],
};

pub(super) fn printer(plural: &str) -> Option<&'static Printer> {
    Some(match plural {
        "persistentvolumes" => &VOLUME,
        "persistentvolumeclaims" => &CLAIM,
        "storageclasses" => &CLASS,
        "volumeattachments" => &ATTACHMENT,
        "csidrivers" => &DRIVER,
        "csinodes" => &CSI_NODE,
        "csistoragecapacities" => &CAPACITY,
        "volumeattributesclasses" => &ATTRIBUTES,
        _ => return None,
    })
}
