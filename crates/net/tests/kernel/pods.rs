//! Attach and detach, addresses, host ports.

use crate::host::{HOST, Netns, OUTSIDE, on_host, pod, sh};
use net::{HostPort, NetError, PodNet, Protocol};
use std::collections::HashSet;
use std::net::IpAddr;
use std::time::Instant;

#[test]
fn pods_reach_each_other_and_the_outside() {
    on_host(|host| async move {
        let net = host.open().await;
        let (a, a_ip) = pod(&net, "a").await;
        let (b, b_ip) = pod(&net, "b").await;
        assert_eq!(
            (a_ip.to_string(), b_ip.to_string()),
            ("10.42.0.2".into(), "10.42.0.3".into())
        );
        b.serve("0.0.0.0:80", "b");
        host.outside.serve("0.0.0.0:80", "outside");
        for filter in ["0", "1"] {
            // The translation must not depend on the bridge handing packets to nftables.
            sh(&format!(
                "echo {filter} > /proc/sys/net/bridge/bridge-nf-call-iptables || true"
            ));
            assert_eq!(
                a.ask("10.42.0.3:80").unwrap(),
                "b 10.42.0.2",
                "pods see each other's address"
            );
            assert_eq!(
                a.ask(&format!("{OUTSIDE}:80")).unwrap(),
                format!("outside {HOST}")
            );
            assert_eq!(host.netns.ask("10.42.0.3:80").unwrap(), "b 10.42.0.1");
            assert_eq!(
                b.ask("10.42.0.3:80").unwrap(),
                "b 10.42.0.3",
                "a pod reaches itself"
            );
        }
        assert!(
            a.sh("ip link show eth0").contains("mtu 1400"),
            "the uplink's MTU"
        );

        let again = net.attach("a", "ns", "a", &[], &a.path()).await.unwrap();
        assert_eq!(again, [a_ip], "idempotent");
        assert_eq!(a.ask("10.42.0.3:80").unwrap(), "b 10.42.0.2");

        net.detach("a").await.unwrap();
        net.detach("a").await.unwrap();
        assert_eq!(net.address("a"), None);
        assert!(!a.sh("ip -o link").contains("eth0"));
        let (_, c_ip) = pod(&net, "c").await;
        assert_eq!(c_ip.to_string(), "10.42.0.4", "a freed address rests");
    });
}

#[test]
fn a_restart_keeps_pods_and_cleanup_leaves_nothing() {
    on_host(|host| async move {
        let (links, routes) = ("ip -br link | sed 's/@.*//' | sort", "ip route; ip rule");
        let before = (sh(links), sh(routes));
        let net = host.open().await;
        let (a, a_ip) = pod(&net, "a").await;
        let (_b, _) = pod(&net, "b").await;
        host.outside.serve("0.0.0.0:80", "outside");
        drop(net);

        let net = host.open().await;
        assert_eq!(net.address("a"), Some(vec![a_ip]));
        assert_eq!(
            a.ask(&format!("{OUTSIDE}:80")).unwrap(),
            format!("outside {HOST}")
        );
        net.retain(&HashSet::from(["a".to_owned()])).await.unwrap();
        assert_eq!((net.address("a").is_some(), net.address("b")), (true, None));
        assert_eq!(sh("ip -br link | grep -c ^knv").trim(), "1");
        let (_c, c_ip) = pod(&net, "c").await;
        assert_eq!(c_ip.to_string(), "10.42.0.4");

        // The same pod in a new sandbox, while the kernel still has the old one.
        let again = Netns::new();
        let attached = net.attach("a", "ns", "a", &[], &again.path()).await;
        assert_eq!(attached.unwrap(), [a_ip]);
        let greeting = again.ask(&format!("{OUTSIDE}:80")).unwrap();
        assert_eq!(greeting, format!("outside {HOST}"));
        assert!(!a.sh("ip -o link").contains("eth0"));

        drop(net);
        PodNet::cleanup("t", host.data_dir()).await.unwrap();
        PodNet::cleanup("t", host.data_dir()).await.unwrap();
        assert_eq!((sh(links), sh(routes)), before);
        assert_eq!(sh("nft list ruleset"), "");
        assert!(!host.data_dir().join("net").exists());
    });
}

#[test]
fn ranges_in_use_are_refused() {
    on_host(|host| async move {
        sh(&format!("ip route add 10.42.0.128/25 via {OUTSIDE}"));
        let error = PodNet::open(host.config()).await.err().unwrap();
        assert!(matches!(error, NetError::Clash(_)));
        assert_eq!(
            error.to_string(),
            format!(
                "the range 10.42.0.0/24 overlaps this host's route `10.42.0.128/25 via {OUTSIDE} dev eth0`; choose another with --pod-cidr"
            )
        );
        sh("ip route del 10.42.0.128/25; ip addr add 10.43.9.9/24 dev eth0");
        let error = PodNet::open(host.config()).await.err().unwrap().to_string();
        assert!(
            error.contains("10.43.9.0/24 dev eth0") && error.contains("--service-cidr"),
            "{error}"
        );
        assert!(!sh("ip -br link").contains("kn-t"), "nothing was made");
    });
}

#[test]
fn fifty_at_once_share_nothing() {
    on_host(|host| async move {
        let net = host.open().await;
        let pods: Vec<Netns> = (0..50).map(|_| Netns::new()).collect();
        let start = Instant::now();
        let attached = pods.iter().enumerate().map(|(i, netns)| {
            let (net, path, uid) = (net.clone(), netns.path(), format!("pod-{i}"));
            tokio::spawn(async move { net.attach(&uid, "ns", &uid, &[], &path).await })
        });
        let mut seen: HashSet<IpAddr> = HashSet::new();
        for task in attached.collect::<Vec<_>>() {
            assert!(seen.insert(task.await.unwrap().unwrap()[0]));
        }
        println!("50 attaches at once: {:?}", start.elapsed());
        pods[0].serve("0.0.0.0:80", "first");
        let first = net.address("pod-0").unwrap()[0];
        for (i, netns) in pods.iter().enumerate() {
            let own = net.address(&format!("pod-{i}")).unwrap()[0];
            assert_eq!(
                netns.ask(&format!("{first}:80")).unwrap(),
                format!("first {own}")
            );
        }
        let mut times = Vec::new();
        for i in 0..50 {
            let netns = Netns::new();
            let start = Instant::now();
            net.attach(&format!("more-{i}"), "ns", "more", &[], &netns.path())
                .await
                .unwrap();
            times.push(start.elapsed());
        }
        times.sort();
        println!(
            "attach one by one: median {:?}, worst {:?}",
            times[25], times[49]
        );
        let start = Instant::now();
        net.detach("more-0").await.unwrap();
        println!("detach: {:?}", start.elapsed());
    });
}

#[test]
fn host_ports_lead_into_pods() {
    on_host(|host| async move {
        let net = host.open().await;
        let port = |host_ip: Option<&str>, host_port, protocol| HostPort {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port,
            container_port: 80,
            protocol,
        };
        let attach = async |uid: &str, ports: &[HostPort]| {
            let netns = Netns::new();
            net.attach(uid, "ns", uid, ports, &netns.path())
                .await
                .unwrap();
            netns
        };
        let a = attach("a", &[port(None, 8080, Protocol::Tcp)]).await;
        // The same port thrice, told apart by address and protocol.
        let b = attach("b", &[port(Some(HOST), 9000, Protocol::Tcp)]).await;
        let c = attach("c", &[port(Some("127.0.0.1"), 9000, Protocol::Tcp)]).await;
        let d = attach("d", &[port(Some(HOST), 9000, Protocol::Udp)]).await;
        for (netns, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
            netns.serve("0.0.0.0:80", name);
        }
        d.serve_udp("0.0.0.0:80", "d");
        let at = |ip: &str, port: u16| format!("{ip}:{port}");
        assert_eq!(
            host.outside.ask(&at(HOST, 8080)).unwrap(),
            format!("a {OUTSIDE}")
        );
        assert!(host.netns.ask(&at(HOST, 8080)).unwrap().starts_with("a "));
        assert_eq!(host.netns.ask("127.0.0.1:8080").unwrap(), "a 10.42.0.1");
        assert_eq!(
            b.ask(&at(HOST, 8080)).unwrap(),
            "a 10.42.0.3",
            "from another pod"
        );
        assert_eq!(
            a.ask(&at(HOST, 8080)).unwrap(),
            "a 10.42.0.1",
            "from the pod itself"
        );
        assert_eq!(
            host.outside.ask(&at(HOST, 9000)).unwrap(),
            format!("b {OUTSIDE}")
        );
        assert_eq!(host.netns.ask("127.0.0.1:9000").unwrap(), "c 10.42.0.1");
        assert_eq!(
            host.outside.ask_udp(&at(HOST, 9000)).unwrap(),
            format!("d {OUTSIDE}")
        );

        // Pods must not reach the host's loopback, although host ports open a way to it.
        host.netns.serve("127.0.0.1:7777", "secret");
        a.sh("ip route add 127.0.0.1 via 10.42.0.1 table 9; ip rule add pref 0 to 127.0.0.1 table 9; ip rule del pref 0 table local; ip rule add pref 1 table local");
        assert!(a.ask("127.0.0.1:7777").is_err());

        net.detach("a").await.unwrap();
        assert!(host.outside.ask(&at(HOST, 8080)).is_err());
        assert!(host.outside.ask(&at(HOST, 9000)).is_ok());
    });
}
