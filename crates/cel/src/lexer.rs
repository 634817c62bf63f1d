//! Source text to tokens.
//!
//! Invariant: positions count code points; every character is looked at once.

use crate::issue::Issues;

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Token {
    Ident(String),
    Int(String),
    Uint(String),
    Double(String),
    /// With quotes and prefix, as written.
    String(String),
    Bytes(String),
    Symbol(&'static str),
    End,
}

impl Token {
    /// As messages name it.
    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Ident(text)
            | Self::Int(text)
            | Self::Uint(text)
            | Self::Double(text)
            | Self::String(text)
            | Self::Bytes(text) => text,
            Self::Symbol(text) => text,
            Self::End => "<EOF>",
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Placed {
    pub(crate) token: Token,
    pub(crate) position: usize,
}

/// Longer ones first.
const SYMBOLS: &[&str] = &[
    "==", "!=", "<=", ">=", "&&", "||", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":",
    "+", "*", "/", "%", "<", ">",
];

struct Lexer<'a> {
    source: &'a str,
    chars: Vec<char>,
    at: usize,
}

/// All tokens, the last one [`Token::End`].
pub(crate) fn tokens(source: &str) -> Result<Vec<Placed>, Issues> {
    let mut lexer = Lexer {
        source,
        chars: source.chars().collect(),
        at: 0,
    };
    let mut tokens = Vec::new();
    loop {
        lexer.skip_blank();
        let position = lexer.at;
        let token = lexer.next()?;
        let end = token == Token::End;
        tokens.push(Placed { token, position });
        if end {
            return Ok(tokens);
        }
    }
}

impl Lexer<'_> {
    fn peek(&self, ahead: usize) -> Option<char> {
        self.chars.get(self.at + ahead).copied()
    }

    fn skip_blank(&mut self) {
        while let Some(char) = self.peek(0) {
            match char {
                ' ' | '\t' | '\n' | '\r' | '\u{c}' => self.at += 1,
                '/' if self.peek(1) == Some('/') => {
                    while self.peek(0).is_some_and(|char| char != '\n') {
                        self.at += 1;
                    }
                }
                _ => return,
            }
        }
    }

    fn taken(&self, from: usize) -> String {
        self.chars[from..self.at].iter().collect()
    }

    fn unknown(&self, from: usize) -> Issues {
        let end = (self.at.max(from) + 1).min(self.chars.len());
        let text: String = self.chars[from..end].iter().collect();
        let text = text
            .replace('\n', "\\n")
            .replace('\t', "\\t")
            .replace('\r', "\\r");
        let message = format!("Syntax error: token recognition error at: '{text}'");
        Issues::one(self.source, Some(from), message)
    }

    fn next(&mut self) -> Result<Token, Issues> {
        let Some(first) = self.peek(0) else {
            return Ok(Token::End);
        };
        if let Some(token) = self.text()? {
            return Ok(token);
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let from = self.at;
            while self
                .peek(0)
                .is_some_and(|char| char.is_ascii_alphanumeric() || char == '_')
            {
                self.at += 1;
            }
            return Ok(Token::Ident(self.taken(from)));
        }
        let digit = |char: Option<char>| char.is_some_and(|char| char.is_ascii_digit());
        if first.is_ascii_digit() || (first == '.' && digit(self.peek(1))) {
            return Ok(self.number());
        }
        for symbol in SYMBOLS {
            let mut chars = symbol.chars();
            let one = chars.next();
            let two = chars.next();
            if one == Some(first) && (two.is_none() || two == self.peek(1)) {
                self.at += symbol.len();
                return Ok(Token::Symbol(symbol));
            }
        }
        Err(self.unknown(self.at))
    }

    fn digits(&mut self, hex: bool) {
        while self
            .peek(0)
            .is_some_and(|char| char.is_ascii_digit() || (hex && char.is_ascii_hexdigit()))
        {
            self.at += 1;
        }
    }

    fn number(&mut self) -> Token {
        let from = self.at;
        let hex = self.peek(0) == Some('0')
            && self.peek(1) == Some('x')
            && self.peek(2).is_some_and(|char| char.is_ascii_hexdigit());
        let mut double = false;
        if hex {
            self.at += 2;
            self.digits(true);
        } else {
            self.digits(false);
            if self.peek(0) == Some('.') && self.peek(1).is_some_and(|char| char.is_ascii_digit()) {
                double = true;
                self.at += 1;
                self.digits(false);
            }
            double |= self.exponent();
        }
        if !double && matches!(self.peek(0), Some('u' | 'U')) {
            self.at += 1;
            return Token::Uint(self.taken(from));
        }
        if double {
            Token::Double(self.taken(from))
        } else {
            Token::Int(self.taken(from))
        }
    }

    fn exponent(&mut self) -> bool {
        if !matches!(self.peek(0), Some('e' | 'E')) {
            return false;
        }
        let signed = usize::from(matches!(self.peek(1), Some('+' | '-')));
        if !self
            .peek(1 + signed)
            .is_some_and(|char| char.is_ascii_digit())
        {
            return false;
        }
        self.at += 1 + signed;
        self.digits(false);
        true
    }

    /// A string or bytes, or nothing when none begins here.
    fn text(&mut self) -> Result<Option<Token>, Issues> {
        let mut ahead = 0;
        let bytes = matches!(self.peek(ahead), Some('b' | 'B'));
        ahead += usize::from(bytes);
        let raw = matches!(self.peek(ahead), Some('r' | 'R'));
        ahead += usize::from(raw);
        let Some(quote @ ('"' | '\'')) = self.peek(ahead) else {
            return Ok(None);
        };
        let from = self.at;
        let triple = self.peek(ahead + 1) == Some(quote) && self.peek(ahead + 2) == Some(quote);
        self.at += ahead + if triple { 3 } else { 1 };
        loop {
            match self.peek(0) {
                None => {
                    self.at = self.chars.len().saturating_sub(1);
                    return Err(self.unknown(from));
                }
                Some('\n' | '\r') if !triple => return Err(self.unknown(from)),
                Some('\\') if !raw => self.at += 2,
                Some(char) if char == quote => {
                    let closes =
                        !triple || (self.peek(1) == Some(quote) && self.peek(2) == Some(quote));
                    self.at += if triple && closes { 3 } else { 1 };
                    if closes {
                        break;
                    }
                }
                Some(_) => self.at += 1,
            }
        }
        let text = self.taken(from);
        Ok(Some(if bytes {
            Token::Bytes(text)
        } else {
            Token::String(text)
        }))
    }
}
