//! From kubeconfig to a client.

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use kube::config::{KubeConfigOptions, Kubeconfig};

use super::Target;
use crate::config::DEFAULT_DATA_DIR;

/// A client, and the namespace that commands work in.
pub(crate) struct Connection {
    pub(crate) client: kube::Client,
    pub(crate) namespace: String,
}

/// Connects as kubectl would: flag, `$KUBECONFIG`, `~/.kube/config`; then, unlike kubectl,
/// the admin kubeconfig of a cluster in the default data directory.
pub(crate) async fn connect(target: &Target) -> Result<Connection> {
    let kubeconfig = read(target)?;
    let options = KubeConfigOptions {
        context: target.context.clone(),
        ..Default::default()
    };
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .context("this kubeconfig cannot be used")?;
    let namespace = target
        .namespace
        .clone()
        .unwrap_or_else(|| config.default_namespace.clone());
    let mut config = config;
    config.read_timeout = None;
    let client = kube::Client::try_from(config).context("cannot set up the connection")?;
    Ok(Connection { client, namespace })
}

fn read(target: &Target) -> Result<Kubeconfig> {
    if let Some(path) = &target.kubeconfig {
        return Kubeconfig::read_from(path)
            .with_context(|| format!("cannot read the kubeconfig {}", path.display()));
    }
    if let Some(merged) = Kubeconfig::from_env().context("cannot read $KUBECONFIG")? {
        return Ok(merged);
    }
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".kube/config"));
    let own = PathBuf::from(DEFAULT_DATA_DIR).join("admin.kubeconfig");
    let found = home
        .into_iter()
        .chain([own])
        .find(|path| path.is_file())
        .context(
            "no kubeconfig: set KUBECONFIG, or pass --kubeconfig FILE \
         (a running `knarr up` writes DIR/admin.kubeconfig)",
        )?;
    Kubeconfig::read_from(&found)
        .with_context(|| format!("cannot read the kubeconfig {}", found.display()))
}
