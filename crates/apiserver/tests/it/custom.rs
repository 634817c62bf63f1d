//! Custom resources, from their definition to their end.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

use crate::harness::{Answer, Cluster};

pub const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
pub const FOOS: &str = "/apis/example.com/v1/namespaces/default/foos";

pub fn definition() -> Value {
    let schema = json!({"openAPIV3Schema": {"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "size": {"type": "integer", "maximum": 5},
            "color": {"type": "string", "default": "red"},
            "replicas": {"type": "integer"},
            "ports": {"type": "array", "x-kubernetes-list-type": "map",
                "x-kubernetes-list-map-keys": ["name"],
                "items": {"type": "object", "required": ["name"], "properties": {
                    "name": {"type": "string"}, "port": {"type": "integer"}}}}}},
        "status": {"type": "object", "properties": {
            "replicas": {"type": "integer"}, "phase": {"type": "string"}}}}}});
    let version = |name: &str, storage: bool| {
        json!({"name": name, "served": true, "storage": storage, "schema": schema,
            "selectableFields": [{"jsonPath": ".spec.color"}],
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}],
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas"}}})
    };
    json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "foos", "kind": "Foo", "shortNames": ["fo"], "categories": ["all"]},
            "versions": [version("v1", true), version("v2", false)]}})
}

pub fn foo(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": spec})
}

/// Waits until a definition's condition has a status.
pub async fn until(c: &Cluster, kind: &str, status: &str) -> Value {
    for _ in 0..200 {
        let found = c.get(&format!("{DEFINITIONS}/foos.example.com")).await;
        if found.status == 200 {
            let found = found.ok();
            let conditions = found["status"]["conditions"].as_array().cloned();
            let conditions = conditions.unwrap_or_default();
            if conditions
                .iter()
                .any(|c| c["type"] == kind && c["status"] == status)
            {
                return found;
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no {kind}={status}");
}

async fn started() -> Cluster {
    let c = Cluster::start().await;
    c.post(DEFINITIONS, &definition()).await.ok();
    until(&c, "Established", "True").await;
    c
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_is_established_and_told() {
    let c = started().await;
    let crd = until(&c, "NamesAccepted", "True").await;
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(crd["status"]["acceptedNames"]["listKind"], "FooList");
    assert_eq!(crd["spec"]["names"]["singular"], "foo");
    let group = c.get("/apis/example.com").await.ok();
    assert_eq!(group["preferredVersion"]["version"], "v2");
    let list = c.get("/apis/example.com/v1").await.ok();
    let names: Vec<&Value> = list["resources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| &r["name"])
        .collect();
    assert_eq!(names, ["foos", "foos/status", "foos/scale"]);
    assert_eq!(list["resources"][0]["shortNames"], json!(["fo"]));
    let v3 = c.get("/openapi/v3/apis/example.com/v1").await.ok();
    let foo = &v3["components"]["schemas"]["com.example.v1.Foo"];
    assert_eq!(
        foo["properties"]["spec"]["properties"]["size"]["maximum"],
        5
    );
    let meta = &v3["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"];
    let created = meta["properties"]["creationTimestamp"]["description"].as_str();
    assert!(
        created
            .unwrap()
            .starts_with("CreationTimestamp is a timestamp")
    );
    let paths = v3["paths"].as_object().unwrap();
    let one = &paths["/apis/example.com/v1/namespaces/{namespace}/foos/{name}"];
    let patches = one["patch"]["requestBody"]["content"].as_object().unwrap();
    assert_eq!(patches.len(), 3);
    assert!(!patches.contains_key("application/strategic-merge-patch+json"));
    let v2 = c.get("/openapi/v2").await.ok();
    assert!(v2["definitions"]["com.example.v1.Foo"]["properties"]["metadata"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_schema_clients_are_told_of_no_field() {
    let c = Cluster::start().await;
    let mut open = definition();
    for version in open["spec"]["versions"].as_array_mut().unwrap() {
        let version = version.as_object_mut().unwrap();
        let any = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
        version.insert("schema".to_owned(), json!({"openAPIV3Schema": any}));
        for name in [
            "selectableFields",
            "subresources",
            "additionalPrinterColumns",
        ] {
            version.remove(name);
        }
    }
    c.post(DEFINITIONS, &open).await.ok();
    until(&c, "Established", "True").await;
    let v2 = c.get("/openapi/v2").await.ok();
    let shown = v2["definitions"]["com.example.v1.Foo"].as_object().unwrap();
    let names: Vec<&String> = shown.keys().collect();
    assert_eq!(names, ["type", "x-kubernetes-group-version-kind"]);
    let v3 = c.get("/openapi/v3/apis/example.com/v1").await.ok();
    let foo = &v3["components"]["schemas"]["com.example.v1.Foo"];
    assert_eq!(foo["x-kubernetes-preserve-unknown-fields"], true);
    assert!(foo["properties"]["kind"].is_object());
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_pruned_defaulted_and_checked() {
    let c = started().await;
    let made = c.post(FOOS, &foo("a", json!({"size": 2, "x": 1}))).await;
    let warning = made.headers["warning"].to_str().unwrap().to_owned();
    assert!(
        warning.contains("unknown field \\\"spec.x\\\""),
        "{warning}"
    );
    let made = made.ok();
    assert_eq!(made["spec"], json!({"size": 2, "color": "red"}));
    assert_eq!(made["metadata"]["generation"], 1);
    let refused = c
        .post(FOOS, &foo("b", json!({"size": 6})))
        .await
        .refused(422);
    assert!(
        refused.contains("spec.size in body should be less than or equal to 5"),
        "{refused}"
    );
    let strict = format!("{FOOS}?fieldValidation=Strict");
    let refused = c
        .post(&strict, &foo("b", json!({"x": 1})))
        .await
        .refused(400);
    assert!(
        refused.contains("strict decoding error: unknown field \"spec.x\""),
        "{refused}"
    );
    c.patch(&format!("{FOOS}/a"), "strategic-merge", &json!({}))
        .await
        .refused(415);
    let merged = c
        .patch(&format!("{FOOS}/a"), "merge", &json!({"spec": {"size": 3}}))
        .await
        .ok();
    assert_eq!(merged["metadata"]["generation"], 2);
    let other = c
        .get("/apis/example.com/v2/namespaces/default/foos/a")
        .await
        .ok();
    assert_eq!(other["apiVersion"], "example.com/v2");
    assert_eq!(other["spec"]["size"], 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn status_scale_tables_and_selectors() {
    let c = started().await;
    c.post(FOOS, &foo("a", json!({"size": 2, "replicas": 1})))
        .await
        .ok();
    c.post(FOOS, &foo("b", json!({"color": "blue"}))).await.ok();
    let mut object = c.get(&format!("{FOOS}/a")).await.ok();
    object["spec"]["size"] = 5.into();
    object["status"] = json!({"replicas": 1, "phase": "Up"});
    let stored = c.put(&format!("{FOOS}/a/status"), &object).await.ok();
    assert_eq!(
        (&stored["spec"]["size"], &stored["status"]["phase"]),
        (&json!(2), &json!("Up"))
    );
    assert_eq!(stored["metadata"]["generation"], 1);
    let scale = json!({"spec": {"replicas": 4}});
    let scaled = c
        .patch(&format!("{FOOS}/a/scale"), "merge", &scale)
        .await
        .ok();
    assert_eq!(
        (&scaled["spec"]["replicas"], &scaled["status"]["replicas"]),
        (&json!(4), &json!(1))
    );
    let blue = c
        .get(&format!("{FOOS}?fieldSelector=spec.color%3Dblue"))
        .await
        .ok();
    assert_eq!(blue["items"].as_array().unwrap().len(), 1);
    c.get(&format!("{FOOS}?fieldSelector=spec.size%3D2"))
        .await
        .refused(400);
    let accept = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = c
        .send_with(Method::GET, FOOS, &accept, Bytes::new())
        .await
        .ok();
    assert_eq!(table["columnDefinitions"][1]["name"], "Size");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 2]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_definition_goes_with_its_objects() {
    let c = started().await;
    let mut held = foo("a", json!({}));
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    c.post(FOOS, &held).await.ok();
    c.post(FOOS, &foo("b", json!({}))).await.ok();
    c.delete(&format!("{DEFINITIONS}/foos.example.com"))
        .await
        .ok();
    until(&c, "Terminating", "True").await;
    let refused = c.post(FOOS, &foo("c", json!({}))).await.refused(405);
    assert!(refused.contains("create not allowed while custom resource definition is terminating"));
    let free = json!({"metadata": {"finalizers": null}});
    for _ in 0..200 {
        if c.get(&format!("{FOOS}/b")).await.status == 404 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    c.patch(&format!("{FOOS}/a"), "merge", &free).await.ok();
    for _ in 0..200 {
        if c.get(&format!("{DEFINITIONS}/foos.example.com"))
            .await
            .status
            == 404
        {
            assert_eq!(c.get(FOOS).await.status, 404);
            assert_eq!(c.get("/apis/example.com").await.status, 404);
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the definition stays");
}

#[tokio::test(flavor = "multi_thread")]
async fn unfit_schemas_are_refused() {
    let c = Cluster::start().await;
    let mut bad = definition();
    bad["spec"]["versions"][0]["schema"] = json!({"openAPIV3Schema": {"type": "object",
        "properties": {"a": {"$ref": "#/x"}}}});
    let refused = c.post(DEFINITIONS, &bad).await.refused(422);
    assert!(
        refused.contains("must not be empty for specified object fields"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_definition_says_of_conversion_is_checked() {
    let c = Cluster::start().await;
    let webhook = |client: Value, versions: Value| {
        json!({"strategy": "Webhook",
            "webhook": {"clientConfig": client, "conversionReviewVersions": versions}})
    };
    let url = json!({"url": "https://localhost/"});
    let (mut none, both) = (
        webhook(url.clone(), json!(["v1"])),
        json!({"url": "https://a/",
        "service": {"namespace": "n", "name": "s"}}),
    );
    none["strategy"] = "None".into();
    for (conversion, words) in [
        (
            json!({"strategy": "Odd"}),
            "spec.conversion.strategy: Unsupported value: \"Odd\": supported values: \"None\", \"Webhook\"",
        ),
        (
            none.clone(),
            "spec.conversion.webhookClientConfig: Forbidden: should not be set when strategy is not set to Webhook",
        ),
        (
            none,
            "spec.conversion.conversionReviewVersions: Forbidden: should not be set when strategy is not set to Webhook",
        ),
        (
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook",
        ),
        (
            webhook(both, json!(["v1"])),
            "spec.conversion.webhookClientConfig: Required value: exactly one of url or service is required",
        ),
        (
            webhook(json!({"url": "http://a/"}), json!(["v1"])),
            "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only allowed URL scheme",
        ),
        (
            webhook(
                json!({"service": {"namespace": "n", "name": "s", "path": "x"}}),
                json!(["v1"]),
            ),
            "spec.conversion.webhookClientConfig.service.path: Invalid value: \"x\": must start with a '/'",
        ),
        (
            webhook(url.clone(), json!([])),
            "spec.conversion.conversionReviewVersions: Required value",
        ),
        (
            webhook(url.clone(), json!(["v1", "v1"])),
            "spec.conversion.conversionReviewVersions[1]: Invalid value: \"v1\": duplicate version",
        ),
        (
            webhook(url.clone(), json!(["v2"])),
            "must include at least one of v1, v1beta1",
        ),
    ] {
        let mut made = definition();
        made["spec"]["conversion"] = conversion;
        let told = c.post(DEFINITIONS, &made).await.refused(422);
        assert!(told.contains(words), "{words}: {told}");
    }
    let mut made = definition();
    let service = json!({"service": {"namespace": "n", "name": "s"}, "caBundle": "eA=="});
    made["spec"]["conversion"] = webhook(service, json!(["v1beta1"]));
    let made = c.post(DEFINITIONS, &made).await.ok();
    let client = &made["spec"]["conversion"]["webhook"]["clientConfig"];
    assert_eq!(client["service"]["port"], 443);
    // Authorities that are none are let pass until it is established, which waits for others.
    let found = until(&c, "Established", "False").await;
    let conditions = found["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|one| one["reason"] == "InvalidCABundle"),
        "{found}"
    );
    let path = format!("{DEFINITIONS}/foos.example.com");
    let bundle = |text: Value| json!({"spec": {"conversion": {"webhook": {"clientConfig": {"caBundle": text}}}}});
    c.patch(&path, "merge", &bundle(json!("eQ=="))).await.ok();
    c.patch(&path, "merge", &bundle(Value::Null)).await.ok();
    until(&c, "Established", "True").await;
    let told = c
        .patch(&path, "merge", &bundle(json!("eQ==")))
        .await
        .refused(422);
    assert!(told.contains("spec.conversion.webhookClientConfig.caBundle: Invalid value: \"eQ==\": unable to load root certificates"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_an_older_stored_version_are_served_in_every_version() {
    let c = started().await;
    let old = c.post(FOOS, &foo("old", json!({"size": 1}))).await.ok();
    let path = format!("{DEFINITIONS}/foos.example.com");
    let mut turned = c.get(&path).await.ok();
    turned["spec"]["versions"][0]["storage"] = false.into();
    turned["spec"]["versions"][1]["storage"] = true.into();
    let turned = c.put(&path, &turned).await.ok();
    assert_eq!(turned["status"]["storedVersions"], json!(["v1", "v2"]));
    let v2 = "/apis/example.com/v2/namespaces/default/foos";
    let mut new = foo("new", json!({"size": 2}));
    new["apiVersion"] = "example.com/v2".into();
    c.post(v2, &new).await.ok();
    for (list, version) in [(FOOS, "example.com/v1"), (v2, "example.com/v2")] {
        let found = c.get(list).await.ok();
        let items = found["items"].as_array().unwrap();
        assert_eq!(items.len(), 2);
        for item in items {
            assert_eq!(item["apiVersion"], version, "{list}");
        }
        let one = c.get(&format!("{list}/old")).await.ok();
        assert_eq!(one["apiVersion"], version);
        let mut watch = c
            .watch(&format!(
                "{list}?watch=true&fieldSelector=metadata.name%3Dold"
            ))
            .await;
        assert_eq!(watch.next().await.unwrap()["object"]["apiVersion"], version);
    }
    // A write that says nothing new stores it in the new version, one time.
    let patch = async || {
        c.patch(&format!("{v2}/old"), "merge", &json!({}))
            .await
            .ok()
    };
    let brought = patch().await;
    assert_ne!(
        brought["metadata"]["resourceVersion"],
        old["metadata"]["resourceVersion"]
    );
    assert_eq!(
        brought["metadata"]["generation"],
        old["metadata"]["generation"]
    );
    let again = patch().await;
    assert_eq!(
        again["metadata"]["resourceVersion"],
        brought["metadata"]["resourceVersion"]
    );
    let gone = c.delete(&format!("{v2}/old")).await;
    assert_eq!(gone.status, 200);
}

async fn apply(c: &Cluster, manager: &str, spec: Value) -> Answer {
    let path = format!("{FOOS}/a?fieldManager={manager}");
    let body = foo("a", spec).to_string();
    let kind = "application/apply-patch+yaml";
    c.send(Method::PATCH, &path, kind, body.into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn managers_apply_their_own_items() {
    let c = started().await;
    let ports = |ports: Value| json!({"ports": ports});
    let port = |name: &str, port: i32| json!({"name": name, "port": port});
    apply(&c, "one", ports(json!([port("a", 1)]))).await.ok();
    let both = apply(&c, "two", ports(json!([port("b", 2)]))).await.ok();
    assert_eq!(
        both["spec"]["ports"],
        json!([port("a", 1), port("b", 2)]),
        "{both}"
    );
    let refused = apply(&c, "two", ports(json!([port("a", 3)])))
        .await
        .refused(409);
    assert!(
        refused.contains("conflict with \"one\": .spec.ports[name=\"a\"].port"),
        "{refused}"
    );
    let taken = apply(&c, "two&force=true", ports(json!([port("a", 3)])))
        .await
        .ok();
    assert_eq!(taken["spec"]["ports"], json!([port("a", 3)]));
    // What nobody applies any more is gone; the item is owned by the other one too.
    let left = apply(&c, "two", json!({})).await.ok();
    assert_eq!(left["spec"]["ports"], json!([{"name": "a"}]));
    let refused = apply(&c, "two", json!({"x": 1})).await.refused(500);
    assert!(
        refused.contains("failed to create typed patch object (/a; example.com/v1, Kind=Foo): .spec.x: field not declared in schema"),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn defaults_come_on_read_and_forms_are_chosen() {
    let c = started().await;
    c.post(FOOS, &foo("a", json!({"size": 2}))).await.ok();
    let mut changed = c.get(&format!("{DEFINITIONS}/foos.example.com")).await.ok();
    let schema = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties";
    changed.pointer_mut(schema).unwrap()["mode"] = json!({"type": "string", "default": "fast"});
    changed["spec"]["versions"][0]["deprecated"] = true.into();
    c.put(&format!("{DEFINITIONS}/foos.example.com"), &changed)
        .await
        .ok();
    let mut found = Value::Null;
    for _ in 0..200 {
        let answer = c.get(&format!("{FOOS}/a")).await;
        let warning = answer.headers.get("warning").cloned();
        found = answer.ok();
        if found["spec"]["mode"] == "fast" {
            let warning = warning.unwrap();
            assert_eq!(
                warning.to_str().unwrap(),
                "299 - \"example.com/v1 Foo is deprecated; use example.com/v2 Foo\""
            );
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(found["spec"]["mode"], "fast");
    assert_eq!(c.get(FOOS).await.ok()["items"][0]["spec"]["mode"], "fast");
    let other = c
        .get("/apis/example.com/v2/namespaces/default/foos/a")
        .await
        .ok();
    assert!(other["spec"].get("mode").is_none());
    let proto = "application/vnd.kubernetes.protobuf";
    let accept = [("accept", proto)];
    let get = |accept| c.send_with(Method::GET, FOOS, accept, Bytes::new());
    assert_eq!(get(&accept).await.status, 406);
    let both = format!("{proto},application/json");
    let accept = [("accept", both.as_str())];
    assert_eq!(get(&accept).await.ok()["kind"], "FooList");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_owned_where_the_definition_has_them() {
    let c = Cluster::start().await;
    let mut changed = definition();
    for version in changed["spec"]["versions"].as_array_mut().unwrap() {
        version["subresources"]["scale"]["specReplicasPath"] = ".spec.size".into();
    }
    c.post(DEFINITIONS, &changed).await.ok();
    until(&c, "Established", "True").await;
    apply(&c, "one", json!({"size": 2})).await.ok();
    let scale = json!({"spec": {"replicas": 4}});
    let path = format!("{FOOS}/a/scale?fieldManager=scaler");
    c.patch(&path, "merge", &scale).await.ok();
    let refused = apply(&c, "one", json!({"size": 2})).await.refused(409);
    assert!(
        refused.contains(
            "conflict with \"scaler\" with subresource \"scale\" using example.com/v1: .spec.size"
        ),
        "{refused}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn protected_groups_need_approval() {
    let c = Cluster::start().await;
    let mut own = definition();
    own["spec"]["group"] = "x.k8s.io".into();
    own["metadata"]["name"] = "foos.x.k8s.io".into();
    let refused = c.post(DEFINITIONS, &own).await.refused(422);
    assert!(
        refused.contains("metadata.annotations[api-approved.kubernetes.io]: Required value"),
        "{refused}"
    );
    own["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
    c.post(DEFINITIONS, &own).await.ok();
    for _ in 0..200 {
        let found = c.get(&format!("{DEFINITIONS}/foos.x.k8s.io")).await.ok();
        let all = found["status"]["conditions"].as_array().cloned();
        let all = all.unwrap_or_default();
        let kind = "KubernetesAPIApprovalPolicyConformant";
        if let Some(condition) = all.iter().find(|c| c["type"] == kind) {
            assert_eq!(condition["reason"], "UnapprovedAnnotation");
            assert_eq!(condition["status"], "False");
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("no condition");
}

#[tokio::test(flavor = "multi_thread")]
async fn quota_counts_them() {
    let c = started().await;
    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let hard = json!({"count/foos.example.com": "1"});
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": hard}});
    c.post(quotas, &quota).await.ok();
    let status = json!({"status": {"hard": hard, "used": {"count/foos.example.com": "0"}}});
    c.patch(&format!("{quotas}/q/status"), "merge", &status)
        .await
        .ok();
    c.post(FOOS, &foo("a", json!({}))).await.ok();
    let refused = c.post(FOOS, &foo("b", json!({}))).await.refused(403);
    assert!(refused.contains("exceeded quota: q"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_schema_names_no_more_is_not_served() {
    let c = started().await;
    c.post(FOOS, &foo("a", json!({"size": 1, "replicas": 2})))
        .await
        .ok();
    let path = format!("{DEFINITIONS}/foos.example.com");
    let at = c.get(FOOS).await.ok()["metadata"]["resourceVersion"].clone();
    let at = at.as_str().unwrap().to_owned();
    let mut less = c.get(&path).await.ok();
    for version in [0, 1] {
        let schema = &mut less["spec"]["versions"][version]["schema"]["openAPIV3Schema"];
        let spec = schema["properties"]["spec"]["properties"]
            .as_object_mut()
            .unwrap();
        spec.remove("replicas");
        spec.insert(
            "weight".to_owned(),
            json!({"type": "integer", "default": 7}),
        );
        less["spec"]["versions"][version]["subresources"] = json!({"status": {}});
    }
    c.put(&path, &less).await.ok();
    let spec = json!({"size": 1, "color": "red", "weight": 7});
    assert_eq!(c.get(&format!("{FOOS}/a")).await.ok()["spec"], spec);
    assert_eq!(c.get(FOOS).await.ok()["items"][0]["spec"], spec);
    let then = format!("{FOOS}?resourceVersion={at}&resourceVersionMatch=Exact");
    assert_eq!(c.get(&then).await.ok()["items"][0]["spec"], spec);
    let mut watch = c.watch(&format!("{FOOS}?watch=true")).await;
    assert_eq!(watch.next().await.unwrap()["object"]["spec"], spec);
    // A write that says nothing new brings it in line.
    let before = c.get(&format!("{FOOS}/a")).await.ok();
    let after = c
        .patch(&format!("{FOOS}/a"), "merge", &json!({}))
        .await
        .ok();
    assert_eq!(after["spec"], spec);
    assert_ne!(
        before["metadata"]["resourceVersion"],
        after["metadata"]["resourceVersion"]
    );
    let again = c
        .patch(&format!("{FOOS}/a"), "merge", &json!({}))
        .await
        .ok();
    assert_eq!(again["metadata"], after["metadata"]);
    // Nulls that nothing stands for go, too.
    let made = c
        .post(FOOS, &foo("b", json!({"size": null, "color": null})))
        .await
        .ok();
    assert_eq!(made["spec"], json!({"color": "red", "weight": 7}));
}
