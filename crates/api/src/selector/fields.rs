//! Field selectors: `metadata.name=a,status.phase!=Running`.

use std::fmt;

use serde_json::Value;

use crate::resource::Resource;
use crate::selector::SelectorError;

/// A conjunction of `field=value` and `field!=value`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FieldSelector {
    /// `(field, equal, value)`.
    pub terms: Vec<(String, bool, String)>,
}

impl FieldSelector {
    /// Parses the `fieldSelector` query parameter.
    ///
    /// # Errors
    /// When the text is no selector.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let mut terms = Vec::new();
        for part in split_terms(text)
            .into_iter()
            .filter(|part| !part.is_empty())
        {
            let (field, equal, value) = split_operator(part).ok_or_else(|| {
                SelectorError::new(format!(
                    "invalid selector: '{text}'; can't understand '{part}'"
                ))
            })?;
            terms.push((field.to_owned(), equal, unescape(value)?));
        }
        Ok(Self { terms })
    }

    /// Checks that every field is one that `res` can be selected by.
    ///
    /// # Errors
    /// Upstream's `field label not supported: x`.
    pub fn check(&self, res: &Resource) -> Result<(), SelectorError> {
        let own = selectable(res);
        for (field, _, _) in &self.terms {
            let custom = res.schema.custom();
            let known = field == "metadata.name"
                || custom.is_some_and(|custom| custom.selectable().any(|path| path == field))
                || (field == "metadata.namespace" && res.namespaced)
                || own.iter().any(|f| f.name == field);
            if known {
                continue;
            }
            let reason = if own.is_empty() && field != "metadata.namespace" {
                format!(
                    "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                )
            } else {
                format!("field label not supported: {field}")
            };
            return Err(SelectorError::new(reason));
        }
        Ok(())
    }

    /// Whether it has no term.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    /// The value that `field` must have, where a term says so: lets a `metadata.name=x` list be a get.
    #[must_use]
    pub fn required(&self, field: &str) -> Option<&str> {
        self.terms
            .iter()
            .find(|(f, equal, _)| *equal && f == field)
            .map(|(_, _, v)| v.as_str())
    }

    /// Whether the object (in the form of `res`) matches.
    #[must_use]
    pub fn matches(&self, res: &Resource, object: &Value) -> bool {
        let own = selectable(res);
        self.terms.iter().all(|(field, equal, wanted)| {
            let value = match own.iter().find(|f| f.name == field) {
                Some(selectable) => selectable.read(object),
                None => read(object, field),
            };
            (value == *wanted) == *equal
        })
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (field, equal, value)) in self.terms.iter().enumerate() {
            let comma = if index > 0 { "," } else { "" };
            let operator = if *equal { "=" } else { "!=" };
            let value = value
                .replace('\\', "\\\\")
                .replace(',', "\\,")
                .replace('=', "\\=");
            write!(f, "{comma}{field}{operator}{value}")?;
        }
        Ok(())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut escaped) = (Vec::new(), 0, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b',' => {
                terms.push(&text[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

fn split_operator(term: &str) -> Option<(&str, bool, &str)> {
    for (index, _) in term.char_indices() {
        let rest = &term[index..];
        for (operator, equal) in [("!=", false), ("==", true), ("=", true)] {
            if let Some(value) = rest.strip_prefix(operator) {
                return Some((&term[..index], equal, value));
            }
        }
    }
    None
}

fn unescape(text: &str) -> Result<String, SelectorError> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(escaped @ ('\\' | ',' | '=')) => out.push(escaped),
                Some(other) => {
                    return Err(SelectorError::new(format!(
                        "invalid field selector: invalid escape sequence: \\{other}"
                    )));
                }
                None => out.push('\\'),
            },
            ',' | '=' => {
                return Err(SelectorError::new(format!(
                    "invalid field selector: unescaped character in value: {c} in {text}"
                )));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

/// A field that objects of one kind can be selected by.
#[derive(Clone, Copy)]
struct Selectable {
    name: &'static str,
    /// Where it is in the object, if not at its name.
    path: &'static str,
    /// What an absent value reads as.
    absent: &'static str,
}

impl Selectable {
    fn read(self, object: &Value) -> String {
        let mut value = read(
            object,
            if self.path.is_empty() {
                self.name
            } else {
                self.path
            },
        );
        if value.is_empty() && self.name == "source" {
            value = read(object, "reportingComponent");
        }
        if value.is_empty() {
            self.absent.to_owned()
        } else {
            value
        }
    }
}

const fn at(name: &'static str) -> Selectable {
    Selectable {
        name,
        path: "",
        absent: "",
    }
}

const fn or(name: &'static str, absent: &'static str) -> Selectable {
    Selectable {
        name,
        path: "",
        absent,
    }
}

const POD: &[Selectable] = &[
    at("spec.nodeName"),
    at("spec.restartPolicy"),
    at("spec.schedulerName"),
    at("spec.serviceAccountName"),
    or("spec.hostNetwork", "false"),
    at("status.phase"),
    at("status.podIP"),
    Selectable {
        name: "status.podIPs",
        path: "status.podIP",
        absent: "",
    },
    at("status.nominatedNodeName"),
];
const EVENT: &[Selectable] = &[
    at("involvedObject.kind"),
    at("involvedObject.namespace"),
    at("involvedObject.name"),
    at("involvedObject.uid"),
    at("involvedObject.apiVersion"),
    at("involvedObject.resourceVersion"),
    at("involvedObject.fieldPath"),
    at("reason"),
    at("reportingComponent"),
    Selectable {
        name: "source",
        path: "source.component",
        absent: "",
    },
    at("type"),
];
const NEW_EVENT: &[Selectable] = &[
    at("regarding.kind"),
    at("regarding.namespace"),
    at("regarding.name"),
    at("regarding.uid"),
    at("regarding.apiVersion"),
    at("regarding.resourceVersion"),
    at("regarding.fieldPath"),
    at("reason"),
    at("reportingController"),
    at("type"),
];

fn selectable(res: &Resource) -> &'static [Selectable] {
    match (&*res.group, &*res.plural) {
        ("", "pods") => POD,
        ("", "events") => EVENT,
        ("events.k8s.io", "events") => NEW_EVENT,
        ("", "namespaces") => const { &[at("status.phase")] },
        ("", "nodes") => const { &[or("spec.unschedulable", "false")] },
        ("", "secrets") => const { &[at("type")] },
        ("", "services") => const { &[at("spec.clusterIP"), at("spec.type")] },
        ("", "replicationcontrollers") | ("apps", "replicasets") => {
            const { &[or("status.replicas", "0")] }
        }
        ("batch", "jobs") => {
            const {
                &[Selectable {
                    name: "status.successful",
                    path: "status.succeeded",
                    absent: "0",
                }]
            }
        }
        ("certificates.k8s.io", "certificatesigningrequests") => const { &[at("spec.signerName")] },
        ("resource.k8s.io", "resourceslices") => {
            const { &[at("spec.nodeName"), at("spec.driver")] }
        }
        _ => &[],
    }
}

fn read(object: &Value, path: &str) -> String {
    let mut value = object;
    for part in path.split('.') {
        match value.get(part) {
            Some(inner) => value = inner,
            None => return String::new(),
        }
    }
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
        _ => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::resource::find;
    use serde_json::json;

    #[test]
    fn parses_checks_and_matches() {
        let pods = find("", "v1", "pods").unwrap();
        let pod = json!({"metadata": {"name": "a", "namespace": "x"}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
        for (text, matched) in [
            ("", true),
            ("metadata.name=a", true),
            ("metadata.name==a,spec.nodeName!=m", true),
            ("status.phase!=Running", false),
            ("spec.nodeName=", false),
            ("status.podIP=", true),
            ("spec.hostNetwork=false", true),
        ] {
            let selector = FieldSelector::parse(text).unwrap();
            selector.check(pods).unwrap();
            assert_eq!(selector.matches(pods, &pod), matched, "{text}");
        }
        let error = |text: &str| {
            let selector = FieldSelector::parse(text);
            selector
                .and_then(|s| s.check(pods))
                .unwrap_err()
                .to_string()
        };
        assert_eq!(error("foo=bar"), "field label not supported: foo");
        assert_eq!(
            error("foo"),
            "invalid selector: 'foo'; can't understand 'foo'"
        );
        assert_eq!(
            FieldSelector::parse(r"metadata.name=a\,b\=c")
                .unwrap()
                .required("metadata.name"),
            Some("a,b=c")
        );
    }
}
