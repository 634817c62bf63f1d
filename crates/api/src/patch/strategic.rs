//! Strategic merge patch: a merge patch that knows which lists are maps by a key, with its directives
//! `$patch`, `$retainKeys`, `$setElementOrder/…` and `$deleteFromPrimitiveList/…`.

use serde_json::{Map, Value};

use crate::MAX_DEPTH;
use crate::patch::{PatchError, deeper_than};
use crate::resource::Resource;
use crate::schema::{Field, Shape, Type, TypeRef};

const PATCH: &str = "$patch";
const RETAIN_KEYS: &str = "$retainKeys";
const SET_ORDER: &str = "$setElementOrder/";
const DELETE_FROM: &str = "$deleteFromPrimitiveList/";

/// Applies a strategic merge patch to an object of `res`.
///
/// # Errors
/// When a directive is malformed, or a list item lacks its merge key; the target is then unchanged.
pub fn strategic(res: &Resource, target: &mut Value, patch: Value) -> Result<(), PatchError> {
    strategic_schema(&res.schema, target, patch)
}

/// As [`strategic`] for an object of a schema.
///
/// # Errors
/// As [`strategic`], and for a schema that is not of the table.
pub fn strategic_schema(
    schema: &crate::schema::Schema,
    target: &mut Value,
    patch: Value,
) -> Result<(), PatchError> {
    match schema.table() {
        Some(ty) => strategic_type(ty, target, patch),
        None => Err(PatchError::Malformed(
            "a strategic merge patch needs a built-in type".to_owned(),
        )),
    }
}

/// As [`strategic`] for a body that is no resource of its own (`Scale`).
///
/// # Errors
/// As [`strategic`].
pub fn strategic_type(ty: TypeRef, target: &mut Value, patch: Value) -> Result<(), PatchError> {
    if deeper_than(&patch, MAX_DEPTH) {
        return Err(PatchError::TooDeep);
    }
    let Value::Object(patch) = patch else {
        return Err(PatchError::Malformed("Invalid JSON Patch".to_owned()));
    };
    let mut result = target.as_object().cloned().unwrap_or_default();
    merge_map(&mut result, patch, Schema::Type(ty.get()))?;
    *target = Value::Object(result);
    Ok(())
}

/// What is known of the values in a map.
#[derive(Clone, Copy)]
enum Schema {
    /// An object of a type.
    Type(&'static Type),
    /// A map with values of one shape.
    Values(&'static Shape),
    /// Nothing: merged as JSON merge patch does.
    Free,
}

/// What is known of one value.
#[derive(Clone, Copy)]
struct Member {
    shape: Option<&'static Shape>,
    merge: bool,
    replace: bool,
    key: &'static str,
}

impl Schema {
    fn of(shape: Option<&'static Shape>) -> Self {
        match shape {
            Some(Shape::Object(ty)) => Self::Type(ty.get()),
            Some(Shape::Map(values)) => Self::Values(values),
            _ => Self::Free,
        }
    }

    fn member(self, name: &str) -> Member {
        let free = Member {
            shape: None,
            merge: false,
            replace: false,
            key: "",
        };
        match self {
            Self::Type(ty) => ty.field(name).map_or(free, |field: &'static Field| Member {
                shape: Some(&field.shape),
                merge: field.merge,
                replace: field.replace,
                key: field.merge_key,
            }),
            Self::Values(shape) => Member {
                shape: Some(shape),
                ..free
            },
            Self::Free => free,
        }
    }
}

fn malformed(text: String) -> PatchError {
    PatchError::Malformed(text)
}

fn merge_map(
    original: &mut Map<String, Value>,
    mut patch: Map<String, Value>,
    schema: Schema,
) -> Result<(), PatchError> {
    if let Some(directive) = patch.remove(PATCH) {
        match directive.as_str() {
            Some("replace") => *original = patch,
            Some("delete") => original.clear(),
            Some("merge") => return merge_map(original, patch, schema),
            _ => {
                return Err(malformed(format!(
                    "unknown patch type found: {}",
                    shown(&directive)
                )));
            }
        }
        return Ok(());
    }
    if let Some(keys) = patch.remove(RETAIN_KEYS) {
        retain_keys(original, &patch, &keys)?;
    }
    let mut orders = Vec::new();
    for (key, value) in patch {
        if let Some(name) = key.strip_prefix(SET_ORDER) {
            let Value::Array(order) = value else {
                return Err(malformed(format!("{SET_ORDER} must be a list: {name}")));
            };
            let before = original
                .get(name)
                .and_then(Value::as_array)
                .cloned()
                .unwrap_or_default();
            orders.push((name.to_owned(), order, before));
        } else if let Some(name) = key.strip_prefix(DELETE_FROM) {
            let Value::Array(gone) = value else {
                return Err(malformed(format!("{DELETE_FROM} must be a list: {name}")));
            };
            if let Some(Value::Array(items)) = original.get_mut(name) {
                items.retain(|item| !gone.contains(item));
            }
        } else {
            merge_member(original, key, value, schema)?;
        }
    }
    for (name, order, before) in orders {
        if let Some(Value::Array(items)) = original.get_mut(&name) {
            reorder(items, &order, &before, schema.member(&name).key);
        }
    }
    Ok(())
}

fn retain_keys(
    original: &mut Map<String, Value>,
    patch: &Map<String, Value>,
    keys: &Value,
) -> Result<(), PatchError> {
    let Value::Array(keys) = keys else {
        return Err(malformed(format!(
            "invalid patch format of {RETAIN_KEYS}: {}",
            shown(keys)
        )));
    };
    let kept = |key: &String| keys.iter().any(|k| k.as_str() == Some(key));
    let told = patch
        .iter()
        .filter(|(key, value)| !value.is_null() && !key.starts_with('$'));
    for (key, _) in told {
        if !kept(key) {
            return Err(malformed(format!(
                "{RETAIN_KEYS} list doesn't contain all keys that are present in the patch: {key}"
            )));
        }
    }
    original.retain(|key, _| kept(key));
    Ok(())
}

fn merge_member(
    original: &mut Map<String, Value>,
    name: String,
    value: Value,
    schema: Schema,
) -> Result<(), PatchError> {
    if value.is_null() {
        original.remove(&name);
        return Ok(());
    }
    let member = schema.member(&name);
    match (original.get_mut(&name), value) {
        (Some(Value::Object(map)), Value::Object(patch)) if !member.replace => {
            merge_map(map, patch, Schema::of(member.shape))
        }
        (Some(Value::Array(items)), Value::Array(patch)) if member.merge => {
            merge_list(items, patch, member, &name)
        }
        (_, value) => {
            let clean = without_directives(value, member.merge)?;
            original.insert(name, clean);
            Ok(())
        }
    }
}

fn merge_list(
    items: &mut Vec<Value>,
    patch: Vec<Value>,
    member: Member,
    name: &str,
) -> Result<(), PatchError> {
    let item_shape = match member.shape {
        Some(Shape::List(item)) => Some(*item),
        _ => None,
    };
    if member.key.is_empty() {
        let before = items.clone();
        for item in &patch {
            if !items.contains(item) {
                items.push(item.clone());
            }
        }
        reorder(items, &patch, &before, "");
        return Ok(());
    }
    let key = member.key;
    let (mut replace, mut changes) = (false, Vec::new());
    for item in patch {
        let Value::Object(mut item) = item else {
            return Err(malformed(format!("lists of maps must hold maps: {name}")));
        };
        match item.remove(PATCH) {
            None => changes.push(item),
            Some(Value::String(directive)) if directive == "delete" => {
                let gone = item.get(key).ok_or_else(|| no_key(&item, key))?;
                items.retain(|own| own.get(key) != Some(gone));
            }
            Some(Value::String(directive)) if directive == "replace" => {
                replace = true;
                // An item that holds more than the directive is part of the new list.
                if !item.is_empty() {
                    changes.push(item);
                }
            }
            Some(Value::String(directive)) if directive == "merge" => {
                return Err(malformed(
                    "merging lists cannot yet be specified in the patch".to_owned(),
                ));
            }
            Some(other) => {
                return Err(malformed(format!(
                    "unknown patch type found: {}",
                    shown(&other)
                )));
            }
        }
    }
    if replace {
        *items = changes.into_iter().map(Value::Object).collect();
        return Ok(());
    }
    // What is patched comes in the patch's order, and before what was not named unless that stood
    // before it.
    let before = items.clone();
    let order: Vec<Value> = changes.iter().cloned().map(Value::Object).collect();
    for change in changes {
        let value = change.get(key).ok_or_else(|| no_key(&change, key))?;
        match items.iter_mut().find(|own| own.get(key) == Some(value)) {
            Some(Value::Object(own)) => merge_map(own, change, Schema::of(item_shape))?,
            _ => items.push(without_directives(Value::Object(change), false)?),
        }
    }
    reorder(items, &order, &before, key);
    Ok(())
}

fn no_key(item: &Map<String, Value>, key: &str) -> PatchError {
    malformed(format!(
        "map: {} does not contain declared merge key: {key}",
        Value::Object(item.clone())
    ))
}

/// A value that nothing stands against: its directives and nulls have nothing to act on.
fn without_directives(value: Value, merged_list: bool) -> Result<Value, PatchError> {
    Ok(match value {
        Value::Object(map) => {
            let mut clean = Map::new();
            for (key, value) in map {
                if !value.is_null() && !is_directive(&key) {
                    clean.insert(key, without_directives(value, true)?);
                }
            }
            Value::Object(clean)
        }
        Value::Array(items) => {
            let mut clean = Vec::with_capacity(items.len());
            for item in items {
                match item.get(PATCH).and_then(Value::as_str) {
                    Some("delete") if merged_list => {}
                    Some("replace") if item.as_object().is_some_and(|i| i.len() == 1) => {}
                    _ => clean.push(without_directives(item, true)?),
                }
            }
            Value::Array(clean)
        }
        other => other,
    })
}

fn is_directive(key: &str) -> bool {
    key == PATCH || key == RETAIN_KEYS || key.starts_with(SET_ORDER) || key.starts_with(DELETE_FROM)
}

/// Puts the items that the patch ordered into that order, and merges them with the others, which
/// stay where they stood `before` relative to the ordered ones.
fn reorder(items: &mut Vec<Value>, order: &[Value], before: &[Value], key: &str) {
    let identity = |item: &Value| {
        if key.is_empty() {
            Some(item.clone())
        } else {
            item.get(key).cloned()
        }
    };
    let place = |list: &[Value], item: &Value| {
        let wanted = identity(item);
        list.iter()
            .position(|other| wanted.is_some() && identity(other) == wanted)
    };
    let mut ordered = Vec::new();
    let mut others = Vec::new();
    for item in items.drain(..) {
        match place(order, &item) {
            Some(at) => ordered.push((at, item)),
            None => others.push((place(before, &item).unwrap_or(usize::MAX), item)),
        }
    }
    ordered.sort_by_key(|(at, _)| *at);
    others.sort_by_key(|(at, _)| *at);
    let mut ordered = ordered.into_iter().map(|(_, item)| item).peekable();
    let mut others = others.into_iter().map(|(_, item)| item).peekable();
    loop {
        let other_first = match (others.peek(), ordered.peek()) {
            (Some(other), Some(next)) => {
                matches!((place(before, other), place(before, next)), (Some(a), Some(b)) if a < b)
            }
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return,
        };
        items.extend(if other_first {
            others.next()
        } else {
            ordered.next()
        });
    }
}

fn shown(value: &Value) -> String {
    value
        .as_str()
        .map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::resource::find;
    use serde_json::json;

    fn names(list: &Value) -> String {
        let name = |v: &Value| {
            v.get("name")
                .unwrap_or(v)
                .as_str()
                .unwrap_or_default()
                .to_owned()
        };
        list.as_array()
            .unwrap()
            .iter()
            .map(name)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn containers_merge_by_name_and_env_too() {
        let deployments = find("apps", "v1", "deployments").unwrap();
        let mut object = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "a", "image": "x:1", "env": [{"name": "E", "value": "1"}, {"name": "F", "value": "2"}]},
            {"name": "b", "image": "y", "args": ["1", "2"]}]}}}});
        let patch = json!({"spec": {"template": {"spec": {"containers": [
            {"name": "b", "args": ["3"]},
            {"name": "a", "image": "x:2", "env": [{"name": "E", "$patch": "delete"}, {"name": "G", "value": "3"}]},
            {"name": "c", "image": "z", "env": [{"name": "H", "$patch": "delete"}]}]}}}});
        strategic(deployments, &mut object, patch).unwrap();
        assert_eq!(
            object,
            json!({"spec": {"template": {"spec": {"containers": [
                {"name": "b", "image": "y", "args": ["3"]},
                {"name": "a", "image": "x:2", "env": [{"name": "G", "value": "3"}, {"name": "F", "value": "2"}]},
                {"name": "c", "image": "z", "env": []}]}}}})
        );
    }

    #[test]
    fn directives() {
        let pods = find("", "v1", "pods").unwrap();
        let start = || {
            json!({"metadata": {"finalizers": ["a", "b", "c"], "labels": {"x": "1", "y": "2"}},
                "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{"name": "1"}, {"name": "2"}, {"name": "3"}]}})
        };
        let apply = |patch| {
            let mut object = start();
            strategic(pods, &mut object, patch).map(|()| object)
        };
        let done = |patch| apply(patch).unwrap();
        let out = done(
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "finalizers": ["d"]}}),
        );
        assert_eq!(names(&out["metadata"]["finalizers"]), "d a c");
        let out = done(json!({"metadata": {"labels": {"$patch": "replace", "z": "3"}}}));
        assert_eq!(out["metadata"]["labels"], json!({"z": "3"}));
        let out = done(json!({"metadata": {"labels": null}}));
        assert!(out["metadata"].get("labels").is_none());
        let out = done(
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name", "hostPath"], "hostPath": {"path": "/"}}]}}),
        );
        assert_eq!(
            out["spec"]["volumes"],
            json!([{"name": "v", "hostPath": {"path": "/"}}])
        );
        let out = done(json!({"spec": {"containers": [{"$patch": "replace"}, {"name": "9"}]}}));
        assert_eq!(names(&out["spec"]["containers"]), "9");
        let out = done(
            json!({"spec": {"$setElementOrder/containers": [{"name": "3"}, {"name": "0"}, {"name": "1"}], "containers": [{"name": "0"}]}}),
        );
        assert_eq!(names(&out["spec"]["containers"]), "2 3 0 1");
        let error = apply(json!({"spec": {"containers": [{"image": "x"}]}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            r#"map: {"image":"x"} does not contain declared merge key: name"#
        );
        let error = apply(json!({"spec": {"$patch": "explode"}})).unwrap_err();
        assert_eq!(error.to_string(), "unknown patch type found: explode");
    }
}
