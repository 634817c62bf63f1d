//! Certificates are renewed while a cluster runs, and nobody is disturbed.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};
use futures::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, PostParams, WatchEvent, WatchParams};
use testkit::{Cluster, Options, eventually, served_certificate};

use crate::support::LIMIT;

/// Renewed after two thirds of it.
const VALIDITY: Duration = Duration::from_secs(15);

#[test]
fn certificates_are_renewed_while_connections_go_on() {
    testkit::isolated(async || {
        let flags = ["--certificate-validity-period", "15s"];
        let before = Instant::now();
        let cluster = Cluster::start(Options {
            flags: flags.map(str::to_owned).to_vec(),
            ..Options::default()
        })
        .await?;
        let server = SocketAddr::from(([127, 0, 0, 1], cluster.address().port()));
        let authority = cluster.data_dir().join("pki/ca.crt");
        let first = served_certificate(server, &authority)?;
        let old_kubeconfig = std::fs::read_to_string(cluster.kubeconfig())?;
        let old_client = cluster.client().await?;
        let mut watch = Api::<ConfigMap>::default_namespaced(old_client)
            .watch(&WatchParams::default().timeout(120), "0")
            .await?
            .boxed();
        ensure!(before.elapsed() < VALIDITY * 2 / 3, "too slow a start");

        eventually("another certificate", LIMIT, async || {
            ensure!(served_certificate(server, &authority)? != first);
            Ok(())
        })
        .await?;
        ensure!(before.elapsed() > VALIDITY / 2, "renewed too early");
        let kubeconfig = eventually("another kubeconfig", LIMIT, async || {
            let text = std::fs::read_to_string(cluster.kubeconfig())?;
            ensure!(text != old_kubeconfig);
            Ok(text)
        })
        .await?;

        // Until the first certificates are good no more.
        tokio::time::sleep((VALIDITY + Duration::from_secs(2)).saturating_sub(before.elapsed()))
            .await;
        let maps = Api::<ConfigMap>::default_namespaced(cluster.client().await?);
        let map = serde_json::from_value(serde_json::json!({"metadata": {"name": "after"}}))?;
        eventually("a write with the new certificate", LIMIT, async || {
            Ok(maps.create(&PostParams::default(), &map).await?)
        })
        .await?;
        tokio::time::timeout(LIMIT, seen(&mut watch, "after"))
            .await
            .context("the connection of before shows it")??;

        let stale = cluster.scratch().join("stale.kubeconfig");
        std::fs::write(&stale, &old_kubeconfig)?;
        let get = |path| -> Result<_> {
            cluster
                .knarr()?
                .args(["get", "configmap", "after", "--kubeconfig"])
                .args([path])
                .output()
        };
        let answer = get(&stale)?;
        ensure!(!answer.success, "an expired certificate: {answer:?}");
        let fresh = cluster.scratch().join("fresh.kubeconfig");
        std::fs::write(&fresh, kubeconfig)?;
        let answer = get(&fresh)?;
        ensure!(answer.success, "{answer:?}");
        let log = cluster.log();
        ensure!(log.contains("certificates renewed"), "{log}");
        Ok(())
    });
}

/// Reads a watch until it shows an object.
async fn seen(
    watch: &mut (impl futures::Stream<Item = kube::Result<WatchEvent<ConfigMap>>> + Unpin),
    name: &str,
) -> Result<()> {
    while let Some(event) = watch.try_next().await? {
        match event {
            WatchEvent::Added(map) if map.metadata.name.as_deref() == Some(name) => return Ok(()),
            WatchEvent::Error(status) => bail!("{status:?}"),
            _ => {}
        }
    }
    bail!("the watch has ended")
}
