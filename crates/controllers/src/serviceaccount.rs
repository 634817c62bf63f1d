//! What every namespace gets: the ServiceAccount `default`, and the cluster's CA certificate in
//! the ConfigMap `kube-root-ca.crt`.

use crate::context::Context;
use crate::write::{self, WriteError};
use client::{Client, Informer, Key, Meta, Queue, Selector};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, ServiceAccount};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;
use std::sync::Arc;
use tracing::info;

const ACCOUNT: &str = "default";
const ROOT_CA: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: (&str, &str) = (
    "kubernetes.io/description",
    "Contains a CA bundle that can be used to verify the kube-apiserver when using internal \
     endpoints such as the internal service IP or kubernetes.default.svc. No other usage is \
     guaranteed across distributions of Kubernetes clusters.",
);

struct Controller {
    context: Context,
    /// Publishes the cluster's CA certificate.
    publisher: Client,
    ca_pem: String,
    namespaces: Informer<Namespace>,
    accounts: Informer<Meta>,
    maps: Informer<ConfigMap>,
    queue: Queue<Key>,
}

/// Runs until the drain.
pub(crate) async fn run(context: Context, publisher: Client, ca_pem: String) {
    let informers = &context.informers;
    let controller = Arc::new(Controller {
        namespaces: informers.get::<Namespace>(),
        accounts: informers.at("/api/v1/serviceaccounts", Selector::all()),
        maps: informers.get_with(Selector::fields(format!("metadata.name={ROOT_CA}"))),
        queue: Queue::new(),
        ca_pem,
        publisher,
        context,
    });
    let this = controller.clone();
    controller.namespaces.on_change(move |_, new| {
        if let Some(namespace) = new {
            this.queue.add(Key::of(&**namespace));
        }
    });
    let this = controller.clone();
    controller.accounts.on_change(move |old, new| {
        if let (Some(old), None) = (old, new)
            && old.name() == ACCOUNT
        {
            this.queue.add(Key::new("", old.namespace()));
        }
    });
    let this = controller.clone();
    controller.maps.on_change(move |old, new| {
        // Ours was changed or deleted: back to what it must be.
        if let Some(map) = new.or(old) {
            this.queue.add(Key::new(
                "",
                map.metadata.namespace.clone().unwrap_or_default(),
            ));
        }
    });
    controller.namespaces.synced().await;
    controller.accounts.synced().await;
    controller.maps.synced().await;
    let (queue, drain) = (controller.queue.clone(), controller.context.drain.clone());
    client::run("serviceaccount", queue, 2, drain, move |key| {
        let controller = controller.clone();
        async move { controller.reconcile(&key).await }
    })
    .await;
}

/// The map that a namespace must have; what others added to `old` stays, but for its data.
fn root_ca(namespace: &str, ca_pem: &str, old: Option<&ConfigMap>) -> ConfigMap {
    let mut map = old.cloned().unwrap_or_else(|| ConfigMap {
        metadata: ObjectMeta {
            name: Some(ROOT_CA.to_owned()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        ..ConfigMap::default()
    });
    map.data = Some(BTreeMap::from([(FILE.to_owned(), ca_pem.to_owned())]));
    map.binary_data = None;
    let annotations = map.metadata.annotations.get_or_insert_default();
    annotations.insert(DESCRIPTION.0.to_owned(), DESCRIPTION.1.to_owned());
    map
}

impl Controller {
    async fn reconcile(&self, key: &Key) -> Result<(), WriteError> {
        let Some(namespace) = self.namespaces.get_key(key) else {
            return Ok(());
        };
        if namespace.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let (client, publisher) = (&self.context.client, &self.publisher);
        if self.accounts.get(&key.name, ACCOUNT).is_none() {
            let account = ServiceAccount {
                metadata: ObjectMeta {
                    name: Some(ACCOUNT.to_owned()),
                    namespace: Some(key.name.clone()),
                    ..ObjectMeta::default()
                },
                ..ServiceAccount::default()
            };
            info!(account = ACCOUNT, "creating");
            settle(write::create(client, &key.name, &account).await.map(drop))?;
        }
        match self.maps.get(&key.name, ROOT_CA) {
            None => {
                let map = root_ca(&key.name, &self.ca_pem, None);
                info!(map = ROOT_CA, "creating");
                settle(write::create(publisher, &key.name, &map).await.map(drop))
            }
            Some(old) => {
                let map = root_ca(&key.name, &self.ca_pem, Some(&old));
                settle(write::update(publisher, &*old, &map).await.map(drop))
            }
        }
    }
}

/// What is there already, or whose namespace is going, is fine.
fn settle(result: Result<(), WriteError>) -> Result<(), WriteError> {
    match result {
        Err(error)
            if client::is_already_exists(&error)
                || client::is_not_found(&error)
                || client::is_namespace_terminating(&error) =>
        {
            Ok(())
        }
        result => result,
    }
}
