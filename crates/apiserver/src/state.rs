//! What all requests share.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use api::resource::Resource;
use store::Store;
use tokio_util::sync::CancellationToken;

use crate::admission::Admission;
use crate::admission::policy::Policies;
use crate::admission::quota::Turns;
use crate::admission::webhook::Webhooks;
use crate::aggregation::Aggregation;
use crate::alloc::{Addresses, Ports};
use crate::audit::Audit;
use crate::auth::chain::Chain;
use crate::auth::rbac::Authorizer;
use crate::cache::{Cache, KindCache};
use crate::config::NodeDialer;
use crate::conversion::{ConversionMetrics, Flights};
use crate::fairness::Fairness;
use crate::metrics::Metrics;
use crate::nonresource::documents::Documents;
use crate::outbound::Outbound;
use crate::resources::Resources;

/// How long a write waits for the cache to show it.
pub(crate) const APPLY_LIMIT: Duration = Duration::from_secs(10);

/// The server's shared state.
pub(crate) struct State {
    pub(crate) store: Store,
    pub(crate) cache: Arc<Cache>,
    pub(crate) tokens: Arc<pki::TokenKeys>,
    pub(crate) issuer: String,
    pub(crate) advertise: SocketAddr,
    pub(crate) dialer: Arc<dyn NodeDialer>,
    pub(crate) admission: Admission,
    pub(crate) audit: Arc<Audit>,
    pub(crate) fairness: Fairness,
    pub(crate) turns: Turns,
    pub(crate) outbound: Outbound,
    pub(crate) aggregation: Aggregation,
    pub(crate) webhooks: Webhooks,
    pub(crate) conversion_metrics: ConversionMetrics,
    pub(crate) flights: Flights,
    pub(crate) policies: Policies,
    pub(crate) drain: CancellationToken,
    pub(crate) authenticator: Arc<Chain>,
    pub(crate) authorizer: Authorizer,
    pub(crate) metrics: Metrics,
    pub(crate) addresses: Addresses,
    pub(crate) ports: Ports,
    pub(crate) documents: Documents,
    pub(crate) resources: Resources,
    pub(crate) bootstrapped: AtomicBool,
}

impl State {
    /// The cache of a resource, whatever version of it was asked for.
    pub(crate) fn kind(&self, resource: &Resource) -> Arc<KindCache> {
        self.cache.kind(&resource.storage_group, &resource.plural)
    }

    /// The cache of a core resource.
    pub(crate) fn core(&self, plural: &str) -> Arc<KindCache> {
        self.cache.kind("", plural)
    }
}
