//! What objects count for, by upstream's names.

use serde_json::json;

use super::*;

fn usage(group: &str, plural: &str, object: &Value) -> String {
    let now: Timestamp = "2026-01-01T00:01:00Z".parse().unwrap_or_default();
    let Some(measure) = Measure::of(group, plural) else {
        return "not counted".to_owned();
    };
    let usage = measure.usage(group, plural, object, now);
    let words = usage
        .iter()
        .map(|(name, amount)| format!("{name}={amount}"));
    words.collect::<Vec<_>>().join(" ")
}

#[test]
fn pods_count_for_what_they_ask() {
    let container = |requests: Value, limits: Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
    for (pod, wanted) in [
        (json!({}), "count/pods=1 pods=1"),
        (
            json!({"spec": {"containers": [
                container(json!({"cpu": "100m", "memory": "1Gi", "example.com/gpu": "2"}), json!({"cpu": "1", "example.com/gpu": "2"})),
                container(json!({"cpu": "200m", "ephemeral-storage": "5Gi", "hugepages-2Mi": "4Mi"}), json!({}))]}}),
            "count/pods=1 cpu=300m ephemeral-storage=5Gi hugepages-2Mi=4Mi limits.cpu=1 memory=1Gi pods=1 requests.cpu=300m requests.ephemeral-storage=5Gi requests.example.com/gpu=2 requests.hugepages-2Mi=4Mi requests.memory=1Gi",
        ),
        // The largest moment of the start, beside the sidecar; overhead; limits that are none stay none.
        (
            json!({"spec": {"overhead": {"cpu": "10m", "memory": "1Mi"},
                "containers": [container(json!({"cpu": "100m"}), json!({"cpu": "100m"}))],
                "initContainers": [
                    {"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": "50m"}}},
                    container(json!({"cpu": "300m"}), json!({}))]}}),
            "count/pods=1 cpu=360m limits.cpu=110m memory=1Mi pods=1 requests.cpu=360m requests.memory=1Mi",
        ),
        (
            json!({"spec": {"resources": {"requests": {"cpu": "2"}}, "containers": [container(json!({"cpu": "1", "memory": "1Mi"}), json!({}))]}}),
            "count/pods=1 cpu=2 memory=1Mi pods=1 requests.cpu=2 requests.memory=1Mi",
        ),
        // A resize that is under way.
        (
            json!({"spec": {"containers": [container(json!({"cpu": "1"}), json!({"cpu": "1"}))]},
                "status": {"containerStatuses": [{"name": "c", "allocatedResources": {"cpu": "2"}, "resources": {"requests": {"cpu": "3"}, "limits": {"cpu": "3"}}}]}}),
            "count/pods=1 cpu=3 limits.cpu=3 pods=1 requests.cpu=3",
        ),
        (
            json!({"spec": {"containers": [container(json!({"cpu": "1"}), json!({}))]}, "status": {"phase": "Succeeded"}}),
            "count/pods=1",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:30Z", "deletionGracePeriodSeconds": 29}}),
            "count/pods=1",
        ),
        (
            json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:31Z", "deletionGracePeriodSeconds": 29}}),
            "count/pods=1 pods=1",
        ),
    ] {
        assert_eq!(usage("", "pods", &pod), wanted, "{pod}");
    }
}

#[test]
fn other_objects() {
    let ports = json!([{"port": 1, "nodePort": 30000}, {"port": 2}]);
    for (group, plural, object, wanted) in [
        ("apps", "deployments", json!({}), "count/deployments.apps=1"),
        ("", "secrets", json!({}), "count/secrets=1 secrets=1"),
        ("apps", "secrets", json!({}), "count/secrets.apps=1"),
        ("", "events", json!({}), "not counted"),
        (
            "",
            "services",
            json!({"spec": {"type": "NodePort", "ports": ports}}),
            "count/services=1 services=1 services.loadbalancers=0 services.nodeports=2",
        ),
        (
            "",
            "services",
            json!({"spec": {"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports}}),
            "count/services=1 services=1 services.loadbalancers=1 services.nodeports=1",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"storageClassName": "gold", "resources": {"requests": {"storage": "1500m"}}}}),
            "count/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/persistentvolumeclaims=1 gold.storageclass.storage.k8s.io/requests.storage=2 persistentvolumeclaims=1 requests.storage=2",
        ),
        (
            "",
            "persistentvolumeclaims",
            json!({"spec": {"resources": {"requests": {"storage": "1Gi"}}}, "status": {"allocatedResources": {"storage": "2Gi"}}}),
            "count/persistentvolumeclaims=1 persistentvolumeclaims=1 requests.storage=2Gi",
        ),
    ] {
        assert_eq!(usage(group, plural, &object), wanted, "{object}");
    }
}

#[test]
fn names_that_are_tracked() {
    for (plural, names) in [
        (
            "pods",
            "count/pods pods cpu requests.cpu limits.memory requests.ephemeral-storage hugepages-2Mi requests.hugepages-2Mi requests.example.com/gpu requests.deviceclass.resource.kubernetes.io/gpu",
        ),
        ("services", "count/services services services.nodeports"),
        (
            "persistentvolumeclaims",
            "requests.storage persistentvolumeclaims gold.storageclass.storage.k8s.io/requests.storage",
        ),
        ("configmaps", "configmaps count/configmaps"),
    ] {
        for name in names.split(' ') {
            for other in ["pods", "services", "persistentvolumeclaims", "configmaps"] {
                let tracked = Measure::of("", other).is_some_and(|m| m.tracks("", other, name));
                // An extended resource is the pods', whatever it is called.
                assert_eq!(tracked, other == plural, "{name} by {other}");
            }
        }
    }
    for name in [
        "limits.example.com/gpu",
        "limits.hugepages-2Mi",
        "example.com/gpu",
    ] {
        assert!(!Measure::Pods.tracks("", "pods", name), "{name}");
    }
}

#[test]
fn scopes_of_pods_and_claims() {
    let scope = |name: &str, operator: &str, values: &[&str]| {
        Scope::from_object(&json!({"scopeName": name, "operator": operator, "values": values}))
    };
    let class = json!({"spec": {"priorityClassName": "high"}});
    let (none, bounded) = (json!({}), json!({"spec": {"activeDeadlineSeconds": 0}}));
    let best = json!({"status": {"qosClass": "BestEffort"}});
    let term = json!({"namespaces": ["x"]});
    let near = json!({"spec": {"affinity": {"podAntiAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [{"podAffinityTerm": term}]}}}});
    for (scope, pod, wanted) in [
        (scope("Terminating", "Exists", &[]), &bounded, true),
        (scope("NotTerminating", "Exists", &[]), &bounded, false),
        (scope("BestEffort", "Exists", &[]), &best, true),
        (scope("NotBestEffort", "Exists", &[]), &none, true),
        (scope("PriorityClass", "In", &["high"]), &class, true),
        (scope("PriorityClass", "In", &["low"]), &class, false),
        (scope("PriorityClass", "NotIn", &["low"]), &class, true),
        (scope("PriorityClass", "NotIn", &["low"]), &none, true),
        (scope("PriorityClass", "Exists", &[]), &none, false),
        (scope("PriorityClass", "DoesNotExist", &[]), &none, true),
        (
            scope("CrossNamespacePodAffinity", "Exists", &[]),
            &near,
            true,
        ),
        (
            scope("CrossNamespacePodAffinity", "Exists", &[]),
            &none,
            false,
        ),
        (scope("VolumeAttributesClass", "Exists", &[]), &class, false),
    ] {
        assert_eq!(
            Measure::Pods.in_scope(&scope, pod),
            wanted,
            "{scope:?} {pod}"
        );
    }
    let claim = json!({"spec": {"volumeAttributesClassName": "fast"}, "status": {"currentVolumeAttributesClassName": "slow"}});
    for name in ["fast", "slow"] {
        let scope = scope("VolumeAttributesClass", "In", &[name]);
        assert!(Measure::VolumeClaims.in_scope(&scope, &claim));
    }
    assert!(!Measure::Count.in_scope(&scope("BestEffort", "Exists", &[]), &best));
}

#[test]
fn what_containers_must_say() {
    let names = BTreeSet::from(["limits.cpu", "requests.memory", "pods", "requests.storage"]);
    let pod = json!({"spec": {
        "containers": [{"name": "b"}, {"name": "a", "resources": {"limits": {"cpu": "1"}}}],
        "initContainers": [{"name": "i", "resources": {"requests": {"memory": "1"}}}]}});
    assert_eq!(
        Measure::Pods.missing(&names, &pod).as_deref(),
        Some("must specify limits.cpu for: b,i; requests.memory for: a,b")
    );
    let whole =
        json!({"spec": {"resources": {"limits": {"cpu": "1"}}, "containers": [{"name": "b"}]}});
    assert_eq!(Measure::Pods.missing(&names, &whole), None);
}
