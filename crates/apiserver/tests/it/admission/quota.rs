//! Quotas are kept whatever comes at once, through whichever server. The test stands in for the
//! controller, which fills in the status.

use apiserver::admission::Admission;
use apiserver::admission::quota::LimitedResource;
use futures::future::join_all;
use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, pod};
use crate::servers::pair;

const NAMESPACE: &str = "/api/v1/namespaces/default";

/// A quota, and that nothing of it is used.
async fn limit(c: &Cluster, name: &str, spec: Value) {
    let quotas = format!("{NAMESPACE}/resourcequotas");
    let quota = json!({"metadata": {"name": name}, "spec": spec});
    c.post(&quotas, &quota).await.ok();
    let hard = spec["hard"].as_object().unwrap();
    let used: Value = hard.keys().map(|name| (name.clone(), "0")).collect();
    let status = json!({"status": {"hard": hard, "used": used}});
    let path = format!("{quotas}/{name}/status");
    c.patch(&path, "merge", &status).await.ok();
}

async fn used(c: &Cluster, name: &str) -> Value {
    let path = format!("{NAMESPACE}/resourcequotas/{name}");
    c.get(&path).await.ok()["status"]["used"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_used_is_charged_and_what_is_not_there_refused() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    limit(
        &c,
        "objects",
        json!({"hard": {"configmaps": "1", "count/deployments.apps": "0", "services": "3",
        "services.nodeports": "1", "requests.storage": "1Gi", "resourcequotas": "2"}}),
    )
    .await;
    let maps = format!("{NAMESPACE}/configmaps");
    c.post(&format!("{maps}?dryRun=All"), &config_map("a", json!({})))
        .await
        .ok();
    c.post(&maps, &config_map("a", json!({}))).await.ok();
    for path in [maps.clone(), format!("{maps}?dryRun=All")] {
        assert_eq!(
            c.post(&path, &config_map("b", json!({})))
                .await
                .refused(403),
            r#"configmaps "b" is forbidden: exceeded quota: objects, requested: configmaps=1, used: configmaps=1, limited: configmaps=1"#
        );
    }
    // A write that fails for another reason is not charged.
    c.post(&maps, &config_map("a", json!({})))
        .await
        .refused(409);
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}}});
    assert_eq!(
        c.post("/apis/apps/v1/namespaces/default/deployments", &deployment)
            .await
            .refused(403),
        r#"deployments.apps "d" is forbidden: exceeded quota: objects, requested: count/deployments.apps=1, used: count/deployments.apps=0, limited: count/deployments.apps=0"#
    );
    let services = format!("{NAMESPACE}/services");
    let service = |ports: Value, kind: &str| json!({"metadata": {"name": "s"}, "spec": {"type": kind, "ports": ports}});
    let two = json!([{"name": "a", "port": 1}, {"name": "b", "port": 2}]);
    assert!(
        c.post(&services, &service(two, "NodePort"))
            .await
            .refused(403)
            .contains("requested: services.nodeports=2, used: services.nodeports=0")
    );
    c.post(&services, &service(json!([{"port": 1}]), "ClusterIP"))
        .await
        .ok();
    // A change is charged for what it adds.
    let kind = json!({"spec": {"type": "NodePort"}});
    c.patch(&format!("{services}/s"), "merge", &kind).await.ok();
    assert_eq!(
        used(&c, "objects").await,
        json!({"configmaps": "1", "count/deployments.apps": "0", "services": "1",
            "services.nodeports": "1", "requests.storage": "0", "resourcequotas": "0"})
    );
    let claim = json!({"metadata": {"name": "c"}, "spec": {"accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "2Gi"}}}});
    assert!(
        c.post(&format!("{NAMESPACE}/persistentvolumeclaims"), &claim)
            .await
            .refused(403)
            .ends_with("requested: requests.storage=2Gi, used: requests.storage=0, limited: requests.storage=1Gi")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_are_charged_to_the_quotas_that_they_are_in() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let pods = format!("{NAMESPACE}/pods");
    let ask = |name: &str, resources: Value| {
        let mut pod = pod(name);
        pod["spec"]["containers"][0]["resources"] = resources;
        pod
    };
    limit(
        &c,
        "best",
        json!({"hard": {"pods": "1"}, "scopes": ["BestEffort"]}),
    )
    .await;
    c.post(&pods, &pod("a")).await.ok();
    assert_eq!(
        c.post(&pods, &pod("b")).await.refused(403),
        r#"pods "b" is forbidden: exceeded quota: best, requested: pods=1, used: pods=1, limited: pods=1"#
    );
    limit(
        &c,
        "all",
        json!({"hard": {"pods": "10", "limits.cpu": "1", "requests.memory": "1Gi",
        "requests.example.com/gpu": "1"}}),
    )
    .await;
    c.delete(&format!("{pods}/a")).await.ok();
    assert_eq!(
        c.post(
            &pods,
            &ask("b", json!({"limits": {"example.com/gpu": "1"}}))
        )
        .await
        .refused(403),
        r#"pods "b" is forbidden: failed quota: all: must specify limits.cpu for: main; requests.memory for: main"#
    );
    let resources = json!({"limits": {"cpu": "600m", "memory": "512Mi", "example.com/gpu": "1"}});
    c.post(&pods, &ask("b", resources.clone())).await.ok();
    assert_eq!(
        used(&c, "all").await,
        json!({"pods": "1", "limits.cpu": "600m", "requests.memory": "512Mi", "requests.example.com/gpu": "1"})
    );
    assert_eq!(used(&c, "best").await, json!({"pods": "1"}));
    assert_eq!(
        c.post(&pods, &ask("c", resources)).await.refused(403),
        r#"pods "c" is forbidden: exceeded quota: all, requested: limits.cpu=600m,requests.example.com/gpu=1, used: limits.cpu=600m,requests.example.com/gpu=1, limited: limits.cpu=1,requests.example.com/gpu=1"#
    );
    // A pod that is there grows only as far as there is room.
    let resize = |cpu: &str| json!({"spec": {"containers": [{"name": "main", "resources": {"limits": {"cpu": cpu}}}]}});
    let path = format!("{pods}/b/resize");
    assert!(
        c.patch(&path, "strategic-merge", &resize("1100m"))
            .await
            .refused(403)
            .contains("exceeded quota: all, requested: limits.cpu=500m, used: limits.cpu=600m")
    );
    c.patch(&path, "strategic-merge", &resize("1")).await.ok();
    assert_eq!(used(&c, "all").await["limits.cpu"], "1");
}

/// Two servers, each asked by many at once, two quotas: what is granted and what is charged is the
/// same, and as much as there is.
#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_never_exceeded() {
    let (a, b) = pair().await;
    limit(&a, "one", json!({"hard": {"configmaps": "25"}})).await;
    limit(
        &a,
        "two",
        json!({"hard": {"configmaps": "20", "secrets": "7"}}),
    )
    .await;
    // The other server has seen them.
    used(&b, "two").await;
    let servers = [&a, &b];
    let answers = join_all((0..60).map(|i| async move {
        let (path, object) = if i % 3 == 2 {
            ("secrets", json!({"metadata": {"name": format!("x{i}")}}))
        } else {
            ("configmaps", config_map(&format!("x{i}"), json!({})))
        };
        let answer = servers[i % 2]
            .post(&format!("{NAMESPACE}/{path}"), &object)
            .await;
        if answer.status != 201 {
            let text = answer.text.clone();
            let refused = answer.refused(403);
            assert!(refused.contains("exceeded quota: two"), "{text}");
            return None;
        }
        Some(path)
    }))
    .await;
    let made = |path: &str| {
        answers
            .iter()
            .filter(|answer| **answer == Some(path))
            .count()
    };
    assert_eq!((made("configmaps"), made("secrets")), (20, 7));
    for c in servers {
        assert_eq!(used(c, "one").await, json!({"configmaps": "20"}));
        assert_eq!(
            used(c, "two").await,
            json!({"configmaps": "20", "secrets": "7"})
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_limited_needs_a_quota() {
    let critical = json!({"scopeName": "PriorityClass", "operator": "In", "values": ["critical"]});
    let c = Cluster::start_admitting(Admission {
        limited_resources: vec![LimitedResource {
            plural: "pods".to_owned(),
            match_scopes: vec![api::quota::Scope::from_object(&critical)],
            ..LimitedResource::default()
        }],
        ..Admission::default()
    })
    .await;
    c.namespace("default").await;
    let class = json!({"metadata": {"name": "critical"}, "value": 7});
    c.post("/apis/scheduling.k8s.io/v1/priorityclasses", &class)
        .await
        .ok();
    let pods = format!("{NAMESPACE}/pods");
    c.post(&pods, &pod("plain")).await.ok();
    let mut high = pod("high");
    high["spec"]["priorityClassName"] = json!("critical");
    assert_eq!(
        c.post(&pods, &high).await.refused(403),
        r#"pods "high" is forbidden: insufficient quota to match these scopes: [{PriorityClass In [critical]}]"#
    );
    limit(
        &c,
        "q",
        json!({"hard": {"pods": "1"}, "scopeSelector": {"matchExpressions": [critical]}}),
    )
    .await;
    c.post(&pods, &high).await.ok();
    assert_eq!(used(&c, "q").await, json!({"pods": "1"}));
}
