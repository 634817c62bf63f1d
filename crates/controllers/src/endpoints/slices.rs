//! EndpointSlices: as few writes as bring them to what the pods show.

use super::{
    HEADLESS, MANAGED_BY, OURS, SERVICE_NAME, addresses, hostname, is_headless,
    publishes_not_ready, target_port,
};
use crate::pods::{self, controlled_by};
use k8s_openapi::api::core::v1::{ObjectReference, Pod, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Endpoints in one slice.
const FULL: usize = 100;

#[derive(Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<(Arc<EndpointSlice>, EndpointSlice)>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
}

/// Decides what to write. `zone` tells where a node is.
pub(super) fn plan(
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone: &dyn Fn(&str) -> Option<String>,
) -> Plan {
    let mut plan = Plan::default();
    let families = families(service);
    for slice in slices {
        if !families.contains(&slice.address_type.as_str()) {
            plan.delete.push(slice.clone());
        }
    }
    for family in families {
        plan_family(&mut plan, service, pods, slices, zone, family);
    }
    plan
}

fn families(service: &Service) -> Vec<&str> {
    let families = service
        .spec
        .as_ref()
        .and_then(|s| s.ip_families.as_deref())
        .unwrap_or_default();
    if families.is_empty() {
        vec!["IPv4"]
    } else {
        families.iter().map(String::as_str).collect()
    }
}

fn plan_family(
    plan: &mut Plan,
    service: &Service,
    pods: &[Arc<Pod>],
    slices: &[Arc<EndpointSlice>],
    zone: &dyn Fn(&str) -> Option<String>,
    family: &str,
) {
    // Pods with the same ports share slices. A JSON text is the ports' identity.
    let mut groups: BTreeMap<String, (Vec<EndpointPort>, Vec<Endpoint>)> = BTreeMap::new();
    for pod in pods {
        let here: Vec<String> = addresses(pod)
            .into_iter()
            .filter(|a| a.contains(':') == (family == "IPv6"))
            .map(str::to_owned)
            .collect();
        let ports = ports(service, pod);
        let portless = ports.is_empty() && !(is_headless(service) && has_no_ports(service));
        if here.is_empty() || portless {
            continue;
        }
        let group = groups
            .entry(identity(&ports))
            .or_insert_with(|| (ports, Vec::new()));
        group.1.push(endpoint(service, pod, here, zone));
    }
    if groups.is_empty() {
        // A slice without endpoints says that there are none.
        groups.insert(identity(&[]), (Vec::new(), Vec::new()));
    }
    let mut known: HashMap<String, Vec<Arc<EndpointSlice>>> = HashMap::new();
    for slice in slices.iter().filter(|s| s.address_type == family) {
        let ports = slice.ports.as_deref().unwrap_or_default();
        known
            .entry(identity(ports))
            .or_default()
            .push(slice.clone());
    }
    for (id, (ports, endpoints)) in groups {
        let known = known.remove(&id).unwrap_or_default();
        let empty = slice(service, family, ports);
        plan_group(plan, &empty, endpoints, known);
    }
    plan.delete.extend(known.into_values().flatten());
}

/// Brings the slices of one set of ports to `endpoints`.
fn plan_group(
    plan: &mut Plan,
    empty: &EndpointSlice,
    endpoints: Vec<Endpoint>,
    known: Vec<Arc<EndpointSlice>>,
) {
    let mut wanted: BTreeMap<String, Endpoint> =
        endpoints.into_iter().map(|e| (whose(&e), e)).collect();
    let placeholder = wanted.is_empty();
    let mut slices: Vec<(Arc<EndpointSlice>, EndpointSlice)> = known
        .into_iter()
        .map(|old| {
            let mut new = EndpointSlice::clone(&old);
            let kept = new.endpoints.take().unwrap_or_default();
            let kept: Vec<Endpoint> = kept
                .into_iter()
                .filter_map(|e| wanted.remove(&whose(&e)))
                .collect();
            new.endpoints = Some(kept);
            new.metadata.labels = empty.metadata.labels.clone();
            new.metadata.owner_references = empty.metadata.owner_references.clone();
            (old, new)
        })
        .collect();
    let mut left: Vec<Endpoint> = wanted.into_values().collect();
    // Slices that are written anyway are filled first, the fullest before the others.
    slices.sort_by_key(|(old, new)| {
        let room = FULL.saturating_sub(count(new));
        (!differs(old, new), room)
    });
    for (old, new) in &mut slices {
        let room = FULL.saturating_sub(count(new));
        if left.is_empty() || (!differs(old, new) && room < left.len()) {
            continue;
        }
        let fitting = left.split_off(left.len() - room.min(left.len()));
        new.endpoints.get_or_insert_default().extend(fitting);
    }
    let mut kept_placeholder = false;
    for (old, new) in slices {
        if count(&new) == 0 && (!placeholder || kept_placeholder) {
            plan.delete.push(old);
        } else {
            kept_placeholder = placeholder;
            if differs(&old, &new) {
                plan.update.push((old, new));
            }
        }
    }
    if placeholder && !kept_placeholder {
        plan.create.push(empty.clone());
    }
    while !left.is_empty() {
        let rest = left.split_off(left.len().min(FULL));
        let endpoints = Some(std::mem::replace(&mut left, rest));
        plan.create.push(EndpointSlice {
            endpoints,
            ..empty.clone()
        });
    }
}

fn count(slice: &EndpointSlice) -> usize {
    slice.endpoints.as_ref().map_or(0, Vec::len)
}

fn differs(old: &EndpointSlice, new: &EndpointSlice) -> bool {
    old.endpoints.as_deref().unwrap_or_default() != new.endpoints.as_deref().unwrap_or_default()
        || old.metadata.labels != new.metadata.labels
        || old.metadata.owner_references != new.metadata.owner_references
}

/// Which pod and addresses an endpoint stands for.
fn whose(endpoint: &Endpoint) -> String {
    let uid = endpoint
        .target_ref
        .as_ref()
        .and_then(|t| t.uid.as_deref())
        .unwrap_or_default();
    format!("{uid} {}", endpoint.addresses.join(","))
}

fn has_no_ports(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_ref())
        .is_none_or(Vec::is_empty)
}

fn ports(service: &Service, pod: &Pod) -> Vec<EndpointPort> {
    let ports = service.spec.iter().flat_map(|s| s.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(EndpointPort {
                name: Some(port.name.clone().unwrap_or_default()),
                port: Some(target_port(port, pod)?),
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect()
}

fn identity(ports: &[EndpointPort]) -> String {
    let mut ports: Vec<String> = ports
        .iter()
        .map(|p| {
            let name = p.name.as_deref().unwrap_or_default();
            let protocol = p.protocol.as_deref().unwrap_or("TCP");
            let application = p.app_protocol.as_deref().unwrap_or_default();
            format!("{name}|{protocol}|{}|{application}", p.port.unwrap_or(0))
        })
        .collect();
    ports.sort();
    ports.join(";")
}

fn endpoint(
    service: &Service,
    pod: &Pod,
    addresses: Vec<String>,
    zone: &dyn Fn(&str) -> Option<String>,
) -> Endpoint {
    let serving = pods::is_ready(pod);
    let terminating = pod.metadata.deletion_timestamp.is_some();
    Endpoint {
        addresses,
        conditions: Some(EndpointConditions {
            ready: Some(publishes_not_ready(service) || (serving && !terminating)),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: hostname(service, pod),
        node_name: pods::node_name(pod).map(str::to_owned),
        zone: pods::node_name(pod).and_then(zone),
        target_ref: Some(ObjectReference {
            kind: Some("Pod".to_owned()),
            namespace: pod.metadata.namespace.clone(),
            name: pod.metadata.name.clone(),
            uid: pod.metadata.uid.clone(),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// A slice of the Service without endpoints.
fn slice(service: &Service, family: &str, ports: Vec<EndpointPort>) -> EndpointSlice {
    let name = service.metadata.name.clone().unwrap_or_default();
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    EndpointSlice {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: service.metadata.namespace.clone(),
            labels: Some(labels),
            owner_references: Some(vec![controlled_by(service)]),
            ..ObjectMeta::default()
        },
        address_type: family.to_owned(),
        endpoints: Some(Vec::new()),
        ports: Some(ports),
    }
}
