//! Output templates: text with `%field`, `%field[argument]` and `%transformer(field)` in it.
//!
//! Invariant: parsing takes time in proportion to the text.

use jiff::tz::TimeZone;
use thiserror::Error;

use super::render;
use crate::condition::{Term, parse_term, print_term};
use crate::event::{Event, Values};
use crate::fields::{FieldId, Source};
use crate::term::{self, Typed};

/// Longer than any name of a field, its argument included.
const MAX_NAME: usize = 256;

/// Why a template cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub enum TemplateError {
    #[error("empty formatting token")]
    Empty,
    #[error("invalid formatting syntax: formatting cannot end with a %")]
    EndsWithPercent,
    #[error("invalid formatting syntax: formatting cannot end with a number")]
    EndsWithNumber,
    #[error("unknown filter: {0}")]
    Unknown(String),
}

/// A template.
#[derive(Clone, Debug)]
pub struct Template {
    /// Nothing is said unless all fields have values.
    all_required: bool,
    tokens: Vec<Token>,
    /// The fields in it, by the names that they have in JSON.
    pub(super) fields: Vec<Named>,
}

#[derive(Clone, Debug)]
enum Token {
    Text(Box<[u8]>),
    Term { typed: Typed, width: usize },
}

/// A field of a template.
#[derive(Clone, Debug)]
pub(super) struct Named {
    pub(super) name: String,
    pub(super) typed: Typed,
    /// It is in a transformer, and left out of JSON.
    pub(super) transformed: bool,
}

impl Template {
    /// Reads a template for events of the source.
    pub fn parse(source: Source, text: &str) -> Result<Self, TemplateError> {
        if text.is_empty() {
            return Err(TemplateError::Empty);
        }
        let (all_required, mut rest) = match text.strip_prefix('*') {
            Some(rest) => (false, rest),
            None => (true, text),
        };
        let mut template = Self {
            all_required,
            tokens: Vec::new(),
            fields: Vec::new(),
        };
        while let Some((before, behind)) = rest.split_once('%') {
            template.push_text(before);
            if behind.is_empty() {
                return Err(TemplateError::EndsWithPercent);
            }
            let field = behind.trim_start_matches(|c: char| c.is_ascii_digit());
            if field.is_empty() {
                return Err(TemplateError::EndsWithNumber);
            }
            let digits = &behind[..behind.len() - field.len()];
            let width = digits.parse().unwrap_or(0_usize).min(1 << 16);
            let (term, typed, length) = longest(source, field)?;
            template.name(source, &term)?;
            template.tokens.push(Token::Term { typed, width });
            rest = &field[length..];
        }
        template.push_text(rest);
        Ok(template)
    }

    /// The same, said even if fields have no value.
    #[must_use]
    pub fn lenient(mut self) -> Self {
        self.all_required = false;
        self
    }

    fn push_text(&mut self, text: &str) {
        if !text.is_empty() {
            self.tokens.push(Token::Text(text.as_bytes().into()));
        }
    }

    /// Notes the fields of a term.
    fn name(&mut self, source: Source, term: &Term) -> Result<(), TemplateError> {
        let transformed = match term {
            Term::Field { .. } => false,
            Term::Transformer { values, .. } => {
                for value in values {
                    self.name(source, value)?;
                }
                true
            }
            Term::List(items, _) => {
                return items.iter().try_for_each(|item| self.name(source, item));
            }
            Term::Value(..) => return Ok(()),
        };
        let typed = compile(source, term)?;
        self.fields.push(Named {
            name: print_term(term),
            typed,
            transformed,
        });
        Ok(())
    }

    /// The names of the fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.fields.iter().map(|field| field.name.as_str())
    }

    /// The fields themselves, those inside of transformers too.
    pub fn field_ids(&self) -> impl Iterator<Item = FieldId> + '_ {
        self.fields.iter().filter_map(|field| field.typed.field)
    }

    /// What it says of an event, with times of that zone; nothing if a field that it needs has no value.
    pub fn render(&self, event: &(impl Event + ?Sized), zone: &TimeZone) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        for token in &self.tokens {
            match token {
                Token::Text(text) => out.extend_from_slice(text),
                Token::Term { typed, width } => {
                    let from = out.len();
                    let mut values = Values::new();
                    if !render::text(typed, event, zone, &mut values, &mut out) {
                        if self.all_required {
                            return None;
                        }
                        out.extend_from_slice(render::NO_VALUE);
                    }
                    if *width > 0 {
                        out.resize(from + width, b' ');
                    }
                }
            }
        }
        Some(out)
    }
}

fn unknown(error: impl std::fmt::Display) -> TemplateError {
    TemplateError::Unknown(error.to_string())
}

fn compile(source: Source, term: &Term) -> Result<Typed, TemplateError> {
    term::lower(source, term).map_err(|(error, _)| unknown(error))
}

/// The longest term at the beginning that means something, and its length.
fn longest(source: Source, text: &str) -> Result<(Term, Typed, usize), TemplateError> {
    let attempt = |text: &str| {
        let (term, length) = parse_term(text).map_err(unknown)?;
        let typed = compile(source, &term)?;
        Ok((term, typed, length))
    };
    let error = match attempt(text) {
        Ok(found) => return Ok(found),
        Err(error) => error,
    };
    // A name may go on with what is meant as text: shorter ones are tried.
    let name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.');
    let end = text.find(|c| !name(c)).unwrap_or(text.len()).min(MAX_NAME);
    (1..=end)
        .rev()
        .find_map(|end| attempt(&text[..end]).ok())
        .ok_or(error)
}
