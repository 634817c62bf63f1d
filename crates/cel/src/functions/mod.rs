//! What functions do, a file for each library.
//!
//! Invariant: a function looks at what it is given, since `dyn` hides types from the checker.

pub(crate) mod arithmetic;
pub(crate) mod authorizer;
pub(crate) mod convert;
pub(crate) mod format;
pub(crate) mod formats;
pub(crate) mod lists;
pub(crate) mod net;
pub(crate) mod optional;
pub(crate) mod quantity;
pub(crate) mod regex;
pub(crate) mod semver;
pub(crate) mod strings;
pub(crate) mod time;
pub(crate) mod url;

use crate::error::EvalError;
use crate::eval::Context;
use crate::value::{Evaluated, Value};

/// A function's body.
pub(crate) type Function = for<'a> fn(&mut Context<'a>, &[Value<'a>]) -> Evaluated<'a>;

/// One library's functions by name.
pub(crate) type Table = &'static [(&'static str, Function)];

const TABLES: &[Table] = &[
    arithmetic::TABLE,
    convert::TABLE,
    time::TABLE,
    strings::TABLE,
    lists::TABLE,
    optional::TABLE,
    regex::TABLE,
    url::TABLE,
    net::TABLE,
    quantity::TABLE,
    semver::TABLE,
    formats::TABLE,
    authorizer::TABLE,
];

/// The function of this name.
pub(crate) fn lookup(name: &str) -> Option<(&'static str, Function)> {
    TABLES
        .iter()
        .flat_map(|table| table.iter())
        .find(|(known, _)| *known == name)
        .map(|(name, function)| (*name, *function))
}

/// No function takes these arguments.
pub(crate) fn no_overload<T>() -> Result<T, EvalError> {
    Err(EvalError::NoSuchOverload)
}

pub(crate) fn fail<T>(message: impl Into<String>) -> Result<T, EvalError> {
    Err(EvalError::failed(message))
}

/// A size as an `int`.
pub(crate) fn int<'a>(size: usize) -> Value<'a> {
    Value::Int(i64::try_from(size).unwrap_or(i64::MAX))
}

/// The most bytes of a string that a function makes; reading it would exhaust every budget.
pub(crate) const LONGEST_TEXT: usize = 16 << 20;

/// Refuses to make a text that is too long.
pub(crate) fn affordable(bytes: usize) -> Result<(), EvalError> {
    if bytes > LONGEST_TEXT {
        return Err(EvalError::CostExceeded);
    }
    Ok(())
}
