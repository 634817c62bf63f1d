//! Functions of lists, sets among them.

use std::cmp::Ordering;

use super::{Table, fail, int, no_overload};
use crate::equality::{contains, order};
use crate::error::EvalError;
use crate::eval::Context;
use crate::functions::arithmetic;
use crate::value::{Evaluated, List, Value};

pub(crate) const TABLE: Table = &[
    ("isSorted", is_sorted),
    ("sum", sum),
    ("max", max),
    ("min", min),
    ("slice", slice),
    ("flatten", flatten),
    ("sort", sort),
    ("@sortByAssociatedKeys", sort_by),
    ("lists.range", range),
    ("reverse", reverse),
    ("distinct", distinct),
    ("sets.contains", sets_contains),
    ("sets.equivalent", sets_equivalent),
    ("sets.intersects", sets_intersects),
];

/// The first or last place of a value in a list.
pub(super) fn position<'a>(
    context: &mut Context<'a>,
    list: &List<'a>,
    wanted: &Value<'a>,
    last: bool,
) -> Evaluated<'a> {
    let mut found = None;
    for (index, item) in list.iter().enumerate() {
        if context.equal(&item?, wanted)? {
            found = Some(index);
            if !last {
                break;
            }
        }
    }
    Ok(found.map_or(Value::Int(-1), int))
}

fn items<'a>(list: &List<'a>) -> Result<Vec<Value<'a>>, EvalError> {
    list.iter().collect()
}

fn is_sorted<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut previous: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        if let Some(previous) = &previous
            && order(previous, &item)? == Ordering::Greater
        {
            return Ok(Value::Bool(false));
        }
        previous = Some(item);
    }
    Ok(Value::Bool(true))
}

fn sum<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut total: Option<Value<'a>> = None;
    let (_, add) = arithmetic::TABLE[0];
    for item in list.iter() {
        let item = item?;
        if !matches!(
            item,
            Value::Int(_) | Value::Uint(_) | Value::Double(_) | Value::Duration(_)
        ) {
            return no_overload();
        }
        total = Some(match total {
            None => item,
            Some(total) => add(context, &[total, item])?,
        });
    }
    Ok(total.unwrap_or(Value::Int(0)))
}

fn extreme<'a>(args: &[Value<'a>], name: &str, wanted: Ordering) -> Evaluated<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut found: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        let better = match &found {
            None => true,
            Some(found) => order(&item, found)? == wanted,
        };
        if better {
            found = Some(item);
        }
    }
    found.ok_or_else(|| EvalError::failed(format!("{name} called on empty list")))
}

fn max<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    extreme(args, "max", Ordering::Greater)
}

fn min<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    extreme(args, "min", Ordering::Less)
}

fn slice<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else {
        return no_overload();
    };
    let what = format!("cannot slice({start}, {end})");
    let (Ok(first), Ok(last)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return fail(format!("{what}, negative indexes not supported"));
    };
    if first > last {
        return fail(format!(
            "{what}, start index must be less than or equal to end index"
        ));
    }
    if list.len() < last {
        return fail(format!("{what}, list is length {}", list.len()));
    }
    let part = list
        .iter()
        .skip(first)
        .take(last - first)
        .collect::<Result<_, _>>()?;
    Ok(Value::built_list(part))
}

fn flatten<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return no_overload(),
    };
    let Ok(depth) = usize::try_from(depth) else {
        return fail("level must be non-negative");
    };
    let mut flat = Vec::new();
    flatten_into(context, &mut flat, list, depth.min(api::MAX_DEPTH))?;
    Ok(Value::built_list(flat))
}

fn flatten_into<'a>(
    context: &mut Context<'a>,
    flat: &mut Vec<Value<'a>>,
    list: &List<'a>,
    depth: usize,
) -> Result<(), EvalError> {
    context.copies(list.len())?;
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(context, flat, &inner, depth - 1)?,
            item => flat.push(item),
        }
    }
    Ok(())
}

/// Sorts by keys; the first thing that cannot be ordered fails it.
fn sorted<'a>(mut pairs: Vec<(Value<'a>, Value<'a>)>) -> Evaluated<'a> {
    let mut fault = None;
    let first = pairs.first().map(|(key, _)| key.ty());
    if pairs.iter().any(|(key, _)| Some(key.ty()) != first) {
        return fail("list elements must have the same type");
    }
    pairs.sort_by(|(one, _), (other, _)| {
        order(one, other).unwrap_or_else(|error| {
            fault.get_or_insert(error);
            Ordering::Equal
        })
    });
    match fault {
        Some(fault) => Err(fault),
        None => Ok(Value::built_list(
            pairs.into_iter().map(|(_, value)| value).collect(),
        )),
    }
}

fn sort<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::List(list)] => sorted(
            items(list)?
                .into_iter()
                .map(|item| (item.clone(), item))
                .collect(),
        ),
        _ => no_overload(),
    }
}

fn sort_by<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::List(list), Value::List(keys)] if list.len() == keys.len() => {
            sorted(items(keys)?.into_iter().zip(items(list)?).collect())
        }
        _ => no_overload(),
    }
}

fn range<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::Int(end)] = args else {
        return no_overload();
    };
    let count = u64::try_from(*end).unwrap_or(0);
    if count > context.remaining() {
        return Err(EvalError::CostExceeded);
    }
    Ok(Value::built_list((0..*end).map(Value::Int).collect()))
}

fn reverse<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    context.copies(list.len())?;
    let mut all = items(list)?;
    all.reverse();
    Ok(Value::built_list(all))
}

fn distinct<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(list)] = args else {
        return no_overload();
    };
    let mut unique: Vec<Value<'a>> = Vec::new();
    for item in list.iter() {
        let item = item?;
        let mut seen = false;
        for known in &unique {
            if context.equal(known, &item)? {
                seen = true;
                break;
            }
        }
        if !seen {
            unique.push(item);
        }
    }
    Ok(Value::built_list(unique))
}

fn has_all<'a>(
    context: &mut Context<'a>,
    list: &List<'a>,
    wanted: &List<'a>,
) -> Result<bool, EvalError> {
    for item in wanted.iter() {
        if !contains(context, list, &item?)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn sets_contains<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::List(list), Value::List(part)] => Ok(Value::Bool(has_all(context, list, part)?)),
        _ => no_overload(),
    }
}

fn sets_equivalent<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::List(one), Value::List(other)] => {
            let same = has_all(context, one, other)? && has_all(context, other, one)?;
            Ok(Value::Bool(same))
        }
        _ => no_overload(),
    }
}

fn sets_intersects<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let [Value::List(one), Value::List(other)] = args else {
        return no_overload();
    };
    for item in one.iter() {
        if contains(context, other, &item?)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}
