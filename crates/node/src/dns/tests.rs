//! Tests of `dns`.

#![allow(clippy::unwrap_used, reason = "tests")]
use serde_json::{Value, json};

use super::*;

fn pod(spec: Value) -> Pod {
    let mut spec = spec;
    spec["containers"] = json!([]);
    serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": spec}))
        .unwrap()
}

const HOST: &str = "# comment\nnameserver 9.9.9.9\nsearch corp.example\noptions edns0\n";

#[test]
fn resolv_conf_by_policy() {
    let cluster = DnsConfig {
        servers: vec!["10.0.0.10".parse().unwrap()],
        search_domain: "cluster.local".into(),
    };
    let first = "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.0.0.10\noptions ndots:5\n";
    let host = "search corp.example\nnameserver 9.9.9.9\noptions edns0\n";
    let config = json!({"nameservers": ["1.1.1.1"], "searches": ["x.y"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]});
    let table = [
        (json!({}), first),
        (
            json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
            host,
        ),
        (
            json!({"dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
            first,
        ),
        (json!({"dnsPolicy": "Default"}), host),
        (
            json!({"dnsPolicy": "None", "dnsConfig": config}),
            "search x.y\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
        ),
        (
            json!({"dnsConfig": config}),
            "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example x.y\nnameserver 10.0.0.10\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
        ),
    ];
    for (spec, want) in table {
        assert_eq!(
            resolv_conf(&pod(spec.clone()), &cluster, HOST),
            want,
            "{spec}"
        );
    }
}

#[test]
fn names() {
    let table = [
        (json!({}), "web-0"),
        (json!({"hostname": "h", "subdomain": "s"}), "h"),
        (
            json!({"hostname": "h", "subdomain": "s", "setHostnameAsFQDN": true}),
            "h.s.ns.svc.cluster.local",
        ),
        (json!({"hostNetwork": true}), "node"),
    ];
    for (spec, want) in table {
        assert_eq!(
            kernel_hostname(&pod(spec.clone()), "node", "cluster.local"),
            want,
            "{spec}"
        );
    }
}

#[test]
fn hosts_file() {
    let pod = pod(json!({"hostname": "h", "subdomain": "s",
        "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}));
    let got = hosts(
        &pod,
        &["10.1.0.2".parse().unwrap()],
        "node",
        "cluster.local",
        "",
    );
    assert!(
        got.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"),
        "{got}"
    );
    assert!(
        got.ends_with("10.1.0.2\th.s.ns.svc.cluster.local\th\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"),
        "{got}"
    );
}
