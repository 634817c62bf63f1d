//! Changes against quotas, as a table.

use api::quota::{Measure, Scope};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::plan::{Change, LimitedResource, charge};

fn scope(name: &str, operator: &str, values: &[&str]) -> Scope {
    Scope::from_object(&json!({"scopeName": name, "operator": operator, "values": values}))
}

fn quota(name: &str, scopes: Value, hard: Value, used: Value) -> Value {
    json!({"metadata": {"name": name}, "spec": {"scopes": scopes},
        "status": {"hard": hard, "used": used}})
}

/// What is used afterwards, by quota, or the refusal.
fn outcome(
    plural: &str,
    old: Option<&Value>,
    new: &Value,
    quotas: &[Value],
    limited: &[LimitedResource],
) -> String {
    let Some(measure) = Measure::of("", plural) else {
        return "not counted".to_owned();
    };
    let subresource = if plural == "pods" && old.is_some() {
        "resize"
    } else {
        ""
    };
    let now = Timestamp::UNIX_EPOCH;
    let group = "";
    let change = Change {
        group,
        plural,
        subresource,
        measure,
        old,
        new,
        now,
    };
    match charge(&change, quotas, limited) {
        Ok(charged) => {
            let words = charged
                .iter()
                .map(|(at, used)| format!("{at}:{}", api::quota::to_value(used)));
            words.collect::<Vec<_>>().join(" ")
        }
        Err(refused) => refused.to_string(),
    }
}

#[test]
fn pods() {
    let cpu = |cpu: &str| {
        json!({"metadata": {"name": "p"}, "status": {"qosClass": "Burstable"},
        "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]}})
    };
    let plain =
        json!({"spec": {"containers": [{"name": "c"}]}, "status": {"qosClass": "BestEffort"}});
    let pods =
        |scopes: Value, used: &str| quota("q", scopes, json!({"pods": "2"}), json!({"pods": used}));
    let cpus = quota(
        "cpus",
        json!([]),
        json!({"requests.cpu": "1", "pods": "5", "services": "1"}),
        json!({"requests.cpu": "600m", "pods": "1", "services": "1"}),
    );
    for (old, new, quotas, wanted) in [
        (
            None,
            &plain,
            vec![pods(json!([]), "1")],
            r#"0:{"pods":"2"}"#,
        ),
        (
            None,
            &plain,
            vec![pods(json!([]), "2")],
            "exceeded quota: q, requested: pods=1, used: pods=2, limited: pods=2",
        ),
        // All or none.
        (
            None,
            &cpu("500m"),
            vec![pods(json!([]), "0"), cpus.clone()],
            "exceeded quota: cpus, requested: requests.cpu=500m, used: requests.cpu=600m, limited: requests.cpu=1",
        ),
        (
            None,
            &cpu("400m"),
            vec![pods(json!([]), "0"), cpus.clone()],
            r#"0:{"pods":"1"} 1:{"pods":"2","requests.cpu":"1","services":"1"}"#,
        ),
        (
            None,
            &plain,
            vec![cpus.clone()],
            "failed quota: cpus: must specify requests.cpu for: c",
        ),
        (None, &plain, vec![pods(json!(["NotBestEffort"]), "2")], ""),
        (
            None,
            &plain,
            vec![pods(json!(["BestEffort", "NotTerminating"]), "0")],
            r#"0:{"pods":"1"}"#,
        ),
        (
            None,
            &plain,
            vec![quota(
                "new",
                json!([]),
                json!({"pods": "1", "cpu": "1"}),
                json!({"cpu": "0"}),
            )],
            "failed quota: new: must specify cpu for: c",
        ),
        (
            None,
            &plain,
            vec![quota("new", json!([]), json!({"pods": "1"}), Value::Null)],
            "status unknown for quota: new, resources: pods",
        ),
        (
            None,
            &plain,
            vec![json!({"spec": {"hard": {"pods": "0"}}})],
            "",
        ),
        // Only what is used more counts.
        (
            Some(cpu("500m")),
            &cpu("900m"),
            vec![cpus.clone()],
            r#"0:{"pods":"1","requests.cpu":"1","services":"1"}"#,
        ),
        (Some(cpu("500m")), &cpu("100m"), vec![cpus.clone()], ""),
    ] {
        let got = outcome("pods", old.as_ref(), new, &quotas, &[]);
        assert_eq!(got, wanted, "{new}");
    }
}

#[test]
fn limited_resources_need_a_quota() {
    let limited = [
        LimitedResource {
            plural: "persistentvolumeclaims".to_owned(),
            match_contains: vec!["gold.storageclass.storage.k8s.io/requests.storage".to_owned()],
            ..LimitedResource::default()
        },
        LimitedResource {
            plural: "pods".to_owned(),
            match_scopes: vec![scope("PriorityClass", "In", &["critical", "high"])],
            ..LimitedResource::default()
        },
    ];
    let claim = |class: &str| json!({"spec": {"storageClassName": class, "resources": {"requests": {"storage": "1Gi"}}}});
    let covering = quota(
        "q",
        json!([]),
        json!({"gold.storageclass.storage.k8s.io/requests.storage": "1Gi"}),
        json!({"gold.storageclass.storage.k8s.io/requests.storage": "0"}),
    );
    let pod = |class: &str| json!({"spec": {"priorityClassName": class, "containers": []}});
    let mut scoped = quota("p", json!([]), json!({"pods": "1"}), json!({"pods": "0"}));
    scoped["spec"]["scopeSelector"] = json!({"matchExpressions": [
        {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}]});
    for (plural, object, quotas, wanted) in [
        (
            "persistentvolumeclaims",
            claim("gold"),
            vec![],
            "insufficient quota to consume: gold.storageclass.storage.k8s.io/requests.storage",
        ),
        ("persistentvolumeclaims", claim("tin"), vec![], ""),
        (
            "persistentvolumeclaims",
            claim("gold"),
            vec![covering],
            r#"0:{"gold.storageclass.storage.k8s.io/requests.storage":"1Gi"}"#,
        ),
        (
            "pods",
            pod("high"),
            vec![],
            "insufficient quota to match these scopes: [{PriorityClass In [critical high]}]",
        ),
        ("pods", pod("low"), vec![], ""),
        ("pods", pod("high"), vec![scoped], r#"0:{"pods":"1"}"#),
    ] {
        assert_eq!(
            outcome(plural, None, &object, &quotas, &limited),
            wanted,
            "{object}"
        );
    }
}
