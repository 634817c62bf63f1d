//! What to write so that slices say what Endpoints say: pure.

use super::{MANAGED_BY, OURS, SERVICE_NAME};
use crate::pods::controlled_by;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort as Port, Endpoints};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

/// Addresses of one set of ports and one family that are mirrored.
pub(super) const CAPACITY: usize = 1000;
/// Annotations that are about the Endpoints alone.
const NOT_COPIED: [&str; 2] = [
    "endpoints.kubernetes.io/last-change-trigger-time",
    "kubectl.kubernetes.io/last-applied-configuration",
];

#[derive(Default)]
pub(super) struct Plan {
    pub(super) create: Vec<EndpointSlice>,
    pub(super) update: Vec<(Arc<EndpointSlice>, EndpointSlice)>,
    pub(super) delete: Vec<Arc<EndpointSlice>>,
    /// Addresses that are none.
    invalid: usize,
    /// Addresses beyond the capacity.
    beyond: usize,
}

impl Plan {
    /// What the owner of the Endpoints should know: reason and text, as upstream words them. Only
    /// when something is written, so that they are not told again and again.
    pub(super) fn warnings(&self) -> Vec<(&'static str, String)> {
        let mut warnings = Vec::new();
        if self.create.is_empty() && self.update.is_empty() {
            return warnings;
        }
        if self.invalid > 0 {
            warnings.push((
                "InvalidIPAddress",
                format!(
                    "Skipped {} invalid IP addresses when mirroring to EndpointSlices",
                    self.invalid
                ),
            ));
        }
        if self.beyond > 0 {
            warnings.push((
                "TooManyAddressesToMirror",
                format!(
                    "A max of {CAPACITY} addresses can be mirrored to EndpointSlices per Endpoints subset. {} addresses were skipped",
                    self.beyond
                ),
            ));
        }
        warnings
    }
}

/// A port's name, number, protocol and application protocol.
type PortId = (String, i32, String, Option<String>);
/// What makes endpoints share a slice: the family, and the ports in order.
type Group = (&'static str, Vec<PortId>);

/// Decides what to write.
pub(super) fn plan(endpoints: &Endpoints, known: &[Arc<EndpointSlice>]) -> Plan {
    let mut plan = Plan::default();
    let mut wanted = groups(endpoints, &mut plan);
    let mut left = Vec::new();
    for slice in known {
        match wanted.remove(&group_of(slice)) {
            Some(members) => {
                let new = EndpointSlice {
                    endpoints: Some(members.into_values().collect()),
                    ..refreshed(slice, endpoints)
                };
                if new != **slice {
                    plan.update.push((slice.clone(), new));
                }
            }
            None => left.push(slice.clone()),
        }
    }
    for ((family, ports), members) in wanted {
        let new = EndpointSlice {
            address_type: family.to_owned(),
            ports: Some(ports.into_iter().map(port).collect()),
            endpoints: Some(members.into_values().collect()),
            metadata: metadata(endpoints),
        };
        // A slice that has become useless is written over rather than deleted beside a new one: no
        // reader sees a moment without either.
        match left.iter().position(|old| old.address_type == family) {
            Some(at) => {
                let old = left.swap_remove(at);
                let new = EndpointSlice {
                    metadata: refreshed(&old, endpoints).metadata,
                    ..new
                };
                plan.update.push((old, new));
            }
            None => plan.create.push(new),
        }
    }
    plan.delete = left;
    plan
}

/// The endpoints of each slice, by address. An address that is ready somewhere in a group is ready.
fn groups(endpoints: &Endpoints, plan: &mut Plan) -> BTreeMap<Group, BTreeMap<String, Endpoint>> {
    let mut groups: BTreeMap<Group, BTreeMap<String, Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports: Vec<PortId> = subset.ports.iter().flatten().map(identity).collect();
        ports.sort();
        let ready = subset.addresses.iter().flatten().map(|a| (a, true));
        let unready = subset.not_ready_addresses.iter().flatten();
        for (address, ready) in ready.chain(unready.map(|a| (a, false))) {
            let Ok(ip) = address.ip.parse::<IpAddr>() else {
                plan.invalid += 1;
                continue;
            };
            let ip = ip.to_canonical();
            let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
            let group = groups.entry((family, ports.clone())).or_default();
            let place = place(ip, address);
            if group.len() >= CAPACITY && !group.contains_key(&place) {
                plan.beyond += 1;
                continue;
            }
            group
                .entry(place)
                .or_insert_with(|| endpoint(ip, address, ready));
        }
    }
    groups
}

/// Which endpoint an address is: the same address may stand for several pods.
fn place(ip: IpAddr, address: &EndpointAddress) -> String {
    let target = address.target_ref.as_ref();
    let uid = target.and_then(|t| t.uid.as_deref()).unwrap_or_default();
    format!("{ip} {uid}")
}

fn endpoint(ip: IpAddr, address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![ip.to_string()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|h| !h.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

fn identity(port: &Port) -> PortId {
    (
        port.name.clone().unwrap_or_default(),
        port.port,
        port.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
        port.app_protocol.clone(),
    )
}

fn port((name, port, protocol, app_protocol): PortId) -> EndpointPort {
    EndpointPort {
        name: Some(name),
        port: Some(port),
        protocol: Some(protocol),
        app_protocol,
    }
}

fn group_of(slice: &EndpointSlice) -> Group {
    let family = match slice.address_type.as_str() {
        "IPv4" => "IPv4",
        "IPv6" => "IPv6",
        _ => "",
    };
    let ports = slice.ports.iter().flatten();
    let mut ports: Vec<PortId> = ports
        .map(|p| {
            (
                p.name.clone().unwrap_or_default(),
                p.port.unwrap_or_default(),
                p.protocol.clone().unwrap_or_else(|| "TCP".to_owned()),
                p.app_protocol.clone(),
            )
        })
        .collect();
    ports.sort();
    (family, ports)
}

/// Metadata of a new slice.
fn metadata(endpoints: &Endpoints) -> ObjectMeta {
    let name = endpoints.metadata.name.clone().unwrap_or_default();
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.to_owned(), name.clone());
    labels.insert(MANAGED_BY.to_owned(), OURS.to_owned());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| !NOT_COPIED.contains(&key.as_str()));
    ObjectMeta {
        // A name is cut by the server where it is too long for what comes behind it.
        generate_name: Some(format!("{name}-")),
        namespace: endpoints.metadata.namespace.clone(),
        labels: Some(labels),
        annotations: (!annotations.is_empty()).then_some(annotations),
        owner_references: Some(vec![controlled_by(endpoints)]),
        ..ObjectMeta::default()
    }
}

/// A known slice with the metadata that the Endpoints give it now.
fn refreshed(slice: &EndpointSlice, endpoints: &Endpoints) -> EndpointSlice {
    let new = metadata(endpoints);
    let mut slice = slice.clone();
    slice.metadata.labels = new.labels;
    slice.metadata.annotations = new.annotations;
    slice.metadata.owner_references = new.owner_references;
    slice
}
