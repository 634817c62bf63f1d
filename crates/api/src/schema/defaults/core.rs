//! Defaults of the core group's other kinds.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Map, Value, json};

use super::{absent, child, empty, items, text};

pub(super) fn fill(name: &str, map: &mut Map<String, Value>) {
    match name {
        "Service" => service(map),
        "Secret" => secret(map),
        "Namespace" => namespace(map),
        "NodeSpec" => node_spec(map),
        "NodeStatus" => {
            if let Some(capacity) = map.get("capacity").cloned() {
                absent(map, "allocatable", capacity);
            }
        }
        "PersistentVolume" => {
            if let Some(spec) = child(map, "spec") {
                empty(spec, "persistentVolumeReclaimPolicy", "Retain");
                absent(spec, "volumeMode", "Filesystem");
            }
            if let Some(status) = child(map, "status") {
                empty(status, "phase", "Pending");
            }
        }
        "PersistentVolumeClaim" => {
            if let Some(status) = child(map, "status") {
                empty(status, "phase", "Pending");
            }
        }
        "PersistentVolumeClaimSpec" => absent(map, "volumeMode", "Filesystem"),
        "EndpointPort" => empty(map, "protocol", "TCP"),
        "LimitRangeItem" => limit_range(map),
        "ReplicationController" => replication_controller(map),
        _ => {}
    }
}

fn service(map: &mut Map<String, Value>) {
    let Some(spec) = child(map, "spec") else {
        return;
    };
    empty(spec, "sessionAffinity", "None");
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let config = child(spec, "sessionAffinityConfig").and_then(|c| child(c, "clientIP"));
            if let Some(config) = config {
                absent(config, "timeoutSeconds", 10_800);
            }
        }
        _ => {}
    }
    empty(spec, "type", "ClusterIP");
    for port in items(spec, "ports") {
        empty(port, "protocol", "TCP");
        let unset = matches!(port.get("targetPort"), None | Some(Value::Null))
            || port["targetPort"] == json!(0)
            || port["targetPort"] == json!("");
        if let (true, Some(number)) = (unset, port.get("port").cloned()) {
            port.insert("targetPort".to_owned(), number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let external_ips = spec
        .get("externalIPs")
        .and_then(Value::as_array)
        .is_some_and(|l| !l.is_empty());
    if kind == "LoadBalancer" || kind == "NodePort" || (kind == "ClusterIP" && external_ips) {
        empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if ["ClusterIP", "NodePort", "LoadBalancer"].contains(&kind.as_str()) {
        absent(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        absent(spec, "allocateLoadBalancerNodePorts", true);
        let balancer = map
            .get_mut("status")
            .and_then(|s| s.get_mut("loadBalancer"));
        if let Some(balancer) = balancer.and_then(Value::as_object_mut) {
            for ingress in items(balancer, "ingress").filter(|i| !text(i, "ip").is_empty()) {
                absent(ingress, "ipMode", "VIP");
            }
        }
    }
}

/// `stringData` is only ever written: it goes into `data`.
fn secret(map: &mut Map<String, Value>) {
    empty(map, "type", "Opaque");
    if let Some(Value::Object(plain)) = map.remove("stringData")
        && !plain.is_empty()
        && let Some(data) = child(map, "data")
    {
        for (key, value) in plain {
            let encoded = BASE64_STANDARD.encode(value.as_str().unwrap_or_default());
            data.insert(key, encoded.into());
        }
    }
}

fn namespace(map: &mut Map<String, Value>) {
    if let Some(Value::Object(metadata)) = map.get_mut("metadata") {
        let name = text(metadata, "name").to_owned();
        if !name.is_empty()
            && let Some(labels) = child(metadata, "labels")
        {
            labels.insert("kubernetes.io/metadata.name".to_owned(), name.into());
        }
    }
    if let Some(status) = child(map, "status") {
        empty(status, "phase", "Active");
    }
}

fn node_spec(map: &mut Map<String, Value>) {
    let cidr = text(map, "podCIDR").to_owned();
    if !cidr.is_empty() {
        absent(map, "podCIDRs", json!([cidr]));
    }
}

fn limit_range(map: &mut Map<String, Value>) {
    if text(map, "type") != "Container" {
        return;
    }
    for (from, to) in [
        ("max", "default"),
        ("default", "defaultRequest"),
        ("min", "defaultRequest"),
    ] {
        let Some(Value::Object(amounts)) = map.get(from).cloned() else {
            continue;
        };
        if let Some(filled) = child(map, to) {
            for (key, amount) in amounts {
                filled.entry(key).or_insert(amount);
            }
        }
    }
}

fn replication_controller(map: &mut Map<String, Value>) {
    let labels = map
        .get("spec")
        .and_then(|s| s.pointer("/template/metadata/labels"))
        .cloned();
    let Some(labels) = labels.filter(Value::is_object) else {
        return;
    };
    let unset = |v: Option<&Value>| v.and_then(Value::as_object).is_none_or(Map::is_empty);
    if let Some(Value::Object(spec)) = map.get_mut("spec")
        && unset(spec.get("selector"))
    {
        spec.insert("selector".to_owned(), labels.clone());
    }
    if let Some(metadata) = child(map, "metadata")
        && unset(metadata.get("labels"))
    {
        metadata.insert("labels".to_owned(), labels);
    }
}
