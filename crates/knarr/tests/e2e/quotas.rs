//! ResourceQuotas, from the creation to the end of what they count.

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, ResourceQuota, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};
use testkit::{Cluster, Options, eventually};

use crate::support::{LIMIT, create, import_busybox, phase, pods, shell_pod, until};

async fn used(quotas: &Api<ResourceQuota>, wanted: Value) -> Result<()> {
    eventually("what is used", LIMIT, async || {
        let status = quotas.get("q").await?.status;
        let used = serde_json::to_value(status.and_then(|status| status.used))?;
        ensure!(used == wanted, "{used} and not {wanted}");
        Ok(())
    })
    .await
}

#[test]
fn quotas_follow_what_is_used() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let pods = pods(&cluster).await?;
        let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client().await?);
        let quotas: Api<ResourceQuota> = Api::default_namespaced(cluster.client().await?);
        let map = |name: &str| ConfigMap {
            metadata: kube::api::ObjectMeta {
                name: Some(name.to_owned()),
                ..Default::default()
            },
            ..Default::default()
        };
        // What is there before the quota counts as well; kube-root-ca.crt is the first.
        eventually("the namespace's certificate", LIMIT, async || {
            Ok(maps.get("kube-root-ca.crt").await?)
        })
        .await?;
        maps.create(&PostParams::default(), &map("a")).await?;
        let quota: ResourceQuota = serde_json::from_value(
            json!({"metadata": {"name": "q"}, "spec": {"hard":
            {"configmaps": "3", "pods": "1", "requests.cpu": "1", "count/deployments.apps": "1"}}}),
        )?;
        quotas.create(&PostParams::default(), &quota).await?;
        let amounts = |maps: &str, pods: &str, cpu: &str| json!({"configmaps": maps, "pods": pods, "requests.cpu": cpu, "count/deployments.apps": "0"});
        used(&quotas, amounts("2", "0", "0")).await?;
        maps.create(&PostParams::default(), &map("b")).await?;
        used(&quotas, amounts("3", "0", "0")).await?;
        let refused = maps.create(&PostParams::default(), &map("c")).await;
        let words = refused
            .err()
            .map(|error| error.to_string())
            .unwrap_or_default();
        ensure!(
            words.contains("exceeded quota: q, requested: configmaps=1, used: configmaps=3, limited: configmaps=3"),
            "{words}"
        );
        maps.delete("b", &DeleteParams::default()).await?;
        used(&quotas, amounts("2", "0", "0")).await?;

        // A pod counts until it has ended.
        let pod = |name: &str, script: &str| {
            let mut pod = shell_pod(name, script);
            pod["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "100m"}});
            pod
        };
        create(&pods, pod("short", "sleep 1")).await?;
        let second = serde_json::from_value(pod("second", "true"))?;
        ensure!(pods.create(&PostParams::default(), &second).await.is_err());
        until(&pods, "short", "succeeds", |pod| phase(pod) == "Succeeded").await?;
        used(&quotas, amounts("2", "0", "0")).await?;
        create(&pods, pod("long", "sleep 1000")).await?;
        used(&quotas, amounts("2", "1", "100m")).await?;
        pods.delete("long", &DeleteParams::default()).await?;
        used(&quotas, amounts("2", "0", "0")).await?;

        // Other limits are counted at once.
        let mut more = quotas.get("q").await?;
        more.spec = serde_json::from_value(json!({"hard": {"secrets": "5", "configmaps": "9"}}))?;
        quotas.replace("q", &PostParams::default(), &more).await?;
        used(&quotas, json!({"secrets": "0", "configmaps": "2"})).await
    });
}

/// Counts that run beside the writes neither miss nor invent anything: there are never more objects
/// than granted, and in the end as many as are told.
#[test]
fn a_quota_holds_while_everything_changes() {
    testkit::isolated(async || {
        const MOST: usize = 20;
        let cluster = Cluster::start(Options::default()).await?;
        let client = cluster.client().await?;
        let secrets: Api<Secret> = Api::default_namespaced(client.clone());
        let quotas: Api<ResourceQuota> = Api::default_namespaced(client);
        let quota: ResourceQuota = serde_json::from_value(
            json!({"metadata": {"name": "q"}, "spec": {"hard": {"secrets": MOST.to_string()}}}),
        )?;
        quotas.create(&PostParams::default(), &quota).await?;
        used(&quotas, json!({"secrets": "0"})).await?;
        let writer = async |writer: usize| {
            let (mut made, mut refused) = (0, 0);
            for round in 0..60 {
                let name = format!("s{writer}-{}", round % 5);
                let secret = serde_json::from_value(json!({"metadata": {"name": name}}))?;
                match secrets.create(&PostParams::default(), &secret).await {
                    Ok(_) => made += 1,
                    Err(kube::Error::Api(status)) if status.code == 403 => refused += 1,
                    // There already; make room.
                    Err(kube::Error::Api(status)) if status.code == 409 => {
                        secrets.delete(&name, &DeleteParams::default()).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
                let there = secrets.list(&ListParams::default()).await?.items.len();
                ensure!(there <= MOST, "{there} secrets of {MOST}");
            }
            Ok((made, refused))
        };
        let all = futures::future::try_join_all((0..8).map(writer)).await?;
        let made: usize = all.iter().map(|(made, _)| made).sum();
        let refused: usize = all.iter().map(|(_, refused)| refused).sum();
        ensure!(made > MOST && refused > 0, "{made} made, {refused} refused");
        let there = secrets.list(&ListParams::default()).await?.items.len();
        used(&quotas, json!({"secrets": there.to_string()})).await
    });
}
