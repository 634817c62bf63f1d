//! The tree of a condition. Macros that were resolved are shared, not copied.

use std::sync::Arc;

use super::{Modifier, Operator};

/// A place in a condition; lines and columns count from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Pos {
    /// Offset in bytes.
    pub offset: usize,
    /// Line.
    pub line: usize,
    /// Column.
    pub column: usize,
}

impl Pos {
    /// The beginning.
    pub(crate) const START: Self = Self {
        offset: 0,
        line: 1,
        column: 1,
    };
}

/// A condition.
#[derive(Clone, Debug)]
pub enum Expr {
    /// All must hold.
    And(Vec<Arc<Expr>>, Pos),
    /// One must hold.
    Or(Vec<Arc<Expr>>, Pos),
    /// It must not hold.
    Not(Arc<Expr>, Pos),
    /// A macro, by name.
    Macro(String, Pos),
    /// A field has a value.
    Exists(Term, Pos),
    /// A field compares to something.
    Check {
        /// What is compared.
        left: Term,
        /// How.
        operator: Operator,
        /// What a list means, for operators of text.
        modifier: Option<Modifier>,
        /// With what.
        right: Right,
        /// Where it begins.
        pos: Pos,
    },
}

/// What yields values.
#[derive(Clone, Debug)]
pub enum Term {
    /// A field.
    Field {
        /// Its name.
        name: String,
        /// Its argument.
        argument: Option<String>,
        /// Where it begins.
        pos: Pos,
    },
    /// A transformer and what it works on.
    Transformer {
        /// Its name.
        name: &'static str,
        /// What it works on.
        values: Vec<Term>,
        /// Its argument.
        argument: Option<String>,
        /// Where it begins.
        pos: Pos,
    },
    /// A constant, in a transformer.
    Value(Vec<u8>, Pos),
    /// A list, in a transformer.
    List(Vec<Term>, Pos),
}

/// The right side of a comparison.
#[derive(Clone, Debug)]
pub enum Right {
    /// A constant, or a name where a list was expected.
    Value(Vec<u8>, Pos),
    /// Constants.
    List(Vec<Vec<u8>>, Pos),
    /// Another field.
    Term(Term),
}

impl Expr {
    /// Where it begins.
    pub fn pos(&self) -> Pos {
        match self {
            Self::And(_, pos)
            | Self::Or(_, pos)
            | Self::Not(_, pos)
            | Self::Macro(_, pos)
            | Self::Exists(_, pos)
            | Self::Check { pos, .. } => *pos,
        }
    }
}

impl Term {
    /// Where it begins.
    pub fn pos(&self) -> Pos {
        match self {
            Self::Field { pos, .. }
            | Self::Transformer { pos, .. }
            | Self::Value(_, pos)
            | Self::List(_, pos) => *pos,
        }
    }
}

impl Right {
    /// Where it begins.
    pub fn pos(&self) -> Pos {
        match self {
            Self::Value(_, pos) | Self::List(_, pos) => *pos,
            Self::Term(term) => term.pos(),
        }
    }
}
