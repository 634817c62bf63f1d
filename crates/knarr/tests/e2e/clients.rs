//! Client libraries of other languages. Their scripts are in `tests/clients`; `cargo xtask test`
//! installs the libraries themselves and says by `KNARR_CLIENTS` where they are.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use testkit::{Cluster, Options, Run};

use crate::support::{BUSYBOX, import_busybox};

fn libraries() -> Result<PathBuf> {
    std::env::var_os("KNARR_CLIENTS")
        .map(PathBuf::from)
        .context("the client libraries are not installed: please run `cargo xtask test`")
}

async fn all_as_it_should_be(run: impl FnOnce(PathBuf) -> Run) -> Result<()> {
    let libraries = libraries()?;
    let cluster = Cluster::start(Options::default()).await?;
    import_busybox(&cluster)?;
    let said = run(libraries)
        .args([cluster.kubeconfig()])
        .args([BUSYBOX])
        .ok()?;
    ensure!(said.ends_with("all as it should be\n"), "{said}");
    Ok(())
}

#[test]
fn python() {
    testkit::isolated(|| {
        all_as_it_should_be(|libraries| {
            let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/python/verbs.py");
            Run::new("python3")
                .env("PYTHONPATH", libraries.join("python"))
                .env("PYTHONDONTWRITEBYTECODE", "1")
                .args(["-W", "error::UserWarning", script])
        })
    });
}

#[test]
fn javascript() {
    testkit::isolated(|| {
        all_as_it_should_be(|libraries| Run::new("node").args([libraries.join("node/verbs.mjs")]))
    });
}
