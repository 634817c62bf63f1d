//! Resource lists of the API turned into cgroup settings, and the QoS class.
//!
//! Invariant: a container without limits gets no limit, one without requests the
//! smallest share of the CPU.

use std::collections::BTreeMap;

use api::quantity::Quantity as Parsed;
use k8s_openapi::{
    api::core::v1::{Container, Pod, PodSpec, ResourceRequirements},
    apimachinery::pkg::api::resource::Quantity,
};

/// Quota period of the CPU controller, in microseconds.
pub(crate) const CPU_PERIOD_US: u64 = 100_000;
/// The least CPU quota the kernel takes, in microseconds.
const MIN_QUOTA_US: i64 = 1000;
/// The least and the most CPU shares.
const MIN_SHARES: u64 = 2;
const MAX_SHARES: u64 = 262_144;

type List = BTreeMap<String, Quantity>;

/// CPU of a quantity in thousandths, rounded up; 0 for one that cannot be read.
pub(crate) fn milli(quantity: &Quantity) -> i64 {
    Parsed::parse(&quantity.0).map_or(0, |q| q.as_milli())
}

/// Bytes of a quantity, rounded up; 0 for one that cannot be read.
pub(crate) fn bytes(quantity: &Quantity) -> i64 {
    Parsed::parse(&quantity.0).map_or(0, |q| q.as_bytes())
}

/// Thousandths of a CPU to cgroup v1 shares.
pub(crate) fn shares(milli_cpu: i64) -> u64 {
    let shares = u64::try_from(milli_cpu).unwrap_or(0).saturating_mul(1024) / 1000;
    shares.clamp(MIN_SHARES, MAX_SHARES)
}

/// Thousandths of a CPU to a quota in microseconds a period.
pub(crate) fn quota_us(milli_cpu: i64) -> i64 {
    (milli_cpu.saturating_mul(100)).max(MIN_QUOTA_US)
}

/// What the cgroup of one container gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Limits {
    /// CPU shares.
    pub cpu_shares: u64,
    /// CPU quota in microseconds a period, if limited.
    pub cpu_quota_us: Option<i64>,
    /// Memory limit in bytes, if limited.
    pub memory_bytes: Option<i64>,
    /// Memory request in bytes.
    pub memory_request_bytes: i64,
}

/// The cgroup settings of a container's resources.
pub(crate) fn limits(resources: Option<&ResourceRequirements>) -> Limits {
    let empty = List::new();
    let limits = resources.and_then(|r| r.limits.as_ref()).unwrap_or(&empty);
    let requests = resources
        .and_then(|r| r.requests.as_ref())
        .unwrap_or(&empty);
    let cpu_limit = limits.get("cpu").map(milli).filter(|m| *m > 0);
    let cpu_request = requests.get("cpu").map(milli).or(cpu_limit).unwrap_or(0);
    let memory = limits.get("memory").map(bytes).filter(|b| *b > 0);
    Limits {
        cpu_shares: shares(cpu_request),
        cpu_quota_us: cpu_limit.map(quota_us),
        memory_bytes: memory,
        memory_request_bytes: requests.get("memory").map(bytes).or(memory).unwrap_or(0),
    }
}

/// The cgroup settings of a pod as a whole: limited where every container is.
pub(crate) fn pod_limits(spec: &PodSpec) -> Limits {
    if let Some(own) = spec
        .resources
        .as_ref()
        .filter(|r| r.limits.is_some() || r.requests.is_some())
    {
        return limits(Some(own));
    }
    let sidecar = |c: &&Container| c.restart_policy.as_deref() == Some("Always");
    let sidecars = spec.init_containers.iter().flatten().filter(sidecar);
    let long: Vec<&ResourceRequirements> = spec
        .containers
        .iter()
        .chain(sidecars)
        .filter_map(|c| c.resources.as_ref())
        .collect();
    let count = spec.containers.len()
        + spec
            .init_containers
            .iter()
            .flatten()
            .filter(sidecar)
            .count();
    // Plain init containers run alone, so the largest counts.
    let init: Vec<Limits> = spec
        .init_containers
        .iter()
        .flatten()
        .filter(|c| !sidecar(c))
        .map(|c| limits(c.resources.as_ref()))
        .collect();
    let read =
        |list: fn(&ResourceRequirements) -> Option<&List>, key: &str, how: fn(&Quantity) -> i64| {
            let found: Vec<i64> = long
                .iter()
                .filter_map(|r| list(r)?.get(key))
                .map(how)
                .filter(|v| *v > 0)
                .collect();
            (found.len(), found.iter().sum::<i64>())
        };
    let limit = |key: &str, how: fn(&Quantity) -> i64| {
        let (n, sum) = read(|r| r.limits.as_ref(), key, how);
        (n == count && count > 0).then_some(sum)
    };
    let (_, request) = read(|r| r.requests.as_ref(), "cpu", milli);
    let all = |f: fn(&Limits) -> Option<i64>, main: Option<i64>| {
        let list: Option<Vec<i64>> = init.iter().map(f).collect();
        Some(list?.into_iter().fold(main?, i64::max))
    };
    Limits {
        cpu_shares: init
            .iter()
            .map(|l| l.cpu_shares)
            .fold(shares(request), u64::max),
        cpu_quota_us: all(|l| l.cpu_quota_us, limit("cpu", milli).map(quota_us)),
        memory_bytes: all(|l| l.memory_bytes, limit("memory", bytes)),
        memory_request_bytes: 0,
    }
}

/// Quality of service of a pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Qos {
    /// Every container has limits equal to its requests for CPU and memory.
    Guaranteed,
    /// Some container has a request or limit.
    Burstable,
    /// None has.
    BestEffort,
}

impl Qos {
    /// As the API spells it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }
}

/// The QoS class of a pod.
pub(crate) fn qos(spec: &PodSpec) -> Qos {
    let mut any = false;
    let mut guaranteed = true;
    let positive = |list: Option<&List>, key: &str| -> Option<i64> {
        list.and_then(|l| l.get(key)).map(milli).filter(|v| *v > 0)
    };
    let mut look = |requests: Option<&List>, limits: Option<&List>| {
        for key in ["cpu", "memory"] {
            let limit = positive(limits, key);
            let request = positive(requests, key);
            any |= limit.is_some() || request.is_some();
            guaranteed &= limit.is_some() && request.or(limit) == limit;
        }
    };
    if let Some(pod) = spec
        .resources
        .as_ref()
        .filter(|r| r.limits.is_some() || r.requests.is_some())
    {
        look(pod.requests.as_ref(), pod.limits.as_ref());
    } else {
        for c in spec
            .init_containers
            .iter()
            .flatten()
            .chain(&spec.containers)
        {
            let r = c.resources.as_ref();
            look(
                r.and_then(|r| r.requests.as_ref()),
                r.and_then(|r| r.limits.as_ref()),
            );
        }
    }
    match (any, guaranteed) {
        (false, _) => Qos::BestEffort,
        (true, true) => Qos::Guaranteed,
        (true, false) => Qos::Burstable,
    }
}

/// The cgroup of a pod below each controller.
pub(crate) fn cgroup_path(instance: &str, qos: Qos, uid: &str) -> String {
    match qos {
        Qos::Guaranteed => format!("knarr-{instance}/pod{uid}"),
        Qos::Burstable => format!("knarr-{instance}/burstable/pod{uid}"),
        Qos::BestEffort => format!("knarr-{instance}/besteffort/pod{uid}"),
    }
}

/// The OOM score adjustment of a container.
pub(crate) fn oom_score_adj(spec: &PodSpec, qos: Qos, memory_request: i64, capacity: i64) -> i32 {
    if spec.priority.is_some_and(|p| p >= 2_000_000_000) {
        return -997;
    }
    match qos {
        Qos::Guaranteed => -997,
        Qos::BestEffort => 1000,
        Qos::Burstable => {
            let share = 1000_i64.saturating_mul(memory_request) / capacity.max(1);
            i32::try_from((1000 - share).clamp(3, 999)).unwrap_or(999)
        }
    }
}

/// What a pod asks of the node: CPU in thousandths and memory in bytes.
pub(crate) fn pod_requests(pod: &Pod) -> (i64, i64) {
    let Some(spec) = &pod.spec else { return (0, 0) };
    let ask = |c: &Container, key: &str, read: fn(&Quantity) -> i64| {
        let r = c.resources.as_ref();
        r.and_then(|r| r.requests.as_ref())
            .and_then(|l| l.get(key))
            .or_else(|| r.and_then(|r| r.limits.as_ref()).and_then(|l| l.get(key)))
            .map_or(0, read)
    };
    let total = |key: &str, read: fn(&Quantity) -> i64| {
        let mut sidecars = 0;
        let mut init = 0;
        for c in spec.init_containers.iter().flatten() {
            let own = ask(c, key, read);
            if c.restart_policy.as_deref() == Some("Always") {
                sidecars += own;
                init = init.max(sidecars);
            } else {
                init = init.max(sidecars + own);
            }
        }
        let main: i64 = spec.containers.iter().map(|c| ask(c, key, read)).sum();
        let overhead = spec
            .overhead
            .as_ref()
            .and_then(|l| l.get(key))
            .map_or(0, read);
        let pod = spec
            .resources
            .as_ref()
            .and_then(|r| r.requests.as_ref())
            .and_then(|l| l.get(key));
        pod.map_or_else(|| (main + sidecars).max(init), read) + overhead
    };
    (total("cpu", milli), total("memory", bytes))
}
