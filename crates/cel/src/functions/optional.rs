//! Functions of optionals, and those that return them.

use super::{Table, fail, no_overload};
use crate::eval::Context;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("optional.of", of),
    ("optional.ofNonZeroValue", of_non_zero),
    ("optional.none", none),
    ("value", value),
    ("hasValue", has_value),
    ("first", first),
    ("last", last),
    ("optional.unwrap", unwrap),
    ("unwrapOpt", unwrap),
];

fn of<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [value] => Ok(Value::some(value.clone())),
        _ => no_overload(),
    }
}

fn of_non_zero<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [value] = args else {
        return no_overload();
    };
    let zero = match value {
        Value::Null | Value::Bool(false) | Value::Int(0) | Value::Uint(0) | Value::Duration(0) => {
            true
        }
        Value::Double(number) => *number == 0.0,
        Value::String(text) => text.is_empty(),
        Value::Bytes(bytes) => bytes.is_empty(),
        Value::List(list) => list.is_empty(),
        Value::Map(map) => map.is_empty(),
        _ => false,
    };
    Ok(if zero {
        Value::Optional(None)
    } else {
        Value::some(value.clone())
    })
}

fn none<'a>(_: &mut Context<'a>, _: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Optional(None))
}

fn value<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Optional(Some(value))] => Ok((**value).clone()),
        [Value::Optional(None)] => fail("optional.none() dereference"),
        _ => no_overload(),
    }
}

fn has_value<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Optional(value)] => Ok(Value::Bool(value.is_some())),
        _ => no_overload(),
    }
}

fn first<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::List(list)] => {
            let found = list.get(0).transpose()?;
            Ok(found.map_or(Value::Optional(None), Value::some))
        }
        _ => no_overload(),
    }
}

fn last<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::List(list)] => {
            let found = list.get(list.len().wrapping_sub(1)).transpose()?;
            Ok(found.map_or(Value::Optional(None), Value::some))
        }
        _ => no_overload(),
    }
}

fn unwrap<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut values = Vec::new();
    for item in list.iter() {
        match item? {
            Value::Optional(value) => values.extend(value.map(|value| (*value).clone())),
            _ => return no_overload(),
        }
    }
    Ok(Value::built_list(values))
}
