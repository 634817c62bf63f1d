//! What every controller is given.

use crate::pods;
use client::{Client, Events, Index, Informer, Informers, Key, Source};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// What time it is, to what goes by dates that are years apart.
#[derive(Clone, Copy, Debug)]
pub struct Clock(pub fn() -> Timestamp);

impl Default for Clock {
    fn default() -> Self {
        Self(Timestamp::now)
    }
}

/// A client that speaks as the service account of this name in `kube-system`.
pub type Accounts = Arc<dyn Fn(&'static str) -> Client + Send + Sync>;

/// Shared by all controllers of this process.
#[derive(Clone)]
pub(crate) struct Context {
    /// Speaks as the controller that this is the context of.
    pub(crate) client: Client,
    accounts: Accounts,
    pub(crate) informers: Informers,
    pub(crate) drain: CancellationToken,
    pub(crate) pods: Informer<Pod>,
    owned_pods: Index<Pod>,
    placed_pods: Index<Pod>,
}

impl Context {
    pub(crate) fn new(accounts: Accounts, informers: Informers, drain: CancellationToken) -> Self {
        let pods = informers.get::<Pod>();
        let owned_pods = pods.index(by_owner);
        let placed_pods =
            pods.index(|p| pods::node_name(p).map(str::to_owned).into_iter().collect());
        Self {
            client: informers.client(),
            accounts,
            informers,
            drain,
            pods,
            owned_pods,
            placed_pods,
        }
    }

    /// The same, for the controller with this account.
    pub(crate) fn of(&self, account: &'static str) -> Self {
        Self {
            client: (self.accounts)(account),
            ..self.clone()
        }
    }

    /// The pods that the owner with this uid controls.
    pub(crate) fn pods_of(&self, uid: &str) -> Vec<Arc<Pod>> {
        self.owned_pods.get(uid)
    }

    /// The pod of this name and uid, if the owner's entry in the index shows it.
    pub(crate) fn shows_pod(&self, owner: &str, key: &Key, uid: &str) -> bool {
        self.owned_pods
            .find(owner, key)
            .is_some_and(|p| p.metadata.uid.as_deref() == Some(uid))
    }

    /// The pods of a namespace that nobody controls.
    pub(crate) fn orphans_in(&self, namespace: &str) -> Vec<Arc<Pod>> {
        self.owned_pods.get(&orphans(namespace))
    }

    /// The pods on a node.
    pub(crate) fn pods_on(&self, node: &str) -> Vec<Arc<Pod>> {
        self.placed_pods.get(node)
    }

    /// An event recorder for the controller called `component`.
    pub(crate) fn events(&self, component: &str) -> Events {
        let source = Source {
            component: component.to_owned(),
            host: None,
        };
        Events::start(self.client.clone(), source, self.drain.clone())
    }
}

/// Index entries of an object: the uid of who controls it, or the orphans of its namespace.
pub(crate) fn by_owner<K: kube::Resource>(object: &K) -> Vec<String> {
    vec![match client::owner_uid(object) {
        Some(uid) => uid.to_owned(),
        None => orphans(object.meta().namespace.as_deref().unwrap_or_default()),
    }]
}

/// The index entry of the objects of a namespace that nobody controls. A uid has no slash.
pub(crate) fn orphans(namespace: &str) -> String {
    format!("/{namespace}")
}
