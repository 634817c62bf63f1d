//! Regular expressions as RE2 reads them in its POSIX mode, which must match a whole text.
//!
//! Invariant: what RE2 refuses is refused; nothing of what only our library understands gets through.

use regex::bytes::{Regex, RegexBuilder};

/// How much memory one expression may take.
const SIZE_LIMIT: usize = 2 << 20;
/// The most often that RE2 repeats something.
const MAX_REPEAT: u32 = 1000;

/// A regular expression.
#[derive(Clone, Debug)]
pub(crate) struct Pattern(Regex);

impl Pattern {
    pub(crate) fn new(pattern: &[u8]) -> Result<Self, String> {
        let pattern = std::str::from_utf8(pattern).map_err(|_| "invalid UTF-8".to_owned())?;
        let translated = Translator::new(pattern).run()?;
        RegexBuilder::new(&translated)
            .size_limit(SIZE_LIMIT)
            .nest_limit(200)
            .multi_line(true)
            .build()
            .map(Self)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => "pattern too large - compile failed".to_owned(),
                error => error.to_string(),
            })
    }

    pub(crate) fn matches(&self, text: &[u8]) -> bool {
        match String::from_utf8_lossy(text) {
            std::borrow::Cow::Borrowed(_) => self.0.is_match(text),
            std::borrow::Cow::Owned(text) => self.0.is_match(text.as_bytes()),
        }
    }
}

struct Translator<'a> {
    rest: std::iter::Peekable<std::str::Chars<'a>>,
    out: String,
    /// Where the last thing that can be repeated begins.
    atom: Option<usize>,
    groups: Vec<usize>,
}

impl<'a> Translator<'a> {
    fn new(pattern: &'a str) -> Self {
        Self {
            rest: pattern.chars().peekable(),
            out: String::from(r"\A(?:"),
            atom: None,
            groups: Vec::new(),
        }
    }

    fn literal(&mut self, c: char) {
        self.atom = Some(self.out.len());
        self.out
            .push_str(&regex::escape(c.encode_utf8(&mut [0; 4])));
    }

    fn run(mut self) -> Result<String, String> {
        while let Some(c) = self.rest.next() {
            match c {
                '(' => {
                    self.groups.push(self.out.len());
                    self.out.push_str("(?:");
                    self.atom = None;
                }
                ')' => {
                    let begin = self.groups.pop().ok_or("unexpected ): )")?;
                    self.out.push(')');
                    self.atom = Some(begin);
                }
                '|' => {
                    self.out.push('|');
                    self.atom = None;
                }
                '^' | '$' => {
                    self.atom = Some(self.out.len());
                    self.out.push_str(if c == '^' { "(?:^)" } else { "(?:$)" });
                }
                '.' => {
                    self.atom = Some(self.out.len());
                    self.out.push('.');
                }
                '*' | '+' | '?' => self.repeat(&c.to_string())?,
                '{' => match self.counts()? {
                    Some(counts) => self.repeat(&counts)?,
                    None => self.literal('{'),
                },
                '[' => self.brackets()?,
                '\\' => {
                    let c = self.escape()?;
                    self.literal(c);
                }
                c => self.literal(c),
            }
        }
        if !self.groups.is_empty() {
            return Err("missing ): ".into());
        }
        self.out.push_str(r")\z");
        Ok(self.out)
    }

    /// Repeats the last atom; in a group of its own, so that a question mark behind it repeats too.
    fn repeat(&mut self, how: &str) -> Result<(), String> {
        let Some(begin) = self.atom else {
            return Err(format!("no argument for repetition operator: {how}"));
        };
        self.out.insert_str(begin, "(?:");
        self.out.push_str(how);
        self.out.push(')');
        Ok(())
    }

    /// `{n}`, `{n,}` or `{n,m}` behind its brace; anything else is the brace itself.
    fn counts(&mut self) -> Result<Option<String>, String> {
        let text: String = self
            .rest
            .clone()
            .take_while(|c| *c != '}')
            .take(12)
            .collect();
        let mut parts = text.splitn(2, ',');
        let number = |part: &str| {
            (!part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()))
                .then(|| part.parse::<u32>().unwrap_or(u32::MAX))
        };
        let Some(low) = parts.next().and_then(number) else {
            return Ok(None);
        };
        let high = match parts.next() {
            None => Some(low),
            Some("") => None,
            Some(part) => match number(part) {
                Some(high) => Some(high),
                None => return Ok(None),
            },
        };
        if self.rest.clone().nth(text.chars().count()) != Some('}') {
            return Ok(None);
        }
        if low > MAX_REPEAT || high.is_some_and(|high| high > MAX_REPEAT || high < low) {
            return Err(format!("bad repetition operator: {{{text}}}"));
        }
        for _ in 0..=text.chars().count() {
            self.rest.next();
        }
        Ok(Some(format!("{{{text}}}")))
    }

    /// What an escape outside or inside of brackets means.
    fn escape(&mut self) -> Result<char, String> {
        let Some(c) = self.rest.next() else {
            return Err("trailing \\: ".into());
        };
        let invalid = |c: char| format!("invalid escape sequence: \\{c}");
        let mut octal = |value: u32, more: usize| {
            let mut value = value;
            for _ in 0..more {
                match self.rest.peek().and_then(|c| c.to_digit(8)) {
                    Some(digit) => {
                        value = value * 8 + digit;
                        self.rest.next();
                    }
                    None => break,
                }
            }
            char::from_u32(value).ok_or_else(|| invalid(c))
        };
        match c {
            '0' => octal(0, 2),
            '1'..='7' => {
                if !matches!(self.rest.peek(), Some('0'..='7')) {
                    return Err(invalid(c));
                }
                let mut first = c.to_digit(8).unwrap_or_default();
                for _ in 0..2 {
                    match self.rest.peek().and_then(|c| c.to_digit(8)) {
                        Some(digit) => {
                            first = first * 8 + digit;
                            self.rest.next();
                        }
                        None => break,
                    }
                }
                char::from_u32(first).ok_or_else(|| invalid(c))
            }
            'x' => self.hex().ok_or_else(|| invalid('x')),
            'a' => Ok('\x07'),
            'f' => Ok('\x0c'),
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            'v' => Ok('\x0b'),
            c if c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' => Ok(c),
            '_' => Ok('_'),
            c => Err(invalid(c)),
        }
    }

    fn hex(&mut self) -> Option<char> {
        let first = self.rest.next()?;
        if first == '{' {
            let mut value = 0_u32;
            let mut digits = 0;
            loop {
                match self.rest.next()? {
                    '}' if digits > 0 => return char::from_u32(value),
                    c => {
                        value = value.checked_mul(16)?.checked_add(c.to_digit(16)?)?;
                        digits += 1;
                    }
                }
            }
        }
        let second = self.rest.next()?;
        char::from_u32(first.to_digit(16)? * 16 + second.to_digit(16)?)
    }

    /// What follows an opening bracket.
    fn brackets(&mut self) -> Result<(), String> {
        let missing = || "missing ]: [".to_owned();
        let mut set = String::from("[");
        if self.rest.peek() == Some(&'^') {
            self.rest.next();
            set.push('^');
        }
        let mut first = true;
        loop {
            let c = self.rest.next().ok_or_else(missing)?;
            if c == ']' && !first {
                break;
            }
            first = false;
            if c == '[' && self.rest.peek() == Some(&':') {
                let name: String = self.rest.clone().take_while(|c| *c != ']').collect();
                if name.len() > 1 && name.ends_with(':') {
                    const CLASSES: [&str; 14] = [
                        "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower",
                        "print", "punct", "space", "upper", "word", "xdigit",
                    ];
                    let inner = name.trim_matches(':');
                    if !CLASSES.contains(&inner.strip_prefix('^').unwrap_or(inner)) {
                        return Err(format!("invalid character class range: [{name}]"));
                    }
                    for _ in 0..=name.chars().count() {
                        self.rest.next();
                    }
                    set.push_str(&format!("[{name}]"));
                    continue;
                }
            }
            let low = if c == '\\' { self.escape()? } else { c };
            let mut high = low;
            let mut ahead = self.rest.clone();
            if ahead.next() == Some('-') && ahead.next().is_some_and(|c| c != ']') {
                self.rest.next();
                let c = self.rest.next().ok_or_else(missing)?;
                high = if c == '\\' { self.escape()? } else { c };
            }
            if low > high {
                return Err(format!("invalid character class range: {low}-{high}"));
            }
            set.push_str(&format!(
                r"\x{{{:x}}}-\x{{{:x}}}",
                u32::from(low),
                u32::from(high)
            ));
        }
        set.push(']');
        self.atom = Some(self.out.len());
        self.out.push_str(&set);
        Ok(())
    }
}
