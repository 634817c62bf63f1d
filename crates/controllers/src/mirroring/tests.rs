//! Tests of `mirroring`.

use super::*;
use serde_json::{Value, json};

fn endpoints(subsets: Value) -> Endpoints {
    serde_json::from_value(json!({
        "metadata": {"name": "db", "namespace": "a", "uid": "e",
            "labels": {"team": "x"},
            "annotations": {"note": "y", "kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "subsets": subsets,
    }))
    .unwrap()
}

/// Plans, and writes the plan as the server would; counts what was created, updated and deleted.
fn apply(known: &mut Vec<Arc<EndpointSlice>>, endpoints: &Endpoints) -> [usize; 3] {
    let plan = plan::plan(endpoints, known);
    let counts = [plan.create.len(), plan.update.len(), plan.delete.len()];
    known.retain(|s| !plan.delete.iter().any(|d| Arc::ptr_eq(d, s)));
    for (old, new) in plan.update {
        let at = known.iter().position(|s| Arc::ptr_eq(s, &old)).unwrap();
        known[at] = Arc::new(new);
    }
    for mut slice in plan.create {
        slice.metadata.name = Some(format!("db-{}", known.len()));
        known.push(Arc::new(slice));
    }
    counts
}

fn shown(known: &[Arc<EndpointSlice>]) -> Vec<String> {
    let mut shown: Vec<String> = known
        .iter()
        .map(|s| {
            let ports = s
                .ports
                .iter()
                .flatten()
                .map(|p| p.port.unwrap().to_string());
            let endpoints = s.endpoints.iter().flatten().map(|e| {
                let ready = e.conditions.as_ref().unwrap().ready.unwrap();
                format!("{}{}", e.addresses.join("+"), if ready { "" } else { "?" })
            });
            let (ports, endpoints): (Vec<_>, Vec<_>) = (ports.collect(), endpoints.collect());
            format!(
                "{} :{} {}",
                s.address_type,
                ports.join(","),
                endpoints.join(" ")
            )
        })
        .collect();
    shown.sort();
    shown
}

#[test]
fn follows_the_endpoints() {
    let mut known = Vec::new();
    let first = endpoints(json!([{"ports": [{"port": 80}],
        "addresses": [{"ip": "10.1.2.3"}, {"ip": "fd00::1"}],
        "notReadyAddresses": [{"ip": "10.1.2.4"}]}]));
    assert_eq!(apply(&mut known, &first), [2, 0, 0]);
    assert_eq!(
        shown(&known),
        ["IPv4 :80 10.1.2.3 10.1.2.4?", "IPv6 :80 fd00::1"]
    );
    let meta = &known[0].metadata;
    let labels = meta.labels.as_ref().unwrap();
    assert_eq!(labels[SERVICE_NAME], "db");
    assert_eq!(labels[MANAGED_BY], OURS);
    assert_eq!(labels["team"], "x");
    let annotations: Vec<_> = meta.annotations.as_ref().unwrap().keys().collect();
    assert_eq!(annotations, ["note"]);
    assert_eq!(meta.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
    assert_eq!(mirrored(&known[0]), Some(Key::new("a", "db")));
    // Nothing to do: nothing is written.
    assert_eq!(apply(&mut known, &first), [0, 0, 0]);
    // Other ports: the slice of the same family is written over, the other one goes.
    let second = endpoints(json!([{"ports": [{"port": 81}], "addresses": [{"ip": "10.2.3.4"}]}]));
    assert_eq!(apply(&mut known, &second), [0, 1, 1]);
    assert_eq!(shown(&known), ["IPv4 :81 10.2.3.4"]);
    assert_eq!(known[0].metadata.name.as_deref(), Some("db-0"));
    let none = endpoints(json!([]));
    assert_eq!(apply(&mut known, &none), [0, 0, 1]);
}

#[test]
fn subsets_with_the_same_ports_share_a_slice() {
    let both = endpoints(json!([
        {"ports": [{"name": "a", "port": 1}, {"name": "b", "port": 2}],
            "addresses": [{"ip": "10.0.0.1"}]},
        {"ports": [{"name": "b", "port": 2}, {"name": "a", "port": 1}],
            "addresses": [{"ip": "10.0.0.2"}], "notReadyAddresses": [{"ip": "10.0.0.1"}]},
    ]));
    let mut known = Vec::new();
    apply(&mut known, &both);
    assert_eq!(shown(&known), ["IPv4 :1,2 10.0.0.1 10.0.0.2"]);
}

#[test]
fn too_many_and_wrong_addresses() {
    let many: Vec<Value> = (0..plan::CAPACITY + 5)
        .map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)}))
        .chain([json!({"ip": "no-address"})])
        .collect();
    let plan = plan::plan(
        &endpoints(json!([{"ports": [{"port": 1}], "addresses": many}])),
        &[],
    );
    assert_eq!(
        plan.create[0].endpoints.as_ref().unwrap().len(),
        plan::CAPACITY
    );
    let warnings: Vec<String> = plan.warnings().into_iter().map(|(_, text)| text).collect();
    assert_eq!(
        warnings,
        [
            "Skipped 1 invalid IP addresses when mirroring to EndpointSlices",
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 5 addresses were skipped",
        ]
    );
}

#[test]
fn what_is_not_mirrored() {
    let mut plain = endpoints(json!([]));
    assert!(!declines(&plain));
    let labels = plain.metadata.labels.as_mut().unwrap();
    labels.insert(SKIP.to_owned(), "true".to_owned());
    assert!(declines(&plain));
    let mut lock = endpoints(json!([]));
    let annotations = lock.metadata.annotations.as_mut().unwrap();
    annotations.insert(LEADER.to_owned(), "{}".to_owned());
    assert!(declines(&lock));
    let of = |spec: Value| has_no_selector(&serde_json::from_value(json!({"spec": spec})).unwrap());
    assert!(of(json!({})) && of(json!({"selector": {}})));
    assert!(!of(json!({"selector": {"a": "b"}})));
}
