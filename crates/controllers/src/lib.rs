//! The controllers: one file each, observe → plan → execute.
//!
//! Invariants: controllers meet only through API objects; a plan is a pure function of what was
//! observed; every write is conditional on what was read, and made under the controller's own account
//! with the rights that upstream gives it; nothing polls.

mod certificate;
mod claim;
mod collections;
mod context;
mod cronjob;
mod daemonset;
mod deployment;
mod endpoints;
mod expectations;
mod garbage;
mod job;
mod mirroring;
mod namespace;
mod node;
mod owners;
mod podgc;
mod pods;
mod protection;
mod replicaset;
mod resourcequota;
mod revisions;
mod serviceaccount;
mod statefulset;
mod tokencleaner;
mod tokens;
mod write;

use std::sync::Arc;

pub use certificate::{Requested, Signer, SignerError};
use client::Informers;
use collections::Collections;
use context::Context;
pub use context::{Accounts, Clock};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
pub use tokens::Sign;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers are told about the cluster.
#[derive(Clone, Default)]
pub struct Options {
    /// The cluster's CA certificate, published in every namespace as `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Signs CertificateSigningRequests; nobody does without.
    pub signer: Option<Arc<dyn Signer>>,
    /// Signs tokens that live in Secrets; nobody does without.
    pub sign_token: Option<Sign>,
    /// By which tokens in Secrets grow old.
    pub clock: Clock,
}

/// Runs every controller until `drain` is cancelled. They share the caches of `informers`, and write
/// by `accounts`.
pub async fn run(
    accounts: Accounts,
    informers: Informers,
    options: Options,
    drain: CancellationToken,
) {
    let context = Context::new(accounts, informers, drain);
    let of = |account| context.of(account);
    let mut tasks = JoinSet::new();
    tasks.spawn(replicaset::run::<ReplicaSet>(of("replicaset-controller")));
    let older = of("replication-controller");
    tasks.spawn(replicaset::run::<ReplicationController>(older));
    tasks.spawn(deployment::run(of("deployment-controller")));
    let endpoints = of("endpoint-controller").client;
    tasks.spawn(endpoints::run(of("endpointslice-controller"), endpoints));
    tasks.spawn(mirroring::run(of("endpointslicemirroring-controller")));
    let publisher = of("root-ca-cert-publisher").client;
    let accounts = of("service-account-controller");
    let ca_pem = options.ca_pem.clone();
    tasks.spawn(serviceaccount::run(accounts, publisher, ca_pem));
    if let Some(sign) = options.sign_token {
        // Under the account of all controllers together, as upstream: it gives what the others need.
        tasks.spawn(tokens::run(context.clone(), options.ca_pem, sign));
    }
    let cleaner = of("legacy-service-account-token-cleaner");
    tasks.spawn(tokens::run_cleaner(cleaner, options.clock));
    if let Some(signer) = options.signer {
        tasks.spawn(certificate::run(of("certificate-controller"), signer));
    }
    tasks.spawn(node::run_health(of("node-controller")));
    tasks.spawn(node::run_eviction(of("node-controller")));
    tasks.spawn(podgc::run(of("pod-garbage-collector")));
    tasks.spawn(tokencleaner::run(of("token-cleaner")));
    tasks.spawn(cronjob::run(of("cronjob-controller")));
    tasks.spawn(statefulset::run(of("statefulset-controller")));
    tasks.spawn(daemonset::run(of("daemon-set-controller")));
    let expiry = of("ttl-after-finished-controller").client;
    tasks.spawn(job::run(of("job-controller"), expiry));
    tasks.spawn(protection::run_claims(of("pvc-protection-controller")));
    tasks.spawn(protection::run_volumes(of("pv-protection-controller")));
    let collections = Collections::new(&context);
    let namespaces = of("namespace-controller");
    tasks.spawn(namespace::run(namespaces, collections.clone()));
    let quotas = of("resourcequota-controller");
    tasks.spawn(resourcequota::run(quotas, collections.clone()));
    tasks.spawn(garbage::run(of("generic-garbage-collector"), collections));
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "a controller has died");
        }
    }
}
