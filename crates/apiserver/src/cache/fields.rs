//! The fields that selectors may name, per kind, and how they are picked out of an object's bytes
//! in one pass.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A field that can be selected on.
#[derive(Debug, PartialEq, Eq)]
pub struct Selectable {
    /// Its path, such as `spec.nodeName`.
    pub path: &'static str,
    /// Its value where the object has none.
    pub default: &'static str,
}

const fn field(path: &'static str) -> Selectable {
    Selectable { path, default: "" }
}
const fn flag(path: &'static str) -> Selectable {
    Selectable {
        path,
        default: "false",
    }
}
const fn count(path: &'static str) -> Selectable {
    Selectable { path, default: "0" }
}

const PODS: &[Selectable] = &[
    field("spec.nodeName"),
    field("spec.restartPolicy"),
    field("spec.schedulerName"),
    field("spec.serviceAccountName"),
    flag("spec.hostNetwork"),
    field("status.phase"),
    field("status.podIP"),
    field("status.nominatedNodeName"),
];
const EVENTS: &[Selectable] = &[
    field("involvedObject.kind"),
    field("involvedObject.namespace"),
    field("involvedObject.name"),
    field("involvedObject.uid"),
    field("involvedObject.apiVersion"),
    field("involvedObject.resourceVersion"),
    field("involvedObject.fieldPath"),
    field("reason"),
    field("reportingComponent"),
    field("source.component"),
    field("type"),
];
const NODES: &[Selectable] = &[flag("spec.unschedulable")];
const SECRETS: &[Selectable] = &[field("type")];
const NAMESPACES: &[Selectable] = &[field("status.phase")];
const REPLICAS: &[Selectable] = &[count("status.replicas")];
const JOBS: &[Selectable] = &[count("status.successful")];
const SERVICES: &[Selectable] = &[field("spec.clusterIP"), field("spec.type")];
const SIGNERS: &[Selectable] = &[field("spec.signerName")];
const POD_CERTIFICATES: &[Selectable] = &[
    field("spec.signerName"),
    field("spec.podName"),
    field("spec.nodeName"),
];
const SLICES: &[Selectable] = &[field("spec.nodeName"), field("spec.driver")];

/// The selectable fields of a kind, besides `metadata.name` and `metadata.namespace`.
pub(crate) fn selectable(group: &str, plural: &str) -> &'static [Selectable] {
    match (group, plural) {
        ("", "pods") => PODS,
        ("", "events") => EVENTS,
        ("", "nodes") => NODES,
        ("", "secrets") => SECRETS,
        ("", "namespaces") => NAMESPACES,
        ("", "replicationcontrollers") | ("apps", "replicasets") => REPLICAS,
        ("batch", "jobs") => JOBS,
        ("", "services") => SERVICES,
        ("certificates.k8s.io", "certificatesigningrequests" | "clustertrustbundles") => SIGNERS,
        ("certificates.k8s.io", "podcertificaterequests") => POD_CERTIFICATES,
        ("resource.k8s.io", "resourceslices") => SLICES,
        _ => &[],
    }
}

/// The stored field that a selector's label means, in a request for `group`; events have other
/// names in their newer group.
pub(crate) fn stored_label(group: &str, label: &str) -> String {
    if group == "events.k8s.io" {
        if let Some(rest) = label.strip_prefix("regarding.") {
            return format!("involvedObject.{rest}");
        }
        if label == "reportingController" {
            return "reportingComponent".to_owned();
        }
    } else if group.is_empty() && label == "source" {
        return "source.component".to_owned();
    }
    label.to_owned()
}

/// Picks the values of `fields` out of an object's JSON; missing ones get their default.
pub(crate) fn pick(json: &[u8], fields: &'static [Selectable]) -> Box<[Box<str>]> {
    let mut found: Vec<Option<Box<str>>> = vec![None; fields.len()];
    if !fields.is_empty() {
        let mut reader = serde_json::Deserializer::from_slice(json);
        // What is stored is valid JSON; a value of an odd type is just not found.
        let _ = Seed {
            depth: 0,
            at: "",
            fields,
            found: &mut found,
        }
        .deserialize(&mut reader);
    }
    // An event of the newer API has no source: its controller stands for it.
    let at = |path: &str| fields.iter().position(|field| field.path == path);
    if let (Some(source), Some(reporting)) = (at("source.component"), at("reportingComponent"))
        && found[source].as_deref().is_none_or(str::is_empty)
    {
        found[source] = found[reporting].clone();
    }
    found
        .into_iter()
        .zip(fields)
        .map(|(value, field)| value.unwrap_or_else(|| field.default.into()))
        .collect()
}

struct Seed<'a> {
    depth: usize,
    at: &'a str,
    fields: &'static [Selectable],
    found: &'a mut [Option<Box<str>>],
}

impl Seed<'_> {
    fn set(self, value: &str) {
        if let Some(i) = self.fields.iter().position(|f| f.path == self.at) {
            self.found[i] = Some(value.into());
        }
    }
}

impl<'de> DeserializeSeed<'de> for Seed<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self {
            depth,
            at,
            fields,
            found,
        } = self;
        while let Some(key) = map.next_key::<std::borrow::Cow<'de, str>>()? {
            let path = if at.is_empty() {
                key.to_string()
            } else {
                format!("{at}.{key}")
            };
            let wanted = depth < 3
                && fields.iter().any(|f| {
                    f.path
                        .strip_prefix(path.as_str())
                        .is_some_and(|r| r.is_empty() || r.starts_with('.'))
                });
            if wanted {
                map.next_value_seed(Seed {
                    depth: depth + 1,
                    at: &path,
                    fields,
                    found,
                })?;
            } else {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        self.set(value);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.set(if value { "true" } else { "false" });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.set(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_picked_in_one_pass() {
        let pod =
            br#"{"apiVersion":"v1","metadata":{"name":"a"},"spec":{"containers":[{"name":"x"}],
            "nodeName":"n1","hostNetwork":true},"status":{"phase":"Running"}}"#;
        let picked = pick(pod, PODS);
        let value = |path: &str| {
            PODS.iter()
                .position(|f| f.path == path)
                .map(|i| picked[i].to_string())
        };
        assert_eq!(value("spec.nodeName").as_deref(), Some("n1"));
        assert_eq!(value("spec.hostNetwork").as_deref(), Some("true"));
        assert_eq!(value("status.phase").as_deref(), Some("Running"));
        assert_eq!(value("status.podIP").as_deref(), Some(""));
        assert_eq!(&*pick(b"{}", NODES)[0], "false");
        let event = br#"{"source":{},"reportingComponent":"c"}"#;
        assert!(
            pick(event, EVENTS)
                .iter()
                .filter(|value| &***value == "c")
                .count()
                == 2
        );
    }
}
