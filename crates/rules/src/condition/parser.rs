//! Recursive descent over a condition.
//!
//! Invariant: bounded in depth; an error leaves the position at the token that was not understood.

use std::sync::Arc;

use thiserror::Error;

use super::lexer::{Lexer, TRANSFORMERS};
use super::{Expr, MAX_DEPTH, Modifier, Operator, Pos, Right, Term};

/// Why a condition is not understood.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[allow(missing_docs, reason = "their messages say it")]
pub enum ParseError {
    #[error("filter input string is empty")]
    Empty,
    #[error("exceeded max depth limit of {MAX_DEPTH}")]
    TooDeep,
    #[error("unexpected token after '{0}', expecting 'or', 'and'")]
    Trailing(String),
    #[error("unexpected token after '{0}")]
    NoTerm(String),
    #[error("expected blank or '(' after '{0}'")]
    BlankAfter(&'static str),
    #[error("expected a '(' token, a field check, or an identifier")]
    NoCheck,
    #[error("expected a {0} token")]
    Missing(&'static str),
    #[error("expected a ')' token closing the transformer")]
    TransformerOpen,
    #[error("expected ')'")]
    ListOpen,
    #[error("expected a valid field argument: a quoted string or a bare string")]
    NoArgument,
    #[error(
        "expected field transformer argument: field, transformer, quoted string, number, or transformer list"
    )]
    NoTransformerArgument,
    #[error("expected transformer list argument: field, transformer, quoted string, or number")]
    NoListArgument,
    #[error("expected a valid check operator: one of {}", quoted(Operator::supported().map(Operator::text)))]
    NoOperator,
    #[error(
        "expected a number value or a field with a valid transformer: {}",
        transformers()
    )]
    NoNumber,
    #[error(
        "expected a string value or a field with a valid transformer: {}",
        transformers()
    )]
    NoText,
    #[error("expected a string value")]
    NoListItem,
    #[error("expected a list or an identifier")]
    NoList,
    #[error(
        "expected a list, an identifier, or a field with a valid transformer: {}",
        transformers()
    )]
    NoListOrTerm,
    #[error("expected a field within 'val' transformer")]
    NoFieldInVal,
    #[error("invalid {0}")]
    QuoteEscape(&'static str),
    #[error("truncated hex char escape sequence")]
    TruncatedHex,
    #[error("invalid hex char escape sequence: {0}")]
    InvalidHex(String),
    #[error("unsupported string escape sequence: \\{0}")]
    UnsupportedEscape(char),
}

fn quoted<'a>(words: impl Iterator<Item = &'a str>) -> String {
    let words: Vec<_> = words.map(|word| format!("'{word}'")).collect();
    words.join(", ")
}

fn transformers() -> String {
    quoted(["val"].into_iter().chain(TRANSFORMERS))
}

type Result<T, E = ParseError> = std::result::Result<T, E>;

/// The tree of a condition, or what is wrong and where.
pub fn parse(text: &str) -> Result<Arc<Expr>, (ParseError, Pos)> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        depth: 0,
    };
    let result = if text.is_empty() {
        Err(ParseError::Empty)
    } else {
        parser.whole()
    };
    result.map_err(|error| (error, parser.lexer.pos()))
}

/// The field or transformer at the beginning, and the length of its text.
pub fn parse_term(text: &str) -> Result<(Term, usize)> {
    let mut parser = Parser {
        lexer: Lexer::new(text),
        depth: 0,
    };
    let term = parser.field_or_transformer()?;
    Ok((term, parser.lexer.pos().offset))
}

struct Parser<'a> {
    lexer: Lexer<'a>,
    depth: usize,
}

impl Parser<'_> {
    fn nested<T>(&mut self, run: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        self.depth += 1;
        let result = if self.depth >= MAX_DEPTH {
            Err(ParseError::TooDeep)
        } else {
            run(self)
        };
        self.depth -= 1;
        result
    }

    fn whole(&mut self) -> Result<Arc<Expr>> {
        let result = self.or()?;
        if !self.lexer.at_end() {
            return Err(ParseError::Trailing(self.lexer.last.clone()));
        }
        Ok(result)
    }

    fn or(&mut self) -> Result<Arc<Expr>> {
        self.chain("or", Self::and, Expr::Or)
    }

    fn and(&mut self) -> Result<Arc<Expr>> {
        self.chain("and", Self::not, Expr::And)
    }

    fn chain(
        &mut self,
        word: &'static str,
        next: fn(&mut Self) -> Result<Arc<Expr>>,
        make: fn(Vec<Arc<Expr>>, Pos) -> Expr,
    ) -> Result<Arc<Expr>> {
        self.nested(|this| {
            let pos = this.lexer.pos();
            this.lexer.blanks();
            let first = next(this)?;
            let mut children = vec![first];
            this.lexer.blanks();
            while this.lexer.exactly(word) {
                children.push(if this.lexer.blanks() {
                    next(this)?
                } else if this.lexer.exactly("(") {
                    this.embedded()?
                } else {
                    return Err(ParseError::BlankAfter(word));
                });
                this.lexer.blanks();
            }
            Ok(match children.len() {
                1 => children.swap_remove(0),
                _ => Arc::new(make(children, pos)),
            })
        })
    }

    fn not(&mut self) -> Result<Arc<Expr>> {
        self.nested(|this| {
            let pos = this.lexer.pos();
            let mut negated = false;
            this.lexer.blanks();
            while this.lexer.not_and_blanks() {
                negated = !negated;
            }
            let child = if this.lexer.exactly("not(") {
                negated = !negated;
                this.embedded()?
            } else {
                this.check()?
            };
            Ok(if negated {
                Arc::new(Expr::Not(child, pos))
            } else {
                child
            })
        })
    }

    /// What follows an opening parenthesis.
    fn embedded(&mut self) -> Result<Arc<Expr>> {
        self.nested(|this| {
            this.lexer.blanks();
            let child = this.or()?;
            this.lexer.blanks();
            this.expect(")", ParseError::Missing("')'"))?;
            Ok(child)
        })
    }

    fn expect(&mut self, token: &str, error: ParseError) -> Result<()> {
        if self.lexer.exactly(token) {
            Ok(())
        } else {
            Err(error)
        }
    }

    fn check(&mut self) -> Result<Arc<Expr>> {
        self.nested(|this| {
            let pos = this.lexer.pos();
            this.lexer.blanks();
            if this.lexer.exactly("(") {
                return this.embedded();
            }
            if let Some(left) = this.left(pos)? {
                return this.comparison(left, pos).map(Arc::new);
            }
            if this.lexer.identifier() {
                return Ok(Arc::new(Expr::Macro(this.lexer.last.clone(), pos)));
            }
            Err(ParseError::NoCheck)
        })
    }

    fn left(&mut self, pos: Pos) -> Result<Option<Term>> {
        if self.lexer.field_name() {
            return self.field(pos).map(Some);
        }
        match self.lexer.transformer(&TRANSFORMERS) {
            Some(name) => {
                self.lexer.blanks();
                self.transformer(name, pos).map(Some)
            }
            None => Ok(None),
        }
    }

    fn field_or_transformer(&mut self) -> Result<Term> {
        let pos = self.lexer.pos();
        self.left(pos)?
            .ok_or_else(|| ParseError::NoTerm(self.lexer.last.clone()))
    }

    /// What follows the name of a field.
    fn field(&mut self, pos: Pos) -> Result<Term> {
        let name = self.lexer.last.clone();
        let argument = self.nested(Self::argument)?;
        Ok(Term::Field {
            name,
            argument,
            pos,
        })
    }

    fn argument(&mut self) -> Result<Option<String>> {
        if !self.lexer.exactly("[") {
            return Ok(None);
        }
        let argument = match self.lexer.quoted()? {
            Some(text) => String::from_utf8_lossy(&text).into_owned(),
            None if self.lexer.bare_argument() => self.lexer.last.clone(),
            None => return Err(ParseError::NoArgument),
        };
        self.expect("]", ParseError::Missing("']'"))?;
        Ok(Some(argument))
    }

    /// What follows a transformer's opening parenthesis.
    fn transformer(&mut self, name: &'static str, pos: Pos) -> Result<Term> {
        self.nested(|this| {
            let mut values = Vec::new();
            loop {
                this.lexer.blanks();
                let pos = this.lexer.pos();
                values.push(this.transformer_argument(pos)?);
                this.lexer.blanks();
                if !this.lexer.exactly(",") {
                    break;
                }
            }
            this.expect(")", ParseError::TransformerOpen)?;
            let argument = this.argument()?;
            Ok(Term::Transformer {
                name,
                values,
                argument,
                pos,
            })
        })
    }

    fn transformer_argument(&mut self, pos: Pos) -> Result<Term> {
        self.nested(|this| {
            if let Some(value) = this.transformer_constant(pos)? {
                return Ok(value);
            }
            if this.lexer.exactly("(") {
                return this.transformer_list(pos);
            }
            this.left(pos)?.ok_or(ParseError::NoTransformerArgument)
        })
    }

    fn transformer_constant(&mut self, pos: Pos) -> Result<Option<Term>> {
        if self.lexer.number() {
            return Ok(Some(Term::Value(self.lexer.last.clone().into(), pos)));
        }
        Ok(self.lexer.quoted()?.map(|value| Term::Value(value, pos)))
    }

    /// What follows a list's opening parenthesis.
    fn transformer_list(&mut self, pos: Pos) -> Result<Term> {
        let mut items = Vec::new();
        self.lexer.blanks();
        if self.lexer.exactly(")") {
            return Ok(Term::List(items, pos));
        }
        loop {
            let item = match self.left(pos)? {
                Some(item) => item,
                None => self
                    .transformer_constant(pos)?
                    .ok_or(ParseError::NoListArgument)?,
            };
            items.push(item);
            self.lexer.blanks();
            if !self.lexer.exactly(",") {
                break;
            }
            self.lexer.blanks();
        }
        self.expect(")", ParseError::ListOpen)?;
        Ok(Term::List(items, pos))
    }

    fn comparison(&mut self, left: Term, pos: Pos) -> Result<Expr> {
        self.lexer.blanks();
        if self.lexer.exactly(Operator::Exists.text()) {
            return Ok(Expr::Exists(left, pos));
        }
        let mut modifier = None;
        let (operator, right) = if let Some(operator) = self.lexer.operator(&Operator::NUMERIC) {
            (operator, self.nested(Self::number)?)
        } else if let Some(operator) = self.lexer.operator(&Operator::TEXT) {
            // The blank behind an operator that is a word belongs to it.
            let blank = operator.is_word() || self.lexer.blanks();
            let mark = self.lexer.mark();
            if blank {
                modifier = self.modifier();
            }
            let right = if modifier.is_some() {
                self.nested(Self::list_or_name)?
            } else {
                self.lexer.reset(mark);
                self.nested(Self::text)?
            };
            (operator, right)
        } else if let Some(operator) = self.lexer.operator(&Operator::LIST) {
            (operator, self.nested(Self::list_or_term)?)
        } else {
            return Err(ParseError::NoOperator);
        };
        Ok(Expr::Check {
            left,
            operator,
            modifier,
            right,
            pos,
        })
    }

    /// A modifier that is one: what follows is a list, or a name that may be one.
    fn modifier(&mut self) -> Option<Modifier> {
        let modifier = Modifier::ALL
            .into_iter()
            .find(|modifier| self.lexer.word(modifier.text()))?;
        let list = self.lexer.follows(b'(') || self.lexer.identifier_follows();
        (list && !self.lexer.keyword_follows()).then_some(modifier)
    }

    fn number(&mut self) -> Result<Right> {
        self.lexer.blanks();
        let pos = self.lexer.pos();
        if let Some(term) = self.right_term()? {
            return Ok(Right::Term(term));
        }
        if self.lexer.number() {
            return Ok(Right::Value(self.lexer.last.clone().into(), pos));
        }
        Err(ParseError::NoNumber)
    }

    fn text(&mut self) -> Result<Right> {
        self.lexer.blanks();
        let pos = self.lexer.pos();
        if let Some(term) = self.right_term()? {
            return Ok(Right::Term(term));
        }
        match self.constant()? {
            Some(value) => Ok(Right::Value(value, pos)),
            None => Err(ParseError::NoText),
        }
    }

    fn constant(&mut self) -> Result<Option<Vec<u8>>> {
        if let Some(value) = self.lexer.quoted()? {
            return Ok(Some(value));
        }
        Ok(self
            .lexer
            .bare_text()
            .then(|| self.lexer.last.clone().into()))
    }

    fn list_or_name(&mut self) -> Result<Right> {
        self.lexer.blanks();
        let pos = self.lexer.pos();
        if let Some(list) = self.list(pos)? {
            return Ok(list);
        }
        if self.lexer.identifier() {
            return Ok(Right::Value(self.lexer.last.clone().into(), pos));
        }
        Err(ParseError::NoList)
    }

    fn list_or_term(&mut self) -> Result<Right> {
        self.lexer.blanks();
        let pos = self.lexer.pos();
        if let Some(list) = self.list(pos)? {
            return Ok(list);
        }
        if let Some(term) = self.right_term()? {
            return Ok(Right::Term(term));
        }
        if self.lexer.identifier() {
            return Ok(Right::Value(self.lexer.last.clone().into(), pos));
        }
        Err(ParseError::NoListOrTerm)
    }

    fn list(&mut self, pos: Pos) -> Result<Option<Right>> {
        if !self.lexer.exactly("(") {
            return Ok(None);
        }
        self.lexer.blanks();
        let mut values = Vec::new();
        // Whatever is wrong with the first item, it is the parenthesis that is missed.
        if let Ok(Some(first)) = self.constant() {
            values.push(first);
            self.lexer.blanks();
            while self.lexer.exactly(",") {
                self.lexer.blanks();
                values.push(self.constant()?.ok_or(ParseError::NoListItem)?);
                self.lexer.blanks();
            }
        }
        self.expect(")", ParseError::Missing("')'"))?;
        Ok(Some(Right::List(values, pos)))
    }

    /// A field in `val(…)`, or a transformer.
    fn right_term(&mut self) -> Result<Option<Term>> {
        let pos = self.lexer.pos();
        if self.lexer.transformer(&["val"]).is_some() {
            self.lexer.blanks();
            let field_pos = self.lexer.pos();
            if !self.lexer.field_name() {
                return Err(ParseError::NoFieldInVal);
            }
            let field = self.field(field_pos)?;
            self.lexer.blanks();
            self.expect(")", ParseError::TransformerOpen)?;
            let argument = self.argument()?;
            return Ok(Some(Term::Transformer {
                name: "val",
                values: vec![field],
                argument,
                pos,
            }));
        }
        match self.lexer.transformer(&TRANSFORMERS) {
            Some(name) => {
                self.lexer.blanks();
                self.transformer(name, pos).map(Some)
            }
            None => Ok(None),
        }
    }
}
