//! What objects count against a ResourceQuota: how much of what, and whether a quota is about them.
//! Facts: `pkg/quota/v1/evaluator/core` and `k8s.io/apiserver/pkg/quota/v1` of 1.36.
//!
//! Invariant: admission, which charges, and the controller, which counts anew, agree because both
//! ask here.

mod pod;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde_json::{Map, Value};

use crate::meta;
use crate::quantity::{Format, Quantity};

/// Quantities by the names of resources.
pub type Amounts = BTreeMap<String, Quantity>;

/// The kinds of which more is counted than objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Pods: what their containers ask for.
    Pods,
    /// Services: load balancers and node ports.
    Services,
    /// Claims: storage, in all and by class.
    VolumeClaims,
    /// Everything else: objects.
    Count,
}

impl Measure {
    /// How the objects of a resource are measured; `None` for those that no quota counts.
    #[must_use]
    pub fn of(group: &str, plural: &str) -> Option<Self> {
        Some(match (group, plural) {
            ("" | "events.k8s.io", "events") => return None,
            ("", "pods") => Self::Pods,
            ("", "services") => Self::Services,
            ("", "persistentvolumeclaims") => Self::VolumeClaims,
            _ => Self::Count,
        })
    }

    /// Whether the amounts of this name come from the objects of this resource.
    #[must_use]
    pub fn tracks(self, group: &str, plural: &str, name: &str) -> bool {
        if name == count_name(group, plural) {
            return true;
        }
        match self {
            Self::Pods => pod::tracks(name),
            Self::Services => SERVICES.contains(&name),
            Self::VolumeClaims => CLAIMS.iter().any(|own| {
                let class = name.strip_suffix(own);
                class.is_some_and(|class| class.is_empty() || class.ends_with(BY_CLASS))
            }),
            Self::Count => group.is_empty() && COUNTED.contains(&plural) && name == plural,
        }
    }

    /// What an object counts for. A pod that has ended, or should have by `now`, counts as an object
    /// only.
    #[must_use]
    pub fn usage(self, group: &str, plural: &str, object: &Value, now: Timestamp) -> Amounts {
        let mut usage = Amounts::from([(count_name(group, plural), one())]);
        match self {
            Self::Pods => pod::add_usage(&mut usage, object, now),
            Self::Services => add_service(&mut usage, object),
            Self::VolumeClaims => add_claim(&mut usage, object),
            Self::Count => {
                if group.is_empty() && COUNTED.contains(&plural) {
                    usage.insert(plural.to_owned(), one());
                }
            }
        }
        usage
    }

    /// Whether an object is in a scope.
    #[must_use]
    pub fn in_scope(self, scope: &Scope, object: &Value) -> bool {
        match self {
            Self::Pods => pod::in_scope(scope, object),
            Self::VolumeClaims if scope.name == "VolumeAttributesClass" => {
                scope.selects(&attribute_classes(object))
            }
            _ => false,
        }
    }

    /// What a quota of these names wants every container to say and one does not; upstream's words.
    #[must_use]
    pub fn missing(self, names: &BTreeSet<&str>, object: &Value) -> Option<String> {
        match self {
            Self::Pods => pod::missing(names, object),
            _ => None,
        }
    }
}

const SERVICES: &[&str] = &["services", "services.nodeports", "services.loadbalancers"];
const CLAIMS: &[&str] = &["persistentvolumeclaims", "requests.storage"];
/// Between a storage class and what is counted of it.
const BY_CLASS: &str = ".storageclass.storage.k8s.io/";
/// Core resources that are counted by their plain name as well.
const COUNTED: &[&str] = &[
    "configmaps",
    "resourcequotas",
    "replicationcontrollers",
    "secrets",
];

/// `count/deployments.apps`.
fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() {
        format!("count/{plural}")
    } else {
        format!("count/{plural}.{group}")
    }
}

fn one() -> Quantity {
    whole(1)
}

fn whole(amount: usize) -> Quantity {
    Quantity::new(i64::try_from(amount).unwrap_or(i64::MAX), Format::DecimalSI)
}

/// One term of a quota's scopes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// Such as `BestEffort` or `PriorityClass`.
    pub name: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// What the operator is about.
    pub values: Vec<String>,
}

impl Scope {
    /// A scope selector's requirement.
    #[must_use]
    pub fn from_object(object: &Value) -> Self {
        let values = object.get("values").and_then(Value::as_array);
        let values = values.into_iter().flatten().filter_map(Value::as_str);
        Self {
            name: text(object, "scopeName").to_owned(),
            operator: text(object, "operator").to_owned(),
            values: values.map(str::to_owned).collect(),
        }
    }

    /// Whether one of the names, or having none, is selected.
    fn selects(&self, names: &BTreeSet<&str>) -> bool {
        let listed = |name: &&str| self.values.iter().any(|value| value == name);
        match self.operator.as_str() {
            "Exists" => !names.is_empty(),
            "DoesNotExist" => names.is_empty(),
            "In" => names.iter().any(listed),
            "NotIn" => names.is_empty() || names.iter().any(|name| !listed(name)),
            _ => false,
        }
    }
}

/// The scopes of a quota.
#[must_use]
pub fn scopes(quota: &Value) -> Vec<Scope> {
    let list = |pointer: &str| {
        let list = quota.pointer(pointer).and_then(Value::as_array);
        list.into_iter().flatten()
    };
    let plain = list("/spec/scopes").filter_map(Value::as_str);
    let plain = plain.map(|name| Scope {
        name: name.to_owned(),
        operator: "Exists".to_owned(),
        values: Vec::new(),
    });
    let selected = list("/spec/scopeSelector/matchExpressions");
    plain.chain(selected.map(Scope::from_object)).collect()
}

/// A resource list; what is no quantity is left out.
#[must_use]
pub fn amounts(list: Option<&Value>) -> Amounts {
    let list = list.and_then(Value::as_object).into_iter().flatten();
    list.filter_map(|(name, amount)| Some((name.clone(), quantity(amount)?)))
        .collect()
}

/// A resource list as objects carry it.
#[must_use]
pub fn to_value(amounts: &Amounts) -> Value {
    let members = amounts.iter();
    let members = members.map(|(name, amount)| (name.clone(), amount.to_string().into()));
    Value::Object(members.collect::<Map<String, Value>>())
}

/// Adds amounts to others.
pub fn add(sum: &mut Amounts, more: &Amounts) {
    for (name, amount) in more {
        let entry = sum.entry(name.clone()).or_insert(Quantity::ZERO);
        *entry = entry.add(*amount);
    }
}

fn quantity(value: &Value) -> Option<Quantity> {
    match value {
        Value::String(text) => Quantity::parse(text).ok(),
        Value::Number(number) => Quantity::parse(&number.to_string()).ok(),
        _ => None,
    }
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn add_service(usage: &mut Amounts, service: &Value) {
    let spec = service.get("spec").unwrap_or(&Value::Null);
    let ports = spec.get("ports").and_then(Value::as_array);
    let ports = ports.map_or(&[][..], Vec::as_slice);
    let chosen = || {
        let port = |port: &&Value| port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) != 0;
        ports.iter().filter(port).count()
    };
    let allocated = spec.get("allocateLoadBalancerNodePorts");
    let (balancers, node_ports) = match text(spec, "type") {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" if allocated == Some(&Value::Bool(false)) => (1, chosen()),
        "LoadBalancer" => (1, ports.len()),
        _ => (0, 0),
    };
    usage.insert("services".to_owned(), one());
    usage.insert("services.loadbalancers".to_owned(), whole(balancers));
    usage.insert("services.nodeports".to_owned(), whole(node_ports));
}

fn add_claim(usage: &mut Amounts, claim: &Value) {
    let storage = |pointer: &str| claim.pointer(pointer).and_then(quantity);
    let asked = storage("/spec/resources/requests/storage");
    let allocated = storage("/status/allocatedResources/storage");
    // What is given already is not given back before a smaller volume is there.
    let asked = asked.map(|asked| allocated.map_or(asked, |allocated| asked.max(allocated)));
    let asked = asked.map(|asked| Quantity::new(asked.as_bytes(), asked.format()));
    let class = storage_class(claim);
    let mut charge = |what: &str, amount: Quantity| {
        usage.insert(what.to_owned(), amount);
        if !class.is_empty() {
            usage.insert(format!("{class}{BY_CLASS}{what}"), amount);
        }
    };
    charge("persistentvolumeclaims", one());
    if let Some(asked) = asked {
        charge("requests.storage", asked);
    }
}

/// The storage class that a claim names.
#[must_use]
pub fn storage_class(claim: &Value) -> &str {
    match meta::annotation(claim, "volume.beta.kubernetes.io/storage-class") {
        Some(class) => class,
        None => claim
            .get("spec")
            .map_or("", |spec| text(spec, "storageClassName")),
    }
}

/// The attribute classes that a claim has, had or is getting.
#[must_use]
pub fn attribute_classes(claim: &Value) -> BTreeSet<&str> {
    [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ]
    .into_iter()
    .filter_map(|pointer| claim.pointer(pointer)?.as_str())
    .filter(|name| !name.is_empty())
    .collect()
}

/// Whether a pod's run is bounded in time.
#[must_use]
pub fn is_terminating(pod: &Value) -> bool {
    pod::is_terminating(pod)
}
