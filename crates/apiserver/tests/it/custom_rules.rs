//! Rules in the schemas of custom resources.

use serde_json::{Value, json};

use crate::custom::{DEFINITIONS, FOOS, definition, foo, until};
use crate::harness::Cluster;

/// The definition with this schema of `spec` in its stored version.
fn ruled(spec: Value) -> Value {
    let mut made = definition();
    let versions = made["spec"]["versions"].as_array_mut().unwrap();
    versions.truncate(1);
    versions[0]
        .as_object_mut()
        .unwrap()
        .remove("selectableFields");
    versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"] = spec;
    made
}

async fn serving(spec: Value) -> Cluster {
    let c = Cluster::start().await;
    c.post(DEFINITIONS, &ruled(spec)).await.ok();
    until(&c, "Established", "True").await;
    c
}

fn integers(rules: Value) -> Value {
    json!({"type": "object", "x-kubernetes-validations": rules, "properties": {
        "x": {"type": "integer", "maximum": 100}, "y": {"type": "integer"},
        "label": {"type": "string"}, "must": {"type": "array", "items": {"type": "integer"}},
        "replicas": {"type": "integer"}}})
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_rules_are_refused_in_upstreams_words() {
    let c = serving(integers(json!([
        {"rule": "self.x + self.y > 0"},
        {"rule": "!has(self.label) || self.label != 'bad'", "message": "a bad label", "fieldPath": ".label"},
        {"rule": "self.x < 50", "messageExpression": "self.x > 55 ? 'x is far too large' : 'x is too large'"},
    ])))
    .await;
    c.post(FOOS, &foo("good", json!({"x": 1, "y": 0})))
        .await
        .ok();
    let refused = async |spec: Value| c.post(FOOS, &foo("bad", spec)).await.refused(422);
    let told = refused(json!({"x": 0, "y": -1})).await;
    assert_eq!(
        told,
        "Foo.example.com \"bad\" is invalid: spec: Invalid value: failed rule: self.x + self.y > 0"
    );
    let told = refused(json!({"x": 1, "y": 0, "label": "bad"})).await;
    assert!(
        told.contains("spec.label: Invalid value: a bad label"),
        "{told}"
    );
    let told = refused(json!({"x": 60, "y": 0})).await;
    assert!(
        told.contains("spec: Invalid value: x is far too large"),
        "{told}"
    );
    // A value that is out of bounds does not hide the rules, one of another type does.
    let told = refused(json!({"x": 101, "y": 0})).await;
    assert!(
        told.contains("x is far too large") && told.contains("less than or equal to 100"),
        "{told}"
    );
    let told = refused(json!({"x": "1", "y": -2})).await;
    assert!(
        told.contains("some validation rules were not checked"),
        "{told}"
    );
    assert!(!told.contains("failed rule"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn transitions_are_checked_and_old_faults_ratcheted() {
    let c = serving(integers(
        json!([{"rule": "self.x >= oldSelf.x", "message": "x only grows"}]),
    ))
    .await;
    let made = c.post(FOOS, &foo("a", json!({"x": 3, "y": -9}))).await.ok();
    let path = format!("{FOOS}/a");
    let told = c
        .patch(&path, "merge", &json!({"spec": {"x": 2}}))
        .await
        .refused(422);
    assert!(told.contains("spec: Invalid value: x only grows"), "{told}");
    c.patch(&path, "merge", &json!({"spec": {"x": 4}}))
        .await
        .ok();
    drop(made);
    // A rule that comes later does not refuse what is there already.
    let mut newer = c.get(&format!("{DEFINITIONS}/foos.example.com")).await.ok();
    newer["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"] =
        integers(json!([{"rule": "self.y >= 0", "message": "y is natural"}]));
    c.put(&format!("{DEFINITIONS}/foos.example.com"), &newer)
        .await
        .ok();
    let kept = c
        .patch(&path, "merge", &json!({"metadata": {"labels": {"a": "b"}}}))
        .await;
    let warning = kept.headers["warning"].to_str().unwrap().to_owned();
    assert!(
        warning.contains("spec: Invalid value: y is natural"),
        "{warning}"
    );
    kept.ok();
    let told = c
        .patch(&path, "merge", &json!({"spec": {"x": 5}}))
        .await
        .refused(422);
    assert!(told.contains("y is natural"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_of_the_status_hold_for_the_status() {
    let c = Cluster::start().await;
    let mut made = ruled(integers(json!([])));
    made["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["status"]["x-kubernetes-validations"] =
        json!([{"rule": "self.phase in ['Up', 'Down']"}]);
    c.post(DEFINITIONS, &made).await.ok();
    until(&c, "Established", "True").await;
    c.post(FOOS, &foo("a", json!({"x": 1}))).await.ok();
    let status = |phase: &str| json!({"status": {"phase": phase}});
    let path = format!("{FOOS}/a/status");
    let told = c.patch(&path, "merge", &status("Odd")).await.refused(422);
    assert!(
        told.contains("status: Invalid value: failed rule: self.phase in"),
        "{told}"
    );
    c.patch(&path, "merge", &status("Up")).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_costs_too_much_is_stopped() {
    let spec = json!({"type": "object",
        "x-kubernetes-validations": [{"rule": "self.large.all(x, self.large.all(y, y == x))"}],
        "properties": {"large": {"type": "array", "maxItems": 725, "items": {"type": "integer"}}}});
    let c = serving(spec).await;
    c.post(FOOS, &foo("few", json!({"large": [1, 1]})))
        .await
        .ok();
    let many = foo("many", json!({"large": vec![1; 725]}));
    let told = c.post(FOOS, &many).await.refused(422);
    assert!(told.contains("call cost exceeds limit"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_with_unfit_rules_are_refused() {
    let c = Cluster::start().await;
    let refused = async |rule: &str| {
        let made = ruled(integers(json!([{"rule": rule}])));
        c.post(DEFINITIONS, &made).await.refused(422)
    };
    let told = refused("self.z == 100").await;
    assert!(told.contains("undefined field 'z'"), "{told}");
    assert!(
        told.contains("spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule: Invalid value"),
        "{told}"
    );
    let told = refused("self = 42").await;
    assert!(told.contains("Syntax error"), "{told}");
    let told = refused("self.must.all(a, self.must.all(b, a == b))").await;
    assert!(told.contains("exceeds budget"), "{told}");
}
