//! The priority levels and flow schemas that every cluster has: two of each must be as they are, the
//! others are a suggestion that an administrator may change.

use api::meta;
use serde_json::{Value, json};

/// Says whether a start may make an object what it is suggested to be.
const AUTO: &str = "apf.kubernetes.io/autoupdate-spec";

/// An object, and whether nobody may change it.
pub(crate) struct Wanted {
    pub(crate) object: Value,
    pub(crate) mandatory: bool,
}

/// All of them; levels first.
pub(crate) fn objects() -> Vec<Wanted> {
    let mut all = levels();
    all.extend(schemas());
    all
}

fn wanted(kind: &str, name: &str, mandatory: bool, spec: Value) -> Wanted {
    Wanted {
        object: json!({"apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": kind,
            "metadata": {"name": name, "annotations": {AUTO: "true"}}, "spec": spec}),
        mandatory,
    }
}

fn levels() -> Vec<Wanted> {
    let level = |name: &str, mandatory: bool, spec: Value| {
        wanted("PriorityLevelConfiguration", name, mandatory, spec)
    };
    let queued = |name: &str, shares: u32, lendable: u32, queues: u32, hand: u32| {
        let response = json!({"type": "Queue",
            "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}});
        let limited = json!({"nominalConcurrencyShares": shares, "lendablePercent": lendable,
            "limitResponse": response});
        level(name, false, json!({"type": "Limited", "limited": limited}))
    };
    vec![
        level(
            "exempt",
            true,
            json!({"type": "Exempt",
                "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}}),
        ),
        level(
            "catch-all",
            true,
            json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 5,
                "lendablePercent": 0, "limitResponse": {"type": "Reject"}}}),
        ),
        queued("system", 30, 33, 64, 6),
        queued("node-high", 40, 25, 64, 6),
        queued("leader-election", 10, 0, 16, 4),
        queued("workload-high", 40, 50, 128, 6),
        queued("workload-low", 100, 90, 128, 6),
        queued("global-default", 20, 50, 128, 6),
    ]
}

/// Rules for resources in all namespaces.
fn resources(verbs: &[&str], groups: &[&str], resources: &[&str], cluster: bool) -> Value {
    let mut rule = json!({"verbs": verbs, "apiGroups": groups, "resources": resources,
        "namespaces": ["*"]});
    if cluster {
        rule["clusterScope"] = json!(true);
    }
    rule
}

fn group(name: &str) -> Value {
    json!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Value {
    json!({"kind": "User", "user": {"name": name}})
}

fn schemas() -> Vec<Wanted> {
    let all = || vec![resources(&["*"], &["*"], &["*"], true)];
    let paths = || json!([{"verbs": ["*"], "nonResourceURLs": ["*"]}]);
    let schema =
        |name: &str, level: &str, precedence: u32, by: &str, mandatory: bool, rule: Value| {
            let mut spec = json!({"priorityLevelConfiguration": {"name": level},
            "matchingPrecedence": precedence, "rules": [rule]});
            if !by.is_empty() {
                spec["distinguisherMethod"] = json!({"type": by});
            }
            wanted("FlowSchema", name, mandatory, spec)
        };
    let everything = |subjects: &[Value]| json!({"subjects": subjects, "resourceRules": all(), "nonResourceRules": paths()});
    let everybody = || {
        [
            group("system:unauthenticated"),
            group("system:authenticated"),
        ]
    };
    let system_accounts = || {
        json!({"kind": "ServiceAccount",
            "serviceAccount": {"name": "*", "namespace": "kube-system"}})
    };
    let (manager, scheduler) = ("system:kube-controller-manager", "system:kube-scheduler");
    let leases = |verbs: &[&str]| resources(verbs, &["coordination.k8s.io"], &["leases"], false);
    vec![
        schema(
            "exempt",
            "exempt",
            1,
            "",
            true,
            everything(&[group("system:masters")]),
        ),
        schema(
            "catch-all",
            "catch-all",
            10_000,
            "ByUser",
            true,
            everything(&everybody()),
        ),
        schema(
            "probes",
            "exempt",
            2,
            "",
            false,
            json!({"subjects": everybody(), "nonResourceRules": [{"verbs": ["get"],
                "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]}),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            "ByUser",
            false,
            json!({"subjects": [user(manager), user(scheduler), system_accounts()],
                "resourceRules": [leases(&["get", "create", "update"])]}),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            "ByUser",
            false,
            json!({"subjects": [group("system:nodes")], "resourceRules": [
                resources(&["*"], &[""], &["nodes", "nodes/status"], true), leases(&["*"])]}),
        ),
        schema(
            "system-nodes",
            "system",
            500,
            "ByUser",
            false,
            everything(&[group("system:nodes")]),
        ),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            "ByNamespace",
            false,
            everything(&[user(manager)]),
        ),
        schema(
            "kube-scheduler",
            "workload-high",
            800,
            "ByNamespace",
            false,
            everything(&[user(scheduler)]),
        ),
        schema(
            "kube-system-service-accounts",
            "workload-high",
            900,
            "ByNamespace",
            false,
            everything(&[system_accounts()]),
        ),
        schema(
            "service-accounts",
            "workload-low",
            9000,
            "ByUser",
            false,
            everything(&[group("system:serviceaccounts")]),
        ),
        schema(
            "global-default",
            "global-default",
            9900,
            "ByUser",
            false,
            everything(&everybody()),
        ),
    ]
}

/// What an object that is there becomes; `None` where it stays. A mandatory one always becomes what
/// it must be; a suggested one unless its annotation, or a change without one, says that somebody
/// has made it his.
pub(crate) fn reconcile(old: &Value, wanted: &Wanted) -> Option<Value> {
    let annotation = old["metadata"]["annotations"][AUTO].as_str();
    let follows = match annotation {
        Some(value) => value == "true",
        None => meta::generation(old) == 1,
    };
    if !wanted.mandatory && !follows {
        return None;
    }
    let mut new = old.clone();
    new["spec"] = wanted.object["spec"].clone();
    new["metadata"]["annotations"][AUTO] = json!("true");
    (new != *old).then_some(new)
}
