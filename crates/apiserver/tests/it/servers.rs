//! Several servers over one store, each with a cache and pools of its own.

use futures::future::join_all;
use serde_json::{Value, json};
use store::Store;

use crate::harness::{Answer, Cluster, config_map};

const SERVICES: &str = "/api/v1/namespaces/default/services";

pub async fn pair() -> (Cluster, Cluster) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(&dir.path().join("state.db"), store::Options::default())
        .await
        .unwrap();
    let a = Cluster::start_over(store.clone(), dir, "10.1.2.3:6443").await;
    let dir = tempfile::tempdir().unwrap();
    let b = Cluster::start_over(store, dir, "10.1.2.4:6443").await;
    (a, b)
}

fn service(name: &str, ip: &str, port: u16) -> Value {
    json!({"metadata": {"name": name}, "spec": {"type": "NodePort", "clusterIP": ip,
        "ports": [{"port": 80, "nodePort": port}]}})
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_or_port_is_given_once() {
    let (a, b) = pair().await;
    for round in 0..20_u16 {
        let (first, second) = (30100 + round, 31100 + round);
        // The same address with other ports, then the same port with any address.
        for (ip, ports) in [
            (format!("10.43.9.{}", round + 1), (first, second)),
            (String::new(), (first + 500, first + 500)),
        ] {
            let (one, two) = (service("one", &ip, ports.0), service("two", &ip, ports.1));
            let (x, y) = tokio::join!(a.post(SERVICES, &one), b.post(SERVICES, &two));
            let created = |answer: &Answer| answer.status == 201;
            assert!(created(&x) != created(&y), "{} / {}", x.text, y.text);
            let (winner, refused, elsewhere) = if created(&x) {
                ("one", y, &b)
            } else {
                ("two", x, &a)
            };
            assert!(refused.refused(422).contains("is already allocated"));
            // Deleted on the other server, it is free on both.
            elsewhere.delete(&format!("{SERVICES}/{winner}")).await.ok();
            for c in [&a, &b] {
                c.post(SERVICES, &service("again", &ip, ports.0)).await.ok();
                c.delete(&format!("{SERVICES}/again")).await.ok();
            }
        }
    }
    let claims = store::ListOptions {
        prefix: "/claims/",
        ..Default::default()
    };
    let left = a.store.list(claims).await.unwrap().entries;
    let keys: Vec<&str> = left.iter().map(|claim| &*claim.key).collect();
    assert_eq!(
        keys,
        ["/claims/addresses/10.43.0.1"],
        "what default/kubernetes holds"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_address_is_nobody_elses() {
    let (a, b) = pair().await;
    let servers = [&a, &b];
    let answers = join_all((0..200).map(|i| async move {
        let plain = json!({"metadata": {"name": format!("s{i}")}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
        servers[i % 2].post(SERVICES, &plain).await.ok()
    }))
    .await;
    let mut held: Vec<String> = answers
        .iter()
        .flat_map(|s| {
            [
                s["spec"]["clusterIP"].to_string(),
                s["spec"]["ports"][0]["nodePort"].to_string(),
            ]
        })
        .collect();
    held.sort();
    held.dedup();
    assert_eq!(held.len(), 400);
}

/// What one server has acknowledged, the other one shows.
#[tokio::test(flavor = "multi_thread")]
async fn a_read_is_no_older_than_what_was_acknowledged_elsewhere() {
    let (a, b) = pair().await;
    let maps = "/api/v1/namespaces/default/configmaps";
    for i in 0..50 {
        let name = format!("m{i}");
        a.post(maps, &config_map(&name, json!({}))).await.ok();
        b.get(&format!("{maps}/{name}")).await.ok();
        let list = b.get(maps).await.ok();
        assert_eq!(list["items"].as_array().unwrap().len(), i + 1);
        b.patch(
            &format!("{maps}/{name}"),
            "merge",
            &json!({"data": {"x": "y"}}),
        )
        .await
        .ok();
        assert_eq!(
            a.get(&format!("{maps}/{name}")).await.ok()["data"]["x"],
            "y"
        );
    }
}
