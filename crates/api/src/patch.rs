//! The three kinds of patches that rewrite an object: JSON patch, JSON merge patch, strategic merge patch.
//!
//! Invariant: a patch that fails leaves its target as it was; none makes an object deeper than
//! [`MAX_DEPTH`] or, by copying, larger than bounded.

mod lenient;
mod strategic;

use json_patch::{Patch, PatchErrorKind, PatchOperation};
use serde_json::{Map, Value};

use crate::MAX_DEPTH;

pub use strategic::{strategic, strategic_schema, strategic_type};

/// The most operations in one JSON patch, as upstream has it.
pub const MAX_OPERATIONS: usize = 10_000;
/// How much `copy` operations of one JSON patch may copy.
const MAX_COPIED_BYTES: usize = 3 << 20;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PatchError {
    /// The patch document is malformed: upstream answers 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch is well formed and does not fit the object (a failed `test`, a missing path): 422.
    #[error("{0}")]
    DoesNotApply(String),
    /// A `test` found another value: 422.
    #[error("value did not match")]
    TestFailed,
    /// More operations than [`MAX_OPERATIONS`]: 413.
    #[error("The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {0}")]
    TooManyOperations(usize),
    /// The patch, or what it makes, is nested deeper than [`MAX_DEPTH`]: 400.
    #[error("exceeded max depth")]
    TooDeep,
    /// `copy` operations copy too much: 413.
    #[error("the copy operations of the patch copy too much")]
    TooLarge,
}

/// Applies an RFC 6902 patch, with what upstream allows beyond the RFC.
///
/// # Errors
/// When the patch is malformed or does not apply; the target is then unchanged.
pub fn json(target: &mut Value, patch: &[u8]) -> Result<(), PatchError> {
    let Patch(operations) = serde_json::from_slice(patch)
        .map_err(|error| PatchError::Malformed(format!("error decoding patch: {error}")))?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut result = target.clone();
    let mut copied = 0;
    for operation in operations {
        let Some(operation) = lenient::strict(&result, operation) else {
            continue;
        };
        check_growth(&result, &operation, &mut copied)?;
        json_patch::patch_unsafe(&mut result, std::slice::from_ref(&operation)).map_err(
            |error| match error.kind {
                PatchErrorKind::TestFailed => PatchError::TestFailed,
                kind => PatchError::DoesNotApply(kind.to_string()),
            },
        )?;
    }
    *target = result;
    Ok(())
}

/// Refuses an operation that makes the document too deep or too large.
fn check_growth(
    document: &Value,
    operation: &PatchOperation,
    copied: &mut usize,
) -> Result<(), PatchError> {
    let (path, value) = match operation {
        PatchOperation::Add(op) => (&op.path, Some(&op.value)),
        PatchOperation::Replace(op) => (&op.path, Some(&op.value)),
        PatchOperation::Move(op) => (&op.path, document.pointer(op.from.as_str())),
        PatchOperation::Copy(op) => {
            let value = document.pointer(op.from.as_str());
            *copied = copied.saturating_add(value.map_or(0, size));
            if *copied > MAX_COPIED_BYTES {
                return Err(PatchError::TooLarge);
            }
            (&op.path, value)
        }
        PatchOperation::Remove(_) | PatchOperation::Test(_) => return Ok(()),
    };
    let limit = MAX_DEPTH
        .checked_sub(path.count())
        .ok_or(PatchError::TooDeep)?;
    match value {
        Some(value) if deeper_than(value, limit) => Err(PatchError::TooDeep),
        _ => Ok(()),
    }
}

/// Whether a value nests deeper than `limit`; looks no deeper than that.
pub(crate) fn deeper_than(value: &Value, limit: usize) -> bool {
    let Some(below) = limit.checked_sub(1) else {
        return value.is_object() || value.is_array();
    };
    match value {
        Value::Array(items) => items.iter().any(|v| deeper_than(v, below)),
        Value::Object(map) => map.values().any(|v| deeper_than(v, below)),
        _ => false,
    }
}

/// About how many bytes a value takes as JSON.
fn size(value: &Value) -> usize {
    match value {
        Value::Array(items) => 2 + items.iter().map(|v| 1 + size(v)).sum::<usize>(),
        Value::Object(map) => {
            2 + map
                .iter()
                .map(|(k, v)| 4 + k.len() + size(v))
                .sum::<usize>()
        }
        Value::String(text) => 2 + text.len(),
        _ => 8,
    }
}

/// Applies an RFC 7386 merge patch.
///
/// # Errors
/// When the patch is nested too deeply; the target is then unchanged.
pub fn merge(target: &mut Value, patch: Value) -> Result<(), PatchError> {
    if deeper_than(&patch, MAX_DEPTH) {
        return Err(PatchError::TooDeep);
    }
    merge_value(target, patch);
    Ok(())
}

fn merge_value(target: &mut Value, patch: Value) {
    let Value::Object(patch) = patch else {
        *target = patch;
        return;
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    for (key, value) in patch {
        if value.is_null() {
            map.remove(&key);
        } else {
            merge_value(map.entry(key).or_insert(Value::Null), value);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn json_patch() {
        let mut object = json!({"a": [1, 2], "b": {"c": "d"}});
        json(&mut object, br#"[{"op":"test","path":"/b/c","value":"d"},{"op":"add","path":"/a/-","value":3},{"op":"remove","path":"/b/c"}]"#).unwrap();
        assert_eq!(object, json!({"a": [1, 2, 3], "b": {}}));
        let before = object.clone();
        let failed = json(
            &mut object,
            br#"[{"op":"remove","path":"/a/0"},{"op":"test","path":"/a/0","value":9}]"#,
        );
        assert!(matches!(failed, Err(PatchError::TestFailed)));
        assert_eq!(object, before);
        assert!(matches!(
            json(&mut object, b"{}"),
            Err(PatchError::Malformed(_))
        ));
    }

    #[test]
    fn json_patch_bombs() {
        let deepen = r#"{"op":"move","from":"/a","path":"/b"},{"op":"add","path":"/a","value":{}},{"op":"move","from":"/b","path":"/a/x"},"#;
        let patch = format!("[{}]", deepen.repeat(3000).trim_end_matches(','));
        assert_eq!(
            json(&mut json!({"a": {}}), patch.as_bytes()),
            Err(PatchError::TooDeep)
        );
        let double = r#"{"op":"copy","from":"","path":"/a"},"#;
        let grow = (0..60)
            .map(|i| double.replace("/a", &format!("/a{i}")))
            .collect::<String>();
        let patch = format!("[{}]", grow.trim_end_matches(','));
        assert!(json(&mut json!({"a": "x".repeat(1000)}), patch.as_bytes()).is_err());
        let many = format!(
            "[{}]",
            vec![r#"{"op":"test","path":"","value":1}"#; 10_001].join(",")
        );
        assert_eq!(
            json(&mut json!(1), many.as_bytes()),
            Err(PatchError::TooManyOperations(10_001))
        );
    }

    #[test]
    fn merge_patch() {
        let mut object = json!({"a": {"b": 1, "c": 2}, "l": [1]});
        merge(
            &mut object,
            json!({"a": {"b": null, "d": {"e": null, "f": 1}}, "l": [2]}),
        )
        .unwrap();
        assert_eq!(object, json!({"a": {"c": 2, "d": {"f": 1}}, "l": [2]}));
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            "[a-c]{0,2}".prop_map(Value::from)
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("name|spec|containers|metadata|\\$patch|\\$retainKeys|\\$setElementOrder/containers|\\$deleteFromPrimitiveList/finalizers|finalizers", inner, 0..4)
                    .prop_map(|m| Value::Object(m.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn no_patch_panics_and_failures_change_nothing(target in any_json(), patch in any_json()) {
            let pods = crate::resource::find("", "v1", "pods").unwrap();
            let mut object = target.clone();
            if strategic(pods, &mut object, patch.clone()).is_err() {
                prop_assert_eq!(&object, &target);
            }
            let mut object = target.clone();
            merge(&mut object, patch.clone()).unwrap();
            let once = object.clone();
            merge(&mut object, patch).unwrap();
            prop_assert_eq!(object, once);
        }
    }
}
