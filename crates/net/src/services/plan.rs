//! What the Services' nftables table shall hold: a pure function of the objects.
//!
//! A packet is looked up once, in `service-ips` (address, protocol, port) or
//! `service-nodeports`; the chain found there picks a backend at random. What has no
//! backend is looked up in the filter hooks and refused, for a NAT hook cannot refuse.
//! Rules are made from parsed values only, never from text of an object.

use super::backends::{self, Backend, Backends};
use crate::config::Protocol;
use crate::nft::{Chain, Ruleset, Set};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

/// Label that joins a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Label of a Service that somebody else routes.
const PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";
/// Label of a Service that is to be treated as headless.
const HEADLESS: &str = "service.kubernetes.io/headless";
/// How long a client sticks to its backend by default, in seconds.
const AFFINITY_SECS: i32 = 10_800;

/// What the plan depends on beside the objects.
pub(super) struct Context {
    pub(super) node_name: String,
    pub(super) pod_cidr: Ipv4Net,
    pub(super) service_cidr: Ipv4Net,
    /// The DNS server answers on this address itself: it is never translated.
    pub(super) dns: Ipv4Addr,
}

/// The table, and the UDP backends in it (their tracked flows must be forgotten when
/// they go: UDP has no end that the kernel could see).
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) ruleset: Ruleset,
    pub(super) udp: HashSet<(Ipv4Addr, u16)>,
}

/// The table for these objects. Where two Services claim the same address and port, the
/// first by namespace and name has it.
pub(super) fn plan(
    context: &Context,
    services: &[Arc<Service>],
    slices: &[Arc<EndpointSlice>],
) -> Plan {
    let mut by_service: HashMap<(&str, &str), Vec<&EndpointSlice>> = HashMap::new();
    for slice in slices {
        let labels = slice.metadata.labels.as_ref();
        if let Some(service) = labels.and_then(|l| l.get(SERVICE_NAME)) {
            let namespace = slice.metadata.namespace.as_deref().unwrap_or_default();
            by_service
                .entry((namespace, service))
                .or_default()
                .push(slice);
        }
    }
    let mut ordered: Vec<_> = services.iter().map(|s| (key(s), s)).collect();
    ordered.sort_by_key(|(key, _)| *key);

    let mut plan = Plan {
        ruleset: base(context),
        udp: HashSet::new(),
    };
    for (key, service) in ordered {
        let Some(spec) = routed(service) else {
            continue;
        };
        let found = by_service.get(&key).map(Vec::as_slice).unwrap_or_default();
        for port in spec.ports.iter().flatten() {
            let backends = backends::of_port(
                port,
                found.iter().copied(),
                spec.publish_not_ready_addresses == Some(true),
                &context.node_name,
            );
            if let Some(port) = Port::new(context, key, service, spec, port, backends) {
                port.write(&mut plan);
            }
        }
    }
    plan
}

fn key(service: &Service) -> (&str, &str) {
    let meta = &service.metadata;
    (
        meta.namespace.as_deref().unwrap_or_default(),
        meta.name.as_deref().unwrap_or_default(),
    )
}

/// The spec of a Service that is ours to route.
fn routed(service: &Service) -> Option<&ServiceSpec> {
    let labels = service.metadata.labels.as_ref();
    let labelled = |label| labels.is_some_and(|l| l.contains_key(label));
    let spec = service.spec.as_ref()?;
    let headless = matches!(spec.cluster_ip.as_deref(), None | Some("" | "None"));
    let external = spec.type_.as_deref() == Some("ExternalName");
    (!headless && !external && !labelled(PROXY_NAME) && !labelled(HEADLESS)).then_some(spec)
}

/// What is in the table without any Service.
fn base(context: &Context) -> Ruleset {
    let mut rules = Ruleset::default();
    for (name, of) in [
        (
            "service-ips",
            "type ipv4_addr . inet_proto . inet_service : verdict",
        ),
        (
            "service-nodeports",
            "type inet_proto . inet_service : verdict",
        ),
        (
            "no-endpoint-ips",
            "type ipv4_addr . inet_proto . inet_service : verdict",
        ),
        (
            "no-endpoint-nodeports",
            "type inet_proto . inet_service : verdict",
        ),
        ("cluster-ips", "type ipv4_addr"),
        ("hairpin", "type ipv4_addr . ipv4_addr"),
    ] {
        rules.sets.insert(name.into(), Set::new(of));
    }
    let Context {
        service_cidr, dns, ..
    } = context;
    let not_dns = format!("ip daddr {dns} return");
    let chains: [(&str, Option<&'static str>, Vec<&str>); 11] = [
        (
            "services",
            None,
            vec![
                "ip daddr . meta l4proto . th dport vmap @service-ips",
                &not_dns,
                "fib daddr type local meta l4proto . th dport vmap @service-nodeports",
            ],
        ),
        (
            "no-endpoints",
            None,
            vec![
                &not_dns,
                "ip daddr . meta l4proto . th dport vmap @no-endpoint-ips",
                "fib daddr type local meta l4proto . th dport vmap @no-endpoint-nodeports",
                // A port that a Service does not have.
                "ip daddr @cluster-ips goto refuse",
            ],
        ),
        ("refuse", None, vec!["reject"]),
        (
            "mark-for-masquerade",
            None,
            vec!["meta mark set meta mark | 0x4000"],
        ),
        (
            "nat-postrouting",
            Some("type nat hook postrouting priority srcnat"),
            vec![
                "meta mark & 0x4000 == 0x4000 meta mark set meta mark ^ 0x4000 masquerade fully-random",
                // A backend that reaches itself through its Service must see another peer.
                "ip saddr . ip daddr @hairpin masquerade fully-random",
            ],
        ),
        ("unallocated", None, vec![]),
        (
            "nat-prerouting",
            Some("type nat hook prerouting priority dstnat"),
            vec!["jump services"],
        ),
        (
            "nat-output",
            Some("type nat hook output priority -100"),
            vec!["jump services"],
        ),
        (
            "filter-input",
            Some("type filter hook input priority -110"),
            vec!["ct state new jump no-endpoints"],
        ),
        (
            "filter-forward",
            Some("type filter hook forward priority -110"),
            vec![
                "ct state new jump no-endpoints",
                "ct state new jump unallocated",
            ],
        ),
        (
            "filter-output",
            // Behind the translation, unlike its siblings: those hooks come later anyway.
            Some("type filter hook output priority -90"),
            vec![
                "ct state new jump no-endpoints",
                "ct state new jump unallocated",
            ],
        ),
    ];
    for (name, hook, lines) in chains {
        let lines = lines.into_iter().map(str::to_owned).collect();
        rules
            .chains
            .insert(name.into(), Chain { hook, rules: lines });
    }
    // An address of the range that no Service has leads nowhere: say so at once.
    if let Some(chain) = rules.chains.get_mut("unallocated") {
        chain.rules = vec![not_dns, format!("ip daddr {service_cidr} goto refuse")];
    }
    rules
}

/// One port of one Service, as far as rules depend on it.
struct Port<'a> {
    context: &'a Context,
    /// Stem of the names of its chains.
    name: String,
    protocol: Protocol,
    number: u16,
    node_port: Option<u16>,
    cluster_ips: Vec<Ipv4Addr>,
    external_ips: BTreeSet<Ipv4Addr>,
    balancer_ips: BTreeSet<Ipv4Addr>,
    source_ranges: Vec<Ipv4Net>,
    internal_local: bool,
    external_local: bool,
    affinity_secs: Option<i32>,
    backends: Backends,
}

impl<'a> Port<'a> {
    fn new(
        context: &'a Context,
        (namespace, name): (&str, &str),
        service: &Service,
        spec: &ServiceSpec,
        port: &ServicePort,
        backends: Backends,
    ) -> Option<Port<'a>> {
        let protocol = Protocol::parse(port.protocol.as_deref())?;
        let number = u16::try_from(port.port).ok().filter(|n| *n > 0)?;
        let exposed = matches!(spec.type_.as_deref(), Some("NodePort" | "LoadBalancer"));
        let node_port = port.node_port.and_then(|n| u16::try_from(n).ok());
        let cluster_ips = match &spec.cluster_ips {
            Some(ips) if !ips.is_empty() => addresses(ips.iter()),
            _ => addresses(spec.cluster_ip.iter()),
        };
        let balancer = service
            .status
            .as_ref()
            .and_then(|s| s.load_balancer.as_ref());
        let ingress = balancer
            .and_then(|b| b.ingress.as_deref())
            .unwrap_or_default();
        let through_us = ingress
            .iter()
            .filter(|i| i.ip_mode.as_deref() != Some("Proxy"));
        let ranges: Vec<Ipv4Net> = spec
            .load_balancer_source_ranges
            .iter()
            .flatten()
            .filter_map(|r| r.trim().parse().ok())
            .collect();
        let local = |policy: &Option<String>| policy.as_deref() == Some("Local");
        let sticky = spec.session_affinity.as_deref() == Some("ClientIP");
        let timeout = spec
            .session_affinity_config
            .as_ref()
            .and_then(|c| c.client_ip.as_ref()?.timeout_seconds)
            .filter(|t| (1..=86_400).contains(t));
        let text = format!(
            "{namespace}/{name}/{protocol}/{}",
            port.name.as_deref().unwrap_or_default()
        );
        Some(Port {
            context,
            name: chain_name(&text),
            protocol,
            number,
            node_port: node_port.filter(|n| exposed && *n > 0),
            cluster_ips: cluster_ips
                .into_iter()
                .filter(|ip| *ip != context.dns)
                .collect(),
            external_ips: addresses(spec.external_ips.iter().flatten())
                .into_iter()
                .collect(),
            balancer_ips: addresses(through_us.filter_map(|i| i.ip.as_ref()))
                .into_iter()
                .collect(),
            source_ranges: Ipv4Net::aggregate(&ranges),
            internal_local: local(&spec.internal_traffic_policy),
            external_local: local(&spec.external_traffic_policy),
            affinity_secs: sticky.then(|| timeout.unwrap_or(AFFINITY_SECS)),
            backends,
        })
    }

    fn write(&self, plan: &mut Plan) {
        let rules = &mut plan.ruleset;
        for ip in &self.cluster_ips {
            rules.element("cluster-ips", ip.to_string(), "");
        }
        let Backends { cluster, local } = &self.backends;
        for Backend { ip, port } in cluster {
            if self.context.pod_cidr.contains(ip) {
                rules.element("hairpin", format!("{ip} . {ip}"), "");
            }
            if self.protocol == Protocol::Udp {
                plan.udp.insert((*ip, *port));
            }
        }
        let (all, here) = (format!("svc-{}", self.name), format!("loc-{}", self.name));
        let external = !self.external_ips.is_empty()
            || !self.balancer_ips.is_empty()
            || self.node_port.is_some();
        let internal_chain = if self.internal_local { &here } else { &all };
        if !cluster.is_empty() && (external || !self.internal_local) {
            self.balance(rules, &all, cluster, !self.internal_local);
        }
        if !local.is_empty() && (self.internal_local || (external && self.external_local)) {
            self.balance(rules, &here, local, self.internal_local);
        }

        let chosen = if self.internal_local { local } else { cluster };
        let refused = if cluster.is_empty() {
            "goto refuse"
        } else {
            "drop"
        };
        for ip in &self.cluster_ips {
            let key = self.key(ip);
            if chosen.is_empty() {
                rules.element("no-endpoint-ips", key, refused);
            } else {
                rules.element("service-ips", key, format!("goto {internal_chain}"));
            }
        }
        if external {
            self.write_external(rules, &all, &here, refused);
        }
    }

    /// External addresses and node ports.
    fn write_external(&self, rules: &mut Ruleset, all: &str, here: &str, refused: &str) {
        let Backends { cluster, local } = &self.backends;
        let entry = format!("ext-{}", self.name);
        let guarded = format!("fw-{}", self.name);
        let node_key = self.node_port.map(|n| format!("{} . {n}", self.protocol));
        if cluster.is_empty() || (self.external_local && local.is_empty()) {
            for ip in self.external_ips.iter().chain(&self.balancer_ips) {
                rules.element("no-endpoint-ips", self.key(ip), refused);
            }
            if let Some(key) = node_key.clone() {
                rules.element("no-endpoint-nodeports", key, refused);
            }
        }
        if cluster.is_empty() {
            return;
        }
        for ip in &self.external_ips {
            rules.element("service-ips", self.key(ip), format!("goto {entry}"));
        }
        for ip in &self.balancer_ips {
            let chain = if self.source_ranges.is_empty() {
                &entry
            } else {
                &guarded
            };
            rules.element("service-ips", self.key(ip), format!("goto {chain}"));
        }
        if let Some(key) = node_key {
            rules.element("service-nodeports", key, format!("goto {entry}"));
        }
        if !self.source_ranges.is_empty() && !self.balancer_ips.is_empty() {
            let ranges: Vec<_> = self.source_ranges.iter().map(Ipv4Net::to_string).collect();
            let guard = format!("ip saddr != {{ {} }} drop", ranges.join(", "));
            self.chain(rules, &guarded, vec![guard, format!("goto {entry}")]);
        }
        let mut lines = Vec::new();
        if self.external_local {
            // This node's own pods and processes are not outside: they reach every backend.
            let pods = self.context.pod_cidr;
            lines.push(format!("ip saddr {pods} goto {all}"));
            lines.push("fib saddr type local jump mark-for-masquerade".into());
            lines.push(format!("fib saddr type local goto {all}"));
            if !local.is_empty() {
                lines.push(format!("goto {here}"));
            }
        } else {
            lines.push("jump mark-for-masquerade".into());
            lines.push(format!("goto {all}"));
        }
        self.chain(rules, &entry, lines);
    }

    /// The chain that picks one of `backends`.
    fn balance(
        &self,
        rules: &mut Ruleset,
        name: &str,
        backends: &BTreeSet<Backend>,
        internal: bool,
    ) {
        let mut lines = Vec::new();
        let protocol = self.protocol;
        if internal {
            let pods = self.context.pod_cidr;
            for ip in &self.cluster_ips {
                lines.push(format!(
                    "ip daddr {ip} ip saddr != {pods} jump mark-for-masquerade"
                ));
            }
        }
        let count = backends.len();
        if let Some(secs) = self.affinity_secs {
            let targets: Vec<String> = backends
                .iter()
                .map(|b| self.sticky(rules, *b, secs))
                .collect();
            for target in &targets {
                lines.push(format!("ip saddr @aff-{target} goto ep-{target}"));
            }
            let choices: Vec<_> = targets
                .iter()
                .enumerate()
                .map(|(i, t)| format!("{i} : goto ep-{t}"))
                .collect();
            lines.push(format!(
                "numgen random mod {count} vmap {{ {} }}",
                choices.join(", ")
            ));
        } else if let (1, Some(Backend { ip, port })) = (count, backends.first()) {
            lines.push(format!("meta l4proto {protocol} dnat ip to {ip}:{port}"));
        } else {
            let choices: Vec<_> = backends
                .iter()
                .enumerate()
                .map(|(i, b)| format!("{i} : {} . {}", b.ip, b.port))
                .collect();
            lines.push(format!(
                "meta l4proto {protocol} dnat ip to numgen random mod {count} map {{ {} }}",
                choices.join(", ")
            ));
        }
        self.chain(rules, name, lines);
    }

    /// The chain and the set of clients of one backend of a Service with affinity;
    /// answers the stem of their names. The set lives as long as the backend does.
    fn sticky(&self, rules: &mut Ruleset, Backend { ip, port }: Backend, secs: i32) -> String {
        let stem = chain_name(&format!("{}/{ip}/{port}/{secs}", self.name));
        let set = format!("type ipv4_addr; flags dynamic,timeout; timeout {secs}s");
        rules.sets.insert(format!("aff-{stem}"), Set::new(set));
        let lines = vec![
            format!("update @aff-{stem} {{ ip saddr }}"),
            format!("meta l4proto {} dnat ip to {ip}:{port}", self.protocol),
        ];
        self.chain(rules, &format!("ep-{stem}"), lines);
        stem
    }

    fn key(&self, ip: &Ipv4Addr) -> String {
        format!("{ip} . {} . {}", self.protocol, self.number)
    }

    fn chain(&self, rules: &mut Ruleset, name: &str, lines: Vec<String>) {
        rules.chains.insert(
            name.to_owned(),
            Chain {
                hook: None,
                rules: lines,
            },
        );
    }
}

fn addresses<'a>(texts: impl Iterator<Item = &'a String>) -> Vec<Ipv4Addr> {
    texts.filter_map(|t| t.parse().ok()).collect()
}

/// A name that nft takes, is unique for `text`, and can be read by an operator.
fn chain_name(text: &str) -> String {
    let mut name = String::new();
    for byte in Sha256::digest(text).iter().take(5) {
        name.push_str(&format!("{byte:02x}"));
    }
    name.push('-');
    let plain = |c: char| {
        if c.is_ascii_alphanumeric() || "-./".contains(c) {
            c
        } else {
            '_'
        }
    };
    name.extend(text.chars().take(80).map(plain));
    name
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
