//! Services, Endpoints and EndpointSlices.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::Value;

use super::at::{At, Errors, get};
use super::{names, pod};

const TYPES: &[&str] = &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];
const PROTOCOLS: &[&str] = &["SCTP", "TCP", "UDP"];
const CLIENT_IP_MAX_SECS: i64 = 86_400;
const LB_ONLY: &str = "may only be used when `type` is 'LoadBalancer'";
/// The most endpoints of a slice, addresses of an endpoint, ports of a slice.
const SLICE_LIMITS: (usize, usize, usize) = (1000, 100, 20_000);

/// A Service; addresses and node ports that are not there yet are filled in later.
pub(super) fn service(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let spec = at.field("spec");
    let before = old.map_or(&Value::Null, |old| get(old, "spec"));
    let kind_at = spec.field("type");
    let kind = kind_at.text();
    let (ports, ips) = (spec.field("ports"), spec.field("clusterIPs"));
    let headless = spec.field("clusterIP").text() == "None"
        || ips.items().next().is_some_and(|ip| ip.text() == "None");
    if ports.is_empty() && !headless && kind != "ExternalName" {
        out.required(&ports, "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if headless => {
            if let Some(first) = ips.items().next() {
                out.invalid(
                    &first,
                    format!("may not be set to 'None' for {kind} services"),
                );
            }
        }
        "ExternalName" => external_name(&spec, before, out),
        _ => {}
    }
    let many = ports.len() > 1;
    let mut seen = HashSet::new();
    for port in ports.items() {
        service_port(&port, many, &mut seen, out);
    }
    out.labels(&spec.field("selector"));
    affinity(&spec, out);
    addresses(&spec, old.is_none(), out);
    out.one_of(&kind_at, TYPES);
    unique_ports(&ports, kind, out);
    policies(&spec, before, out);
    kept_addresses(&spec, before, out);
}

/// Whether a field is left over from another type of the same Service, which is no error.
fn left_over(at: &At<'_, '_>, before: &Value, name: &str) -> bool {
    !before.is_null() && at.value == get(before, name)
}

fn external_name(spec: &At<'_, '_>, before: &Value, out: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let (name, field) = (field, spec.field(field));
        if !field.is_empty() && !left_over(&field, before, name) {
            out.forbidden(&field, "may not be set for ExternalName services");
        }
    }
    let name = spec.field("externalName");
    let text = name.text();
    match text.strip_suffix('.').unwrap_or(text) {
        "" => out.required(&name, ""),
        plain => out.form(&name, names::dns_subdomain(plain)),
    }
}

fn service_port<'v>(port: &At<'v, '_>, named: bool, seen: &mut HashSet<&'v str>, out: &mut Errors) {
    let name = port.field("name");
    if !name.is_empty() {
        out.form(&name, names::dns_label(name.text()));
        if !seen.insert(name.text()) {
            out.duplicate(&name);
        }
    } else if named {
        out.required(&name, "");
    }
    out.port(&port.field("port"));
    out.one_of(&port.field("protocol"), PROTOCOLS);
    out.port(&port.field("targetPort"));
    let protocol = port.field("appProtocol");
    if protocol.is_set() {
        out.form(&protocol, names::qualified_name(protocol.text()));
    }
}

fn affinity(spec: &At<'_, '_>, out: &mut Errors) {
    let (kind, config) = (
        spec.field("sessionAffinity"),
        spec.field("sessionAffinityConfig"),
    );
    out.one_of(&kind, &["ClientIP", "None"]);
    match kind.text() {
        "ClientIP" => {
            let secs = config.field("clientIP.timeoutSeconds");
            match secs.int() {
                None => out.required(&config, "when session affinity type is ClientIP"),
                Some(n) if n <= 0 || n > CLIENT_IP_MAX_SECS => {
                    out.invalid(
                        &secs,
                        format!("must be greater than 0 and less than {CLIENT_IP_MAX_SECS}"),
                    );
                }
                Some(_) => {}
            }
        }
        "None" if config.is_set() => {
            out.forbidden(&config, "must not be set when session affinity is None")
        }
        _ => {}
    }
}

fn addresses(spec: &At<'_, '_>, is_new: bool, out: &mut Errors) {
    let (one, all) = (spec.field("clusterIP"), spec.field("clusterIPs"));
    let first = all.items().next().map(|ip| ip.text());
    match (one.text(), first) {
        ("", Some(_)) if is_new => {
            out.invalid(&all, "must be empty when `clusterIP` is not specified")
        }
        (single, Some(first)) if is_new && single != first => {
            out.invalid(&all, "first value must match `clusterIP`")
        }
        _ => {}
    }
    if all.len() > 2 {
        out.invalid(&all, "may only hold up to 2 values");
    }
    for (i, ip) in all.items().enumerate() {
        if ip.text() == "None" {
            if i > 0 || all.len() > 1 {
                out.invalid(&all, "'None' must be the first and only value");
            }
        } else {
            pod::ip(&ip, out);
        }
    }
    if all.is_empty() && !matches!(one.text(), "" | "None") {
        pod::ip(&one, out);
    }
    let families = spec.field("ipFamilies");
    let mut seen = HashSet::new();
    for family in families.items() {
        out.any_of(&family, &["IPv4", "IPv6"]);
        if !seen.insert(family.text()) {
            out.duplicate(&family);
        }
    }
    out.any_of(
        &spec.field("ipFamilyPolicy"),
        &["PreferDualStack", "RequireDualStack", "SingleStack"],
    );
    let external = spec.field("externalIPs");
    for ip in external.items() {
        pod::ip(&ip, out);
        not_special(&ip, out);
    }
}

/// An address that others can reach.
fn not_special(at: &At<'_, '_>, out: &mut Errors) {
    let Ok(ip) = at.text().parse::<IpAddr>() else {
        return;
    };
    let (link_local, multicast) = match ip {
        IpAddr::V4(v4) => (v4.is_link_local(), v4.octets()[..3] == [224, 0, 0]),
        IpAddr::V6(v6) => (
            v6.is_unicast_link_local(),
            v6.segments()[0] & 0xff0f == 0xff02,
        ),
    };
    if ip.is_unspecified() {
        out.invalid(at, format!("may not be unspecified ({ip})"));
    }
    if ip.is_loopback() {
        out.invalid(
            at,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    if link_local {
        out.invalid(
            at,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    if multicast {
        out.invalid(
            at,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

fn unique_ports(ports: &At<'_, '_>, kind: &str, out: &mut Errors) {
    let (mut outside, mut inside) = (HashSet::new(), HashSet::new());
    for port in ports.items() {
        let (protocol, node) = (port.field("protocol").text(), port.field("nodePort"));
        let number = node.int().unwrap_or_default();
        if number != 0 {
            if kind == "ClusterIP" {
                out.forbidden(&node, "may not be used when `type` is 'ClusterIP'");
            }
            if !outside.insert((protocol, number)) {
                out.duplicate(&node);
            }
        }
        let number = port.field("port").int().unwrap_or_default();
        if !inside.insert((protocol, number)) {
            out.duplicate_value(
                &port,
                serde_json::json!({"port": number, "protocol": protocol}),
            );
        }
    }
}

fn policies(spec: &At<'_, '_>, before: &Value, out: &mut Errors) {
    let kind = spec.field("type").text();
    let balanced = kind == "LoadBalancer";
    let ranges = spec.field("loadBalancerSourceRanges");
    if !ranges.is_empty() && !balanced {
        out.forbidden(&ranges, LB_ONLY);
    }
    for range in ranges.items() {
        if !is_cidr(range.text().trim()) {
            out.invalid(
                &range,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
    }
    for field in ["allocateLoadBalancerNodePorts", "loadBalancerClass"] {
        let (name, field) = (field, spec.field(field));
        if field.is_set() && !balanced && !left_over(&field, before, name) {
            out.forbidden(&field, LB_ONLY);
        }
    }
    let external = spec.field("externalTrafficPolicy");
    let accessible = balanced
        || kind == "NodePort"
        || (kind == "ClusterIP" && !spec.field("externalIPs").is_empty());
    if accessible {
        out.one_of(&external, &["Cluster", "Local"]);
    } else if !external.is_empty() && !left_over(&external, before, "externalTrafficPolicy") {
        out.invalid(
            &external,
            "may only be set for externally-accessible services",
        );
    }
    let health = spec.field("healthCheckNodePort");
    if health.int().unwrap_or_default() != 0 {
        if balanced && external.text() == "Local" {
            out.port(&health);
        } else if !left_over(&health, before, "healthCheckNodePort") {
            out.invalid(
                &health,
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            );
        }
    }
    out.any_of(&spec.field("internalTrafficPolicy"), &["Cluster", "Local"]);
    out.any_of(
        &spec.field("trafficDistribution"),
        &["PreferClose", "PreferSameNode", "PreferSameZone"],
    );
}

/// `address/prefix`.
pub(super) fn is_cidr(text: &str) -> bool {
    let Some((address, prefix)) = text.split_once('/') else {
        return false;
    };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    prefix.parse::<u8>().is_ok_and(|n| n <= most)
}

fn kept_addresses(spec: &At<'_, '_>, old: &Value, out: &mut Errors) {
    const CHANGED: &str = "may not change once set";
    if get(old, "type") == "ExternalName" || spec.field("type").text() == "ExternalName" {
        return;
    }
    let one = spec.field("clusterIP");
    let first = |field: &str| get(old, field).as_array().and_then(|l| l.first());
    for (field, unset) in [
        ("clusterIPs", "primary clusterIP can not be unset"),
        ("ipFamilies", "primary ipFamily can not be unset"),
    ] {
        let Some(was) = first(field) else { continue };
        let list = spec.field(field);
        // Whoever changes the one address means the first of all.
        let moved = field == "clusterIPs" && !one.is_empty() && one.value != was;
        match list.items().next() {
            _ if moved && (list.is_empty() || left_over(&list, old, field)) => {
                out.invalid_value(
                    &spec.field("clusterIPs[0]"),
                    serde_json::json!([one.text()]),
                    CHANGED,
                );
            }
            None => out.invalid(&list, unset),
            Some(is) if is.value != was => out.invalid_value(&is, list.value.clone(), CHANGED),
            Some(_) => {}
        }
    }
}

/// An Endpoints object.
pub(super) fn endpoints(at: &At<'_, '_>, out: &mut Errors) {
    let subsets = at.field("subsets");
    for subset in subsets.items() {
        let (ready, waiting) = (subset.field("addresses"), subset.field("notReadyAddresses"));
        if ready.is_empty() && waiting.is_empty() {
            out.required(&subset, "must specify `addresses` or `notReadyAddresses`");
        }
        for list in [&ready, &waiting] {
            for address in list.items() {
                let ip = address.field("ip");
                pod::ip(&ip, out);
                not_special(&ip, out);
                let host = address.field("hostname");
                if !host.is_empty() {
                    out.form(&host, names::dns_label(host.text()));
                }
            }
        }
        let ports = subset.field("ports");
        let many = ports.len() > 1;
        for port in ports.items() {
            let name = port.field("name");
            if !name.is_empty() {
                out.form(&name, names::dns_label(name.text()));
            } else if many {
                out.required(&name, "");
            }
            out.port(&port.field("port"));
            out.one_of(&port.field("protocol"), PROTOCOLS);
        }
    }
}

/// An EndpointSlice.
pub(super) fn slice(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let kind = at.field("addressType");
    out.one_of(&kind, &["FQDN", "IPv4", "IPv6"]);
    if let Some(old) = old {
        out.immutable(&kind, get(old, "addressType"));
    }
    let (most, most_addresses, most_ports) = SLICE_LIMITS;
    let (endpoints, ports) = (at.field("endpoints"), at.field("ports"));
    if endpoints.len() > most {
        out.too_many(&endpoints, endpoints.len(), most);
        return;
    }
    for endpoint in endpoints.items() {
        let addresses = endpoint.field("addresses");
        if addresses.is_empty() {
            out.required(&addresses, "must contain at least 1 address");
        } else if addresses.len() > most_addresses {
            out.too_many(&addresses, addresses.len(), most_addresses);
        }
        for address in addresses.items() {
            slice_address(&address, kind.text(), out);
        }
        let node = endpoint.field("nodeName");
        if node.is_set() {
            out.form(&node, names::dns_subdomain(node.text()));
        }
        let host = endpoint.field("hostname");
        if host.is_set() {
            out.form(&host, names::dns_label(host.text()));
        }
    }
    if ports.len() > most_ports {
        out.too_many(&ports, ports.len(), most_ports);
        return;
    }
    let mut seen = HashSet::new();
    for port in ports.items() {
        let name = port.field("name");
        if !name.is_empty() {
            out.form(&name, names::dns_label(name.text()));
        }
        if !seen.insert(name.text()) {
            out.duplicate_value(&name, name.text());
        }
        out.one_of(&port.field("protocol"), PROTOCOLS);
        let number = port.field("port");
        if number.is_set() {
            out.port(&number);
        }
    }
}

fn slice_address(at: &At<'_, '_>, kind: &str, out: &mut Errors) {
    let ip = at.text().parse::<IpAddr>();
    match (kind, ip) {
        ("IPv4", Ok(IpAddr::V4(_))) | ("IPv6", Ok(IpAddr::V6(_))) => not_special(at, out),
        ("IPv4", _) => out.invalid(at, "must be a valid IPv4 address"),
        ("IPv6", _) => out.invalid(at, "must be a valid IPv6 address"),
        ("FQDN", _) => out.form(at, names::dns_subdomain(at.text())),
        _ => {}
    }
}
