//! Conditions: their grammar, their trees, and the trees as text.
//!
//! Invariant: what Falco's libraries accept is accepted, with the same meaning and the same positions.

mod ast;
mod escape;
mod lexer;
mod operator;
mod parser;
mod print;

pub use ast::{Expr, Pos, Right, Term};
pub use operator::{Modifier, Operator};
pub use parser::{ParseError, parse, parse_term};
pub use print::{print, print_term};

/// How deep an expression may be nested, in calls of the parser.
pub const MAX_DEPTH: usize = 1000;
