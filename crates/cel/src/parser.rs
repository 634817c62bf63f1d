//! Tokens to a tree, by recursive descent; macros are expanded on the way.
//!
//! Invariant: no tree is deeper than [`DEEPEST`] in any sense that later recursion feels, and the time is
//! linear in the source.

use crate::ast::{Ast, Element, Entry, Expr, Field, Id, Kind, Literal, qualified_name};
use crate::issue::Issues;
use crate::lexer::{Placed, Token, tokens};
use crate::macros;
use crate::unescape::unescape;

/// The deepest nesting, of parentheses or of operators on one another, that fits into the stack of a
/// worker in every build.
const DEEPEST: usize = 250;
/// How firmly `||` binds, and `&&`; what binds firmer follows.
const OR: u8 = 0;
const AND: u8 = 1;
/// The most code points of a source.
const LONGEST: usize = 100_000;
/// Expressions that a tree may have, those of macros included.
const MOST_EXPRESSIONS: usize = 200_000;

const RESERVED: &[&str] = &[
    "as",
    "break",
    "const",
    "continue",
    "else",
    "false",
    "for",
    "function",
    "if",
    "import",
    "in",
    "let",
    "loop",
    "package",
    "namespace",
    "null",
    "return",
    "true",
    "var",
    "void",
    "while",
];
const EXPRESSION: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}";

pub(crate) struct Parser<'a> {
    source: &'a str,
    tokens: Vec<Placed>,
    at: usize,
    depth: usize,
    pub(crate) positions: Vec<usize>,
}

/// Parses a source.
pub(crate) fn parse(source: &str) -> Result<Ast, Issues> {
    let size = source.chars().count();
    if size > LONGEST {
        let message =
            format!("expression code point size exceeds limit: size: {size}, limit {LONGEST}");
        return Err(Issues::one("", None, message));
    }
    let mut parser = Parser {
        source,
        tokens: tokens(source)?,
        at: 0,
        depth: 0,
        positions: Vec::new(),
    };
    let root = parser.expr()?;
    if *parser.peek() != Token::End {
        let last = parser.tokens.get(parser.at + 1);
        let word = match last.map(|next| &next.token) {
            Some(Token::End) => "extraneous",
            _ => "mismatched",
        };
        return Err(parser.unexpected(word, "<EOF>"));
    }
    Ok(Ast {
        root,
        positions: parser.positions,
    })
}

type Parsed<T> = Result<T, Issues>;

impl Parser<'_> {
    fn peek(&self) -> &Token {
        self.tokens
            .get(self.at)
            .map_or(&Token::End, |placed| &placed.token)
    }

    fn position(&self) -> usize {
        self.tokens.get(self.at).map_or(0, |placed| placed.position)
    }

    fn is(&self, symbol: &str) -> bool {
        matches!(self.peek(), Token::Symbol(found) if *found == symbol)
    }

    fn skip(&mut self, symbol: &str) -> bool {
        let found = self.is(symbol);
        self.at += usize::from(found);
        found
    }

    fn error(&self, position: usize, message: String) -> Issues {
        Issues::one(self.source, Some(position), message)
    }

    fn unexpected(&self, word: &str, expected: &str) -> Issues {
        let text = self.peek().text();
        let message = format!("Syntax error: {word} input '{text}' expecting {expected}");
        self.error(self.position(), message)
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        if self.skip(symbol) {
            return Ok(());
        }
        Err(self.unexpected("mismatched", &format!("'{symbol}'")))
    }

    pub(crate) fn new_id(&mut self, position: usize) -> Parsed<Id> {
        if self.positions.len() >= MOST_EXPRESSIONS {
            return Err(Issues::one(
                self.source,
                None,
                "expression is too large".into(),
            ));
        }
        self.positions.push(position);
        Ok(self.positions.len() - 1)
    }

    pub(crate) fn node(&mut self, position: usize, kind: Kind) -> Parsed<Expr> {
        Ok(Expr {
            id: self.new_id(position)?,
            kind,
        })
    }

    pub(crate) fn position_of(&self, expr: &Expr) -> usize {
        self.positions.get(expr.id).copied().unwrap_or_default()
    }

    pub(crate) fn fault(&self, position: usize, message: &str) -> Issues {
        self.error(position, message.to_owned())
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let message = format!("expression recursion limit exceeded: {DEEPEST}");
            return Err(Issues::one(self.source, None, message));
        }
        Ok(())
    }

    fn expr(&mut self) -> Parsed<Expr> {
        self.deeper()?;
        let depth = self.depth;
        let mut parsed = self.operators(0)?;
        if self.is("?") {
            parsed = self.conditional(parsed)?;
        }
        self.depth = depth - 1;
        Ok(parsed)
    }

    fn conditional(&mut self, condition: Expr) -> Parsed<Expr> {
        let position = self.position();
        self.at += 1;
        let yes = self.operators(0)?;
        self.expect(":")?;
        let no = self.expr()?;
        self.call(position, "_?_:_", vec![condition, yes, no])
    }

    fn call(&mut self, position: usize, function: &str, args: Vec<Expr>) -> Parsed<Expr> {
        let kind = Kind::Call {
            function: function.to_owned(),
            target: None,
            args,
        };
        self.node(position, kind)
    }

    /// The operator that comes next: its function, and how firmly it binds.
    fn operator(&self) -> Option<(&'static str, u8)> {
        let function = match self.peek() {
            Token::Symbol("||") => ("_||_", OR),
            Token::Symbol("&&") => ("_&&_", AND),
            Token::Symbol("<") => ("_<_", AND + 1),
            Token::Symbol("<=") => ("_<=_", AND + 1),
            Token::Symbol(">") => ("_>_", AND + 1),
            Token::Symbol(">=") => ("_>=_", AND + 1),
            Token::Symbol("==") => ("_==_", AND + 1),
            Token::Symbol("!=") => ("_!=_", AND + 1),
            Token::Ident(word) if word == "in" => ("@in", AND + 1),
            Token::Symbol("+") => ("_+_", AND + 2),
            Token::Symbol("-") => ("_-_", AND + 2),
            Token::Symbol("*") => ("_*_", AND + 3),
            Token::Symbol("/") => ("_/_", AND + 3),
            Token::Symbol("%") => ("_%_", AND + 3),
            _ => return None,
        };
        Some(function)
    }

    /// Operands with operators between them that bind at least so firmly. One function for all of
    /// them, and none where there is no operator: nesting costs few frames a level.
    fn operators(&mut self, least: u8) -> Parsed<Expr> {
        let depth = self.depth;
        let first = if self.is("!") || self.is("-") {
            self.unary()
        } else {
            self.member()
        };
        let parsed = match first {
            Ok(first) if self.operator().is_some() => self.operated(first, least),
            parsed => parsed,
        };
        self.depth = depth;
        parsed
    }

    fn operated(&mut self, first: Expr, least: u8) -> Parsed<Expr> {
        let (depth, mut left) = (self.depth, first);
        while let Some((function, level)) = self.operator().filter(|(_, level)| *level >= least) {
            left = if level <= AND {
                self.depth = depth;
                self.logic(function, level, left)?
            } else {
                self.binary(function, level, left)?
            };
        }
        Ok(left)
    }

    /// A chain of `||` or `&&`, balanced so that long ones are not deep.
    fn logic(&mut self, function: &'static str, level: u8, first: Expr) -> Parsed<Expr> {
        let mut terms = vec![first];
        let mut ops = Vec::new();
        while self.operator() == Some((function, level)) {
            let position = self.position();
            self.at += 1;
            ops.push(self.new_id(position)?);
            terms.push(self.operators(level + 1)?);
        }
        Ok(balanced(function, &ops, &mut terms.into_iter()))
    }

    fn binary(&mut self, function: &str, level: u8, left: Expr) -> Parsed<Expr> {
        self.deeper()?;
        let position = self.position();
        self.at += 1;
        let right = self.operators(level + 1)?;
        self.call(position, function, vec![left, right])
    }

    fn unary(&mut self) -> Parsed<Expr> {
        let position = self.position();
        let (symbol, function) = match self.peek() {
            Token::Symbol("!") => ("!", "!_"),
            Token::Symbol("-") => ("-", "-_"),
            _ => return self.member(),
        };
        let mut count = 0_usize;
        while self.is(symbol) {
            let next = self.tokens.get(self.at + 1).map(|placed| &placed.token);
            if symbol == "-" && matches!(next, Some(Token::Int(_) | Token::Double(_))) {
                // The sign is a part of the literal.
                break;
            }
            self.at += 1;
            count += 1;
        }
        let operand = self.member()?;
        if count.is_multiple_of(2) {
            return Ok(operand);
        }
        self.call(position, function, vec![operand])
    }

    fn member(&mut self) -> Parsed<Expr> {
        match self.primary() {
            Ok(parsed) if self.is(".") || self.is("[") || self.is("{") => self.members(parsed),
            parsed => parsed,
        }
    }

    fn members(&mut self, primary: Expr) -> Parsed<Expr> {
        let (depth, mut parsed) = (self.depth, primary);
        loop {
            let position = self.position();
            if self.skip(".") {
                self.deeper()?;
                parsed = self.selection(position, parsed)?;
            } else if self.skip("[") {
                self.deeper()?;
                parsed = self.index(position, parsed)?;
            } else if self.is("{") && qualified_name(&parsed).is_some() {
                parsed = self.message(position, &parsed)?;
            } else {
                break;
            }
        }
        self.depth = depth;
        Ok(parsed)
    }

    fn index(&mut self, position: usize, operand: Expr) -> Parsed<Expr> {
        let function = if self.skip("?") { "_[?_]" } else { "_[_]" };
        let index = self.expr()?;
        self.expect("]")?;
        self.call(position, function, vec![operand, index])
    }

    fn selection(&mut self, position: usize, operand: Expr) -> Parsed<Expr> {
        let optional = self.skip("?");
        let name_at = self.position();
        let name = self.name()?;
        if optional {
            let field = self.node(name_at, Kind::Literal(Literal::String(name)))?;
            return self.call(position, "_?._", vec![operand, field]);
        }
        let open = self.position();
        if !self.skip("(") {
            let kind = Kind::Select {
                operand: Box::new(operand),
                field: name,
                test: false,
            };
            return self.node(position, kind);
        }
        let args = self.list_of(")", Self::expr)?;
        macros::member_call(self, open, name, operand, args)
    }

    /// An identifier; words of the language are not among them, reserved words of others are.
    fn name(&mut self) -> Parsed<String> {
        match self.peek() {
            Token::Ident(word) if !matches!(word.as_str(), "true" | "false" | "null" | "in") => {
                let word = word.clone();
                self.at += 1;
                Ok(word)
            }
            _ => Err(self.unexpected("mismatched", "IDENTIFIER")),
        }
    }

    /// What stands between here and a closing symbol, which is taken too.
    fn list_of<T>(&mut self, close: &str, one: fn(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut all = Vec::new();
        loop {
            // A comma may stand at the end of a list, not of arguments.
            if self.is(close) && (all.is_empty() || close != ")") {
                break;
            }
            all.push(one(self)?);
            if !self.skip(",") {
                break;
            }
        }
        self.expect(close)?;
        Ok(all)
    }

    fn message(&mut self, position: usize, name: &Expr) -> Parsed<Expr> {
        self.at += 1;
        let fields = self.list_of("}", |parser| {
            let optional = parser.skip("?");
            let name = parser.name()?;
            let position = parser.position();
            parser.expect(":")?;
            Ok(Field {
                id: parser.new_id(position)?,
                name,
                value: parser.expr()?,
                optional,
            })
        })?;
        let name = qualified_name(name).unwrap_or_default();
        self.node(position, Kind::Struct { name, fields })
    }

    fn primary(&mut self) -> Parsed<Expr> {
        let position = self.position();
        match self.peek() {
            Token::Symbol("(") => self.nested(),
            Token::Symbol("[") => self.list(position),
            Token::Symbol("{") => self.map(position),
            Token::Symbol(".") => {
                self.at += 1;
                self.named(position, true)
            }
            Token::Ident(_) => self.named(position, false),
            _ => self.literal(position),
        }
    }

    fn nested(&mut self) -> Parsed<Expr> {
        self.at += 1;
        let inner = self.expr()?;
        self.expect(")")?;
        Ok(inner)
    }

    fn list(&mut self, position: usize) -> Parsed<Expr> {
        self.at += 1;
        let elements = self.list_of("]", |parser| {
            let optional = parser.skip("?");
            Ok(Element {
                value: parser.expr()?,
                optional,
            })
        })?;
        self.node(position, Kind::List(elements))
    }

    fn map(&mut self, position: usize) -> Parsed<Expr> {
        self.at += 1;
        let entries = self.list_of("}", |parser| {
            let optional = parser.skip("?");
            let key = parser.expr()?;
            parser.expect(":")?;
            Ok(Entry {
                key,
                value: parser.expr()?,
                optional,
            })
        })?;
        self.node(position, Kind::Map(entries))
    }

    /// A word, or a call of the function that it names; after a dot where it is `absolute`.
    fn named(&mut self, position: usize, absolute: bool) -> Parsed<Expr> {
        let is_call = self
            .tokens
            .get(self.at + 1)
            .is_some_and(|next| next.token == Token::Symbol("("));
        if is_call && let Some(function) = self.function(absolute)? {
            return self.global(function);
        }
        self.word(position, absolute)
    }

    fn global(&mut self, function: String) -> Parsed<Expr> {
        let open = self.position();
        self.at += 1;
        let args = self.list_of(")", Self::expr)?;
        macros::global_call(self, open, function, args)
    }

    /// The name of a function; nothing for a word that is a literal.
    fn function(&mut self, absolute: bool) -> Parsed<Option<String>> {
        let start = self.position();
        let Token::Ident(word) = self.peek().clone() else {
            return Err(self.unexpected("mismatched", "IDENTIFIER"));
        };
        match word.as_str() {
            "true" | "false" | "null" if !absolute => return Ok(None),
            "in" => return Err(self.unexpected("mismatched", EXPRESSION)),
            _ => {}
        }
        if RESERVED.contains(&word.as_str()) {
            return Err(self.error(start, format!("reserved identifier: {word}")));
        }
        self.at += 1;
        Ok(Some(word))
    }

    fn word(&mut self, position: usize, absolute: bool) -> Parsed<Expr> {
        let start = self.position();
        let literal = match self.peek() {
            Token::Ident(word) if !absolute => match word.as_str() {
                "true" => Some(Literal::Bool(true)),
                "false" => Some(Literal::Bool(false)),
                "null" => Some(Literal::Null),
                _ => None,
            },
            _ => None,
        };
        if let Some(literal) = literal {
            self.at += 1;
            return self.node(position, Kind::Literal(literal));
        }
        let name = self.function(true)?.unwrap_or_default();
        self.node(start, Kind::Ident(name))
    }

    fn literal(&mut self, position: usize) -> Parsed<Expr> {
        let sign = if self.skip("-") { "-" } else { "" };
        let token = self.peek().clone();
        let wrong = |what: &str| self.error(position, format!("invalid {what} literal"));
        let literal = match &token {
            Token::Int(text) => {
                let (digits, radix) = radix(text);
                let number = i64::from_str_radix(&format!("{sign}{digits}"), radix);
                Literal::Int(number.map_err(|_| wrong("int"))?)
            }
            Token::Uint(text) if sign.is_empty() => {
                let (digits, radix) = radix(text.trim_end_matches(['u', 'U']));
                Literal::Uint(u64::from_str_radix(digits, radix).map_err(|_| wrong("uint"))?)
            }
            Token::Double(text) => {
                let number: f64 = format!("{sign}{text}")
                    .parse()
                    .map_err(|_| wrong("double"))?;
                if number.is_infinite() {
                    return Err(wrong("double"));
                }
                Literal::Double(number)
            }
            Token::String(text) if sign.is_empty() => {
                let bytes = unescape(text, false).map_err(|fault| self.fault(position, fault))?;
                Literal::String(String::from_utf8_lossy(&bytes).into_owned())
            }
            Token::Bytes(text) if sign.is_empty() => {
                let text = text.get(1..).unwrap_or_default();
                Literal::Bytes(unescape(text, true).map_err(|fault| self.fault(position, fault))?)
            }
            _ => return Err(self.unexpected("mismatched", EXPRESSION)),
        };
        self.at += 1;
        self.node(position, Kind::Literal(literal))
    }
}

fn radix(text: &str) -> (&str, u32) {
    text.strip_prefix("0x").map_or((text, 10), |hex| (hex, 16))
}

/// A balanced tree over terms in their order; `ops` has one less.
fn balanced(function: &str, ops: &[Id], terms: &mut std::vec::IntoIter<Expr>) -> Expr {
    if ops.is_empty() {
        return terms.next().unwrap_or(Expr {
            id: 0,
            kind: Kind::Literal(Literal::Null),
        });
    }
    let middle = ops.len() / 2;
    let left = balanced(function, &ops[..middle], terms);
    let right = balanced(function, &ops[middle + 1..], terms);
    Expr {
        id: ops[middle],
        kind: Kind::Call {
            function: function.to_owned(),
            target: None,
            args: vec![left, right],
        },
    }
}
