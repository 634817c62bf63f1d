//! The documents that we build against those that upstream publishes, where those are at hand.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::PathBuf;

use serde_json::Value;

/// Upstream's published data: `KNARR_UPSTREAM`, or the `upstream` folder of the shared place.
fn upstream() -> Option<PathBuf> {
    let path = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from);
    if path.is_dir() {
        return Some(path);
    }
    println!(
        "SKIPPED: no upstream data at {}; set KNARR_UPSTREAM",
        path.display()
    );
    None
}

fn read(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Drops alpha and beta versions, and the groups that then have none.
fn stable_only(groups: &mut Value) {
    let stable = |v: &Value| v["version"].as_str().unwrap()[1..].parse::<u32>().is_ok();
    let groups = groups.as_array_mut().unwrap();
    for group in groups.iter_mut() {
        let versions = group["versions"].as_array_mut().unwrap();
        versions.retain(stable);
        if let (Some(first), true) = (
            versions.first().cloned(),
            group.get("preferredVersion").is_some(),
        ) {
            group["preferredVersion"] = first;
        }
    }
    groups.retain(|g| !g["versions"].as_array().unwrap().is_empty());
}

#[test]
fn discovery_is_upstreams() {
    let Some(folder) = upstream().map(|u| u.join("discovery")) else {
        return;
    };
    let mut wanted = read(&folder.join("apis.json"));
    stable_only(&mut wanted["groups"]);
    assert_eq!(api::discovery::api_group_list(&[]), wanted);
    let mut wanted = read(&folder.join("aggregated_v2.json"));
    stable_only(&mut wanted["items"]);
    assert_eq!(api::discovery::aggregated_v2(&[]), wanted);
    assert_eq!(
        api::discovery::resource_list("", "v1", &[]).unwrap(),
        read(&folder.join("api__v1.json"))
    );
    assert_eq!(
        api::discovery::api_versions("10.10.10.10:8050"),
        read(&folder.join("api.json"))
    );
    for (group, versions) in api::discovery::groups(&[]) {
        let mut wanted = serde_json::json!([read(&folder.join(format!("apis__{group}.json")))]);
        stable_only(&mut wanted);
        assert_eq!(api::discovery::api_group(group, &[]).unwrap(), wanted[0]);
        for version in versions {
            let wanted = read(&folder.join(format!("apis__{group}__{version}.json")));
            assert_eq!(
                api::discovery::resource_list(group, version, &[]).unwrap(),
                wanted
            );
        }
    }
}

#[test]
fn every_round_trip_object_decodes_without_a_problem() {
    let Some(folder) = upstream().map(|u| u.join("roundtrip")) else {
        return;
    };
    let mut seen = 0;
    for resource in api::resource::all() {
        let group = if resource.group.is_empty() {
            "core"
        } else {
            &*resource.group
        };
        let path = folder.join(format!(
            "{group}.{}.{}.json",
            resource.version, resource.kind
        ));
        if !path.is_file() {
            continue;
        }
        let mut object = read(&path);
        let before = object.clone();
        let problems = api::schema::decode(resource, &mut object)
            .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        assert_eq!(problems, [], "{}", path.display());
        if resource.kind != "CustomResourceDefinition" {
            assert_eq!(object, before, "{}", path.display());
        }
        seen += 1;
    }
    assert!(seen > 60, "only {seen} objects were there");
}

/// Without the words, which are not ours to compare, and without the order of `required`.
fn without_descriptions(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let kept = map
                .iter()
                .filter(|(key, v)| *key != "description" || !v.is_string());
            // `granular` is what a map is anyway.
            let kept = kept.filter(|(key, v)| *key != "x-kubernetes-unions" && *v != "granular");
            let mut map: serde_json::Map<_, _> = kept
                .map(|(k, v)| (k.clone(), without_descriptions(v)))
                .collect();
            if let Some(Value::Array(required)) = map.get_mut("required") {
                required.sort_by_key(ToString::to_string);
            }
            // A reference is wrapped so that a description can stand beside it.
            match map
                .get("allOf")
                .and_then(Value::as_array)
                .map(Vec::as_slice)
            {
                Some([only]) if map.len() == 1 => only.clone(),
                _ => Value::Object(map),
            }
        }
        Value::Array(items) => items.iter().map(without_descriptions).collect(),
        other => other.clone(),
    }
}

/// Options and watch events are registered in alpha versions too, which we do not serve.
fn compared(name: &str) -> bool {
    !name.ends_with(".DeleteOptions") && !name.ends_with(".WatchEvent")
}

/// Names of the query parameters; what leads behind the API has none.
fn parameters(operation: &Value) -> Vec<&str> {
    let list = operation["parameters"].as_array().into_iter().flatten();
    let mut names: Vec<&str> = list.map(|p| p["name"].as_str().unwrap()).collect();
    names.sort_unstable();
    names
}

fn content_types(operation: &Value) -> Vec<&String> {
    let content = operation["requestBody"]["content"].as_object();
    content
        .into_iter()
        .flatten()
        .map(|(name, _)| name)
        .collect()
}

#[test]
fn openapi_schemas_are_upstreams() {
    let Some(folder) = upstream().map(|u| u.join("openapi")) else {
        return;
    };
    let (mut checked, mut operations) = (0, 0);
    for (group, version) in std::iter::once(("", "v1")).chain(
        api::discovery::groups(&[])
            .into_iter()
            .flat_map(|(g, versions)| versions.into_iter().map(move |v| (g, v))),
    ) {
        let file = format!(
            "v3/{}_openapi.json",
            api::openapi::v3_path(group, version).replace('/', "__")
        );
        let (ours, theirs) = (
            api::openapi::v3(group, version, &[]).unwrap(),
            read(&folder.join(file)),
        );
        for (name, schema) in theirs["components"]["schemas"].as_object().unwrap() {
            if compared(name) {
                let own = &ours["components"]["schemas"][name];
                assert_eq!(
                    without_descriptions(own),
                    without_descriptions(schema),
                    "{group}/{version} {name}"
                );
                checked += 1;
            }
        }
        for (path, item) in theirs["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let gvk = "x-kubernetes-group-version-kind";
                // Not described: old ways to watch, paths below a proxy, and what only proxies take.
                let left_out = path.contains("/watch/")
                    || path.ends_with("{path}")
                    || ["head", "options"].contains(&method.as_str());
                if operation.get(gvk).is_none() || left_out {
                    continue;
                }
                let own = &ours["paths"][path][method];
                for key in [gvk, "x-kubernetes-action"] {
                    assert_eq!(own[key], operation[key], "{method} {path}");
                }
                if method == "patch" {
                    assert_eq!(own["operationId"], operation["operationId"], "{path}");
                    assert_eq!(parameters(own), parameters(operation), "{path}");
                    assert_eq!(content_types(own), content_types(operation), "{path}");
                    operations += 1;
                }
            }
        }
    }
    assert!(operations > 90, "{operations}");
    assert!(checked > 1000, "{checked}");
    let (ours, theirs) = (api::openapi::v2(&[]), read(&folder.join("swagger.json")));
    for (name, schema) in ours["definitions"].as_object().unwrap() {
        if compared(name) {
            assert_eq!(
                without_descriptions(schema),
                without_descriptions(&theirs["definitions"][name]),
                "{name}"
            );
        }
    }
}

#[test]
fn openapi_explains() {
    let document = api::openapi::v3("", "v1", &[]).unwrap();
    let pod_spec = &document["components"]["schemas"]["io.k8s.api.core.v1.PodSpec"];
    for (name, property) in pod_spec["properties"].as_object().unwrap() {
        assert!(property["description"].is_string(), "{name}");
    }
    let started = std::time::Instant::now();
    let bytes = serde_json::to_vec(&api::openapi::v3("apps", "v1", &[]).unwrap())
        .unwrap()
        .len();
    println!("apps/v1: {bytes} bytes in {:?}", started.elapsed());
}

/// Every value below, exchanged for one of another type.
fn disturbed(value: &Value, step: usize) -> Value {
    let other = [
        Value::Null,
        "\u{e9}-".into(),
        (-1).into(),
        serde_json::json!([{}]),
        serde_json::json!({"": []}),
    ];
    match value {
        Value::Object(map) if !step.is_multiple_of(7) => {
            let next =
                |(i, (k, v)): (usize, (&String, &Value))| (k.clone(), disturbed(v, step + i + 1));
            Value::Object(map.iter().enumerate().map(next).collect())
        }
        Value::Array(items) if !step.is_multiple_of(5) => items
            .iter()
            .enumerate()
            .map(|(i, v)| disturbed(v, step + i + 1))
            .collect(),
        Value::Object(_) | Value::Array(_) => other[step % other.len()].clone(),
        leaf if step.is_multiple_of(3) => leaf.clone(),
        _ => other[step % other.len()].clone(),
    }
}

#[test]
fn validation_never_panics() {
    let Some(folder) = upstream().map(|u| u.join("roundtrip")) else {
        return;
    };
    let mut errors = 0;
    for resource in api::resource::all() {
        let group = if resource.group.is_empty() {
            "core"
        } else {
            &*resource.group
        };
        let path = folder.join(format!(
            "{group}.{}.{}.json",
            resource.version, resource.kind
        ));
        if !path.is_file() {
            continue;
        }
        let object = read(&path);
        for step in 0..40 {
            let (new, old) = (disturbed(&object, step), disturbed(&object, step + 1));
            errors += api::validate::create(resource, &new).len();
            errors += api::validate::update(resource, &new, &object).len();
            errors += api::validate::update(resource, &object, &old).len();
            for sub in resource.subresources {
                errors += api::validate::update_subresource(resource, sub.name, &new, &old).len();
            }
        }
    }
    assert!(errors > 1000, "{errors}");
}
