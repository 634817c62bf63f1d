//! JSON paths as the columns of custom resources name their cells: fields, indices, slices, unions,
//! wildcards, filters, recursive descent.
//! Facts: `client-go/util/jsonpath` of 1.36; what is odd there (a key in quotes is read as a path) is
//! odd here.
//!
//! Invariant: parsing takes time by the length of the path; what an evaluation looks at is bounded.

mod parse;

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::{Number, Value};

/// The most values that one evaluation looks at: one object is far smaller.
const LOOKS: usize = 200_000;

/// A path, parsed.
#[derive(Debug, Clone, PartialEq)]
pub struct JsonPath(Vec<Step>);

/// Why a text is no path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ParseError(String);

/// Why a path finds nothing in an object, not even that nothing is there.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FindError(&'static str);

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    /// From, to and step, each where it is said; whether `to` follows from `from`.
    Slice {
        from: Option<i64>,
        to: Option<i64>,
        step: Option<i64>,
        one: bool,
    },
    Union(Vec<Vec<Step>>),
    Filter {
        left: Vec<Step>,
        operator: String,
        right: Vec<Step>,
    },
    Literal(Value),
}

type Found<'v> = Vec<Cow<'v, Value>>;

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::steps(text, 0).map(Self)
    }

    /// All that it leads to.
    ///
    /// # Errors
    /// When it asks for what cannot be, such as the item of an object.
    pub fn find<'v>(&self, object: &'v Value) -> Result<Found<'v>, FindError> {
        let mut looks = LOOKS;
        walk(&self.0, vec![Cow::Borrowed(object)], &mut looks)
    }

    /// The first value that it leads to, if there is one.
    #[must_use]
    pub fn first<'v>(&self, object: &'v Value) -> Option<Cow<'v, Value>> {
        self.find(object).ok()?.into_iter().next()
    }
}

fn look(looks: &mut usize) -> Result<(), FindError> {
    let left = looks.checked_sub(1);
    *looks = left.ok_or(FindError("the path leads to too much"))?;
    Ok(())
}

fn walk<'v>(
    steps: &[Step],
    mut found: Found<'v>,
    looks: &mut usize,
) -> Result<Found<'v>, FindError> {
    for step in steps {
        found = take(step, found, looks)?;
    }
    Ok(found)
}

fn take<'v>(step: &Step, found: Found<'v>, looks: &mut usize) -> Result<Found<'v>, FindError> {
    let mut next: Found<'v> = Vec::new();
    match step {
        Step::Field(name) => {
            for value in &found {
                look(looks)?;
                next.extend(value.as_object().and_then(|_| member(value, name)));
            }
        }
        Step::Wildcard => {
            for value in &found {
                next.extend(children(value, looks)?);
            }
        }
        Step::Recursive => {
            // Each that has something below it, before what is below it.
            let mut rest: Found<'v> = found.into_iter().rev().collect();
            while let Some(value) = rest.pop() {
                let below = children(&value, looks)?;
                if !below.is_empty() {
                    next.push(value);
                    rest.extend(below.into_iter().rev());
                }
            }
        }
        Step::Slice {
            from,
            to,
            step,
            one,
        } => {
            for value in found.iter().filter(|value| !value.is_null()) {
                let items = value.as_array().ok_or(FindError("is not array or slice"))?;
                let bounds = bounds(items.len(), *from, *to, *one)?;
                let step = match step {
                    None => 1,
                    Some(step) => usize::try_from(*step).unwrap_or_default(),
                };
                if bounds.is_empty() {
                    return Ok(next);
                }
                if step == 0 {
                    return Err(FindError("step must be > 0"));
                }
                for at in bounds.step_by(step) {
                    look(looks)?;
                    next.extend(item(value, at));
                }
            }
        }
        Step::Union(parts) => {
            for part in parts {
                next.extend(walk(part, found.clone(), looks)?);
            }
        }
        Step::Filter {
            left,
            operator,
            right,
        } => {
            for value in &found {
                let Value::Array(items) = &**value else {
                    return Err(FindError("is not array or slice and cannot be filtered"));
                };
                for at in 0..items.len() {
                    look(looks)?;
                    if let Some(one) = item(value, at)
                        && passes(&one, left, operator, right, looks)?
                    {
                        next.push(one);
                    }
                }
            }
        }
        Step::Literal(value) => next.push(Cow::Owned(value.clone())),
    }
    Ok(next)
}

fn member<'v>(value: &Cow<'v, Value>, name: &str) -> Option<Cow<'v, Value>> {
    match value {
        Cow::Borrowed(value) => value.get(name).map(Cow::Borrowed),
        Cow::Owned(value) => value.get(name).cloned().map(Cow::Owned),
    }
}

fn item<'v>(value: &Cow<'v, Value>, at: usize) -> Option<Cow<'v, Value>> {
    match value {
        Cow::Borrowed(value) => value.get(at).map(Cow::Borrowed),
        Cow::Owned(value) => value.get(at).cloned().map(Cow::Owned),
    }
}

/// All right below a value; members of an object in the order of their names.
fn children<'v>(value: &Cow<'v, Value>, looks: &mut usize) -> Result<Found<'v>, FindError> {
    let count = match &**value {
        Value::Array(items) => items.len(),
        Value::Object(map) => map.len(),
        _ => 0,
    };
    let left = looks.checked_sub(count + 1);
    *looks = left.ok_or(FindError("the path leads to too much"))?;
    Ok(match value {
        Cow::Borrowed(Value::Array(items)) => items.iter().map(Cow::Borrowed).collect(),
        Cow::Borrowed(Value::Object(map)) => map.values().map(Cow::Borrowed).collect(),
        // A literal: nothing is below it.
        _ => Vec::new(),
    })
}

fn bounds(
    len: usize,
    from: Option<i64>,
    to: Option<i64>,
    one: bool,
) -> Result<std::ops::Range<usize>, FindError> {
    let len = i64::try_from(len).unwrap_or(i64::MAX);
    let mut from = from.unwrap_or(0);
    if from < 0 {
        from += len;
    }
    let mut to = to.unwrap_or(len);
    if to < 0 || (to == 0 && one) {
        to += len;
    }
    if from == to {
        return Ok(0..0);
    }
    let outside = FindError("array index out of bounds");
    if from < 0 || from >= len || to < 0 || to > len {
        return Err(outside);
    }
    if from > to {
        return Err(FindError("starting index is greater than ending index"));
    }
    let index = |at| usize::try_from(at).map_err(|_| outside.clone());
    Ok(index(from)?..index(to)?)
}

fn passes(
    one: &Value,
    left: &[Step],
    operator: &str,
    right: &[Step],
    looks: &mut usize,
) -> Result<bool, FindError> {
    let lefts = walk(left, vec![Cow::Borrowed(one)], looks);
    if operator == "exists" {
        return Ok(lefts.is_ok_and(|lefts| !lefts.is_empty()));
    }
    let lefts = lefts?;
    let rights = walk(right, vec![Cow::Borrowed(one)], looks)?;
    let (left, right) = match (lefts.as_slice(), rights.as_slice()) {
        ([], _) | (_, []) => return Ok(false),
        ([left], [right]) => (left, right),
        _ => return Err(FindError("can only compare one element at a time")),
    };
    let order = compare(left, right)?;
    let ordered = || match **left {
        Value::Bool(_) => Err(FindError("invalid type for comparison")),
        _ => Ok(order),
    };
    Ok(match operator {
        "==" => order == Ordering::Equal,
        "!=" => order != Ordering::Equal,
        "<" => ordered()? == Ordering::Less,
        "<=" => ordered()? != Ordering::Greater,
        ">" => ordered()? == Ordering::Greater,
        ">=" => ordered()? != Ordering::Less,
        _ => return Err(FindError("unrecognized filter operator")),
    })
}

/// How two scalars of one type stand. Numbers are never NaN.
fn compare(left: &Value, right: &Value) -> Result<Ordering, FindError> {
    let incompatible = FindError("incompatible types for comparison");
    match (left, right) {
        (Value::String(a), Value::String(b)) => Ok(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Ok(a.cmp(b)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() == b.is_f64() => {
            Ok(match (a.as_i64(), b.as_i64()) {
                (Some(a), Some(b)) => a.cmp(&b),
                _ => a
                    .as_f64()
                    .partial_cmp(&b.as_f64())
                    .unwrap_or(Ordering::Equal),
            })
        }
        _ => Err(incompatible),
    }
}

/// A value as columns of text show it.
#[must_use]
pub fn shown(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Number(number) => shown_number(number),
        other => other.to_string(),
    }
}

/// A number in Go's shortest form.
fn shown_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    let size = float.abs();
    if size != 0.0 && !(1e-4..1e21).contains(&size) {
        let text = format!("{float:e}");
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
        let (sign, exponent) = match exponent.strip_prefix('-') {
            Some(exponent) => ('-', exponent),
            None => ('+', exponent),
        };
        return format!("{digits}e{sign}{exponent:0>2}");
    }
    float.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::json;

    use super::*;

    fn object() -> Value {
        json!({"spec": {"list": [{"name": "a", "n": 1}, {"name": "b", "n": 2, "on": true}, {"n": 3}],
                "labels": {"x.y/z": "dotted", "plain": "p"}, "half": 0.5, "nothing": null},
            "status": {"conditions": [{"type": "Synced", "status": "False"},
                {"type": "Ready", "status": "True"}]}})
    }

    fn all(path: &str) -> Result<Vec<Value>, FindError> {
        let object = object();
        let found = JsonPath::parse(path).unwrap().find(&object)?;
        Ok(found.into_iter().map(Cow::into_owned).collect())
    }

    #[test]
    fn paths_lead_where_they_say() {
        for (path, found) in [
            (".spec.half", json!([0.5])),
            ("$.spec.half", json!([0.5])),
            (".spec.absent.x", json!([])),
            (".spec.list[0].name", json!(["a"])),
            (".spec.list[-1].n", json!([3])),
            (".spec.list[*].n", json!([1, 2, 3])),
            (".spec.list[0:2].n", json!([1, 2])),
            (".spec.list[::2].n", json!([1, 3])),
            (".spec.list[1:].n", json!([2, 3])),
            (".spec.list[0,2].n", json!([1, 3])),
            (".spec.list[*]['name','n']", json!(["a", "b", 1, 2, 3])),
            (".spec.labels.*", json!(["p", "dotted"])),
            (".spec.labels.x\\.y/z", json!(["dotted"])),
            (".spec.labels['x\\.y/z']", json!(["dotted"])),
            ("['spec'].labels['plain']", json!(["p"])),
            (
                r#".status.conditions[?(@.type=="Ready")].status"#,
                json!(["True"]),
            ),
            (
                ".status.conditions[?(@.type=='Ready')].status",
                json!(["True"]),
            ),
            (
                ".status.conditions[?(@.type != \"Ready\")].type",
                json!(["Synced"]),
            ),
            (".spec.list[?(@.n>=2)].n", json!([2, 3])),
            (".spec.list[?(@.n<2)].n", json!([1])),
            (".spec.list[?(@.on==true)].n", json!([2])),
            (".spec.list[?(@.on)].n", json!([2])),
            (
                "..status",
                json!([
                {"conditions": [{"type": "Synced", "status": "False"}, {"type": "Ready", "status": "True"}]},
                "False", "True"]),
            ),
            (".spec..name", json!(["a", "b"])),
            (".spec.nothing", json!([null])),
        ] {
            assert_eq!(Value::Array(all(path).unwrap()), found, "{path}");
        }
        for (path, why) in [
            (".spec.list[3]", "array index out of bounds"),
            (".spec.half[0]", "is not array or slice"),
            (
                ".spec.half[?(@.a)]",
                "is not array or slice and cannot be filtered",
            ),
            (
                ".spec.list[?(@.n=='x')]",
                "incompatible types for comparison",
            ),
            (".spec.list[?(@.on<true)]", "invalid type for comparison"),
            (".spec.list[?(@.n=>1)]", "unrecognized filter operator"),
        ] {
            assert_eq!(all(path).unwrap_err().to_string(), why, "{path}");
        }
    }

    #[test]
    fn what_is_no_path_is_told() {
        for (path, why) in [
            (".spec[", "unterminated array"),
            (".spec[x]", "invalid array index x"),
            (".spec[?(@.x]", "unterminated filter"),
            (".spec[?(@.x)", "unclosed array expect ]"),
            (".spec....x", "invalid multiple recursive descent"),
            (".spec[\"x\"]", "invalid array index \"x\""),
            (".spec~x", ""),
            ("#", "unrecognized character in action: U+0023 '#'"),
            ("range .spec", "unrecognized identifier range"),
            ("'x", "unterminated quoted string"),
        ] {
            let parsed = JsonPath::parse(path).map_err(|error| error.to_string());
            match why {
                "" => assert!(parsed.is_ok(), "{path}"),
                why => assert_eq!(parsed.unwrap_err(), why, "{path}"),
            }
        }
    }

    #[test]
    fn what_is_hostile_ends() {
        let mut deep = json!(1);
        for _ in 0..100 {
            deep = json!([deep.clone(), deep]);
            if deep.to_string().len() > 100_000 {
                break;
            }
        }
        let path = JsonPath::parse(&"...*".repeat(40)).unwrap();
        assert_eq!(
            path.find(&deep).unwrap_err().to_string(),
            "the path leads to too much"
        );
        let nested = (0..10_000).fold("@.x".to_owned(), |inner, _| format!(".a\\'[?({inner})]'"));
        for text in [
            nested,
            "[?(".repeat(50_000),
            "[".repeat(50_000),
            "..a".repeat(50_000),
            "[a,".repeat(50_000),
        ] {
            let _ = JsonPath::parse(&text);
        }
    }

    #[test]
    fn numbers_are_shown_as_go_shows_them() {
        for (value, text) in [
            (json!(1.0), "1"),
            (json!(0.5), "0.5"),
            (json!(1e21), "1e+21"),
            (json!(1.5e-7), "1.5e-07"),
            (json!(7), "7"),
            (json!(null), "<no value>"),
            (json!({"a": [1]}), "{\"a\":[1]}"),
        ] {
            assert_eq!(shown(&value), text);
        }
    }
}
