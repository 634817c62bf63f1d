//! The pod network's own nft table: masquerading, host ports, and what pods must not
//! reach. A pure function of the leases.

use crate::config::Layout;
use crate::ipam::Lease;
use crate::nft::{Chain, Ruleset, Set};
use std::net::IpAddr;

/// The table for these leases.
pub(crate) fn ruleset<'a>(layout: &Layout, leases: impl Iterator<Item = &'a Lease>) -> Ruleset {
    let mut rules = Ruleset::default();
    let target = "ipv4_addr . inet_service";
    for (name, of) in [
        (
            "hostports",
            format!("type ipv4_addr . inet_proto . inet_service : {target}"),
        ),
        (
            "hostports-any",
            format!("type inet_proto . inet_service : {target}"),
        ),
        ("hairpin", "type ipv4_addr . ipv4_addr".to_owned()),
    ] {
        rules.sets.insert(name.into(), Set::new(of));
    }
    for lease in leases {
        let pod = lease.address;
        for port in &lease.host_ports {
            let to = format!("{pod} . {}", port.container_port);
            let key = format!("{} . {}", port.protocol, port.host_port);
            match port.host_ip {
                Some(IpAddr::V4(ip)) if !ip.is_unspecified() => {
                    rules.element("hostports", format!("{ip} . {key}"), to);
                }
                Some(IpAddr::V6(ip)) if !ip.is_unspecified() => continue,
                _ => rules.element("hostports-any", key, to),
            }
            rules.element("hairpin", format!("{pod} . {pod}"), "");
        }
    }
    chains(layout, &mut rules);
    rules
}

fn chains(layout: &Layout, rules: &mut Ruleset) {
    let Layout {
        bridge,
        pod_cidr,
        dns,
        ..
    } = layout;
    let jump = vec!["jump hostports".to_owned()];
    let mut chain = |name: &str, hook: Option<&'static str>, lines: Vec<String>| {
        rules
            .chains
            .insert(name.into(), Chain { hook, rules: lines });
    };
    chain(
        "hostports",
        None,
        vec![
            "meta l4proto { tcp, udp, sctp } dnat ip to ip daddr . meta l4proto . th dport map @hostports".into(),
            format!("ip daddr {dns} return"),
            "fib daddr type local meta l4proto { tcp, udp, sctp } dnat ip to meta l4proto . th dport map @hostports-any".into(),
        ],
    );
    chain(
        "nat-prerouting",
        Some("type nat hook prerouting priority dstnat"),
        jump.clone(),
    );
    chain(
        "nat-output",
        Some("type nat hook output priority -100"),
        jump,
    );
    chain(
        "nat-postrouting",
        Some("type nat hook postrouting priority srcnat"),
        vec![
            // A pod that reaches itself through a host port must see another peer.
            "ip saddr . ip daddr @hairpin masquerade".into(),
            format!("oifname \"{bridge}\" ip saddr 127.0.0.0/8 masquerade"),
            format!(
                "ip saddr {pod_cidr} ip daddr != {pod_cidr} oifname != {{ \"{bridge}\", \"lo\" }} masquerade fully-random"
            ),
        ],
    );
    // route_localnet lets the host's loopback reach host ports; pods must not use it
    // the other way round, to reach what listens on the host's loopback.
    chain(
        "raw-prerouting",
        Some("type filter hook prerouting priority raw"),
        vec![format!("iifname \"{bridge}\" ip daddr 127.0.0.0/8 drop")],
    );
    // Where an administrator has redirects switched on for all interfaces: a pod that
    // followed one would lose the translation of its connections.
    chain(
        "filter-output",
        Some("type filter hook output priority filter"),
        vec![format!("oifname \"{bridge}\" icmp type redirect drop")],
    );
}
