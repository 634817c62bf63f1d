//! Tests of `defaults`.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::json;

use super::*;

fn key(object: &Value) -> (String, String, String) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let metadata = &object["metadata"];
    (
        text(&object["kind"]),
        text(&metadata["namespace"]),
        text(&metadata["name"]),
    )
}

#[test]
fn the_table_says_what_upstream_says() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/upstream/rbac");
    if !folder.is_dir() {
        println!("SKIPPED: upstream's files are not at {}", folder.display());
        return;
    }
    let mut upstream = BTreeMap::new();
    for file in [
        "cluster-roles.yaml",
        "controller-roles.yaml",
        "namespace-roles.yaml",
        "cluster-role-bindings.yaml",
        "controller-role-bindings.yaml",
        "namespace-role-bindings.yaml",
    ] {
        let text = std::fs::read_to_string(folder.join(file)).unwrap();
        let list: Value = serde_saphyr::from_str(&text).unwrap();
        for item in list["items"].as_array().unwrap() {
            // Not upstream's but the downstream's from which the files are.
            if !key(item).2.contains("openshift") {
                assert!(upstream.insert(key(item), item.clone()).is_none());
            }
        }
    }
    let ours: BTreeMap<_, _> = bare()
        .into_iter()
        .map(|object| (key(&object), object))
        .collect();
    assert_eq!(ours.len(), bare().len());
    assert!(ours.keys().eq(upstream.keys()));
    for (key, object) in &ours {
        assert_eq!(object, &upstream[key], "{key:?}");
    }
}

#[test]
fn aggregated_roles_come_with_their_rules() {
    let objects = objects();
    let rules = |name: &str| -> Vec<Rule> {
        let named =
            |object: &&Value| object["kind"] == "ClusterRole" && object["metadata"]["name"] == name;
        let role = objects.iter().find(named).unwrap();
        role["rules"]
            .as_array()
            .unwrap()
            .iter()
            .map(Rule::from_value)
            .collect()
    };
    let (view, edit, admin) = (rules("view"), rules("edit"), rules("admin"));
    assert!(!view.is_empty());
    assert!(
        super::super::rule::missing(&edit, &view).is_empty(),
        "edit has all of view"
    );
    assert!(
        super::super::rule::missing(&admin, &edit).is_empty(),
        "admin has all of edit"
    );
    assert!(!super::super::rule::missing(&view, &edit).is_empty());
    assert!(!super::super::rule::missing(&edit, &admin).is_empty());
}

#[test]
fn reconciling_adds_what_is_missing_and_nothing_else() {
    let objects = objects();
    let find = |kind: &str, name: &str| {
        let named = |object: &&Value| object["kind"] == kind && object["metadata"]["name"] == name;
        objects.iter().find(named).unwrap().clone()
    };
    for object in &objects {
        assert_eq!(reconcile(object, object), None, "{:?}", key(object));
    }
    // A rule that was taken out comes back; one that was added stays, and so do labels.
    let wanted = find("ClusterRole", "system:kube-dns");
    let mut changed = wanted.clone();
    let own = json!({"verbs": ["get"], "apiGroups": ["mine"], "resources": ["things"]});
    changed["rules"] = json!([own]);
    changed["metadata"]["labels"]["mine"] = json!("yes");
    let updated = reconcile(&changed, &wanted).unwrap();
    assert_eq!(updated["rules"][0], own);
    let rules = updated["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(Rule::from_value)
        .collect::<Vec<_>>();
    let needed = wanted["rules"]
        .as_array()
        .unwrap()
        .iter()
        .map(Rule::from_value)
        .collect::<Vec<_>>();
    assert!(super::super::rule::missing(&rules, &needed).is_empty());
    assert_eq!(updated["metadata"]["labels"]["mine"], "yes");
    assert_eq!(reconcile(&updated, &wanted), None);
    changed["metadata"]["annotations"][AUTOUPDATE] = json!("false");
    assert_eq!(reconcile(&changed, &wanted), None, "opted out");

    let wanted = find("ClusterRoleBinding", "system:discovery");
    let mut changed = wanted.clone();
    changed["subjects"] = Value::Null;
    assert_eq!(
        reconcile(&changed, &wanted).unwrap()["subjects"],
        wanted["subjects"]
    );
    changed["roleRef"]["name"] = json!("other");
    assert_eq!(
        reconcile(&changed, &wanted),
        None,
        "a roleRef cannot be changed"
    );
    let mut hostile = wanted.clone();
    hostile["metadata"]["labels"] = Value::Null;
    hostile["subjects"] = json!("none");
    assert!(reconcile(&hostile, &wanted).is_some());
}
