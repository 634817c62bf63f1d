//! Endpoints: the older object with the same contents as the slices.

use super::{HEADLESS, addresses, hostname, is_headless, publishes_not_ready, target_port};
use crate::pods;
use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort, EndpointSubset, Endpoints, ObjectReference, Pod, Service,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;

const MANAGED_BY: &str = "endpoints.kubernetes.io/managed-by";
const OURS: &str = "endpoint-controller";
const OVER_CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
/// Addresses in one object.
const CAPACITY: usize = 1000;

/// Whether this controller made the object.
pub(super) fn is_ours(endpoints: &Endpoints) -> bool {
    let labels = endpoints.metadata.labels.as_ref();
    labels.and_then(|l| l.get(MANAGED_BY)).map(String::as_str) == Some(OURS)
}

/// What the object shall be; what others wrote into the metadata of `old` stays.
pub(super) fn endpoints(
    service: &Service,
    pods: &[Arc<Pod>],
    old: Option<&Endpoints>,
) -> Endpoints {
    let (subsets, cut) = subsets(service, pods);
    let mut labels = service.metadata.labels.clone().unwrap_or_default();
    labels.remove(HEADLESS);
    if is_headless(service) {
        labels.insert(HEADLESS.to_owned(), String::new());
    }
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    let mut metadata = old.map_or_else(
        || ObjectMeta {
            name: service.metadata.name.clone(),
            namespace: service.metadata.namespace.clone(),
            ..ObjectMeta::default()
        },
        |old| old.metadata.clone(),
    );
    metadata.labels = Some(labels);
    if cut {
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(OVER_CAPACITY.to_owned(), "truncated".to_owned());
    } else if let Some(annotations) = &mut metadata.annotations {
        annotations.remove(OVER_CAPACITY);
    }
    Endpoints {
        metadata,
        subsets: (!subsets.is_empty()).then_some(subsets),
    }
}

fn subsets(service: &Service, pods: &[Arc<Pod>]) -> (Vec<EndpointSubset>, bool) {
    let published = publishes_not_ready(service);
    let mut groups: BTreeMap<Vec<(String, i32, String)>, EndpointSubset> = BTreeMap::new();
    let (mut cut, mut total) = (false, 0);
    let mut sorted: Vec<&Arc<Pod>> = pods.iter().collect();
    // When there are too many, the ready ones stay.
    sorted.sort_by_key(|p| {
        (
            !pods::is_ready(p),
            p.status.as_ref().and_then(|s| s.pod_ip.clone()),
        )
    });
    for pod in sorted {
        if pod.metadata.deletion_timestamp.is_some() && !published {
            continue;
        }
        let Some(ip) = first_address(service, pod) else {
            continue;
        };
        let Some(ports) = ports(service, pod) else {
            continue;
        };
        if total == CAPACITY {
            cut = true;
            break;
        }
        total += 1;
        let id = ports
            .iter()
            .map(|p| {
                (
                    p.name.clone().unwrap_or_default(),
                    p.port,
                    p.protocol.clone().unwrap_or_default(),
                )
            })
            .collect();
        let group = groups.entry(id).or_insert_with(|| EndpointSubset {
            ports: (!ports.is_empty()).then_some(ports),
            ..EndpointSubset::default()
        });
        let address = EndpointAddress {
            ip,
            hostname: hostname(service, pod),
            node_name: pods::node_name(pod).map(str::to_owned),
            target_ref: Some(ObjectReference {
                kind: Some("Pod".to_owned()),
                namespace: pod.metadata.namespace.clone(),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
                ..ObjectReference::default()
            }),
        };
        if published || pods::is_ready(pod) {
            group.addresses.get_or_insert_default().push(address);
        } else {
            group
                .not_ready_addresses
                .get_or_insert_default()
                .push(address);
        }
    }
    let mut subsets: Vec<EndpointSubset> = groups.into_values().collect();
    for subset in &mut subsets {
        for list in [&mut subset.addresses, &mut subset.not_ready_addresses]
            .into_iter()
            .flatten()
        {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
    }
    (subsets, cut)
}

fn first_address(service: &Service, pod: &Pod) -> Option<String> {
    let families = service
        .spec
        .as_ref()
        .and_then(|s| s.ip_families.as_deref())
        .unwrap_or_default();
    let six = families.first().is_some_and(|f| f == "IPv6");
    addresses(pod)
        .into_iter()
        .find(|a| a.contains(':') == six)
        .map(str::to_owned)
}

/// The ports of one pod; `None` if the pod has none of those that the Service wants.
fn ports(service: &Service, pod: &Pod) -> Option<Vec<EndpointPort>> {
    let wanted = service
        .spec
        .as_ref()
        .and_then(|s| s.ports.as_deref())
        .unwrap_or_default();
    let ports: Vec<EndpointPort> = wanted
        .iter()
        .filter_map(|port| {
            Some(EndpointPort {
                name: port.name.clone().filter(|n| !n.is_empty()),
                port: target_port(port, pod)?,
                protocol: Some(port.protocol.clone().unwrap_or_else(|| "TCP".to_owned())),
                app_protocol: port.app_protocol.clone(),
            })
        })
        .collect();
    let portless = wanted.is_empty() && is_headless(service);
    (portless || !ports.is_empty()).then_some(ports)
}
