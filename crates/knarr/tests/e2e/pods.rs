//! What pods see and what becomes of them.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::api::{DeleteParams, LogParams};
use serde_json::json;
use testkit::{Access, Cluster, Options, Registry, eventually};

use crate::support::{
    LIMIT, create, events, exec, http_get, import_busybox, nothing_left, phase, pods, ready,
    shell_pod, until,
};

fn container(pod: &Pod) -> Result<&ContainerStatus> {
    pod.status
        .as_ref()
        .and_then(|status| status.container_statuses.as_ref()?.first())
        .context("a container status")
}

#[test]
fn names_and_services_from_inside() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let hello = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/hello");
        cluster.knarr()?.args(["apply", "-f", hello]).ok()?;
        cluster
            .knarr()?
            .args([
                "wait",
                "--for=condition=Available",
                "deployment/hello",
                "--timeout=30s",
            ])
            .ok()?;
        let pods = pods(&cluster).await?;
        create(&pods, shell_pod("client", "sleep 1000")).await?;
        create(&pods, hello_pod("asker")).await?;
        until(&pods, "client", "is ready", ready).await?;
        until(&pods, "asker", "is ready", ready).await?;

        for name in ["hello", "hello.default", "hello.default.svc.cluster.local"] {
            let url = format!("http://{name}/");
            let body = eventually("an answer", LIMIT, async || {
                exec(&pods, "asker", &["/knarr", "hello", "--ask", &url]).await
            })
            .await?;
            ensure!(body.starts_with("Hello from hello-"), "{name}: {body}");
        }
        let looked_up = exec(
            &pods,
            "client",
            &["nslookup", "kubernetes.default.svc.cluster.local"],
        )
        .await?;
        ensure!(looked_up.contains("10.43.0.1"), "{looked_up}");
        let resolv = exec(&pods, "client", &["cat", "/etc/resolv.conf"]).await?;
        ensure!(
            resolv.contains("search default.svc.cluster.local svc.cluster.local cluster.local"),
            "{resolv}"
        );
        ensure!(resolv.contains("ndots:5"), "{resolv}");

        let token = exec(
            &pods,
            "client",
            &["cat", "/var/run/secrets/kubernetes.io/serviceaccount/token"],
        )
        .await?;
        ensure!(token.split('.').count() == 3, "a JWT");
        let missing = exec(
            &pods,
            "client",
            &["nslookup", "nothing.default.svc.cluster.local"],
        )
        .await;
        ensure!(
            missing.is_err(),
            "a name that is not there is not found: {missing:?}"
        );
        Ok(())
    });
}

/// A pod of the image that knarr brings along.
fn hello_pod(name: &str) -> serde_json::Value {
    json!({
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{"name": "c",
            "image": "knarr.local/hello:latest", "imagePullPolicy": "IfNotPresent"}]},
    })
}

#[test]
fn ends_restarts_and_their_words() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let pods = pods(&cluster).await?;

        create(&pods, shell_pod("good", "echo done")).await?;
        create(&pods, shell_pod("bad", "echo oops >&2; exit 3")).await?;
        let mut again = shell_pod("again", "echo try; exit 1");
        again["spec"]["restartPolicy"] = json!("Always");
        create(&pods, again).await?;
        let mut hungry = shell_pod("hungry", "x=a; while true; do x=$x$x; done");
        hungry["spec"]["containers"][0]["resources"] = json!({"limits": {"memory": "32Mi"}});
        create(&pods, hungry).await?;
        let mut nowhere = shell_pod("nowhere", "true");
        nowhere["spec"]["containers"][0]["image"] = json!("127.0.0.1:1/nothing:1");
        create(&pods, nowhere).await?;
        let mut big = shell_pod("big", "true");
        big["spec"]["containers"][0]["resources"] = json!({"requests": {"cpu": "1000"}});
        create(&pods, big).await?;

        until(&pods, "good", "succeeds", |pod| phase(pod) == "Succeeded").await?;
        let log = pods.logs("good", &LogParams::default()).await?;
        ensure!(log == "done\n", "{log}");

        let bad = until(&pods, "bad", "fails", |pod| phase(pod) == "Failed").await?;
        let end = container(&bad)?
            .state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .context("an end")?;
        ensure!(
            end.exit_code == 3 && end.reason.as_deref() == Some("Error"),
            "{end:?}"
        );

        until(&pods, "again", "is restarted", |pod| {
            container(pod).is_ok_and(|c| {
                c.restart_count >= 1
                    && c.state
                        .as_ref()
                        .and_then(|s| s.waiting.as_ref()?.reason.as_deref())
                        == Some("CrashLoopBackOff")
            })
        })
        .await?;
        let previous = LogParams {
            previous: true,
            ..LogParams::default()
        };
        ensure!(pods.logs("again", &previous).await? == "try\n");

        let hungry = until(&pods, "hungry", "is killed", |pod| phase(pod) == "Failed").await?;
        let end = container(&hungry)?
            .state
            .as_ref()
            .and_then(|s| s.terminated.as_ref())
            .context("an end")?;
        ensure!(end.reason.as_deref() == Some("OOMKilled"), "{end:?}");

        until(&pods, "nowhere", "waits for its image", |pod| {
            container(pod).is_ok_and(|c| {
                let waiting = c.state.as_ref().and_then(|s| s.waiting.as_ref());
                waiting
                    .and_then(|w| w.reason.as_deref())
                    .is_some_and(|reason| reason == "ErrImagePull" || reason == "ImagePullBackOff")
            })
        })
        .await?;
        eventually("the events", LIMIT, async || {
            let of = events(&cluster, "nowhere").await?;
            ensure!(
                of.iter()
                    .any(|e| e.starts_with("Failed: Failed to pull image")),
                "{of:?}"
            );
            let of = events(&cluster, "big").await?;
            ensure!(
                of.iter()
                    .any(|e| e.contains("0/1 nodes are available: 1 Insufficient cpu.")),
                "{of:?}"
            );
            let of = events(&cluster, "again").await?;
            ensure!(
                of.iter()
                    .any(|e| e.starts_with("BackOff: Back-off restarting failed container")),
                "{of:?}"
            );
            let of = events(&cluster, "hungry").await?;
            ensure!(
                of.contains(
                    &"OOMKilling: Memory cgroup out of memory: Killed process in container c; \
                      its memory limit is 32Mi"
                        .to_owned()
                ),
                "{of:?}"
            );
            let of = events(&cluster, "bad").await?;
            ensure!(!of.iter().any(|e| e.starts_with("OOM")), "{of:?}");
            Ok(())
        })
        .await
    });
}

#[test]
fn a_pod_ends_gracefully() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let pods = pods(&cluster).await?;
        let book = cluster.scratch().join("book");
        std::fs::create_dir(&book)?;
        let mut pod = shell_pod(
            "polite",
            "trap 'echo term >> /book/log; exit 0' TERM; while true; do sleep 0.1; done",
        );
        pod["spec"]["terminationGracePeriodSeconds"] = json!(20);
        pod["spec"]["containers"][0]["lifecycle"] =
            json!({"preStop": {"exec": {"command": ["sh", "-c", "echo prestop >> /book/log"]}}});
        pod["spec"]["containers"][0]["volumeMounts"] =
            json!([{"name": "book", "mountPath": "/book"}]);
        pod["spec"]["volumes"] =
            json!([{"name": "book", "hostPath": {"path": book, "type": "Directory"}}]);
        create(&pods, pod).await?;
        until(&pods, "polite", "is ready", ready).await?;
        let uid = pods.get("polite").await?.metadata.uid.context("a uid")?;

        pods.delete("polite", &DeleteParams::default()).await?;
        eventually("the end", LIMIT, async || {
            ensure!(pods.get_opt("polite").await?.is_none());
            Ok(())
        })
        .await?;
        let log = std::fs::read_to_string(book.join("log"))?;
        ensure!(log == "prestop\nterm\n", "{log}");
        nothing_left(&uid)
    });
}

#[test]
fn safe_by_default() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        import_busybox(&cluster)?;
        let pods = pods(&cluster).await?;
        create(&pods, shell_pod("plain", "sleep 1000")).await?;
        let mut strict = shell_pod("strict", "sleep 1000");
        strict["spec"]["containers"][0]["securityContext"] = json!({
            "runAsUser": 65534, "runAsNonRoot": true, "readOnlyRootFilesystem": true,
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
        });
        create(&pods, strict).await?;
        until(&pods, "plain", "is ready", ready).await?;
        until(&pods, "strict", "is ready", ready).await?;

        let status = exec(&pods, "plain", &["cat", "/proc/1/status"]).await?;
        ensure!(status.contains("Seccomp:\t2"), "{status}");
        ensure!(
            status.contains("CapEff:\t00000000a80425fb"),
            "the CRI's default set: {status}"
        );
        let status = exec(&pods, "strict", &["cat", "/proc/self/status"]).await?;
        for line in [
            "Seccomp:\t2",
            "NoNewPrivs:\t1",
            "CapBnd:\t0000000000000000",
            "Uid:\t65534",
        ] {
            ensure!(status.contains(line), "no {line:?} in {status}");
        }
        ensure!(
            exec(&pods, "strict", &["touch", "/x"]).await.is_err(),
            "the root is read-only"
        );
        let sysrq = exec(
            &pods,
            "plain",
            &["sh", "-c", "echo h > /proc/sysrq-trigger"],
        )
        .await;
        ensure!(sysrq.is_err(), "masked or read-only: {sysrq:?}");
        Ok(())
    });
}

#[test]
fn the_guestbook_from_a_real_registry() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let registry = Registry::start(cluster.scratch(), 5000, Access::Open).await?;
        let name = format!("{}/busybox:1", registry.host());
        let archive = testkit::busybox_archive(cluster.scratch(), &name)?;
        cluster
            .knarr()?
            .args(["image", "import"])
            .args([archive])
            .ok()?;
        cluster.knarr()?.args(["image", "push", &name]).ok()?;
        cluster.knarr()?.args(["image", "rm", &name]).ok()?;

        let guestbook = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/guestbook");
        cluster.knarr()?.args(["apply", "-f", guestbook]).ok()?;
        cluster
            .knarr()?
            .args([
                "wait",
                "--for=condition=Available",
                "deployment/guestbook",
                "--timeout=60s",
            ])
            .ok()?;
        let page = eventually("the page over the node's port", LIMIT, async || {
            http_get("127.0.0.1:30080", "/index.html").await
        })
        .await?;
        ensure!(
            page == "The guestbook of the knarr\nsigned by the crew\n",
            "{page}"
        );
        let visits = eventually("a visit", LIMIT, async || {
            http_get("127.0.0.1:30080", "/visits").await
        })
        .await?;
        ensure!(visits.contains("was here"), "{visits}");
        Ok(())
    });
}

#[test]
fn host_ports_and_the_host_network() {
    testkit::isolated(async || {
        let cluster = Cluster::start(Options::default()).await?;
        let pods = pods(&cluster).await?;
        let hello = |name: &str, port: u16| {
            let mut pod = hello_pod(name);
            pod["spec"]["containers"][0]["ports"] =
                json!([{"containerPort": 8080, "hostPort": port}]);
            pod
        };
        create(&pods, hello("ported", 18081)).await?;
        let mut hosted = hello("hosted", 8080);
        hosted["spec"]["hostNetwork"] = json!(true);
        create(&pods, hosted).await?;
        until(&pods, "ported", "is ready", ready).await?;
        let hosted = until(&pods, "hosted", "is ready", ready).await?;
        let status = hosted.status.context("a status")?;
        ensure!(status.pod_ip == status.host_ip, "{status:?}");
        for address in [
            "127.0.0.1:8080".to_owned(),
            format!("{}:18081", status.host_ip.unwrap_or_default()),
        ] {
            let body =
                eventually("an answer", LIMIT, async || http_get(&address, "/").await).await?;
            ensure!(body.starts_with("Hello from"), "{address}: {body}");
        }
        let conflict = {
            let mut pod = hello("late", 18081);
            pod["spec"]["nodeName"] = json!("node-1");
            create(&pods, pod).await?;
            until(&pods, "late", "is refused", |pod| phase(pod) == "Failed").await?
        };
        ensure!(conflict.status.and_then(|s| s.reason).is_some());
        Ok(())
    });
}
