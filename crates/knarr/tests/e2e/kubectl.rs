//! What a person does with a real kubectl.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use anyhow::{Context, Result, ensure};
use testkit::{Cluster, Options, Run, eventually, skip};

use crate::support::{LIMIT, http_get};

pub(crate) fn kubectl_is_missing() -> bool {
    let missing = Run::new("kubectl")
        .args(["version", "--client"])
        .output()
        .is_err();
    if missing {
        skip("kubectl is not on the PATH; the client library's tests cover the same API");
    }
    missing
}

#[test]
fn a_deployment_from_apply_to_delete() {
    if kubectl_is_missing() {
        return;
    }
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let kubectl = |args: &[&str]| cluster.kubectl().args(args).ok();
        let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello");

        kubectl(&["apply", "-f", hello])?;
        kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])?;
        let pods = kubectl(&["get", "pods", "-l", "app=hello", "-o", "wide"])?;
        ensure!(pods.matches("1/1").count() == 3, "{pods}");
        ensure!(pods.starts_with("NAME"), "{pods}");

        service_answers(&cluster).await?;

        kubectl(&["scale", "deployment/hello", "--replicas=5"])?;
        kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])?;
        kubectl(&["scale", "deployment/hello", "--replicas=1"])?;
        kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])?;

        let set = kubectl(&["set", "env", "deployment/hello", "COLOUR=blue"])?;
        ensure!(set.contains("env updated"), "{set}");
        kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])?;
        let history = kubectl(&["rollout", "history", "deployment/hello"])?;
        ensure!(
            history
                .lines()
                .filter(|l| l.starts_with(['1', '2']))
                .count()
                == 2,
            "{history}"
        );
        kubectl(&["rollout", "undo", "deployment/hello"])?;
        kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])?;

        let again = kubectl(&["apply", "-f", hello])?;
        ensure!(again.contains("service/hello unchanged"), "{again}");
        let explained = kubectl(&["explain", "deployment.spec.replicas"])?;
        ensure!(explained.contains("Number of desired pods"), "{explained}");
        let refused = cluster
            .kubectl()
            .args(["create", "deployment", "Bad_Name", "--image=x"])
            .output()?;
        ensure!(
            !refused.success && refused.stderr.contains("metadata.name: Invalid value"),
            "{refused:?}"
        );

        kubectl(&["delete", "-f", hello, "--timeout=30s"])?;
        eventually("no pods", LIMIT, async || {
            let left = kubectl(&["get", "pods", "-o", "name"])?;
            ensure!(left.is_empty(), "{left}");
            Ok(())
        })
        .await
    });
}

async fn service_answers(cluster: &Cluster) -> Result<()> {
    let address = cluster
        .kubectl()
        .args([
            "get",
            "service",
            "hello",
            "-o",
            "jsonpath={.spec.clusterIP}",
        ])
        .ok()?;
    let mut names = std::collections::BTreeSet::new();
    eventually("an answer of every pod", LIMIT, async || {
        http_get(&format!("{address}:80"), "/").await
    })
    .await?;
    for _ in 0..60 {
        names.insert(http_get(&format!("{address}:80"), "/").await?);
    }
    ensure!(names.len() == 3, "three pods share the requests: {names:?}");
    Ok(())
}

#[test]
fn logs_exec_and_port_forward() {
    if kubectl_is_missing() {
        return;
    }
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        crate::support::import_busybox(&cluster)?;
        let kubectl = |args: &[&str]| cluster.kubectl().args(args).ok();
        let image = format!("--image={}", crate::support::BUSYBOX);
        kubectl(&[
            "run",
            "web",
            &image,
            "--command",
            "--",
            "sh",
            "-c",
            "echo ready to serve; mkdir /www; echo fine > /www/index.html; exec httpd -f -p 8080 -h /www",
        ])?;
        kubectl(&["wait", "--for=condition=Ready", "pod/web", "--timeout=30s"])?;

        eventually("the log", LIMIT, async || {
            let log = kubectl(&["logs", "web"])?;
            ensure!(log == "ready to serve\n", "{log}");
            Ok(())
        })
        .await?;
        let said = kubectl(&[
            "exec",
            "web",
            "--",
            "sh",
            "-c",
            "echo out; cat /www/index.html",
        ])?;
        ensure!(said == "out\nfine\n", "{said}");
        let failed = cluster
            .kubectl()
            .args(["exec", "web", "--", "sh", "-c", "exit 7"])
            .output()?;
        ensure!(failed.code == Some(7), "{failed:?}");
        ensure!(
            failed
                .stderr
                .contains("command terminated with exit code 7"),
            "{failed:?}"
        );
        let input = cluster.scratch().join("input");
        std::fs::write(&input, "over stdin\n")?;
        let echoed = cluster
            .kubectl()
            .args(["exec", "-i", "web", "--", "cat"])
            .stdin(&input)?
            .ok()?;
        ensure!(echoed == "over stdin\n", "{echoed}");

        port_forward(&cluster).await?;

        let described = kubectl(&["describe", "pod", "web"])?;
        for word in [
            "Successfully assigned default/web to node-1",
            "Started",
            "Ready",
        ] {
            ensure!(described.contains(word), "no {word:?} in:\n{described}");
        }
        let nodes = kubectl(&["get", "nodes"])?;
        ensure!(
            nodes.contains("node-1") && nodes.contains("Ready"),
            "{nodes}"
        );
        kubectl(&["auth", "can-i", "create", "deployments"])?;
        kubectl(&["delete", "pod", "web", "--timeout=40s"]).map(drop)
    });
}

async fn port_forward(cluster: &Cluster) -> Result<()> {
    let mut forward = cluster
        .kubectl()
        .args(["port-forward", "pod/web", "18080:8080"])
        .into_command()
        .stdout(Stdio::piped())
        .spawn()?;
    // Held to the end: kubectl writes on, and dies of a broken pipe.
    let mut stdout = BufReader::new(forward.stdout.take().context("stdout")?);
    let mut line = String::new();
    stdout.read_line(&mut line)?;
    let outcome = async {
        ensure!(
            line.contains("Forwarding from 127.0.0.1:18080 -> 8080"),
            "{line}"
        );
        for _ in 0..3 {
            let body = http_get("127.0.0.1:18080", "/index.html").await?;
            ensure!(body == "fine\n", "{body}");
        }
        Ok(())
    }
    .await;
    forward.kill()?;
    forward.wait()?;
    outcome
}

/// Apply on the server's side: create, share, conflict, force, and the way from an apply on the
/// client's side.
#[test]
fn an_apply_on_the_servers_side() {
    if kubectl_is_missing() {
        return;
    }
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let kubectl = |args: &[&str]| cluster.kubectl().args(args).ok();
        let folder = tempfile::tempdir()?;
        let file = folder.path().join("map.yaml");
        let manifest = file.to_str().context("a path of letters")?;
        let write = |data: &str| {
            let map = format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: m}}\ndata: {{{data}}}\n"
            );
            std::fs::write(&file, map)
        };
        let shown = || {
            let path =
                "jsonpath={range .metadata.managedFields[*]}{.manager} {.operation}{\"\\n\"}{end}";
            kubectl(&["get", "configmap", "m", "--show-managed-fields", "-o", path])
        };

        // From the client's side to the server's, and back.
        write("a: '1'")?;
        kubectl(&["apply", "-f", manifest])?;
        let owners = shown()?;
        ensure!(owners == "kubectl-client-side-apply Update\n", "{owners}");
        write("a: '2'")?;
        let said = kubectl(&["apply", "--server-side", "-f", manifest])?;
        ensure!(said == "configmap/m serverside-applied\n", "{said}");
        let owners = shown()?;
        ensure!(
            owners == "kubectl Apply\nkubectl-last-applied Apply\n",
            "{owners}"
        );
        let again = kubectl(&["apply", "--server-side", "-f", manifest])?;
        ensure!(again == said, "{again}");
        let back = kubectl(&["apply", "-f", manifest])?;
        ensure!(
            back == "configmap/m unchanged\n" || back == "configmap/m configured\n",
            "{back}"
        );

        // Somebody else owns it.
        kubectl(&[
            "patch",
            "configmap",
            "m",
            "--field-manager=other",
            "-p",
            r#"{"data":{"a":"3"}}"#,
        ])?;
        let refused = cluster
            .kubectl()
            .args(["apply", "--server-side", "-f", manifest])
            .output()?;
        ensure!(refused.code == Some(1), "{refused:?}");
        ensure!(
            refused.stderr.contains(
                "Apply failed with 1 conflict: conflict with \"other\" using v1: .data.a"
            ),
            "{refused:?}"
        );
        kubectl(&[
            "apply",
            "--server-side",
            "--force-conflicts",
            "-f",
            manifest,
        ])?;
        let value = kubectl(&["get", "configmap", "m", "-o", "jsonpath={.data.a}"])?;
        ensure!(value == "2", "{value}");
        let hidden = kubectl(&["get", "configmap", "m", "-o", "yaml"])?;
        ensure!(!hidden.contains("managedFields"), "{hidden}");

        // What it says no more goes; a difference is shown by a dry run.
        write("b: '1'")?;
        let diff = cluster
            .kubectl()
            .args(["diff", "--server-side", "-f", manifest])
            .output()?;
        ensure!(diff.code == Some(1), "{diff:?}");
        ensure!(
            diff.stdout.contains("-  a: \"2\"") && diff.stdout.contains("+  b: \"1\""),
            "{diff:?}"
        );
        kubectl(&["apply", "--server-side", "-f", manifest])?;
        let data = kubectl(&["get", "configmap", "m", "-o", "jsonpath={.data}"])?;
        ensure!(data == r#"{"b":"1"}"#, "{data}");

        // A new object, and one whose field nobody knows.
        let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello");
        kubectl(&["apply", "--server-side", "-f", hello])?;
        kubectl(&["rollout", "status", "deployment/hello", "--timeout=30s"])?;
        kubectl(&["scale", "deployment/hello", "--replicas=1"])?;
        let conflict = cluster
            .kubectl()
            .args(["apply", "--server-side", "-f", hello])
            .output()?;
        ensure!(
            conflict
                .stderr
                .contains("with subresource \"scale\" using apps/v1: .spec.replicas"),
            "{conflict:?}"
        );
        write("b: '1'}\nfoo: {bar: baz")?;
        let odd = cluster
            .kubectl()
            .args(["apply", "--server-side", "--validate=false", "-f", manifest])
            .output()?;
        ensure!(
            odd.stderr.contains(".foo: field not declared in schema"),
            "{odd:?}"
        );
        Ok(())
    });
}
