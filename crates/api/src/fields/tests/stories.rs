//! Stories of several managers and one object.

use expect_test::{Expect, expect};
use serde_json::json;

use super::*;

/// An object that managers write to.
struct Story {
    resource: &'static Resource,
    object: Option<Value>,
    now: &'static str,
}

impl Story {
    fn of(plural: &str) -> Self {
        Self {
            resource: find(plural),
            object: None,
            now: T1,
        }
    }

    fn full(&self, text: &str) -> Value {
        let mut config = yaml(text);
        config["apiVersion"] = (&self.resource.api_version).into();
        config["kind"] = (&self.resource.kind).into();
        config["metadata"]["name"] = "x".into();
        config
    }

    fn try_apply(
        &mut self,
        manager: &str,
        part: &str,
        force: bool,
        text: &str,
    ) -> Result<(), ApplyError> {
        let target = Target::of(self.resource, part);
        let config = self.full(text);
        let mut new = apply(
            &target,
            self.object.as_ref(),
            &config,
            manager,
            force,
            self.now,
        )?;
        crate::schema::decode(self.resource, &mut new).unwrap();
        let storage = self.resource.storage();
        crate::convert::convert(self.resource, storage, &mut new);
        if let Some(old) = &self.object {
            keep_times(&mut new, old);
        }
        self.object = Some(new);
        Ok(())
    }

    #[track_caller]
    fn apply(&mut self, manager: &str, text: &str) {
        self.try_apply(manager, "", false, text).unwrap();
    }

    /// Any other write: the object is changed and told who did it.
    fn update(&mut self, manager: &str, part: &str, change: impl FnOnce(&mut Value)) {
        let target = Target::of(self.resource, part);
        let mut new = self.object.clone().unwrap_or_default();
        change(&mut new);
        update(&target, self.object.as_ref(), &mut new, manager, self.now);
        if let Some(old) = &self.object {
            keep_times(&mut new, old);
        }
        self.object = Some(new);
    }

    #[track_caller]
    fn create(&mut self, manager: &str, text: &str) {
        let mut new = self.full(text);
        update(
            &Target::of(self.resource, ""),
            None,
            &mut new,
            manager,
            self.now,
        );
        self.object = Some(new);
    }

    fn object(&self) -> &Value {
        self.object.as_ref().unwrap()
    }

    /// The object without what is not of interest.
    fn body(&self) -> Value {
        let mut body = self.object().clone();
        for name in ["apiVersion", "kind"] {
            body.as_object_mut().unwrap().remove(name);
        }
        crate::meta::remove(&mut body, "managedFields");
        crate::meta::remove(&mut body, "name");
        body
    }

    fn owned(&self, expected: &Expect) {
        expected.assert_eq(&owners(self.object()));
    }
}

fn refused(done: Result<(), ApplyError>) -> String {
    done.unwrap_err().to_string()
}

#[test]
fn appliers_share_conflict_force_and_give_up() {
    let mut s = Story::of("deployments");
    s.apply(
        "one",
        "{metadata: {labels: {a: '1'}}, spec: {replicas: 3, paused: true}}",
    );
    s.owned(&expect![[r#"
        one Apply apps/v1 2026-01-01T00:00:01Z
          .metadata.labels.a
          .spec.paused
          .spec.replicas
    "#]]);
    // The same again changes nothing, not even the time.
    let before = s.object().clone();
    s.now = T2;
    s.apply(
        "one",
        "{metadata: {labels: {a: '1'}}, spec: {replicas: 3, paused: true}}",
    );
    assert_eq!(*s.object(), before);
    // Another one says the same: both own it.
    s.apply("two", "{spec: {replicas: 3}}");
    assert_eq!(
        refused(s.try_apply("two", "", false, "{spec: {replicas: 5}}")),
        "Apply failed with 1 conflict: conflict with \"one\": .spec.replicas"
    );
    assert_eq!(
        refused(s.try_apply(
            "two",
            "",
            false,
            "{metadata: {labels: {a: '2'}}, spec: {replicas: 5}}"
        )),
        "Apply failed with 2 conflicts: conflicts with \"one\":\n- .metadata.labels.a\n- .spec.replicas"
    );
    s.try_apply("two", "", true, "{spec: {replicas: 5}}")
        .unwrap();
    s.owned(&expect![[r#"
        one Apply apps/v1 2026-01-01T00:00:01Z
          .metadata.labels.a
          .spec.paused
        two Apply apps/v1 2026-01-01T00:00:02Z
          .spec.replicas
    "#]]);
    // What the first gives up goes, but for what another owns.
    s.apply("one", "{metadata: {labels: {b: '1'}}}");
    assert_eq!(
        s.body(),
        json!({"metadata": {"labels": {"b": "1"}}, "spec": {"replicas": 5}})
    );
    s.apply("two", "{}");
    assert_eq!(s.body(), json!({"metadata": {"labels": {"b": "1"}}}));
    s.owned(&expect![[r#"
        one Apply apps/v1 2026-01-01T00:00:02Z
          .metadata.labels.b
    "#]]);
}

#[test]
fn updates_own_what_they_change() {
    let mut s = Story::of("deployments");
    s.create(
        "kubectl-create",
        "{spec: {replicas: 1, selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}},
          spec: {containers: [{name: c, image: i, ports: [{containerPort: 80, protocol: TCP}]}]}}}, status: {replicas: 9}}",
    );
    // As upstream writes it: structs that are always there are nobody's, new items are their maker's.
    s.owned(&expect![[r#"
        kubectl-create Update apps/v1 2026-01-01T00:00:01Z
          .spec.replicas
          .spec.selector
          .spec.template.metadata.labels
          .spec.template.metadata.labels.a
          .spec.template.spec.containers[name="c"]
          .spec.template.spec.containers[name="c"].image
          .spec.template.spec.containers[name="c"].name
          .spec.template.spec.containers[name="c"].ports
          .spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]
          .spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort
          .spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].protocol
    "#]]);
    s.now = T2;
    s.update("scaler", "", |o| o["spec"]["replicas"] = json!(2));
    s.update("controller", "status", |o| {
        o["status"] =
            json!({"replicas": 2, "conditions": [{"type": "Available", "status": "True"}]});
        o["spec"]["replicas"] = json!(7);
    });
    s.owned(&expect![[r#"
        kubectl-create Update apps/v1 2026-01-01T00:00:01Z
          .spec.selector
          .spec.template.metadata.labels
          .spec.template.metadata.labels.a
          .spec.template.spec.containers[name="c"]
          .spec.template.spec.containers[name="c"].image
          .spec.template.spec.containers[name="c"].name
          .spec.template.spec.containers[name="c"].ports
          .spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"]
          .spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].containerPort
          .spec.template.spec.containers[name="c"].ports[containerPort=80,protocol="TCP"].protocol
        controller Update/status apps/v1 2026-01-01T00:00:02Z
          .status.conditions
          .status.replicas
          .status.conditions[type="Available"]
          .status.conditions[type="Available"].status
          .status.conditions[type="Available"].type
        scaler Update apps/v1 2026-01-01T00:00:02Z
          .spec.replicas
    "#]]);
    s.update("other", "", |o| o["spec"]["replicas"] = json!(3));
    let conflict = s.try_apply("me", "", false, "{spec: {replicas: 4}}");
    assert_eq!(
        refused(conflict),
        "Apply failed with 1 conflict: conflict with \"other\" using apps/v1: .spec.replicas"
    );
    let conflict = s.try_apply("me", "status", false, "{status: {replicas: 4}}");
    assert_eq!(
        refused(conflict),
        "Apply failed with 1 conflict: conflict with \"controller\" with subresource \"status\" using apps/v1: .status.replicas"
    );
    // What cannot be set through the door is nobody's, and no conflict.
    s.apply("me", "{status: {replicas: 8}}");
    assert!(!owners(s.object()).contains("me "));
}

#[test]
fn lists_give_up_items() {
    let mut s = Story::of("pods");
    s.apply(
        "one",
        "{metadata: {finalizers: [x/a, x/b]}, spec: {containers: [{name: a, image: i}, {name: b, image: i}],
          nodeSelector: {x: z}}}",
    );
    s.apply(
        "two",
        "{metadata: {finalizers: [x/b]}, spec: {containers: [{name: b, tty: true}]}}",
    );
    s.update("three", "", |o| {
        o["spec"]["containers"][0]["stdin"] = json!(true);
    });
    s.apply("one", "{spec: {containers: [{name: a, image: i}]}}");
    assert_eq!(
        s.body(),
        json!({"metadata": {"finalizers": ["x/b"]}, "spec": {"containers": [
            {"name": "a", "image": "i", "stdin": true}, {"name": "b", "tty": true}]}})
    );
    // An item goes with all that the applier and nobody else set in it.
    s.apply("two", "{}");
    assert_eq!(
        s.body(),
        json!({"metadata": {}, "spec": {"containers": [{"name": "a", "image": "i", "stdin": true}]}})
    );
    s.owned(&expect![[r#"
        one Apply v1 2026-01-01T00:00:01Z
          .spec.containers[name="a"]
          .spec.containers[name="a"].image
          .spec.containers[name="a"].name
        three Update v1 2026-01-01T00:00:01Z
          .spec.containers[name="a"].stdin
    "#]]);
}

#[test]
fn what_was_there_before_is_the_first_managers() {
    let mut s = Story::of("configmaps");
    s.object = Some(yaml(
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, data: {a: '1', b: '2'}}",
    ));
    s.update("nobody", "", |o| o["data"]["c"] = json!("3"));
    s.owned(&expect![""]);
    s.apply("me", "{data: {a: '1', d: '4'}}");
    s.owned(&expect![[r#"
        me Apply v1 2026-01-01T00:00:01Z
          .data.a
          .data.d
        before-first-apply Update v1 2026-01-01T00:00:01Z
          .data
          .data.a
          .data.b
          .data.c
    "#]]);
    let conflict = s.try_apply("me", "", false, "{data: {a: '2'}}");
    assert_eq!(
        refused(conflict),
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .data.a"
    );
}

#[test]
fn clients_may_forget_reset_or_write_managed_fields() {
    let mut s = Story::of("configmaps");
    s.create("one", "{data: {a: '1'}}");
    let before = s.object().clone();
    s.update("two", "", |o| {
        crate::meta::remove(o, "managedFields");
    });
    assert_eq!(*s.object(), before);
    s.update("two", "", |o| {
        o["metadata"]["managedFields"] = json!([{"operation": "What"}])
    });
    assert_eq!(*s.object(), before);
    s.update("two", "", |o| {
        o["metadata"]["managedFields"][0]["manager"] = json!("renamed")
    });
    s.owned(&expect![[r#"
        renamed Update v1 2026-01-01T00:00:01Z
          .data
          .data.a
    "#]]);
    for list in [json!([]), json!([{}])] {
        s.object = Some(before.clone());
        s.update("two", "", |o| o["metadata"]["managedFields"] = list);
        assert_eq!(s.object()["metadata"], json!({"name": "x"}));
        s.update("two", "", |o| o["data"]["b"] = json!("2"));
        s.owned(&expect![""]);
    }
}

#[test]
fn the_oldest_updaters_become_one() {
    let mut s = Story::of("configmaps");
    s.create("m00", "{data: {k00: v}}");
    for i in 1..14 {
        s.now = Box::leak(format!("2026-01-01T00:00:{i:02}Z").into_boxed_str());
        s.update(&format!("m{i:02}"), "", |o| {
            o["data"][format!("k{i:02}")] = json!("v")
        });
    }
    let all = owners(s.object());
    let heads: Vec<&str> = all.lines().filter(|line| !line.starts_with(' ')).collect();
    assert_eq!(heads.len(), 10, "{all}");
    assert_eq!(heads[0], "ancient-changes Update v1 2026-01-01T00:00:04Z");
    assert_eq!(heads[1], "m05 Update v1 2026-01-01T00:00:05Z");
    assert!(all.contains("  .data.k00\n") && all.contains("  .data.k04\n"));
}

#[test]
fn what_kubectl_applied_by_itself_is_its_own() {
    let mut s = Story::of("configmaps");
    let last = |data: &str| {
        format!(
            "{{\"apiVersion\":\"v1\",\"kind\":\"ConfigMap\",\"metadata\":{{\"name\":\"x\"}},\"data\":{data}}}"
        )
    };
    let object = json!({"metadata": {"annotations": {
        "kubectl.kubernetes.io/last-applied-configuration": last(r#"{"a":"1","b":"2"}"#)}},
        "data": {"a": "1", "b": "2"}});
    s.create("kubectl-client-side-apply", &object.to_string());
    s.update("other", "", |o| o["data"]["b"] = json!("3"));
    // Another manager conflicts; kubectl does only where the live value is not what it applied.
    assert!(
        s.try_apply("someone", "", false, "{data: {a: '5'}}")
            .is_err()
    );
    let conflict = s.try_apply("kubectl", "", false, "{data: {a: '5', b: '6'}}");
    assert_eq!(
        refused(conflict),
        "Apply failed with 1 conflict: conflict with \"other\" using v1: .data.b"
    );
    s.apply("kubectl", "{data: {a: '5'}}");
    assert_eq!(s.object()["data"], json!({"a": "5", "b": "3"}));
    // The way back: the annotation says what was applied.
    let annotation = crate::meta::annotation(
        s.object(),
        "kubectl.kubernetes.io/last-applied-configuration",
    );
    let told: Value = serde_json::from_str(annotation.unwrap()).unwrap();
    assert_eq!(told["data"], json!({"a": "5"}));
    assert!(annotation.unwrap().ends_with('\n'));
}

#[test]
fn versions_of_one_kind_own_the_same_field() {
    let mut s = Story::of("autoscaling/v1/horizontalpodautoscalers");
    s.apply(
        "old",
        "{spec: {maxReplicas: 5, targetCPUUtilizationPercentage: 80}}",
    );
    assert_eq!(s.object()["apiVersion"], "autoscaling/v2");
    s.owned(&expect![[r#"
        old Apply autoscaling/v1 2026-01-01T00:00:01Z
          .spec.maxReplicas
          .spec.targetCPUUtilizationPercentage
    "#]]);
    s.resource = find("autoscaling/v2/horizontalpodautoscalers");
    let conflict = s.try_apply("new", "", false, "{spec: {maxReplicas: 6}}");
    assert_eq!(
        refused(conflict),
        "Apply failed with 1 conflict: conflict with \"old\": .spec.maxReplicas"
    );
    // The same manager goes on in the new version, and gives up what it said in the old one.
    s.apply("old", "{spec: {maxReplicas: 5, minReplicas: 2}}");
    assert_eq!(
        s.body(),
        json!({"metadata": {}, "spec": {"maxReplicas": 5, "minReplicas": 2}})
    );
    // A version that is no more owns nothing.
    let entry = json!({"manager": "gone", "operation": "Update", "apiVersion": "autoscaling/v9",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"f:maxReplicas": {}}}});
    let mut managed = s.object()["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .clone();
    managed.push(entry);
    s.object.as_mut().unwrap()["metadata"]["managedFields"] = managed.into();
    s.apply("old", "{spec: {maxReplicas: 7, minReplicas: 2}}");
    assert!(!owners(s.object()).contains("gone"));
}

#[test]
fn what_became_one_value_is_owned_as_one() {
    // As if `selector` had once been a map of fields.
    let mut s = Story::of("services");
    s.apply("one", "{spec: {selector: {a: b}, type: ClusterIP}}");
    let fields = json!({"f:spec": {"f:selector": {"f:a": {}, "f:c": {}}, "f:type": {}}});
    s.object.as_mut().unwrap()["metadata"]["managedFields"][0]["fieldsV1"] = fields;
    s.update("two", "", |o| o["spec"]["sessionAffinity"] = json!("None"));
    s.owned(&expect![[r#"
        one Apply v1 2026-01-01T00:00:01Z
          .spec.selector
          .spec.type
        two Update v1 2026-01-01T00:00:01Z
          .spec.sessionAffinity
    "#]]);
}

#[test]
fn replicas_through_scale() {
    let mut s = Story::of("deployments");
    s.apply("one", "{spec: {replicas: 3, paused: true}}");
    let managed = || ManagedFields::of(s.object.as_ref().unwrap()).unwrap();
    let scale = |replicas: i64, managed: ManagedFields| {
        let mut scale = json!({"apiVersion": "autoscaling/v1", "kind": "Scale",
            "metadata": {"name": "x"}, "spec": {"replicas": replicas}});
        managed.put(&mut scale);
        scale
    };
    let target = Target::scale().unwrap();
    let at = |_: &str| Some(vec!["spec", "replicas"]);
    let old = scale(3, workload_to_scale(&managed(), &at));
    let mut new = scale(4, ManagedFields::default());
    update(&target, Some(&old), &mut new, "hpa", T2);
    let managed = scale_to_workload(managed(), ManagedFields::of(&new).unwrap(), "apps/v1", &at);
    managed.put(s.object.as_mut().unwrap());
    s.owned(&expect![[r#"
        one Apply apps/v1 2026-01-01T00:00:01Z
          .spec.paused
        hpa Update/scale apps/v1 2026-01-01T00:00:02Z
          .spec.replicas
    "#]]);
    s.object.as_mut().unwrap()["spec"]["replicas"] = json!(4);
    let conflict = s.try_apply("one", "", false, "{spec: {replicas: 3, paused: true}}");
    assert_eq!(
        refused(conflict),
        "Apply failed with 1 conflict: conflict with \"hpa\" with subresource \"scale\" using apps/v1: .spec.replicas"
    );
}

#[test]
fn replicas_that_stand_elsewhere_in_each_version() {
    let entry = |manager: &str, version: &str, fields: Value| {
        json!({"manager": manager, "operation": "Update", "apiVersion": version,
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": fields}, "time": T2})
    };
    let object = json!({"metadata": {"managedFields": [
        entry("one", "g.io/v1", json!({"f:size": {}, "f:other": {}})),
        entry("three", "g.io/v3", json!({"f:size": {}})),
        entry("two", "g.io/v2", json!({"f:count": {}, "f:size": {}}))]}});
    let at = |version: &str| match version {
        "g.io/v1" => Some(vec!["spec", "size"]),
        "g.io/v2" => Some(vec!["spec", "count"]),
        _ => None,
    };
    let managed = ManagedFields::of(&object).unwrap();
    let scale = workload_to_scale(&managed, &at);
    let owners: Vec<&str> = scale.iter().map(|entry| &*entry.manager).collect();
    assert_eq!(owners, ["one", "two"]);
    // Somebody else scales by way of v2.
    let mut scaled = json!({"metadata": {"managedFields":
        [entry("hpa", "autoscaling/v1", json!({"f:replicas": {}}))]}});
    scaled["metadata"]["managedFields"][0]["subresource"] = "scale".into();
    let scaled = ManagedFields::of(&scaled).unwrap();
    let mut workload = json!({"metadata": {}});
    scale_to_workload(managed, scaled, "g.io/v2", &at).put(&mut workload);
    let left: Vec<String> = workload["metadata"]["managedFields"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let text = |name: &str| entry[name].as_str().unwrap().to_owned();
            format!(
                "{} {} {}",
                text("manager"),
                text("apiVersion"),
                entry["fieldsV1"]["f:spec"]
            )
        })
        .collect();
    assert_eq!(
        left,
        [
            "hpa g.io/v2 {\"f:count\":{}}",
            "one g.io/v1 {\"f:other\":{}}",
            "three g.io/v3 {\"f:size\":{}}",
            "two g.io/v2 {\"f:size\":{}}",
        ]
    );
}
