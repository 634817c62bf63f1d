//! Where a Service's port leads, by the objects in the cache: straight to ready endpoints, so that
//! it works too on a host whose kernel knows no Services.

use std::net::{IpAddr, SocketAddr};

use rand::seq::SliceRandom as _;
use serde_json::Value;

use crate::cache::Cache;
use crate::hooks::text;

/// Why a Service leads nowhere. The words are upstream's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ResolveError {
    #[error("service {name:?} not found")]
    NotFound { name: String },
    #[error("no service port {port} found for service {name:?}")]
    NoPort { port: u16, name: String },
    #[error("no endpoints available for service {name:?}")]
    NoEndpoints { name: String },
    #[error("unsupported service type {kind:?}")]
    External { kind: String },
}

/// An endpoint that takes traffic.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    /// The pod of the Service's namespace that it is said to be.
    pub(crate) pod: Option<String>,
}

/// What is known of the endpoints of a Service's port.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Endpoints {
    /// The Service has no slices: nobody keeps track of its endpoints.
    Untracked,
    /// Those that are ready.
    Ready(Vec<Endpoint>),
}

/// The addresses to try for a Service's port, by number, in the order to try them.
pub(crate) fn service(
    cache: &Cache,
    namespace: &str,
    name: &str,
    port: u16,
) -> Result<Vec<SocketAddr>, ResolveError> {
    let object = cache.kind("", "services").get(namespace, name);
    let name = name.to_owned();
    let Some(object) = object else {
        return Err(ResolveError::NotFound { name });
    };
    let object = object.value();
    if text(&object, "/spec/type") == "ExternalName" {
        let kind = "ExternalName".to_owned();
        return Err(ResolveError::External { kind });
    }
    let ports = object.pointer("/spec/ports").and_then(Value::as_array);
    let found = ports
        .into_iter()
        .flatten()
        .find(|p| p.get("port").and_then(Value::as_u64) == Some(u64::from(port)));
    let Some(found) = found else {
        return Err(ResolveError::NoPort { port, name });
    };
    match endpoints(cache, namespace, &name, text(found, "/name")) {
        Endpoints::Ready(mut ready) if !ready.is_empty() => {
            ready.shuffle(&mut rand::rng());
            Ok(ready.into_iter().map(|e| e.address).collect())
        }
        Endpoints::Ready(_) => Err(ResolveError::NoEndpoints { name }),
        Endpoints::Untracked => match text(&object, "/spec/clusterIP").parse::<IpAddr>() {
            Ok(address) => Ok(vec![SocketAddr::new(address, port)]),
            Err(_) => Err(ResolveError::NoEndpoints { name }),
        },
    }
}

/// The ready endpoints of a Service's port, by its name.
pub(crate) fn endpoints(cache: &Cache, namespace: &str, service: &str, port: &str) -> Endpoints {
    let slices = cache.kind("discovery.k8s.io", "endpointslices");
    let mut tracked = false;
    let mut ready = Vec::new();
    for slice in slices.list(Some(namespace)) {
        let labels = slice.labels.as_ref();
        let of = labels.and_then(|l| l.get("kubernetes.io/service-name"));
        if of.and_then(Value::as_str) != Some(service) {
            continue;
        }
        tracked = true;
        add_ready(&slice.value(), namespace, port, &mut ready);
    }
    if tracked {
        Endpoints::Ready(ready)
    } else {
        Endpoints::Untracked
    }
}

fn add_ready(slice: &Value, namespace: &str, port: &str, ready: &mut Vec<Endpoint>) {
    let items = |name: &str| {
        let list = slice.get(name).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    let port = items("ports")
        .find(|p| text(p, "/name") == port)
        .and_then(|p| p.get("port"))
        .and_then(Value::as_u64)
        .and_then(|p| u16::try_from(p).ok());
    let Some(port) = port else { return };
    let takes_traffic =
        |e: &&Value| e.pointer("/conditions/ready").and_then(Value::as_bool) != Some(false);
    ready.extend(items("endpoints").filter(takes_traffic).filter_map(|e| {
        let address: IpAddr = text(e, "/addresses/0").parse().ok()?;
        let is_pod =
            text(e, "/targetRef/kind") == "Pod" && text(e, "/targetRef/namespace") == namespace;
        Some(Endpoint {
            address: SocketAddr::new(address, port),
            pod: is_pod.then(|| text(e, "/targetRef/name").to_owned()),
        })
    }));
}
