//! Services: from Services and EndpointSlices to nftables.
//!
//! Invariant: the kernel's table is always the image of one consistent look at the
//! caches. Changes that come while a transaction runs are taken together by the next.

mod backends;
mod plan;

use crate::conntrack;
use crate::nft::{NftError, Ruleset, Table};
use crate::podnet::PodNet;
use client::{Informer, Informers, Subscription};
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use plan::Context;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use stdx::backoff::Backoff;
use tokio_util::sync::CancellationToken;

/// Routes the cluster's Services on this node until `drain` is cancelled. The table
/// stays when it ends: connections go on while the node is restarted.
pub async fn run(net: PodNet, informers: Informers, drain: CancellationToken) {
    let services = informers.get::<Service>();
    let slices = informers.get::<EndpointSlice>();
    let mut changed = (services.subscribe(), slices.subscribe());
    let synced = async {
        services.synced().await;
        slices.synced().await;
    };
    if drain.run_until_cancelled(synced).await.is_none() {
        return;
    }
    let mut router = Router::new(&net);
    let mut failures = Backoff::new(Duration::from_millis(200), Duration::from_secs(30));
    loop {
        let since = Instant::now();
        let planned = router.plan(&services, &slices);
        let planning = since.elapsed();
        let wait = match router.apply(planned).await {
            Ok(applied) => {
                failures.reset();
                if applied {
                    tracing::debug!(table = net.layout().table, took = ?since.elapsed(), ?planning, "services are programmed");
                }
                None
            }
            Err(error) => {
                tracing::error!(error = stdx::chain(&error), "services are not programmed");
                Some(failures.next())
            }
        };
        let more = tokio::select! {
            () = drain.cancelled() => false,
            more = change(&mut changed) => more,
            () = sleep(wait), if wait.is_some() => true,
        };
        if !more {
            return;
        }
    }
}

async fn sleep(wait: Option<Duration>) {
    tokio::time::sleep(wait.unwrap_or_default()).await;
}

/// Waits for a change, then takes all that is there already.
async fn change((services, slices): &mut (Subscription, Subscription)) -> bool {
    let first = tokio::select! {
        key = services.next() => key,
        key = slices.next() => key,
    };
    if first.is_none() {
        return false;
    }
    loop {
        tokio::select! {
            biased;
            key = services.next() => if key.is_none() { return false },
            key = slices.next() => if key.is_none() { return false },
            () = std::future::ready(()) => return true,
        }
    }
}

/// The table of the Services and what turns objects into it.
struct Router {
    context: Context,
    table: Table,
    udp: HashSet<(Ipv4Addr, u16)>,
}

impl Router {
    fn new(net: &PodNet) -> Router {
        let layout = net.layout();
        let context = Context {
            node_name: net.config().node_name.clone(),
            pod_cidr: layout.pod_cidr,
            service_cidr: layout.service_cidr,
            dns: layout.dns,
        };
        Router {
            context,
            table: Table::new(layout.table.clone()),
            udp: HashSet::new(),
        }
    }

    fn plan(&self, services: &Informer<Service>, slices: &Informer<EndpointSlice>) -> plan::Plan {
        plan::plan(&self.context, &services.list(), &slices.list())
    }

    async fn apply(&mut self, planned: plan::Plan) -> Result<bool, NftError> {
        let plan::Plan { ruleset, udp } = planned;
        let before = self.table.applied().map(udp_keys);
        let now = udp_keys(&ruleset);
        let applied = self.table.apply(ruleset).await?;
        let gone: HashSet<_> = self.udp.difference(&udp).copied().collect();
        // A Service that had no backend left flows behind which lead nowhere.
        let woken = before
            .map(|b| now.difference(&b).copied().collect())
            .unwrap_or_default();
        self.udp = udp;
        conntrack::forget(gone, woken).await;
        Ok(applied)
    }
}

/// Addresses and ports of the UDP Services that lead somewhere.
fn udp_keys(rules: &Ruleset) -> HashSet<(Ipv4Addr, u16)> {
    let Some(set) = rules.sets.get("service-ips") else {
        return HashSet::new();
    };
    let parse = |key: &String| {
        let mut parts = key.split(" . ");
        let (ip, protocol, port) = (parts.next()?, parts.next()?, parts.next()?);
        (protocol == "udp").then_some((ip.parse().ok()?, port.parse().ok()?))
    };
    set.elements.keys().filter_map(parse).collect()
}
