//! Our own small client, over the same public API.

use anyhow::{Result, ensure};
use testkit::{Cluster, Options, eventually};

use crate::support::{LIMIT, import_busybox, shell_pod};

#[test]
fn the_verbs() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let knarr = |args: &[&str]| -> Result<String> { cluster.knarr()?.args(args).ok() };

        let manifest = cluster.scratch().join("pod.json");
        std::fs::write(
            &manifest,
            shell_pod("one", "echo hello; exec sleep 1000").to_string(),
        )?;
        let manifest = manifest.to_str().unwrap();
        eventually("the service account", LIMIT, async || {
            knarr(&["get", "serviceaccount", "default"])
        })
        .await?;
        ensure!(knarr(&["apply", "-f", manifest])? == "pod/one created\n");
        ensure!(knarr(&["wait", "--for=condition=Ready", "pod/one"])? == "pod/one condition met\n");
        ensure!(knarr(&["apply", "-f", manifest])? == "pod/one unchanged\n");
        let table = knarr(&["get", "pods"])?;
        ensure!(
            table.contains("one") && table.contains("Running"),
            "{table}"
        );
        ensure!(knarr(&["get", "pod", "one", "-o", "jsonpath={.spec.nodeName}"])? == "node-1");
        ensure!(knarr(&["get", "po", "-o", "name"])? == "pod/one\n");
        ensure!(knarr(&["get", "pods", "-A"])?.starts_with("NAMESPACE"));
        eventually("the log", LIMIT, async || {
            ensure!(knarr(&["logs", "one"])? == "hello\n");
            Ok(())
        })
        .await?;
        ensure!(knarr(&["exec", "one", "--", "echo", "hi"])? == "hi\n");
        let failed = cluster
            .knarr()?
            .args(["exec", "one", "--", "sh", "-c", "exit 9"])
            .output()?;
        ensure!(failed.code == Some(9), "{failed:?}");
        let described = knarr(&["describe", "pod", "one"])?;
        ensure!(
            described.contains("Successfully assigned default/one to node-1"),
            "{described}"
        );
        ensure!(knarr(&["delete", "pod", "one"])?.starts_with("pod/one deleted"));
        let gone = cluster.knarr()?.args(["get", "pod", "one"]).output()?;
        ensure!(!gone.success, "{gone:?}");
        ensure!(knarr(&["kubeconfig"])? == std::fs::read_to_string(cluster.kubeconfig())?);
        Ok(())
    });
}
