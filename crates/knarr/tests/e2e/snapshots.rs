//! Snapshots of a running cluster, and a cluster out of one; Secrets sealed at rest.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use futures::StreamExt as _;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use kube::api::{Api, DeleteParams, ListParams, PostParams, WatchEvent, WatchParams};
use serde_json::json;
use testkit::{Cluster, Etcd, Options, eventually};

use crate::servers::share_identity;
use crate::support::{LIMIT, create, import_busybox, pods, ready, shell_pod, until};

const PLAIN: &str = "correct horse battery staple";
/// The same as it is in JSON.
const PLAIN_BASE64: &str = "Y29ycmVjdCBob3JzZSBiYXR0ZXJ5IHN0YXBsZQ==";

async fn make<K>(cluster: &Cluster, object: serde_json::Value) -> Result<K>
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + Clone
        + std::fmt::Debug
        + serde::Serialize
        + serde::de::DeserializeOwned,
{
    let api: Api<K> = Api::default_namespaced(cluster.client().await?);
    Ok(api
        .create(&PostParams::default(), &serde_json::from_value(object)?)
        .await?)
}

async fn maps(cluster: &Cluster) -> Result<Api<ConfigMap>> {
    Ok(Api::default_namespaced(cluster.client().await?))
}

/// A call of `knarr` that must fail; what it says.
fn refused(cluster: &Cluster, args: &[&str]) -> Result<String> {
    let output = cluster.knarr()?.args(args).output()?;
    ensure!(!output.success, "{args:?} succeeded: {output:?}");
    Ok(output.stderr)
}

fn snapshots(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if folder.is_dir() {
        for file in std::fs::read_dir(folder)? {
            files.push(file?.path());
        }
    }
    files.retain(|path| path.extension().is_some_and(|end| end == "knarrsnap"));
    files.sort();
    Ok(files)
}

fn uid_and_container(pod: &Pod) -> Result<(Option<String>, Option<String>)> {
    let statuses = pod
        .status
        .as_ref()
        .and_then(|s| s.container_statuses.as_ref());
    let status = statuses
        .and_then(|all| all.first())
        .context("a container's status")?;
    Ok((pod.metadata.uid.clone(), status.container_id.clone()))
}

#[test]
fn a_cluster_comes_back_from_a_snapshot() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let api = pods(&cluster).await?;
        for name in ["stays", "goes"] {
            let mut pod = shell_pod(name, "exec sleep 10000");
            pod["spec"]["restartPolicy"] = json!("Always");
            create(&api, pod).await?;
        }
        let stays = uid_and_container(&until(&api, "stays", "is ready", ready).await?)?;
        let goes = uid_and_container(&until(&api, "goes", "is ready", ready).await?)?;
        let kept: ConfigMap = make(
            &cluster,
            json!({"metadata": {"name": "kept"}, "data": {"a": "1"}}),
        )
        .await?;
        let old_version = kept.metadata.resource_version.context("a version")?;
        let _: Secret = make(
            &cluster,
            json!({"metadata": {"name": "word"}, "stringData": {"w": PLAIN}}),
        )
        .await?;

        let file = cluster.scratch().join("one.knarrsnap");
        let file = file.to_str().context("a path")?;
        let said = cluster.knarr()?.args(["snapshot", "save", file]).ok()?;
        ensure!(
            said.contains("saved") && said.contains("secrets.key"),
            "{said}"
        );
        let said = cluster.knarr()?.args(["snapshot", "verify", file]).ok()?;
        ensure!(said.contains("whole") && said.contains("sqlite"), "{said}");
        let said = refused(&cluster, &["snapshot", "save", file])?;
        ensure!(said.contains("exists already"), "{said}");

        // The world goes on.
        maps(&cluster)
            .await?
            .delete("kept", &DeleteParams::default())
            .await?;
        let later: ConfigMap = make(&cluster, json!({"metadata": {"name": "later"}})).await?;
        let last_version = later.metadata.resource_version.context("a version")?;
        api.delete("goes", &DeleteParams::default()).await?;
        eventually("the pod's end", LIMIT, async || {
            ensure!(api.get_opt("goes").await?.is_none());
            Ok(())
        })
        .await?;
        let said = refused(&cluster, &["snapshot", "restore", file, "--replace"])?;
        ensure!(said.contains("another knarr (process"), "{said}");

        cluster.stop()?;
        let said = refused(&cluster, &["snapshot", "restore", file])?;
        ensure!(said.contains("--replace"), "{said}");
        let restore = ["snapshot", "restore", file, "--replace"];
        let said = cluster.knarr()?.args(restore).ok()?;
        ensure!(
            said.contains("restored") && said.contains("is kept as"),
            "{said}"
        );
        cluster.up().await?;

        let maps = maps(&cluster).await?;
        let kept = maps.get("kept").await?;
        ensure!(maps.get_opt("later").await?.is_none());
        let number = |text: &str| text.parse::<u64>();
        let new_version = kept.metadata.resource_version.context("a version")?;
        ensure!(number(&new_version)? > number(&last_version)? + 900_000_000);
        let secrets: Api<Secret> = Api::default_namespaced(cluster.client().await?);
        let word = secrets.get("word").await?.data.context("data")?;
        ensure!(word["w"].0 == PLAIN.as_bytes());

        // Who watched before is told to list again, and can.
        for version in [&old_version, &last_version] {
            let mut watch = maps.watch(&WatchParams::default(), version).await?.boxed();
            let first = watch.next().await.context("an answer")?;
            let code = match first {
                Ok(WatchEvent::Error(status)) => status.code,
                Err(kube::Error::Api(status)) => status.code,
                other => anyhow::bail!("a watch from {version} was answered: {other:?}"),
            };
            ensure!(
                code == 410,
                "a watch from {version} was answered with {code}"
            );
        }
        let list = maps.list(&ListParams::default()).await?;
        let version = list.metadata.resource_version.context("a version")?;
        let mut watch = maps.watch(&WatchParams::default(), &version).await?.boxed();
        let _: ConfigMap = make(&cluster, json!({"metadata": {"name": "after"}})).await?;
        let first = watch.next().await.context("an event")??;
        ensure!(
            matches!(&first, WatchEvent::Added(map) if map.metadata.name.as_deref() == Some("after"))
        );

        // One pod ran all the time and was adopted; the other's container is a new one.
        let api = pods(&cluster).await?;
        ensure!(uid_and_container(&until(&api, "stays", "is ready", ready).await?)? == stays);
        let again = eventually("a new container", LIMIT, async || {
            let pod = api.get("goes").await?;
            let now = uid_and_container(&pod)?;
            ensure!(ready(&pod) && now.1 != goes.1, "{:?}", pod.status);
            Ok(now)
        })
        .await?;
        ensure!(again.0 == goes.0, "it is the same Pod");
        Ok(())
    });
}

#[test]
fn snapshots_on_a_schedule_are_kept_in_number() {
    testkit::isolated(async || {
        let flags = ["--snapshot-every", "2s", "--snapshot-keep", "2"];
        let options = Options {
            flags: flags.map(str::to_owned).to_vec(),
            ..Options::default()
        };
        let mut cluster = Cluster::start(options).await?;
        let folder = cluster.data_dir().join("snapshots");
        cluster.knarr()?.args(["snapshot", "save"]).ok()?;
        let scheduled = |files: &[PathBuf]| -> Vec<PathBuf> {
            let name = |path: &PathBuf| path.file_name().map(|n| n.to_string_lossy().into_owned());
            let of_ours = |path: &&PathBuf| name(path).is_some_and(|n| n.starts_with("scheduled-"));
            files.iter().filter(of_ours).cloned().collect()
        };
        let first = eventually("a first one", LIMIT, async || {
            let files = scheduled(&snapshots(&folder)?);
            files.first().cloned().context("none yet")
        })
        .await?;
        eventually("its end", LIMIT, async || {
            ensure!(!first.exists());
            Ok(())
        })
        .await?;
        cluster.stop()?;
        let files = snapshots(&folder)?;
        ensure!((1..=3).contains(&scheduled(&files).len()), "{files:?}");
        ensure!(
            files.len() == scheduled(&files).len() + 1,
            "what was asked for stays: {files:?}"
        );
        let table = cluster.knarr()?.args(["snapshot", "list"]).ok()?;
        ensure!(
            table.contains("on-demand") && table.contains("scheduled"),
            "{table}"
        );
        // Also without a running cluster.
        let file = cluster.scratch().join("stopped.knarrsnap");
        let file = file.to_str().context("a path")?;
        cluster.knarr()?.args(["snapshot", "save", file]).ok()?;
        cluster.knarr()?.args(["snapshot", "verify", file]).ok()?;
        Ok(())
    });
}

/// Whether any file of the database has some text in it.
fn database_holds(cluster: &Cluster, needle: &str) -> Result<bool> {
    for file in std::fs::read_dir(cluster.data_dir().join("db"))? {
        let content = std::fs::read(file?.path())?;
        if content
            .windows(needle.len())
            .any(|part| part == needle.as_bytes())
        {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn secrets_are_sealed_and_their_keys_change() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        let _: Secret = make(
            &cluster,
            json!({"metadata": {"name": "word"}, "stringData": {"w": PLAIN}}),
        )
        .await?;
        let _: ConfigMap = make(
            &cluster,
            json!({"metadata": {"name": "open"}, "data": {"a": "readable by all"}}),
        )
        .await?;
        let hidden = |cluster: &Cluster| -> Result<()> {
            ensure!(database_holds(cluster, "readable by all")?);
            ensure!(!database_holds(cluster, PLAIN)? && !database_holds(cluster, PLAIN_BASE64)?);
            Ok(())
        };
        let readable = async |cluster: &Cluster| -> Result<()> {
            let secrets: Api<Secret> = Api::default_namespaced(cluster.client().await?);
            let word = secrets.get("word").await?.data.context("data")?;
            ensure!(word["w"].0 == PLAIN.as_bytes());
            Ok(())
        };
        hidden(&cluster)?;
        let said = cluster.knarr()?.args(["secrets", "rotate"]).ok()?;
        ensure!(
            said.contains("new key") && !said.contains("; 0 Secrets"),
            "{said}"
        );
        readable(&cluster).await?;
        let status = cluster.knarr()?.args(["secrets", "status"]).ok()?;
        ensure!(
            status.lines().count() == 3 && status.contains("encrypts"),
            "{status}"
        );
        let said = cluster.knarr()?.args(["secrets", "drop-old"]).ok()?;
        ensure!(said.starts_with("dropped"), "{said}");
        readable(&cluster).await?;
        hidden(&cluster)?;
        cluster.stop()?;
        hidden(&cluster)?;
        // With nobody running.
        let said = cluster.knarr()?.args(["secrets", "rotate"]).ok()?;
        ensure!(said.contains("new key"), "{said}");

        let (key_file, aside) = (
            cluster.data_dir().join("secrets.key"),
            cluster.scratch().join("aside.key"),
        );
        std::fs::rename(&key_file, &aside)?;
        cluster.spawn()?;
        eventually("words about the key", LIMIT, async || {
            let log = cluster.log();
            ensure!(log.contains("secrets.key is not there"), "{log}");
            Ok(())
        })
        .await?;
        tokio::time::sleep(Duration::from_millis(300)).await;
        ensure!(
            cluster.stop().is_err(),
            "it has ended by itself, with an error"
        );
        ensure!(!key_file.exists(), "no new key was made");
        std::fs::rename(&aside, &key_file)?;
        cluster.up().await?;
        readable(&cluster).await
    });
}

#[test]
fn a_cluster_moves_into_an_etcd_and_back() {
    testkit::isolated(async || {
        let dir = tempfile::tempdir()?;
        let etcd = Etcd::start(dir.path(), 2379).await?;
        let mut first = Cluster::start(Options::default()).await?;
        let _: Secret = make(
            &first,
            json!({"metadata": {"name": "word"}, "stringData": {"w": PLAIN}}),
        )
        .await?;
        let before: Vec<String> = names(&first).await?;
        let file = |name: &str| first.scratch().join(name).display().to_string();
        let (there, back) = (file("there.knarrsnap"), file("back.knarrsnap"));
        first.knarr()?.args(["snapshot", "save", &there]).ok()?;
        first.stop()?;
        // The two hosts are one here: the first one's network makes room.
        first.knarr()?.args(["down"]).ok()?;

        let flags = vec![
            "--datastore".to_owned(),
            etcd.datastore(Ipv4Addr::LOCALHOST),
        ];
        let mut second = Cluster::prepare(Options {
            flags: flags.clone(),
            machine: None,
        })?;
        let restore = |cluster: &Cluster, args: &[&str]| {
            cluster
                .knarr()?
                .args(["snapshot", "restore"])
                .args(args.to_vec())
                .output()
        };
        let into = [there.as_str(), "--datastore", flags[1].as_str()];
        // Without the key file the Secret could not be read.
        let refused = restore(&second, &into)?;
        ensure!(
            !refused.success && refused.stderr.contains("--drop-unreadable"),
            "{refused:?}"
        );
        share_identity(&first, &second)?;
        let moved = restore(&second, &into)?;
        ensure!(moved.success, "{moved:?}");
        second.up().await?;
        ensure!(names(&second).await? == before);
        let _: Secret = make(&second, json!({"metadata": {"name": "later"}})).await?;
        second.knarr()?.args(["snapshot", "save", &back]).ok()?;
        let said = second.knarr()?.args(["snapshot", "verify", &back]).ok()?;
        ensure!(said.contains("etcd"), "{said}");
        second.stop()?;
        second.knarr()?.args(["down"]).ok()?;
        let again = restore(&second, &into)?;
        ensure!(
            !again.success && again.stderr.contains("another prefix"),
            "{again:?}"
        );

        let moved = restore(&first, &[&back, "--replace"])?;
        ensure!(moved.success, "{moved:?}");
        first.up().await?;
        let mut after = before;
        after.push("later".to_owned());
        after.sort();
        ensure!(names(&first).await? == after);
        Ok(())
    });
}

/// The names of the Secrets, when the one that the tests make can be read.
async fn names(cluster: &Cluster) -> Result<Vec<String>> {
    let secrets: Api<Secret> = Api::default_namespaced(cluster.client().await?);
    let word = secrets.get("word").await?.data.context("data")?;
    ensure!(word["w"].0 == PLAIN.as_bytes());
    let list = secrets.list(&ListParams::default()).await?.items;
    let mut names: Vec<String> = list.into_iter().filter_map(|s| s.metadata.name).collect();
    names.sort();
    Ok(names)
}
