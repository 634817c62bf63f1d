//! Semantic versions.

use std::cmp::Ordering;

use super::{Table, fail, no_overload};
use crate::eval::Context;
use crate::extension::Extension;
use crate::value::{Evaluated, Value};

pub(crate) const TABLE: Table = &[
    ("semver", semver),
    ("isSemver", is_semver),
    ("major", major),
    ("minor", minor),
    ("patch", patch),
];

/// A version. Two are equal by their precedence; what was built is no part of it.
#[derive(Debug, Clone)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
}

impl PartialEq for Semver {
    fn eq(&self, other: &Self) -> bool {
        self.precedence(other).is_eq()
    }
}

impl Semver {
    /// Parses `1.2.3-pre+build`.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err("Version string empty");
        }
        let (text, build) = match text.split_once('+') {
            Some((text, build)) => (text, Some(build)),
            None => (text, None),
        };
        let (core, pre) = match text.split_once('-') {
            Some((core, pre)) => (core, Some(pre)),
            None => (text, None),
        };
        let parts: Vec<&str> = core.split('.').collect();
        let [major, minor, patch] = parts.as_slice() else {
            return Err("No Major.Minor.Patch elements found");
        };
        let number = |text: &str| {
            if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err("Invalid character(s) found in version");
            }
            if text.len() > 1 && text.starts_with('0') {
                return Err("Version must not contain leading zeroes");
            }
            text.parse::<u64>().map_err(|_| "value out of range")
        };
        let well_formed = |word: &&str| {
            !word.is_empty()
                && word
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        };
        let pre: Vec<&str> = pre.map(|pre| pre.split('.').collect()).unwrap_or_default();
        let build: Vec<&str> = build
            .map(|build| build.split('.').collect())
            .unwrap_or_default();
        if !pre.iter().chain(&build).all(well_formed) {
            return Err("Invalid character(s) found in prerelease or build metadata");
        }
        let zero_led = |word: &&&str| {
            word.len() > 1
                && word.starts_with('0')
                && word.bytes().all(|byte| byte.is_ascii_digit())
        };
        if pre.iter().any(|word| zero_led(&word)) {
            return Err("Numeric PreRelease version must not contain leading zeroes");
        }
        Ok(Self {
            numbers: [number(major)?, number(minor)?, number(patch)?],
            pre: pre.into_iter().map(str::to_owned).collect(),
        })
    }

    /// The order of versions.
    pub(crate) fn precedence(&self, other: &Self) -> Ordering {
        self.numbers.cmp(&other.numbers).then_with(|| {
            match (self.pre.is_empty(), other.pre.is_empty()) {
                (true, true) => Ordering::Equal,
                (true, false) => Ordering::Greater,
                (false, true) => Ordering::Less,
                (false, false) => {
                    let each = self
                        .pre
                        .iter()
                        .zip(&other.pre)
                        .map(|(a, b)| identifiers(a, b));
                    each.fold(Ordering::Equal, Ordering::then)
                        .then(self.pre.len().cmp(&other.pre.len()))
                }
            }
        })
    }
}

fn identifiers(one: &str, other: &str) -> Ordering {
    match (one.parse::<u64>(), other.parse::<u64>()) {
        (Ok(one), Ok(other)) => one.cmp(&other),
        (Ok(_), Err(_)) => Ordering::Less,
        (Err(_), Ok(_)) => Ordering::Greater,
        (Err(_), Err(_)) => one.cmp(other),
    }
}

/// `v1.02` as `1.2.0`.
fn normalized(text: &str) -> String {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text.splitn(3, '.').map(str::to_owned).collect();
    for part in &mut parts {
        if part.len() > 1 {
            let trimmed = part.trim_start_matches('0');
            let digit = trimmed.starts_with(|char: char| char.is_ascii_digit());
            *part = if digit {
                trimmed.to_owned()
            } else {
                format!("0{trimmed}")
            };
        }
    }
    let suffixed = parts.last().is_some_and(|last| last.contains(['+', '-']));
    while parts.len() < 3 && !suffixed {
        parts.push("0".to_owned());
    }
    parts.join(".")
}

fn parse(args: &[Value<'_>]) -> Option<Result<Semver, &'static str>> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => {
            Some(Semver::parse(text))
        }
        [Value::String(text), Value::Bool(true)] => Some(Semver::parse(&normalized(text))),
        _ => None,
    }
}

fn semver<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match parse(args) {
        Some(Ok(version)) => Ok(Value::extension(Extension::Semver(version))),
        Some(Err(why)) => fail(why),
        None => no_overload(),
    }
}

fn is_semver<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    match parse(args) {
        Some(parsed) => Ok(Value::Bool(parsed.is_ok())),
        None => no_overload(),
    }
}

fn number<'a>(args: &[Value<'a>], index: usize) -> Evaluated<'a> {
    let [Value::Extension(extension)] = args else {
        return no_overload();
    };
    match &**extension {
        Extension::Semver(version) => {
            let number = version.numbers.get(index).copied().unwrap_or_default();
            Ok(Value::Int(i64::try_from(number).unwrap_or(i64::MAX)))
        }
        _ => no_overload(),
    }
}

fn major<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    number(args, 0)
}

fn minor<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    number(args, 1)
}

fn patch<'a>(_: &mut Context<'a>, args: &[Value<'a>]) -> Evaluated<'a> {
    number(args, 2)
}
