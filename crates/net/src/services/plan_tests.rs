//! Tables: objects in, rules out.
#![allow(clippy::unwrap_used, reason = "tests")]

use super::*;
use serde_json::{Value, json};

fn context() -> Context {
    Context {
        node_name: "here".into(),
        pod_cidr: "10.42.0.0/16".parse().unwrap(),
        service_cidr: "10.43.0.0/16".parse().unwrap(),
        dns: "10.43.0.10".parse().unwrap(),
    }
}

fn service(name: &str, spec: Value) -> Arc<Service> {
    let metadata = json!({ "namespace": "ns", "name": name });
    Arc::new(serde_json::from_value(json!({ "metadata": metadata, "spec": spec })).unwrap())
}

/// Endpoints as `ADDRESS NODE [flags]`, ports as `NAME:NUMBER`.
fn slice(service: &str, ports: &[&str], endpoints: &[&str]) -> Arc<EndpointSlice> {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|text| {
            let words: Vec<_> = text.split(' ').collect();
            let is = |w: &str| words.contains(&w);
            json!({ "addresses": [words[0]], "nodeName": words[1], "conditions": {
                "ready": !is("unready") && !is("terminating"),
                "serving": !is("unready"),
                "terminating": is("terminating"),
            }})
        })
        .collect();
    let ports: Vec<Value> = ports
        .iter()
        .map(|p| {
            let (name, number) = p.split_once(':').unwrap();
            let (number, protocol) = number.split_once('/').unwrap_or((number, "TCP"));
            json!({ "name": name, "port": number.parse::<u16>().unwrap(), "protocol": protocol })
        })
        .collect();
    Arc::new(
        serde_json::from_value(json!({
            "metadata": { "namespace": "ns", "name": format!("{service}-1"),
                "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4", "endpoints": endpoints, "ports": ports,
        }))
        .unwrap(),
    )
}

/// What the objects add to the empty table, one line each; hashes are cut from names.
fn lines(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>]) -> String {
    let empty = base(&context());
    let rules = plan(&context(), services, slices).ruleset;
    let mut out = Vec::new();
    for (name, set) in &rules.sets {
        if !empty.sets.contains_key(name) {
            out.push(format!("set {name}: {}", set.of));
        }
        for (key, value) in &set.elements {
            out.push(format!("{name}: {key} {value}").trim_end().to_owned());
        }
    }
    for (name, chain) in rules
        .chains
        .iter()
        .filter(|(n, _)| !empty.chains.contains_key(*n))
    {
        out.extend(chain.rules.iter().map(|rule| format!("[{name}] {rule}")));
    }
    let hash = |word: &str| {
        let is_hash = word.len() == 10 && word.chars().all(|c| c.is_ascii_hexdigit());
        if is_hash {
            String::new()
        } else {
            word.to_owned()
        }
    };
    let text = out.join("\n");
    text.split('-')
        .map(hash)
        .collect::<Vec<_>>()
        .join("-")
        .replace("--", "-")
}

fn check(services: &[Arc<Service>], slices: &[Arc<EndpointSlice>], expected: expect_test::Expect) {
    expected.assert_eq(&lines(services, slices));
}

#[test]
fn ports_follow_names_and_readiness() {
    let spec = json!({ "clusterIP": "10.43.0.5", "ports": [
        { "name": "web", "port": 80, "targetPort": "http" },
        { "name": "admin", "port": 81, "targetPort": 9000 },
        { "name": "log", "port": 80, "protocol": "UDP" },
    ]});
    let slices = [slice(
        "a",
        &["web:8080", "log:5140/UDP"],
        &[
            "10.42.0.2 here",
            "10.42.0.3 there",
            "10.42.0.4 here unready",
            "10.42.0.9 here terminating",
        ],
    )];
    check(
        &[service("a", spec)],
        &slices,
        expect_test::expect![[r#"
        cluster-ips: 10.43.0.5
        hairpin: 10.42.0.2 . 10.42.0.2
        hairpin: 10.42.0.3 . 10.42.0.3
        no-endpoint-ips: 10.43.0.5 . tcp . 81 goto refuse
        service-ips: 10.43.0.5 . tcp . 80 goto svc-ns/a/tcp/web
        service-ips: 10.43.0.5 . udp . 80 goto svc-ns/a/udp/log
        [svc-ns/a/tcp/web] ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        [svc-ns/a/tcp/web] meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.42.0.2 . 8080, 1 : 10.42.0.3 . 8080 }
        [svc-ns/a/udp/log] ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        [svc-ns/a/udp/log] meta l4proto udp dnat ip to numgen random mod 2 map { 0 : 10.42.0.2 . 5140, 1 : 10.42.0.3 . 5140 }"#]],
    );
}

#[test]
fn unready_and_terminating_backends() {
    let ports = json!([{ "port": 80 }]);
    let plain = json!({ "clusterIP": "10.43.0.5", "ports": ports });
    let early =
        json!({ "clusterIP": "10.43.0.6", "ports": ports, "publishNotReadyAddresses": true });
    let services = [service("a", plain), service("b", early)];
    let slices = [
        slice(
            "a",
            &[":80"],
            &["10.42.0.2 here unready", "10.42.0.3 here terminating"],
        ),
        slice("b", &[":80"], &["10.42.0.4 here unready"]),
    ];
    check(
        &services,
        &slices,
        expect_test::expect![[r#"
        cluster-ips: 10.43.0.5
        cluster-ips: 10.43.0.6
        hairpin: 10.42.0.3 . 10.42.0.3
        hairpin: 10.42.0.4 . 10.42.0.4
        service-ips: 10.43.0.5 . tcp . 80 goto svc-ns/a/tcp/
        service-ips: 10.43.0.6 . tcp . 80 goto svc-ns/b/tcp/
        [svc-ns/a/tcp/] ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        [svc-ns/a/tcp/] meta l4proto tcp dnat ip to 10.42.0.3:80
        [svc-ns/b/tcp/] ip daddr 10.43.0.6 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        [svc-ns/b/tcp/] meta l4proto tcp dnat ip to 10.42.0.4:80"#]],
    );
}

#[test]
fn affinity_keeps_a_set_for_each_backend() {
    let spec = json!({ "clusterIP": "10.43.0.5", "sessionAffinity": "ClientIP",
        "sessionAffinityConfig": { "clientIP": { "timeoutSeconds": 60 } },
        "ports": [{ "port": 80 }] });
    let slices = [slice("a", &[":80"], &["10.42.0.2 here", "192.0.2.7 there"])];
    check(
        &[service("a", spec)],
        &slices,
        expect_test::expect![[r#"
        set aff--ns/a/tcp//10.42.0.2/80/60: type ipv4_addr; flags dynamic,timeout; timeout 60s
        set aff--ns/a/tcp//192.0.2.7/80/60: type ipv4_addr; flags dynamic,timeout; timeout 60s
        cluster-ips: 10.43.0.5
        hairpin: 10.42.0.2 . 10.42.0.2
        service-ips: 10.43.0.5 . tcp . 80 goto svc-ns/a/tcp/
        [ep--ns/a/tcp//10.42.0.2/80/60] update @aff--ns/a/tcp//10.42.0.2/80/60 { ip saddr }
        [ep--ns/a/tcp//10.42.0.2/80/60] meta l4proto tcp dnat ip to 10.42.0.2:80
        [ep--ns/a/tcp//192.0.2.7/80/60] update @aff--ns/a/tcp//192.0.2.7/80/60 { ip saddr }
        [ep--ns/a/tcp//192.0.2.7/80/60] meta l4proto tcp dnat ip to 192.0.2.7:80
        [svc-ns/a/tcp/] ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        [svc-ns/a/tcp/] ip saddr @aff--ns/a/tcp//10.42.0.2/80/60 goto ep--ns/a/tcp//10.42.0.2/80/60
        [svc-ns/a/tcp/] ip saddr @aff--ns/a/tcp//192.0.2.7/80/60 goto ep--ns/a/tcp//192.0.2.7/80/60
        [svc-ns/a/tcp/] numgen random mod 2 vmap { 0 : goto ep--ns/a/tcp//10.42.0.2/80/60, 1 : goto ep--ns/a/tcp//192.0.2.7/80/60 }"#]],
    );
}

#[test]
fn external_traffic() {
    let ports = json!([{ "port": 80, "nodePort": 30080 }]);
    let cluster = json!({ "type": "NodePort", "clusterIP": "10.43.0.5", "externalIPs": ["198.51.100.1"], "ports": ports });
    check(
        &[service("a", cluster)],
        &[slice("a", &[":80"], &["10.42.9.2 there"])],
        expect_test::expect![[r#"
            cluster-ips: 10.43.0.5
            hairpin: 10.42.9.2 . 10.42.9.2
            service-ips: 10.43.0.5 . tcp . 80 goto svc-ns/a/tcp/
            service-ips: 198.51.100.1 . tcp . 80 goto ext-ns/a/tcp/
            service-nodeports: tcp . 30080 goto ext-ns/a/tcp/
            [ext-ns/a/tcp/] jump mark-for-masquerade
            [ext-ns/a/tcp/] goto svc-ns/a/tcp/
            [svc-ns/a/tcp/] ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
            [svc-ns/a/tcp/] meta l4proto tcp dnat ip to 10.42.9.2:80"#]],
    );
    let local = json!({ "type": "LoadBalancer", "externalTrafficPolicy": "Local", "internalTrafficPolicy": "Local",
        "loadBalancerSourceRanges": ["203.0.113.0/24"], "clusterIP": "10.43.0.5", "ports": ports });
    let mut balanced = Service::clone(&service("a", local));
    balanced.status = serde_json::from_value(json!({ "loadBalancer": { "ingress": [
        { "ip": "198.51.100.2" }, { "ip": "198.51.100.3", "ipMode": "Proxy" }] } }))
    .unwrap();
    let balanced = [Arc::new(balanced)];
    check(
        &balanced,
        &[slice("a", &[":80"], &["10.42.0.2 here", "10.42.9.2 there"])],
        expect_test::expect![[r#"
            cluster-ips: 10.43.0.5
            hairpin: 10.42.0.2 . 10.42.0.2
            hairpin: 10.42.9.2 . 10.42.9.2
            service-ips: 10.43.0.5 . tcp . 80 goto loc-ns/a/tcp/
            service-ips: 198.51.100.2 . tcp . 80 goto fw-ns/a/tcp/
            service-nodeports: tcp . 30080 goto ext-ns/a/tcp/
            [ext-ns/a/tcp/] ip saddr 10.42.0.0/16 goto svc-ns/a/tcp/
            [ext-ns/a/tcp/] fib saddr type local jump mark-for-masquerade
            [ext-ns/a/tcp/] fib saddr type local goto svc-ns/a/tcp/
            [ext-ns/a/tcp/] goto loc-ns/a/tcp/
            [fw-ns/a/tcp/] ip saddr != { 203.0.113.0/24 } drop
            [fw-ns/a/tcp/] goto ext-ns/a/tcp/
            [loc-ns/a/tcp/] ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
            [loc-ns/a/tcp/] meta l4proto tcp dnat ip to 10.42.0.2:80
            [svc-ns/a/tcp/] meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.42.0.2 . 80, 1 : 10.42.9.2 . 80 }"#]],
    );
    check(
        &balanced,
        &[slice("a", &[":80"], &["10.42.9.2 there"])],
        expect_test::expect![[r#"
            cluster-ips: 10.43.0.5
            hairpin: 10.42.9.2 . 10.42.9.2
            no-endpoint-ips: 10.43.0.5 . tcp . 80 drop
            no-endpoint-ips: 198.51.100.2 . tcp . 80 drop
            no-endpoint-nodeports: tcp . 30080 drop
            service-ips: 198.51.100.2 . tcp . 80 goto fw-ns/a/tcp/
            service-nodeports: tcp . 30080 goto ext-ns/a/tcp/
            [ext-ns/a/tcp/] ip saddr 10.42.0.0/16 goto svc-ns/a/tcp/
            [ext-ns/a/tcp/] fib saddr type local jump mark-for-masquerade
            [ext-ns/a/tcp/] fib saddr type local goto svc-ns/a/tcp/
            [fw-ns/a/tcp/] ip saddr != { 203.0.113.0/24 } drop
            [fw-ns/a/tcp/] goto ext-ns/a/tcp/
            [svc-ns/a/tcp/] meta l4proto tcp dnat ip to 10.42.9.2:80"#]],
    );
    check(
        &balanced,
        &[],
        expect_test::expect![[r#"
        cluster-ips: 10.43.0.5
        no-endpoint-ips: 10.43.0.5 . tcp . 80 goto refuse
        no-endpoint-ips: 198.51.100.2 . tcp . 80 goto refuse
        no-endpoint-nodeports: tcp . 30080 goto refuse"#]],
    );
}

#[test]
fn what_is_not_ours_adds_nothing() {
    let ports = json!([{ "port": 80 }]);
    let slices: Vec<_> = ["a", "b", "c", "d"]
        .iter()
        .map(|n| slice(n, &[":80"], &["10.42.0.2 here"]))
        .collect();
    let services = [
        service("a", json!({ "clusterIP": "None", "ports": ports })),
        service(
            "b",
            json!({ "type": "ExternalName", "externalName": "example.com" }),
        ),
        service(
            "c",
            json!({ "clusterIP": "10.43.0.10; flush ruleset", "ports": ports }),
        ),
        service("d", json!({ "clusterIP": "fd00::1", "ports": ports })),
        service("e", json!({ "clusterIP": "10.43.0.10", "ports": ports })),
    ];
    let found = plan(&context(), &services, &slices);
    assert!(found.ruleset.sets["service-ips"].elements.is_empty());
    assert!(found.ruleset.sets["no-endpoint-ips"].elements.is_empty());
    assert!(found.ruleset.sets["cluster-ips"].elements.is_empty());
    let script = found.ruleset.replacement("t");
    assert!(!script.contains("flush ruleset"));
}

#[test]
fn a_change_is_a_small_difference() {
    let spec = |ip: &str| json!({ "clusterIP": ip, "ports": [{ "port": 80 }] });
    let services = [
        service("a", spec("10.43.0.5")),
        service("b", spec("10.43.0.6")),
    ];
    let one = [slice("a", &[":80"], &["10.42.0.2 here"])];
    let two = [
        slice("a", &[":80"], &["10.42.0.3 here"]),
        slice("b", &[":80"], &["10.42.0.4 here"]),
    ];
    let before = plan(&context(), &services, &one).ruleset;
    let after = plan(&context(), &services, &two).ruleset;
    let script = before.difference(&after, "t").unwrap();
    expect_test::expect![[r#"
        add chain ip t svc-f739fc5f5e-ns/b/tcp/
        flush chain ip t svc-11a78f6ef2-ns/a/tcp/
        add rule ip t svc-11a78f6ef2-ns/a/tcp/ ip daddr 10.43.0.5 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        add rule ip t svc-11a78f6ef2-ns/a/tcp/ meta l4proto tcp dnat ip to 10.42.0.3:80
        add rule ip t svc-f739fc5f5e-ns/b/tcp/ ip daddr 10.43.0.6 ip saddr != 10.42.0.0/16 jump mark-for-masquerade
        add rule ip t svc-f739fc5f5e-ns/b/tcp/ meta l4proto tcp dnat ip to 10.42.0.4:80
        delete element ip t hairpin { 10.42.0.2 . 10.42.0.2 }
        add element ip t hairpin { 10.42.0.3 . 10.42.0.3, 10.42.0.4 . 10.42.0.4 }
        delete element ip t no-endpoint-ips { 10.43.0.6 . tcp . 80 : goto refuse }
        add element ip t service-ips { 10.43.0.6 . tcp . 80 : goto svc-f739fc5f5e-ns/b/tcp/ }
    "#]].assert_eq(&script);
    assert_eq!(after.difference(&after, "t").as_deref(), Some(""));
    let back = after.difference(&before, "t").unwrap();
    assert!(back.ends_with(&format!(
        "delete chain ip t {}\n",
        after.chains.keys().find(|n| n.contains("ns/b")).unwrap()
    )));
}
