//! `kill -9` of `knarr up`: pods keep serving, and are adopted again.

use anyhow::{Context, Result, ensure};
use kube::api::LogParams;
use serde_json::json;
use testkit::{Cluster, Options, eventually};

use crate::support::{
    LIMIT, create, exec, http_get, import_busybox, phase, pods, ready, shell_pod, until,
};

#[test]
fn pods_outlive_a_crash() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let api = pods(&cluster).await?;
        let mut web = shell_pod(
            "web",
            "echo first; mkdir /www; echo fine > /www/index.html; \
             (while true; do date +%s >> /www/beat; sleep 0.2; done) & exec httpd -f -p 8080 -h /www",
        );
        web["spec"]["restartPolicy"] = json!("Always");
        create(&api, web).await?;
        create(
            &api,
            shell_pod("leaves", "echo at work; sleep 2; echo left; exit 5"),
        )
        .await?;
        let before = until(&api, "web", "is ready", ready).await?;
        until(&api, "leaves", "runs", |pod| phase(pod) == "Running").await?;
        let status = before.status.clone().context("a status")?;
        let address = format!("{}:8080", status.pod_ip.clone().unwrap_or_default());
        ensure!(http_get(&address, "/index.html").await? == "fine\n");

        cluster.kill()?;
        for _ in 0..10 {
            ensure!(
                http_get(&address, "/index.html").await? == "fine\n",
                "it serves on its own"
            );
            tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        }
        cluster.up().await?;

        let api = pods(&cluster).await?;
        let after = until(&api, "web", "is ready again", ready).await?;
        let identity = |pod: &k8s_openapi::api::core::v1::Pod| -> Result<_> {
            let status = pod.status.as_ref().context("a status")?;
            let container = status
                .container_statuses
                .as_ref()
                .and_then(|statuses| statuses.first())
                .context("a container status")?;
            Ok((
                pod.metadata.uid.clone(),
                status.pod_ip.clone(),
                container.container_id.clone(),
                container.restart_count,
                container.state.clone(),
            ))
        };
        ensure!(
            identity(&before)? == identity(&after)?,
            "{before:?}\n{after:?}"
        );
        ensure!(http_get(&address, "/index.html").await? == "fine\n");
        ensure!(api.logs("web", &LogParams::default()).await? == "first\n");
        // The status is that of before the crash; the node may still be adopting.
        let said = eventually("exec", LIMIT, async || {
            exec(&api, "web", &["echo", "hello"]).await
        })
        .await?;
        ensure!(said == "hello\n");

        // Its end came while nobody looked; it is known all the same.
        let left = until(&api, "leaves", "has failed", |pod| phase(pod) == "Failed").await?;
        let code = left
            .status
            .and_then(|s| s.container_statuses?.first()?.state.clone()?.terminated)
            .map(|end| end.exit_code);
        ensure!(code == Some(5), "{code:?}");
        ensure!(api.logs("leaves", &LogParams::default()).await? == "at work\nleft\n");
        Ok(())
    });
}

#[test]
fn many_crashes_lose_nothing() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello");
        cluster.knarr()?.args(["apply", "-f", hello]).ok()?;
        let mut acknowledged = Vec::new();
        for round in 0..8 {
            let client = cluster.client().await?;
            let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
                kube::Api::default_namespaced(client);
            for i in 0..20 {
                let name = format!("map-{round}-{i}");
                let map = serde_json::from_value(json!({"metadata": {"name": name}}))?;
                maps.create(&kube::api::PostParams::default(), &map).await?;
                acknowledged.push(name);
            }
            // Rounds end at different points of the deployment's and the node's work.
            tokio::time::sleep(std::time::Duration::from_millis(37 * round)).await;
            cluster.kill()?;
            cluster.up().await?;
        }
        let client = cluster.client().await?;
        let maps: kube::Api<k8s_openapi::api::core::v1::ConfigMap> =
            kube::Api::default_namespaced(client);
        for name in &acknowledged {
            maps.get(name)
                .await
                .with_context(|| format!("{name} is lost"))?;
        }
        cluster
            .knarr()?
            .args([
                "wait",
                "--for=condition=Available",
                "deployment/hello",
                "--timeout=30s",
            ])
            .ok()?;
        let api = pods(&cluster).await?;
        eventually("three pods, none doubled", LIMIT, async || {
            let list = api
                .list(&kube::api::ListParams::default().labels("app=hello"))
                .await?;
            ensure!(list.items.len() == 3, "{}", list.items.len());
            ensure!(list.items.iter().all(ready));
            Ok(())
        })
        .await
    });
}
