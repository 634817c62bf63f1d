//! The annotation by which `kubectl apply` remembers on the client's side what it applied, and the
//! way from there to server-side apply and back.

use serde_json::{Map, Value};

use super::own::Target;
use super::set::Set;

/// The manager that kubectl is on the server's side.
pub(super) const KUBECTL: &str = "kubectl";
const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// Annotations of an object together, keys included.
const ANNOTATIONS_LIMIT_BYTES: usize = 256 * 1024;

/// The fields that were applied on the client's side and are as they were applied; `None` when
/// nothing was, or in another version.
pub(super) fn unchanged(target: &Target<'_>, live: &Value) -> Option<Set> {
    let text = crate::meta::annotation(live, ANNOTATION)?;
    let last: Value = serde_json::from_str(text).ok()?;
    let version = last.get("apiVersion").and_then(Value::as_str);
    if version != Some(target.api_version) || super::check::check(&target.schema, &last).is_err() {
        return None;
    }
    let form = target.form();
    let compared = super::compare::Comparison::of(form, &last, live).ok()?;
    let mut fields = form.fields(&last).ok()?;
    for set in [&compared.modified, &compared.added, &compared.removed] {
        fields.subtract(set);
    }
    Some(fields)
}

/// Makes an object's annotation say what is applied now, where it has one, so that kubectl can go
/// back to the client's side.
pub(super) fn renew(object: &mut Value, config: &Value) {
    if crate::meta::annotation(object, ANNOTATION).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    let annotations = config
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.remove(ANNOTATION);
    }
    let text = format!("{config}\n");
    let annotations = object
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut);
    let Some(annotations) = annotations else {
        return;
    };
    annotations.insert(ANNOTATION.to_owned(), text.into());
    if size_bytes(annotations) > ANNOTATIONS_LIMIT_BYTES {
        annotations.remove(ANNOTATION);
    }
}

fn size_bytes(annotations: &Map<String, Value>) -> usize {
    let sizes = annotations
        .iter()
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len));
    sizes.sum()
}
