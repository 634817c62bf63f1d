//! Bad input and bad days: one clear error each, nothing left behind.

use std::net::TcpListener;
use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use nix::fcntl::{Flock, FlockArg};
use testkit::{Cluster, Options, Output, Run};

use crate::support::{
    LIMIT, create, exec, import_busybox, nothing_left, phase, pods, ready, shell_pod, until,
};

fn up(args: &[&str]) -> Result<Output> {
    Run::new("timeout")
        .args(["20"])
        .args([Cluster::binary()?])
        .args(["up"])
        .args(args)
        .output()
}

fn says(output: &Output, words: &[&str]) -> Result<()> {
    ensure!(!output.success, "{output:?}");
    let errors: Vec<&str> = output
        .stderr
        .lines()
        .filter(|line| line.starts_with("error: "))
        .collect();
    ensure!(errors.len() == 1, "one error line: {output:?}");
    for word in words {
        ensure!(errors[0].contains(word), "no {word:?} in {:?}", errors[0]);
    }
    ensure!(!output.stderr.contains("panicked"), "{output:?}");
    Ok(())
}

#[test]
fn a_start_that_cannot_be() {
    testkit::isolated(async || {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        let data = data.to_str().unwrap();

        let taken = TcpListener::bind("127.0.0.1:7443")?;
        says(
            &up(&["--data-dir", data, "--listen", "127.0.0.1:7443"])?,
            &["127.0.0.1:7443", "in use", "--listen"],
        )?;
        drop(taken);

        let file = dir.path().join("file");
        std::fs::write(&file, "")?;
        says(
            &up(&["--data-dir", file.to_str().unwrap()])?,
            &[file.to_str().unwrap()],
        )?;

        let nobody = Run::new("setpriv")
            .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
            .args([Cluster::binary()?])
            .args(["up", "--data-dir", data])
            .output()?;
        says(&nobody, &["root"])?;

        says(
            &up(&["--data-dir", data, "--node-name", "Not_a_name"])?,
            &["--node-name"],
        )?;
        says(
            &up(&[
                "--data-dir",
                data,
                "--pod-cidr",
                "10.0.0.0/8",
                "--service-cidr",
                "10.1.0.0/16",
            ])?,
            &["overlap"],
        )
    });
}

#[test]
fn a_host_without_cgroups() {
    testkit::isolated(async || {
        let dir = tempfile::tempdir()?;
        let data = dir.path().join("data");
        let script = "umount -R -l /sys/fs/cgroup && exec \"$0\" up --data-dir \"$1\"";
        let output = Run::new("timeout")
            .args(["20", "unshare", "--mount", "sh", "-c", script])
            .args([Cluster::binary()?, data.clone()])
            .output()?;
        says(&output, &["this host lacks", "cgroup"])?;
        Run::new(Cluster::binary()?)
            .args(["down", "--delete-data", "--data-dir"])
            .args([data])
            .ok()
            .map(drop)
    });
}

/// Unmounts when the test ends, however it ends.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(path: std::path::PathBuf) -> Result<Self> {
        std::fs::create_dir_all(&path)?;
        let disk = Self(path);
        Run::new("mount")
            .args(["-t", "tmpfs", "-o", "size=96m", "tmpfs"])
            .args([&disk.0])
            .ok()?;
        Ok(disk)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        if let Err(error) = Run::new("umount").args(["-l"]).args([&self.0]).ok() {
            eprintln!("{error:#}");
        }
    }
}

#[test]
fn a_full_disk_is_said_and_survived() {
    testkit::isolated(async || {
        let mut cluster = Cluster::prepare(Options::default())?;
        let disk = SmallDisk::mount(cluster.data_dir().join("db"))?;
        cluster.up().await?;
        let write = |name: &str| {
            let text = format!("--from-literal=text={}", "x".repeat(60_000));
            let manifest = cluster.scratch().join(format!("{name}.json"));
            let map = serde_json::json!({
                "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                "data": {"text": text},
            });
            std::fs::write(&manifest, map.to_string())?;
            cluster
                .knarr()?
                .args(["apply", "-f"])
                .args([manifest])
                .output()
        };
        ensure!(write("before")?.success);

        let filler = disk.0.join("filler");
        let full = Run::new("dd")
            .args(["if=/dev/zero", "bs=64k"])
            .args([format!("of={}", filler.display())])
            .output()?;
        ensure!(!full.success, "the disk is full: {full:?}");
        let mut refused = None;
        for i in 0..200 {
            let answer = write(&format!("full-{i}"))?;
            if !answer.success {
                refused = Some(answer);
                break;
            }
        }
        let refused = refused.context("a full disk refuses writes")?;
        ensure!(
            refused.stderr.contains("full") || refused.stderr.contains("space"),
            "{refused:?}"
        );
        cluster
            .knarr()?
            .args(["get", "configmap", "before"])
            .ok()
            .context("reads go on")?;

        std::fs::remove_file(filler)?;
        testkit::eventually("writes again", LIMIT, async || {
            let answer = write("after")?;
            ensure!(answer.success, "{answer:?}");
            Ok(())
        })
        .await?;
        cluster.kill()?;
        cluster.up().await?;
        for name in ["before", "after"] {
            cluster
                .knarr()?
                .args(["get", "configmap", name])
                .ok()
                .with_context(|| format!("{name} is kept"))?;
        }
        Ok(())
    });
}

#[test]
fn a_corrupt_database_is_named() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        cluster.stop()?;
        let mut databases = Vec::new();
        for entry in std::fs::read_dir(cluster.data_dir().join("db"))? {
            let path = entry?.path();
            if path.extension().is_some_and(|e| e == "sqlite" || e == "db") {
                databases.push(path);
            }
        }
        ensure!(databases.len() == 1, "{databases:?}");
        let size = std::fs::metadata(&databases[0])?.len();
        std::fs::write(&databases[0], vec![0x5a; usize::try_from(size)?])?;
        let output = up(&["--data-dir", cluster.data_dir().to_str().unwrap()])?;
        says(&output, &[databases[0].to_str().unwrap()])
    });
}

#[test]
fn a_second_up_on_the_same_directory() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let data = cluster.data_dir();
        let output = up(&[
            "--data-dir",
            data.to_str().unwrap(),
            "--listen",
            "127.0.0.1:7443",
        ])?;
        says(&output, &[data.to_str().unwrap(), "another"])?;
        cluster.knarr()?.args(["get", "nodes"]).ok().map(drop)
    });
}

/// A crashed server's lock lives on in a child that it has just forked.
#[test]
fn a_lock_that_outlives_its_holder_is_waited_for() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        let held = |cluster: &Cluster| -> Result<std::thread::JoinHandle<()>> {
            let file = std::fs::File::open(cluster.data_dir().join("knarr.lock"))?;
            let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
            let lock = lock.map_err(|(_, error)| error)?;
            Ok(std::thread::spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(300));
                drop(lock);
            }))
        };
        cluster.kill()?;
        let child = testkit::eventually("the lock", LIMIT, async || held(&cluster)).await?;
        cluster.up().await?;
        child.join().ok().context("the lock was given back")?;
        cluster.kill()?;
        let child = testkit::eventually("the lock", LIMIT, async || held(&cluster)).await?;
        cluster.knarr()?.args(["down"]).ok()?;
        child.join().ok().context("the lock was given back")
    });
}

#[test]
fn wrong_kubeconfigs_and_manifests() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let fails = |args: &[&str], words: &[&str]| -> Result<()> {
            says(&cluster.knarr()?.args(args).output()?, words)
        };
        fails(&["get", "pods", "--kubeconfig", "/nowhere"], &["/nowhere"])?;
        fails(
            &["get", "ships"],
            &["the server doesn't have a resource type \"ships\""],
        )?;
        fails(
            &["get", "pod", "nobody"],
            &["(NotFound): pods \"nobody\" not found"],
        )?;

        let manifest = |text: &str| -> Result<String> {
            let path = cluster.scratch().join("manifest.yaml");
            std::fs::write(&path, text)?;
            Ok(path.to_str().unwrap().to_owned())
        };
        let path = manifest("kind: [")?;
        fails(&["apply", "-f", &path], &["error parsing", "manifest.yaml"])?;
        let path = manifest("apiVersion: v1\nkind: Ship\nmetadata: {name: x}\n")?;
        fails(
            &["apply", "-f", &path],
            &["no matches for kind \"Ship\" in version \"v1\""],
        )?;
        let path =
            manifest("apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: []}\n")?;
        fails(
            &["apply", "-f", &path],
            &["spec.containers: Required value"],
        )?;
        let path = manifest(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {containers: [{name: a, image: b, ports: [{containerPort: 99999}]}]}\n",
        )?;
        fails(&["apply", "-f", &path], &["must be between 1 and 65535"])?;

        let stranger = {
            let text = std::fs::read_to_string(cluster.kubeconfig())?;
            let other = cluster.scratch().join("other.kubeconfig");
            let lines: Vec<&str> = text
                .lines()
                .filter(|line| {
                    !line.contains("client-certificate-data") && !line.contains("client-key-data")
                })
                .collect();
            std::fs::write(
                &other,
                lines
                    .join("\n")
                    .replace("user:", "user: {}")
                    .replace("user: {} admin", "user: admin"),
            )?;
            other
        };
        let refused = cluster
            .knarr()?
            .args(["get", "pods", "--kubeconfig"])
            .args([stranger])
            .output()?;
        ensure!(
            !refused.success && !refused.stderr.contains("panicked"),
            "{refused:?}"
        );
        Ok(())
    });
}

#[test]
fn down_leaves_nothing() {
    testkit::isolated(async || {
        let mut cluster = Cluster::prepare(Options::default())?;
        let before = traces(&cluster)?;
        cluster.up().await?;
        import_busybox(&cluster)?;
        let api = pods(&cluster).await?;
        create(&api, shell_pod("stays", "sleep 1000")).await?;
        until(&api, "stays", "is ready", ready).await?;
        ensure!(traces(&cluster)? != before, "a running cluster shows");
        cluster.kill()?;
        cluster.knarr()?.args(["down"]).ok()?;
        let after = traces(&cluster)?;
        ensure!(after == before, "before:\n{before}\nafter:\n{after}");
        ensure!(
            cluster.data_dir().is_dir(),
            "the data stays unless --delete-data is given"
        );
        cluster.up().await
    });
}

#[test]
fn cleanup_begins_anew_with_the_data_of_before() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let api = pods(&cluster).await?;
        create(&api, shell_pod("once", "sleep 1000")).await?;
        let mut again = shell_pod("again", "sleep 1000");
        again["spec"]["restartPolicy"] = serde_json::json!("Always");
        create(&api, again).await?;
        let once = until(&api, "once", "is ready", ready).await?;
        until(&api, "again", "is ready", ready).await?;
        cluster.kill()?;

        let uid = once.metadata.uid.as_deref().context("a uid")?;
        let (network, processes) = (network()?, processes(uid)?);
        ensure!(
            processes.len() >= 4,
            "two shims and what runs in their pods outlive a crash: {processes:?}"
        );
        ensure!(
            network.contains(": kn-") && network.contains("# handle"),
            "{network}"
        );
        cluster.up_with(&["--cleanup"]).await?;
        testkit::eventually("the end of old processes", LIMIT, async || {
            // Somebody else may have to collect them, but that is quick.
            let left = processes.iter().find(|process| process.exists());
            ensure!(left.is_none(), "{left:?}");
            Ok(())
        })
        .await?;
        let old: Vec<&str> = network.lines().collect();
        let left = self::network()?;
        ensure!(
            left.lines().all(|line| !old.contains(&line)),
            "{network}\nthen\n{left}"
        );
        let log = cluster.log();
        ensure!(log.contains("removed what an earlier run of"), "{log}");

        // The objects and images are those of before; the pods had to begin anew.
        until(&api, "again", "is ready again", |pod| {
            let status = pod.status.as_ref();
            let containers = status.and_then(|s| s.container_statuses.as_ref());
            ready(pod) && containers.is_some_and(|c| c[0].restart_count == 1)
        })
        .await?;
        until(&api, "once", "has ended", |pod| phase(pod) == "Failed").await?;
        nothing_left(uid)?;
        ensure!(exec(&api, "again", &["echo", "aye"]).await? == "aye\n");
        create(&api, shell_pod("new", "sleep 1000")).await?;
        until(&api, "new", "is ready", ready).await.map(drop)
    });
}

/// The links and tables of the cluster, with the numbers by which the kernel tells an old one
/// from a new one.
fn network() -> Result<String> {
    let links = Run::new("ip").args(["-o", "link"]).ok()?;
    let own = links.lines().filter(|line| line.contains("kn-"));
    let mut found: String = own
        .filter_map(|line| Some(format!("{}\n", line.split(" <").next()?)))
        .collect();
    let tables = Run::new("nft").args(["-a", "list", "ruleset"]).ok()?;
    let tables = tables.lines().filter(|line| line.starts_with("table "));
    found.extend(tables.map(|line| format!("{line}\n")));
    Ok(found)
}

/// The ids of the shims and containers of the cluster that has this pod.
fn processes(uid: &str) -> Result<Vec<PathBuf>> {
    let mut instances = std::fs::read_dir("/run")?.filter_map(|entry| Some(entry.ok()?.path()));
    let instance = instances
        .find(|path| path.join("pods").join(uid).exists())
        .context("the pod's run directory")?;
    let instance = instance.file_name().and_then(|name| name.to_str());
    let instance = instance.context("a name in UTF-8")?;
    let ours = |process: &PathBuf| {
        // One that ends while we look is none of ours.
        let text = |file| std::fs::read_to_string(process.join(file)).unwrap_or_default();
        text("cgroup").contains(instance) || text("cmdline").contains(instance)
    };
    Ok(std::fs::read_dir("/proc")?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(ours)
        .collect())
}

/// All that a cluster makes on a host, as this namespace sees it. Others' mounts are seen too.
fn traces(cluster: &Cluster) -> Result<String> {
    let mut found = Run::new("ip")
        .args(["-o", "link"])
        .ok()?
        .lines()
        .filter(|l| l.contains("kn-"))
        .collect::<Vec<_>>()
        .join("\n");
    found.push_str(&Run::new("nft").args(["list", "tables"]).ok()?);
    let mounts = std::fs::read_to_string("/proc/self/mountinfo")?;
    let own = cluster.scratch().to_str().context("a path in UTF-8")?;
    found.extend(
        mounts
            .lines()
            .filter(|l| l.contains(own))
            .map(|l| format!("{l}\n")),
    );
    Ok(found)
}

#[test]
fn sigterm_is_a_clean_end() {
    testkit::isolated(async || {
        let mut cluster = Cluster::start(Options::default()).await?;
        cluster.stop()?;
        let log = cluster.log();
        for word in ["panicked", "WARN", "ERROR"] {
            ensure!(!log.contains(word), "{word} in:\n{log}");
        }
        cluster.up().await
    });
}
