//! ConversionReview: what a webhook is sent, and what its answer must be. Pure.
//!
//! Invariant: of what a webhook answers only the content, the labels and the annotations are taken;
//! all other metadata stay the object's own.

use api::resource::split_api_version;
use api::{meta, validate};
use serde_json::{Map, Value, json};

use crate::hooks::text;

const GROUP: &str = "apiextensions.k8s.io";
const KIND: &str = "ConversionReview";

/// The version of the review to speak with a webhook.
pub(super) fn version(accepted: &[String]) -> Option<&'static str> {
    accepted.iter().find_map(|version| match version.as_str() {
        "v1" => Some("v1"),
        "v1beta1" => Some("v1beta1"),
        _ => None,
    })
}

/// An object's type as messages name it: `g.io/v1, Kind=Foo`.
pub(super) fn kind(object: &Value) -> String {
    let (group, version) = split_api_version(text(object, "/apiVersion"));
    format!("{group}/{version}, Kind={}", text(object, "/kind"))
}

/// The request to a webhook; `objects` are members of a JSON array.
pub(super) fn request(version: &str, uid: &str, to: &str, objects: &str) -> String {
    let (uid, to) = (json!(uid), json!(to));
    format!(
        "{{\"kind\":\"{KIND}\",\"apiVersion\":\"{GROUP}/{version}\",\"request\":{{\"uid\":{uid},\"desiredAPIVersion\":{to},\"objects\":[{objects}]}}}}"
    )
}

/// The objects of an answer.
///
/// # Errors
/// What is wrong with it, or why the webhook could not convert, in its words.
pub(super) fn verify(version: &str, uid: &str, review: &Value) -> Result<Vec<Value>, String> {
    let wanted = format!("{GROUP}/{version}, Kind={KIND}");
    if version == "v1" && kind(review) != wanted {
        return Err(format!(
            "expected webhook response of {wanted}, got {}",
            kind(review)
        ));
    }
    let response = review.get("response").filter(|r| r.is_object());
    let response = response.ok_or("no response provided")?;
    let answered = text(response, "/uid");
    if version == "v1" && answered != uid {
        return Err(format!("expected response.uid={uid:?}, got {answered:?}"));
    }
    match (
        text(response, "/result/status"),
        text(response, "/result/message"),
    ) {
        ("Success", _) => {}
        (status, "") => {
            return Err(format!(
                "response.result.status was '{status}', not 'Success'"
            ));
        }
        (_, message) => return Err(message.to_owned()),
    }
    let objects = response.get("convertedObjects").and_then(Value::as_array);
    Ok(objects.cloned().unwrap_or_default())
}

/// Takes the converted objects in the place of the originals, in their order.
///
/// # Errors
/// What is wrong with them. Upstream's words for one object and for several differ.
pub(super) fn accept(
    shown_kind: &str,
    originals: &[Value],
    converted: Vec<Value>,
    to: &str,
) -> Result<Vec<Value>, String> {
    let webhook = format!("conversion webhook for {shown_kind}");
    if converted.len() != originals.len() {
        return Err(format!(
            "{webhook} returned {} objects, expected {}",
            converted.len(),
            originals.len()
        ));
    }
    let single = originals.len() == 1;
    let taken = originals.iter().zip(converted).enumerate();
    let taken = taken.map(|(index, (original, mut object))| {
        let object_at = || match single {
            true => "invalid object at index 0".to_owned(),
            false => format!("invalid converted object at index {index}"),
        };
        is_of_type(original, &object, to)
            .map_err(|why| format!("{webhook} returned {}: {why}", object_at()))?;
        is_same(original, &object).map_err(|why| match single {
            true => format!("{webhook} returned invalid object: {why}"),
            false => format!("{webhook} returned {}: {why}", object_at()),
        })?;
        restore(original, &mut object).map_err(|why| match single {
            true => format!("{webhook} returned invalid metadata: {why}"),
            false => {
                format!("{webhook} returned invalid metadata in object at index {index}: {why}")
            }
        })?;
        Ok(object)
    });
    taken.collect()
}

fn is_of_type(original: &Value, converted: &Value, to: &str) -> Result<(), String> {
    let Some(map) = converted.as_object() else {
        return Err("not a JSON object".to_owned());
    };
    let received = map.get("kind").and_then(Value::as_str).unwrap_or_default();
    if received.is_empty() {
        let mut shown = converted.to_string();
        let mut end = shown.len().min(512);
        while !shown.is_char_boundary(end) {
            end -= 1;
        }
        shown.truncate(end);
        return Err(format!("Object 'Kind' is missing in '{shown}'"));
    }
    let version = text(converted, "/apiVersion");
    if version != to {
        return Err(format!(
            "invalid groupVersion (expected {to}, received {version})"
        ));
    }
    let expected = text(original, "/kind");
    if received != expected {
        return Err(format!(
            "invalid kind (expected {expected}, received {received})"
        ));
    }
    Ok(())
}

fn is_same(original: &Value, converted: &Value) -> Result<(), String> {
    for (what, is, was) in [
        ("name", meta::name(converted), meta::name(original)),
        (
            "namespace",
            meta::namespace(converted),
            meta::namespace(original),
        ),
        ("UID", meta::uid(converted), meta::uid(original)),
    ] {
        if is != was {
            return Err(format!("must have the same {what}: {was} != {is}"));
        }
    }
    Ok(())
}

/// What Go calls the type of a JSON value.
fn go_type(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float64",
        Value::Number(_) => "int64",
        Value::String(_) => "string",
        Value::Array(_) => "[]interface {}",
        Value::Object(_) => "map[string]interface {}",
    }
}

/// Gives a converted object the metadata of the original, labels and annotations apart.
fn restore(original: &Value, converted: &mut Value) -> Result<(), String> {
    let Some(answered) = converted.get_mut("metadata").map(Value::take) else {
        return Err("missing metadata in converted object".to_owned());
    };
    let Value::Object(mut answered) = answered else {
        return Err(format!(
            "invalid metadata of type {} in converted object",
            go_type(&answered)
        ));
    };
    let own = original.get("metadata").and_then(Value::as_object);
    let mut metadata = own.cloned().unwrap_or_default();
    for field in ["labels", "annotations"] {
        let was = metadata.remove(field);
        match answered.remove(field) {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                check(field, &map, was.as_ref())?;
                metadata.insert(field.to_owned(), map.into());
            }
            Some(other) => {
                return Err(format!(
                    "invalid metadata.{field} of type {} in converted object",
                    go_type(&other)
                ));
            }
        }
    }
    converted["metadata"] = metadata.into();
    Ok(())
}

/// Whether labels or annotations may be as they were answered.
fn check(field: &str, map: &Map<String, Value>, was: Option<&Value>) -> Result<(), String> {
    for (key, value) in map {
        if !value.is_string() {
            return Err(format!(
                "metadata.{field}[{key}] must be a string, but is {} in converted object",
                go_type(value)
            ));
        }
    }
    if was.and_then(Value::as_object) == Some(map) {
        return Ok(());
    }
    let object = json!({"metadata": {field: map}});
    let mut errors = match field {
        "labels" => validate::labels(&object),
        _ => validate::annotations(&object),
    };
    for error in &mut errors {
        // So upstream has it.
        error.path = error.path.replacen("annotations", "annotation", 1);
    }
    match errors.as_slice() {
        [] => Ok(()),
        [one] => Err(one.to_string()),
        several => {
            let words: Vec<String> = several.iter().map(ToString::to_string).collect();
            Err(format!("[{}]", words.join(", ")))
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn original() -> Value {
        json!({"apiVersion": "g.io/v1", "kind": "Foo", "metadata": {"name": "a", "namespace": "n",
            "uid": "u", "generation": 3, "labels": {"a": "b"}}, "hostPort": "h:1"})
    }

    fn converted() -> Value {
        json!({"apiVersion": "g.io/v2", "kind": "Foo", "metadata": {"name": "a", "namespace": "n",
            "uid": "u", "generation": 7, "finalizers": ["x/y"], "annotations": {"c": "d"}},
            "host": "h", "port": "1"})
    }

    #[test]
    fn metadata_stay_labels_and_annotations_apart() {
        let taken = accept("k", &[original()], vec![converted()], "g.io/v2").unwrap();
        assert_eq!(
            taken[0],
            json!({"apiVersion": "g.io/v2", "kind": "Foo", "metadata": {"name": "a",
                "namespace": "n", "uid": "u", "generation": 3, "annotations": {"c": "d"}},
                "host": "h", "port": "1"})
        );
    }

    #[test]
    fn lies_are_told() {
        let refused = |change: &dyn Fn(&mut Value)| {
            let mut one = converted();
            change(&mut one);
            accept("g.io/v1, Kind=Foo", &[original()], vec![one], "g.io/v2").unwrap_err()
        };
        type Lie<'a> = (&'a dyn Fn(&mut Value), &'a str);
        let lies: [Lie<'_>; 9] = [
            (
                &|o| o["apiVersion"] = "g.io/v3".into(),
                "invalid object at index 0: invalid groupVersion (expected g.io/v2, received g.io/v3)",
            ),
            (
                &|o| o["kind"] = "Bar".into(),
                "invalid object at index 0: invalid kind (expected Foo, received Bar)",
            ),
            (
                &|o| o["metadata"]["name"] = "b".into(),
                "invalid object: must have the same name: a != b",
            ),
            (
                &|o| o["metadata"]["namespace"] = "m".into(),
                "invalid object: must have the same namespace: n != m",
            ),
            (
                &|o| o["metadata"]["uid"] = "v".into(),
                "invalid object: must have the same UID: u != v",
            ),
            (
                &|o| o["metadata"]["labels"] = json!([1]),
                "invalid metadata: invalid metadata.labels of type []interface {} in converted object",
            ),
            (
                &|o| o["metadata"]["labels"] = json!({"a": 1}),
                "invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
            ),
            (
                &|o| *o = json!("x"),
                "invalid object at index 0: not a JSON object",
            ),
            (
                &|o| *o = json!({"a": 1}),
                "invalid object at index 0: Object 'Kind' is missing in '{\"a\":1}'",
            ),
        ];
        for (lie, words) in lies {
            let told = format!("conversion webhook for g.io/v1, Kind=Foo returned {words}");
            assert_eq!(refused(lie), told);
        }
        let bad = refused(&|o| o["metadata"]["labels"] = json!({"a b": "c"}));
        assert!(
            bad.contains("metadata.labels: Invalid value: \"a b\""),
            "{bad}"
        );
        let few = accept("k", &[original(), original()], vec![converted()], "g.io/v2");
        assert_eq!(
            few.unwrap_err(),
            "conversion webhook for k returned 1 objects, expected 2"
        );
        let mut second = converted();
        second["metadata"]["uid"] = "v".into();
        let both = vec![converted(), second];
        assert_eq!(
            accept("k", &[original(), original()], both, "g.io/v2").unwrap_err(),
            "conversion webhook for k returned invalid converted object at index 1: must have the same UID: u != v"
        );
    }

    #[test]
    fn answers_are_for_the_question() {
        let review = |response: Value| {
            json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
                "response": response})
        };
        let told = |response| verify("v1", "u", &review(response)).unwrap_err();
        assert_eq!(told(Value::Null), "no response provided");
        assert_eq!(
            told(json!({"uid": "v"})),
            "expected response.uid=\"u\", got \"v\""
        );
        assert_eq!(
            told(json!({"uid": "u"})),
            "response.result.status was '', not 'Success'"
        );
        let failed = json!({"uid": "u", "result": {"status": "Failed", "message": "no way"}});
        assert_eq!(told(failed), "no way");
        let other = json!({"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"});
        assert_eq!(
            verify("v1", "u", &other).unwrap_err(),
            "expected webhook response of apiextensions.k8s.io/v1, Kind=ConversionReview, got admission.k8s.io/v1, Kind=AdmissionReview"
        );
        // The older version looked at neither.
        let done = json!({"response": {"result": {"status": "Success"}, "convertedObjects": [{}]}});
        assert_eq!(verify("v1beta1", "u", &done).unwrap(), [json!({})]);
    }
}
