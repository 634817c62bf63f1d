//! Patterns, in RE2's syntax.
//!
//! Invariant: matching is linear; a pattern is compiled once an evaluation, and to a bounded size.

use std::collections::HashMap;

use regex::{Regex, RegexBuilder};

use super::{Table, fail, no_overload};
use crate::error::EvalError;
use crate::eval::Context;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[("matches", matches), ("find", find), ("findAll", find_all)];

/// The largest compiled pattern, in bytes.
const LARGEST: usize = 1 << 20;
/// Different patterns that one evaluation may compile.
const MOST_PATTERNS: usize = 1_000;

/// The patterns of an evaluation.
#[derive(Default)]
pub(crate) struct Patterns(HashMap<String, Regex>);

/// Compiles a pattern.
pub(crate) fn compile(pattern: &str) -> Result<Regex, EvalError> {
    RegexBuilder::new(&ascii_classes(pattern))
        .size_limit(LARGEST)
        .nest_limit(250)
        .build()
        .map_err(|_| {
            EvalError::failed(format!(
                "error parsing regexp: invalid pattern: `{pattern}`"
            ))
        })
}

/// RE2's short classes know ASCII only.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(char) = chars.next() {
        if char != '\\' {
            out.push(char);
            continue;
        }
        match chars.next() {
            Some('d') => out.push_str("[0-9]"),
            Some('D') => out.push_str("[^0-9]"),
            Some('w') => out.push_str("[0-9A-Za-z_]"),
            Some('W') => out.push_str("[^0-9A-Za-z_]"),
            Some('s') => out.push_str("[\\t\\n\\f\\r ]"),
            Some('S') => out.push_str("[^\\t\\n\\f\\r ]"),
            Some('b') => out.push_str("(?-u:\\b)"),
            Some('B') => out.push_str("(?-u:\\B)"),
            Some(other) => {
                out.push('\\');
                out.push(other);
            }
            None => out.push('\\'),
        }
    }
    out
}

fn pattern(context: &mut Context<'_>, text: &str) -> Result<Regex, EvalError> {
    if let Some(known) = context.patterns.0.get(text) {
        return Ok(known.clone());
    }
    if context.patterns.0.len() >= MOST_PATTERNS {
        return Err(EvalError::CostExceeded);
    }
    let compiled = compile(text)?;
    context.patterns.0.insert(text.to_owned(), compiled.clone());
    Ok(compiled)
}

fn matches<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text), Value::String(wanted)] => {
            Ok(Value::Bool(pattern(context, wanted)?.is_match(text)))
        }
        _ => no_overload(),
    }
}

fn find<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match args {
        [Value::String(text), Value::String(wanted)] => {
            let found = pattern(context, wanted)?
                .find(text)
                .map(|found| found.as_str());
            Ok(Value::made(found.unwrap_or_default()))
        }
        _ => no_overload(),
    }
}

fn find_all<'a>(context: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    let (text, wanted, most) = match args {
        [Value::String(text), Value::String(wanted)] => (text, wanted, -1),
        [Value::String(text), Value::String(wanted), Value::Int(most)] => (text, wanted, *most),
        _ => return no_overload(),
    };
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let compiled = match pattern(context, wanted) {
        Ok(compiled) => compiled,
        Err(EvalError::Failed(message)) => return fail(message),
        Err(error) => return Err(error),
    };
    let found = compiled
        .find_iter(text)
        .take(most)
        .map(|found| Value::made(found.as_str()));
    Ok(Value::built_list(found.collect()))
}
