//! What is special about single kinds.

use http::Method;
use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, pod};

const PODS: &str = "/api/v1/namespaces/default/pods";

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_is_made_bound_and_deleted_gracefully() {
    let c = Cluster::start().await;
    assert!(
        c.post(PODS, &pod("early"))
            .await
            .refused(403)
            .contains("serviceaccount \"default\" not found")
    );
    c.namespace("default").await;
    let made = c.post(PODS, &pod("p")).await.ok();
    assert_eq!(made["status"]["phase"], "Pending");
    assert_eq!(made["status"]["qosClass"], "BestEffort");
    let spec = &made["spec"];
    assert_eq!(spec["serviceAccountName"], "default");
    assert_eq!(spec["priority"], 0);
    assert_eq!(spec["preemptionPolicy"], "PreemptLowerPriority");
    let volume = spec["volumes"][0]["name"].as_str().unwrap();
    assert!(volume.starts_with("kube-api-access-"));
    assert_eq!(spec["containers"][0]["volumeMounts"][0]["name"], volume);
    assert_eq!(
        spec["volumes"][0]["projected"]["sources"]
            .as_array()
            .unwrap()
            .len(),
        3
    );
    assert_eq!(spec["tolerations"].as_array().unwrap().len(), 2);
    assert_eq!(spec["tolerations"][0]["tolerationSeconds"], 300);

    let bind = |node: &str| {
        json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"},
            "target": {"apiVersion": "v1", "kind": "Node", "name": node}})
    };
    let bound = c.post(&format!("{PODS}/p/binding"), &bind("n1")).await;
    assert_eq!(bound.status, 201);
    let again = c
        .post(&format!("{PODS}/p/binding"), &bind("n2"))
        .await
        .refused(409);
    assert!(
        again.contains("pod p is already assigned to node \"n1\""),
        "{again}"
    );
    let now = c.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(now["spec"]["nodeName"], "n1");
    assert_eq!(now["status"]["conditions"][0]["type"], "PodScheduled");

    // Who leaves the default tolerations out does not take them away.
    let mut bare = now;
    bare["spec"].as_object_mut().unwrap().remove("tolerations");
    let put = c.put(&format!("{PODS}/p"), &bare).await.ok();
    assert_eq!(put["spec"]["tolerations"], spec["tolerations"]);

    let dying = c.delete(&format!("{PODS}/p")).await.ok();
    assert_eq!(dying["metadata"]["deletionGracePeriodSeconds"], 30);
    assert_eq!(
        dying["metadata"]["generation"],
        made["metadata"]["generation"].as_i64().unwrap() + 1
    );
    let sooner = c
        .delete(&format!("{PODS}/p?gracePeriodSeconds=5"))
        .await
        .ok();
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    let later = c
        .delete(&format!("{PODS}/p?gracePeriodSeconds=50"))
        .await
        .ok();
    assert_eq!(
        later["metadata"]["resourceVersion"],
        sooner["metadata"]["resourceVersion"]
    );
    let gone = c
        .delete(&format!("{PODS}/p?gracePeriodSeconds=0"))
        .await
        .ok();
    assert_eq!(gone["kind"], "Pod");
    c.get(&format!("{PODS}/p")).await.refused(404);

    // Nobody runs it yet: it goes at once.
    c.post(PODS, &pod("q")).await.ok();
    c.delete(&format!("{PODS}/q")).await.ok();
    c.get(&format!("{PODS}/q")).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn limit_ranges_fill_in_and_bound() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let range = json!({"metadata": {"name": "r"}, "spec": {"limits": [{"type": "Container",
        "default": {"cpu": "200m"}, "defaultRequest": {"cpu": "100m", "memory": "1Mi"}, "max": {"cpu": "1"}}]}});
    c.post("/api/v1/namespaces/default/limitranges", &range)
        .await
        .ok();
    let made = c.post(PODS, &pod("p")).await.ok();
    let resources = &made["spec"]["containers"][0]["resources"];
    assert_eq!(resources["limits"]["cpu"], "200m");
    assert_eq!(
        resources["requests"],
        json!({"cpu": "100m", "memory": "1Mi"})
    );
    assert_eq!(made["status"]["qosClass"], "Burstable");
    let mut large = pod("large");
    large["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    assert_eq!(
        c.post(PODS, &large).await.refused(403),
        "pods \"large\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn services_never_share_an_address() {
    let c = Cluster::start().await;
    let path = "/api/v1/namespaces/default/services";
    let own = c.get(&format!("{path}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["clusterIP"], "10.43.0.1");
    let service = |name: &str, extra: Value| {
        let mut spec = json!({"ports": [{"port": 80}], "selector": {"a": "b"}});
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        json!({"metadata": {"name": name}, "spec": spec})
    };
    let a = c
        .post(path, &service("a", json!({"type": "NodePort"})))
        .await
        .ok();
    let address = a["spec"]["clusterIP"].as_str().unwrap();
    assert!(address.starts_with("10.43."));
    assert_eq!(a["spec"]["clusterIPs"], json!([address]));
    assert_eq!(a["spec"]["ipFamilies"], json!(["IPv4"]));
    let port = a["spec"]["ports"][0]["nodePort"].as_u64().unwrap();
    assert!((30000..32768).contains(&port));
    let taken = c
        .post(path, &service("b", json!({"clusterIP": address})))
        .await
        .refused(422);
    assert!(
        taken.contains("provided IP is already allocated"),
        "{taken}"
    );
    let mut clash = service("b", json!({"type": "NodePort"}));
    clash["spec"]["ports"][0]["nodePort"] = json!(port);
    let taken = c.post(path, &clash).await.refused(422);
    assert!(
        taken.contains("provided port is already allocated"),
        "{taken}"
    );
    let outside = c
        .post(path, &service("b", json!({"clusterIP": "10.99.0.1"})))
        .await
        .refused(422);
    assert!(outside.contains("10.43.0.0/16"), "{outside}");
    let headless = c
        .post(path, &service("h", json!({"clusterIP": "None"})))
        .await
        .ok();
    assert_eq!(headless["spec"]["clusterIPs"], json!(["None"]));

    // A PUT without the allocated values keeps them; another type gives the port back.
    let kept = c
        .put(
            &format!("{path}/a"),
            &service("a", json!({"type": "NodePort"})),
        )
        .await
        .ok();
    assert_eq!(kept["spec"]["clusterIP"], address);
    assert_eq!(kept["spec"]["ports"][0]["nodePort"], port);
    let plain = c
        .patch(
            &format!("{path}/a"),
            "merge",
            &json!({"spec": {"type": "ClusterIP"}}),
        )
        .await
        .ok();
    assert!(
        plain["spec"]["ports"][0].get("nodePort").is_none(),
        "{plain}"
    );
    c.post(path, &clash).await.ok();
    c.delete(&format!("{path}/a")).await.ok();
    let reused = c
        .post(path, &service("c", json!({"clusterIP": address})))
        .await
        .ok();
    assert_eq!(reused["spec"]["clusterIP"], address);

    // What is stored is held after a restart, too.
    let c = Cluster::start_in(c.stop().await).await;
    c.post(path, &service("d", json!({"clusterIP": address})))
        .await
        .refused(422);
    clash["metadata"]["name"] = json!("e");
    c.post(path, &clash).await.refused(422);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_dies() {
    let c = Cluster::start().await;
    c.namespace("team").await;
    let maps = "/api/v1/namespaces/team/configmaps";
    c.post(maps, &config_map("a", json!({}))).await.ok();
    let made = c.get("/api/v1/namespaces/team").await.ok();
    assert_eq!(made["spec"]["finalizers"], json!(["kubernetes"]));
    assert_eq!(
        made["metadata"]["labels"]["kubernetes.io/metadata.name"],
        "team"
    );
    let dying = c.delete("/api/v1/namespaces/team").await.ok();
    assert_eq!(dying["status"]["phase"], "Terminating");
    let refused = c.post(maps, &config_map("b", json!({}))).await;
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "NamespaceTerminating"
    );
    assert!(
        refused
            .refused(403)
            .contains("because it is being terminated")
    );
    let mut emptied = dying.clone();
    emptied["spec"]["finalizers"] = json!([]);
    c.put("/api/v1/namespaces/team/finalize", &emptied)
        .await
        .ok();
    c.get("/api/v1/namespaces/team").await.refused(404);
    let protected = c.delete("/api/v1/namespaces/default").await.refused(403);
    assert!(
        protected.contains("this namespace may not be deleted"),
        "{protected}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn evictions_ask_the_budget() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let mut placed = pod("p");
    placed["spec"]["nodeName"] = json!("n1");
    c.post(PODS, &placed).await.ok();
    let ready = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}});
    c.patch(&format!("{PODS}/p/status"), "strategic-merge", &ready)
        .await
        .ok();
    let budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";
    let budget = json!({"metadata": {"name": "b"}, "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "x"}}}});
    c.post(budgets, &budget).await.ok();
    let status = |allowed: i64| {
        json!({"status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1,
            "expectedPods": 1, "observedGeneration": 1}})
    };
    c.patch(&format!("{budgets}/b/status"), "merge", &status(0))
        .await
        .ok();
    let evict = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    let refused = c.post(&format!("{PODS}/p/eviction"), &evict).await;
    assert_eq!(
        refused.body["details"]["causes"][0]["reason"],
        "DisruptionBudget"
    );
    refused.refused(429);
    c.patch(&format!("{budgets}/b/status"), "merge", &status(1))
        .await
        .ok();
    assert_eq!(
        c.post(&format!("{PODS}/p/eviction"), &evict).await.status,
        201
    );
    let dying = c.get(&format!("{PODS}/p")).await.ok();
    assert!(dying["metadata"]["deletionTimestamp"].is_string());
    let conditions = dying["status"]["conditions"].as_array().unwrap();
    assert!(conditions.iter().any(|c| c["type"] == "DisruptionTarget"));
    let spent = c.get(&format!("{budgets}/b")).await.ok();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn odds_and_ends_of_kinds() {
    let c = Cluster::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = json!({"metadata": {"name": "s"}, "stringData": {"a": "b"}});
    let secret = c.post(secrets, &secret).await.ok();
    assert_eq!(secret["data"]["a"], "Yg==");
    assert!(secret.get("stringData").is_none());
    // A lease is made by PUT; a ConfigMap is not.
    let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";
    let put = c
        .put(
            lease,
            &json!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}),
        )
        .await;
    assert_eq!(put.status, 201);
    let map = "/api/v1/namespaces/default/configmaps/a";
    c.put(map, &config_map("a", json!({}))).await.refused(404);
    // Events are the same in both groups.
    let event = json!({"metadata": {"name": "e"}, "type": "Normal", "reason": "R",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "message": "hello"});
    c.post("/api/v1/namespaces/default/events", &event)
        .await
        .ok();
    let newer = c
        .get("/apis/events.k8s.io/v1/namespaces/default/events/e")
        .await
        .ok();
    assert_eq!(
        (&newer["note"], &newer["regarding"]["name"]),
        (&json!("hello"), &json!("p"))
    );
    assert_eq!(newer["apiVersion"], "events.k8s.io/v1");
    let chosen = "/apis/events.k8s.io/v1/events?fieldSelector=regarding.name%3Dp";
    assert_eq!(
        c.get(chosen).await.ok()["items"].as_array().unwrap().len(),
        1
    );
    // A Job's selector is made from its uid.
    let job = json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let job = c
        .post("/apis/batch/v1/namespaces/default/jobs", &job)
        .await
        .ok();
    let labels = &job["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        labels["batch.kubernetes.io/controller-uid"],
        job["metadata"]["uid"]
    );
    assert_eq!(
        job["spec"]["selector"]["matchLabels"]["batch.kubernetes.io/controller-uid"],
        job["metadata"]["uid"]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_and_reviews() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    let path = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let issued = c
        .post(path, &json!({"spec": {"expirationSeconds": 600}}))
        .await
        .ok();
    let token = issued["status"]["token"].as_str().unwrap().to_owned();
    let review = json!({"spec": {"token": token}});
    let review = c
        .post("/apis/authentication.k8s.io/v1/tokenreviews", &review)
        .await
        .ok();
    assert_eq!(review["status"]["authenticated"], true);
    assert_eq!(
        review["status"]["user"]["username"],
        "system:serviceaccount:default:default"
    );

    let request = |path: &str| {
        http::Request::builder()
            .uri(path)
            .header("authorization", format!("Bearer {token}"))
            .body(apiserver::empty_body())
            .unwrap()
    };
    let refused =
        crate::harness::answer(c.raw(request("/api/v1/namespaces/default/pods")).await).await;
    assert_eq!(
        refused.refused(403),
        "pods is forbidden: User \"system:serviceaccount:default:default\" cannot list resource \"pods\" in API group \"\" in the namespace \"default\""
    );
    let role = json!({"metadata": {"name": "r"}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]});
    let base = "/apis/rbac.authorization.k8s.io/v1/namespaces/default";
    c.post(&format!("{base}/roles"), &role).await.ok();
    let binding = json!({"metadata": {"name": "b"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]});
    c.post(&format!("{base}/rolebindings"), &binding).await.ok();
    crate::harness::answer(c.raw(request("/api/v1/namespaces/default/pods")).await)
        .await
        .ok();
    let nobody = http::Request::builder()
        .uri("/api/v1/pods")
        .body(apiserver::empty_body())
        .unwrap();
    assert_eq!(
        crate::harness::answer(c.raw(nobody).await)
            .await
            .refused(401),
        "Unauthorized"
    );
    // Nobody gives what they do not have.
    let admin = json!({"metadata": {"name": "x"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]});
    c.post(&format!("{base}/rolebindings"), &admin).await.ok();
    let escalate = json!({"metadata": {"name": "y"}, "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["*"]}]});
    let give = json!({"metadata": {"name": "z"}, "rules": [{"apiGroups": ["rbac.authorization.k8s.io"], "resources": ["roles"], "verbs": ["create"]}]});
    c.post(&format!("{base}/roles"), &give).await.ok();
    let mut bound = binding.clone();
    bound["metadata"]["name"] = json!("z");
    bound["roleRef"]["name"] = json!("z");
    c.post(&format!("{base}/rolebindings"), &bound).await.ok();
    let asking = http::Request::builder()
        .method(Method::POST)
        .uri(format!("{base}/roles"))
        .header("authorization", format!("Bearer {token}"))
        .body(apiserver::full_body(escalate.to_string()))
        .unwrap();
    let refused = crate::harness::answer(c.raw(asking).await).await;
    assert!(refused.refused(403).contains("not currently held"));
    let who = c
        .post(
            "/apis/authentication.k8s.io/v1/selfsubjectreviews",
            &json!({}),
        )
        .await
        .ok();
    assert_eq!(who["status"]["userInfo"]["username"], "admin");
    let as_other = c
        .send_with(
            Method::GET,
            "/api/v1/namespaces/default/configmaps",
            &[("impersonate-user", "jane")],
            bytes::Bytes::new(),
        )
        .await;
    assert!(as_other.refused(403).contains("User \"jane\""));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_writes_only_what_is_its_own() {
    let c = Cluster::start().await;
    c.namespace("default").await;
    for node in ["n1", "n2"] {
        let mut p = pod(&format!("on-{node}"));
        p["spec"]["nodeName"] = json!(node);
        c.post(PODS, &p).await.ok();
        c.post("/api/v1/nodes", &json!({"metadata": {"name": node}}))
            .await
            .ok();
    }
    let as_node = async |method: Method, path: &str, body: Value| {
        let headers = [
            (
                "content-type",
                if method == Method::PATCH {
                    "application/merge-patch+json"
                } else {
                    "application/json"
                },
            ),
            ("impersonate-user", "system:node:n1"),
            ("impersonate-group", "system:nodes"),
        ];
        c.send_with(method, path, &headers, body.to_string().into())
            .await
    };
    let running = json!({"status": {"phase": "Running"}});
    as_node(
        Method::PATCH,
        &format!("{PODS}/on-n1/status"),
        running.clone(),
    )
    .await
    .ok();
    let other = as_node(
        Method::PATCH,
        &format!("{PODS}/on-n2/status"),
        running.clone(),
    )
    .await;
    assert!(
        other
            .refused(403)
            .contains("with spec.nodeName set to itself")
    );
    as_node(
        Method::PATCH,
        "/api/v1/nodes/n1/status",
        json!({"status": {"phase": "x"}}),
    )
    .await
    .ok();
    as_node(Method::PATCH, "/api/v1/nodes/n2/status", running)
        .await
        .refused(403);
    as_node(Method::DELETE, &format!("{PODS}/on-n2"), json!({}))
        .await
        .refused(403);
    let lease = json!({"metadata": {"name": "n1"}});
    let leases = "/apis/coordination.k8s.io/v1/namespaces";
    as_node(
        Method::POST,
        &format!("{leases}/kube-node-lease/leases"),
        lease.clone(),
    )
    .await
    .ok();
    as_node(
        Method::POST,
        &format!("{leases}/kube-node-lease/leases"),
        json!({"metadata": {"name": "n2"}}),
    )
    .await
    .refused(403);
    let request = async |name: &str| {
        let uid = c.get(&format!("{PODS}/{name}")).await.ok()["metadata"]["uid"].clone();
        let bound = json!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}}});
        as_node(
            Method::POST,
            "/api/v1/namespaces/default/serviceaccounts/default/token",
            bound,
        )
        .await
    };
    request("on-n1").await.ok();
    request("on-n2").await.refused(403);
}
