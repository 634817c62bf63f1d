//! Services as pods, the host and the outside see them.

use crate::api::{Api, SLICES};
use crate::host::{HOST, Host, Netns, OUTSIDE, on_host, pod, sh, talk};
use net::PodNet;
use serde_json::json;
use std::collections::HashMap;
use std::future::Future;
use std::net::UdpSocket;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// A host with three pods `a`, `b`, `c` that serve port 80, and Services routed.
struct Routed {
    host: Host,
    api: Api,
    pods: [Netns; 3],
    drain: CancellationToken,
    net: PodNet,
}

fn routed<F: Future<Output = Routed>>(
    setup: impl FnOnce(&Api) + Send,
    test: impl FnOnce(Routed) -> F + Send,
) {
    on_host(|host| async move {
        let net = host.open().await;
        let mut pods = Vec::new();
        for name in ["a", "b", "c"] {
            let (netns, _) = pod(&net, name).await;
            netns.serve("0.0.0.0:80", name);
            netns.serve_udp("0.0.0.0:80", name);
            pods.push(netns);
        }
        let api = Api::default();
        setup(&api);
        let drain = CancellationToken::new();
        let task = tokio::spawn(net::services::run(
            net.clone(),
            api.informers(&drain),
            drain.clone(),
        ));
        until("the table is there", || {
            sh("nft list tables").contains("knarr-t\n")
        })
        .await;
        let routed = Routed {
            host,
            api,
            pods: pods.try_into().ok().unwrap(),
            drain,
            net,
        };
        let routed = test(routed).await;
        routed.drain.cancel();
        task.await.unwrap();
    });
}

/// Waits for a condition; the bound is only there for a test that fails.
async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(
            start.elapsed() < Duration::from_secs(10),
            "not within 10 s: {what}"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Who answered how often in `count` connections.
fn answers(from: &Netns, address: &str, count: usize) -> HashMap<String, usize> {
    let mut found = HashMap::new();
    for _ in 0..count {
        let text = from.ask(address).unwrap();
        *found
            .entry(text.split(' ').next().unwrap().to_owned())
            .or_default() += 1;
    }
    found
}

#[test]
fn connections_spread_over_ready_endpoints() {
    let setup = |api: &Api| {
        api.service("web", json!({ "clusterIP": "10.43.0.5", "ports": [{ "name": "http", "port": 8080, "targetPort": "web" }] }));
        api.slice(
            "web",
            &["http:80"],
            &["10.42.0.2", "10.42.0.3", "10.42.0.4!"],
        );
        api.service(
            "self",
            json!({ "clusterIP": "10.43.0.6", "ports": [{ "port": 80 }] }),
        );
        api.slice("self", &[":80"], &["10.42.0.2"]);
    };
    routed(setup, |r| async move {
        for filter in ["0", "1"] {
            sh(&format!(
                "echo {filter} > /proc/sys/net/bridge/bridge-nf-call-iptables || true"
            ));
            for from in [&r.pods[2], &r.host.netns] {
                let found = answers(from, "10.43.0.5:8080", 60);
                assert_eq!(found.len(), 2, "{found:?}");
                assert!(found["a"] > 10 && found["b"] > 10, "{found:?}");
            }
            assert_eq!(
                r.pods[1].ask("10.43.0.6:80").unwrap(),
                "a 10.42.0.3",
                "a pod's address is kept"
            );
            assert_eq!(
                r.pods[0].ask("10.43.0.6:80").unwrap(),
                "a 10.42.0.1",
                "a pod reaches itself"
            );
        }
        assert_eq!(r.host.netns.ask("10.43.0.6:80").unwrap(), "a 10.42.0.1");
        // Without a default route the host still reaches Services.
        sh("ip route del default");
        assert!(r.host.netns.ask("10.43.0.6:80").is_ok());
        r
    });
}

#[test]
fn what_has_no_endpoint_is_refused_at_once() {
    let setup = |api: &Api| {
        api.service("none", json!({ "type": "NodePort", "clusterIP": "10.43.0.5", "ports": [{ "port": 80, "nodePort": 30080 }] }));
        api.slice("none", &[":80"], &["10.42.0.2!"]);
    };
    routed(setup, |r| async move {
        for (from, address) in [
            (&r.pods[0], "10.43.0.5:80"),
            (&r.host.netns, "10.43.0.5:80"),
            (&r.pods[0], "10.43.0.5:81"),
            (&r.pods[0], "10.43.77.77:80"),
            (&r.host.netns, "10.43.77.77:80"),
            (&r.host.outside, &format!("{HOST}:30080")),
        ] {
            let start = Instant::now();
            let error = from.ask(address).unwrap_err();
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionRefused,
                "{address}: {error}"
            );
            assert!(start.elapsed() < Duration::from_millis(500));
        }
        r.api.slice("none", &[":80"], &["10.42.0.2"]);
        until("the endpoint serves", || {
            r.pods[1].ask("10.43.0.5:80").is_ok()
        })
        .await;
        r
    });
}

#[test]
fn outside_traffic() {
    let setup = |api: &Api| {
        api.service("np", json!({ "type": "NodePort", "clusterIP": "10.43.0.5", "externalIPs": ["198.51.100.7"], "ports": [{ "port": 80, "nodePort": 30080 }] }));
        api.slice("np", &[":80"], &["10.42.0.2"]);
        api.service("local", json!({ "type": "NodePort", "clusterIP": "10.43.0.6", "externalTrafficPolicy": "Local", "ports": [{ "port": 80, "nodePort": 30081 }] }));
        api.slice("local", &[":80"], &["10.42.0.3"]);
        // The API server itself: a process of the host.
        api.service(
            "kubernetes",
            json!({ "clusterIP": "10.43.0.1", "ports": [{ "name": "https", "port": 443 }] }),
        );
        api.slice("kubernetes", &["https:6443"], &[HOST]);
    };
    routed(setup, |r| async move {
        r.host
            .outside
            .sh(&format!("ip route add 198.51.100.7 via {HOST}"));
        r.host.netns.serve("0.0.0.0:6443", "api");
        assert_eq!(
            r.host.outside.ask(&format!("{HOST}:30080")).unwrap(),
            "a 10.42.0.1",
            "masqueraded"
        );
        assert_eq!(
            r.host.outside.ask("198.51.100.7:80").unwrap(),
            "a 10.42.0.1"
        );
        assert_eq!(
            r.host.outside.ask(&format!("{HOST}:30081")).unwrap(),
            format!("b {OUTSIDE}"),
            "the client's address is kept"
        );
        assert!(
            r.pods[2]
                .ask(&format!("{HOST}:30081"))
                .unwrap()
                .starts_with("b ")
        );
        assert!(
            r.host
                .netns
                .ask("127.0.0.1:30080")
                .unwrap()
                .starts_with("a ")
        );
        assert_eq!(r.pods[0].ask("10.43.0.1:443").unwrap(), "api 10.42.0.2");
        assert!(
            r.host
                .netns
                .ask("10.43.0.1:443")
                .unwrap()
                .starts_with("api ")
        );
        r
    });
}

#[test]
fn a_client_sticks_to_its_backend() {
    let setup = |api: &Api| {
        api.service("web", json!({ "clusterIP": "10.43.0.5", "sessionAffinity": "ClientIP", "ports": [{ "port": 80 }] }));
        api.slice("web", &[":80"], &["10.42.0.2", "10.42.0.3"]);
    };
    routed(setup, |r| async move {
        let found = answers(&r.pods[2], "10.43.0.5:80", 20);
        assert_eq!(found.len(), 1, "{found:?}");
        let first = found.into_keys().next().unwrap();
        // Another backend comes: the client stays. Its own goes: it moves.
        r.api
            .slice("web", &[":80"], &["10.42.0.2", "10.42.0.3", "10.42.0.4"]);
        until("three backends", || {
            sh("nft list table ip knarr-t").contains("mod 3")
        })
        .await;
        assert_eq!(answers(&r.pods[2], "10.43.0.5:80", 20).len(), 1);
        let left = if first == "a" {
            "10.42.0.3"
        } else {
            "10.42.0.2"
        };
        r.api.slice("web", &[":80"], &[left]);
        until("it moved", || {
            !r.pods[2].ask("10.43.0.5:80").unwrap().starts_with(&first)
        })
        .await;
        r
    });
}

#[test]
fn udp_follows_its_backends() {
    let setup = |api: &Api| {
        api.service(
            "log",
            json!({ "clusterIP": "10.43.0.5", "ports": [{ "port": 514, "protocol": "UDP" }] }),
        );
        api.slice("log", &[":80/UDP"], &["10.42.0.2"]);
    };
    routed(setup, |r| async move {
        let socket = r.pods[2].run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
        assert!(talk(&socket, "10.43.0.5:514").unwrap().starts_with("a "));
        r.api.slice("log", &[":80/UDP"], &["10.42.0.3"]);
        until("the same flow goes to the other backend", || {
            socket
                .set_read_timeout(Some(Duration::from_millis(100)))
                .unwrap();
            talk(&socket, "10.43.0.5:514").is_ok_and(|t| t.starts_with("b "))
        })
        .await;
        r
    });
}

/// Moves a Service between two backends and back.
async fn measure(r: &Routed, services: u32) {
    let mut times = Vec::new();
    for (backend, name) in [("10.42.0.4", "c "), ("10.42.0.2", "a ")]
        .into_iter()
        .cycle()
        .take(20)
    {
        // One change at a time, not the queue behind the one before.
        tokio::time::sleep(Duration::from_millis(50)).await;
        let start = Instant::now();
        r.api.slice("s0", &[":80"], &[backend]);
        until("applied", || {
            r.pods[1].ask("10.43.1.1:80").unwrap().starts_with(name)
        })
        .await;
        times.push(start.elapsed());
    }
    times.sort();
    println!(
        "{services} services, from EndpointSlice event to traffic moved: median {:?}, worst {:?}",
        times[10], times[19]
    );
}

#[test]
fn changes_are_quick_and_survive_a_restart_and_a_flush() {
    let fill = |api: &Api, range: std::ops::Range<u32>| {
        for i in range {
            let ip = format!("10.43.{}.{}", 1 + i / 250, 1 + i % 250);
            api.service(
                &format!("s{i}"),
                json!({ "clusterIP": ip, "ports": [{ "port": 80 }] }),
            );
            api.slice(&format!("s{i}"), &[":80"], &["10.42.0.2", "10.42.0.3"]);
        }
    };
    routed(
        |api| fill(api, 0..5),
        |r| async move {
            measure(&r, 5).await;
            fill(&r.api, 5..500);
            until("all are there", || r.pods[1].ask("10.43.2.250:80").is_ok()).await;
            measure(&r, 500).await;

            // Another process takes over; connections never fail meanwhile.
            let (drain, informers) = (CancellationToken::new(), r.api.informers(&r.drain));
            let task = tokio::spawn(net::services::run(r.net.clone(), informers, drain.clone()));
            for _ in 0..200 {
                assert!(r.pods[1].ask("10.43.2.7:80").is_ok());
                tokio::task::yield_now().await;
            }
            drain.cancel();
            task.await.unwrap();

            // Somebody flushes the rules: the next change brings everything back.
            sh("nft delete table ip knarr-t");
            r.api.slice("s1", &[":80"], &["10.42.0.4"]);
            until("it is back", || r.pods[1].ask("10.43.2.7:80").is_ok()).await;
            r.api.delete(SLICES, "s1-x");
            until("refused", || r.pods[1].ask("10.43.1.2:80").is_err()).await;
            r
        },
    );
}
