//! What the tests share.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams, ListParams, PostParams};
use serde_json::{Value, json};
use testkit::{Cluster, Run, eventually};
use tokio::io::AsyncReadExt;

/// The busybox image's name in the tests.
pub(crate) const BUSYBOX: &str = "test.local/busybox:1";
/// Long enough for a slow machine, short enough for a person.
pub(crate) const LIMIT: Duration = Duration::from_secs(30);

/// Makes the busybox image and imports it.
pub(crate) fn import_busybox(cluster: &Cluster) -> Result<()> {
    let archive = testkit::busybox_archive(cluster.scratch(), BUSYBOX)?;
    cluster
        .knarr()?
        .args(["image", "import"])
        .args([archive])
        .ok()
        .map(drop)
}

/// A pod that runs a shell command in busybox.
pub(crate) fn shell_pod(name: &str, script: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "restartPolicy": "Never", "containers": [
            {"name": "c", "image": BUSYBOX, "command": ["sh", "-c", script]}]},
    })
}

/// Pods of the default namespace.
pub(crate) async fn pods(cluster: &Cluster) -> Result<Api<Pod>> {
    Ok(Api::default_namespaced(cluster.client().await?))
}

/// Creates a pod, once the namespace has its service account.
pub(crate) async fn create(pods: &Api<Pod>, pod: Value) -> Result<Pod> {
    let pod: Pod = serde_json::from_value(pod)?;
    eventually("the pod's creation", LIMIT, async || {
        Ok(pods.create(&PostParams::default(), &pod).await?)
    })
    .await
}

/// Waits until a pod satisfies a condition.
pub(crate) async fn until(
    pods: &Api<Pod>,
    name: &str,
    what: &str,
    holds: impl Fn(&Pod) -> bool,
) -> Result<Pod> {
    eventually(&format!("pod {name}: {what}"), LIMIT, async || {
        let pod = pods.get(name).await?;
        if holds(&pod) {
            Ok(pod)
        } else {
            bail!("status is {}", serde_json::to_string(&pod.status)?)
        }
    })
    .await
}

/// The phase of a pod.
pub(crate) fn phase(pod: &Pod) -> &str {
    pod.status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

/// Whether a pod's Ready condition is True.
pub(crate) fn ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .as_ref()
        .and_then(|status| status.conditions.as_ref());
    conditions
        .into_iter()
        .flatten()
        .any(|c| c.type_ == "Ready" && c.status == "True")
}

/// Runs a command in a pod and returns what it said.
pub(crate) async fn exec(pods: &Api<Pod>, name: &str, command: &[&str]) -> Result<String> {
    let params = AttachParams::default().stdout(true).stderr(true);
    let mut process = pods.exec(name, command.iter().copied(), &params).await?;
    let mut out = String::new();
    let mut err = String::new();
    let mut stdout = process.stdout().context("stdout")?;
    let mut stderr = process.stderr().context("stderr")?;
    tokio::try_join!(
        stdout.read_to_string(&mut out),
        stderr.read_to_string(&mut err)
    )?;
    let status = process
        .take_status()
        .context("status")?
        .await
        .context("a status")?;
    if status.status.as_deref() != Some("Success") {
        bail!(
            "{command:?} in {name}: {}\n{out}{err}",
            status.message.unwrap_or_default()
        );
    }
    Ok(out)
}

/// The events of an object, as `reason: message`.
pub(crate) async fn events(cluster: &Cluster, name: &str) -> Result<Vec<String>> {
    let api: Api<k8s_openapi::api::core::v1::Event> =
        Api::default_namespaced(cluster.client().await?);
    let of = ListParams::default().fields(&format!("involvedObject.name={name}"));
    Ok(api
        .list(&of)
        .await?
        .items
        .into_iter()
        .map(|e| {
            format!(
                "{}: {}",
                e.reason.unwrap_or_default(),
                e.message.unwrap_or_default()
            )
        })
        .collect())
}

/// One HTTP GET.
pub(crate) async fn http_get(address: &str, path: &str) -> Result<String> {
    use tokio::io::AsyncWriteExt;
    let ask = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut text = String::new();
        stream.read_to_string(&mut text).await?;
        Ok::<_, std::io::Error>(text)
    };
    let text = tokio::time::timeout(Duration::from_secs(5), ask).await??;
    let (head, body) = text.split_once("\r\n\r\n").context("no HTTP answer")?;
    if !head.starts_with("HTTP/1.1 200") && !head.starts_with("HTTP/1.0 200") {
        bail!("{head}");
    }
    Ok(body.to_owned())
}

/// Nothing of a pod is left on the host: no mount, no process, no cgroup.
pub(crate) fn nothing_left(uid: &str) -> Result<()> {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    ensure!(!mounts.contains(uid), "a mount is left");
    let groups = Run::new("find")
        .args(["/sys/fs/cgroup", "-name", &format!("*{uid}*")])
        .ok()?;
    ensure!(groups.is_empty(), "{groups}");
    Ok(())
}
