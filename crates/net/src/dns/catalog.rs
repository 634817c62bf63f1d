//! What the DNS answers from: Services and their endpoints, found by name and by
//! address. Kept current change by change; nothing here is looked up by walking.

use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Label that joins a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Namespace and name of a Service.
pub(super) type Key = (String, String);

/// The objects, indexed.
#[derive(Default)]
pub(super) struct Catalog {
    namespaces: HashSet<String>,
    services: HashMap<Key, Arc<Service>>,
    /// Slices of a Service by their own name.
    slices: HashMap<Key, BTreeMap<String, Arc<EndpointSlice>>>,
    /// Services that have a cluster address.
    cluster_ips: HashMap<Ipv4Addr, BTreeSet<Key>>,
    /// Services that have an endpoint at an address, and how many slices say so.
    endpoint_ips: HashMap<Ipv4Addr, BTreeMap<Key, usize>>,
    /// Number of changes seen.
    pub(super) changes: u32,
}

/// A published endpoint.
pub(super) struct Record<'a> {
    pub(super) ip: Ipv4Addr,
    /// Its name below the Service's.
    pub(super) label: String,
    /// The ports of its slice.
    pub(super) slice: &'a EndpointSlice,
}

impl Catalog {
    pub(super) fn namespace(&mut self, old: Option<&Arc<Namespace>>, new: Option<&Arc<Namespace>>) {
        self.changes = self.changes.wrapping_add(1);
        let name = |n: &Arc<Namespace>| n.metadata.name.clone().unwrap_or_default();
        match (old, new) {
            (_, Some(new)) => drop(self.namespaces.insert(name(new))),
            (Some(old), None) => drop(self.namespaces.remove(&name(old))),
            (None, None) => {}
        }
    }

    pub(super) fn service(&mut self, old: Option<&Arc<Service>>, new: Option<&Arc<Service>>) {
        self.changes = self.changes.wrapping_add(1);
        let key = |s: &Arc<Service>| {
            let meta = &s.metadata;
            (
                meta.namespace.clone().unwrap_or_default(),
                meta.name.clone().unwrap_or_default(),
            )
        };
        if let Some(old) = old {
            let key = key(old);
            for ip in cluster_ips(old) {
                if let Some(keys) = self.cluster_ips.get_mut(&ip) {
                    keys.remove(&key);
                    if keys.is_empty() {
                        self.cluster_ips.remove(&ip);
                    }
                }
            }
            self.services.remove(&key);
        }
        if let Some(new) = new {
            let key = key(new);
            for ip in cluster_ips(new) {
                self.cluster_ips.entry(ip).or_default().insert(key.clone());
            }
            self.services.insert(key, new.clone());
        }
    }

    pub(super) fn slice(
        &mut self,
        old: Option<&Arc<EndpointSlice>>,
        new: Option<&Arc<EndpointSlice>>,
    ) {
        self.changes = self.changes.wrapping_add(1);
        if let Some((slice, key)) = old.and_then(|s| Some((s, owner(s)?))) {
            for ip in addresses(slice) {
                if let Some(keys) = self.endpoint_ips.get_mut(&ip) {
                    if let Some(count) = keys.get_mut(&key) {
                        *count = count.saturating_sub(1);
                    }
                    keys.retain(|_, count| *count > 0);
                    if keys.is_empty() {
                        self.endpoint_ips.remove(&ip);
                    }
                }
            }
            let name = slice.metadata.name.as_deref().unwrap_or_default();
            if let Some(slices) = self.slices.get_mut(&key) {
                slices.remove(name);
                if slices.is_empty() {
                    self.slices.remove(&key);
                }
            }
        }
        if let Some((slice, key)) = new.and_then(|s| Some((s, owner(s)?))) {
            for ip in addresses(slice) {
                *self
                    .endpoint_ips
                    .entry(ip)
                    .or_default()
                    .entry(key.clone())
                    .or_default() += 1;
            }
            let name = slice.metadata.name.clone().unwrap_or_default();
            self.slices
                .entry(key)
                .or_default()
                .insert(name, slice.clone());
        }
    }

    /// Whether the namespace exists.
    pub(super) fn has_namespace(&self, name: &str) -> bool {
        self.namespaces.contains(name)
    }

    /// A Service.
    pub(super) fn get(&self, key: &Key) -> Option<&Service> {
        self.services.get(key).map(Arc::as_ref)
    }

    /// The published IPv4 endpoints of a Service: those that are ready, or all if the
    /// Service wants it so. One address in several slices comes once for each.
    pub(super) fn endpoints(&self, key: &Key) -> Vec<Record<'_>> {
        let spec = self.get(key).and_then(|s| s.spec.as_ref());
        let all = spec.and_then(|s| s.publish_not_ready_addresses) == Some(true);
        let mut found = Vec::new();
        let slices = self.slices.get(key).into_iter().flat_map(BTreeMap::values);
        for slice in slices.filter(|s| s.address_type == "IPv4") {
            for endpoint in slice.endpoints.iter().flatten() {
                let ready = endpoint
                    .conditions
                    .as_ref()
                    .and_then(|c| c.ready)
                    .unwrap_or(true);
                if !ready && !all {
                    continue;
                }
                let hostname = endpoint.hostname.as_deref().filter(|h| !h.is_empty());
                for ip in endpoint
                    .addresses
                    .iter()
                    .filter_map(|a| a.parse::<Ipv4Addr>().ok())
                {
                    let label = hostname.map_or_else(|| dashed(ip), str::to_ascii_lowercase);
                    found.push(Record { ip, label, slice });
                }
            }
        }
        found
    }

    /// The Services that have this cluster address.
    pub(super) fn of_cluster_ip(&self, ip: Ipv4Addr) -> impl Iterator<Item = &Key> {
        self.cluster_ips.get(&ip).into_iter().flatten()
    }

    /// The Services that have an endpoint there.
    pub(super) fn of_endpoint(&self, ip: Ipv4Addr) -> impl Iterator<Item = &Key> {
        self.endpoint_ips
            .get(&ip)
            .into_iter()
            .flat_map(BTreeMap::keys)
    }
}

/// The IPv4 cluster addresses of a Service, none if it is headless.
pub(super) fn cluster_ips(service: &Service) -> Vec<Ipv4Addr> {
    let Some(spec) = service.spec.as_ref() else {
        return Vec::new();
    };
    let several = spec.cluster_ips.iter().flatten();
    let mut ips: Vec<Ipv4Addr> = several
        .chain(&spec.cluster_ip)
        .filter_map(|ip| ip.parse().ok())
        .collect();
    ips.dedup();
    ips
}

/// The Service that a slice belongs to.
fn owner(slice: &Arc<EndpointSlice>) -> Option<Key> {
    let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
    Some((
        slice.metadata.namespace.clone().unwrap_or_default(),
        service.clone(),
    ))
}

fn addresses(slice: &EndpointSlice) -> BTreeSet<Ipv4Addr> {
    let endpoints = slice.endpoints.iter().flatten();
    endpoints
        .flat_map(|e| &e.addresses)
        .filter_map(|a| a.parse().ok())
        .collect()
}

/// `10.0.0.1` as the label `10-0-0-1`.
fn dashed(ip: Ipv4Addr) -> String {
    ip.to_string().replace('.', "-")
}
