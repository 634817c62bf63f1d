//! Schemas of custom resources, as documents publish them.

use serde_json::{Map, Value, json};

use super::schemas::Dialect;
use crate::MAX_DEPTH;
use crate::resource::Resource;

const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.";
const METADATA: &str = "Standard object's metadata.";

/// `io.example.v1.Foo`: the name of a custom resource's type.
pub(super) fn name(resource: &Resource) -> String {
    let mut parts: Vec<&str> = resource.group.split('.').collect();
    parts.reverse();
    format!("{}.{}.{}", parts.join("."), resource.version, resource.kind)
}

/// The schemas of a custom resource and of its list, with their names.
pub(super) fn schemas(resource: &Resource, dialect: Dialect) -> Vec<(String, Value)> {
    let Some(custom) = resource.schema.custom() else {
        return Vec::new();
    };
    let gvk =
        |kind: &str| json!([{"group": resource.group, "version": resource.version, "kind": kind}]);
    let reference = |name: &str, words: &str| {
        let target = dialect.reference(&format!("{META}{name}"));
        match dialect {
            Dialect::V2 => json!({"description": words, "$ref": target["$ref"]}),
            Dialect::V3 => json!({"description": words, "allOf": [target]}),
        }
    };
    let text = |words: &str| json!({"type": "string", "description": words});
    let version =
        text("APIVersion defines in which version of which API group the object is written.");
    let kind = text("Kind says what the object is.");
    let mut own = custom.schema().clone();
    let open = own["x-kubernetes-preserve-unknown-fields"] == true;
    if dialect == Dialect::V2 && open {
        // With any property named, kubectl would refuse all others.
        own = json!({"type": "object"});
    } else {
        if dialect == Dialect::V2 {
            to_v2(&mut own, 0);
        }
        if !own.is_object() {
            own = json!({});
        }
        own["type"] = "object".into();
        if !own["properties"].is_object() {
            own["properties"] = json!({});
        }
        own["properties"]["apiVersion"] = version.clone();
        own["properties"]["kind"] = kind.clone();
        own["properties"]["metadata"] = reference("ObjectMeta", METADATA);
    }
    own["x-kubernetes-group-version-kind"] = gvk(&resource.kind);
    let name = name(resource);
    let list = json!({
        "type": "object",
        "description": format!("A list of {}.", resource.kind),
        "required": ["items"],
        "properties": {
            "apiVersion": version,
            "kind": kind,
            "metadata": reference("ListMeta", METADATA),
            "items": {"type": "array", "description": "The objects of the list.",
                "items": dialect.reference(&name)},
        },
        "x-kubernetes-group-version-kind": gvk(&resource.list_kind),
    });
    vec![(format!("{name}List"), list), (name, own)]
}

/// What OpenAPI v2 cannot say is left out, so that no client refuses what the server takes.
fn to_v2(schema: &mut Value, depth: usize) {
    let Some(map) = schema.as_object_mut() else {
        return;
    };
    if depth > MAX_DEPTH {
        return map.clear();
    }
    let is = |map: &Map<String, Value>, name: &str| map.get(name) == Some(&Value::Bool(true));
    let nullable = is(map, "nullable");
    let open = is(map, "x-kubernetes-preserve-unknown-fields");
    if nullable || open {
        for name in ["type", "items", "properties", "additionalProperties"] {
            map.remove(name);
        }
    }
    if nullable || is(map, "x-kubernetes-int-or-string") {
        map.remove("type");
    }
    for name in ["nullable", "oneOf", "anyOf", "allOf", "not", "default"] {
        map.remove(name);
    }
    if let Some(Value::Object(properties)) = map.get_mut("properties") {
        properties
            .values_mut()
            .for_each(|below| to_v2(below, depth + 1));
    }
    for name in ["items", "additionalProperties"] {
        if let Some(below) = map.get_mut(name) {
            to_v2(below, depth + 1);
        }
    }
}
