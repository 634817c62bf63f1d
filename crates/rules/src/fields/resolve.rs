//! From the text of a field, argument included, to the field that it means.
//!
//! Invariant: what Falco's libraries refuse is refused with their message.

use thiserror::Error;

use super::flag::{ANY, LIST, PAIR};
use super::{Field, FieldId, Source, Type, find};
use crate::events;
use crate::number;

/// The argument of a field.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Argument {
    /// There is none.
    None,
    /// A number, such as the level of an ancestor.
    Index(i64),
    /// A key, such as the name of a variable.
    Key(Box<str>),
}

/// A field with its argument, as a condition or an output names it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct FieldRef {
    /// The field.
    pub id: FieldId,
    /// Its argument.
    pub argument: Argument,
    /// The type of its values.
    pub kind: Type,
}

/// How a condition deals with more values than one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Several {
    /// There is one.
    One,
    /// A list, for `in`, `intersects` and `exists`.
    List,
    /// One that matches suffices.
    Any,
    /// One that matches suffices, except that none may be equal for `!=`.
    Pair,
}

impl FieldRef {
    /// What is known of the field.
    pub fn info(&self) -> &'static Field {
        self.id.info()
    }

    pub(crate) fn several(&self) -> Several {
        let info = self.info();
        if info.has(LIST) {
            Several::List
        } else if info.has(PAIR) {
            Several::Pair
        } else if info.has(ANY) && self.argument == Argument::None {
            Several::Any
        } else {
            Several::One
        }
    }
}

/// Why a field cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum FieldError {
    /// No such field, at least not for this source.
    #[error("filter_check called with nonexistent field {0}")]
    Nonexistent(String),
    /// The argument is not of the right form.
    #[error("filter syntax error: {0}")]
    Syntax(String),
    /// No event has such an argument.
    #[error("unknown event argument {0}")]
    UnknownArgument(String),
    /// Arguments are named, not numbered.
    #[error("evt.arg fields must be expressed explicitly")]
    NotExplicit,
    /// A number was expected.
    #[error("{0} is not a valid number")]
    NotANumber(String),
    /// An argument was given to a field that has none.
    #[error(
        "filter '{text}': {field} does not allow nor require an argument but one is provided: {argument}"
    )]
    NoArgument {
        /// What was written.
        text: String,
        /// The field.
        field: &'static str,
        /// The argument.
        argument: String,
    },
    /// A field lacks its argument.
    #[error("filter '{text}': {field} requires an argument but none provided")]
    ArgumentRequired {
        /// What was written.
        text: String,
        /// The field.
        field: &'static str,
    },
}

/// The field that `name`, with what stood between brackets, means for events of the source.
pub fn resolve(source: Source, name: &str, argument: Option<&str>) -> Result<FieldRef, FieldError> {
    let text = || match argument {
        Some(argument) => format!("{name}[{argument}]"),
        None => name.to_owned(),
    };
    let nonexistent = || FieldError::Nonexistent(text());
    let dotted = dotted(name);
    let (field, key) = match dotted {
        Some((field, key)) => (field, Some(key)),
        None => (find(name).ok_or_else(nonexistent)?, None),
    };
    if !field.class.serves(source) {
        return Err(nonexistent());
    }
    let plugin = matches!(
        field.class,
        super::Class::Container | super::Class::Audit | super::Class::Json
    );
    let mut kind = field.kind;
    let argument = match (key, argument) {
        (Some(_), Some(_)) => return Err(nonexistent()),
        (Some(key), None) => dotted_argument(field, key, &mut kind, &nonexistent)?,
        (None, None) if plugin && field.argument_required() => {
            return Err(FieldError::ArgumentRequired {
                text: text(),
                field: field.name,
            });
        }
        (None, None) if field.argument_required() => return Err(FieldError::Syntax(text())),
        (None, None) => Argument::None,
        (None, Some(argument)) if plugin && !field.argument_allowed() => {
            return Err(FieldError::NoArgument {
                text: text(),
                field: field.name,
                argument: argument.to_owned(),
            });
        }
        (None, Some(_)) if !field.argument_allowed() => return Err(nonexistent()),
        (None, Some(argument)) => bracketed(field, argument, plugin, &nonexistent)?,
    };
    Ok(FieldRef {
        id: field.id,
        argument,
        kind,
    })
}

/// Fields whose argument follows a dot.
fn dotted(name: &str) -> Option<(&'static Field, &str)> {
    [
        "evt.arg",
        "evt.rawarg",
        "evt.type.is",
        "evt.abspath",
        "thread.cgroup",
    ]
    .into_iter()
    .find_map(|prefix| {
        let key = name.strip_prefix(prefix)?.strip_prefix('.')?;
        Some((find(prefix)?, key))
    })
}

fn dotted_argument(
    field: &'static Field,
    key: &str,
    kind: &mut Type,
    nonexistent: &dyn Fn() -> FieldError,
) -> Result<Argument, FieldError> {
    match field.id {
        FieldId::EvtArg | FieldId::EvtRawarg => {
            let (name, of_parameter) = events::longest_parameter(key)
                .ok_or_else(|| FieldError::UnknownArgument(key.to_owned()))?;
            if name != key {
                return Err(nonexistent());
            }
            if field.id == FieldId::EvtRawarg {
                *kind = of_parameter;
            }
        }
        FieldId::EvtTypeIs => {
            if events::find(key).is_none() && number::unsigned(key).is_none() {
                return Err(nonexistent());
            }
        }
        FieldId::EvtAbspath => {
            if key != "src" && key != "dst" {
                return Err(nonexistent());
            }
        }
        _ => {
            let plain = |c: char| c.is_ascii_alphabetic() || c == '_';
            if key.is_empty() || !key.chars().all(plain) {
                return Err(nonexistent());
            }
        }
    }
    Ok(Argument::Key(key.into()))
}

fn bracketed(
    field: &'static Field,
    argument: &str,
    plugin: bool,
    nonexistent: &dyn Fn() -> FieldError,
) -> Result<Argument, FieldError> {
    if field.id == FieldId::EvtRawarg {
        return Err(FieldError::NotExplicit);
    }
    if matches!(
        field.id,
        FieldId::EvtTypeIs | FieldId::EvtAbspath | FieldId::ThreadCgroup
    ) {
        return Err(FieldError::Syntax(format!("{}[{argument}]", field.name)));
    }
    // The libraries look for the first closing bracket, wherever it is quoted.
    if argument.contains(']') {
        return Err(nonexistent());
    }
    let not_a_number = || FieldError::NotANumber(argument.to_owned());
    if plugin {
        let digits = !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_digit());
        return match (field.takes_index(), field.takes_key()) {
            (true, _) if digits => argument
                .parse()
                .map(Argument::Index)
                .map_err(|_| not_a_number()),
            (_, true) => Ok(Argument::Key(argument.into())),
            _ => Err(not_a_number()),
        };
    }
    if field.takes_key() && field.id != FieldId::EvtArg {
        let digits = !argument.is_empty() && argument.bytes().all(|b| b.is_ascii_digit());
        return match argument.parse() {
            Ok(index) if digits => Ok(Argument::Index(index)),
            _ => Ok(Argument::Key(argument.into())),
        };
    }
    match number::signed(argument) {
        Some(index) => Ok(Argument::Index(index)),
        // Fields that can do without an argument take a wrong one for none, and then are longer than
        // what they know.
        None if field.argument_required() => Err(not_a_number()),
        None => Err(nonexistent()),
    }
}
