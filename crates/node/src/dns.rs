//! A pod's host name, `resolv.conf` and `hosts` file.
//!
//! Invariant: text in, text out; the worker reads and writes the files.

use std::{fmt::Write as _, net::IpAddr};

use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};

use crate::network::DnsConfig;

#[cfg(test)]
mod tests;

/// The most nameservers and search domains that a resolver reads.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
/// The longest host name the kernel takes.
const MAX_HOSTNAME: usize = 63;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

fn parse(text: &str) -> Resolv {
    let mut out = Resolv::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => out.servers.extend(words.next().map(str::to_owned)),
            Some("search" | "domain") => out.searches = words.map(str::to_owned).collect(),
            Some("options") => out.options = words.map(str::to_owned).collect(),
            _ => {}
        }
    }
    out.searches.retain(|s| s != ".");
    out
}

/// The pod's `resolv.conf`. `host` is the text of the node's own.
pub(crate) fn resolv_conf(pod: &Pod, cluster: &DnsConfig, host: &str) -> String {
    let fallback = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&fallback);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let host = parse(host);
    let in_cluster = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => None,
        "ClusterFirstWithHostNet" => Some(true),
        "ClusterFirst" => Some(spec.host_network != Some(true)),
        _ => Some(false),
    };
    let mut out = match in_cluster {
        None => Resolv::default(),
        Some(true) if !cluster.servers.is_empty() => {
            let domain = &cluster.search_domain;
            let mut searches = vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ];
            searches.extend(host.searches);
            Resolv {
                servers: cluster.servers.iter().map(ToString::to_string).collect(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        Some(_) => host,
    };
    if let Some(config) = &spec.dns_config {
        out.servers
            .extend(config.nameservers.iter().flatten().cloned());
        out.searches
            .extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            out.options.retain(|o| o.split(':').next() != Some(name));
            out.options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    dedup(&mut out.servers, MAX_NAMESERVERS);
    dedup(&mut out.searches, MAX_SEARCHES);
    let mut text = String::new();
    if !out.searches.is_empty() {
        let _ = writeln!(text, "search {}", out.searches.join(" "));
    }
    for server in &out.servers {
        let _ = writeln!(text, "nameserver {server}");
    }
    if !out.options.is_empty() {
        let _ = writeln!(text, "options {}", out.options.join(" "));
    }
    text
}

fn dedup(list: &mut Vec<String>, limit: usize) {
    let mut seen = std::collections::HashSet::new();
    list.retain(|item| seen.insert(item.clone()));
    list.truncate(limit);
}

/// Host name and domain of a pod: (`hostname`, fully qualified domain or "").
pub(crate) fn hostname(pod: &Pod, node: &str, cluster_domain: &str) -> (String, String) {
    let fallback = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&fallback);
    if let Some(name) = spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return (name.to_owned(), String::new());
    }
    if spec.host_network == Some(true) {
        return (node.to_owned(), String::new());
    }
    let wanted = spec.hostname.as_deref().filter(|h| !h.is_empty());
    let name = wanted.or(pod.metadata.name.as_deref()).unwrap_or("pod");
    let mut end = name.len().min(MAX_HOSTNAME);
    while !name.is_char_boundary(end) {
        end -= 1;
    }
    let short = name[..end].trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or("default");
    let domain = spec
        .subdomain
        .as_deref()
        .filter(|s| !s.is_empty())
        .map(|sub| format!("{sub}.{namespace}.svc.{cluster_domain}"))
        .unwrap_or_default();
    (short, domain)
}

/// What the kernel's host name of the pod is to be.
pub(crate) fn kernel_hostname(pod: &Pod, node: &str, cluster_domain: &str) -> String {
    let (short, domain) = hostname(pod, node, cluster_domain);
    let fqdn = pod
        .spec
        .as_ref()
        .is_some_and(|s| s.set_hostname_as_fqdn == Some(true));
    if fqdn && !domain.is_empty() {
        format!("{short}.{domain}")
    } else {
        short
    }
}

/// The pod's `/etc/hosts`. `host` is the text of the node's own, for pods on its network.
pub(crate) fn hosts(
    pod: &Pod,
    ips: &[IpAddr],
    node: &str,
    cluster_domain: &str,
    host: &str,
) -> String {
    let spec = pod.spec.as_ref();
    let mut out = String::new();
    if spec.is_some_and(|s| s.host_network == Some(true)) {
        out.push_str("# Kubernetes-managed hosts file (host network).\n");
        out.push_str(host);
    } else {
        out.push_str(concat!(
            "# Kubernetes-managed hosts file.\n",
            "127.0.0.1\tlocalhost\n",
            "::1\tlocalhost ip6-localhost ip6-loopback\n",
            "fe00::0\tip6-localnet\n",
            "fe00::0\tip6-mcastprefix\n",
            "fe00::1\tip6-allnodes\n",
            "fe00::2\tip6-allrouters\n",
        ));
        let (short, domain) = hostname(pod, node, cluster_domain);
        for ip in ips {
            let _ = if domain.is_empty() {
                writeln!(out, "{ip}\t{short}")
            } else {
                writeln!(out, "{ip}\t{short}.{domain}\t{short}")
            };
        }
    }
    let aliases: &[HostAlias] = spec
        .and_then(|s| s.host_aliases.as_deref())
        .unwrap_or_default();
    if !aliases.is_empty() {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default();
            let _ = writeln!(out, "{}\t{}", alias.ip, names.join("\t"));
        }
    }
    out
}
