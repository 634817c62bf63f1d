//! The grammar of JSON paths.

use serde_json::Value;

use super::{ParseError, Step};

/// How deep actions may stand in one another: filters of filters.
const DEEPEST: usize = 8;

/// The steps of one action; what follows a `}` is none of it.
pub(super) fn steps(text: &str, depth: usize) -> Result<Vec<Step>, ParseError> {
    if depth > DEEPEST {
        return error("nested too deep");
    }
    let mut parser = Parser {
        text,
        at: 0,
        depth,
        steps: Vec::new(),
    };
    while parser.step()? {}
    Ok(parser.steps)
}

struct Parser<'t> {
    text: &'t str,
    /// A byte on a character's boundary.
    at: usize,
    depth: usize,
    steps: Vec<Step>,
}

fn error<T>(why: impl Into<String>) -> Result<T, ParseError> {
    Err(ParseError(why.into()))
}

/// Whether a character ends a name.
fn ends(c: char) -> bool {
    matches!(
        c,
        ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}'
    )
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.rest().chars().next()?;
        self.at += next.len_utf8();
        Some(next)
    }

    /// What was passed since a place.
    fn since(&self, start: usize) -> &'t str {
        self.text.get(start..self.at).unwrap_or_default()
    }

    /// One step; whether there may be more.
    fn step(&mut self) -> Result<bool, ParseError> {
        let rest = self.rest();
        if rest.starts_with("[?(") {
            self.at += "[?(".len();
            return self.filter();
        }
        if rest.starts_with("..") {
            if self.steps.last() == Some(&Step::Recursive) {
                return error("invalid multiple recursive descent");
            }
            self.at += "..".len();
            self.steps.push(Step::Recursive);
            let named = |c: char| c == '_' || c.is_alphanumeric();
            if self.rest().starts_with(named) {
                self.field();
            }
            return Ok(true);
        }
        let start = self.at;
        match self.next() {
            None | Some('}') => return Ok(false),
            Some('\r' | '\n') => return error("unclosed action"),
            Some(' ' | '@' | '$') => {}
            Some('[') => self.array()?,
            Some(quote @ ('"' | '\'')) => self.quoted(start, quote)?,
            Some('.') => self.field(),
            Some(c) if c == '+' || c == '-' || c.is_numeric() => self.number(start)?,
            Some(c) if c == '_' || c.is_alphanumeric() => {
                while !self.rest().is_empty() && !self.rest().starts_with(ends) {
                    self.next();
                }
                match self.since(start) {
                    "true" => self.steps.push(Step::Literal(true.into())),
                    "false" => self.steps.push(Step::Literal(false.into())),
                    other => return error(format!("unrecognized identifier {other}")),
                }
            }
            Some(c) => {
                let why = format!(
                    "unrecognized character in action: U+{:04X} '{c}'",
                    u32::from(c)
                );
                return error(why);
            }
        }
        Ok(true)
    }

    fn field(&mut self) {
        let start = self.at;
        loop {
            let rest = self.rest();
            if rest.is_empty() || rest.starts_with(ends) {
                break;
            }
            if self.next() == Some('\\') {
                self.next();
            }
        }
        self.steps.push(match self.since(start) {
            "*" => Step::Wildcard,
            name => Step::Field(name.replace('\\', "")),
        });
    }

    fn number(&mut self, start: usize) -> Result<(), ParseError> {
        while self
            .rest()
            .starts_with(|c: char| c == '.' || c.is_numeric())
        {
            self.next();
        }
        let text = self.since(start);
        let plain = text.strip_prefix('+').unwrap_or(text);
        let value = match (plain.parse::<i64>(), plain.parse::<f64>()) {
            (Ok(int), _) => int.into(),
            (_, Ok(float)) => float.into(),
            _ => return error(format!("cannot parse number {text}")),
        };
        self.steps.push(Step::Literal(value));
        Ok(())
    }

    fn quoted(&mut self, start: usize, quote: char) -> Result<(), ParseError> {
        let mut escaped = false;
        loop {
            match self.next() {
                None | Some('\n') => return error("unterminated quoted string"),
                Some(c) if c == quote && !escaped => break,
                Some(c) => escaped = c == '\\',
            }
        }
        let shown = self.since(start);
        let inner = shown.get(1..shown.len() - 1).unwrap_or_default();
        match unescaped(inner, quote) {
            Some(text) => self.steps.push(Step::Literal(Value::String(text))),
            None => return error(format!("unquote string {shown} error invalid syntax")),
        }
        Ok(())
    }

    /// After `[`.
    fn array(&mut self) -> Result<(), ParseError> {
        let start = self.at;
        loop {
            match self.next() {
                None | Some('\n') => return error("unterminated array"),
                Some(']') => break,
                Some(_) => {}
            }
        }
        let inner = self.since(start);
        let inner = &inner[..inner.len() - 1];
        if inner.contains(',') {
            let parts = inner
                .split(',')
                .map(|part| selected(part.trim_matches(' '), self.depth + 1));
            let parts = parts.collect::<Result<_, _>>()?;
            self.steps.push(Step::Union(parts));
        } else {
            let mut one = selected(inner, self.depth + 1)?;
            self.steps.append(&mut one);
        }
        Ok(())
    }

    /// After `[?(`.
    fn filter(&mut self) -> Result<bool, ParseError> {
        let start = self.at;
        let (mut quote, mut closed, mut before) = (None, false, ' ');
        loop {
            let Some(c) = self.next().filter(|c| *c != '\n') else {
                return error("unterminated filter");
            };
            match (c, quote) {
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(own)) if c == own && before != '\\' => closed = true,
                (')', quote) if quote.is_some() == closed => break,
                _ => {}
            }
            before = c;
        }
        let inner = self.since(start);
        let inner = &inner[..inner.len() - 1];
        if self.next() != Some(']') {
            return error("unclosed array expect ]");
        }
        let depth = self.depth + 1;
        self.steps.push(match compared(inner) {
            None => Step::Filter {
                left: steps(inner, depth)?,
                operator: "exists".to_owned(),
                right: Vec::new(),
            },
            Some((left, operator, right)) => Step::Filter {
                left: steps(left, depth)?,
                operator: operator.to_owned(),
                right: steps(right, depth)?,
            },
        });
        Ok(true)
    }
}

/// A comparison: something, an operator, something.
fn compared(text: &str) -> Option<(&str, &str, &str)> {
    let is_operator = |c: char| matches!(c, '!' | '<' | '>' | '=');
    let begin = text.find(is_operator).filter(|begin| *begin > 0)?;
    let (left, rest) = text.split_at(begin);
    let end = rest.find(|c| !is_operator(c)).unwrap_or(rest.len());
    let (operator, right) = rest.split_at(end);
    if !right.is_empty() {
        return Some((left, operator, right));
    }
    // Something has to follow: the last sign, if there are two.
    let last = operator.len().checked_sub(1).filter(|last| *last > 0)?;
    Some((left, &operator[..last], &operator[last..]))
}

/// What one entry between brackets selects.
fn selected(text: &str, depth: usize) -> Result<Vec<Step>, ParseError> {
    let text = if text == "*" { ":" } else { text };
    let key = text.strip_prefix('\'').and_then(|t| t.strip_suffix('\''));
    if let Some(key) = key.filter(|key| !key.contains('\'')) {
        return steps(&format!(".{key}"), depth);
    }
    let invalid = || error(format!("invalid array index {text}"));
    let parts: Vec<&str> = text.split(':').collect();
    let is_index = |part: &&str| {
        let digits = part.strip_prefix('-').unwrap_or(part);
        digits.bytes().all(|b| b.is_ascii_digit())
    };
    if parts.len() > 3 || !parts.iter().all(is_index) {
        return invalid();
    }
    let number = |at: usize| match parts.get(at) {
        None | Some(&"") => Ok(None),
        Some(part) => part.parse::<i64>().map(Some).map_err(|_| {
            let why = format!("array index {part} is not a number");
            ParseError(why)
        }),
    };
    let (from, to, step) = (number(0)?, number(1)?, number(2)?);
    let one = parts.len() == 1;
    let to = if one {
        Some(from.unwrap_or(0).saturating_add(1))
    } else {
        to
    };
    Ok(vec![Step::Slice {
        from,
        to,
        step,
        one,
    }])
}

/// The character of a code in hexadecimal digits.
fn code(chars: &mut std::str::Chars<'_>, digits: usize) -> Option<char> {
    let hex: String = chars.by_ref().take(digits).collect();
    let whole = hex.len() == digits && hex.bytes().all(|b| b.is_ascii_hexdigit());
    whole.then(|| char::from_u32(u32::from_str_radix(&hex, 16).ok()?))?
}

/// The text that a quoted one stands for.
fn unescaped(text: &str, quote: char) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        let escaped = chars.next()?;
        out.push(match escaped {
            'a' => '\u{7}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            '\\' => '\\',
            'x' => code(&mut chars, 2)?,
            'u' => code(&mut chars, 4)?,
            c if c == quote => c,
            _ => return None,
        });
    }
    Some(out)
}
