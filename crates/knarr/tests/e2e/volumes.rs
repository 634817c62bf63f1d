//! Volumes and claims that are deleted while somebody uses them.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Api, DeleteParams, Patch, PatchParams, PostParams};
use serde_json::json;
use testkit::{Cluster, Options, eventually};

use crate::support::{LIMIT, create, pods, shell_pod};

#[test]
fn what_is_in_use_stays() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let pods = pods(&cluster).await?;
        let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client().await?);
        let claim: PersistentVolumeClaim = serde_json::from_value(
            json!({"metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Mi"}}}}),
        )?;
        claims.create(&PostParams::default(), &claim).await?;
        // On a node, though not on one that will ever start it.
        let mut pod = shell_pod("user", "true");
        pod["spec"]["nodeName"] = json!("elsewhere");
        pod["spec"]["volumes"] =
            json!([{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]);
        create(&pods, pod).await?;
        claims.delete("data", &DeleteParams::default()).await?;
        tokio::time::sleep(Duration::from_secs(1)).await;
        let kept = claims.get("data").await?;
        ensure!(kept.metadata.deletion_timestamp.is_some(), "{kept:?}");
        pods.delete("user", &DeleteParams::default().grace_period(0))
            .await?;
        eventually("the claim's end", LIMIT, async || {
            ensure!(claims.get_opt("data").await?.is_none());
            Ok(())
        })
        .await?;

        let volumes: Api<PersistentVolume> = Api::all(cluster.client().await?);
        for (name, phase) in [("bound", "Bound"), ("free", "Available")] {
            let volume: PersistentVolume =
                serde_json::from_value(json!({"metadata": {"name": name},
                "spec": {"capacity": {"storage": "1Mi"}, "accessModes": ["ReadWriteOnce"],
                    "hostPath": {"path": "/nowhere"}}}))?;
            volumes.create(&PostParams::default(), &volume).await?;
            let status = Patch::Merge(json!({"status": {"phase": phase}}));
            let params = PatchParams::default();
            volumes.patch_status(name, &params, &status).await?;
        }
        volumes.delete("bound", &DeleteParams::default()).await?;
        volumes.delete("free", &DeleteParams::default()).await?;
        let ends = async |name: &str| -> Result<()> {
            eventually("the volume's end", LIMIT, async || {
                ensure!(volumes.get_opt(name).await?.is_none());
                Ok(())
            })
            .await
        };
        ends("free").await?;
        ensure!(volumes.get_opt("bound").await?.is_some());
        let status = Patch::Merge(json!({"status": {"phase": "Released"}}));
        let params = PatchParams::default();
        volumes.patch_status("bound", &params, &status).await?;
        ends("bound").await
    });
}
