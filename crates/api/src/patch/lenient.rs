//! Where JSON patches of Kubernetes are more than RFC 6902 says, since the library behind them is
//! (`evanphx/json-patch` v4): clients have come to count on it.
//!
//! A member that an object does not have is null to `test` and to `copy`, and `replace` adds it;
//! negative indices count from a list's end.

use std::borrow::Cow;

use json_patch::PatchOperation;
use json_patch::jsonptr::PointerBuf;
use serde_json::Value;

/// An operation that the RFC allows and that does to the document what this one means; `None` where
/// there is nothing to do.
pub(super) fn strict(document: &Value, mut operation: PatchOperation) -> Option<PatchOperation> {
    match &mut operation {
        PatchOperation::Add(op) => count_from_end(document, &mut op.path, true),
        PatchOperation::Remove(op) => count_from_end(document, &mut op.path, false),
        PatchOperation::Replace(op) => count_from_end(document, &mut op.path, false),
        PatchOperation::Test(op) => count_from_end(document, &mut op.path, false),
        PatchOperation::Move(op) => {
            count_from_end(document, &mut op.from, false);
            count_from_end(document, &mut op.path, true);
        }
        PatchOperation::Copy(op) => {
            count_from_end(document, &mut op.from, false);
            count_from_end(document, &mut op.path, true);
        }
    }
    match operation {
        PatchOperation::Test(op) if op.value.is_null() && lacks(document, &op.path) => None,
        PatchOperation::Replace(op) if lacks(document, &op.path) => {
            Some(PatchOperation::Add(json_patch::AddOperation {
                path: op.path,
                value: op.value,
            }))
        }
        PatchOperation::Copy(op) if lacks(document, &op.from) => {
            Some(PatchOperation::Add(json_patch::AddOperation {
                path: op.path,
                value: Value::Null,
            }))
        }
        other => Some(other),
    }
}

fn tokens(path: &PointerBuf) -> impl Iterator<Item = Cow<'_, str>> {
    path.as_str().split('/').skip(1).map(|token| {
        if token.contains('~') {
            Cow::Owned(token.replace("~1", "/").replace("~0", "~"))
        } else {
            Cow::Borrowed(token)
        }
    })
}

fn step<'a>(value: &'a Value, token: &str) -> Option<&'a Value> {
    match value {
        Value::Object(members) => members.get(token),
        Value::Array(items) => items.get(token.parse::<usize>().ok()?),
        _ => None,
    }
}

/// Whether a path leads to an object that is there, and to a member that it does not have.
fn lacks(document: &Value, path: &PointerBuf) -> bool {
    let mut at = document;
    let mut tokens = tokens(path).peekable();
    while let Some(token) = tokens.next() {
        match (step(at, &token), tokens.peek()) {
            (Some(next), _) => at = next,
            (None, None) => return at.is_object(),
            (None, Some(_)) => return false,
        }
    }
    false
}

/// Writes the indices below zero as what they mean. `adds` a place at the end of the last list.
fn count_from_end(document: &Value, path: &mut PointerBuf, adds: bool) {
    if !path.as_str().contains("/-") {
        return;
    }
    let mut at = Some(document);
    let mut counted: Vec<String> = Vec::new();
    let mut left = tokens(path).count();
    for token in tokens(path) {
        left -= 1;
        let index = at.and_then(|value| {
            let items = value.as_array()?;
            let below = token.strip_prefix('-')?.parse::<usize>().ok()?;
            let places = items.len() + usize::from(adds && left == 0);
            places.checked_sub(below).filter(|_| below > 0)
        });
        let token = index.map_or_else(|| token.into_owned(), |index| index.to_string());
        at = at.and_then(|value| step(value, &token));
        counted.push(token);
    }
    *path = PointerBuf::from_tokens(counted);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use crate::patch::{PatchError, json};
    use serde_json::{Value, json};

    fn patched(target: &Value, patch: &Value) -> Result<Value, PatchError> {
        let mut target = target.clone();
        json(&mut target, patch.to_string().as_bytes())?;
        Ok(target)
    }

    #[test]
    fn members_that_are_not_there() {
        let object = json!({"metadata": {"name": "a", "none": null}, "list": [1]});
        // How finalizers are added by operators that are the first to do so.
        let first = json!([
            {"op": "test", "path": "/metadata/finalizers", "value": null},
            {"op": "add", "path": "/metadata/finalizers", "value": ["a/b"]},
        ]);
        let added = patched(&object, &first).unwrap();
        assert_eq!(added["metadata"]["finalizers"], json!(["a/b"]));
        assert_eq!(patched(&added, &first), Err(PatchError::TestFailed));
        for (operation, holds) in [
            (
                json!({"op": "test", "path": "/metadata/none", "value": null}),
                true,
            ),
            (
                json!({"op": "test", "path": "/metadata/gone", "value": 1}),
                false,
            ),
            (
                json!({"op": "test", "path": "/gone/gone", "value": null}),
                false,
            ),
            (
                json!({"op": "test", "path": "/list/1", "value": null}),
                false,
            ),
            (
                json!({"op": "test", "path": "/list/gone", "value": null}),
                false,
            ),
            (
                json!({"op": "replace", "path": "/gone/gone", "value": 1}),
                false,
            ),
            (
                json!({"op": "replace", "path": "/list/1", "value": 1}),
                false,
            ),
            (json!({"op": "remove", "path": "/metadata/gone"}), false),
            (
                json!({"op": "move", "from": "/metadata/gone", "path": "/a"}),
                false,
            ),
        ] {
            let outcome = patched(&object, &json!([operation]));
            assert_eq!(outcome.is_ok(), holds, "{operation}: {outcome:?}");
        }
        let replaced = json!([{"op": "replace", "path": "/metadata/a~1b", "value": 1}]);
        assert_eq!(patched(&object, &replaced).unwrap()["metadata"]["a/b"], 1);
        let copied = json!([{"op": "copy", "from": "/gone", "path": "/metadata/name"}]);
        assert!(patched(&object, &copied).unwrap()["metadata"]["name"].is_null());
    }

    #[test]
    fn indices_from_the_end() {
        let object = json!({"l": [{"n": [1, 2]}, {"n": [3]}], "-1": 0});
        let after = |operation: Value| patched(&object, &json!([operation]));
        let n = |value: Result<Value, _>| value.unwrap()["l"].to_string();
        let removed = after(json!({"op": "remove", "path": "/l/-1"}));
        assert_eq!(n(removed), "[{\"n\":[1,2]}]");
        let added = after(json!({"op": "add", "path": "/l/-2/n/-1", "value": 9}));
        assert_eq!(n(added), "[{\"n\":[1,2,9]},{\"n\":[3]}]");
        let set = after(json!({"op": "replace", "path": "/l/0/n/-2", "value": 9}));
        assert_eq!(n(set), "[{\"n\":[9,2]},{\"n\":[3]}]");
        let moved = after(json!({"op": "move", "from": "/l/-1/n/0", "path": "/l/0/n/-"}));
        assert_eq!(n(moved), "[{\"n\":[1,2,3]},{\"n\":[]}]");
        for path in ["/l/-3", "/l/-0", "/l/--1", "/l/-1x"] {
            let outcome = after(json!({"op": "remove", "path": path}));
            assert!(outcome.is_err(), "{path}");
        }
        // A member of that name is one.
        let member = after(json!({"op": "remove", "path": "/-1"})).unwrap();
        assert!(member.get("-1").is_none());
    }
}
