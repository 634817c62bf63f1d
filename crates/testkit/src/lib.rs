//! A real cluster in a temporary directory and a network namespace of its own. For tests only.
//!
//! A test that uses it runs in a process of its own (nextest sees to that): [`isolate`] moves
//! the whole process into a fresh network namespace before any thread starts, and all that the
//! test starts inherits it.

mod archive;
mod cluster;
mod etcd;
mod http;
mod machine;
mod registry;
mod run;
mod stub;
mod tls;
mod token;

pub use archive::{busybox_archive, busybox_layer};
pub use cluster::{Cluster, Options};
pub use etcd::Etcd;
pub use machine::Machine;
pub use registry::{Access, Registry};
pub use run::{Output, Run, eventually, skip};
pub use stub::StubRegistry;
pub use tls::served_certificate;
pub use token::TokenServer;

use anyhow::{Context, Result};

/// Moves this process into a new network namespace with a working loopback device.
///
/// # Errors
/// When we are not root, or `ip` is missing.
pub fn isolate() -> Result<()> {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
        .context("cannot make a network namespace; the tests run as root")?;
    Run::new("ip").args(["link", "set", "lo", "up"]).ok()?;
    Ok(())
}

/// Chooses ring for all TLS of this process.
pub fn install_crypto_provider() {
    // A second installation is refused; the first serves.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

/// Runs an asynchronous test inside [`isolate`].
///
/// # Panics
/// When the test fails.
pub fn isolated<F: Future<Output = Result<()>>>(test: impl FnOnce() -> F) {
    let outcome = isolate().and_then(|()| {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .context("a runtime")?;
        runtime.block_on(test())
    });
    if let Err(error) = outcome {
        panic!("{error:#}");
    }
}
