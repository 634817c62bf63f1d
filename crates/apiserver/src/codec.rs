//! The stored form of an object, and how its revision gets into the bytes that go on the wire.
//!
//! Invariant: a stored value is JSON that starts `{"apiVersion":…,"kind":…,"metadata":{` and has
//! no `metadata.resourceVersion`; the revision is the store's own, and is spliced in as the first
//! member of `metadata` when the entry is read.

use bytes::Bytes;
use serde_json::Value;
use store::Revision;

use crate::error::Broken;

const META: &[u8] = b",\"metadata\":{";

/// Writes one JSON value; a `Value` always serialises.
fn put(out: &mut Vec<u8>, value: &Value) {
    // A Value has string keys only and no custom serialiser, so this cannot fail.
    let _ = serde_json::to_writer(out, value);
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    let _ = serde_json::to_writer(out, text);
}

/// Encodes an object for the store.
pub(crate) fn encode(object: &Value) -> Bytes {
    let mut out = Vec::with_capacity(1024);
    let text = |field: &str| {
        object
            .get(field)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    out.extend_from_slice(b"{\"apiVersion\":");
    put_text(&mut out, text("apiVersion"));
    out.extend_from_slice(b",\"kind\":");
    put_text(&mut out, text("kind"));
    out.extend_from_slice(META);
    if let Some(metadata) = object.get("metadata").and_then(Value::as_object) {
        put_members(
            &mut out,
            metadata
                .iter()
                .filter(|(k, _)| k.as_str() != "resourceVersion"),
            true,
        );
    }
    out.push(b'}');
    if let Some(members) = object.as_object() {
        let rest = members
            .iter()
            .filter(|(k, _)| !matches!(k.as_str(), "apiVersion" | "kind" | "metadata"));
        put_members(&mut out, rest, false);
    }
    out.push(b'}');
    Bytes::from(out)
}

fn put_members<'a>(
    out: &mut Vec<u8>,
    members: impl Iterator<Item = (&'a String, &'a Value)>,
    mut first: bool,
) {
    for (key, value) in members {
        if !first {
            out.push(b',');
        }
        first = false;
        put_text(out, key);
        out.push(b':');
        put(out, value);
    }
}

/// Where `metadata`'s `{` is in a stored value.
fn metadata_open(stored: &[u8]) -> Result<usize, Broken> {
    // Neither apiVersion nor kind can hold the pattern: its quotes would be escaped there.
    stored
        .windows(META.len())
        .take(512)
        .position(|window| window == META)
        .map(|at| at + META.len() - 1)
        .ok_or(Broken::NoMetadata)
}

/// Appends the wire form of a stored value to `out`: the same with `resourceVersion` in it.
/// Returns where the metadata object starts, relative to the start of the object. Revision 0 (a
/// dry run's create) is not shown.
pub(crate) fn splice(
    out: &mut Vec<u8>,
    stored: &[u8],
    revision: Revision,
) -> Result<usize, Broken> {
    let open = metadata_open(stored)?;
    let (head, tail) = stored.split_at(open + 1);
    out.extend_from_slice(head);
    if revision.0 == 0 {
        out.extend_from_slice(tail);
        return Ok(open);
    }
    out.extend_from_slice(b"\"resourceVersion\":\"");
    out.extend_from_slice(revision.0.to_string().as_bytes());
    out.push(b'"');
    if tail.first() != Some(&b'}') {
        out.push(b',');
    }
    out.extend_from_slice(tail);
    Ok(open)
}

/// Takes the revision out of wire bytes again; `open` is where the metadata object starts.
pub(crate) fn unsplice(out: &mut Vec<u8>, wire: &[u8], open: usize) {
    const KEY: &[u8] = b"\"resourceVersion\":\"";
    let (head, tail) = wire.split_at((open + 1).min(wire.len()));
    out.extend_from_slice(head);
    let Some(rest) = tail.strip_prefix(KEY) else {
        out.extend_from_slice(tail);
        return;
    };
    let digits = rest.iter().take_while(|b| b.is_ascii_digit()).count();
    let mut rest = rest.get(digits + 1..).unwrap_or_default();
    if rest.first() == Some(&b',') {
        rest = &rest[1..];
    }
    out.extend_from_slice(rest);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn stored_bytes_and_wire_bytes() {
        let object = serde_json::json!({
            "data": {"a": "b"}, "kind": "ConfigMap", "apiVersion": "v1",
            "metadata": {"name": "x", "resourceVersion": "7", "labels": {"a": "b"}},
        });
        let stored = encode(&object);
        assert!(stored.starts_with(br#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"#));
        let mut wire = Vec::new();
        let open = splice(&mut wire, &stored, Revision(42)).unwrap();
        let parsed: Value = serde_json::from_slice(&wire).unwrap();
        assert_eq!(parsed["metadata"]["resourceVersion"], "42");
        assert_eq!(parsed["data"]["a"], "b");
        let mut back = Vec::new();
        unsplice(&mut back, &wire, open);
        assert_eq!(back, stored.to_vec());
        let empty = encode(&serde_json::json!({"kind": "X", "apiVersion": "v1"}));
        let mut wire = Vec::new();
        splice(&mut wire, &empty, Revision(1)).unwrap();
        assert_eq!(
            wire,
            br#"{"apiVersion":"v1","kind":"X","metadata":{"resourceVersion":"1"}}"#
        );
    }
}
