//! Policies of the expression language, through every door.

use serde_json::{Value, json};

use super::warnings;
use crate::harness::{Cluster, config_map, pod};

const ADMISSION: &str = "/apis/admissionregistration.k8s.io/v1";
pub const MAPS: &str = "/api/v1/namespaces/default/configmaps";

pub fn rules(resources: &str, operations: &[&str]) -> Value {
    let (group, resource) = resources.split_once(' ').unwrap_or(("", resources));
    json!([{"apiGroups": [group], "apiVersions": ["*"], "resources": [resource], "operations": operations}])
}

fn policy(name: &str, rules: Value, spec: Value) -> Value {
    let mut policy =
        json!({"metadata": {"name": name}, "spec": {"matchConstraints": {"resourceRules": rules}}});
    for (key, value) in spec.as_object().unwrap() {
        policy["spec"][key] = value.clone();
    }
    policy
}

pub async fn validate(c: &Cluster, name: &str, rules: Value, spec: Value, binding: Value) {
    let path = format!("{ADMISSION}/validatingadmissionpolicies");
    c.post(&path, &policy(name, rules, spec)).await.ok();
    let mut spec = json!({"policyName": name, "validationActions": ["Deny"]});
    for (key, value) in binding.as_object().unwrap() {
        spec[key] = value.clone();
    }
    let binding = json!({"metadata": {"name": format!("{name}-binding")}, "spec": spec});
    let path = format!("{ADMISSION}/validatingadmissionpolicybindings");
    c.post(&path, &binding).await.ok();
}

pub async fn mutate(c: &Cluster, name: &str, rules: Value, spec: Value) {
    let mut policy = policy(name, rules, spec);
    if policy["spec"]["reinvocationPolicy"].is_null() {
        policy["spec"]["reinvocationPolicy"] = "Never".into();
    }
    c.post(&format!("{ADMISSION}/mutatingadmissionpolicies"), &policy)
        .await
        .ok();
    let binding =
        json!({"metadata": {"name": format!("{name}-binding")}, "spec": {"policyName": name}});
    c.post(
        &format!("{ADMISSION}/mutatingadmissionpolicybindings"),
        &binding,
    )
    .await
    .ok();
}

pub async fn start() -> Cluster {
    let c = Cluster::start().await;
    c.namespace("default").await;
    c
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_meets_the_policies() {
    let c = start().await;
    c.post(MAPS, &config_map("old", json!({"locked": "yes"})))
        .await
        .ok();
    validate(
        &c,
        "locks",
        rules("configmaps", &["*"]),
        json!({
            "matchConditions": [{"name": "not-free", "expression": "request.name != 'free'"}],
            "variables": [
                {"name": "target", "expression": "request.operation == 'DELETE' ? oldObject : object"},
                {"name": "labels", "expression": "has(variables.target.metadata.labels) ? variables.target.metadata.labels : {}"},
            ],
            "validations": [{"expression": "!('locked' in variables.labels)",
                "messageExpression": "variables.target.metadata.name + ' is locked against ' + request.operation"}],
        }),
        json!({}),
    )
    .await;
    let refused = |name: &str, operation: &str| {
        format!(
            "configmaps \"{name}\" is forbidden: ValidatingAdmissionPolicy 'locks' with binding 'locks-binding' denied request: {name} is locked against {operation}"
        )
    };
    let locked = |name: &str| config_map(name, json!({"locked": "yes"}));
    let answer = c.post(MAPS, &locked("a")).await;
    assert_eq!(answer.body["reason"], "Invalid");
    let cause = answer.body["details"]["causes"][0]["message"]
        .as_str()
        .unwrap()
        .to_owned();
    assert!(
        cause.starts_with("ValidatingAdmissionPolicy 'locks'"),
        "{cause}"
    );
    assert_eq!(answer.refused(422), refused("a", "CREATE"));
    let dry = format!("{MAPS}?dryRun=All");
    assert_eq!(
        c.post(&dry, &locked("a")).await.refused(422),
        refused("a", "CREATE")
    );
    let old = format!("{MAPS}/old");
    let patch = json!({"data": {"a": "b"}});
    assert_eq!(
        c.patch(&old, "merge", &patch).await.refused(422),
        refused("old", "UPDATE")
    );
    assert_eq!(
        c.patch(&old, "strategic-merge", &patch).await.refused(422),
        refused("old", "UPDATE")
    );
    assert_eq!(
        c.put(&old, &locked("old")).await.refused(422),
        refused("old", "UPDATE")
    );
    assert_eq!(c.delete(&old).await.refused(422), refused("old", "DELETE"));
    assert_eq!(c.delete(MAPS).await.refused(422), refused("old", "DELETE"));
    c.post(MAPS, &locked("free")).await.ok();
    c.post(MAPS, &config_map("b", json!({}))).await.ok();
    let unlock = json!({"metadata": {"labels": {"locked": null}}});
    c.patch(&old, "merge", &unlock).await.ok();
    c.delete(&old).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn bindings_say_where_with_what_and_how_hard() {
    let c = start().await;
    c.namespace("other").await;
    c.post(
        MAPS,
        &json!({"metadata": {"name": "limits"}, "data": {"most": "2"}}),
    )
    .await
    .ok();
    let spec = json!({
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "validations": [{"expression": "object.spec.replicas <= int(params.data.most)", "reason": "Forbidden",
            "messageExpression": "'at most ' + params.data.most + ' in ' + namespaceObject.metadata.name"}],
    });
    let selector = json!({"matchLabels": {"kubernetes.io/metadata.name": "default"}});
    let binding = json!({
        "paramRef": {"name": "limits", "namespace": "default", "parameterNotFoundAction": "Deny"},
        "matchResources": {"namespaceSelector": selector},
    });
    validate(
        &c,
        "replicas",
        rules("apps deployments", &["CREATE", "UPDATE"]),
        spec,
        binding,
    )
    .await;
    let deployment = |replicas: i64| {
        json!({"metadata": {"name": "d"}, "spec": {"replicas": replicas, "selector": {"matchLabels": {"a": "b"}},
            "template": {"metadata": {"labels": {"a": "b"}}, "spec": pod("x")["spec"]}}})
    };
    let here = "/apis/apps/v1/namespaces/default/deployments";
    let words = c.post(here, &deployment(3)).await.refused(403);
    assert!(
        words.ends_with("denied request: at most 2 in default"),
        "{words}"
    );
    c.post("/apis/apps/v1/namespaces/other/deployments", &deployment(3))
        .await
        .ok();
    c.post(here, &deployment(2)).await.ok();
    c.delete(&format!("{MAPS}/limits")).await.ok();
    let words = c
        .patch(
            &format!("{here}/d"),
            "merge",
            &json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await
        .refused(422);
    assert!(words.contains("failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"), "{words}");
}

#[tokio::test(flavor = "multi_thread")]
async fn warnings_and_failures() {
    let c = start().await;
    let no = json!({"validations": [{"expression": "false", "message": "never"}]});
    validate(
        &c,
        "warns",
        rules("configmaps", &["CREATE"]),
        no,
        json!({"validationActions": ["Warn", "Audit"]}),
    )
    .await;
    let answer = c.post(MAPS, &config_map("a", json!({}))).await;
    assert_eq!(
        warnings(&answer),
        [
            "Validation failed for ValidatingAdmissionPolicy 'warns' with binding 'warns-binding': never"
        ]
    );
    answer.ok();
    let broken = json!({"validations": [{"expression": "object.data.missing == 'x'"}]});
    validate(
        &c,
        "fails",
        rules("secrets", &["CREATE"]),
        broken.clone(),
        json!({}),
    )
    .await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let words = c
        .post(secrets, &json!({"metadata": {"name": "a"}}))
        .await
        .refused(422);
    assert!(
        words.contains(
            "expression 'object.data.missing == 'x'' resulted in error: no such key: data"
        ),
        "{words}"
    );
    let mut lenient = broken;
    lenient["failurePolicy"] = "Ignore".into();
    validate(
        &c,
        "ignores",
        rules("services", &["CREATE"]),
        lenient,
        json!({}),
    )
    .await;
    let service = json!({"metadata": {"name": "s"}, "spec": {"ports": [{"port": 80}]}});
    c.post("/api/v1/namespaces/default/services", &service)
        .await
        .ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_authorizer_answers_expressions() {
    let c = start().await;
    let spec = json!({"validations": [
        {"expression": "authorizer.group('').resource('configmaps').namespace('default').check('create').allowed()"},
        {"expression": "authorizer.requestResource.check('delete').allowed()"},
        {"expression": "!authorizer.serviceAccount('default', 'nobody').group('').resource('secrets').check('list').allowed()"},
    ]});
    validate(
        &c,
        "asks",
        rules("configmaps", &["CREATE"]),
        spec,
        json!({}),
    )
    .await;
    c.post(MAPS, &config_map("a", json!({}))).await.ok();
    let spec = json!({"validations": [{"expression": "authorizer.serviceAccount('default', 'nobody').path('/private').check('get').allowed()", "message": "nobody may"}]});
    validate(
        &c,
        "refuses",
        rules("configmaps", &["CREATE"]),
        spec,
        json!({}),
    )
    .await;
    assert!(
        c.post(MAPS, &config_map("b", json!({})))
            .await
            .refused(422)
            .ends_with("nobody may")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_policies_are_refused() {
    let c = start().await;
    let path = format!("{ADMISSION}/validatingadmissionpolicies");
    let all = || rules("configmaps", &["CREATE"]);
    for (spec, words) in [
        (
            json!({"validations": [{"expression": "object.x >"}]}),
            "spec.validations[0].expression: Invalid value: \"object.x >\": compilation failed: ERROR: <input>:1:11: Syntax error: mismatched input '<EOF>'",
        ),
        (
            json!({"validations": [{"expression": "nope"}]}),
            "undeclared reference to 'nope' (in container '')",
        ),
        (
            json!({"validations": [{"expression": "params.a"}]}),
            "undeclared reference to 'params'",
        ),
        (
            json!({"validations": [{"expression": "'a'"}]}),
            "must evaluate to bool but got string",
        ),
        (
            json!({"validations": [{"expression": "request.nope == ''"}]}),
            "undefined field 'nope'",
        ),
        (
            json!({"validations": [{"expression": "true", "reason": "Else"}]}),
            "spec.validations[0].reason: Unsupported value",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "1"}], "validations": [{"expression": "variables.a == 'x'"}]}),
            "found no matching overload for '_==_' applied to '(int, string)'",
        ),
        (
            json!({"variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}], "validations": [{"expression": "true"}]}),
            "spec.variables[0].expression: Invalid value",
        ),
        (
            json!({}),
            "validations or auditAnnotations must contain at least one item",
        ),
        (
            json!({"matchConditions": [{"name": "a", "expression": "1"}], "validations": [{"expression": "true"}]}),
            "spec.matchConditions[0].expression: Invalid value",
        ),
    ] {
        let found = c
            .post(&path, &policy("broken", all(), spec))
            .await
            .refused(422);
        assert!(found.contains(words), "{words}: {found}");
    }
    let path = format!("{ADMISSION}/validatingadmissionpolicybindings");
    let binding = json!({"metadata": {"name": "b"}, "spec": {"policyName": "p", "validationActions": ["Deny", "Warn"]}});
    assert!(
        c.post(&path, &binding)
            .await
            .refused(422)
            .contains("must not contain both Deny and Warn")
    );
    let path = format!("{ADMISSION}/mutatingadmissionpolicies");
    let spec = json!({"reinvocationPolicy": "Never", "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "Object{}"}}]});
    let found = c
        .post(&path, &policy("broken", all(), spec))
        .await
        .refused(422);
    assert!(
        found.contains("must evaluate to list(JSONPatch) but got Object"),
        "{found}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_change_what_is_written() {
    let c = start().await;
    let apply = "Object{metadata: Object.metadata{labels: {'applied': object.metadata.name}}}";
    mutate(
        &c,
        "a-applies",
        rules("configmaps", &["CREATE", "UPDATE"]),
        json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": apply}}]}),
    )
    .await;
    let patch = "[JSONPatch{op: 'test', path: '/metadata/labels/applied', value: 'a'}, JSONPatch{op: 'add', path: '/data', value: {'by/it'.replace('/', '-'): 'x'}}, JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('x.io/y'), value: 'z'}]";
    mutate(
        &c,
        "b-patches",
        rules("configmaps", &["CREATE"]),
        json!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": patch}}]}),
    )
    .await;
    let made = c
        .post(MAPS, &config_map("a", json!({"own": "1"})))
        .await
        .ok();
    assert_eq!(
        made["metadata"]["labels"],
        json!({"own": "1", "applied": "a", "x.io/y": "z"})
    );
    assert_eq!(made["data"], json!({"by-it": "x"}));
    // A test that fails leaves the object as it is.
    let made = c.post(MAPS, &config_map("b", json!({}))).await.ok();
    assert_eq!(made["metadata"]["labels"], json!({"applied": "b"}));
    assert_eq!(made["data"], json!({"key": "value"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn containers_are_merged_by_name_and_wrong_types_refused() {
    let c = start().await;
    c.post(
        "/api/v1/namespaces/default/serviceaccounts",
        &config_map("default", json!({})),
    )
    .await;
    let sidecar = "Object{spec: Object.spec{containers: [Object.spec.containers{name: 'side', image: 'side'}]}}";
    mutate(
        &c,
        "sidecars",
        rules("pods", &["CREATE"]),
        json!({"reinvocationPolicy": "IfNeeded", "matchConditions": [{"name": "once", "expression": "!object.spec.containers.exists(c, c.name == 'side')"}],
            "mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": sidecar}}]}),
    )
    .await;
    let made = c
        .post("/api/v1/namespaces/default/pods", &pod("p"))
        .await
        .ok();
    let names: Vec<&Value> = made["spec"]["containers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|c| &c["name"])
        .collect();
    assert_eq!(names.len(), 2, "{names:?}");
    assert_eq!(*names[1], "side");
    let wrong = "Object{data: Object.wrong{}}";
    mutate(
        &c,
        "wrong",
        rules("configmaps", &["CREATE"]),
        json!({"mutations": [{"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": wrong}}]}),
    )
    .await;
    let words = c.post(MAPS, &config_map("a", json!({}))).await.refused(403);
    assert!(words.starts_with("policy 'wrong' with binding 'wrong-binding' denied request: type mismatch: unexpected type name \"Object.wrong\""), "{words}");
}
