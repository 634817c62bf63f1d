//! The decision: which node is the best of those that fit. Pure and synchronous.

use crate::cluster::{HostPort, NodeView, host_ports, port_taken};
use crate::resources::{Resources, pod_requests, pod_usage};
use client::fit;
use k8s_openapi::api::core::v1::{Node, Pod, PodSpec, Taint, Toleration};
use std::collections::BTreeMap;
use std::fmt;

const MOST: i64 = 100;
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Why no node fits: how many nodes there are, and how many of them fail for which reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unschedulable {
    /// All nodes.
    pub nodes: usize,
    /// Nodes by reason.
    pub reasons: BTreeMap<String, usize>,
}

impl fmt::Display for Unschedulable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available:", self.nodes)?;
        let mut reasons: Vec<String> = self
            .reasons
            .iter()
            .map(|(reason, count)| format!("{count} {reason}"))
            .collect();
        reasons.sort();
        if !reasons.is_empty() {
            write!(f, " {}.", reasons.join(", "))?;
        }
        Ok(())
    }
}

impl std::error::Error for Unschedulable {}

/// What is asked of every node, worked out once.
struct Request<'a> {
    spec: &'a PodSpec,
    tolerations: &'a [Toleration],
    requests: Resources,
    usage: Resources,
    ports: Vec<HostPort>,
}

/// The name of the best node for `pod`. Among equals `tie` decides.
pub fn plan<'a>(
    pod: &Pod,
    nodes: impl Iterator<Item = (&'a str, &'a NodeView)>,
    tie: u64,
) -> Result<String, Unschedulable> {
    let empty = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&empty);
    let request = Request {
        spec,
        tolerations: spec.tolerations.as_deref().unwrap_or_default(),
        requests: pod_requests(pod),
        usage: pod_usage(pod),
        ports: host_ports(pod),
    };
    let mut failed = Unschedulable {
        nodes: 0,
        reasons: BTreeMap::new(),
    };
    let mut fitting = Vec::new();
    for (name, view) in nodes {
        let Some(node) = view.node.as_deref() else {
            continue;
        };
        failed.nodes += 1;
        let reasons = misfits(&request, name, node, view);
        if reasons.is_empty() {
            fitting.push((name, node, view));
        }
        for reason in reasons {
            *failed.reasons.entry(reason).or_default() += 1;
        }
    }
    best(&request, &fitting, tie).ok_or(failed)
}

/// Why `node` does not fit: the reasons of the first filter that refuses it.
fn misfits(request: &Request<'_>, name: &str, node: &Node, view: &NodeView) -> Vec<String> {
    let spec = request.spec;
    let one = |reason: &str| vec![reason.to_owned()];
    if node.spec.as_ref().and_then(|s| s.unschedulable) == Some(true) {
        let taint = Taint {
            key: UNSCHEDULABLE.to_owned(),
            effect: "NoSchedule".to_owned(),
            ..Taint::default()
        };
        if !request
            .tolerations
            .iter()
            .any(|t| fit::tolerates(t, &taint))
        {
            return one("node(s) were unschedulable");
        }
    }
    if spec
        .node_name
        .as_deref()
        .is_some_and(|n| !n.is_empty() && n != name)
    {
        return one("node(s) didn't match the requested node name");
    }
    let effects = ["NoSchedule", "NoExecute"];
    if fit::untolerated(node, request.tolerations, &effects)
        .next()
        .is_some()
    {
        return one("node(s) had untolerated taint(s)");
    }
    if !fit::affinity_allows(spec, node) {
        return one("node(s) didn't match Pod's node affinity/selector");
    }
    if request
        .ports
        .iter()
        .any(|wanted| port_taken(&view.ports, wanted))
    {
        return one("node(s) didn't have free ports for the requested pod ports");
    }
    insufficient(&request.requests, view)
}

fn insufficient(requests: &Resources, view: &NodeView) -> Vec<String> {
    let mut reasons = Vec::new();
    let pods = i64::try_from(view.pods.len()).unwrap_or(i64::MAX);
    if pods.saturating_add(1) > view.allocatable.get("pods") {
        reasons.push("Too many pods".to_owned());
    }
    let names = ["cpu", "memory"].into_iter();
    for name in names.chain(requests.others.keys().map(String::as_str)) {
        let wanted = requests.get(name);
        let free = view
            .allocatable
            .get(name)
            .saturating_sub(view.requested.get(name));
        if wanted > 0 && wanted > free {
            reasons.push(format!("Insufficient {name}"));
        }
    }
    reasons
}

fn best(request: &Request<'_>, fitting: &[(&str, &Node, &NodeView)], tie: u64) -> Option<String> {
    if let [(name, _, _)] = fitting {
        return Some((*name).to_owned());
    }
    let unliked: Vec<i64> = fitting
        .iter()
        .map(|(_, node, _)| {
            let taints = fit::untolerated(node, request.tolerations, &["PreferNoSchedule"]);
            i64::try_from(taints.count()).unwrap_or(i64::MAX)
        })
        .collect();
    let liked: Vec<i64> = fitting
        .iter()
        .map(|(_, node, _)| fit::affinity_weight(request.spec, node))
        .collect();
    let (most_unliked, most_liked) = (largest(&unliked), largest(&liked));
    let scores: Vec<i64> = fitting
        .iter()
        .enumerate()
        .map(|(i, (_, _, view))| {
            let taints = MOST - share(unliked[i], most_unliked);
            let affinity = share(liked[i], most_liked);
            3 * taints + 2 * affinity + least_allocated(request, view) + balanced(request, view)
        })
        .collect();
    let top = scores.iter().max()?;
    let equals: Vec<&str> = fitting
        .iter()
        .zip(&scores)
        .filter(|(_, s)| *s == top)
        .map(|((n, _, _), _)| *n)
        .collect();
    let pick = usize::try_from(tie % u64::try_from(equals.len()).ok()?).ok()?;
    equals.get(pick).map(|name| (*name).to_owned())
}

fn largest(values: &[i64]) -> i64 {
    values.iter().copied().max().unwrap_or(0)
}

/// `value` as a part of `most`, out of 100.
fn share(value: i64, most: i64) -> i64 {
    if most <= 0 {
        0
    } else {
        value.saturating_mul(MOST) / most
    }
}

/// Higher the more is left free.
fn least_allocated(request: &Request<'_>, view: &NodeView) -> i64 {
    let one = |name: &str| {
        let capacity = view.allocatable.get(name);
        let taken = view.used.get(name).saturating_add(request.usage.get(name));
        share(capacity.saturating_sub(taken).max(0), capacity)
    };
    i64::midpoint(one("cpu"), one("memory"))
}

/// Higher the closer the shares of CPU and memory in use are to each other.
fn balanced(request: &Request<'_>, view: &NodeView) -> i64 {
    let one = |name: &str| {
        let capacity = view.allocatable.get(name);
        let taken = view
            .requested
            .get(name)
            .saturating_add(request.requests.get(name));
        share(taken, capacity).min(MOST)
    };
    MOST - (one("cpu") - one("memory")).abs() / 2
}
