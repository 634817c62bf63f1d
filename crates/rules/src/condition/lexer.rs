//! A cursor over a condition, with the tokens that the parser asks for.
//!
//! Invariant: a token that does not match leaves the cursor where it was.

use super::{Operator, ParseError, Pos, escape};

/// Transformers that may stand left of an operator, in the order in which they are tried.
pub(crate) const TRANSFORMERS: [&str; 8] = [
    "tolower", "toupper", "b64", "basename", "len", "join", "concat", "getopt",
];

/// What is left of a condition.
pub(crate) struct Lexer<'a> {
    text: &'a str,
    pos: Pos,
    /// The last token, for messages.
    pub(crate) last: String,
}

/// Where a lexer was.
#[derive(Clone, Copy)]
pub(crate) struct Mark(Pos);

fn blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | 0x08 | b'\r' | b'\n')
}

/// Blank as regular expressions see it.
pub(crate) fn space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c)
}

fn identifier(text: &[u8]) -> usize {
    match text.first() {
        Some(first) if first.is_ascii_alphabetic() => text
            .iter()
            .take_while(|b| b.is_ascii_alphanumeric() || **b == b'_')
            .count(),
        _ => 0,
    }
}

impl<'a> Lexer<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self {
            text,
            pos: Pos::START,
            last: String::new(),
        }
    }

    pub(crate) fn pos(&self) -> Pos {
        self.pos
    }

    pub(crate) fn mark(&self) -> Mark {
        Mark(self.pos)
    }

    pub(crate) fn reset(&mut self, mark: Mark) {
        self.pos = mark.0;
    }

    pub(crate) fn at_end(&self) -> bool {
        self.pos.offset >= self.text.len()
    }

    /// What is left, up to a NUL: the libraries work on C strings.
    fn rest(&self) -> &'a [u8] {
        &self.text.as_bytes()[self.pos.offset..]
    }

    fn advance(&mut self, length: usize) {
        for byte in &self.text.as_bytes()[self.pos.offset..self.pos.offset + length] {
            self.pos.column += 1;
            if matches!(byte, b'\r' | b'\n') {
                self.pos.column = 1;
                self.pos.line += 1;
            }
        }
        self.pos.offset += length;
    }

    fn take(&mut self, length: usize) -> bool {
        if length == 0 {
            return false;
        }
        let from = self.pos.offset;
        self.last.clear();
        self.last
            .push_str(self.text.get(from..from + length).unwrap_or_default());
        self.advance(length);
        true
    }

    /// Skips blanks; whether there were any.
    pub(crate) fn blanks(&mut self) -> bool {
        let length = self.rest().iter().take_while(|b| blank(**b)).count();
        self.advance(length);
        length > 0
    }

    /// Exactly this text.
    pub(crate) fn exactly(&mut self, token: &str) -> bool {
        self.rest().starts_with(token.as_bytes()) && self.take(token.len())
    }

    /// `not` with the blanks behind it.
    pub(crate) fn not_and_blanks(&mut self) -> bool {
        let rest = self.rest();
        if !rest.starts_with(b"not") {
            return false;
        }
        let blanks = rest[3..].iter().take_while(|b| space(**b)).count();
        blanks > 0 && self.take(3 + blanks)
    }

    pub(crate) fn identifier(&mut self) -> bool {
        let length = identifier(self.rest());
        self.take(length)
    }

    /// Whether an identifier is next.
    pub(crate) fn identifier_follows(&self) -> bool {
        identifier(self.rest()) > 0
    }

    /// Whether this byte is next.
    pub(crate) fn follows(&self, byte: u8) -> bool {
        self.rest().first() == Some(&byte)
    }

    /// Whether `and`, `or` or `not` is next.
    pub(crate) fn keyword_follows(&self) -> bool {
        let rest = self.rest();
        [b"and".as_slice(), b"or", b"not"].iter().any(|word| {
            rest.strip_prefix(*word)
                .is_some_and(|rest| !rest.first().is_some_and(u8::is_ascii_alphanumeric))
        })
    }

    /// Names with at least one dot.
    pub(crate) fn field_name(&mut self) -> bool {
        let rest = self.rest();
        let mut length = identifier(rest);
        let mut dotted = false;
        while length > 0 && rest.get(length) == Some(&b'.') {
            let next = identifier(&rest[length + 1..]);
            if next == 0 {
                break;
            }
            dotted = true;
            length += 1 + next;
        }
        dotted && self.take(length)
    }

    /// An argument without quotes.
    pub(crate) fn bare_argument(&mut self) -> bool {
        let plain = |b: &&u8| !matches!(**b, b']' | b'[' | b'"' | b'\'') && !space(**b);
        let length = self.rest().iter().take_while(plain).count();
        self.take(length)
    }

    /// A number; the token is the number.
    pub(crate) fn number(&mut self) -> bool {
        let length = number(self.rest());
        self.take(length)
    }

    /// Text without quotes.
    pub(crate) fn bare_text(&mut self) -> bool {
        let plain =
            |b: &&u8| !matches!(**b, b'(' | b')' | b'"' | b'\'' | b'=' | b',') && !space(**b);
        let length = self.rest().iter().take_while(plain).count();
        self.take(length)
    }

    /// Text in quotes, unescaped.
    pub(crate) fn quoted(&mut self) -> Result<Option<Vec<u8>>, ParseError> {
        let rest = self.rest();
        let Some(quote @ (b'"' | b'\'')) = rest.first().copied() else {
            return Ok(None);
        };
        let mut before = b'\\';
        for (at, byte) in rest.iter().copied().enumerate() {
            if byte == 0 {
                break;
            }
            if byte == quote && before != b'\\' {
                self.advance(at + 1);
                let value = escape::unescape(&rest[..=at])?;
                self.last = String::from_utf8_lossy(&value).into_owned();
                return Ok(Some(value));
            }
            before = byte;
        }
        Ok(None)
    }

    /// The first of these operators that is next.
    pub(crate) fn operator(&mut self, operators: &[Operator]) -> Option<Operator> {
        operators.iter().copied().find(|operator| {
            if operator.is_word() && Operator::TEXT.contains(operator) {
                self.word(operator.text())
            } else {
                self.exactly(operator.text())
            }
        })
    }

    /// A word and the blanks behind it.
    pub(crate) fn word(&mut self, word: &str) -> bool {
        let mark = self.mark();
        let last = self.last.clone();
        if self.exactly(word) {
            if self.blanks() {
                return true;
            }
            self.reset(mark);
            self.last = last;
        }
        false
    }

    /// A transformer and its parenthesis.
    pub(crate) fn transformer(&mut self, names: &[&'static str]) -> Option<&'static str> {
        names.iter().copied().find(|name| {
            self.rest()
                .strip_prefix(name.as_bytes())
                .is_some_and(|rest| rest.starts_with(b"("))
                && self.take(name.len() + 1)
        })
    }
}

/// The length of the number at the beginning: hexadecimal, or with sign, dot and exponent.
fn number(text: &[u8]) -> usize {
    let digits = |from: usize| {
        text.get(from..)
            .unwrap_or_default()
            .iter()
            .take_while(|b| b.is_ascii_digit())
            .count()
    };
    if text.len() > 2 && text[0] == b'0' && matches!(text[1], b'x' | b'X') {
        let hex = text[2..].iter().take_while(|b| b.is_ascii_hexdigit());
        let length = hex.count();
        if length > 0 {
            return 2 + length;
        }
    }
    let sign = usize::from(matches!(text.first(), Some(b'+' | b'-')));
    let whole = digits(sign);
    if whole == 0 {
        return 0;
    }
    let mut length = sign + whole;
    if text.get(length) == Some(&b'.') {
        length += 1;
        length += digits(length);
    }
    if matches!(text.get(length), Some(b'e' | b'E'))
        && matches!(text.get(length + 1), Some(b'+' | b'-'))
    {
        let exponent = digits(length + 2);
        if exponent > 0 {
            length += 2 + exponent;
        }
    }
    length
}
