//! The rest of what people type to a real kubectl, verb by verb.

use anyhow::{Result, ensure};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use testkit::{Cluster, Options, Run, eventually};

use crate::kubectl::kubectl_is_missing;
use crate::support::{BUSYBOX, LIMIT, import_busybox, shell_pod};

/// A cluster with a pod `web` that answers, and a script that runs kubectl on it.
async fn with_web() -> Result<Cluster> {
    let cluster = Cluster::start(Options::default()).await?;
    import_busybox(&cluster)?;
    let manifest = cluster.scratch().join("web.json");
    let pod = shell_pod("web", "trap 'exit 0' TERM; while :; do sleep 0.1; done");
    std::fs::write(&manifest, pod.to_string())?;
    eventually("the service account", LIMIT, async || {
        cluster.kubectl().args(["get", "sa", "default"]).ok()
    })
    .await?;
    let manifest = manifest.display().to_string();
    cluster.kubectl().args(["apply", "-f", &manifest]).ok()?;
    Ok(cluster)
}

#[test]
fn pods_are_looked_into() {
    if kubectl_is_missing() {
        return;
    }
    testkit::isolated(async || {
        let cluster = with_web().await?;
        let kubectl = |args: &[&str]| cluster.kubectl().args(args).ok();
        let waited = kubectl(&[
            "wait",
            "pod/web",
            "--for=jsonpath={.status.phase}=Running",
            "--timeout=30s",
        ])?;
        ensure!(waited == "pod/web condition met\n", "{waited}");
        kubectl(&["wait", "pod/web", "--for=condition=Ready", "--timeout=30s"])?;

        // A container to look at the others with, in the process namespace of one of them.
        let debug = [
            "debug",
            "web",
            "--image",
            BUSYBOX,
            "--container",
            "look",
            "--target",
            "c",
            "--profile=general",
            "--",
            "sh",
            "-c",
            "echo looking; ps; sleep 1000",
        ];
        kubectl(&debug)?;
        eventually("what the debugger sees", LIMIT, async || {
            let said = kubectl(&["logs", "web", "-c", "look"])?;
            ensure!(
                said.contains("looking") && said.contains("trap 'exit 0' TERM"),
                "{said}"
            );
            Ok(())
        })
        .await?;
        // A copy of a pod with another command.
        kubectl(&[
            "debug",
            "web",
            "--copy-to",
            "copy",
            "--container",
            "c",
            "--",
            "sh",
            "-c",
            "echo copied",
        ])?;
        eventually("the copy", LIMIT, async || {
            ensure!(kubectl(&["logs", "copy"])? == "copied\n");
            Ok(())
        })
        .await?;

        let file = cluster.scratch().join("file");
        std::fs::write(&file, "carried")?;
        let file = file.display().to_string();
        kubectl(&["cp", &file, "web:/tmp/there"])?;
        ensure!(kubectl(&["exec", "web", "--", "cat", "/tmp/there"])? == "carried");
        let back = cluster.scratch().join("back");
        kubectl(&["cp", "web:/tmp/there", &back.display().to_string()])?;
        ensure!(std::fs::read_to_string(&back)? == "carried");

        kubectl(&[
            "run",
            "once",
            "--image",
            BUSYBOX,
            "--restart=Never",
            "--command",
            "--",
            "echo",
            "hi",
        ])?;
        kubectl(&[
            "wait",
            "pod/once",
            "--for=jsonpath={.status.phase}=Succeeded",
            "--timeout=30s",
        ])?;
        kubectl(&["expose", "pod", "web", "--port=80", "--target-port=8080"])?;
        kubectl(&[
            "drain",
            &cluster.node_name(),
            "--force",
            "--ignore-daemonsets",
            "--timeout=40s",
        ])?;
        ensure!(kubectl(&["get", "pods", "-o", "name"])?.is_empty());
        let node = kubectl(&["get", "nodes"])?;
        ensure!(node.contains("SchedulingDisabled"), "{node}");
        kubectl(&["uncordon", &cluster.node_name()])?;
        Ok(())
    });
}

#[test]
fn objects_are_edited() {
    if kubectl_is_missing() {
        return;
    }
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let kubectl = |args: &[&str]| cluster.kubectl().args(args).ok();
        kubectl(&["create", "configmap", "m", "--from-literal=colour=red"])?;
        let said = cluster
            .kubectl()
            .env("KUBE_EDITOR", "sed -i s/red/blue/")
            .args(["edit", "configmap", "m"])
            .ok()?;
        ensure!(said == "configmap/m edited\n", "{said}");
        let value = ["get", "configmap", "m", "-o", "jsonpath={.data}"];
        ensure!(kubectl(&value)? == "{\"colour\":\"blue\"}");
        for (kind, patch) in [
            ("merge", "{\"data\":{\"colour\":\"green\"}}"),
            (
                "json",
                "[{\"op\":\"replace\",\"path\":\"/data/colour\",\"value\":\"green\"}]",
            ),
            ("strategic", "{\"data\":{\"size\":\"1\"}}"),
        ] {
            kubectl(&["patch", "configmap", "m", "--type", kind, "-p", patch])?;
        }
        ensure!(kubectl(&value)? == "{\"colour\":\"green\",\"size\":\"1\"}");
        kubectl(&["label", "configmap", "m", "a=b"])?;
        kubectl(&["annotate", "configmap", "m", "c=d"])?;
        let refused = cluster
            .kubectl()
            .args(["label", "configmap", "m", "a=c"])
            .output()?;
        ensure!(
            !refused.success && refused.stderr.contains("already has a value"),
            "{refused:?}"
        );
        ensure!(kubectl(&["get", "cm", "-l", "a=b", "-o", "name"])? == "configmap/m\n");
        // What the present state would become.
        let dry = [
            "create",
            "configmap",
            "m",
            "--from-literal=colour=red",
            "--dry-run=client",
            "-o",
            "yaml",
        ];
        let manifest = cluster.scratch().join("m.yaml");
        std::fs::write(&manifest, kubectl(&dry)?)?;
        let manifest = manifest.display().to_string();
        let diff = cluster.kubectl().args(["diff", "-f", &manifest]).output()?;
        ensure!(
            diff.code == Some(1) && diff.stdout.contains("+  colour: red"),
            "{diff:?}"
        );
        kubectl(&["replace", "-f", &manifest])?;
        ensure!(kubectl(&value)? == "{\"colour\":\"red\"}");
        let none = cluster.kubectl().args(["diff", "-f", &manifest]).output()?;
        ensure!(none.code == Some(1), "labels were taken away: {none:?}");

        let resources = kubectl(&[
            "api-resources",
            "--verbs=list",
            "--namespaced",
            "-o",
            "name",
        ])?;
        for wanted in [
            "pods",
            "deployments.apps",
            "endpointslices.discovery.k8s.io",
        ] {
            ensure!(
                resources.lines().any(|l| l == wanted),
                "{wanted} in {resources}"
            );
        }
        ensure!(kubectl(&["api-versions"])?.contains("admissionregistration.k8s.io/v1\n"));
        let explained = kubectl(&["explain", "pod.spec.containers.ports", "--recursive"])?;
        ensure!(explained.contains("hostPort\t<integer>"), "{explained}");
        ensure!(kubectl(&["cluster-info"])?.contains("is running at"));
        kubectl(&["create", "namespace", "other"])?;
        kubectl(&["create", "quota", "q", "--hard=pods=1", "-n", "other"])?;
        kubectl(&["delete", "namespace", "other", "--timeout=30s"])?;
        Ok(())
    });
}

#[test]
fn people_get_rights() {
    if kubectl_is_missing() {
        return;
    }
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let kubectl = |args: &[&str]| cluster.kubectl().args(args).ok();
        eventually("the service account", LIMIT, async || {
            kubectl(&["create", "serviceaccount", "robot"])
        })
        .await?;
        let token = kubectl(&["create", "token", "robot", "--duration=10m"])?;
        let token = token.trim();
        // kubectl prefers a certificate to a token: a kubeconfig of its own.
        let config = cluster.scratch().join("robot.kubeconfig");
        let own = |args: &[&str]| {
            Run::new("kubectl")
                .env("KUBECONFIG", &config)
                .env("HOME", cluster.scratch())
                .args(args)
        };
        let whole = kubectl(&["config", "view", "--raw", "--minify", "-o", "json"])?;
        let mut whole: serde_json::Value = serde_json::from_str(&whole)?;
        let bearer = serde_json::json!({"token": token});
        whole["users"][0]["user"] = bearer;
        std::fs::write(&config, whole.to_string())?;
        let who = own(&[
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username}",
        ])
        .ok()?;
        ensure!(who == "system:serviceaccount:default:robot", "{who}");
        let refused = own(&["get", "pods"]).output()?;
        ensure!(refused.stderr.contains("Forbidden"), "{refused:?}");
        kubectl(&[
            "create",
            "role",
            "reader",
            "--verb=get,list",
            "--resource=pods",
        ])?;
        kubectl(&[
            "create",
            "rolebinding",
            "robot",
            "--role=reader",
            "--serviceaccount=default:robot",
        ])?;
        ensure!(own(&["auth", "can-i", "list", "pods"]).ok()? == "yes\n");
        let may_not = own(&["auth", "can-i", "delete", "pods"]).output()?;
        ensure!(
            may_not.code == Some(1) && may_not.stdout == "no\n",
            "{may_not:?}"
        );
        let list = own(&["auth", "can-i", "--list"]).ok()?;
        ensure!(list.contains("pods"), "{list}");
        own(&["get", "pods"]).ok()?;
        kubectl(&[
            "auth",
            "can-i",
            "list",
            "secrets",
            "--as=system:serviceaccount:default:robot",
        ])
        .unwrap_err();

        // A person asks for a certificate, an administrator approves, the controller signs.
        let key = rcgen::KeyPair::generate()?;
        let mut asked = rcgen::CertificateParams::default();
        asked.distinguished_name = rcgen::DistinguishedName::new();
        for (part, value) in [
            (rcgen::DnType::CommonName, "jane"),
            (rcgen::DnType::OrganizationName, "crew"),
        ] {
            asked.distinguished_name.push(part, value);
        }
        let asked = asked.serialize_request(&key)?.pem()?;
        let request = serde_json::json!({
            "apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
            "metadata": {"name": "jane"},
            "spec": {"request": STANDARD.encode(asked), "expirationSeconds": 3600,
                "signerName": "kubernetes.io/kube-apiserver-client", "usages": ["client auth"]},
        });
        let manifest = cluster.scratch().join("csr.json");
        std::fs::write(&manifest, request.to_string())?;
        kubectl(&["create", "-f", &manifest.display().to_string()])?;
        let pending = kubectl(&["get", "csr"])?;
        ensure!(pending.contains("Pending"), "{pending}");
        kubectl(&["certificate", "approve", "jane"])?;
        let certificate = eventually("the certificate", LIMIT, async || {
            let text = kubectl(&["get", "csr", "jane", "-o", "jsonpath={.status.certificate}"])?;
            ensure!(!text.is_empty());
            Ok(text)
        })
        .await?;
        whole["users"][0]["user"] = serde_json::json!({
            "client-certificate-data": certificate, "client-key-data": STANDARD.encode(key.serialize_pem())});
        std::fs::write(&config, whole.to_string())?;
        let who = own(&[
            "auth",
            "whoami",
            "-o",
            "jsonpath={.status.userInfo.username} {.status.userInfo.groups}",
        ])
        .ok()?;
        ensure!(who == "jane [\"crew\",\"system:authenticated\"]", "{who}");
        Ok(())
    });
}
