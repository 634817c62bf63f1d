//! Numbers across types: conversion without wrapping, comparison without rounding.
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "every cast from a double stands behind a check of its range"
)]

use std::cmp::Ordering;

use crate::error::EvalError;
use crate::value::Value;

const TWO_63: f64 = 9_223_372_036_854_775_808.0;
const TWO_64: f64 = 18_446_744_073_709_551_616.0;

/// What a sum is that does not fit.
pub(crate) fn overflow() -> EvalError {
    EvalError::failed("integer overflow")
}

/// The same of an unsigned one.
pub(crate) fn unsigned_overflow() -> EvalError {
    EvalError::failed("unsigned integer overflow")
}

pub(crate) fn double_to_int(value: f64) -> Result<i64, EvalError> {
    if value.is_nan() || value <= -TWO_63 || value >= TWO_63 {
        return Err(overflow());
    }
    Ok(value as i64)
}

pub(crate) fn double_to_uint(value: f64) -> Result<u64, EvalError> {
    if !(0.0..TWO_64).contains(&value) {
        return Err(unsigned_overflow());
    }
    Ok(value as u64)
}

/// The integer that a double is.
pub(crate) fn whole(value: f64) -> Option<i128> {
    (value.fract() == 0.0 && value.abs() <= TWO_64).then_some(value as i128)
}

/// `value` times `factor`, rounded up, at most all that fits.
pub(crate) fn scaled(value: u64, factor: f64) -> u64 {
    let product = (value as f64 * factor).ceil();
    if product >= TWO_64 {
        u64::MAX
    } else {
        product as u64
    }
}

/// The same, rounded down.
pub(crate) fn scaled_down(value: u64, factor: f64) -> u64 {
    let product = value as f64 * factor;
    if product >= TWO_64 {
        u64::MAX
    } else {
        product as u64
    }
}

fn int_with_double(int: i128, double: f64) -> Ordering {
    if double >= TWO_64 {
        return Ordering::Less;
    }
    if double <= -TWO_64 {
        return Ordering::Greater;
    }
    let floor = double.floor();
    match int.cmp(&(floor as i128)) {
        Ordering::Equal if double > floor => Ordering::Less,
        order => order,
    }
}

/// The order of two numbers; none when one is no number, or NaN.
pub(crate) fn compare(one: &Value<'_>, other: &Value<'_>) -> Option<Ordering> {
    let integer = |value: &Value<'_>| match value {
        Value::Int(value) => Some(i128::from(*value)),
        Value::Uint(value) => Some(i128::from(*value)),
        _ => None,
    };
    match (one, other) {
        (Value::Double(one), Value::Double(other)) => one.partial_cmp(other),
        (Value::Double(one), other) if !one.is_nan() => {
            Some(int_with_double(integer(other)?, *one).reverse())
        }
        (one, Value::Double(other)) if !other.is_nan() => {
            Some(int_with_double(integer(one)?, *other))
        }
        (one, other) => Some(integer(one)?.cmp(&integer(other)?)),
    }
}
