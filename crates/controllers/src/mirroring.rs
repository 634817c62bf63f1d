//! EndpointSlices of Endpoints that somebody has written by hand for a Service without a selector,
//! since everybody who sends traffic reads slices alone.
//!
//! Upstream's `pkg/controller/endpointslicemirroring` is the model: one slice for each set of ports and
//! address family, owned by the Endpoints, with their labels and annotations.

mod plan;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;

use crate::context::Context;
use crate::expectations::Expectations;
use crate::write::{self, WriteError};
use client::{EventType, Events, Index, Informer, Key, Queue};
use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::DeleteParams;
use std::sync::Arc;
use tracing::debug;

const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const OURS: &str = "endpointslicemirroring-controller.k8s.io";
const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// On Endpoints that were a lock for an election, as clients did before there were Leases.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";

struct Controller {
    context: Context,
    services: Informer<Service>,
    endpoints: Informer<Endpoints>,
    slices: Informer<EndpointSlice>,
    slices_of: Index<EndpointSlice>,
    queue: Queue<Key>,
    events: Events,
    expectations: Expectations,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context) {
    let slices = context.informers.get::<EndpointSlice>();
    let controller = Arc::new(Controller {
        services: context.informers.get::<Service>(),
        endpoints: context.informers.get::<Endpoints>(),
        slices_of: slices.index(|s| mirrored(s).into_iter().map(|k| k.to_string()).collect()),
        slices,
        queue: Queue::new(),
        events: context.events("endpoint-slice-mirroring-controller"),
        expectations: Expectations::default(),
        context,
    });
    controller.listen();
    controller.services.synced().await;
    controller.endpoints.synced().await;
    controller.slices.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("endpointslicemirroring", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The Endpoints that a slice of ours mirrors.
fn mirrored(slice: &EndpointSlice) -> Option<Key> {
    let labels = slice.metadata.labels.as_ref()?;
    if labels.get(MANAGED_BY).map(String::as_str) != Some(OURS) {
        return None;
    }
    let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
    Some(Key::new(namespace, labels.get(SERVICE_NAME)?.as_str()))
}

/// Whether the object says that it is none to be mirrored.
fn declines(endpoints: &Endpoints) -> bool {
    let meta = &endpoints.metadata;
    let skips = meta.labels.as_ref().and_then(|l| l.get(SKIP));
    let leads = meta.annotations.as_ref().and_then(|a| a.get(LEADER));
    skips.is_some_and(|v| v == "true") || leads.is_some()
}

/// Whether somebody other than the endpoints controller writes the Service's Endpoints.
fn has_no_selector(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|s| s.selector.as_ref());
    selector.is_none_or(|s| s.is_empty())
}

impl Controller {
    fn listen(self: &Arc<Self>) {
        let this = self.clone();
        self.services.on_change(move |old, new| {
            let open = |s: Option<&Arc<Service>>| s.is_some_and(|s| has_no_selector(s));
            if open(old) != open(new)
                && let Some(service) = new.or(old)
            {
                this.queue.add(Key::of(&**service));
            }
        });
        let this = self.clone();
        self.endpoints.on_change(move |old, new| {
            if let (Some(old), None) = (old, new) {
                this.expectations
                    .forget(old.metadata.uid.as_deref().unwrap_or_default());
            }
            if let Some(endpoints) = new.or(old) {
                this.queue.add(Key::of(&**endpoints));
            }
        });
        let this = self.clone();
        self.slices.on_change(move |old, new| {
            for slice in [old, new].into_iter().flatten() {
                if let (Some(owner), Some(uid)) = (client::owner_uid(&**slice), &slice.metadata.uid)
                {
                    this.expectations.observed_created(owner, uid);
                }
                if let Some(key) = mirrored(slice) {
                    this.queue.add(key);
                }
            }
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let entry = key.to_string();
        let known = self.slices_of.get(&entry);
        let endpoints = self.endpoints.get_key(key).filter(|e| !declines(e));
        let service = self.services.get_key(key).filter(|s| has_no_selector(s));
        let (Some(endpoints), Some(_)) = (endpoints, service) else {
            return self.delete(&known).await;
        };
        let owner = endpoints.metadata.uid.as_deref().unwrap_or_default();
        if let Some(wait) = self.expectations.wait(owner) {
            debug!("waiting for the cache to show our own slices");
            self.queue.add_after(key.clone(), wait);
            return Ok(());
        }
        let plan = plan::plan(&endpoints, &known);
        let reference = client::reference(&*endpoints);
        for (reason, text) in plan.warnings() {
            self.events
                .record(&reference, EventType::Warning, reason, text);
        }
        let client = &self.context.client;
        for (old, new) in &plan.update {
            write::update(client, &**old, new).await?;
        }
        if endpoints.metadata.deletion_timestamp.is_none() {
            for slice in &plan.create {
                let created = match write::create(client, &key.namespace, slice).await {
                    Err(error) if client::is_namespace_terminating(&error) => return Ok(()),
                    created => created?,
                };
                let (name, uid) = (Key::of(&created), created.metadata.uid.unwrap_or_default());
                self.expectations
                    .created(owner, &uid, || self.slices_of.find(&entry, &name).is_some());
            }
        }
        self.delete(&plan.delete).await
    }

    async fn delete(&self, slices: &[Arc<EndpointSlice>]) -> Result<(), WriteError> {
        for slice in slices {
            let uid = slice.metadata.uid.as_deref();
            let params = DeleteParams::default();
            write::delete::<EndpointSlice>(&self.context.client, &Key::of(&**slice), uid, params)
                .await?;
        }
        Ok(())
    }
}
