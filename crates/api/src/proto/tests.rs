//! The codec against upstream's own bytes, and against bytes that nobody wrote.

use std::path::PathBuf;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::table::{Member, members};
use super::*;
use crate::schema::{TypeRef, type_of, types};

/// Kinds of stable versions whose bodies no server reads or writes.
const NO_BODY: &[&str] = &[
    "APIGroupDiscovery",
    "AdmissionReview",
    "CreateOptions",
    "GetOptions",
    "ListOptions",
    "NodeProxyOptions",
    "PatchOptions",
    "PodAttachOptions",
    "PodExecOptions",
    "PodLogOptions",
    "PodPortForwardOptions",
    "PodProxyOptions",
    "PodStatusResult",
    "RangeAllocation",
    "SerializedReference",
    "ServiceProxyOptions",
    "UpdateOptions",
];

/// How an envelope of an event starts.
const TYPED_EVENT: &[u8] = b"k8s\0\x0a\x10\x0a\x02v1\x12\x0aWatchEvent";

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn upstreams_objects_there_and_back() {
    let folder = std::env::var_os("KNARR_UPSTREAM")
        .map_or_else(|| "../../../shared/upstream".into(), PathBuf::from)
        .join("roundtrip");
    if !folder.is_dir() {
        println!(
            "SKIPPED: no upstream data at {}; set KNARR_UPSTREAM",
            folder.display()
        );
        return;
    }
    let mut seen = 0;
    for entry in std::fs::read_dir(&folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "pb") {
            continue;
        }
        let mut bytes = std::fs::read(&path).unwrap();
        let json = std::fs::read(path.with_extension("json")).unwrap();
        let mut wanted: Value = serde_json::from_slice(&json).unwrap();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let (version, kind) = name.rsplit_once('.').unwrap();
        if kind == "WatchEvent" {
            // Upstream writes it without its type, as streams have it.
            let untyped = b"k8s\0\x0a\x04\x0a\x00\x12\x00";
            let rest = bytes.strip_prefix(untyped).unwrap();
            bytes = [TYPED_EVENT, rest].concat();
            wanted["apiVersion"] = "v1".into();
            wanted["kind"] = kind.into();
        }
        let object = match decode(&bytes) {
            Ok(object) => object,
            Err(ProtoError::UnknownKind { .. }) => {
                let stable = !version.contains("alpha") && !version.contains("beta");
                assert!(!stable || NO_BODY.contains(&kind), "{name}: unknown");
                continue;
            }
            Err(error) => panic!("{name}: {error}"),
        };
        similar(&name, &object, &wanted);
        let back = encode(&object).unwrap();
        assert!(back == bytes, "{name}:\n{}\n{}", hex(&back), hex(&bytes));
        seen += 1;
    }
    assert!(seen > 60, "only {seen} kinds");
}

#[track_caller]
fn similar(name: &str, found: &Value, wanted: &Value) {
    if found != wanted {
        let pretty = |value| serde_json::to_string_pretty(value).unwrap();
        panic!("{name}\nfound {}\nwanted {}", pretty(found), pretty(wanted));
    }
}

#[test]
fn every_number_is_of_a_field() {
    fn named(ty: TypeRef, members: &[Member]) -> usize {
        let ascending = members.windows(2).all(|w| w[0].number() < w[1].number());
        assert!(ascending, "{}", ty.get().name);
        members
            .iter()
            .map(|member| match *member {
                Member::Inline(_, inner) => named(ty, inner),
                Member::Pointer(_, name)
                | Member::Kept(_, name)
                | Member::Omitted(_, name)
                | Member::Many(_, name)
                | Member::Wrapped(_, name) => usize::from(ty.get().field(name).is_some()),
            })
            .sum()
    }
    for (at, ty) in types().iter().enumerate() {
        let reference = TypeRef(u16::try_from(at).unwrap());
        if members(reference).is_empty() {
            continue;
        }
        let own = |n: &str| matches!(n, "apiVersion" | "kind");
        let fields = ty.fields.iter().filter(|f| !own(f.name)).count();
        let numbered = named(reference, members(reference));
        assert!(numbered >= fields, "{}: {numbered} of {fields}", ty.name);
    }
}

#[test]
fn zero_is_absence_only_where_go_cannot_tell() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"replicas": 0, "minReadySeconds": 0, "selector": {"matchLabels": {"a": ""}}, "template": {
            "spec": {"hostNetwork": false, "automountServiceAccountToken": false, "containers": [
                {"name": "", "image": "x", "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5},
                 "resources": {"limits": {"cpu": "1"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}}});
    let back = decode(&encode(&object).unwrap()).unwrap();
    let wanted = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"},
        "spec": {"replicas": 0, "selector": {"matchLabels": {"a": ""}}, "strategy": {}, "template": {
            "metadata": {},
            "spec": {"automountServiceAccountToken": false, "containers": [
                {"name": "", "image": "x", "livenessProbe": {"httpGet": {"port": "http"}, "periodSeconds": 5},
                 "resources": {"limits": {"cpu": "1"}}}],
                "volumes": [{"name": "v", "emptyDir": {}}]}}},
        "status": {}});
    similar("deployment", &back, &wanted);
}

#[test]
fn crd_schemas_and_reviews() {
    for object in [
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {},
            "spec": {"group": "a.b", "names": {"plural": "p", "kind": "K"}, "scope": "Namespaced",
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                    "type": "object", "additionalProperties": false, "default": {"a": [1, null]},
                    "enum": [1, "x"], "minimum": 1.5, "maximum": 3,
                    "dependencies": {"x": ["y"], "z": {"type": "string"}},
                    "properties": {"a": {"type": "array", "items": {"type": "string"}, "additionalItems": true,
                        "x-kubernetes-list-type": "set"},
                        "b": {"items": [{"type": "string"}, {}], "additionalProperties": {"$ref": "#"}}}}}}]},
            "status": {"conditions": null, "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": null}}),
        json!({"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "metadata": {},
            "spec": {"user": "u", "extra": {"k": ["a", "b"], "none": []}, "groups": ["g"],
                "resourceAttributes": {"verb": "get"}}, "status": {"allowed": true}}),
        json!({"apiVersion": "v1", "kind": "APIResourceList", "groupVersion": "v1", "resources": [
            {"name": "pods", "singularName": "", "namespaced": true, "kind": "Pod", "verbs": ["get"]}]}),
        json!({"apiVersion": "apps/v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0,
            "preconditions": {"uid": "x"}, "propagationPolicy": "Orphan"}),
        json!({"apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
            "metadata": {"resourceVersion": "1"}, "items": [{"metadata": {"name": "a"}}]}),
        json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "a"},
            "spec": {"maxUnavailable": "", "minAvailable": -1}, "status": {"disruptionsAllowed": 0,
            "currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0,
            "disruptedPods": {"p": "1969-12-31T23:59:59Z"}}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {},
            "spec": {"renewTime": "2024-01-01T00:00:00.000100Z", "leaseDurationSeconds": -1}}),
    ] {
        let mut wanted = object.clone();
        if let Some(status) = wanted.get_mut("status").and_then(Value::as_object_mut) {
            status.retain(|_, v| !v.is_null());
        }
        let back = decode(&encode(&object).unwrap()).unwrap();
        similar(object["kind"].as_str().unwrap(), &back, &wanted);
    }
}

#[test]
fn a_list_in_parts_is_the_list() {
    let items = [
        json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        json!({"metadata": {}}),
    ];
    let metadata = json!({"resourceVersion": "5", "continue": "c", "remainingItemCount": 3});
    let whole =
        json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": metadata, "items": items});
    let parts = encode_list("v1", "ConfigMapList", &metadata, items.into_iter()).unwrap();
    assert_eq!(parts, encode(&whole).unwrap());
    similar("list", &decode(&parts).unwrap(), &whole);
}

#[test]
fn a_watch_event_holds_an_envelope() {
    let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    let frame = watch_event("ADDED", &object).unwrap();
    let (length, event) = frame.split_first_chunk::<4>().unwrap();
    assert_eq!(u32::from_be_bytes(*length) as usize, event.len());
    // The same event in an envelope of its own, as no stream has it but the decoder reads it.
    let mut body = TYPED_EVENT.to_vec();
    wire::put_bytes(&mut body, 2, event);
    let wanted =
        json!({"apiVersion": "v1", "kind": "WatchEvent", "type": "ADDED", "object": object});
    similar("event", &decode(&body).unwrap(), &wanted);
}

#[test]
fn hostile_bodies_are_refused() {
    let body = |kind: &str, raw: &[u8]| {
        let mut out = MAGIC.to_vec();
        wire::put_nested::<()>(&mut out, 1, |out| {
            wire::put_bytes(out, 1, b"v1");
            wire::put_bytes(out, 2, kind.as_bytes());
            Ok(())
        })
        .unwrap();
        wire::put_bytes(&mut out, 2, raw);
        out
    };
    // Events in events, each an envelope in its object's raw bytes.
    let mut deep = body("ConfigMap", b"");
    for _ in 0..200 {
        let mut event = Vec::new();
        wire::put_nested::<()>(&mut event, 2, |out| {
            wire::put_bytes(out, 1, &deep);
            Ok(())
        })
        .unwrap();
        deep = body("WatchEvent", &event);
    }
    let wide = [0x6a, 0].repeat(MAX_VALUES + 1);
    let mut metadata = Vec::new();
    wire::put_bytes(&mut metadata, 1, &wide);
    let unknown = ProtoError::UnknownKind {
        api_version: "v1".into(),
        kind: "Nope".into(),
    };
    for (bytes, wanted) in [
        (b"{}".to_vec(), ProtoError::Magic),
        (MAGIC.to_vec(), ProtoError::NoKind),
        (body("Nope", b""), unknown),
        (body("ConfigMap", b"\x0a\x05"), ProtoError::Truncated),
        (
            body("ConfigMap", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01"),
            ProtoError::Truncated,
        ),
        (body("ConfigMap", &[0xff; 11]), ProtoError::Varint),
        (body("ConfigMap", b"\x08\x01"), ProtoError::WireType),
        (body("ConfigMap", b"\x03"), ProtoError::WireType),
        (body("ConfigMap", b"\x02\x00"), ProtoError::FieldZero),
        (body("ConfigMap", b"\x0a\x03\x0a\x01\xff"), ProtoError::Utf8),
        (deep, ProtoError::TooDeep),
        (body("ConfigMap", &metadata), ProtoError::TooLarge),
    ] {
        assert_eq!(decode(&bytes).unwrap_err(), wanted);
    }
    // Numbers that nobody knows are skipped, whatever they hold.
    let skipped = decode(&body(
        "ConfigMap",
        b"\xfa\x3e\x01x\xf8\x3e\x05\xf9\x3e12345678\xfd\x3e1234",
    ));
    assert_eq!(
        skipped.unwrap(),
        json!({"apiVersion": "v1", "kind": "ConfigMap"})
    );
}

fn field() -> impl Strategy<Value = Vec<u8>> {
    let leaf = prop_oneof![
        (1_u16..60, any::<u64>()).prop_map(|(number, value)| {
            let mut out = Vec::new();
            wire::put_number(&mut out, number, value);
            out
        }),
        (1_u16..60, prop::collection::vec(any::<u8>(), 0..12)).prop_map(|(number, bytes)| {
            let mut out = Vec::new();
            wire::put_bytes(&mut out, number, &bytes);
            out
        }),
        (1_u16..60, "[a-z{}\\[\\]0-9]{0,6}").prop_map(|(number, text)| {
            let mut out = Vec::new();
            wire::put_bytes(&mut out, number, text.as_bytes());
            out
        }),
    ];
    leaf.prop_recursive(6, 64, 6, |inner| {
        (1_u16..60, prop::collection::vec(inner, 0..6)).prop_map(|(number, fields)| {
            let mut out = Vec::new();
            wire::put_bytes(&mut out, number, &fields.concat());
            out
        })
    })
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..256)) {
        let _ = decode(&bytes);
        let _ = decode(&[MAGIC, &bytes].concat());
    }

    /// What decodes encodes again, and is then stable.
    #[test]
    fn random_messages_are_stable(
        at in 0_usize..types().len(),
        fields in prop::collection::vec(field(), 0..8),
    ) {
        let Some(kind) = types()[at].kinds.first() else { return Ok(()) };
        prop_assert!(type_of(kind.group, kind.version, kind.kind).is_some());
        let version = match kind.group {
            "" => kind.version.to_owned(),
            group => format!("{group}/{}", kind.version),
        };
        let mut bytes = MAGIC.to_vec();
        wire::put_nested::<()>(&mut bytes, 1, |out| {
            wire::put_bytes(out, 1, version.as_bytes());
            wire::put_bytes(out, 2, kind.kind.as_bytes());
            Ok(())
        }).unwrap();
        wire::put_bytes(&mut bytes, 2, &fields.concat());
        if let Ok(object) = decode(&bytes) && let Ok(once) = encode(&object) {
            let again = decode(&once).unwrap();
            prop_assert_eq!(encode(&again).unwrap(), once);
        }
    }
}
