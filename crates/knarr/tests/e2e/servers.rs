//! Two servers on one etcd: one cluster, whichever of them lives.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Endpoints, Node, Pod};
use kube::api::{Api, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testkit::{Cluster, Etcd, Machine, Options, eventually};

use crate::support::{LIMIT, pods, ready};

/// What makes two data directories one cluster: its authority, its token keys, and what seals Secrets.
pub(crate) fn share_identity(from: &Cluster, to: &Cluster) -> Result<()> {
    let (from, to) = (from.data_dir(), to.data_dir());
    std::fs::create_dir_all(to.join("pki"))?;
    for file in ["ca.crt", "ca.key", "service-account.key"] {
        copy(&from.join("pki").join(file), &to.join("pki").join(file))?;
    }
    copy(&from.join("secrets.key"), &to.join("secrets.key"))
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
    Ok(())
}

async fn scale(cluster: &Cluster, replicas: u32) -> Result<()> {
    let api: Api<Deployment> = Api::default_namespaced(cluster.client().await?);
    let patch = json!({"spec": {"replicas": replicas}});
    api.patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await?;
    Ok(())
}

/// The Ready pods by node, when there are so many and no others.
async fn spread(cluster: &Cluster, count: usize) -> Result<BTreeSet<String>> {
    let api = pods(cluster).await?;
    eventually("the pods", Duration::from_secs(60), async || {
        let list = api.list(&ListParams::default()).await?.items;
        let up: Vec<&Pod> = list.iter().filter(|pod| ready(pod)).collect();
        if list.len() != count || up.len() != count {
            bail!("{} of {} pods are ready", up.len(), list.len());
        }
        let node = |pod: &&Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone());
        Ok(up.iter().filter_map(node).collect())
    })
    .await
}

async fn holder(cluster: &Cluster, lease: &str) -> Result<String> {
    let api: Api<Lease> = Api::namespaced(cluster.client().await?, "kube-system");
    let spec = api.get(lease).await?.spec.context("a spec")?;
    spec.holder_identity.context("a holder")
}

async fn addresses(cluster: &Cluster, count: usize) -> Result<()> {
    let api: Api<Endpoints> = Api::default_namespaced(cluster.client().await?);
    eventually("default/kubernetes", Duration::from_secs(40), async || {
        let subsets = api.get("kubernetes").await?.subsets.unwrap_or_default();
        let all: usize = subsets
            .iter()
            .flat_map(|s| &s.addresses)
            .map(Vec::len)
            .sum();
        if all == count {
            Ok(())
        } else {
            bail!("{all} addresses: {subsets:?}")
        }
    })
    .await
}

#[test]
fn one_goes_on_where_the_other_has_crashed() {
    testkit::isolated(async || {
        let dir = tempfile::tempdir()?;
        let etcd = Etcd::start(dir.path(), 2379).await?;
        let machine = Arc::new(Machine::start()?);
        let flags = vec!["--datastore".to_owned(), etcd.datastore(machine.home())];
        let mut first = Cluster::start(Options {
            flags: flags.clone(),
            machine: None,
        })
        .await?;
        let mut second = Cluster::prepare(Options {
            flags,
            machine: Some(machine),
        })?;
        share_identity(&first, &second)?;
        second.up().await?;

        // Both show one cluster, and one of them works for it.
        for cluster in [&first, &second] {
            let nodes: Api<Node> = Api::all(cluster.client().await?);
            ensure!(nodes.list(&ListParams::default()).await?.items.len() == 2);
            addresses(cluster, 2).await?;
        }
        // Neither could read what the other seals with a key of its own.
        let refused = second.knarr()?.args(["secrets", "rotate"]).output()?;
        ensure!(
            !refused.success && refused.stderr.contains("1 other server uses this etcd"),
            "{}",
            refused.stderr
        );
        for lease in ["kube-scheduler", "kube-controller-manager"] {
            let who = holder(&second, lease).await?;
            ensure!(who.starts_with("node-1_"), "{lease} is held by {who}");
        }
        let web: Deployment = serde_json::from_value(json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
            "spec": {"replicas": 4, "selector": {"matchLabels": {"app": "web"}}, "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "image": "knarr.local/hello:latest"}]}}},
        }))?;
        let api: Api<Deployment> = Api::default_namespaced(second.client().await?);
        eventually("the deployment", LIMIT, async || {
            Ok(api.create(&PostParams::default(), &web).await?)
        })
        .await?;
        let nodes = spread(&first, 4).await?;
        ensure!(nodes.len() == 2, "{nodes:?}");

        // The one that works for the cluster is gone: the other takes over.
        first.kill()?;
        scale(&second, 6).await?;
        let listed = async || -> Result<usize> {
            let list = pods(&second).await?.list(&ListParams::default()).await?;
            let here = |pod: &&Pod| {
                let spec = pod.spec.as_ref();
                spec.and_then(|spec| spec.node_name.as_deref()) == Some("node-2") && ready(pod)
            };
            Ok(list.items.iter().filter(here).count())
        };
        eventually(
            "pods of the new leader",
            Duration::from_secs(60),
            async || match listed().await? {
                3.. => Ok(()),
                few => bail!("{few} pods on the node that is left"),
            },
        )
        .await?;
        let who = holder(&second, "kube-controller-manager").await?;
        ensure!(who.starts_with("node-2_"), "{who}");
        addresses(&second, 1).await?;

        // Back again, the first follows; its pods were kept.
        first.up().await?;
        addresses(&first, 2).await?;
        spread(&first, 6).await?;
        scale(&first, 1).await?;
        spread(&second, 1).await?;
        let who = holder(&first, "kube-scheduler").await?;
        ensure!(who.starts_with("node-2_"), "{who}");
        first.stop()?;
        second.stop()?;
        Ok(())
    });
}
