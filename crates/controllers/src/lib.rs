//! The controllers: one file each, observe → plan → execute.
//!
//! Invariants: controllers meet only through API objects; a plan is a pure function of what was
//! observed; every write is conditional on what was read; nothing polls.

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
mod write;

use std::sync::Arc;

pub use certificate::{Requested, Signer, SignerError};
use client::{Client, Informers};
use collections::Collections;
use context::Context;
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::ReplicationController;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What the controllers are told about the cluster.
#[derive(Clone, Default)]
pub struct Options {
    /// The cluster's CA certificate, published in every namespace as `kube-root-ca.crt`.
    pub ca_pem: String,
    /// Signs CertificateSigningRequests; nobody does without.
    pub signer: Option<Arc<dyn Signer>>,
}

/// Runs every controller until `drain` is cancelled.
pub async fn run(client: Client, informers: Informers, options: Options, drain: CancellationToken) {
    let context = Context::new(client, informers, drain);
    let mut tasks = JoinSet::new();
    tasks.spawn(replicaset::run::<ReplicaSet>(context.clone()));
    tasks.spawn(replicaset::run::<ReplicationController>(context.clone()));
    tasks.spawn(deployment::run(context.clone()));
    tasks.spawn(endpoints::run(context.clone()));
    tasks.spawn(mirroring::run(context.clone()));
    tasks.spawn(serviceaccount::run(context.clone(), options.ca_pem));
    if let Some(signer) = options.signer {
        tasks.spawn(certificate::run(context.clone(), signer));
    }
    tasks.spawn(node::run_health(context.clone()));
    tasks.spawn(node::run_eviction(context.clone()));
    tasks.spawn(podgc::run(context.clone()));
    tasks.spawn(tokencleaner::run(context.clone()));
    tasks.spawn(cronjob::run(context.clone()));
    tasks.spawn(statefulset::run(context.clone()));
    tasks.spawn(daemonset::run(context.clone()));
    tasks.spawn(job::run(context.clone()));
    tasks.spawn(protection::run_claims(context.clone()));
    tasks.spawn(protection::run_volumes(context.clone()));
    let collections = Collections::new(&context);
    tasks.spawn(namespace::run(context.clone(), collections.clone()));
    tasks.spawn(resourcequota::run(context.clone(), collections.clone()));
    tasks.spawn(garbage::run(context.clone(), collections));
    while let Some(ended) = tasks.join_next().await {
        if let Err(panic) = ended {
            tracing::error!(error = %panic, "a controller has died");
        }
    }
}
