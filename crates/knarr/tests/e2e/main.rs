//! A real `knarr up`, driven by its users' doors: kubectl, a client library, our own client,
//! and processes inside of pods. Each test has a cluster and a network namespace of its own.

#![allow(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod bad_days;
mod certificates;
mod clients;
mod crash;
mod detect;
mod images;
mod kubectl;
mod kubectl_verbs;
mod operator;
mod own_client;
mod pods;
mod quotas;
mod registries;
mod servers;
mod snapshots;
mod support;
mod volumes;
