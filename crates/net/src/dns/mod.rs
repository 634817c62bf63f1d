//! The cluster's DNS server, in process, answering from the watch caches.
//!
//! Names of the cluster's domain and of the addresses in its ranges are answered here
//! and never leave the node; all others are relayed byte for byte to the upstream
//! servers. The layout of names and the answers for what is absent are CoreDNS's.

mod answer;
mod catalog;
mod server;
mod upstream;
mod wire;

use crate::podnet::PodNet;
use answer::Zone;
use catalog::Catalog;
use client::Informers;
use hickory_proto::rr::Name;
use k8s_openapi::api::core::v1::{Namespace, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use server::Responder;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError, RwLock};
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;
use upstream::Upstream;

/// The DNS port.
const PORT: u16 = 53;

/// The DNS server could not be started.
#[derive(Debug, thiserror::Error)]
pub enum DnsError {
    /// The cluster's domain is no domain name.
    #[error("the cluster domain {domain:?} is not a domain name")]
    BadDomain {
        /// The domain.
        domain: String,
    },
    /// The address could not be bound.
    #[error(
        "cannot listen on {address} for DNS; does another DNS server listen on all addresses of this host?"
    )]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Cause.
        source: io::Error,
    },
}

/// The DNS server: bound, but not answering yet.
pub struct Server {
    udp: UdpSocket,
    tcp: TcpListener,
    responder: Arc<Responder>,
}

impl Server {
    /// Binds UDP and TCP port 53 of the cluster's DNS address, which is on the bridge.
    pub async fn bind(net: &PodNet) -> Result<Server, DnsError> {
        let (layout, config) = (net.layout(), net.config());
        let address = SocketAddr::new(IpAddr::V4(layout.dns), PORT);
        let failed = |source| DnsError::Bind { address, source };
        let domain = config
            .cluster_domain
            .trim_end_matches('.')
            .to_ascii_lowercase();
        let origin = Name::from_ascii(format!("{domain}.")).map_err(|_| DnsError::BadDomain {
            domain: domain.clone(),
        })?;
        let zone = Zone {
            origin,
            dns: layout.dns,
            ranges: [layout.pod_cidr, layout.service_cidr],
        };
        Ok(Server {
            udp: UdpSocket::bind(address).await.map_err(failed)?,
            tcp: TcpListener::bind(address).await.map_err(failed)?,
            responder: Arc::new(Responder::new(
                zone,
                Upstream::new(config.upstreams.clone(), address.ip()),
            )),
        })
    }

    /// Answers until `drain` is cancelled. Names of the cluster get SERVFAIL until the
    /// caches are filled, so that nobody takes a Service for absent.
    pub async fn run(self, informers: Informers, drain: CancellationToken) {
        let Server {
            udp,
            tcp,
            responder,
        } = self;
        let services = informers.get::<Service>();
        let slices = informers.get::<EndpointSlice>();
        let namespaces = informers.get::<Namespace>();
        let catalog = responder.catalog.clone();
        services.on_change(move |old, new| edit(&catalog, |c| c.service(old, new)));
        let catalog = responder.catalog.clone();
        slices.on_change(move |old, new| edit(&catalog, |c| c.slice(old, new)));
        let catalog = responder.catalog.clone();
        namespaces.on_change(move |old, new| edit(&catalog, |c| c.namespace(old, new)));
        let ready = async {
            services.synced().await;
            slices.synced().await;
            namespaces.synced().await;
            responder.ready.store(true, Ordering::Release);
        };
        let serve = server::serve(udp, tcp, responder.clone(), drain.clone());
        tokio::join!(serve, drain.run_until_cancelled(ready));
    }
}

fn edit(catalog: &RwLock<Catalog>, change: impl FnOnce(&mut Catalog)) {
    change(&mut catalog.write().unwrap_or_else(PoisonError::into_inner));
}
