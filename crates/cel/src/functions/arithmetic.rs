//! Operators.

use std::cmp::Ordering;
use std::rc::Rc;

use super::{Table, affordable, fail, int, no_overload};
use crate::decl::ListKind;
use crate::equality::{contains, find, order};
use crate::error::EvalError;
use crate::eval::Context;
use crate::functions::time;
use crate::number::{overflow, unsigned_overflow};
use crate::value::{Evaluated, List, Value};

pub(crate) const TABLE: Table = &[
    ("_+_", add),
    ("_-_", subtract),
    ("_*_", multiply),
    ("_/_", divide),
    ("_%_", modulo),
    ("-_", negate),
    ("!_", not),
    ("_==_", equals),
    ("_!=_", not_equals),
    ("_<_", less),
    ("_<=_", less_equals),
    ("_>_", greater),
    ("_>=_", greater_equals),
    ("@in", is_in),
    ("size", size),
];

fn add<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_add(*b).ok_or_else(overflow)?),
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_add(*b).ok_or_else(unsigned_overflow)?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a + b),
        [Value::String(a), Value::String(b)] => {
            affordable(a.len() + b.len())?;
            Value::made(format!("{}{}", &**a, &**b))
        }
        [Value::Bytes(a), Value::Bytes(b)] => {
            affordable(a.len() + b.len())?;
            Value::Bytes([&**a, &**b].concat().into())
        }
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_add(*b).ok_or_else(overflow)?)
        }
        [Value::Timestamp(at), Value::Duration(by)]
        | [Value::Duration(by), Value::Timestamp(at)] => Value::Timestamp(time::shifted(*at, *by)?),
        [Value::List(a), Value::List(b)] => return add_lists(context, a, b),
        _ => return no_overload(),
    })
}

fn add_lists<'a>(context: &mut Context<'a>, one: &List<'a>, other: &List<'a>) -> Evaluated<'a> {
    context.copies(one.len() + other.len())?;
    let mut items = one.iter().collect::<Result<Vec<_>, _>>()?;
    match one.kind().clone() {
        ListKind::Atomic => items.extend(other.iter().collect::<Result<Vec<_>, _>>()?),
        ListKind::Set => {
            for item in other.iter() {
                let item = item?;
                if !contains(context, one, &item)? {
                    items.push(item);
                }
            }
        }
        ListKind::Map(keys) => {
            for item in other.iter() {
                let item = item?;
                let so_far = List::Built(Rc::new(items));
                let mut place = None;
                if let Some(found) = find(context, &so_far, &item, &keys)? {
                    for (index, known) in so_far.iter().enumerate() {
                        if context.equal(&known?, &found)? {
                            place = Some(index);
                            break;
                        }
                    }
                }
                items = match so_far {
                    List::Built(items) => Rc::unwrap_or_clone(items),
                    List::Json(..) => Vec::new(),
                };
                match place.and_then(|place| items.get_mut(place)) {
                    Some(known) => *known = item,
                    None => items.push(item),
                }
            }
        }
    }
    Ok(Value::built_list(items))
}

fn subtract<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_sub(*b).ok_or_else(overflow)?),
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_sub(*b).ok_or_else(unsigned_overflow)?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a - b),
        [Value::Duration(a), Value::Duration(b)] => {
            Value::Duration(a.checked_sub(*b).ok_or_else(overflow)?)
        }
        [Value::Timestamp(a), Value::Timestamp(b)] => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            Value::Duration(i64::try_from(nanos).map_err(|_| overflow())?)
        }
        [Value::Timestamp(at), Value::Duration(by)] => {
            Value::Timestamp(time::shifted(*at, by.checked_neg().ok_or_else(overflow)?)?)
        }
        _ => return no_overload(),
    })
}

fn multiply<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(match args {
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_mul(*b).ok_or_else(overflow)?),
        [Value::Uint(a), Value::Uint(b)] => {
            Value::Uint(a.checked_mul(*b).ok_or_else(unsigned_overflow)?)
        }
        [Value::Double(a), Value::Double(b)] => Value::Double(a * b),
        _ => return no_overload(),
    })
}

fn divide<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            return fail("division by zero");
        }
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_div(*b).ok_or_else(overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a / b),
        [Value::Double(a), Value::Double(b)] => Value::Double(a / b),
        _ => return no_overload(),
    })
}

fn modulo<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(match args {
        [Value::Int(_), Value::Int(0)] | [Value::Uint(_), Value::Uint(0)] => {
            return fail("modulus by zero");
        }
        [Value::Int(a), Value::Int(b)] => Value::Int(a.checked_rem(*b).ok_or_else(overflow)?),
        [Value::Uint(a), Value::Uint(b)] => Value::Uint(a % b),
        _ => return no_overload(),
    })
}

fn negate<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(match args {
        [Value::Int(a)] => Value::Int(a.checked_neg().ok_or_else(overflow)?),
        [Value::Double(a)] => Value::Double(-a),
        _ => return no_overload(),
    })
}

fn not<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::Bool(value)] => Ok(Value::Bool(!value)),
        _ => no_overload(),
    }
}

fn equals<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [one, other] => Ok(Value::Bool(context.equal(one, other)?)),
        _ => no_overload(),
    }
}

fn not_equals<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [one, other] => Ok(Value::Bool(!context.equal(one, other)?)),
        _ => no_overload(),
    }
}

fn compared<'a>(args: &[Value<'a>], holds: fn(Ordering) -> bool) -> Evaluated<'a> {
    match args {
        [one, other] => Ok(Value::Bool(holds(order(one, other)?))),
        _ => no_overload(),
    }
}

fn less<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    compared(args, Ordering::is_lt)
}

fn less_equals<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    compared(args, Ordering::is_le)
}

fn greater<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    compared(args, Ordering::is_gt)
}

fn greater_equals<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    compared(args, Ordering::is_ge)
}

fn is_in<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [wanted, Value::List(list)] => Ok(Value::Bool(contains(context, list, wanted)?)),
        [wanted, Value::Map(map)] => {
            let found = wanted.key().is_some_and(|key| map.get(&key).is_some());
            Ok(Value::Bool(found))
        }
        _ => no_overload(),
    }
}

fn size<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(int(text.chars().count())),
        [Value::Bytes(bytes)] => Ok(int(bytes.len())),
        [Value::List(list)] => Ok(int(list.len())),
        [Value::Map(map)] => Ok(int(map.len())),
        _ => Err(EvalError::NoSuchOverload),
    }
}
