//! Ingresses, IngressClasses and NetworkPolicies.

use serde_json::Value;

use super::at::{At, Errors, get};
use super::names;
use super::service::is_cidr;

/// An Ingress.
pub(super) fn ingress(at: &At<'_, '_>, out: &mut Errors) {
    let spec = at.field("spec");
    let (rules, default) = (spec.field("rules"), spec.field("defaultBackend"));
    if rules.is_empty() && !default.is_set() {
        let shown = if rules.is_set() {
            rules.value.clone()
        } else {
            Value::Array(Vec::new())
        };
        out.invalid_value(
            &spec,
            shown,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if default.is_set() {
        backend(&default, out);
    }
    for rule in rules.items() {
        let host = rule.field("host");
        if !host.is_empty() {
            host_name(&host, out);
        }
        let http = rule.field("http");
        if !http.is_set() {
            continue;
        }
        let paths = http.field("paths");
        if paths.is_empty() {
            out.required(&paths, "");
        }
        for path in paths.items() {
            one_path(&path, out);
        }
    }
    let tls = spec.field("tls");
    for entry in tls.items() {
        let hosts = entry.field("hosts");
        for host in hosts.items() {
            host_name(&host, out);
        }
    }
    let class = spec.field("ingressClassName");
    if class.is_set() {
        out.form(&class, names::dns_subdomain(class.text()));
    }
}

fn host_name(at: &At<'_, '_>, out: &mut Errors) {
    let text = at.text();
    if text.parse::<std::net::IpAddr>().is_ok() {
        out.invalid(at, "must be a DNS name, not an IP address");
    } else {
        out.form(
            at,
            names::dns_subdomain(text.strip_prefix("*.").unwrap_or(text)),
        );
    }
}

fn one_path(path: &At<'_, '_>, out: &mut Errors) {
    let (kind, text) = (path.field("pathType"), path.field("path"));
    match kind.text() {
        "" => out.required(&kind, "pathType must be specified"),
        "Exact" | "Prefix" => {
            if !text.text().starts_with('/') {
                out.invalid(&text, "must be an absolute path");
            }
            for sequence in ["//", "/./", "/../", "%2f", "%2F"] {
                if text.text().contains(sequence) {
                    out.invalid(&text, format!("must not contain '{sequence}'"));
                }
            }
        }
        "ImplementationSpecific" => {
            if !text.is_empty() && !text.text().starts_with('/') {
                out.invalid(&text, "must be an absolute path");
            }
        }
        _ => out.not_supported(&kind, &["Exact", "ImplementationSpecific", "Prefix"]),
    }
    backend(&path.field("backend"), out);
}

fn backend(at: &At<'_, '_>, out: &mut Errors) {
    let (resource, service) = (at.field("resource"), at.field("service"));
    match (resource.is_set(), service.is_set()) {
        (true, true) => out.invalid_value(at, "", "cannot set both resource and service backends"),
        (true, false) => {
            for field in ["kind", "name"] {
                out.present(&resource.field(field));
            }
        }
        (false, true) => {
            let (name, port) = (service.field("name"), service.field("port"));
            out.required_form(&name, names::dns_1035_label);
            let (port_name, number) = (port.field("name"), port.field("number"));
            match (!port_name.is_empty(), number.int().unwrap_or_default() != 0) {
                (true, true) => out.invalid(&port, "cannot set both port name & port number"),
                (true, false) => out.port(&port_name),
                (false, true) => out.port(&number),
                (false, false) => out.required(&port, "port name or number is required"),
            }
        }
        (false, false) => out.required(at, "resource or service backend is required"),
    }
}

/// An IngressClass.
pub(super) fn ingress_class(at: &At<'_, '_>, old: Option<&Value>, out: &mut Errors) {
    let controller = at.field("spec.controller");
    if controller.text().len() > 250 {
        out.too_long(&controller, 250);
    }
    out.present(&controller);
    if let Some(old) = old {
        out.immutable(&controller, get(old, "spec.controller"));
    }
}

/// A NetworkPolicy.
pub(super) fn policy(at: &At<'_, '_>, out: &mut Errors) {
    let spec = at.field("spec");
    out.label_selector(&spec.field("podSelector"));
    for (direction, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = spec.field(direction);
        for rule in rules.items() {
            let (ports, peers) = (rule.field("ports"), rule.field(peers));
            for port in ports.items() {
                policy_port(&port, out);
            }
            for peer in peers.items() {
                policy_peer(&peer, out);
            }
        }
    }
    let types = spec.field("policyTypes");
    if types.len() > 2 {
        out.invalid(&types, "may not specify more than two policyTypes");
    }
    for kind in types.items() {
        out.any_of(&kind, &["Egress", "Ingress"]);
    }
}

fn policy_port(at: &At<'_, '_>, out: &mut Errors) {
    out.any_of(&at.field("protocol"), &["SCTP", "TCP", "UDP"]);
    let (port, end) = (at.field("port"), at.field("endPort"));
    if port.is_set() {
        out.port(&port);
    }
    if !end.is_set() {
        return;
    }
    match port.value {
        Value::Number(_) => {
            if end.int() < port.int() {
                out.invalid(&end, "must be greater than or equal to `port`");
            }
            out.port(&end);
        }
        Value::Null => out.required(&port, "must be specified when `endPort` is used"),
        _ => out.invalid(&end, "may not be specified when `port` is non-numeric"),
    }
}

fn policy_peer(at: &At<'_, '_>, out: &mut Errors) {
    let (pods, namespaces, block) = (
        at.field("podSelector"),
        at.field("namespaceSelector"),
        at.field("ipBlock"),
    );
    out.label_selector(&pods);
    out.label_selector(&namespaces);
    let selects = pods.is_set() || namespaces.is_set();
    if block.is_set() {
        let cidr = block.field("cidr");
        if cidr.is_empty() {
            out.required(&cidr, "");
        } else if !is_cidr(cidr.text()) {
            out.invalid(
                &cidr,
                "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
            );
        }
        let except = block.field("except");
        for range in except.items() {
            if !is_cidr(range.text()) {
                out.invalid(
                    &range,
                    "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
                );
            }
        }
        if selects {
            out.forbidden(at, "may not specify both ipBlock and another peer");
        }
    } else if !selects {
        out.required(at, "must specify a peer");
    }
}
