//! From a question to its answer: a pure function of the catalog.
//!
//! Owner names are the question's own, letter case included, so that resolvers which
//! mix the case to tell answers apart are content.

use super::catalog::{self, Catalog, Key, Record as Endpoint};
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use ipnet::Ipv4Net;
use k8s_openapi::api::core::v1::Service;
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// Seconds for which an answer may be kept.
const TTL_SECS: u32 = 5;
/// Version of the naming scheme of Services.
const DNS_SCHEMA: &str = "1.1.0";

/// What this server is the authority for.
pub(super) struct Zone {
    /// The cluster's domain, lower case.
    pub(super) origin: Name,
    /// Address of this server.
    pub(super) dns: Ipv4Addr,
    /// Ranges whose reverse names are never asked upstream.
    pub(super) ranges: [Ipv4Net; 2],
}

/// How to answer a question.
pub(super) enum Outcome {
    /// From here.
    Known(Box<Answer>),
    /// By asking upstream.
    Foreign,
}

/// An authoritative answer.
#[derive(Default)]
pub(super) struct Answer {
    /// Whether the name exists (NXDOMAIN if not).
    pub(super) exists: bool,
    pub(super) records: Vec<Record>,
    pub(super) additionals: Vec<Record>,
    /// Who speaks for the absence of records.
    pub(super) authority: Option<Record>,
    /// Where the records of an alias are to be found.
    pub(super) alias: Option<Name>,
}

impl Answer {
    fn nothing() -> Answer {
        Answer {
            exists: true,
            ..Answer::default()
        }
    }

    fn of(records: Vec<Record>) -> Answer {
        Answer {
            exists: true,
            records,
            ..Answer::default()
        }
    }
}

/// Answers the question for `name` and `kind`.
pub(super) fn answer(zone: &Zone, catalog: &Catalog, name: &Name, kind: RecordType) -> Outcome {
    let Some(labels) = labels(name) else {
        return if zone.origin.zone_of(name) {
            Outcome::Known(with_authority(
                zone,
                catalog,
                &zone.origin,
                Answer::default(),
            ))
        } else {
            Outcome::Foreign
        };
    };
    if zone.origin.zone_of(name) {
        let own = usize::from(zone.origin.num_labels());
        let below: Vec<&str> = labels
            .iter()
            .take(labels.len().saturating_sub(own))
            .map(String::as_str)
            .collect();
        let asked = Asked {
            zone,
            catalog,
            name,
            kind,
        };
        return Outcome::Known(with_authority(
            zone,
            catalog,
            &zone.origin,
            asked.within(&below),
        ));
    }
    let Some(ip) = reverse(&labels) else {
        return Outcome::Foreign;
    };
    let targets = pointers(zone, catalog, ip);
    if targets.is_empty() && !zone.ranges.iter().any(|r| r.contains(&ip)) {
        return Outcome::Foreign;
    }
    let exists = !targets.is_empty();
    let records = match kind {
        RecordType::PTR => targets
            .into_iter()
            .map(|t| record(name, RData::PTR(PTR(t))))
            .collect(),
        _ => Vec::new(),
    };
    let origin = name.trim_to(2);
    let answer = Answer {
        exists,
        records,
        ..Answer::default()
    };
    Outcome::Known(with_authority(zone, catalog, &origin, answer))
}

/// A question below the cluster's domain.
struct Asked<'a> {
    zone: &'a Zone,
    catalog: &'a Catalog,
    name: &'a Name,
    kind: RecordType,
}

impl Asked<'_> {
    fn within(&self, below: &[&str]) -> Answer {
        let Asked {
            zone,
            catalog,
            kind,
            ..
        } = self;
        let own = |data: RData| Answer::of(vec![record(self.name, data)]);
        match below {
            [] => match kind {
                RecordType::SOA => own(RData::SOA(soa(zone, catalog))),
                RecordType::NS => {
                    let server = nameserver(zone);
                    let glue = record(&server, RData::A(A(zone.dns)));
                    let mut answer = own(RData::NS(NS(server)));
                    answer.additionals.push(glue);
                    answer
                }
                _ => Answer::nothing(),
            },
            ["ns", "dns"] if *kind == RecordType::A => own(RData::A(A(zone.dns))),
            ["dns-version"] if *kind == RecordType::TXT => {
                own(RData::TXT(TXT::new(vec![DNS_SCHEMA.to_owned()])))
            }
            ["ns", "dns"] | ["dns" | "dns-version" | "svc" | "pod"] => Answer::nothing(),
            [namespace, "svc" | "pod"] if catalog.has_namespace(namespace) => Answer::nothing(),
            [service, namespace, "svc"] => self.service(&key(namespace, service)),
            [endpoint, service, namespace, "svc"] => {
                self.endpoint(&key(namespace, service), endpoint)
            }
            [port, protocol, service, namespace, "svc"] => {
                match (port.strip_prefix('_'), protocol.strip_prefix('_')) {
                    (Some(port), Some(protocol)) => {
                        self.port(&key(namespace, service), port, protocol)
                    }
                    _ => Answer::default(),
                }
            }
            [pod, namespace, "pod"] if catalog.has_namespace(namespace) => {
                match pod.replace('-', ".").parse::<Ipv4Addr>() {
                    Ok(ip) if *kind == RecordType::A => own(RData::A(A(ip))),
                    Ok(_) => Answer::nothing(),
                    Err(_) => Answer::default(),
                }
            }
            _ => Answer::default(),
        }
    }

    /// `service.namespace.svc`
    fn service(&self, key: &Key) -> Answer {
        let Some(service) = self.catalog.get(key) else {
            return Answer::default();
        };
        if let Some(target) = external_name(service) {
            return self.alias(target);
        }
        let ips = catalog::cluster_ips(service);
        let endpoints = if ips.is_empty() {
            self.catalog.endpoints(key)
        } else {
            Vec::new()
        };
        if ips.is_empty() && endpoints.is_empty() {
            return Answer::default();
        }
        match self.kind {
            RecordType::A => self.addresses(ips.into_iter().chain(endpoints.iter().map(|e| e.ip))),
            RecordType::SRV => self.port(key, "", ""),
            _ => Answer::nothing(),
        }
    }

    /// `hostname.service.namespace.svc`
    fn endpoint(&self, key: &Key, label: &str) -> Answer {
        if self.catalog.get(key).is_none() {
            return Answer::default();
        }
        let mut endpoints = self.catalog.endpoints(key);
        endpoints.retain(|e| e.label == label);
        match self.kind {
            _ if endpoints.is_empty() => Answer::default(),
            RecordType::A => self.addresses(endpoints.iter().map(|e| e.ip)),
            RecordType::SRV => self.endpoint_ports(key, &endpoints, "", ""),
            _ => Answer::nothing(),
        }
    }

    /// `_port._protocol.service.namespace.svc`; an empty port or protocol is any.
    fn port(&self, key: &Key, port: &str, protocol: &str) -> Answer {
        let Some(service) = self.catalog.get(key) else {
            return Answer::default();
        };
        let ips = catalog::cluster_ips(service);
        if ips.is_empty() {
            return self.endpoint_ports(key, &self.catalog.endpoints(key), port, protocol);
        }
        let Some(target) = self.name_of(&[], key) else {
            return Answer::default();
        };
        let ports = service
            .spec
            .iter()
            .filter_map(|s| s.ports.as_ref())
            .flatten();
        let numbers: Vec<u16> = ports
            .filter(|p| is(port, p.name.as_deref()))
            .filter(|p| is(protocol, Some(p.protocol.as_deref().unwrap_or("TCP"))))
            .filter_map(|p| u16::try_from(p.port).ok())
            .collect();
        let glue = ips.iter().map(|ip| (target.clone(), *ip)).collect();
        self.servers(
            numbers.into_iter().map(|n| (target.clone(), n)).collect(),
            glue,
        )
    }

    fn endpoint_ports(
        &self,
        key: &Key,
        endpoints: &[Endpoint<'_>],
        port: &str,
        protocol: &str,
    ) -> Answer {
        let (mut servers, mut glue) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            let Some(target) = self.name_of(&[&endpoint.label], key) else {
                continue;
            };
            let before = servers.len();
            for p in endpoint.slice.ports.iter().flatten() {
                let named = is(port, p.name.as_deref());
                let spoken = is(protocol, Some(p.protocol.as_deref().unwrap_or("TCP")));
                if let (true, true, Some(number)) =
                    (named, spoken, p.port.and_then(|n| u16::try_from(n).ok()))
                {
                    servers.push((target.clone(), number));
                }
            }
            if servers.len() > before {
                glue.push((target, endpoint.ip));
            }
        }
        self.servers(servers, glue)
    }

    /// Records of type SRV with the addresses that belong to them.
    fn servers(&self, servers: Vec<(Name, u16)>, glue: Vec<(Name, Ipv4Addr)>) -> Answer {
        if servers.is_empty() {
            return Answer::default();
        }
        if self.kind != RecordType::SRV {
            return Answer::nothing();
        }
        let weight = u16::try_from(100 / servers.len()).unwrap_or(1).max(1);
        let mut seen = HashSet::new();
        let mut answer = Answer::nothing();
        for (target, port) in servers {
            if seen.insert((target.clone(), port)) {
                let data = RData::SRV(SRV::new(0, weight, port, target));
                answer.records.push(record(self.name, data));
            }
        }
        let mut seen = HashSet::new();
        for (target, ip) in glue {
            if seen.insert((target.clone(), ip)) {
                answer.additionals.push(record(&target, RData::A(A(ip))));
            }
        }
        answer
    }

    fn addresses(&self, ips: impl Iterator<Item = Ipv4Addr>) -> Answer {
        let mut seen = HashSet::new();
        let once = ips.filter(|ip| seen.insert(*ip));
        Answer::of(once.map(|ip| record(self.name, RData::A(A(ip)))).collect())
    }

    fn alias(&self, target: &str) -> Answer {
        if let Ok(ip) = target.parse() {
            let kind = self.kind;
            return if kind == RecordType::A {
                self.addresses([ip].into_iter())
            } else {
                Answer::nothing()
            };
        }
        let Ok(target) = Name::from_ascii(format!("{}.", target.trim_end_matches('.'))) else {
            return Answer::default();
        };
        let mut answer = Answer::of(vec![record(self.name, RData::CNAME(CNAME(target.clone())))]);
        answer.alias = (self.kind != RecordType::CNAME).then_some(target);
        answer
    }

    fn name_of(&self, labels: &[&str], key: &Key) -> Option<Name> {
        service_name(self.zone, labels, key)
    }
}

/// Adds the authority's record where there is nothing to answer with.
fn with_authority(
    zone: &Zone,
    catalog: &Catalog,
    origin: &Name,
    mut answer: Answer,
) -> Box<Answer> {
    if answer.records.is_empty() {
        answer.authority = Some(record(origin, RData::SOA(soa(zone, catalog))));
    }
    Box::new(answer)
}

/// The names that an address has in the cluster: of the Service whose address it is,
/// or else of the endpoints that are there.
fn pointers(zone: &Zone, catalog: &Catalog, ip: Ipv4Addr) -> Vec<Name> {
    if ip == zone.dns {
        return vec![nameserver(zone)];
    }
    let services: Vec<Name> = catalog
        .of_cluster_ip(ip)
        .filter_map(|key| service_name(zone, &[], key))
        .collect();
    if !services.is_empty() {
        return services;
    }
    let mut names: Vec<Name> = Vec::new();
    for key in catalog.of_endpoint(ip) {
        for endpoint in catalog.endpoints(key).iter().filter(|e| e.ip == ip) {
            names.extend(service_name(zone, &[&endpoint.label], key));
        }
    }
    names.dedup();
    names
}

fn service_name(zone: &Zone, labels: &[&str], (namespace, service): &Key) -> Option<Name> {
    let all = labels
        .iter()
        .copied()
        .chain([service.as_str(), namespace, "svc"]);
    let relative = Name::from_labels(all.map(str::as_bytes)).ok()?;
    relative.append_domain(&zone.origin).ok()
}

fn nameserver(zone: &Zone) -> Name {
    let relative = Name::from_labels([b"ns".as_slice(), b"dns"]).unwrap_or_default();
    relative.append_domain(&zone.origin).unwrap_or_default()
}

fn soa(zone: &Zone, catalog: &Catalog) -> SOA {
    let mailbox = Name::from_labels([b"hostmaster".as_slice()]).unwrap_or_default();
    let mailbox = mailbox.append_domain(&zone.origin).unwrap_or_default();
    SOA::new(
        nameserver(zone),
        mailbox,
        catalog.changes,
        7200,
        1800,
        86_400,
        TTL_SECS,
    )
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL_SECS, data)
}

/// The labels of a name in lower case; `None` if one is not ASCII.
fn labels(name: &Name) -> Option<Vec<String>> {
    let lower = |label: &[u8]| {
        label
            .is_ascii()
            .then(|| String::from_utf8_lossy(label).to_ascii_lowercase())
    };
    name.iter().map(lower).collect()
}

/// The address that a complete name below `in-addr.arpa` stands for.
fn reverse(labels: &[String]) -> Option<Ipv4Addr> {
    let [d, c, b, a, "in-addr", "arpa"] = labels.iter().map(String::as_str).collect::<Vec<_>>()[..]
    else {
        return None;
    };
    format!("{a}.{b}.{c}.{d}").parse().ok()
}

fn external_name(service: &Service) -> Option<&str> {
    let spec = service.spec.as_ref()?;
    let external = spec.type_.as_deref() == Some("ExternalName");
    spec.external_name
        .as_deref()
        .filter(|n| external && !n.is_empty())
}

fn key(namespace: &str, service: &str) -> Key {
    (namespace.to_owned(), service.to_owned())
}

fn is(wanted: &str, found: Option<&str>) -> bool {
    wanted.is_empty() || found.is_some_and(|f| f.eq_ignore_ascii_case(wanted))
}
