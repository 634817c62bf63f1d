//! `knarr detect` beside a cluster, and by itself: alerts of real deeds, by rules that are built in.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use testkit::{Cluster, Options, Run, eventually};

use crate::support::{LIMIT, create, exec, import_busybox, pods, ready, shell_pod, until};

/// A running `knarr detect`, whose alerts are in a file.
struct Detection {
    child: Child,
    alerts: PathBuf,
}

impl Detection {
    /// Starts it, and waits until it sees what is done on this host.
    async fn start(folder: &Path) -> Result<Self> {
        let alerts = folder.join("alerts.json");
        let child = Command::new(Cluster::binary()?)
            .args(["detect", "-U", "-o", "json_output=true"])
            .args([
                "-o",
                "rule_matching=all",
                "-o",
                "syslog_output.enabled=false",
            ])
            .stdin(Stdio::null())
            .stdout(File::create(&alerts)?)
            .stderr(File::create(folder.join("detect.log"))?)
            .spawn()?;
        let started = Self { child, alerts };
        eventually("an alert of a search for keys", LIMIT, async || {
            search_for_keys(folder)?;
            started.rule("Search for keys and passwords")
        })
        .await?;
        Ok(started)
    }

    fn all(&self) -> Result<Vec<Value>> {
        let text = std::fs::read_to_string(&self.alerts)?;
        // The last line may not be whole yet.
        let lines = text
            .split_inclusive('\n')
            .filter(|line| line.ends_with('\n'));
        lines.map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// An alert by a rule.
    fn rule(&self, name: &str) -> Result<Value> {
        let all = self.all()?;
        let found = all.iter().find(|alert| alert["rule"] == name).cloned();
        found.with_context(|| format!("no alert {name:?} among {}", all.len()))
    }
}

fn search_for_keys(folder: &Path) -> Result<()> {
    let search = [folder.as_os_str(), "-name".as_ref(), "id_rsa".as_ref()];
    Run::new("find").args(search).ok().map(drop)
}

impl Drop for Detection {
    fn drop(&mut self) {
        let _gone = kill(
            Pid::from_raw(self.child.id().cast_signed()),
            Signal::SIGTERM,
        );
        let _gone = self.child.wait();
    }
}

#[test]
fn what_a_pod_does_is_told_and_what_the_cluster_does_is_not() {
    testkit::isolated(async || {
        let folder = tempfile::tempdir()?;
        let detection = Detection::start(folder.path()).await?;
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let pods = pods(&cluster).await?;
        create(&pods, shell_pod("client", "sleep 1000")).await?;
        until(&pods, "client", "is ready", ready).await?;
        let token = "/var/run/secrets/kubernetes.io/serviceaccount/token";
        exec(&pods, "client", &["ls", "/"]).await?;
        let status = pods.get("client").await?.status.context("a status")?;
        let statuses = status.container_statuses.context("containers")?;
        let id = statuses[0].container_id.clone().context("an id")?;
        let id = id.rsplit('/').next().context("an id")?.to_owned();
        let id = id.get(..12).context("an id of 12 digits")?;
        let of_it = |alert: &Value| alert["output_fields"]["container.id"] == id;
        let noise: Vec<_> = detection.all()?.into_iter().filter(of_it).collect();
        ensure!(noise.is_empty(), "{noise:#?}");

        exec(&pods, "client", &["cat", token]).await?;
        let copy = "cp /bin/busybox /tmp/ls && /tmp/ls /";
        exec(&pods, "client", &["sh", "-c", copy]).await?;
        let alert = eventually("an alert of the token", LIMIT, async || {
            detection.rule("Token of a service account shown or copied")
        })
        .await?;
        ensure!(alert["priority"] == "Warning", "{alert:#}");
        let fields = &alert["output_fields"];
        ensure!(fields["fd.name"] == token, "{alert:#}");
        ensure!(
            fields["proc.cmdline"] == format!("cat {token}"),
            "{alert:#}"
        );
        let alert = eventually("an alert of a new program", LIMIT, async || {
            detection.rule("Program run that the image does not have")
        })
        .await?;
        ensure!(
            alert["output_fields"]["proc.exepath"] == "/tmp/ls",
            "{alert:#}"
        );
        let container = &alert["output_fields"]["container.id"];
        ensure!(
            container.as_str().is_some_and(|id| id.len() == 12),
            "{alert:#}"
        );
        Ok(())
    });
}

#[test]
fn a_recording_gives_the_same_alerts() {
    testkit::isolated(async || {
        let folder = tempfile::tempdir()?;
        let trace = folder.path().join("trace.scap");
        let mut recording = Command::new(Cluster::binary()?)
            .args(["detect", "record", "-z", "-r"])
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../../rules"))
            .arg(&trace)
            .stdin(Stdio::null())
            .spawn()?;
        // The processes of this host are in the file before anything that happens.
        eventually("the recording begins", LIMIT, async || {
            ensure!(std::fs::metadata(&trace)?.len() > 0, "the file is empty");
            Ok(())
        })
        .await?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        search_for_keys(folder.path())?;
        std::thread::sleep(std::time::Duration::from_secs(1));
        kill(Pid::from_raw(recording.id().cast_signed()), Signal::SIGTERM)?;
        ensure!(recording.wait()?.success(), "the recording failed");
        let replayed = Run::new(Cluster::binary()?)
            .args(["detect", "-U", "-o", "json_output=true", "-e"])
            .args([&trace])
            .ok()?;
        let found = replayed.contains("\"rule\":\"Search for keys and passwords\"");
        ensure!(found, "{replayed}");
        Ok(())
    });
}

#[test]
fn rule_files_are_checked_as_falco_checks_them() {
    testkit::isolated(async || {
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("broken.yaml");
        std::fs::write(
            &file,
            "- rule: a\n  desc: b\n  condition: proc.nmae = c\n  output: d\n  priority: INFO\n",
        )?;
        let check = || {
            Run::new(Cluster::binary()?)
                .args(["detect", "validate", "--json"])
                .args([&file])
                .output()
        };
        let told = check()?;
        ensure!(told.code == Some(1), "{told:?}");
        let json: Value = serde_json::from_str(&told.stdout)?;
        let error = &json["falco_load_results"][0]["errors"][0];
        ensure!(error["code"] == "LOAD_ERR_COMPILE_CONDITION", "{json:#}");
        std::fs::write(&file, "- macro: a\n  condition: proc.name = c\n")?;
        let told = check()?;
        ensure!(
            told.code == Some(0) && told.stdout.contains("LOAD_UNUSED_MACRO"),
            "{told:?}"
        );
        Ok(())
    });
}
