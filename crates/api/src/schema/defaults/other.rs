//! Defaults of the other groups.

use serde_json::{Map, Value, json};

use super::{absent, child, empty, items, text, zero};

const RBAC: &str = "rbac.authorization.k8s.io";

pub(super) fn fill(full: &str, name: &str, map: &mut Map<String, Value>) {
    let group = full.rsplit('.').nth(2).unwrap_or_default();
    match (group, name) {
        ("rbac", "RoleRef") => empty(map, "apiGroup", RBAC),
        ("rbac", "Subject") if matches!(text(map, "kind"), "User" | "Group") => {
            empty(map, "apiGroup", RBAC)
        }
        ("discovery", "EndpointPort") => {
            absent(map, "name", "");
            absent(map, "protocol", "TCP");
        }
        ("networking", "NetworkPolicyPort") => absent(map, "protocol", "TCP"),
        ("networking", "NetworkPolicySpec") => {
            let given = |key: &str| {
                map.get(key)
                    .and_then(Value::as_array)
                    .is_some_and(|l| !l.is_empty())
            };
            if !given("policyTypes") {
                let types = if given("egress") {
                    json!(["Ingress", "Egress"])
                } else {
                    json!(["Ingress"])
                };
                map.insert("policyTypes".to_owned(), types);
            }
        }
        ("networking", "IngressClassParametersReference") => absent(map, "scope", "Cluster"),
        ("storage", "StorageClass") => {
            absent(map, "reclaimPolicy", "Delete");
            absent(map, "volumeBindingMode", "Immediate");
        }
        ("storage", "CSIDriverSpec") => {
            absent(map, "attachRequired", true);
            absent(map, "podInfoOnMount", false);
            absent(map, "storageCapacity", false);
            absent(map, "fsGroupPolicy", "ReadWriteOnceWithFSType");
            absent(map, "requiresRepublish", false);
            absent(map, "seLinuxMount", false);
            if map
                .get("volumeLifecycleModes")
                .and_then(Value::as_array)
                .is_none_or(Vec::is_empty)
            {
                map.insert("volumeLifecycleModes".to_owned(), json!(["Persistent"]));
            }
        }
        ("scheduling", "PriorityClass") => absent(map, "preemptionPolicy", "PreemptLowerPriority"),
        ("autoscaling", _) => autoscaling(full, name, map),
        ("admissionregistration", _) => admission(name, map),
        ("flowcontrol", _) => flow_control(name, map),
        ("resource", "ExactDeviceRequest" | "DeviceSubRequest") => {
            empty(map, "allocationMode", "ExactCount");
            if text(map, "allocationMode") == "ExactCount" {
                zero(map, "count", 1);
            }
        }
        ("apiregistration" | "apiextensions", "ServiceReference") => absent(map, "port", 443),
        ("apiextensions", "CustomResourceDefinitionSpec") => custom_resource_definition(map),
        _ => {}
    }
}

fn autoscaling(full: &str, name: &str, map: &mut Map<String, Value>) {
    match name {
        "HorizontalPodAutoscalerSpec" => {
            absent(map, "minReplicas", 1);
            if full.contains(".v2.")
                && map
                    .get("metrics")
                    .and_then(Value::as_array)
                    .is_none_or(Vec::is_empty)
            {
                let metric = json!([{"type": "Resource", "resource":
                    {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]);
                map.insert("metrics".to_owned(), metric);
            }
        }
        "HorizontalPodAutoscalerBehavior" => {
            let percent = json!({"type": "Percent", "value": 100, "periodSeconds": 15});
            if let Some(up) = child(map, "scaleUp") {
                absent(up, "stabilizationWindowSeconds", 0);
                absent(up, "selectPolicy", "Max");
                absent(
                    up,
                    "policies",
                    json!([{"type": "Pods", "value": 4, "periodSeconds": 15}, percent.clone()]),
                );
            }
            if let Some(down) = child(map, "scaleDown") {
                absent(down, "selectPolicy", "Max");
                absent(down, "policies", json!([percent]));
            }
        }
        _ => {}
    }
}

fn admission(name: &str, map: &mut Map<String, Value>) {
    match name {
        "ValidatingWebhook" | "MutatingWebhook" => {
            absent(map, "failurePolicy", "Fail");
            absent(map, "matchPolicy", "Equivalent");
            absent(map, "namespaceSelector", Map::new());
            absent(map, "objectSelector", Map::new());
            absent(map, "timeoutSeconds", 10);
            if name == "MutatingWebhook" {
                absent(map, "reinvocationPolicy", "Never");
            }
        }
        "RuleWithOperations" | "NamedRuleWithOperations" => absent(map, "scope", "*"),
        "ServiceReference" => absent(map, "port", 443),
        "ValidatingAdmissionPolicySpec" | "MutatingAdmissionPolicySpec" => {
            absent(map, "failurePolicy", "Fail")
        }
        "MatchResources" => {
            absent(map, "matchPolicy", "Equivalent");
            absent(map, "namespaceSelector", Map::new());
            absent(map, "objectSelector", Map::new());
        }
        _ => {}
    }
}

fn flow_control(name: &str, map: &mut Map<String, Value>) {
    match name {
        "FlowSchemaSpec" => zero(map, "matchingPrecedence", 1000),
        "ExemptPriorityLevelConfiguration" => {
            absent(map, "nominalConcurrencyShares", 0);
            absent(map, "lendablePercent", 0);
        }
        "LimitedPriorityLevelConfiguration" => {
            absent(map, "nominalConcurrencyShares", 30);
            absent(map, "lendablePercent", 0);
        }
        "QueuingConfiguration" => {
            zero(map, "queues", 64);
            zero(map, "handSize", 8);
            zero(map, "queueLengthLimit", 50);
        }
        _ => {}
    }
}

fn custom_resource_definition(map: &mut Map<String, Value>) {
    if let Some(names) = child(map, "names") {
        let kind = text(names, "kind").to_owned();
        if !kind.is_empty() {
            empty(names, "singular", &kind.to_lowercase());
            empty(names, "listKind", &format!("{kind}List"));
        }
    }
    if let Some(conversion) = child(map, "conversion") {
        empty(conversion, "strategy", "None");
    }
    for version in items(map, "versions") {
        if let Some(Value::Object(scale)) = version.get_mut("subresources") {
            scale.retain(|_, value| !value.is_null());
        }
    }
}
