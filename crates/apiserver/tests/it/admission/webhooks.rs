//! Admission webhooks: a real server over TLS that mutates, denies, hangs and misbehaves, and objects
//! that try to slip past it by every verb and content type.

use std::time::Duration;

use apiserver::full_body;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use http::{Method, Response};
use serde_json::{Value, json};

use crate::harness::{Cluster, config_map, pod};
use crate::https::{Asked, Https, json as answer};

/// An answer to a review.
fn reply(review: &Value, mut response: Value) -> Value {
    response["uid"] = review["request"]["uid"].clone();
    json!({"apiVersion": review["apiVersion"], "kind": "AdmissionReview", "response": response})
}

fn patch(operations: Value) -> Value {
    json!({"allowed": true, "patchType": "JSONPatch",
        "patch": STANDARD.encode(operations.to_string())})
}

/// The path says how the server behaves.
async fn behave(asked: Asked) -> Response<apiserver::Body> {
    let review = asked.json();
    let labels = review["request"]["object"]["metadata"]["labels"].clone();
    let evil = labels["evil"] == "yes"
        || review["request"]["object"]["metadata"]["annotations"]["evil"] == "yes";
    let deny = json!({"allowed": false, "status": {"message": "no evil here", "code": 403,
        "reason": "Forbidden"}});
    let response = match asked.path.as_str() {
        "/allow" => json!({"allowed": true}),
        "/deny" => deny,
        "/deny-evil" if evil => deny,
        "/deny-evil" => json!({"allowed": true, "warnings": ["looked at", "a \"second\" one"],
            "auditAnnotations": {"seen": "yes"}}),
        "/deny-silently" => json!({"allowed": false}),
        "/label" => patch(json!([{"op": "add", "path": "/metadata/labels",
            "value": {"mutated": "yes"}}])),
        "/first" => patch(json!([{"op": "add", "path": "/data/first", "value": "1"}])),
        "/second" if review["request"]["object"]["data"]["first"].is_null() => {
            json!({"allowed": true})
        }
        "/second" => patch(json!([{"op": "add", "path": "/data/second", "value": "2"}])),
        "/init" => patch(json!([{"op": "add", "path": "/spec/initContainers",
            "value": [{"name": "added", "image": "x"}]}])),
        "/broken-patch" => json!({"allowed": true, "patchType": "JSONPatch", "patch": "e30="}),
        "/patch-without-type" => json!({"allowed": true, "patch": "W10="}),
        "/hang" => std::future::pending().await,
        "/garbage" => return Response::new(full_body("<html>")),
        "/huge" => return Response::new(full_body(vec![b' '; 9 << 20])),
        "/error" => {
            let mut failed = Response::new(full_body("out of order"));
            *failed.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
            return failed;
        }
        "/absent" => {
            return answer(&json!({"apiVersion": "admission.k8s.io/v1",
            "kind": "AdmissionReview"}));
        }
        "/wrong-uid" => {
            let mut wrong = reply(&review, json!({"allowed": true}));
            wrong["response"]["uid"] = "other".into();
            return answer(&wrong);
        }
        "/replicas" => patch(json!([{"op": "replace", "path": "/spec/replicas", "value": 7}])),
        _ => {
            let mut missing = Response::new(full_body(""));
            *missing.status_mut() = http::StatusCode::NOT_FOUND;
            return missing;
        }
    };
    answer(&reply(&review, response))
}

async fn server() -> Https {
    Https::start(&["localhost"], None, |asked| behave(asked).boxed()).await
}

/// A webhook of one path for some resources.
fn hook(server: &Https, path: &str, operations: Value, resources: Value) -> Value {
    json!({"name": format!("{}.example.com", path.trim_start_matches('/')),
        "clientConfig": {"url": format!("https://localhost:{}{path}", server.port()),
            "caBundle": server.bundle()},
        "rules": [{"operations": operations, "apiGroups": ["*"], "apiVersions": ["*"],
            "resources": resources}],
        "sideEffects": "None", "admissionReviewVersions": ["v1", "v1beta1"]})
}

async fn configure(c: &Cluster, mutating: bool, name: &str, hooks: &[Value]) {
    let kind = if mutating { "Mutating" } else { "Validating" };
    let path = format!(
        "/apis/admissionregistration.k8s.io/v1/{}webhookconfigurations",
        kind.to_lowercase()
    );
    let object = json!({"apiVersion": "admissionregistration.k8s.io/v1",
        "kind": format!("{kind}WebhookConfiguration"), "metadata": {"name": name},
        "webhooks": hooks});
    c.post(&path, &object).await.ok();
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

#[tokio::test(flavor = "multi_thread")]
async fn a_review_says_everything() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let watched = hook(&server, "/deny-evil", json!(["*"]), json!(["configmaps"]));
    configure(&c, false, "look", &[watched]).await;
    let made = c
        .post(
            &format!("{MAPS}?fieldManager=me"),
            &config_map("a", json!({"x": "y"})),
        )
        .await;
    let warnings: Vec<&str> = made
        .headers
        .get_all("warning")
        .iter()
        .map(|value| value.to_str().unwrap())
        .collect();
    assert_eq!(
        warnings,
        ["299 - \"looked at\"", "299 - \"a \\\"second\\\" one\""]
    );
    made.ok();
    let asked = server.take();
    assert_eq!(asked.len(), 1);
    assert_eq!((&asked[0].method, &asked[0].peer), (&Method::POST, &None));
    assert_eq!(asked[0].query, "timeout=10s");
    assert_eq!(asked[0].headers["content-type"], "application/json");
    let review = asked[0].json();
    assert_eq!(review["apiVersion"], "admission.k8s.io/v1");
    let request = &review["request"];
    assert_eq!(request["operation"], "CREATE");
    assert_eq!(request["name"], "a");
    assert_eq!(request["namespace"], "default");
    assert_eq!(
        request["kind"],
        json!({"group": "", "version": "v1", "kind": "ConfigMap"})
    );
    assert_eq!(
        request["resource"],
        json!({"group": "", "version": "v1", "resource": "configmaps"})
    );
    assert_eq!(request["requestKind"], request["kind"]);
    assert_eq!(request["userInfo"]["username"], "admin");
    assert_eq!(request["dryRun"], false);
    assert_eq!(request["oldObject"], Value::Null);
    assert_eq!(request["object"]["data"]["key"], "value");
    assert!(request["object"]["metadata"]["uid"].is_string());
    assert_eq!(
        request["options"],
        json!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1", "fieldManager": "me"})
    );
    c.delete(&format!("{MAPS}/a?gracePeriodSeconds=5"))
        .await
        .ok();
    let request = server.take()[0].json()["request"].clone();
    assert_eq!(request["operation"], "DELETE");
    assert_eq!(request["object"], Value::Null);
    assert_eq!(request["oldObject"]["metadata"]["name"], "a");
    assert_eq!(request["options"]["gracePeriodSeconds"], 5);
    // The configuration itself is nobody's business.
    let all = hook(&server, "/deny", json!(["*"]), json!(["*/*"]));
    configure(&c, false, "all", &[all]).await;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/all";
    c.delete(path).await.ok();
    assert!(server.take().is_empty());
    let metrics = c.get("/metrics").await.text;
    let line = "apiserver_admission_webhook_request_total{code=\"200\",name=\"deny-evil.example.com\",operation=\"CREATE\",type=\"validating\",rejected=\"false\"} 1";
    assert!(metrics.contains(line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_slips_past() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    c.post(MAPS, &config_map("good", json!({}))).await.ok();
    let guard = hook(
        &server,
        "/deny-evil",
        json!(["CREATE", "UPDATE"]),
        json!(["*/*"]),
    );
    configure(&c, false, "guard", &[guard]).await;
    let words = "admission webhook \"deny-evil.example.com\" denied the request: no evil here";
    let evil = config_map("evil", json!({"evil": "yes"}));
    let at = format!("{MAPS}/good");
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: good, labels: {evil: 'yes'}}\n";
    let mut replaced = evil.clone();
    replaced["metadata"]["name"] = "good".into();
    let labels = json!({"metadata": {"labels": {"evil": "yes"}}});
    let operations = json!([{"op": "add", "path": "/metadata/labels", "value": {"evil": "yes"}}]);
    let protobuf = api::proto::encode(&evil).unwrap();
    let json = |value: &Value| bytes::Bytes::from(value.to_string());
    let apply = format!("{at}?fieldManager=me&force=true");
    let made = format!("{MAPS}/evil?fieldManager=me");
    let sneaks: Vec<(Method, &str, &str, bytes::Bytes)> = vec![
        (Method::POST, MAPS, "application/json", json(&evil)),
        (
            Method::POST,
            MAPS,
            "application/yaml",
            yaml.replace("good", "bad").into(),
        ),
        (
            Method::POST,
            MAPS,
            "application/vnd.kubernetes.protobuf",
            protobuf.into(),
        ),
        (Method::PUT, &at, "application/json", json(&replaced)),
        (Method::PUT, &at, "application/yaml", yaml.into()),
        (
            Method::PATCH,
            &at,
            "application/merge-patch+json",
            json(&labels),
        ),
        (
            Method::PATCH,
            &at,
            "application/strategic-merge-patch+json",
            json(&labels),
        ),
        (
            Method::PATCH,
            &at,
            "application/json-patch+json",
            json(&operations),
        ),
        (
            Method::PATCH,
            &apply,
            "application/apply-patch+yaml",
            yaml.into(),
        ),
        (
            Method::PATCH,
            &made,
            "application/apply-patch+yaml",
            yaml.replace("good", "evil").into(),
        ),
    ];
    for (method, path, kind, body) in sneaks {
        for dry in ["", "dryRun=All"] {
            let join = if path.contains('?') { '&' } else { '?' };
            let path = format!("{path}{join}{dry}");
            let refused = c.send(method.clone(), &path, kind, body.clone()).await;
            assert_eq!(refused.body["message"], words, "{method} {path} {kind}");
            assert_eq!(refused.status, 403);
            assert_eq!(refused.body["reason"], "Forbidden");
        }
    }
    let asked = server.take();
    assert_eq!(asked.len(), 20);
    let dry = asked
        .iter()
        .filter(|a| a.json()["request"]["dryRun"] == true);
    assert_eq!(dry.count(), 10);
    let live = c.get(&at).await.ok();
    assert_eq!(live["metadata"]["labels"]["evil"], Value::Null);
    c.get(&format!("{MAPS}/evil")).await.refused(404);
}

#[tokio::test(flavor = "multi_thread")]
async fn subresources_deletes_and_connections_are_asked_of() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut bound = pod("p");
    bound["spec"]["nodeName"] = "n1".into();
    c.post(pods, &bound).await.ok();
    c.post(pods, &pod("q")).await.ok();
    c.post(MAPS, &config_map("a", json!({"x": "1"}))).await.ok();
    c.post(MAPS, &config_map("b", json!({}))).await.ok();
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "main", "image": "x"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "x"}}, "template": template}});
    c.post(deployments, &deployment).await.ok();
    let no = hook(&server, "/deny", json!(["*"]), json!(["*/*"]));
    configure(&c, false, "no", &[no]).await;
    let scale = json!({"metadata": {"name": "d", "namespace": "default"}, "spec": {"replicas": 3}});
    let account = "/api/v1/namespaces/default/serviceaccounts/default/token";
    let token = json!({"spec": {"audiences": ["a"]}});
    let binding = json!({"metadata": {"name": "q"}, "target": {"kind": "Node", "name": "n1"}});
    let eviction =
        json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "q"}});
    let review = json!({"spec": {"resourceAttributes": {"verb": "get", "resource": "pods"}}});
    let status = json!({"status": {"phase": "Failed"}});
    let reviews = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let cases: Vec<(Method, String, Value, &str)> = vec![
        (
            Method::PUT,
            format!("{deployments}/d/scale"),
            scale.clone(),
            "UPDATE deployments/scale Scale",
        ),
        (
            Method::PATCH,
            format!("{deployments}/d/scale"),
            json!({"spec": {"replicas": 3}}),
            "UPDATE deployments/scale Scale",
        ),
        (
            Method::PATCH,
            format!("{pods}/q/status"),
            status,
            "UPDATE pods/status Pod",
        ),
        (
            Method::POST,
            format!("{pods}/q/binding"),
            binding,
            "CREATE pods/binding Binding",
        ),
        (
            Method::POST,
            format!("{pods}/q/eviction"),
            eviction,
            "CREATE pods/eviction Eviction",
        ),
        (
            Method::POST,
            account.to_owned(),
            token,
            "CREATE serviceaccounts/token TokenRequest",
        ),
        (
            Method::POST,
            reviews.to_owned(),
            review,
            "CREATE selfsubjectaccessreviews/ SelfSubjectAccessReview",
        ),
        (
            Method::DELETE,
            format!("{MAPS}/a"),
            Value::Null,
            "DELETE configmaps/ ConfigMap",
        ),
        (
            Method::DELETE,
            format!("{MAPS}?labelSelector=x"),
            Value::Null,
            "DELETE configmaps/ ConfigMap",
        ),
        (
            Method::POST,
            format!("{pods}/p/exec?command=sh&stdin=true&container=main"),
            Value::Null,
            "CONNECT pods/exec PodExecOptions",
        ),
        (
            Method::POST,
            format!("{pods}/p/attach?stdout=true"),
            Value::Null,
            "CONNECT pods/attach PodAttachOptions",
        ),
        (
            Method::POST,
            format!("{pods}/p/portforward?ports=80"),
            Value::Null,
            "CONNECT pods/portforward PodPortForwardOptions",
        ),
        (
            Method::GET,
            format!("{pods}/p/proxy/index.html"),
            Value::Null,
            "CONNECT pods/proxy PodProxyOptions",
        ),
        (
            Method::GET,
            "/api/v1/namespaces/default/services/s/proxy/x".to_owned(),
            Value::Null,
            "CONNECT services/proxy ServiceProxyOptions",
        ),
        (
            Method::GET,
            "/api/v1/nodes/n1/proxy/metrics".to_owned(),
            Value::Null,
            "CONNECT nodes/proxy NodeProxyOptions",
        ),
        (
            Method::POST,
            "/api/v1/namespaces".to_owned(),
            json!({"metadata": {"name": "new"}}),
            "CREATE namespaces/ Namespace",
        ),
    ];
    for (method, path, body, wanted) in cases {
        let kind = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let body = if body.is_null() {
            String::new()
        } else {
            body.to_string()
        };
        let refused = c.send(method.clone(), &path, kind, body.into()).await;
        assert_eq!(refused.status, 403, "{method} {path}: {}", refused.text);
        let asked = server.take();
        assert!(!asked.is_empty(), "{path}");
        let request = asked[0].json()["request"].clone();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let told = format!(
            "{} {}/{} {}",
            text(&request["operation"]),
            text(&request["resource"]["resource"]),
            text(&request["subResource"]),
            text(&request["kind"]["kind"])
        );
        assert_eq!(told, wanted);
        match wanted.split(' ').next() {
            Some("DELETE") => assert!(request["oldObject"].is_object()),
            Some("CONNECT") => assert_eq!(request["object"]["apiVersion"], "v1"),
            _ => assert!(request["object"].is_object()),
        }
    }
    // Nothing has happened.
    let live = c.get(&format!("{deployments}/d")).await.ok();
    assert_eq!(live["spec"]["replicas"], 1);
    let all = c.get(MAPS).await.ok();
    assert_eq!(all["items"].as_array().unwrap().len(), 2);
    assert_eq!(
        c.get(&format!("{pods}/q")).await.ok()["spec"]["nodeName"],
        Value::Null
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_changed_in_order_and_defaulted_again() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let create = |path: &str, resources: Value| hook(&server, path, json!(["CREATE"]), resources);
    let mut second = create("/second", json!(["configmaps"]));
    configure(&c, true, "a-second", std::slice::from_ref(&second)).await;
    configure(
        &c,
        true,
        "b-first",
        &[create("/first", json!(["configmaps"]))],
    )
    .await;
    // Asked before the first one, and not again.
    let data = c.post(MAPS, &config_map("once", json!({}))).await.ok()["data"].clone();
    assert_eq!(data, json!({"key": "value", "first": "1"}));
    assert_eq!(server.take().len(), 2);
    let path = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/a-second";
    c.delete(path).await.ok();
    second["reinvocationPolicy"] = "IfNeeded".into();
    configure(&c, true, "a-second", &[second]).await;
    let data = c.post(MAPS, &config_map("twice", json!({}))).await.ok()["data"].clone();
    assert_eq!(data, json!({"key": "value", "first": "1", "second": "2"}));
    assert_eq!(server.take().len(), 3);

    let pods = "/api/v1/namespaces/default/pods";
    configure(&c, true, "c-init", &[create("/init", json!(["pods"]))]).await;
    let made = c.post(pods, &pod("p")).await.ok();
    let init = &made["spec"]["initContainers"][0];
    assert_eq!(init["name"], "added");
    assert_eq!(init["terminationMessagePolicy"], "File");
    // The service account's volume came with the second round of built-in admission.
    assert!(init["volumeMounts"].is_array(), "{init}");
    let fields = made["metadata"]["managedFields"].to_string();
    assert!(!fields.contains("initContainers"), "{fields}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scale_is_changed_as_a_scale() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let deployments = "/apis/apps/v1/namespaces/default/deployments";
    let template = json!({"metadata": {"labels": {"app": "x"}},
        "spec": {"containers": [{"name": "main", "image": "x"}]}});
    let deployment = json!({"metadata": {"name": "d"}, "spec": {"replicas": 1,
        "selector": {"matchLabels": {"app": "x"}}, "template": template}});
    c.post(deployments, &deployment).await.ok();
    let seven = hook(&server, "/replicas", json!(["UPDATE"]), json!(["*/scale"]));
    configure(&c, true, "seven", &[seven]).await;
    let scaled = c
        .patch(
            &format!("{deployments}/d/scale"),
            "merge",
            &json!({"spec": {"replicas": 3}}),
        )
        .await
        .ok();
    assert_eq!(scaled["spec"]["replicas"], 7);
    let live = c.get(&format!("{deployments}/d")).await.ok();
    assert_eq!(live["spec"]["replicas"], 7);
    let request = server.take()[0].json()["request"].clone();
    assert_eq!(request["oldObject"]["spec"]["replicas"], 1);
    assert_eq!(request["object"]["spec"]["replicas"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_version_is_shown_where_the_rule_names_it() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let mut watched = hook(
        &server,
        "/allow",
        json!(["CREATE"]),
        json!(["horizontalpodautoscalers"]),
    );
    watched["rules"][0]["apiVersions"] = json!(["v1"]);
    let mut exact = watched.clone();
    exact["name"] = "exact.example.com".into();
    exact["matchPolicy"] = "Exact".into();
    configure(&c, false, "hpa", &[watched, exact]).await;
    let metric = json!({"type": "Resource", "resource": {"name": "cpu",
        "target": {"type": "Utilization", "averageUtilization": 55}}});
    let object = json!({"metadata": {"name": "h"}, "spec": {"maxReplicas": 3, "metrics": [metric],
        "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}}});
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
    c.post(path, &object).await.ok();
    let asked = server.take();
    assert_eq!(asked.len(), 1, "the exact one is not asked");
    let request = asked[0].json()["request"].clone();
    assert_eq!(request["kind"]["version"], "v1");
    assert_eq!(request["resource"]["version"], "v1");
    assert_eq!(request["requestKind"]["version"], "v2");
    assert_eq!(request["object"]["apiVersion"], "autoscaling/v1");
    assert_eq!(
        request["object"]["spec"]["targetCPUUtilizationPercentage"],
        55
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn selectors_choose() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let quiet = json!({"metadata": {"name": "quiet", "labels": {"guard": "off"}}});
    c.post("/api/v1/namespaces", &quiet).await.ok();
    let mut by_namespace = hook(&server, "/allow", json!(["*"]), json!(["configmaps"]));
    by_namespace["namespaceSelector"] =
        json!({"matchExpressions": [{"key": "guard", "operator": "NotIn", "values": ["off"]}]});
    let mut by_object = hook(&server, "/deny-evil", json!(["*"]), json!(["configmaps"]));
    by_object["objectSelector"] = json!({"matchLabels": {"look": "yes"}});
    configure(&c, false, "some", &[by_namespace, by_object]).await;
    let paths = || -> Vec<String> { server.take().into_iter().map(|a| a.path).collect() };
    c.post(
        "/api/v1/namespaces/quiet/configmaps",
        &config_map("a", json!({})),
    )
    .await
    .ok();
    assert_eq!(paths(), Vec::<String>::new());
    c.post(MAPS, &config_map("a", json!({"look": "yes"})))
        .await
        .ok();
    let mut both = paths();
    both.sort();
    assert_eq!(both, ["/allow", "/deny-evil"]);
    // The old object has the label still.
    let off = json!({"metadata": {"labels": {"look": null}}});
    c.patch(&format!("{MAPS}/a"), "merge", &off).await.ok();
    assert_eq!(paths().len(), 2);
    let on = json!({"metadata": {"labels": {"other": "x"}}});
    c.patch(&format!("{MAPS}/a"), "merge", &on).await.ok();
    assert_eq!(paths(), ["/allow"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_told_and_let_pass_where_that_is_wanted() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let url = |path: &str| format!("https://localhost:{}{path}?timeout=1s", server.port());
    let calling = |path: &str, why: &str| {
        let name = path.trim_start_matches('/');
        format!("Internal error occurred: failed calling webhook \"{name}.example.com\": {why}")
    };
    let hung = format!(
        "failed to call webhook: Post \"{}\": context deadline exceeded",
        url("/hang")
    );
    let huge = format!(
        "failed to call webhook: Post \"{}\": the answer is larger than 8388608 bytes",
        url("/huge")
    );
    let cases = [
        ("/hang", false, hung.as_str()),
        ("/huge", false, &huge),
        (
            "/garbage",
            false,
            "failed to call webhook: couldn't get version/kind; json parse error: expected value at line 1 column 1",
        ),
        (
            "/error",
            false,
            "failed to call webhook: an error on the server (\"out of order\") has prevented the request from succeeding",
        ),
        (
            "/nowhere",
            false,
            "failed to call webhook: the server could not find the requested resource",
        ),
        (
            "/absent",
            false,
            "received invalid webhook response: webhook response was absent",
        ),
        (
            "/label",
            false,
            "received invalid webhook response: validating webhook may not return response.patch",
        ),
        (
            "/patch-without-type",
            true,
            "received invalid webhook response: webhook returned response.patch but not response.patchType",
        ),
    ];
    for (path, mutating, why) in cases {
        let mut one = hook(&server, path, json!(["CREATE"]), json!(["configmaps"]));
        one["timeoutSeconds"] = 1.into();
        configure(&c, mutating, "one", std::slice::from_ref(&one)).await;
        let refused = c.post(MAPS, &config_map("x", json!({}))).await.refused(500);
        assert_eq!(refused, calling(path, why));
        let sort = if mutating { "mutating" } else { "validating" };
        let at = format!("/apis/admissionregistration.k8s.io/v1/{sort}webhookconfigurations/one");
        c.delete(&at).await.ok();
        one["failurePolicy"] = "Ignore".into();
        configure(&c, mutating, "one", &[one]).await;
        let dry = format!("{MAPS}?dryRun=All");
        c.post(&dry, &config_map("x", json!({}))).await.ok();
        c.delete(&at).await.ok();
    }
    let wrong = hook(
        &server,
        "/wrong-uid",
        json!(["CREATE"]),
        json!(["configmaps"]),
    );
    let silent = hook(
        &server,
        "/deny-silently",
        json!(["CREATE"]),
        json!(["secrets"]),
    );
    configure(&c, false, "wrong", &[wrong, silent]).await;
    let refused = c.post(MAPS, &config_map("x", json!({}))).await.refused(500);
    assert!(refused.contains("expected response.uid="), "{refused}");
    let secret = json!({"metadata": {"name": "s"}});
    let refused = c
        .post("/api/v1/namespaces/default/secrets", &secret)
        .await
        .refused(400);
    let words =
        "admission webhook \"deny-silently.example.com\" denied the request without explanation";
    assert_eq!(refused, words);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_locked_while_a_webhook_thinks() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let mut slow = hook(&server, "/hang", json!(["CREATE"]), json!(["configmaps"]));
    slow["timeoutSeconds"] = 3.into();
    configure(&c, false, "slow", &[slow]).await;
    let (waiting, quick) = (
        config_map("x", json!({})),
        json!({"metadata": {"name": "s"}}),
    );
    let began = std::time::Instant::now();
    let others = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        c.post("/api/v1/namespaces/default/secrets", &quick)
            .await
            .ok();
        began.elapsed()
    };
    let (refused, others) = tokio::join!(c.post(MAPS, &waiting), others);
    refused.refused(500);
    assert!(others < Duration::from_millis(2500), "{others:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn dry_runs_and_configurations_are_checked() {
    let (c, server) = (Cluster::start().await, server().await);
    c.namespace("default").await;
    let path = "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations";
    let mut bad = hook(
        &server,
        "/allow",
        json!(["CREATE", "*"]),
        json!(["pods", "*"]),
    );
    bad["name"] = "short".into();
    bad["sideEffects"] = "Some".into();
    bad["timeoutSeconds"] = 31.into();
    bad["clientConfig"] = json!({"url": "http://user@host/?x#y"});
    bad["admissionReviewVersions"] = json!(["v2"]);
    let object = json!({"metadata": {"name": "bad"}, "webhooks": [bad]});
    let refused = c.post(path, &object).await.refused(422);
    for words in [
        "webhooks[0].name: Invalid value: \"short\": should be a domain with at least three segments separated by dots",
        "webhooks[0].rules[0].operations: Invalid value: [\"CREATE\",\"*\"]: if '*' is present, must not specify other operations",
        "webhooks[0].sideEffects: Unsupported value: \"Some\": supported values: \"None\", \"NoneOnDryRun\"",
        "webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds",
        "webhooks[0].clientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme; desired format: https://host[/path]",
        "webhooks[0].admissionReviewVersions: Invalid value: [\"v2\"]: must include at least one of v1, v1beta1",
    ] {
        assert!(refused.contains(words), "{words}\n{refused}");
    }
    // A mutating webhook cannot change what is deleted.
    let label = hook(&server, "/label", json!(["DELETE"]), json!(["configmaps"]));
    configure(&c, true, "label", &[label]).await;
    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let refused = c.delete(&format!("{MAPS}/a")).await.refused(500);
    let words = "Internal error occurred: admission webhook \"label.example.com\" attempted to modify the object, which is not supported for this operation";
    assert_eq!(refused, words);
}
