//! Pod security standards by the labels of namespaces, by every way to write a pod.

use apiserver::admission::Admission;
use apiserver::admission::pod_security::PodSecurity;
use http::{Method, Request};
use serde_json::{Value, json};

use super::warnings;
use crate::harness::{Cluster, answer, pod};

const PODS: &str = "/api/v1/namespaces/team/pods";

async fn cluster(labels: Value) -> Cluster {
    within(Cluster::start().await, labels).await
}

async fn within(c: Cluster, labels: Value) -> Cluster {
    let namespace = json!({"metadata": {"name": "team", "labels": labels}});
    c.post("/api/v1/namespaces", &namespace).await.ok();
    let account = json!({"metadata": {"name": "default"}});
    c.post("/api/v1/namespaces/team/serviceaccounts", &account)
        .await
        .ok();
    c
}

fn privileged(name: &str) -> Value {
    let mut pod = pod(name);
    pod["spec"]["containers"][0]["securityContext"] = json!({"privileged": true});
    pod
}

const PRIVILEGED: &str = r#"PodSecurity "baseline:latest": privileged (container "main" must not set securityContext.privileged=true)"#;

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_refused_and_what_makes_them_is_warned_of() {
    let c = cluster(json!({"pod-security.kubernetes.io/enforce": "restricted"})).await;
    assert_eq!(
        c.post(PODS, &pod("p")).await.refused(403),
        r#"pods "p" is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation != false (container "main" must set securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (container "main" must set securityContext.capabilities.drop=["ALL"]), runAsNonRoot != true (pod or container "main" must set securityContext.runAsNonRoot=true), seccompProfile (pod or container "main" must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")"#
    );
    let mut good = pod("good");
    good["spec"]["securityContext"] =
        json!({"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}});
    good["spec"]["containers"][0]["securityContext"] =
        json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}});
    let made = c.post(PODS, &good).await;
    assert_eq!(warnings(&made), Vec::<String>::new());
    made.ok();
    // By server dry run and in YAML as well.
    c.post(&format!("{PODS}?dryRun=All"), &pod("p"))
        .await
        .refused(403);
    let yaml =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: a, image: i}]}";
    c.send(Method::POST, PODS, "application/yaml", yaml.into())
        .await
        .refused(403);

    let template = json!({"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]});
    let deployment = json!({"metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template}});
    let made = c
        .post("/apis/apps/v1/namespaces/team/deployments", &deployment)
        .await;
    let warned = warnings(&made);
    assert!(
        warned[0].starts_with(r#"would violate PodSecurity "restricted:latest": allowPrivilege"#),
        "{warned:?}"
    );
    made.ok();
    let cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "* * * * *", "jobTemplate":
        {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": pod("x")["spec"]["containers"]}}}}}});
    let made = c
        .post("/apis/batch/v1/namespaces/team/cronjobs", &cron)
        .await;
    assert_eq!(warnings(&made).len(), 1);
    made.ok();
}

/// An allowed pod is not made worse afterwards.
#[tokio::test(flavor = "multi_thread")]
async fn changes_of_pods_are_looked_at() {
    let c = cluster(json!({})).await;
    let made = c.post(PODS, &privileged("p")).await;
    assert_eq!(warnings(&made), [format!("would violate {PRIVILEGED}")]);
    made.ok();
    c.post(PODS, &pod("q")).await.ok();
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    c.patch("/api/v1/namespaces/team", "merge", &labels)
        .await
        .ok();
    let debug = |name: &str, context: Value| {
        let container = json!({"name": "debug", "image": "i", "securityContext": context});
        let path = format!("{PODS}/{name}/ephemeralcontainers");
        (path, json!({"spec": {"ephemeralContainers": [container]}}))
    };
    let (path, patch) = debug("q", json!({"privileged": true}));
    let refused = c.patch(&path, "strategic-merge", &patch).await.refused(403);
    assert!(
        refused.contains(r#"privileged (container "debug""#),
        "{refused}"
    );
    let (path, patch) = debug("q", json!({}));
    c.patch(&path, "strategic-merge", &patch).await.ok();
    // Labels of a pod that is there may change, its image may not.
    let labels = json!({"metadata": {"labels": {"x": "y"}}});
    c.patch(&format!("{PODS}/p"), "merge", &labels).await.ok();
    let image = json!({"spec": {"containers": [{"name": "main", "image": "other"}]}});
    let refused = c
        .patch(&format!("{PODS}/p"), "strategic-merge", &image)
        .await
        .refused(403);
    assert_eq!(
        refused,
        format!("pods \"p\" is forbidden: violates {PRIVILEGED}")
    );
    // What runs already goes on: its status is no concern of the policy.
    let status = json!({"status": {"phase": "Running"}});
    c.patch(&format!("{PODS}/p/status"), "merge", &status)
        .await
        .ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn labels_of_namespaces_are_checked() {
    let c = cluster(json!({"team": "x"})).await;
    let label = |key: &str, value: &str| {
        let key = format!("pod-security.kubernetes.io/{key}");
        json!({"metadata": {"name": "other", "labels": {key: value}}})
    };
    assert_eq!(
        c.post("/api/v1/namespaces", &label("enforce", "strict"))
            .await
            .refused(422),
        r#"Namespace "other" is invalid: metadata.labels[pod-security.kubernetes.io/enforce]: Invalid value: "strict": must be one of privileged, baseline, restricted"#
    );
    let mut patch = label("warn-version", "1.30");
    patch["metadata"].as_object_mut().unwrap().remove("name");
    let refused = c
        .patch("/api/v1/namespaces/team", "merge", &patch)
        .await
        .refused(422);
    assert!(
        refused.ends_with(r#""1.30": must be "latest" or "v1.x""#),
        "{refused}"
    );

    for name in ["b", "a", "c"] {
        c.post(PODS, &privileged(name)).await.ok();
    }
    let mut host = privileged("h");
    host["spec"]["hostPID"] = json!(true);
    c.post(PODS, &host).await.ok();
    c.post(PODS, &pod("fine")).await.ok();
    let enforce =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
    // The dry run tells what the change would do.
    for path in [
        "/api/v1/namespaces/team?dryRun=All",
        "/api/v1/namespaces/team",
    ] {
        let changed = c.patch(path, "merge", &enforce).await;
        assert_eq!(
            warnings(&changed),
            [
                r#"existing pods in namespace "team" violate the new PodSecurity enforce level "baseline:latest""#,
                "a (and 2 other pods): privileged",
                "h: host namespaces, privileged",
            ]
        );
        changed.ok();
    }
    let again = json!({"metadata": {"labels": {"x": "y"}}});
    let changed = c.patch("/api/v1/namespaces/team", "merge", &again).await;
    assert_eq!(warnings(&changed), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cluster_has_defaults_and_exemptions() {
    let mut pod_security = PodSecurity {
        exempt_users: vec!["root".to_owned()],
        exempt_namespaces: vec!["free".to_owned()],
        exempt_runtime_classes: vec!["vm".to_owned()],
        ..PodSecurity::default()
    };
    pod_security.defaults.enforce = "baseline".parse().unwrap();
    let c = Cluster::start_admitting(Admission {
        pod_security,
        ..Admission::default()
    })
    .await;
    let c = within(c, json!({})).await;
    assert_eq!(
        c.post(PODS, &privileged("p")).await.refused(403),
        format!("pods \"p\" is forbidden: violates {PRIVILEGED}")
    );
    // A namespace says otherwise for itself.
    let labels =
        json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "privileged"}}});
    c.patch("/api/v1/namespaces/team", "merge", &labels)
        .await
        .ok();
    c.post(PODS, &privileged("p")).await.ok();
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": null}}});
    c.patch("/api/v1/namespaces/team", "merge", &labels)
        .await
        .ok();

    let mut root = crate::harness::master();
    root.name = "root".to_owned();
    let request = Request::post(PODS)
        .extension(root)
        .header("content-type", "application/json")
        .body(apiserver::full_body(privileged("roots").to_string()));
    let made = answer(c.raw(request.unwrap()).await).await;
    assert_eq!(warnings(&made), Vec::<String>::new());
    made.ok();

    let class = json!({"metadata": {"name": "vm"}, "handler": "vm"});
    c.post("/apis/node.k8s.io/v1/runtimeclasses", &class)
        .await
        .ok();
    let mut in_vm = privileged("in-vm");
    in_vm["spec"]["runtimeClassName"] = json!("vm");
    c.post(PODS, &in_vm).await.ok();

    let free = json!({"metadata": {"name": "free",
        "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    let made = c.post("/api/v1/namespaces", &free).await;
    assert_eq!(
        warnings(&made),
        [
            r#"namespace "free" is exempt from Pod Security, and the policy (enforce=restricted:latest) will be ignored"#
        ]
    );
    let account = json!({"metadata": {"name": "default"}});
    c.post("/api/v1/namespaces/free/serviceaccounts", &account)
        .await
        .ok();
    c.post("/api/v1/namespaces/free/pods", &privileged("p"))
        .await
        .ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn evaluations_are_counted() {
    let c = cluster(json!({
        "pod-security.kubernetes.io/enforce": "baseline",
        "pod-security.kubernetes.io/warn": "restricted",
        "pod-security.kubernetes.io/warn-version": "v1.25",
        "pod-security.kubernetes.io/audit": "restricted",
        "pod-security.kubernetes.io/audit-version": "v1.99",
    }))
    .await;
    c.post(PODS, &pod("p")).await.ok();
    c.post(PODS, &privileged("q")).await.refused(403);
    let template = json!({"metadata": {"name": "t"}, "template":
        {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}});
    let path = "/api/v1/namespaces/team/podtemplates";
    c.post(path, &template).await.ok();
    c.namespace("default").await;
    c.post("/api/v1/namespaces/default/pods", &pod("p"))
        .await
        .ok();
    let metrics = c.get("/metrics").await.text;
    for (decision, mode, namespace, level, version, resource, count) in [
        ("allow", "enforce", "", "baseline", "latest", "pod", 1),
        ("deny", "enforce", "", "baseline", "latest", "pod", 1),
        ("deny", "warn", "", "restricted", "v1.25", "pod", 1),
        ("deny", "audit", "", "restricted", "future", "pod", 2),
        ("deny", "warn", "", "restricted", "v1.25", "controller", 1),
        (
            "allow",
            "enforce",
            "default",
            "privileged",
            "latest",
            "pod",
            1,
        ),
    ] {
        let line = format!(
            "pod_security_evaluations_total{{decision=\"{decision}\",mode=\"{mode}\",ocp_namespace=\"{namespace}\",policy_level=\"{level}\",policy_version=\"{version}\",request_operation=\"create\",resource=\"{resource}\",subresource=\"\"}} {count}"
        );
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    }
}
