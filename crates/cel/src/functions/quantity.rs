//! Resource quantities, and the comparisons that versions share with them.

use std::cmp::Ordering;

use api::quantity::{Format, Quantity};

use super::{Table, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Context;
use crate::extension::Extension;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("quantity", quantity),
    ("isQuantity", is_quantity),
    ("sign", sign),
    ("asInteger", as_integer),
    ("isInteger", is_integer),
    ("asApproximateFloat", as_float),
    ("isGreaterThan", is_greater_than),
    ("isLessThan", is_less_than),
    ("compareTo", compare_to),
    ("add", add),
    ("sub", sub),
];

fn amount(value: &Value<'_>) -> Option<Quantity> {
    match value {
        Value::Extension(extension) => match **extension {
            Extension::Quantity(amount) => Some(amount),
            _ => None,
        },
        _ => None,
    }
}

fn first(args: &[Value<'_>]) -> Result<Quantity, EvalError> {
    args.first()
        .and_then(amount)
        .ok_or(EvalError::NoSuchOverload)
}

fn quantity<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => match Quantity::parse(text) {
            Ok(amount) => Ok(Value::extension(Extension::Quantity(amount))),
            Err(fault) => fail(fault.to_string()),
        },
        _ => no_overload(),
    }
}

fn is_quantity<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text)] => Ok(Value::Bool(Quantity::parse(text).is_ok())),
        _ => no_overload(),
    }
}

fn sign<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let amount = first(args)?;
    Ok(Value::Int(if amount.is_zero() {
        0
    } else if amount.is_negative() {
        -1
    } else {
        1
    }))
}

fn whole(amount: Quantity) -> Option<i64> {
    let units = amount.as_bytes();
    (amount.is_whole() && Quantity::new(units, Format::DecimalSI) == amount).then_some(units)
}

fn as_integer<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match whole(first(args)?) {
        Some(units) => Ok(Value::Int(units)),
        None => fail("cannot convert value to integer"),
    }
}

fn is_integer<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Bool(whole(first(args)?).is_some()))
}

fn as_float<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Double(first(args)?.as_f64()))
}

fn compared(args: &[Value<'_>]) -> Result<Ordering, EvalError> {
    let [Value::Extension(one), Value::Extension(other)] = args else {
        return no_overload();
    };
    match (&**one, &**other) {
        (Extension::Quantity(one), Extension::Quantity(other)) => Ok(one.cmp(other)),
        (Extension::Semver(one), Extension::Semver(other)) => Ok(one.precedence(other)),
        _ => no_overload(),
    }
}

fn is_greater_than<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Bool(compared(args)?.is_gt()))
}

fn is_less_than<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Bool(compared(args)?.is_lt()))
}

fn compare_to<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::Int(match compared(args)? {
        Ordering::Less => -1,
        Ordering::Equal => 0,
        Ordering::Greater => 1,
    }))
}

fn second(args: &[Value<'_>]) -> Result<Quantity, EvalError> {
    match args.get(1) {
        Some(Value::Int(units)) => Ok(Quantity::new(*units, Format::DecimalSI)),
        Some(value) => amount(value).ok_or(EvalError::NoSuchOverload),
        None => no_overload(),
    }
}

fn add<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::extension(Extension::Quantity(
        first(args)?.add(second(args)?),
    )))
}

fn sub<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    Ok(Value::extension(Extension::Quantity(
        first(args)?.sub(second(args)?),
    )))
}
