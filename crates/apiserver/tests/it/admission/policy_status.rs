//! What is said of policies: their status and their metrics; and that they meet connections and each
//! other.

use http::Method;
use serde_json::{Value, json};

use super::policies::{MAPS, mutate, rules, start, validate};
use crate::harness::{Cluster, config_map, pod};

const POLICIES: &str = "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies";

/// The status of a policy when its generation has been checked.
async fn checked(c: &Cluster, name: &str) -> Value {
    let path = format!("{POLICIES}?watch=1&fieldSelector=metadata.name%3D{name}");
    let mut watch = c.watch(&path).await;
    loop {
        let policy = watch.next().await.unwrap()["object"].clone();
        if policy["status"]["observedGeneration"] == policy["metadata"]["generation"] {
            return policy["status"].clone();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn types_are_checked_once_a_generation() {
    let c = start().await;
    let spec = |source: &str| {
        json!({"matchConstraints": {"resourceRules": [{"apiGroups": ["apps"],
            "apiVersions": ["v1"], "resources": ["deployments"], "operations": ["*"]}]},
            "validations": [{"expression": source}]})
    };
    let fits = json!({"metadata": {"name": "fits"}, "spec": spec("object.spec.replicas > 1")});
    c.post(POLICIES, &fits).await.ok();
    let status = checked(&c, "fits").await;
    assert_eq!(status, json!({"observedGeneration": 1, "typeChecking": {}}));
    let path = format!("{POLICIES}/fits");
    let change = json!({"spec": spec("object.spec.replicas > '1'")});
    c.patch(&path, "merge", &change).await.ok();
    let status = checked(&c, "fits").await;
    assert_eq!(status["observedGeneration"], 2);
    let warnings = &status["typeChecking"]["expressionWarnings"];
    assert_eq!(warnings[0]["fieldRef"], "spec.validations[0].expression");
    let words = warnings[0]["warning"].as_str().unwrap();
    assert!(
        words.contains("found no matching overload for '_>_' applied to '(int, string)'"),
        "{words}"
    );

    // Of a custom resource its own schema counts, and all of its metadata.
    let definition = json!({"metadata": {"name": "crons.example.com"}, "spec": {
        "group": "example.com", "scope": "Namespaced",
        "names": {"plural": "crons", "singular": "cron", "kind": "Cron", "listKind": "CronList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema":
            {"type": "object", "properties": {"spec": {"type": "object", "properties":
                {"replicas": {"type": "integer"}}}}}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    c.post(definitions, &definition).await.ok();
    let mut custom = spec("object.spec.replicas < 'x' && object.metadata.labels['a'] == 'b'");
    custom["matchConstraints"]["resourceRules"][0]["apiGroups"] = json!(["example.com"]);
    custom["matchConstraints"]["resourceRules"][0]["resources"] = json!(["crons"]);
    let custom = json!({"metadata": {"name": "custom"}, "spec": custom});
    c.post(POLICIES, &custom).await.ok();
    let status = checked(&c, "custom").await;
    let words = status["typeChecking"]["expressionWarnings"][0]["warning"]
        .as_str()
        .unwrap();
    assert!(
        words.starts_with("example.com/v1, Kind=Cron: ERROR: <input>:1:22:"),
        "{words}"
    );
    assert_eq!(words.matches("ERROR").count(), 1, "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_meet_connections() {
    let c = start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let mut p = pod("p");
    p["spec"]["nodeName"] = json!("n1");
    c.post(pods, &p).await.ok();
    let spec = json!({"validations": [{
        "expression": "object.command.join(' ') != 'rm -rf /' && request.subResource == 'exec'",
        "messageExpression": "request.operation + ' ' + object.kind + ' of ' + request.name + ': ' + object.command[0]"}]});
    let by = json!({});
    validate(&c, "connects", rules("pods/exec", &["CONNECT"]), spec, by).await;
    let exec = |command: &str| {
        let words: Vec<String> = command.split(' ').map(|w| format!("command={w}")).collect();
        format!(
            "{pods}/p/exec?container=main&stdout=true&{}",
            words.join("&")
        )
    };
    let refused = c
        .send_with(Method::POST, &exec("rm -rf /"), &[], "".into())
        .await;
    assert_eq!(
        refused.refused(422),
        "pods \"p\" is forbidden: ValidatingAdmissionPolicy 'connects' with binding \
         'connects-binding' denied request: CONNECT PodExecOptions of p: rm"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_asks_for_it_sees_what_later_ones_did() {
    let c = start().await;
    let counting = |reinvocation: &str, label: &str| {
        let expression = format!(
            "Object{{metadata: Object.metadata{{labels: {{'{label}': string(size(object.metadata.labels))}}}}}}"
        );
        json!({"reinvocationPolicy": reinvocation, "mutations": [
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}]})
    };
    let maps = || rules("configmaps", &["CREATE"]);
    mutate(&c, "a-once", maps(), counting("Never", "once")).await;
    mutate(&c, "b-again", maps(), counting("IfNeeded", "again")).await;
    let last = json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression":
        "[JSONPatch{op: 'add', path: '/metadata/labels/last', value: 'x'}]"}}]});
    mutate(&c, "c-last", maps(), last).await;
    let made = c
        .post(MAPS, &config_map("a", json!({"own": "1"})))
        .await
        .ok();
    assert_eq!(
        made["metadata"]["labels"],
        // Of the second round `again` sees own, once, itself and last.
        json!({"own": "1", "once": "1", "again": "4", "last": "x"})
    );
    let metrics = c.get("/metrics").await.text;
    let count = |policy: &str, count: u32| {
        let line = format!(
            "apiserver_mutating_admission_policy_check_total{{error_type=\"no_error\",policy=\"{policy}\",policy_binding=\"{policy}-binding\"}} {count}"
        );
        assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
    };
    count("a-once", 1);
    count("b-again", 2);
    count("c-last", 1);
    assert!(metrics.contains("apiserver_mutating_admission_policy_check_duration_seconds_count"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_atomic_fields_would_lose_is_not_applied() {
    let c = start().await;
    let selector = "Object{spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{nodeSelector: {'a': 'b'}}}}}";
    let spec = json!({"mutations": [{"patchType": "ApplyConfiguration",
        "applyConfiguration": {"expression": selector}}]});
    mutate(&c, "selects", rules("apps deployments", &["CREATE"]), spec).await;
    let deployment = json!({"metadata": {"name": "d"}, "spec": {
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": pod("p")["spec"]}}});
    let path = "/apis/apps/v1/namespaces/default/deployments";
    let words = c.post(path, &deployment).await.refused(403);
    assert!(
        words.contains("invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.template.spec.nodeSelector"),
        "{words}"
    );
    let metrics = c.get("/metrics").await.text;
    let line = "apiserver_mutating_admission_policy_check_total{error_type=\"invalid_error\",policy=\"selects\",policy_binding=\"selects-binding\"} 1";
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_policies_decide_is_counted() {
    let c = start().await;
    let maps = || rules("configmaps", &["CREATE"]);
    let no = |expression: &str| json!({"validations": [{"expression": expression}]});
    let acts = |actions: Value| json!({ "validationActions": actions });
    validate(
        &c,
        "denies",
        maps(),
        no("object.metadata.name != 'no'"),
        acts(json!(["Deny"])),
    )
    .await;
    validate(
        &c,
        "tells",
        maps(),
        no("false"),
        acts(json!(["Warn", "Audit"])),
    )
    .await;
    let mut open = no("object.nothing == 1");
    open["failurePolicy"] = "Ignore".into();
    validate(&c, "open", maps(), open, acts(json!(["Deny"]))).await;
    c.post(MAPS, &config_map("no", json!({})))
        .await
        .refused(422);
    c.post(MAPS, &config_map("yes", json!({}))).await.ok();
    let metrics = c.get("/metrics").await.text;
    for (policy, action, count) in [
        ("denies", "deny", 1),
        ("tells", "warn", 2),
        ("tells", "audit", 2),
        ("open", "allow", 2),
    ] {
        let labels = format!(
            "enforcement_action=\"{action}\",error_type=\"invalid_error\",policy=\"{policy}\",policy_binding=\"{policy}-binding\""
        );
        let name = "apiserver_validating_admission_policy_check";
        for line in [
            format!("{name}_total{{{labels}}} {count}"),
            format!("{name}_duration_seconds_count{{{labels}}} {count}"),
        ] {
            assert!(metrics.lines().any(|l| l == line), "{line}\n{metrics}");
        }
    }
}
