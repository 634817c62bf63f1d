//! Tests of `garbage`.

use super::*;
use serde_json::{Value, json};

fn object(uid: &str, words: &str) -> Arc<Meta> {
    let mut meta = json!({"name": uid, "namespace": "a", "uid": uid, "resourceVersion": "1",
        "ownerReferences": [], "finalizers": []});
    for word in words.split_whitespace() {
        match word.split_once('=').unwrap_or((word, "")) {
            ("owner", owner) => push(&mut meta, "ownerReferences", owner_of(owner, true)),
            ("loose", owner) => push(&mut meta, "ownerReferences", owner_of(owner, false)),
            ("deleted", _) => meta["deletionTimestamp"] = json!("2020-01-01T00:00:00Z"),
            (finalizer, _) => push(&mut meta, "finalizers", json!(finalizer)),
        }
    }
    Arc::new(serde_json::from_value(json!({"metadata": meta})).unwrap())
}

fn push(meta: &mut Value, list: &str, value: Value) {
    meta[list].as_array_mut().unwrap().push(value);
}

fn owner_of(uid: &str, block: bool) -> Value {
    json!({"apiVersion": "v1", "kind": "X", "name": uid, "uid": uid, "blockOwnerDeletion": block})
}

/// Feeds lines such as `put a owner=b` and `remove a` to a graph; answers the tasks of the last.
fn feed(lines: &[&str]) -> (Graph, String) {
    let (mut graph, mut last) = (Graph::default(), Vec::new());
    let collection = Arc::new(Collection::for_tests("X"));
    for line in lines {
        let mut words = line.splitn(3, ' ');
        let (verb, uid) = (words.next().unwrap(), words.next().unwrap());
        last = match verb {
            "put" => graph.put(&collection, &object(uid, words.next().unwrap_or_default())),
            _ => graph.remove(uid),
        };
    }
    last.sort();
    let told: Vec<String> = last.iter().map(ToString::to_string).collect();
    (graph, told.join(", "))
}

#[test]
fn a_change_asks_the_right_questions() {
    let table: [(&[&str], &str); 10] = [
        (&["put a", "put b owner=a"], ""),
        (&["put b owner=a"], "verify a"),
        (&["put b owner=a", "put a"], ""),
        (&["put a", "put b owner=a", "remove a"], "check b"),
        (&["remove a", "put b owner=a"], "check b"),
        (
            &["put a", "put b owner=a", "put a deleted foregroundDeletion"],
            "check a, check b",
        ),
        (
            &[
                "put a deleted foregroundDeletion",
                "put b owner=a",
                "remove b",
            ],
            "check a",
        ),
        (
            &[
                "put a deleted foregroundDeletion",
                "put b owner=a",
                "put b loose=a",
            ],
            "check a",
        ),
        (
            &["put a", "put b owner=a", "put a deleted orphan"],
            "orphan a",
        ),
        (&["put a", "put b owner=a", "put b", "remove a"], ""),
    ];
    for (lines, expected) in table {
        assert_eq!(feed(lines).1, expected, "{lines:?}");
    }
    let (graph, _) = feed(&[
        "put a",
        "put b owner=a",
        "put c loose=a",
        "put d owner=a deleted foregroundDeletion",
    ]);
    assert_eq!(
        graph.blocking("a"),
        [("b".to_owned(), false), ("d".to_owned(), true)]
    );
    let (graph, _) = feed(&["put b owner=a", "remove b"]);
    assert!(
        graph.node("a").is_none(),
        "a rumour ends with its last dependent"
    );
}

#[test]
fn an_object_is_judged_by_its_owners() {
    use Owner::{Dangling, Solid, Waiting};
    let delete = Verdict::Delete;
    let dropped = |uid: &str| Verdict::DropOwners(vec![uid.to_owned()]);
    let table: [(&str, &[Owner], bool, Verdict); 9] = [
        ("", &[], true, Verdict::Keep),
        ("", &[Solid], true, Verdict::Keep),
        ("", &[Solid, Dangling], true, dropped("1")),
        ("", &[Waiting, Solid], true, dropped("0")),
        ("", &[Dangling], true, delete(Policy::Background)),
        ("", &[Dangling, Waiting], true, delete(Policy::Foreground)),
        ("", &[Waiting], false, delete(Policy::Background)),
        ("orphan", &[Dangling], true, delete(Policy::Orphan)),
        (
            "foregroundDeletion",
            &[Dangling],
            false,
            delete(Policy::Foreground),
        ),
    ];
    for (words, owners, has_dependents, expected) in table {
        let owners: Vec<(String, Owner)> = owners
            .iter()
            .enumerate()
            .map(|(i, o)| (i.to_string(), *o))
            .collect();
        let verdict = judge(&object("x", words), &owners, has_dependents);
        assert_eq!(verdict, expected, "{words} {owners:?} {has_dependents}");
    }
}
