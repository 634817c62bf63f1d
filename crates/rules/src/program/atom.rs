//! Checks, prepared: what can be looked up together with others, and what is decided alone.

use std::collections::HashSet;
use std::net::IpAddr;

use ipnet::IpNet;
use memchr::memmem::Finder;

use crate::condition::{Modifier, Operator};
use crate::constant::Constant;
use crate::event::{Event, Value, Values};
use crate::graph::{Atom, Mode, Test, counted, decide, number};
use crate::matcher::{Glob, Paths, Pattern};
use crate::subject::Subject;

/// With more constants than this, they are looked up in a table.
const FEW: usize = 8;

/// A check, prepared.
#[derive(Debug)]
pub(super) struct AtomPlan {
    pub(super) subject: u32,
    pub(super) mode: Mode,
    /// The outcome is turned round, for a value that is there.
    pub(super) negated: bool,
    pub(super) check: Check,
}

/// How a check is decided.
#[derive(Debug)]
pub(super) enum Check {
    Exists,
    /// One bit of what the index of the subject says.
    Equal(u32),
    Prefix(u32),
    Suffix(u32),
    Contains(u32),
    IContains(u32),
    /// Each value by itself.
    Each(Each),
    /// Each value with those of another subject.
    Other(Operator, u32),
}

/// How one value is decided.
#[derive(Debug)]
pub(super) enum Each {
    True,
    Number(i128),
    Numbers(Box<[i128]>),
    Bool(bool),
    Addresses(Box<[IpAddr]>),
    AddressTable(HashSet<IpAddr, foldhash::fast::FixedState>),
    Nets(Box<[IpNet]>),
    Find(Box<[Finder<'static>]>),
    Paths(Paths),
    Glob(Glob),
    Regex(Pattern),
    Not(Box<Each>),
    Count(Modifier, Box<[Each]>),
    /// As it is.
    Plain(Test),
}

impl Each {
    pub(super) fn new(test: &Test) -> Self {
        match test {
            Test::Exists => Self::True,
            Test::In(constants) => Self::one_of(constants),
            Test::Contains(texts) => {
                let finders = texts.iter().map(|text| Finder::new(text).into_owned());
                Self::Find(finders.collect())
            }
            Test::Paths(paths) => Self::Paths(Paths::new(paths.iter().map(|path| &**path))),
            Test::Glob(pattern, fold) => Self::Glob(Glob::new(pattern, *fold)),
            Test::Regex(pattern) => match Pattern::new(pattern) {
                Ok(pattern) => Self::Regex(pattern),
                // It was compiled when the rule was loaded.
                Err(_) => Self::Not(Box::new(Self::True)),
            },
            Test::Not(inner) => Self::Not(Box::new(Self::new(inner))),
            Test::Count(modifier, tests) => {
                Self::Count(*modifier, tests.iter().map(Self::new).collect())
            }
            plain => Self::Plain(plain.clone()),
        }
    }

    fn one_of(constants: &[Constant]) -> Self {
        fn all<T>(constants: &[Constant], pick: fn(&Constant) -> Option<T>) -> Option<Box<[T]>> {
            constants.iter().map(pick).collect()
        }
        let numbers = |constant: &Constant| match constant {
            Constant::Number(number) => Some(*number),
            _ => None,
        };
        let addresses = |constant: &Constant| match constant {
            Constant::Address(address) => Some(*address),
            _ => None,
        };
        let nets = |constant: &Constant| match constant {
            Constant::Net(net) => Some(*net),
            _ => None,
        };
        match constants {
            [] => return Self::Not(Box::new(Self::True)),
            [Constant::Number(number)] => return Self::Number(*number),
            [Constant::Bool(truth)] => return Self::Bool(*truth),
            _ => {}
        }
        if let Some(numbers) = all(constants, numbers) {
            Self::Numbers(numbers)
        } else if let Some(addresses) = all(constants, addresses) {
            if addresses.len() > FEW {
                Self::AddressTable(addresses.iter().copied().collect())
            } else {
                Self::Addresses(addresses)
            }
        } else if let Some(nets) = all(constants, nets) {
            Self::Nets(nets)
        } else {
            Self::Plain(Test::In(constants.into()))
        }
    }

    pub(super) fn passes(&self, value: &Value<'_>, values: &Values<'_>) -> bool {
        let text = || values.bytes(value).unwrap_or_default();
        match self {
            Self::True => true,
            Self::Number(wanted) => match value {
                Value::Double(_) => {
                    Test::In(Box::new([Constant::Number(*wanted)])).passes(value, values)
                }
                _ => number(value) == Some(*wanted),
            },
            Self::Numbers(wanted) => {
                number(value).is_some_and(|number| wanted.binary_search(&number).is_ok())
            }
            Self::Bool(wanted) => number(value).map(|number| number != 0) == Some(*wanted),
            Self::Addresses(wanted) => match value {
                Value::Address(address) => wanted.contains(address),
                _ => false,
            },
            Self::AddressTable(wanted) => match value {
                Value::Address(address) => wanted.contains(address),
                _ => false,
            },
            Self::Nets(nets) => match value {
                Value::Address(address) => nets.iter().any(|net| net.contains(address)),
                _ => false,
            },
            Self::Find(finders) => {
                let text = text();
                finders.iter().any(|finder| finder.find(text).is_some())
            }
            Self::Paths(paths) => paths.matches(text()),
            Self::Glob(glob) => glob.matches(text()),
            Self::Regex(pattern) => pattern.matches(text()),
            Self::Not(inner) => !inner.passes(value, values),
            Self::Count(modifier, tests) => {
                counted(*modifier, tests.len(), |at| tests[at].passes(value, values))
            }
            Self::Plain(test) => test.passes(value, values),
        }
    }
}

/// Whether as many of the values pass as the mode asks for.
pub(super) fn by_mode(
    mode: Mode,
    values: &[Value<'_>],
    mut passes: impl FnMut(&Value<'_>) -> bool,
) -> bool {
    match mode {
        Mode::One => values.first().is_some_and(passes),
        Mode::Some => values.iter().any(passes),
        Mode::Every => values.iter().all(&mut passes),
    }
}

/// Whether values compare so with those of another subject.
pub(super) fn others(
    mode: Mode,
    operator: Operator,
    left: &[Value<'_>],
    right: &[Value<'_>],
    values: &Values<'_>,
) -> bool {
    let against = if mode == Mode::One {
        &right[..right.len().min(1)]
    } else {
        right
    };
    by_mode(mode, left, |value| {
        against
            .iter()
            .any(|other| decide(operator, value, other, values))
    })
}

/// Whether a check holds for an event, the plain way.
pub(crate) fn holds(subjects: &[Subject], atom: &Atom, event: &(impl Event + ?Sized)) -> bool {
    let mut values = Values::new();
    let subject = &subjects[atom.subject.0 as usize];
    let Some(range) = subject.extract(event, &mut values) else {
        return false;
    };
    if atom.test == Test::Exists {
        return true;
    }
    if let Test::Other(operator, other) = &atom.test {
        let other = &subjects[other.0 as usize];
        let Some(others_range) = other.extract(event, &mut values) else {
            return false;
        };
        let (left, right) = (&values.items[range], &values.items[others_range]);
        return others(atom.mode, *operator, left, right, &values);
    }
    by_mode(atom.mode, &values.items[range], |value| {
        atom.test.passes(value, &values)
    })
}
