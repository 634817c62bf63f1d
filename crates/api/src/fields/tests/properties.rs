//! What holds for every object.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn pairs() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", "[1-3]", 0..4)
        .prop_map(|map| Value::Object(map.into_iter().map(|(k, v)| (k, v.into())).collect()))
}

fn container() -> impl Strategy<Value = Value> {
    let port = (
        1..4_u16,
        prop::option::of(prop_oneof![Just("TCP"), Just("UDP")]),
    );
    let ports = prop::collection::btree_set(port, 0..4);
    (
        "[a-c]",
        prop::option::of("[i-k]"),
        ports,
        prop::option::of(pairs()),
    )
        .prop_map(|(name, image, ports, limits)| {
            let mut seen = Vec::new();
            let ports: Vec<Value> = ports
                .into_iter()
                .filter(|(port, protocol)| {
                    let key = (*port, protocol.unwrap_or("TCP"));
                    !seen.contains(&key) && {
                        seen.push(key);
                        true
                    }
                })
                .map(|(port, protocol)| match protocol {
                    Some(protocol) => json!({"containerPort": port, "protocol": protocol}),
                    None => json!({"containerPort": port}),
                })
                .collect();
            let mut container = json!({"name": name});
            if !ports.is_empty() {
                container["ports"] = ports.into();
            }
            if let Some(image) = image {
                container["image"] = image.into();
            }
            if let Some(limits) = limits.filter(|limits| *limits != json!({})) {
                container["resources"] = json!({"limits": limits});
            }
            container
        })
}

/// Pods of few names, so that they meet.
fn pod() -> impl Strategy<Value = Value> {
    let containers = prop::collection::vec(container(), 1..3);
    let finalizers = prop::collection::btree_set("[x-z]/[a-b]", 1..3);
    (pairs(), pairs(), finalizers, containers, pairs()).prop_map(
        |(labels, annotations, finalizers, mut containers, selector)| {
            let mut seen = Vec::new();
            containers.retain(|c| {
                let new = !seen.contains(&c["name"]);
                seen.push(c["name"].clone());
                new
            });
            json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": "p", "labels": labels, "annotations": annotations,
                    "finalizers": finalizers},
                "spec": {"containers": containers, "nodeSelector": selector}})
        },
    )
}

fn applied(live: Option<&Value>, config: &Value, manager: &str) -> Value {
    let target = Target::of(find("pods"), "");
    let mut new = apply(&target, live, config, manager, true, T1).unwrap();
    crate::schema::decode(find("pods"), &mut new).unwrap();
    new
}

fn fields(value: &Value) -> Set {
    Form::of(&find("pods").schema).fields(value).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn sets_there_and_back(pod in pod()) {
        let set = fields(&pod);
        prop_assert_eq!(Set::from_fields_v1(&set.to_fields_v1()).unwrap(), set);
    }

    #[test]
    fn set_operations_agree(a in pod(), b in pod()) {
        let (a, b) = (fields(&a), fields(&b));
        let both = a.intersection(&b);
        let mut only = a.clone();
        only.subtract(&b);
        prop_assert!(only.intersection(&b).is_empty());
        let mut again = only.clone();
        again.unite(both.clone());
        prop_assert_eq!(&again, &a);
        for path in a.paths() {
            prop_assert_eq!(both.has(&path), b.has(&path));
            prop_assert_eq!(only.has(&path), !b.has(&path));
        }
    }

    #[test]
    fn applying_again_changes_nothing(live in pod(), config in pod()) {
        let first = applied(Some(&live), &config, "m");
        prop_assert_eq!(&applied(Some(&first), &config, "m"), &first);
        // All that it says is so.
        for path in fields(&config).paths() {
            prop_assert!(shows(&fields(&first), &path));
        }
    }

    #[test]
    fn what_others_own_stays(live in pod(), one in pod(), two in pod()) {
        let before = applied(Some(&live), &one, "one");
        let there = applied(Some(&before), &two, "two");
        let after = applied(Some(&there), &json!({"apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "p"}}), "two");
        // What the one owned still, and what nobody had applied, is as it was.
        let managed = ManagedFields::of(&there).unwrap();
        let now = fields(&after);
        for entry in managed.iter().filter(|entry| entry.manager != "two") {
            for path in entry.fields.paths() {
                let was = fields(&there).has(&path);
                prop_assert!(!was || now.has(&path), "{path:?}\n{there}\n{after}");
            }
        }
        prop_assert!(ManagedFields::of(&after).unwrap().iter().all(|entry| entry.manager != "two"));
    }

    #[test]
    fn updates_make_owners(live in pod(), new in pod()) {
        let target = Target::of(find("pods"), "");
        let mut first = live.clone();
        update(&target, None, &mut first, "one", T1);
        let mut second = new.clone();
        update(&target, Some(&first), &mut second, "two", T2);
        let managed = ManagedFields::of(&second).unwrap();
        for entry in managed.iter() {
            for path in entry.fields.paths() {
                // Nobody owns what is not there, or never set it.
                prop_assert!(shows(&fields(&new), &path), "{} {path:?}", entry.manager);
                prop_assert!(entry.manager == "two" || shows(&fields(&live), &path), "{path:?}");
            }
        }
        let mut same = second.clone();
        update(&target, Some(&second), &mut same, "three", T2);
        prop_assert_eq!(same, second);
    }
}

/// Whether a path is there, or something below it.
fn shows(set: &Set, path: &[Element]) -> bool {
    let mut set = set;
    for (at, element) in path.iter().enumerate() {
        match set.at(element) {
            None => return false,
            Some(_) if at + 1 == path.len() => return true,
            Some(node) => set = &node.below,
        }
    }
    false
}
