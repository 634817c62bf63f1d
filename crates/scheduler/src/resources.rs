//! What a pod asks for and what a node offers, as integers.

use api::quantity::Quantity;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use std::collections::BTreeMap;

/// What a container that asks for nothing is taken to use when nodes are compared.
const UNASKED_MILLI_CPU: i64 = 100;
const UNASKED_MEMORY_BYTES: i64 = 200 * 1024 * 1024;

/// Amounts of resources.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// Thousandths of a CPU.
    pub milli_cpu: i64,
    /// Bytes of memory.
    pub memory_bytes: i64,
    /// Every other resource by its name, in its own unit.
    pub others: BTreeMap<String, i64>,
}

impl Resources {
    /// The amounts of a resource list; what cannot be read counts as nothing.
    pub fn of(list: Option<&BTreeMap<String, Text>>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list.into_iter().flatten() {
            let Ok(quantity) = Quantity::parse(&quantity.0) else {
                continue;
            };
            match name.as_str() {
                "cpu" => resources.milli_cpu = quantity.as_milli(),
                "memory" => resources.memory_bytes = quantity.as_bytes(),
                _ => {
                    resources.others.insert(name.clone(), quantity.as_bytes());
                }
            }
        }
        resources
    }

    /// Adds every amount of `other`.
    pub fn add(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_add(other.milli_cpu);
        self.memory_bytes = self.memory_bytes.saturating_add(other.memory_bytes);
        for (name, amount) in &other.others {
            let sum = self.others.entry(name.clone()).or_default();
            *sum = sum.saturating_add(*amount);
        }
    }

    /// Takes every amount of `other` away.
    pub fn subtract(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.saturating_sub(other.milli_cpu);
        self.memory_bytes = self.memory_bytes.saturating_sub(other.memory_bytes);
        for (name, amount) in &other.others {
            if let Some(sum) = self.others.get_mut(name) {
                *sum = sum.saturating_sub(*amount);
            }
        }
    }

    fn raise_to(&mut self, other: &Self) {
        self.milli_cpu = self.milli_cpu.max(other.milli_cpu);
        self.memory_bytes = self.memory_bytes.max(other.memory_bytes);
        for (name, amount) in &other.others {
            let largest = self.others.entry(name.clone()).or_default();
            *largest = (*largest).max(*amount);
        }
    }

    /// The amount of the resource called `name`.
    pub fn get(&self, name: &str) -> i64 {
        match name {
            "cpu" => self.milli_cpu,
            "memory" => self.memory_bytes,
            _ => self.others.get(name).copied().unwrap_or(0),
        }
    }
}

/// What a pod asks for: its containers and sidecars together, or the largest moment of its
/// start, and its overhead. Requests of the pod as a whole replace those of its containers.
pub fn pod_requests(pod: &Pod) -> Resources {
    requests(pod, |requirements| {
        Resources::of(requirements.and_then(|r| r.requests.as_ref()))
    })
}

/// Like [`pod_requests`], but who asks for no CPU or memory is taken to use a little.
pub(crate) fn pod_usage(pod: &Pod) -> Resources {
    requests(pod, |requirements| {
        let list = requirements.and_then(|r| r.requests.as_ref());
        let mut resources = Resources::of(list);
        if !list.is_some_and(|l| l.contains_key("cpu")) {
            resources.milli_cpu = UNASKED_MILLI_CPU;
        }
        if !list.is_some_and(|l| l.contains_key("memory")) {
            resources.memory_bytes = UNASKED_MEMORY_BYTES;
        }
        resources
    })
}

fn requests(pod: &Pod, ask: impl Fn(Option<&ResourceRequirements>) -> Resources) -> Resources {
    let Some(spec) = &pod.spec else {
        return Resources::default();
    };
    let container = |c: &Container| ask(c.resources.as_ref());
    let mut total = Resources::default();
    for c in &spec.containers {
        total.add(&container(c));
    }
    let mut sidecars = Resources::default();
    let mut start = Resources::default();
    for c in spec.init_containers.iter().flatten() {
        let mut moment = container(c);
        if c.restart_policy.as_deref() == Some("Always") {
            total.add(&moment);
            sidecars.add(&moment);
            moment = sidecars.clone();
        } else {
            moment.add(&sidecars);
        }
        start.raise_to(&moment);
    }
    total.raise_to(&start);
    if let Some(whole) = spec.resources.as_ref().and_then(|r| r.requests.as_ref()) {
        let amounts = Resources::of(Some(whole));
        for name in whole.keys() {
            match name.as_str() {
                "cpu" => total.milli_cpu = amounts.milli_cpu,
                "memory" => total.memory_bytes = amounts.memory_bytes,
                _ => {
                    total.others.insert(name.clone(), amounts.get(name));
                }
            }
        }
    }
    total.add(&Resources::of(spec.overhead.as_ref()));
    total
}
