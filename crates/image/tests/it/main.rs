//! The image store against real registries, hostile ones, and the kernel's overlayfs.
//!
//! Needs root (devices, trusted attributes, mounts), and the programs `docker-registry` and
//! `htpasswd`. Every process is ended by its own handle, every mount released with its store.
#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod archives;
mod broken;
mod build;
mod crash;
mod layers;
mod registry;
mod server;
mod space;
