//! From terms of a condition or an output to what yields values, with their types checked.

use thiserror::Error;

use crate::condition::{Operator, Pos, Term, parse};
use crate::fields::flag::{NO_RHS, NO_TRANSFORMER};
use crate::fields::{FieldError, FieldId, Source, Type, resolve};
use crate::subject::{Subject, Transform};

/// How deep transformers may be nested.
const MAX_NESTED: usize = 64;

/// What yields values, and what is known of them.
#[derive(Clone, Debug)]
pub(crate) struct Typed {
    pub(crate) subject: Subject,
    pub(crate) kind: Type,
    pub(crate) several: Several,
    /// The field at the bottom, as messages name it.
    pub(crate) name: &'static str,
    pub(crate) field: Option<FieldId>,
    no_rhs: bool,
    no_transformer: bool,
    /// Type and list-ness before transformers: what transformers of several values look at.
    raw: (Type, bool),
}

pub(crate) use crate::fields::Several;

/// Why a term cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub(crate) enum TermError {
    #[error(transparent)]
    Field(#[from] FieldError),
    #[error("filter error: transformer '{0}' does not support field arguments")]
    Argument(&'static str),
    #[error("transformer '{0}' does not support field arguments")]
    SeveralArgument(&'static str),
    #[error("field '{0}' does not support transformers")]
    NoTransformer(&'static str),
    #[error(
        "can't add field transformer: type '{kind}' is not supported by '{transformer}' transformer applied on {list}field '{field}'"
    )]
    Type {
        kind: &'static str,
        transformer: &'static str,
        list: &'static str,
        field: &'static str,
    },
    #[error("unknown field transformer '{0}'")]
    Unknown(&'static str),
    #[error("unknown multivalue transformer")]
    UnknownOfSeveral,
    #[error("{0}")]
    Arguments(&'static str),
    #[error("exceeded max depth limit of {MAX_NESTED}")]
    TooDeep,
    #[error("field '{0}' doesn't support right-hand side fields")]
    NoRight(&'static str),
    #[error("field '{0}' can't be used as a right-hand side field")]
    NotRight(&'static str),
    #[error("operator '{0}' doesn't support right-hand side fields")]
    OperatorRight(&'static str),
    #[error("field type 'IPNET' doesn't support right-hand side fields")]
    NetRight,
    #[error(
        "field '{left}' has type '{left_type}' while the right-hand side field '{right}' has incompatible type '{right_type}'"
    )]
    Incompatible {
        left: &'static str,
        left_type: String,
        right: &'static str,
        right_type: String,
    },
}

impl Typed {
    pub(crate) fn is_list(&self) -> bool {
        self.several == Several::List
    }

    fn constant(subject: Subject, list: bool) -> Self {
        Self {
            subject,
            kind: Type::Charbuf,
            several: if list { Several::List } else { Several::One },
            name: "INTERNAL.",
            field: None,
            no_rhs: false,
            no_transformer: false,
            raw: (Type::Charbuf, list),
        }
    }

    /// Whether the other can stand on the right of a comparison with this.
    pub(crate) fn comparable_with(
        &self,
        operator: Operator,
        right: &Self,
    ) -> Result<(), TermError> {
        match operator {
            Operator::PMatch => return Err(TermError::OperatorRight("PMATCH")),
            Operator::Regex => return Err(TermError::OperatorRight("REGEX")),
            _ => {}
        }
        if self.kind == Type::IpNet {
            return Err(TermError::NetRight);
        }
        if self.no_rhs {
            return Err(TermError::NoRight(self.name));
        }
        if right.no_rhs {
            return Err(TermError::NotRight(right.name));
        }
        if self.kind != right.kind || self.is_list() != right.is_list() {
            let name = |typed: &Self| {
                let list = if typed.is_list() { " (list)" } else { "" };
                format!("{}{list}", typed.kind.name())
            };
            return Err(TermError::Incompatible {
                left: self.name,
                left_type: name(self),
                right: right.name,
                right_type: name(right),
            });
        }
        Ok(())
    }
}

/// Whether a text names a field of the source, perhaps in transformers.
pub(crate) fn is_valid(source: Source, text: &str) -> bool {
    if text.contains('(') {
        let Ok(expr) = parse(&format!("{text} exists")) else {
            return false;
        };
        return match &*expr {
            crate::condition::Expr::Exists(term, _) => lower(source, term).is_ok(),
            _ => false,
        };
    }
    let (name, argument) = match text.split_once('[') {
        Some((name, rest)) => match rest.strip_suffix(']') {
            Some(argument) => (name, Some(argument)),
            None => return false,
        },
        None => (text, None),
    };
    resolve(source, name, argument).is_ok()
}

/// What a term yields for events of the source; where it is wrong, if it is.
pub(crate) fn lower(source: Source, term: &Term) -> Result<Typed, (TermError, Pos)> {
    lower_nested(source, term, 0)
}

fn lower_nested(source: Source, term: &Term, depth: usize) -> Result<Typed, (TermError, Pos)> {
    let pos = term.pos();
    if depth > MAX_NESTED {
        return Err((TermError::TooDeep, pos));
    }
    match term {
        Term::Value(value, _) => Ok(Typed::constant(Subject::Text(value[..].into()), false)),
        Term::List(items, _) => {
            let items = items
                .iter()
                .map(|item| lower_nested(source, item, depth + 1).map(|typed| typed.subject));
            let items: Box<[_]> = items.collect::<Result<_, _>>()?;
            Ok(Typed::constant(Subject::List(items), true))
        }
        Term::Field { name, argument, .. } => {
            let field = resolve(source, name, argument.as_deref()).map_err(|e| (e.into(), pos))?;
            let info = field.info();
            Ok(Typed {
                kind: field.kind,
                several: field.several(),
                name: info.name,
                field: Some(field.id),
                no_rhs: info.has(NO_RHS),
                no_transformer: info.has(NO_TRANSFORMER),
                raw: (field.kind, info.is_list()),
                subject: Subject::Field(field),
            })
        }
        Term::Transformer {
            name,
            values,
            argument,
            ..
        } => {
            let mut values = values
                .iter()
                .map(|value| lower_nested(source, value, depth + 1))
                .collect::<Result<Vec<_>, _>>()?;
            let argument = argument.as_deref();
            let typed = if *name == "val" || values.len() == 1 {
                let inner = values.swap_remove(0);
                if argument.is_some() {
                    return Err((TermError::Argument(name), pos));
                }
                transformed(name, inner)
            } else {
                of_several(name, values, argument)
            };
            typed.map_err(|error| (error, pos))
        }
    }
}

fn transformed(name: &'static str, inner: Typed) -> Result<Typed, TermError> {
    let text = inner.kind.is_text();
    let list = inner.is_list();
    let (transform, fits) = match name {
        "val" => return Ok(inner),
        "tolower" => (Transform::ToLower, text),
        "toupper" => (Transform::ToUpper, text),
        "basename" => (Transform::Basename, text),
        "b64" => (
            Transform::Base64,
            matches!(inner.kind, Type::Charbuf | Type::Bytebuf),
        ),
        "len" if list => (Transform::Count, true),
        "len" => (Transform::Len, text || inner.kind == Type::Bytebuf),
        _ => return Err(TermError::Unknown(name)),
    };
    if inner.no_transformer {
        return Err(TermError::NoTransformer(inner.name));
    }
    if !fits {
        return Err(TermError::Type {
            kind: inner.kind.name(),
            transformer: name,
            list: if list { "list " } else { "" },
            field: inner.name,
        });
    }
    let counted = matches!(transform, Transform::Len | Transform::Count);
    Ok(Typed {
        kind: if counted { Type::U64 } else { inner.kind },
        several: if counted { Several::One } else { inner.several },
        subject: Subject::Map(transform, Box::new(inner.subject)),
        ..inner
    })
}

fn of_several(
    name: &'static str,
    values: Vec<Typed>,
    argument: Option<&str>,
) -> Result<Typed, TermError> {
    let wrong = |message| Err(TermError::Arguments(message));
    let is_text = |typed: &Typed| typed.raw.0 == Type::Charbuf && typed.kind == Type::Charbuf;
    let raw: Vec<(bool, bool)> = values
        .iter()
        .map(|typed| (is_text(typed), typed.raw.1))
        .collect();
    let mut subjects = values.into_iter().map(|typed| typed.subject);
    let subject = match (name, raw.as_slice()) {
        ("join", [_, _]) => {
            if raw[0].1 {
                return wrong(
                    "join() first argument (separator) must be a single value, not a list",
                );
            }
            if !raw[1].1 {
                return wrong("join() second argument must be a list");
            }
            let parts: Vec<_> = subjects.by_ref().collect();
            Subject::Join(Box::new(pair(parts)?))
        }
        ("join", _) => return wrong("join() requires exactly 2 arguments: separator and list"),
        ("concat", _) => {
            if raw.iter().any(|(text, list)| !text || *list) {
                return wrong("concat() arguments must be strings");
            }
            Subject::Concat(subjects.by_ref().collect())
        }
        ("getopt", [_, _]) => {
            if !raw[0].1 {
                return wrong("getopt() first argument must be a list");
            }
            if raw[1].1 {
                return wrong("getopt() second argument (optstring) must be a single value");
            }
            if !raw[0].0 || !raw[1].0 {
                return wrong("getopt() arguments must be strings");
            }
            let option = match argument.map(str::as_bytes) {
                None => None,
                Some([option]) => Some(*option),
                Some(_) => {
                    return wrong("getopt() field argument must be a single option character");
                }
            };
            let parts: Vec<_> = subjects.by_ref().collect();
            let mut typed = Typed::constant(
                Subject::Getopt(Box::new(pair(parts)?), option),
                option.is_none(),
            );
            typed.raw = (Type::Charbuf, false);
            return Ok(typed);
        }
        ("getopt", _) => {
            return wrong("getopt() requires exactly 2 arguments: args list and optstring");
        }
        _ => return Err(TermError::UnknownOfSeveral),
    };
    if argument.is_some() {
        return Err(TermError::SeveralArgument(name));
    }
    Ok(Typed::constant(subject, false))
}

fn pair(parts: Vec<Subject>) -> Result<[Subject; 2], TermError> {
    parts.try_into().map_err(|_| TermError::UnknownOfSeveral)
}
