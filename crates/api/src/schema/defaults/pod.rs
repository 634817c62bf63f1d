//! Defaults of pods and of what pod specs hold.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{absent, child, empty, is_unset, items, text, zero};
use crate::quantity::Quantity;

const CONTAINER_LISTS: [&str; 2] = ["containers", "initContainers"];

pub(super) fn fill(name: &str, map: &mut Map<String, Value>) {
    match name {
        "Pod" => pod(map),
        "PodSpec" => spec(map),
        "Container" | "EphemeralContainer" => container(map),
        "Probe" => {
            zero(map, "timeoutSeconds", 1);
            zero(map, "periodSeconds", 10);
            zero(map, "successThreshold", 1);
            zero(map, "failureThreshold", 3);
        }
        "HTTPGetAction" => {
            empty(map, "path", "/");
            empty(map, "scheme", "HTTP");
        }
        "GRPCAction" => absent(map, "service", ""),
        "ObjectFieldSelector" => empty(map, "apiVersion", "v1"),
        "Volume" => volume(map),
        "ConfigMapVolumeSource"
        | "SecretVolumeSource"
        | "DownwardAPIVolumeSource"
        | "ProjectedVolumeSource" => {
            absent(map, "defaultMode", 0o644);
        }
        "ServiceAccountTokenProjection" => absent(map, "expirationSeconds", 3600),
        "HostPathVolumeSource" => absent(map, "type", ""),
        "AzureDiskVolumeSource" => absent(map, "readOnly", false),
        "ImageVolumeSource" => {
            let policy = pull_policy(text(map, "reference"));
            empty(map, "pullPolicy", policy);
        }
        _ => {}
    }
}

/// What holds for a pod and not for the template of one.
fn pod(map: &mut Map<String, Value>) {
    if let Some(Value::Object(status)) = map.get_mut("status") {
        let ip = text(status, "podIP").to_owned();
        if !ip.is_empty()
            && status
                .get("podIPs")
                .is_none_or(|v| v.as_array().is_none_or(Vec::is_empty))
        {
            status.insert("podIPs".to_owned(), json!([{"ip": ip}]));
        }
    }
    let Some(spec) = child(map, "spec") else {
        return;
    };
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for list in CONTAINER_LISTS {
        for container in items(spec, list) {
            requests_from_limits(container);
            if host_network {
                for port in items(container, "ports") {
                    let number = port
                        .get("containerPort")
                        .and_then(Value::as_i64)
                        .unwrap_or_default();
                    zero(port, "hostPort", number);
                }
            }
        }
    }
    pod_level_requests(spec);
    absent(spec, "enableServiceLinks", true);
}

fn requests_from_limits(container: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else {
        return;
    };
    let Some(Value::Object(limits)) = resources.get("limits") else {
        return;
    };
    let limits = limits.clone();
    if let Some(requests) = child(resources, "requests") {
        for (key, value) in limits {
            requests.entry(key).or_insert(value);
        }
    }
}

/// Requests of the pod as a whole, where it has limits: those of its containers together, else the limits.
fn pod_level_requests(spec: &mut Map<String, Value>) {
    let limits = spec
        .get("resources")
        .and_then(|r| r.get("limits"))
        .and_then(Value::as_object)
        .cloned();
    let Some(limits) = limits.filter(|l| !l.is_empty()) else {
        return;
    };
    let sums = container_requests(spec);
    let Some(requests) = child(spec, "resources").and_then(|r| child(r, "requests")) else {
        return;
    };
    for (key, sum) in sums {
        if key == "cpu" || key == "memory" {
            requests
                .entry(key)
                .or_insert_with(|| sum.to_string().into());
        }
    }
    for (key, limit) in limits {
        if key == "cpu" || key == "memory" || key.starts_with("hugepages-") {
            requests.entry(key).or_insert(limit);
        }
    }
}

/// What the containers request together: the sum of those that run on, or what starting takes if that is more.
fn container_requests(spec: &mut Map<String, Value>) -> BTreeMap<String, Quantity> {
    let mut running: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut starting: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    for list in ["initContainers", "containers"] {
        for container in items(spec, list) {
            let sidecar = list == "initContainers" && text(container, "restartPolicy") == "Always";
            let requests = container
                .get("resources")
                .and_then(|r| r.get("requests"))
                .and_then(Value::as_object);
            for (key, value) in requests.into_iter().flatten() {
                let amount = value
                    .as_str()
                    .and_then(|v| Quantity::parse(v).ok())
                    .unwrap_or(Quantity::ZERO);
                let so_far = sidecars.get(key).copied().unwrap_or(Quantity::ZERO);
                if list == "containers" || sidecar {
                    let sum = running.entry(key.clone()).or_insert(Quantity::ZERO);
                    *sum = sum.add(amount);
                }
                if sidecar {
                    sidecars.insert(key.clone(), so_far.add(amount));
                }
                if list == "initContainers" {
                    let most = starting.entry(key.clone()).or_insert(Quantity::ZERO);
                    *most = (*most).max(so_far.add(amount));
                }
            }
        }
    }
    for (key, most) in starting {
        let sum = running.entry(key).or_insert(Quantity::ZERO);
        *sum = (*sum).max(most);
    }
    running
}

fn spec(map: &mut Map<String, Value>) {
    empty(map, "dnsPolicy", "ClusterFirst");
    empty(map, "restartPolicy", "Always");
    absent(map, "securityContext", Map::new());
    absent(map, "terminationGracePeriodSeconds", 30);
    empty(map, "schedulerName", "default-scheduler");
    // Two names of one field: the old one follows the new one, or is taken for it.
    let old = text(map, "serviceAccount").to_owned();
    let name = match text(map, "serviceAccountName") {
        "" => old,
        name => name.to_owned(),
    };
    if !name.is_empty() {
        map.insert("serviceAccountName".to_owned(), name.as_str().into());
        map.insert("serviceAccount".to_owned(), name.into());
    }
}

fn container(map: &mut Map<String, Value>) {
    let policy = pull_policy(text(map, "image"));
    empty(map, "imagePullPolicy", policy);
    empty(map, "terminationMessagePath", "/dev/termination-log");
    empty(map, "terminationMessagePolicy", "File");
    absent(map, "resources", Map::new());
}

/// `Always` for the tag `latest`, also where it is meant by giving neither tag nor digest.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or_default();
    let latest = match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !digest && !last.is_empty(),
    };
    if latest { "Always" } else { "IfNotPresent" }
}

fn volume(map: &mut Map<String, Value>) {
    if !map
        .iter()
        .any(|(key, value)| key != "name" && !is_unset(Some(value)))
    {
        map.insert("emptyDir".to_owned(), Map::new().into());
    }
}
