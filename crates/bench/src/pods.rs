//! Pods as a client sees them: created by POST, Running by a watch.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;

const LIMIT: Duration = Duration::from_secs(60);

/// A pod of one container that does nothing.
pub(crate) fn pod(name: &str, image: &str, command: &[&str]) -> Result<Pod> {
    Ok(serde_json::from_value(json!({
        "metadata": {"name": name, "labels": {"app": "bench"}},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{
                "name": "c", "image": image, "command": command,
                "imagePullPolicy": "IfNotPresent",
            }],
        },
    }))?)
}

/// Creates pods (all at once when there are several) and tells for each the time from the
/// answer of its creation to Running seen by a watch, and for all the time from the first
/// request to the last Running.
pub(crate) async fn run(
    client: &kube::Client,
    pods: Vec<Pod>,
) -> Result<(Vec<Duration>, Duration)> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let count = pods.len();
    let version = api
        .list(&ListParams::default())
        .await?
        .metadata
        .resource_version
        .context("a list has a resourceVersion")?;
    let mut events = pin!(
        api.watch(&WatchParams::default().labels("app=bench"), &version)
            .await?
    );

    let start = Instant::now();
    let creations = pods.into_iter().map(|pod| {
        let api = api.clone();
        tokio::spawn(async move {
            let created = api.create(&PostParams::default(), &pod).await?;
            Ok::<_, kube::Error>((created.metadata.name.unwrap_or_default(), Instant::now()))
        })
    });
    let creations: Vec<_> = creations.collect();

    let mut running: HashMap<String, Instant> = HashMap::new();
    let seen = async {
        while running.len() < count {
            match events.try_next().await? {
                Some(WatchEvent::Added(pod) | WatchEvent::Modified(pod)) => {
                    let phase = pod
                        .status
                        .as_ref()
                        .and_then(|status| status.phase.as_deref());
                    if phase == Some("Running") {
                        running
                            .entry(pod.metadata.name.unwrap_or_default())
                            .or_insert_with(Instant::now);
                    }
                }
                Some(_) => {}
                None => bail!("the watch ended"),
            }
        }
        Ok(())
    };
    tokio::time::timeout(LIMIT, seen)
        .await
        .context("not all pods ran within a minute")??;
    let all = start.elapsed();
    let mut times = Vec::new();
    for creation in creations {
        let (name, answered) = creation.await??;
        let seen = running.get(&name).context("a pod that we created")?;
        times.push(seen.saturating_duration_since(answered));
    }
    Ok((times, all))
}

/// Deletes all pods of the benchmark and waits until they are gone.
pub(crate) async fn clear(client: &kube::Client) -> Result<()> {
    let api: Api<Pod> = Api::default_namespaced(client.clone());
    let ours = ListParams::default().labels("app=bench");
    let now = DeleteParams::default().grace_period(0);
    api.delete_collection(&now, &ours).await?;
    let start = Instant::now();
    while !api.list(&ours).await?.items.is_empty() {
        if start.elapsed() > LIMIT {
            bail!("the pods did not go within a minute");
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}
