//! What yields values: fields, constants, and transformers over them.
//!
//! Invariant: a subject with equal parts is equal, so that it is extracted once an event.

use std::ops::Range;

use base64::Engine as _;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use crate::event::{Event, Value, Values};
use crate::fields::FieldRef;

/// What yields values.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Subject {
    Field(FieldRef),
    Text(Box<[u8]>),
    List(Box<[Subject]>),
    Map(Transform, Box<Subject>),
    /// A separator, and what is joined.
    Join(Box<[Subject; 2]>),
    Concat(Box<[Subject]>),
    /// Arguments, the options that there are, and the one that is asked for.
    Getopt(Box<[Subject; 2]>, Option<u8>),
}

/// What makes other values of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Transform {
    ToLower,
    ToUpper,
    Base64,
    Basename,
    /// The length of text.
    Len,
    /// The length of a list.
    Count,
}

static BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

impl Subject {
    /// Pushes the values for an event; where they are, if there are any.
    pub(crate) fn extract<'a>(
        &'a self,
        event: &'a (impl Event + ?Sized),
        out: &mut Values<'a>,
    ) -> Option<Range<usize>> {
        let from = out.items.len();
        match self {
            Self::Field(field) => event.field(field.id, &field.argument, out),
            Self::Text(text) => out.items.push(Value::Text(text)),
            Self::List(items) => {
                for item in items {
                    item.extract(event, out)?;
                }
                // A list may be empty and is there all the same.
                return Some(from..out.items.len());
            }
            Self::Map(transform, inner) => {
                let range = inner.extract(event, out)?;
                transform.apply(range, out)?;
            }
            Self::Join(parts) => join(parts, event, out)?,
            Self::Concat(parts) => concat(parts, event, out)?,
            Self::Getopt(parts, option) => {
                getopt(parts, *option, event, out)?;
                return Some(from..out.items.len());
            }
        }
        (out.items.len() > from).then_some(from..out.items.len())
    }
}

impl Transform {
    fn apply(self, range: Range<usize>, out: &mut Values<'_>) -> Option<()> {
        if self == Self::Count {
            let count = range.len() as u64;
            out.items.truncate(range.start);
            out.items.push(Value::Unsigned(count));
            return Some(());
        }
        for at in range {
            let made = match self {
                Self::ToLower => out.replace(at, |text, store| {
                    store.extend(text.iter().map(u8::to_ascii_lowercase));
                    true
                }),
                Self::ToUpper => out.replace(at, |text, store| {
                    store.extend(text.iter().map(u8::to_ascii_uppercase));
                    true
                }),
                Self::Base64 => out.replace(at, |text, store| {
                    BASE64.decode_vec(trim_nul(text), store).is_ok()
                }),
                Self::Basename => match out.items[at] {
                    Value::Text(text) => {
                        out.items[at] = Value::Text(&text[behind_slash(text)..]);
                        true
                    }
                    Value::Written(from, to) => {
                        let skipped = behind_slash(&out.store[from..to]);
                        out.items[at] = Value::Written(from + skipped, to);
                        true
                    }
                    _ => false,
                },
                Self::Len | Self::Count => match out.bytes(&out.items[at]).map(<[u8]>::len) {
                    Some(length) => {
                        out.items[at] = Value::Unsigned(length as u64);
                        true
                    }
                    None => false,
                },
            };
            if !made {
                return None;
            }
        }
        Some(())
    }
}

fn trim_nul(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|b| *b != 0).map_or(0, |at| at + 1);
    &text[..end]
}

fn behind_slash(text: &[u8]) -> usize {
    memchr::memrchr(b'/', text).map_or(0, |at| at + 1)
}

/// Puts one text in the place of all values from `from` on.
fn put_text(from: usize, begin: usize, out: &mut Values<'_>) {
    out.items.truncate(from);
    let end = out.store.len();
    out.items.push(Value::Written(begin, end));
}

fn join<'a>(
    parts: &'a [Subject; 2],
    event: &'a (impl Event + ?Sized),
    out: &mut Values<'a>,
) -> Option<()> {
    let from = out.items.len();
    let separator = parts[0].extract(event, out)?.start;
    let items = parts[1].extract(event, out)?;
    let begin = out.store.len();
    for at in items.clone() {
        if at > items.start && !out.append(separator) {
            return None;
        }
        if !out.append(at) {
            return None;
        }
    }
    put_text(from, begin, out);
    Some(())
}

fn concat<'a>(
    parts: &'a [Subject],
    event: &'a (impl Event + ?Sized),
    out: &mut Values<'a>,
) -> Option<()> {
    let from = out.items.len();
    for part in parts {
        let range = part.extract(event, out)?;
        out.items.truncate(range.start + 1);
    }
    let begin = out.store.len();
    for at in from..out.items.len() {
        if !out.append(at) {
            return None;
        }
    }
    put_text(from, begin, out);
    Some(())
}

/// Short options as `getopt(3)` finds them: each option and its value, or the value of one option.
fn getopt<'a>(
    parts: &'a [Subject; 2],
    wanted: Option<u8>,
    event: &'a (impl Event + ?Sized),
    out: &mut Values<'a>,
) -> Option<()> {
    let from = out.items.len();
    let known = parts[1].extract(event, out)?.start;
    let words = parts[0].extract(event, out)?;
    let known = out.bytes(&out.items[known])?.to_vec();
    let takes_value = |option: u8| {
        let known = known.strip_prefix(b":").unwrap_or(&known);
        let at = known.iter().position(|b| *b == option && option != b':')?;
        Some(known.get(at + 1) == Some(&b':'))
    };
    let mut found: Vec<Vec<u8>> = Vec::new();
    let mut selected: Option<Vec<u8>> = None;
    let words: Vec<Vec<u8>> = words
        .map(|at| out.bytes(&out.items[at]).map(<[u8]>::to_vec))
        .collect::<Option<_>>()?;
    let mut at = 0;
    while let Some(word) = words.get(at) {
        at += 1;
        if word == b"--" {
            break;
        }
        if word.len() > 2 && word.starts_with(b"--") {
            continue;
        }
        if word.len() < 2 || word[0] != b'-' {
            break;
        }
        for (place, option) in word.iter().copied().enumerate().skip(1) {
            let Some(takes_value) = takes_value(option) else {
                if wanted.is_none() {
                    found.push(b"?".to_vec());
                }
                continue;
            };
            let value = if !takes_value {
                None
            } else if place + 1 < word.len() {
                Some(word[place + 1..].to_vec())
            } else {
                at += 1;
                words.get(at - 1).cloned()
            };
            let missing = takes_value && value.is_none();
            let name = if missing { Vec::new() } else { vec![option] };
            match wanted {
                None => {
                    found.push(name);
                    found.extend(value);
                }
                Some(wanted) if wanted == option => selected = Some(value.unwrap_or(name)),
                Some(_) => {}
            }
            if takes_value {
                break;
            }
        }
    }
    if wanted.is_some() {
        found = vec![selected?];
    }
    out.items.truncate(from);
    for text in found {
        out.write(|store| store.extend_from_slice(&text));
    }
    Some(())
}
