//! EndpointSlice and Endpoints: the addresses behind a Service, as its selector finds them.

mod legacy;
mod slices;

use crate::claim;
use crate::context::Context;
use crate::expectations::Expectations;
use crate::pods;
use crate::write::{self, WriteError};
use client::{Client, Index, Informer, Key, Queue};
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service, ServicePort};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::DeleteParams;
use std::sync::Arc;
use tracing::debug;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OURS: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const ZONE: &str = "topology.kubernetes.io/zone";

struct Controller {
    context: Context,
    /// Writes Endpoints, which upstream has another controller for.
    older: Client,
    services: Informer<Service>,
    nodes: Informer<Node>,
    slices: Informer<EndpointSlice>,
    slices_of: Index<EndpointSlice>,
    endpoints: Informer<Endpoints>,
    queue: Queue<Key>,
    expectations: Expectations,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, older: Client) {
    let slices = context.informers.get::<EndpointSlice>();
    let controller = Arc::new(Controller {
        services: context.informers.get::<Service>(),
        nodes: context.informers.get::<Node>(),
        slices_of: slices.index(|s| service_of(s).into_iter().map(|k| k.to_string()).collect()),
        slices,
        endpoints: context.informers.get::<Endpoints>(),
        queue: Queue::new(),
        expectations: Expectations::default(),
        context,
        older,
    });
    controller.listen();
    controller.services.synced().await;
    controller.nodes.synced().await;
    controller.slices.synced().await;
    controller.endpoints.synced().await;
    controller.context.pods.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("endpoints", queue, 5, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The Service that one of our slices belongs to.
fn service_of(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(OURS) {
        return None;
    }
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, labels.get(SERVICE_NAME)?.as_str()))
}

/// Whether the pod has an address that may be given out, were it ready.
fn has_address(pod: &Pod) -> bool {
    !pods::is_finished(pod)
        && pod
            .status
            .as_ref()
            .is_some_and(|s| s.pod_ip.as_deref().is_some_and(|ip| !ip.is_empty()))
}

fn addresses(pod: &Pod) -> Vec<&str> {
    let Some(status) = &pod.status else {
        return Vec::new();
    };
    let all: Vec<&str> = status
        .pod_ips
        .iter()
        .flatten()
        .map(|ip| ip.ip.as_str())
        .collect();
    if all.is_empty() {
        status.pod_ip.as_deref().into_iter().collect()
    } else {
        all
    }
}

/// The number behind a Service's port in one pod: a name is looked up in its containers.
fn target_port(port: &ServicePort, pod: &Pod) -> Option<i32> {
    let protocol = port.protocol.as_deref().unwrap_or("TCP");
    match &port.target_port {
        None => Some(port.port),
        Some(IntOrString::Int(0)) => Some(port.port),
        Some(IntOrString::Int(number)) => Some(*number),
        Some(IntOrString::String(name)) if name.is_empty() => Some(port.port),
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            let sidecars = spec
                .init_containers
                .iter()
                .flatten()
                .filter(|c| c.restart_policy.as_deref() == Some("Always"));
            spec.containers
                .iter()
                .chain(sidecars)
                .flat_map(|c| c.ports.iter().flatten())
                .find(|p| {
                    p.name.as_deref() == Some(name)
                        && p.protocol.as_deref().unwrap_or("TCP") == protocol
                })
                .map(|p| p.container_port)
        }
    }
}

/// The name under which the pod is found below a headless Service.
fn hostname(service: &Service, pod: &Pod) -> Option<String> {
    let spec = pod.spec.as_ref()?;
    let below = spec.subdomain.as_deref() == service.metadata.name.as_deref()
        && pod.metadata.namespace == service.metadata.namespace;
    spec.hostname.clone().filter(|h| below && !h.is_empty())
}

fn is_headless(service: &Service) -> bool {
    service.spec.as_ref().and_then(|s| s.cluster_ip.as_deref()) == Some("None")
}

fn publishes_not_ready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|s| s.publish_not_ready_addresses)
        == Some(true)
}

/// Whether a change of a pod can change what a Service gives out.
fn matters(old: Option<&Pod>, new: Option<&Pod>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return true;
    };
    let facts = |p: &Pod| {
        (
            has_address(p),
            pods::is_ready(p),
            p.metadata.deletion_timestamp.is_some(),
            pods::node_name(p).map(str::to_owned),
            addresses(p)
                .into_iter()
                .map(str::to_owned)
                .collect::<Vec<_>>(),
        )
    };
    old.metadata.labels != new.metadata.labels
        || old.metadata.uid != new.metadata.uid
        || facts(old) != facts(new)
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.services.on_change(move |old, new| {
            if let (Some(old), None) = (old, new) {
                this.expectations
                    .forget(old.metadata.uid.as_deref().unwrap_or_default());
            }
            if let Some(service) = new.or(old) {
                this.queue.add(Key::of(&**service));
            }
        });
        let this = self.clone();
        self.slices.on_change(move |old, new| {
            for slice in [old, new].into_iter().flatten() {
                if let (Some(owner), Some(uid)) = (client::owner_uid(&**slice), &slice.metadata.uid)
                {
                    this.expectations.observed_created(owner, uid);
                }
                if let Some(service) = service_of(slice) {
                    this.queue.add(service);
                }
            }
        });
        let this = self.clone();
        self.endpoints.on_change(move |old, new| {
            // Somebody else changed or deleted ours.
            if let (Some(old), new) = (old, new)
                && new.is_none_or(|new| new.subsets != old.subsets)
            {
                this.queue.add(Key::of(&**old));
            }
        });
        let this = self.clone();
        self.context.pods.on_change(move |old, new| {
            if !matters(old.map(|p| &**p), new.map(|p| &**p)) {
                return;
            }
            let Some(pod) = new.or(old) else { return };
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            for service in this.services.in_namespace(namespace) {
                let selects =
                    |p: &Arc<Pod>| selector(&service).is_some_and(|s| claim::matches(&s, &**p));
                if [old, new].into_iter().flatten().any(selects) {
                    this.queue.add(Key::of(&*service));
                }
            }
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(service) = self.services.get_key(key) else {
            return self.forget(key).await;
        };
        let Some(selector) = selector(&service) else {
            return Ok(());
        };
        if service.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let pods: Vec<Arc<Pod>> = self
            .context
            .pods
            .in_namespace(&key.namespace)
            .into_iter()
            .filter(|p| has_address(p) && claim::matches(&selector, &**p))
            .collect();
        let slices = self.reconcile_slices(key, &service, &pods).await;
        let endpoints = self.reconcile_endpoints(key, &service, &pods).await;
        for result in [slices, endpoints] {
            match result {
                Err(error) if client::is_namespace_terminating(&error) => {}
                result => result?,
            }
        }
        Ok(())
    }

    async fn reconcile_slices(
        &self,
        key: &Key,
        service: &Service,
        pods: &[Arc<Pod>],
    ) -> Result<(), WriteError> {
        let owner = service.metadata.uid.as_deref().unwrap_or_default();
        if let Some(wait) = self.expectations.wait(owner) {
            debug!("waiting for the cache to show our own slices");
            self.queue.add_after(key.clone(), wait);
            return Ok(());
        }
        let zone = |node: &str| {
            let node = self.nodes.get("", node)?;
            node.metadata.labels.as_ref()?.get(ZONE).cloned()
        };
        let entry = key.to_string();
        let known = self.slices_of.get(&entry);
        let plan = slices::plan(service, pods, &known, &zone);
        let client = &self.context.client;
        for (old, new) in &plan.update {
            write::update(client, &**old, new).await?;
        }
        for slice in &plan.create {
            let created = write::create(client, &key.namespace, slice).await?;
            let (name, uid) = (Key::of(&created), created.metadata.uid.unwrap_or_default());
            self.expectations
                .created(owner, &uid, || self.slices_of.find(&entry, &name).is_some());
        }
        for slice in &plan.delete {
            let uid = slice.metadata.uid.as_deref();
            let params = DeleteParams::default();
            write::delete::<EndpointSlice>(client, &Key::of(&**slice), uid, params).await?;
        }
        Ok(())
    }

    async fn reconcile_endpoints(
        &self,
        key: &Key,
        service: &Service,
        pods: &[Arc<Pod>],
    ) -> Result<(), WriteError> {
        let client = &self.older;
        match self.endpoints.get_key(key) {
            Some(old) => {
                let new = legacy::endpoints(service, pods, Some(&old));
                write::update(client, &*old, &new).await.map(drop)
            }
            None => {
                let new = legacy::endpoints(service, pods, None);
                match write::create(client, &key.namespace, &new).await {
                    // The cache does not show ours yet; its event brings us back.
                    Err(error) if client::is_already_exists(&error) => {
                        debug!("the cache does not show our own endpoints yet");
                        self.queue.retry(key.clone());
                        Ok(())
                    }
                    result => result.map(drop),
                }
            }
        }
    }

    /// The Service is gone: slices go with their owner, Endpoints have none.
    async fn forget(&self, key: &Key) -> Result<(), WriteError> {
        let Some(old) = self.endpoints.get_key(key) else {
            return Ok(());
        };
        if !legacy::is_ours(&old) {
            return Ok(());
        }
        let uid = old.metadata.uid.as_deref();
        write::delete::<Endpoints>(&self.older, key, uid, DeleteParams::default()).await
    }
}

/// How the Service finds its pods; `None` where somebody else fills in its endpoints.
fn selector(service: &Service) -> Option<kube::core::Selector> {
    let spec = service.spec.as_ref()?;
    let labels = spec.selector.as_ref().filter(|l| !l.is_empty())?;
    if spec.type_.as_deref() == Some("ExternalName") {
        return None;
    }
    Some(labels.iter().map(|(k, v)| (k.clone(), v.clone())).collect())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
